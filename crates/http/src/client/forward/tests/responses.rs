//! What an upstream answers, as the client gets it: one response, the one that we have read, or none.

use proptest::prelude::*;

use super::recorder::{Read, Recorder, decode, send};
use super::*;
use crate::client::{ResponseFraming, ResponseOffence};
use crate::encode::{self, Framing, Persistence};
use crate::{ChunkedDecoder, Method, Offence};

/// What a client gets of an upstream's `bytes` in answer to `method`, as the engine sends it, and
/// how much of the bytes it was; `None` while it is not whole.
fn back(method: Method, bytes: &[u8]) -> Result<Option<(Vec<u8>, usize, Read)>, ResponseOffence> {
    let limits = limits();
    let mut head = ResponseHead::new();
    let mut start = 0;
    loop {
        let Some(len) = head.parse(&bytes[start..], &mut 0, &limits)? else { return Ok(None) };
        start += len;
        if !head.is_interim() {
            break;
        }
    }
    let framing = ResponseFraming::of(&head, method)?;
    let mut rest = &bytes[start..];
    let mut decoder = ChunkedDecoder::of_responses();
    let content = match framing {
        ResponseFraming::Upgraded => return Err(head.switched_to(None).unwrap_err()),
        ResponseFraming::None => Vec::new(),
        ResponseFraming::Close => std::mem::take(&mut rest).to_vec(),
        ResponseFraming::Chunked => match decode(&mut decoder, &mut rest, &limits)? {
            Some(content) => content,
            None => return Ok(None),
        },
        ResponseFraming::Sized(length) => match usize::try_from(length) {
            Ok(length) if length <= rest.len() => {
                let (content, after) = rest.split_at(length);
                rest = after;
                content.to_vec()
            }
            _ => return Ok(None),
        },
    };
    let fields = response_fields(&head).fields;
    let status = if head.status() < 600 { head.status() } else { 500 };
    let chunked = matches!(framing, ResponseFraming::Chunked | ResponseFraming::Close);
    let how = match framing {
        _ if encode::has_no_content(status) => Framing::Absent,
        _ if method == Method::Head => {
            ResponseFraming::announced(&head).map_or(Framing::Absent, Framing::Sized)
        }
        _ if chunked => Framing::Chunked,
        _ => Framing::Sized(content.len() as u64),
    };
    let mut out = Vec::new();
    encode::head(
        &mut out,
        status,
        &crate::date::now(),
        fields.as_bytes(),
        how,
        Persistence::Implied,
    );
    if how != Framing::Absent && method != Method::Head {
        send(&mut out, &content, chunked, &trailers_of(&decoder));
    }
    let line = format!("HTTP/1.1 {status} {}", encode::reason(status));
    Ok(Some((out, bytes.len() - rest.len(), (line, content))))
}

/// What the client has read of a response, and how many bytes it was.
fn client_reads(method: Method, bytes: &[u8]) -> Result<Option<(Read, usize)>, ResponseOffence> {
    let Some((out, used, read)) = back(method, bytes)? else { return Ok(None) };
    let mut recorder = Recorder { rest: &out, hyphens_are_underscores: false };
    let has_body =
        |line: &str| method != Method::Head && !line.contains("204") && !line.contains("304");
    let message = recorder.message(has_body);
    assert_eq!(message, Some(read.clone()), "{:?}", String::from_utf8_lossy(bytes));
    assert!(recorder.rest.is_empty(), "more than one message");
    Ok(Some((read, used)))
}

#[test]
fn an_answer_is_one_answer_to_the_client_or_none() {
    use Offence::*;
    use ResponseOffence::{BadStatusLine, CodingInHttp10, UnaskedUpgrade};
    let next = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";
    let refused = |offence: Offence| Err(ResponseOffence::from(offence));
    for (method, text, expected) in [
        ("GET", "HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nabc", Ok("abc")),
        (
            "GET",
            "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3;x\r\nabc\r\n0\r\nHost: x\r\n\r\n",
            Ok("abc"),
        ),
        (
            "GET",
            "HTTP/1.1 100 \r\n\r\nHTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nabc",
            Ok("abc"),
        ),
        ("HEAD", "HTTP/1.1 200 \r\nContent-Length: 40\r\n\r\n", Ok("")),
        ("HEAD", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", Ok("")),
        ("GET", "HTTP/1.1 204 \r\nContent-Length: 40\r\n\r\n", Ok("")),
        ("GET", "HTTP/1.1 304 \r\nContent-Length: 40\r\n\r\n", Ok("")),
        ("GET", "HTTP/1.1 304 \r\nTransfer-Encoding: chunked\r\n\r\n", Ok("")),
        (
            "GET",
            "HTTP/1.1 200 \r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\nabc",
            Ok("abc"),
        ),
        ("GET", "HTTP/1.1 200 \r\nContent_Length: 9\r\nContent-Length: 3\r\n\r\nabc", Ok("abc")),
        (
            "GET",
            "HTTP/1.1 200 \r\nUpgrade: h2c\r\nKeep-Alive: 3\r\nContent-Length: 3\r\n\r\nabc",
            Ok("abc"),
        ),
        (
            "GET",
            "HTTP/1.1 200 \r\nContent-Length: 3\r\nContent-Length: 40\r\n\r\nabc",
            refused(TwoLengths),
        ),
        (
            "GET",
            "HTTP/1.1 200 \r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc",
            refused(LengthAndCoding),
        ),
        (
            "HEAD",
            "HTTP/1.1 200 \r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            refused(LengthAndCoding),
        ),
        (
            "GET",
            "HTTP/1.1 200 \r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
            refused(UnknownCoding),
        ),
        ("GET", "HTTP/1.0 200 \r\nTransfer-Encoding: chunked\r\n\r\n", Err(CodingInHttp10)),
        ("GET", "HTTP/1.1 200 \r\nX: y\nContent-Length: 3\r\n\r\n", refused(BareLf)),
        ("GET", "HTTP/1.1 200 \r\nX: y\rContent-Length: 3\r\n\r\n", refused(BareCr)),
        ("GET", "HTTP/1.1 200 \r\nX: y\r\n Content-Length: 3\r\n\r\n", refused(ObsFold)),
        ("GET", "HTTP/1.1 200 \r\nX: y\0\r\n\r\n", refused(Nul)),
        ("GET", "HTTP/1.1 200 \r\nContent-Length : 3\r\n\r\n", refused(SpaceBeforeColon)),
        (
            "GET",
            "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n",
            refused(MissingChunkCrlf),
        ),
        ("GET", "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3\nabc\r\n", refused(BareLf)),
        (
            "GET",
            "HTTP/1.1 101 \r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
            Err(UnaskedUpgrade),
        ),
        ("GET", "\r\nHTTP/1.1 200 \r\n\r\n", Err(BadStatusLine)),
        ("GET", "abcHTTP/1.1 200 \r\n\r\n", Err(BadStatusLine)),
    ] {
        let method = if method == "HEAD" { Method::Head } else { Method::Get };
        let read = client_reads(method, format!("{text}{next}").as_bytes());
        let (read, used) = match (read, expected) {
            (Ok(Some(read)), Ok(content)) => (Ok(Some(read.0.1)), (read.1, content)),
            (read, _) => (read.map(|_| None), (text.len(), "")),
        };
        assert_eq!(used.0, text.len(), "{text:?}");
        assert_eq!(read, expected.map(|content| Some(content.into())), "{text:?}");
    }
    // What is cut short is never whole, and without a length all of it is content.
    for cut in [
        "HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\nab",
        "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
    ] {
        assert_eq!(client_reads(Method::Get, cut.as_bytes()), Ok(None));
    }
    let close = client_reads(Method::Get, format!("HTTP/1.0 200 \r\n\r\n{next}").as_bytes());
    assert_eq!(close.unwrap().map(|(read, _)| read.1), Some(next.into()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn whatever_an_upstream_sends_the_client_reads_what_we_read(
        bytes in crate::client::response_head::tests::message(),
        body in "[0-9a-f;\r\n]{0,20}",
        is_head in any::<bool>(),
    ) {
        let method = if is_head { Method::Head } else { Method::Get };
        let _ = client_reads(method, &[&bytes, body.as_bytes()].concat());
    }
}
