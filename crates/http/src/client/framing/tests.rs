use super::*;
use crate::client::limits;

fn framing(method: Method, text: &str) -> Result<ResponseFraming, ResponseOffence> {
    let mut head = ResponseHead::new();
    assert_eq!(head.parse(text.as_bytes(), &mut 0, &limits()), Ok(Some(text.len())), "{text:?}");
    ResponseFraming::of(&head, method)
}

#[test]
fn a_response_ends_in_one_way_or_is_refused_by_name() {
    use Offence::{
        BadCoding, BadLength, ChunkedNotLast, LengthAndCoding, TwoLengths, UnknownCoding,
    };
    use ResponseFraming::{Chunked, Close, None, Sized};
    use ResponseOffence::CodingInHttp10;
    let refused = |offence: Offence| Err(ResponseOffence::from(offence));
    for (fields, expected) in [
        ("", Ok(Close)),
        ("Content-Length: 0\r\n", Ok(None)),
        ("Content-Length: 5\r\n", Ok(Sized(5))),
        ("content-length:005\r\n", Ok(Sized(5))),
        ("Content-Length: 18446744073709551615\r\n", Ok(Sized(u64::MAX))),
        ("Content-Length: 18446744073709551616\r\n", refused(BadLength)),
        ("Content-Length: -1\r\n", refused(BadLength)),
        ("Content-Length: +1\r\n", refused(BadLength)),
        ("Content-Length: 1 \t\r\n", Ok(Sized(1))),
        ("Content-Length:\r\n", refused(BadLength)),
        ("Content-Length: 0x5\r\n", refused(BadLength)),
        ("Content-Length: 5, 5\r\n", refused(TwoLengths)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", refused(TwoLengths)),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", refused(TwoLengths)),
        ("Transfer-Encoding: chunked\r\n", Ok(Chunked)),
        ("transfer-encoding: Chunked \r\n", Ok(Chunked)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n", refused(LengthAndCoding)),
        ("Content-Length: 5\r\nTransfer-Encoding: identity\r\n", refused(LengthAndCoding)),
        ("Transfer-Encoding: gzip, chunked\r\n", refused(UnknownCoding)),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", refused(UnknownCoding)),
        ("Transfer-Encoding: identity\r\n", refused(ChunkedNotLast)),
        ("Transfer-Encoding: gzip\r\n", refused(ChunkedNotLast)),
        ("Transfer-Encoding: chunked, gzip\r\n", refused(ChunkedNotLast)),
        ("Transfer-Encoding: chunked, chunked\r\n", refused(ChunkedNotLast)),
        ("Transfer-Encoding: chunked;a=b\r\n", refused(BadCoding)),
        ("Transfer-Encoding:\r\n", refused(BadCoding)),
        ("Transfer-Encoding: ,chunked\r\n", refused(BadCoding)),
        ("Transfer-Encoding: \"chunked\"\r\n", refused(BadCoding)),
        ("Transfer_Encoding: chunked\r\n", Ok(Close)),
    ] {
        let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
        assert_eq!(framing(Method::Get, &text), expected, "{fields:?}");
        for (method, status) in [(Method::Head, 200), (Method::Get, 304), (Method::Get, 204)] {
            let text = format!("HTTP/1.1 {status} \r\n{fields}\r\n");
            assert_eq!(framing(method, &text), expected.map(|_| None), "{method:?} {text:?}");
        }
    }
    for (text, expected) in [
        ("HTTP/1.0 200 OK\r\n\r\n", Ok(Close)),
        ("HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", Ok(Sized(5))),
        ("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Err(CodingInHttp10)),
        ("HTTP/1.1 101 \r\nContent-Length: 5\r\n\r\n", Ok(ResponseFraming::Upgraded)),
        ("HTTP/1.1 100 \r\nContent-Length: 5\r\n\r\n", Ok(None)),
        ("HTTP/1.1 205 \r\nContent-Length: 5\r\n\r\n", Ok(Sized(5))),
    ] {
        assert_eq!(framing(Method::Post, text), expected, "{text:?}");
    }
}

#[test]
fn head_tells_a_length_that_does_not_follow() {
    let mut head = ResponseHead::new();
    let text = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(head.parse(text, &mut 0, &limits()), Ok(Some(text.len())));
    assert_eq!(ResponseFraming::of(&head, Method::Head), Ok(ResponseFraming::None));
    assert_eq!(ResponseFraming::announced(&head), Some(5));
    assert!(ResponseFraming::None.delimits() && ResponseFraming::Chunked.delimits());
    assert!(!ResponseFraming::Close.delimits() && !ResponseFraming::Upgraded.delimits());
}
