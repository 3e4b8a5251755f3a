//! Pairs of messages: what a client sends, through us, to an upstream that records what it reads.
//! Whatever a client can be made to say, the upstream reads the requests that we read, each with the
//! body that we read, or nothing at all.

use proptest::prelude::*;

use super::recorder::{Read, Recorder, decode, send};
use super::*;
use crate::{ChunkedDecoder, HeadScanner, Offence, Scan, expects_continue};

/// What the upstream gets of a client's `bytes`, what we have read of them, and why we stopped.
fn onwards(bytes: &[u8]) -> (Vec<u8>, Vec<Read>, Option<Offence>) {
    let (mut out, mut read) = (Vec::new(), Vec::new());
    let mut rest = bytes;
    loop {
        match one_request(&mut out, &mut rest) {
            Ok(Some(request)) => read.push(request),
            Ok(None) => return (out, read, None),
            Err(offence) => return (out, read, Some(offence)),
        }
    }
}

/// One request through the engine's parsers and on. What is not whole does not go on here.
fn one_request(out: &mut Vec<u8>, rest: &mut &[u8]) -> Result<Option<Read>, Offence> {
    let limits = Limits::default();
    let Scan::Complete { skip, len } = HeadScanner::new().scan(rest, &limits)? else {
        return Ok(None);
    };
    let mut head = RequestHead::new();
    head.parse(&rest[skip..skip + len], &limits)?;
    let framing = RequestFraming::of(&head)?;
    expects_continue(&head)?;
    let mut body = &rest[skip + len..];
    let mut decoder = ChunkedDecoder::new();
    let content = match framing {
        RequestFraming::None => Vec::new(),
        RequestFraming::Sized(length) => match usize::try_from(length) {
            Ok(length) if length <= body.len() => {
                let (content, after) = body.split_at(length);
                body = after;
                content.to_vec()
            }
            _ => return Ok(None),
        },
        RequestFraming::Chunked => match decode(&mut decoder, &mut body, &limits)? {
            Some(content) => content,
            None => return Ok(None),
        },
    };
    *rest = body;
    let endpoints = Endpoints::default();
    let (mut room, mark) = (Vec::new(), out.len());
    let Ok(path) = normalise(head.path(), &mut room) else {
        return Ok(Some(("refused".to_owned(), Vec::new())));
    };
    let (endpoints, authority) = (&endpoints, "app.test");
    let onward = Onward { endpoints, path: &path, authority, framing, closes: false };
    let rules = rules(Forwarded::Append);
    if request_head(out, &head, &rules, &onward).is_err()
        || upgrade_asked(&head, &rules, framing).is_some()
    {
        out.truncate(mark);
        return Ok(Some(("refused".to_owned(), Vec::new())));
    }
    let line_end = out[mark..].iter().position(|&byte| byte == b'\r').unwrap();
    let line = String::from_utf8(out[mark..mark + line_end].to_vec()).unwrap();
    send(out, &content, framing == RequestFraming::Chunked, &trailers_of(&decoder));
    Ok(Some((line, content)))
}

/// What the upstream has recorded, which is what we have read.
fn recorded(bytes: &[u8]) -> (Vec<Read>, Option<Offence>) {
    let (out, read, offence) = onwards(bytes);
    let mut recorder = Recorder { rest: &out, hyphens_are_underscores: true };
    let mut recorded = Vec::new();
    while let Some(message) = recorder.message(|_| true) {
        recorded.push(message);
    }
    let passed: Vec<_> = read.into_iter().filter(|(line, _)| line != "refused").collect();
    assert_eq!(recorded, passed, "{:?}", String::from_utf8_lossy(bytes));
    // Our own parsers agree, and nothing is left to be changed.
    let (again, read, none) = onwards(&out);
    assert_eq!((read, none), (recorded.clone(), None));
    let mut recorder = Recorder { rest: &again, hyphens_are_underscores: true };
    assert_eq!(recorder.message(|_| true), recorded.first().cloned());
    (recorded, offence)
}

#[test]
fn classic_pairs_reach_an_upstream_as_what_they_are_or_not_at_all() {
    use Offence::*;
    let next = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let post =
        |fields: &str, body: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n{body}");
    let cases: Vec<(&str, String, Option<Offence>)> = vec![
        (
            "CL.TE",
            post("Content-Length: 6\r\nTransfer-Encoding: chunked\r\n", "0\r\n\r\nG"),
            Some(LengthAndCoding),
        ),
        (
            "TE.CL",
            post(
                "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
                "5c\r\nGPOST / HTTP/1.1\r\n\r\n0\r\n\r\n",
            ),
            Some(LengthAndCoding),
        ),
        (
            "TE.TE, unknown",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n", next),
            Some(ChunkedNotLast),
        ),
        (
            "TE.TE, twice",
            post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", next),
            Some(ChunkedNotLast),
        ),
        (
            "TE.TE, identity first",
            post("Transfer-Encoding: identity, chunked\r\n", next),
            Some(UnknownCoding),
        ),
        ("TE.TE, xchunked", post("Transfer-Encoding: xchunked\r\n", next), Some(ChunkedNotLast)),
        (
            "TE.TE, space before colon",
            post("Transfer-Encoding : chunked\r\n", next),
            Some(SpaceBeforeColon),
        ),
        (
            "TE.TE, vertical tab",
            post("Transfer-Encoding:\x0bchunked\r\n", next),
            Some(BadHeaderValue),
        ),
        ("TE.TE, fold", post("Transfer-Encoding:\r\n chunked\r\n", next), Some(ObsFold)),
        (
            "TE.TE, fold of another",
            post("X: y\r\n Transfer-Encoding: chunked\r\n", next),
            Some(ObsFold),
        ),
        ("TE.TE, quoted", post("Transfer-Encoding: \"chunked\"\r\n", next), Some(BadCoding)),
        ("TE.TE, behind LF", post("X: y\nTransfer-Encoding: chunked\r\n", next), Some(BareLf)),
        ("TE.TE, behind CR", post("X: y\rTransfer-Encoding: chunked\r\n", next), Some(BareCr)),
        ("TE.TE, NUL", post("Transfer-Encoding: chunked\0\r\n", next), Some(Nul)),
        ("TE.TE, trailing comma", post("Transfer-Encoding: chunked,\r\n", next), Some(BadCoding)),
        (
            "TE in HTTP/1.0",
            "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
            Some(CodingInHttp10),
        ),
        ("CL.CL", post("Content-Length: 0\r\nContent-Length: 30\r\n", next), Some(TwoLengths)),
        (
            "CL.CL, equal",
            post("Content-Length: 3\r\ncontent-length: 3\r\n", "abc"),
            Some(TwoLengths),
        ),
        ("CL.CL, list", post("Content-Length: 3, 3\r\n", "abc"), Some(TwoLengths)),
        ("CL, plus", post("Content-Length: +3\r\n", "abc"), Some(BadLength)),
        ("CL, fold", post("Content-Length:\r\n 3\r\n", "abc"), Some(ObsFold)),
        ("0.CL, empty", post("Content-Length:\r\n", next), Some(BadLength)),
        ("0.CL, space before colon", post("Content-Length : 3\r\n", "abc"), Some(SpaceBeforeColon)),
        (
            "Expect, obfuscated",
            post("Expect: y 100-continue\r\nContent-Length: 3\r\n", "abc"),
            Some(UnsupportedExpectation),
        ),
        (
            "TERM.EXT",
            post("Transfer-Encoding: chunked\r\n", "2;\nxx\r\n4c\r\n0\r\n\r\n"),
            Some(BareLf),
        ),
        (
            "TERM.EXT, with a name",
            post("Transfer-Encoding: chunked\r\n", "2;a\nxx\r\n0\r\n\r\n"),
            Some(BareLf),
        ),
        (
            "EXT.TERM, CR",
            post("Transfer-Encoding: chunked\r\n", "2;a\rxx\r\n0\r\n\r\n"),
            Some(BareCr),
        ),
        (
            "TERM.SPILL",
            post("Transfer-Encoding: chunked\r\n", "5\r\nAAAAAXX\r\n0\r\n\r\n"),
            Some(MissingChunkCrlf),
        ),
        (
            "TERM.SPILL, LF",
            post("Transfer-Encoding: chunked\r\n", "2\r\nab\n0\r\n\r\n"),
            Some(MissingChunkCrlf),
        ),
        (
            "chunk size, 0x",
            post("Transfer-Encoding: chunked\r\n", "0x2\r\nab\r\n0\r\n\r\n"),
            Some(BadChunkSize),
        ),
        (
            "chunk size, space",
            post("Transfer-Encoding: chunked\r\n", "2 \r\nab\r\n0\r\n\r\n"),
            Some(BadChunkSize),
        ),
        (
            "chunk size, overflow",
            post("Transfer-Encoding: chunked\r\n", "10000000000000002\r\nab\r\n0\r\n\r\n"),
            Some(BadChunkSize),
        ),
        ("chunk size, minus", post("Transfer-Encoding: chunked\r\n", "-1\r\n"), Some(BadChunkSize)),
        (
            "trailer that frames",
            post("Transfer-Encoding: chunked\r\n", "0\r\nContent-Length: 40\r\n\r\n"),
            Some(ForbiddenTrailer),
        ),
        (
            "trailer that routes",
            post("Transfer-Encoding: chunked\r\n", "0\r\nHost: b\r\n\r\n"),
            Some(ForbiddenTrailer),
        ),
        (
            "trailer, folded",
            post("Transfer-Encoding: chunked\r\n", "0\r\nA: b\r\n c\r\n\r\n"),
            Some(ObsFold),
        ),
        ("two hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(), Some(DoubledHost)),
        ("a line in the target", "GET /\rx HTTP/1.1\r\nHost: a\r\n\r\n".to_owned(), Some(BareCr)),
        ("HTTP/0.9", "GET /\r\n\r\n".to_owned(), Some(BadTarget)),
    ];
    for (name, text, offence) in cases {
        assert_eq!(recorded(format!("{text}{next}").as_bytes()), (vec![], offence), "{name}");
    }
}

#[test]
fn a_request_within_a_body_stays_a_body() {
    let next = "GET /admin HTTP/1.1\r\nHost: a\r\n\r\n";
    let line = "POST / HTTP/1.1".to_owned();
    let chunk = format!("{:x};a=\"b;\"\r\n{next}\r\n0\r\nX: y\r\n\r\n", next.len());
    let long = next.len();
    for (name, method, fields, body, content) in [
        ("CL.0", "POST", format!("Content-Length: {long}\r\n"), next, next),
        ("CL.0, zeros", "POST", format!("Content-Length: 000{long}\r\n"), next, next),
        ("GET with a body", "GET", format!("Content-Length: {long}\r\n"), next, next),
        ("HEAD with a body", "HEAD", format!("Content-Length: {long}\r\n"), next, next),
        ("OPTIONS", "OPTIONS", "Transfer-Encoding: chunked\r\n".to_owned(), &chunk, next),
        ("chunked", "POST", "Transfer-Encoding:chunked\r\n".to_owned(), &chunk, next),
        ("no length", "POST", String::new(), "", ""),
        (
            "listed away",
            "POST",
            format!("Connection: Content-Length, Host\r\nContent-Length: {long}\r\n"),
            next,
            next,
        ),
        (
            "an underscore",
            "POST",
            format!("Content_Length: 1\r\nContent-Length: {long}\r\n"),
            next,
            next,
        ),
        (
            "another coding with an underscore",
            "POST",
            format!("Transfer_Encoding: chunked\r\nContent-Length: {long}\r\n"),
            next,
            next,
        ),
        (
            "h2c",
            "POST",
            format!(
                "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: A\r\nContent-Length: {long}\r\n"
            ),
            next,
            next,
        ),
        (
            "Expect",
            "POST",
            format!("Expect: 100-continue\r\nContent-Length: {long}\r\n"),
            next,
            next,
        ),
    ] {
        let first = format!("{method} / HTTP/1.1");
        let text = format!("{first}\r\nHost: a\r\n{fields}\r\n{body}{next}");
        let expected =
            vec![(first, content.as_bytes().to_vec()), ("GET /admin HTTP/1.1".to_owned(), vec![])];
        assert_eq!(recorded(text.as_bytes()), (expected, None), "{name}");
    }
    // Encoded line ends stay encoded.
    let text = "POST /%0d%0aHost:%20b?%0d%0a HTTP/1.1\r\nHost: a\r\n\r\n";
    let (recorded, _) = recorded(text.as_bytes());
    assert_eq!(recorded[0].0, line.replace("/ ", "/%0d%0aHost:%20b?%0d%0a "));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whatever_a_client_sends_the_upstream_reads_what_we_read(
        bytes in crate::scan::tests::message(),
    ) {
        recorded(&bytes);
    }
}
