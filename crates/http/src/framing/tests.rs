use super::*;
use crate::{HeadScanner, Limits, Scan};

/// Scanner, parser and framing in the order of a connection.
fn framing(text: &str) -> Result<RequestFraming, Offence> {
    let limits = Limits::default();
    let Scan::Complete { skip, len } = HeadScanner::new().scan(text.as_bytes(), &limits)? else {
        return Err(Offence::Truncated);
    };
    let mut head = RequestHead::new();
    head.parse(&text.as_bytes()[skip..skip + len], &limits)?;
    expects_continue(&head)?;
    RequestFraming::of(&head)
}

fn head(text: &str) -> RequestHead {
    let mut head = RequestHead::new();
    head.parse(text.as_bytes(), &Limits::default()).unwrap();
    head
}

#[test]
fn every_known_way_to_smuggle_a_request_is_refused_by_name() {
    use Offence::*;
    use RequestFraming::{Chunked, None, Sized};
    let request = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    // After a good request line and Host.
    for (fields, expected) in [
        ("", Ok(None)),
        ("Content-Length: 0\r\n", Ok(Sized(0))),
        ("Content-Length: 5\r\n", Ok(Sized(5))),
        ("Content-Length: 18446744073709551615\r\n", Ok(Sized(u64::MAX))),
        ("Content-Length: 18446744073709551616\r\n", Err(BadLength)),
        ("Content-Length: 007\r\n", Ok(Sized(7))),
        ("Content-Length:\r\n", Err(BadLength)),
        ("Content-Length: +5\r\n", Err(BadLength)),
        ("Content-Length: -5\r\n", Err(BadLength)),
        ("Content-Length: 5 5\r\n", Err(BadLength)),
        ("Content-Length: 0x5\r\n", Err(BadLength)),
        ("Content-Length: 5.0\r\n", Err(BadLength)),
        ("Content-Length: \u{665}\r\n", Err(BadLength)),
        ("Content-Length: 5, 5\r\n", Err(TwoLengths)),
        ("Content-Length: 5,\r\n", Err(TwoLengths)),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", Err(TwoLengths)),
        ("Content-Length: 5\r\ncontent-length: 6\r\n", Err(TwoLengths)),
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Err(LengthAndCoding)),
        ("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n", Err(LengthAndCoding)),
        ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", Err(LengthAndCoding)),
        ("Transfer-Encoding: chunked\r\n", Ok(Chunked)),
        ("transfer-encoding: CHUNKED\r\n", Ok(Chunked)),
        ("Transfer-Encoding:\tchunked\t\r\n", Ok(Chunked)),
        ("Transfer-Encoding: gzip, chunked\r\n", Err(UnknownCoding)),
        ("Transfer-Encoding: gzip;q=1, chunked\r\n", Err(UnknownCoding)),
        ("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n", Err(UnknownCoding)),
        ("Transfer-Encoding: identity, chunked\r\n", Err(UnknownCoding)),
        ("Transfer-Encoding: chunked, gzip\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: chunked, identity\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: chunked, chunked\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: identity\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: gzip\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: xchunked\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: chunked, x, chunked\r\n", Err(ChunkedNotLast)),
        ("Transfer-Encoding: chunked;x=y\r\n", Err(BadCoding)),
        ("Transfer-Encoding: chunked, \r\n", Err(BadCoding)),
        ("Transfer-Encoding: ,chunked\r\n", Err(BadCoding)),
        ("Transfer-Encoding:\r\n", Err(BadCoding)),
        ("Transfer-Encoding: \"chunked\"\r\n", Err(BadCoding)),
        ("Transfer-Encoding: chun ked\r\n", Err(BadCoding)),
        ("Transfer-Encoding: \u{b}chunked\r\n", Err(BadHeaderValue)),
        ("Transfer-Encoding: chunked\u{7f}\r\n", Err(BadHeaderValue)),
        ("Transfer-Encoding : chunked\r\n", Err(SpaceBeforeColon)),
        ("Transfer-Encoding\t: chunked\r\n", Err(SpaceBeforeColon)),
        ("Transfer-Encoding:\r\n chunked\r\n", Err(ObsFold)),
        ("X: y\r\n\tTransfer-Encoding: chunked\r\n", Err(ObsFold)),
        ("X: y\nTransfer-Encoding: chunked\r\n", Err(BareLf)),
        ("X: y\rTransfer-Encoding: chunked\r\n", Err(BareCr)),
        ("X: y\r\r\n", Err(BareCr)),
        ("X: y\0z\r\n", Err(Nul)),
        ("X y\r\n", Err(BadHeaderName)),
        ("X\r\n", Err(BadHeaderName)),
        (": y\r\n", Err(EmptyHeaderName)),
        ("X(: y\r\n", Err(BadHeaderName)),
        ("Tr\u{e4}nsfer: y\r\n", Err(BadHeaderName)),
        ("Host: a\r\n", Err(DoubledHost)),
        ("Expect: 100-Continue\r\nContent-Length: 5\r\n", Ok(Sized(5))),
        ("Expect: 200-ok\r\n", Err(UnsupportedExpectation)),
        ("Expect: 100-continue, x\r\n", Err(UnsupportedExpectation)),
    ] {
        assert_eq!(framing(&request(fields)), expected, "{fields:?}");
    }
    // Whole heads.
    for (text, expected) in [
        ("GET / HTTP/1.1\r\n\r\n", Err(MissingHost)),
        ("GET / HTTP/1.0\r\n\r\n", Ok(None)),
        ("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", Err(DoubledHost)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Ok(None)),
        ("GET / HTTP/1.1\r\nHost: a b\r\n\r\n", Err(BadHost)),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", Err(BadHost)),
        ("GET http://a/ HTTP/1.1\r\n\r\n", Err(MissingHost)),
        ("GET http://a/ HTTP/1.1\r\nHost: b/c\r\n\r\n", Err(BadHost)),
        ("GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadTarget)),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Err(CodingInHttp10)),
        (
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
            Err(LengthAndCoding),
        ),
        ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Err(ObsFold)),
        ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadTarget)),
        ("GET /  HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadVersion)),
        ("GET / x HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadVersion)),
        ("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadMethod)),
        (" GET / HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadMethod)),
        ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadMethod)),
        ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", Err(BadVersion)),
        ("GET / http/1.1\r\nHost: a\r\n\r\n", Err(BadVersion)),
        ("GET / HTTP/1.10\r\nHost: a\r\n\r\n", Err(BadVersion)),
        ("GET / HTTP/01.1\r\nHost: a\r\n\r\n", Err(BadVersion)),
        ("GET / HTTP/1,1\r\nHost: a\r\n\r\n", Err(BadVersion)),
        ("GET /\r\nHost: a\r\n\r\n", Err(BadTarget)),
        ("GET / \r\nHost: a\r\n\r\n", Err(BadVersion)),
        ("GET / HTTP/0.9\r\nHost: a\r\n\r\n", Err(UnsupportedVersion)),
        ("GET / HTTP/3.0\r\nHost: a\r\n\r\n", Err(UnsupportedVersion)),
        ("GET /a#b HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadTarget)),
        ("GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadTarget)),
        ("GET /\u{7f} HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadTarget)),
        ("GET /a|b?{\"c\"}^`\\ HTTP/1.1\r\nHost: a\r\n\r\n", Ok(None)),
        ("GET * HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadTarget)),
        ("GET a HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadTarget)),
        ("CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n", Err(BadTarget)),
    ] {
        assert_eq!(framing(text), expected, "{text:?}");
    }
}

#[test]
fn close_wins_and_the_version_decides_the_rest() {
    for (version, connection, expected) in [
        ("1.1", "", true),
        ("1.1", "Connection: close\r\n", false),
        ("1.1", "Connection: keep-alive, Close\r\n", false),
        ("1.1", "Connection: close\r\nConnection: keep-alive\r\n", false),
        ("1.1", "Connection: upgrade\r\n", true),
        ("1.1", "Connection: closed\r\n", true),
        ("1.1", "Connection: \"x, close\r\n", false),
        ("1.0", "", false),
        ("1.0", "Connection: Keep-Alive\r\n", true),
        ("1.0", "Connection: x, keep-alive\r\n", true),
        ("1.0", "Connection: keep-alive\r\nConnection: close\r\n", false),
    ] {
        let head = head(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n"));
        assert_eq!(keep_alive(&head), expected, "{version} {connection:?}");
    }
}

#[test]
fn an_expectation_counts_in_1_1_alone() {
    let expects = |version, value| {
        expects_continue(&head(&format!(
            "GET / HTTP/{version}\r\nHost: a\r\nExpect: {value}\r\n\r\n"
        )))
    };
    assert_eq!(expects("1.1", "100-continue"), Ok(true));
    assert_eq!(expects("1.1", ""), Ok(false));
    assert_eq!(expects("1.0", "100-continue"), Ok(false));
    assert_eq!(expects("1.0", "tea"), Ok(false));
    assert_eq!(expects("1.1", "tea"), Err(Offence::UnsupportedExpectation));
}

#[test]
fn an_announced_length_above_the_limit_is_refused_before_it_is_read() {
    assert_eq!(RequestFraming::Sized(10).check(10), Ok(()));
    assert_eq!(RequestFraming::Sized(11).check(10), Err(Offence::BodyTooLarge));
    assert_eq!(RequestFraming::Chunked.check(0), Ok(()));
    assert!(!RequestFraming::Sized(0).has_body());
}
