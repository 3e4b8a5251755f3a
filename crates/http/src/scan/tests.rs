use super::*;
use crate::RequestHead;
use inbound::verdict;
pub(crate) use message::message;
use proptest::prelude::*;

mod inbound;
mod message;

fn scan(bytes: &[u8], limits: &Limits) -> Result<Scan, Offence> {
    let whole = HeadScanner::new().scan(bytes, limits);
    let mut scanner = HeadScanner::new();
    let mut last = Ok(Scan::Partial);
    for end in 0..=bytes.len() {
        last = scanner.scan(&bytes[..end], limits);
        if last != Ok(Scan::Partial) {
            break;
        }
    }
    assert_eq!(whole, last, "byte by byte: {:?}", String::from_utf8_lossy(bytes));
    whole
}

#[test]
fn words_and_bytes_agree_on_the_first_delimiter_at_every_offset() {
    for first in 0..=255u8 {
        for position in 0..20 {
            let mut bytes = [b'a'; 24];
            bytes[position] = first;
            for behind in [b'a', 1, b'\n' + 1, b'\r' + 1, 0x80, 0xff, b'\r', 0] {
                bytes[position + 1] = behind;
                let expected = bytes.iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0));
                assert_eq!(delimiter(&bytes), expected, "{first:#x}, {behind:#x} at {position}");
            }
        }
    }
    assert_eq!(delimiter(b""), None);
}

#[test]
fn a_head_ends_with_its_empty_line_and_empty_lines_before_it_are_skipped() {
    let limits = Limits::default();
    let head = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    assert_eq!(scan(head, &limits), Ok(Scan::Complete { skip: 0, len: head.len() }));
    let padded = [b"\r\n\r\n".as_slice(), head, b"GET /next"].concat();
    assert_eq!(scan(&padded, &limits), Ok(Scan::Complete { skip: 4, len: head.len() }));
    assert_eq!(scan(&head[..head.len() - 1], &limits), Ok(Scan::Partial));
    assert_eq!(scan(b"", &limits), Ok(Scan::Partial));
    assert_eq!(scan(b"\r\n\r", &limits), Ok(Scan::Partial));
}

#[test]
fn the_first_offending_byte_decides() {
    let limits = Limits::default();
    for (bytes, offence) in [
        (b"GET / HTTP/1.1\n".as_slice(), Offence::BareLf),
        (b"GET / HTTP/1.1\r\nA: b\nB: c\rd", Offence::BareLf),
        (b"GET / HTTP/1.1\r\nA: b\rB: c\n", Offence::BareCr),
        (b"GET / HTTP/1.1\r\r\n", Offence::BareCr),
        (b"\rGET", Offence::BareCr),
        (b"\n", Offence::BareLf),
        (b"\x16\x03\x01\x00\xa5", Offence::Nul),
        (b"GET / HTTP/1.1\r\n\r\0", Offence::BareCr),
    ] {
        assert_eq!(scan(bytes, &limits), Err(offence), "{:?}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_limit_is_broken_by_the_byte_beyond_it_and_by_no_other() {
    let head = b"GET / HTTP/1.1\r\nHost: abc\r\nB: c\r\n\r\n";
    let exact = Limits {
        request_line: 16,
        header_line: 11,
        head: head.len(),
        headers: 2,
        ..Limits::default()
    };
    assert_eq!(scan(head, &exact), Ok(Scan::Complete { skip: 0, len: head.len() }));
    assert_eq!(
        scan(&[head.as_slice(), b"next"].concat(), &exact),
        Ok(Scan::Complete { skip: 0, len: head.len() })
    );
    for (limits, offence, at) in [
        (Limits { request_line: 15, ..exact.clone() }, Offence::RequestLineTooLong, 16),
        (Limits { header_line: 10, ..exact.clone() }, Offence::HeaderLineTooLong, 27),
        (Limits { head: head.len() - 1, ..exact.clone() }, Offence::HeadTooLarge, head.len()),
        (Limits { headers: 1, ..exact.clone() }, Offence::TooManyHeaders, 28),
        (Limits { headers: 0, ..exact.clone() }, Offence::TooManyHeaders, 17),
        (Limits { head: 0, ..exact.clone() }, Offence::HeadTooLarge, 1),
    ] {
        assert_eq!(scan(&head[..at - 1], &limits), Ok(Scan::Partial), "{offence}");
        assert_eq!(scan(&head[..at], &limits), Err(offence));
        assert_eq!(scan(head, &limits), Err(offence));
    }
}

#[test]
fn empty_lines_before_a_head_are_bounded_by_the_limit_of_the_head() {
    let limits = Limits { head: 64, ..Limits::default() };
    assert_eq!(scan(&b"\r\n".repeat(33), &limits), Err(Offence::HeadTooLarge));
}

#[test]
fn a_scanner_knows_whether_a_message_has_begun() {
    let limits = Limits::default();
    let mut scanner = HeadScanner::new();
    assert_eq!(scanner.scan(b"\r\n\r", &limits), Ok(Scan::Partial));
    assert!(!scanner.has_started());
    assert_eq!(scanner.scan(b"\r\n\r\nG", &limits), Ok(Scan::Partial));
    assert!(scanner.has_started());
    scanner.reset();
    assert!(!scanner.has_started());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_verdict_depends_on_how_the_bytes_were_split(
        bytes in message(),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
        tight in any::<bool>(),
        line in 8usize..100,
        head in 20usize..300,
        headers in 0usize..7,
    ) {
        let limits = if tight {
            Limits {
                request_line: line, header_line: line / 2, head, headers, chunk_line: line / 4, trailer: line / 3,
                trailers: headers / 2, body: headers as u64 * 8, chunk_overhead: line / 8, ..Limits::default()
            }
        } else {
            Limits::default()
        };
        let whole = verdict(&bytes, &[], &limits);
        prop_assert_eq!(&verdict(&bytes, &cuts, &limits), &whole);
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(&verdict(&bytes, &every, &limits), &whole);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let limits = Limits::default();
        let every: Vec<usize> = (0..bytes.len()).collect();
        prop_assert_eq!(verdict(&bytes, &[], &limits), verdict(&bytes, &every, &limits));
        let _ = RequestHead::new().parse(&bytes, &limits);
    }
}
