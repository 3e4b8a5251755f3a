use super::*;
use crate::response::Kind as ResponseKind;
use crate::{FieldRules, Limits};

fn stamp(len: u64) -> Stamp {
    Stamp {
        kind: Kind::Regular,
        len,
        inode: (1, 2),
        modified: (1_000_000_000, 5),
        changed: (1_000_000_000, 5),
        links: 1,
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
    let metadata = FileMetadata::new().content_type("text/plain");
    let by_memory = FileResponse::from_memory(content, &stamp, &metadata);
    let by_file = FileResponse::from_file(Arc::new(file), &stamp, &metadata);
    let head = request(fields);
    let [one, other] = [&by_memory, &by_file].map(|response| describe(response.respond(&head)));
    assert_eq!(one, other, "{fields}");
    one
}

/// The content as a reader of the body gets it; the file's is `0123456789`.
fn content_of(body: Body) -> Option<Vec<u8>> {
    let segments = match body {
        Body::Segment(segment) => vec![segment],
        Body::Segments(segments) => segments,
        _ => return None,
    };
    let mut content = Vec::new();
    for segment in segments {
        match segment {
            Segment::Memory(bytes) | Segment::Lent(bytes) => content.extend_from_slice(&bytes),
            Segment::File(_) | Segment::Region(_) | Segment::Piped(_) => {
                // The range is the library's own: its length and its place
                // show in what a socket makes of it.
                let text = format!("{segment:?}");
                let range = text.split("range: ").nth(1).unwrap().split(',').next().unwrap();
                let (start, end) = range.split_once("..").unwrap();
                content.extend_from_slice(
                    &b"0123456789"[start.parse().unwrap()..end.parse().unwrap()],
                );
            }
        }
    }
    Some(content)
}

fn describe(response: Response) -> (u16, Option<String>, Option<Vec<u8>>) {
    match response.kind {
        ResponseKind::Prepared(prepared, content) => {
            let content = match content {
                Some(segment) => content_of(Body::Segment(segment)),
                None => Some(prepared.parts().1.to_vec()),
            };
            (prepared.status(), None, content)
        }
        ResponseKind::Built { status, fields, body } => {
            let text = String::from_utf8(fields.as_bytes().to_vec()).unwrap();
            let line = |name: &str| {
                text.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned)
            };
            let mut content = content_of(body).filter(|_| status < 300);
            if let Some(boundary) = line("Content-Type: multipart/byteranges; boundary=") {
                // Random, and so another in each answer.
                let text = String::from_utf8(content.unwrap()).unwrap();
                content = Some(text.replace(&boundary, "BOUNDARY").into_bytes());
            }
            (status, line("Content-Range: "), content)
        }
        ResponseKind::Upgrade { .. } => panic!("a file gives no connection away"),
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
    let metadata = FileMetadata::new().content_type("a\r\nb: c");
    let response = FileResponse::from_memory(b"x", &stamp(1), &metadata);
    assert!(!response.full.as_bytes().starts_with(b"Content-Type"));
    assert_eq!(response.content_type, None, "nor in a part of several");
}

#[test]
fn several_ranges_come_in_the_order_that_was_asked_for_each_with_its_place() {
    let (status, content_range, content) = check("Range: bytes=7-8, 0-1,-1\r\n");
    let expected = "--BOUNDARY\r\nContent-Type: text/plain\r\nContent-Range: bytes 7-8/10\r\n\r\n78\
        \r\n--BOUNDARY\r\nContent-Type: text/plain\r\nContent-Range: bytes 0-1/10\r\n\r\n01\
        \r\n--BOUNDARY\r\nContent-Type: text/plain\r\nContent-Range: bytes 9-9/10\r\n\r\n9\
        \r\n--BOUNDARY--\r\n";
    assert_eq!((status, content_range), (206, None));
    assert_eq!(String::from_utf8(content.unwrap()).unwrap(), expected);
    // One that cannot be satisfied leaves the others.
    assert_eq!(check("Range: bytes=20-, 3-4\r\n").1.as_deref(), Some("bytes 3-4/10"));
    // More bytes than the whole: the whole.
    assert_eq!(check("Range: bytes=0-8,1-9\r\n").0, 200);
    assert_eq!(check("Range: bytes=1-2,4-5\r\nIf-Range: \"other\"\r\n").0, 200);
}

#[test]
fn what_is_said_of_a_file_is_said_in_200_206_and_304() {
    let metadata = FileMetadata::new()
        .content_type("text/css")
        .coding(crate::Coding::Brotli)
        .varies_by_coding()
        .cache_control("max-age=60")
        .unwrap();
    let response = FileResponse::from_memory(b"0123456789", &stamp(10), &metadata);
    let fields = |asked: &str| match response.respond(&request(asked)).kind {
        ResponseKind::Prepared(prepared, _) => {
            String::from_utf8(prepared.parts().0.to_vec()).unwrap()
        }
        ResponseKind::Built { fields, .. } => {
            String::from_utf8(fields.as_bytes().to_vec()).unwrap()
        }
        ResponseKind::Upgrade { .. } => panic!("a file gives no connection away"),
    };
    let whole = fields("");
    let part = fields("Range: bytes=0-0\r\n");
    let parts = fields("Range: bytes=0-0,5-5\r\n");
    let unchanged = fields(&format!("If-None-Match: {}\r\n", tag()));
    for line in ["ETag: ", "Last-Modified: ", "Cache-Control: max-age=60", "Vary: Accept-Encoding"]
    {
        for (name, fields) in
            [("200", &whole), ("206", &part), ("206s", &parts), ("304", &unchanged)]
        {
            assert!(fields.contains(line), "{name} lacks {line}: {fields}");
        }
    }
    for fields in [&whole, &part, &parts] {
        assert!(fields.contains("Content-Encoding: br"), "{fields}");
    }
    assert!(!unchanged.contains("Content-"), "{unchanged}");
    assert!(FileMetadata::new().cache_control("a\nb").is_err());
}

#[test]
fn a_page_in_place_of_another_keeps_the_status_and_the_other_fields() {
    let metadata = FileMetadata::new().content_type("text/html");
    let page = FileResponse::from_memory(b"sorry", &stamp(5), &metadata);
    let mut refused = Response::status_page(405);
    refused.add("Allow", "GET").unwrap();
    let ResponseKind::Built { status, fields, body } = page.in_place_of(refused).kind else {
        panic!("a prepared answer has another status");
    };
    assert_eq!(
        (status, fields.as_bytes()),
        (405, &b"Allow: GET\r\nContent-Type: text/html\r\n"[..])
    );
    assert_eq!(content_of(body).unwrap(), b"sorry");
}

/// The head of the answer to a GET with `fields`, by a file in memory.
fn head_by(rules: &FieldRules, fields: &str) -> String {
    let metadata = FileMetadata::new()
        .content_type("text/plain")
        .varies_by_coding()
        .cache_control("max-age=9")
        .unwrap()
        .rules(Arc::new(rules.clone()));
    let file = FileResponse::from_memory(b"0123456789", &stamp(10), &metadata);
    let mut response = file.respond(&request(fields));
    response.apply(rules);
    match response.kind {
        ResponseKind::Prepared(prepared, _) => {
            String::from_utf8(prepared.parts().0.to_vec()).unwrap()
        }
        ResponseKind::Built { fields, .. } => {
            String::from_utf8(fields.as_bytes().to_vec()).unwrap()
        }
        ResponseKind::Upgrade { .. } => panic!("a file gives no connection away"),
    }
}

#[test]
fn rules_are_in_every_answer_once() {
    let mut add = Fields::default();
    for (name, value) in [
        ("X-Site", "a"),
        ("Cache-Control", "no-store"),
        ("Content-Type", "b/c"),
        ("Vary", "Origin"),
    ] {
        add.add(name, value).unwrap();
    }
    let rules = FieldRules::new(&add, &["Accept-Ranges".to_owned()]);
    let unchanged = format!("If-None-Match: {}\r\n", tag());
    for (asked, content_type) in [
        ("", Some("b/c")),
        ("Range: bytes=1-2\r\n", Some("b/c")),
        ("Range: bytes=1-2,4-5\r\n", Some("multipart/byteranges; boundary=")),
        ("Range: bytes=99-\r\n", Some("b/c")),
        ("If-Match: \"other\"\r\n", Some("b/c")),
        (&unchanged, None),
    ] {
        let head = head_by(&rules, asked);
        let count = |line: &str| head.matches(line).count();
        assert_eq!((count("X-Site: a\r\n"), count("Vary: Origin\r\n")), (1, 1), "{asked}{head}");
        assert_eq!((count("Cache-Control: no-store"), count("Cache-Control")), (1, 1), "{head}");
        assert_eq!(count("Accept-Ranges"), 0, "{asked}{head}");
        let expected = usize::from(content_type.is_some());
        let line = format!("Content-Type: {}", content_type.unwrap_or_default());
        assert_eq!((count(&line), count("Content-Type")), (expected, expected), "{asked}{head}");
        let is_error = asked.contains("99") || asked.contains("other");
        assert_eq!(count("Vary: Accept-Encoding"), usize::from(!is_error), "{asked}{head}");
    }
}

#[test]
fn a_validator_that_is_not_sent_answers_no_condition() {
    let since = "If-Modified-Since: Sun, 09 Sep 2001 01:46:40 GMT\r\n";
    let none_match = format!("If-None-Match: {}\r\n", tag());
    let status = |removed: &str, asked: &str| {
        let rules = FieldRules::new(&Fields::default(), &[removed.to_owned()]);
        let metadata = FileMetadata::new().rules(Arc::new(rules));
        let file = FileResponse::from_memory(b"0123456789", &stamp(10), &metadata);
        file.respond(&request(asked)).status()
    };
    assert_eq!((status("etag", &none_match), status("etag", since)), (200, 304));
    let removed = "Last-Modified";
    assert_eq!((status(removed, &none_match), status(removed, since)), (304, 200));
    let rules = FieldRules::new(&Fields::default(), &["ETag".to_owned()]);
    let head = head_by(&rules, "");
    assert!(!head.contains("ETag") && head.contains("Last-Modified: "), "{head}");
}
