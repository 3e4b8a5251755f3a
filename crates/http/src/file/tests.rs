use super::*;
use crate::Limits;
use crate::response::Kind;
use sluicegate::file::Kind as FileKind;

fn stamp(len: u64) -> Stamp {
    Stamp {
        kind: FileKind::Regular,
        len,
        inode: (1, 2),
        modified: (1_000_000_000, 5),
        changed: (1_000_000_000, 5),
    }
}

fn request(fields: &str) -> RequestHead {
    let mut head = RequestHead::new();
    let text = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
    head.parse(text.as_bytes(), &Limits::default()).unwrap();
    head
}

/// Status, Content-Range and content of the answer, from memory and from a
/// file, which must be the same.
fn check(fields: &str) -> (u16, Option<String>, Option<Vec<u8>>) {
    use std::io::Write;
    let content = b"0123456789";
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    let stamp = stamp(10);
    let by_memory = FileResponse::from_memory(content, &stamp, Some("text/plain"));
    let by_file = FileResponse::from_file(Arc::new(file), &stamp, Some("text/plain"));
    let head = request(fields);
    let [one, other] = [&by_memory, &by_file].map(|response| describe(response.respond(&head)));
    assert_eq!(one, other, "{fields}");
    one
}

fn describe(response: Response) -> (u16, Option<String>, Option<Vec<u8>>) {
    match response.kind {
        Kind::Prepared(prepared) => (prepared.status(), None, Some(prepared.parts().1.to_vec())),
        Kind::Built { status, fields, body } => {
            let text = String::from_utf8(fields.as_bytes().to_vec()).unwrap();
            let range = text.lines().find_map(|line| line.strip_prefix("Content-Range: "));
            let content = match body {
                Body::Segment(Segment::Memory(bytes)) if status < 300 => Some(bytes.to_vec()),
                Body::Segment(Segment::File(_)) if status == 200 => Some(b"0123456789".to_vec()),
                Body::Segment(Segment::File(range)) => {
                    // The range is what Content-Range says, which is compared.
                    let from = text.split("bytes ").nth(1).unwrap();
                    let start: usize = from.split('-').next().unwrap().parse().unwrap();
                    let end = start + usize::try_from(range.len()).unwrap();
                    Some(b"0123456789"[start..end].to_vec())
                }
                _ => None,
            };
            (status, range.map(str::to_owned), content)
        }
    }
}

fn tag() -> String {
    validators(&stamp(10)).etag().unwrap().to_string()
}

#[test]
fn a_plain_request_gets_the_whole() {
    assert_eq!(check(""), (200, None, Some(b"0123456789".to_vec())));
}

#[test]
fn a_single_range_is_cut_out() {
    for (range, first, last) in
        [("0-0", 0, 0), ("3-5", 3, 5), ("7-", 7, 9), ("-2", 8, 9), ("5-999", 5, 9), ("-99", 0, 9)]
    {
        let expected = Some(b"0123456789"[first..=last].to_vec());
        let content_range = Some(format!("bytes {first}-{last}/10"));
        assert_eq!(check(&format!("Range: bytes={range}\r\n")), (206, content_range, expected));
    }
}

#[test]
fn a_range_past_the_end_is_unsatisfiable_and_tells_the_length() {
    let (status, range, _) = check("Range: bytes=10-\r\n");
    assert_eq!((status, range.as_deref()), (416, Some("bytes */10")));
}

#[test]
fn a_range_of_another_version_gets_the_whole() {
    assert_eq!(check("Range: bytes=1-2\r\nIf-Range: \"other\"\r\n").0, 200);
    assert_eq!(check(&format!("Range: bytes=1-2\r\nIf-Range: {}\r\n", tag())).0, 206);
    let date = "If-Range: Sun, 09 Sep 2001 01:46:40 GMT\r\n";
    assert_eq!(check(&format!("Range: bytes=1-2\r\n{date}")).0, 206);
}

#[test]
fn conditions_come_before_ranges() {
    let tag = tag();
    assert_eq!(check(&format!("If-None-Match: {tag}\r\nRange: bytes=1-2\r\n")).0, 304);
    assert_eq!(check("If-Match: \"other\"\r\nRange: bytes=1-2\r\n").0, 412);
    assert_eq!(check("If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n").0, 304);
    assert_eq!(check("If-Modified-Since: Sun, 09 Sep 2001 01:46:39 GMT\r\n").0, 200);
    assert_eq!(check("If-Unmodified-Since: Sun, 09 Sep 2001 01:46:39 GMT\r\n").0, 412);
}

#[test]
fn a_modification_time_in_the_future_is_not_announced() {
    let mut stamp = stamp(10);
    stamp.modified = (i64::MAX, 0);
    assert_eq!(validators(&stamp).last_modified(), None);
}

#[test]
fn a_content_type_that_would_split_the_response_is_left_out() {
    let response = FileResponse::from_memory(b"x", &stamp(1), Some("a\r\nb: c"));
    assert!(!response.full.as_bytes().starts_with(b"Content-Type"));
}
