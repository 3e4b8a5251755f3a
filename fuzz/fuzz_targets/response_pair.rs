//! What an upstream sends, through us, to a client that records what it reads: the one response that
//! we read, with the body that we read, or none.
//!
//! Input: the method that was asked with, LF, and what the upstream sends until it closes. The head
//! is composed here as the engine does it, of what [`response_fields`] gives it.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::first_line;
use sluicegate_fuzz::recorder::Recorder;
use sluicegate_http::client::forward::{Accel, response_fields, trailers_of};
use sluicegate_http::client::{INTERIM, ResponseFraming, ResponseHead, ResponseOffence, limits};
use sluicegate_http::{CRLF, ChunkedDecoder, Event, LAST_CHUNK, Method, chunk_head};

fuzz_target!(|input: &[u8]| {
    let (line, bytes) = first_line(input);
    let method = if line == b"HEAD" { Method::Head } else { Method::Get };
    let mut out = Vec::new();
    let Ok(Some(read)) = passed_on(&mut out, method, bytes) else { return };
    let mut recorder = Recorder { rest: &out };
    let Some(message) = recorder.message(|_| read.has_body) else { panic!("no response") };
    assert!(recorder.rest.is_empty(), "more than one response");
    assert_eq!(message.line, format!("HTTP/1.1 {} ", read.status));
    assert_eq!(message.body, read.body, "another body");

    let never = "connection keep-alive proxy-connection proxy-authenticate te upgrade proxy";
    for name in never.split(' ') {
        assert_eq!(message.values(name).len(), 0, "{name} went on");
    }
    assert!(message.fields.iter().all(|(name, _)| !name.starts_with("x-accel-")));
    assert!(message.values("server").is_empty() && message.values("date").is_empty());
    let cookies: Vec<_> = read.cookies.iter().map(Vec::as_slice).collect();
    assert_eq!(message.values("set-cookie"), cookies, "cookies were joined, lost or moved");
    assert!(read.listed_cookies || message.values("set-cookie").len() == read.sent_cookies);
});

/// A response as we have read it.
struct Read {
    status: u16,
    has_body: bool,
    body: Vec<u8>,
    cookies: Vec<Vec<u8>>,
    sent_cookies: usize,
    /// Connection names them, so that they are not for the client.
    listed_cookies: bool,
}

fn passed_on(
    out: &mut Vec<u8>,
    method: Method,
    bytes: &[u8],
) -> Result<Option<Read>, ResponseOffence> {
    let limits = limits();
    let mut head = ResponseHead::new();
    let mut rest = bytes;
    let mut interim = 0;
    loop {
        let Some(len) = head.parse(rest, &mut 0, &limits)? else { return Ok(None) };
        rest = &rest[len..];
        if !head.is_interim() {
            break;
        }
        interim += 1;
        if interim > INTERIM {
            return Err(ResponseOffence::TooManyInterim);
        }
    }
    let framing = ResponseFraming::of(&head, method)?;
    let mut decoder = ChunkedDecoder::of_responses();
    let body = match framing {
        ResponseFraming::Upgraded => {
            assert!(head.switched_to(None).is_err(), "an upgrade that nobody asked for");
            return Ok(None);
        }
        ResponseFraming::None => Vec::new(),
        ResponseFraming::Close => rest.to_vec(),
        ResponseFraming::Sized(length) => {
            match usize::try_from(length).ok().and_then(|length| rest.get(..length)) {
                Some(body) => body.to_vec(),
                None => return Ok(None),
            }
        }
        ResponseFraming::Chunked => {
            let mut body = Vec::new();
            loop {
                let step = decoder.decode(rest, &limits)?;
                if let Event::Data(range) = &step.event {
                    body.extend_from_slice(&rest[range.clone()]);
                }
                rest = &rest[step.consumed..];
                match step.event {
                    Event::NeedMore => return Ok(None),
                    Event::Done => break body,
                    Event::Data(_) => {}
                }
            }
        }
    };
    let passed = response_fields(&head);
    let redirect = head.value("X-Accel-Redirect").map(<[u8]>::to_vec);
    let buffering = passed.accel.buffering;
    assert_eq!(passed.accel, Accel { redirect, buffering });
    let is_absent = matches!(head.status(), 204 | 304);
    let has_body = method != Method::Head && !is_absent;
    let status = if head.status() < 600 { head.status() } else { 500 };
    let is_chunked = matches!(framing, ResponseFraming::Chunked | ResponseFraming::Close);

    out.extend_from_slice(format!("HTTP/1.1 {status} \r\n").as_bytes());
    out.extend_from_slice(passed.fields.as_bytes());
    if has_body && is_chunked {
        out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
    } else if has_body {
        out.extend_from_slice(format!("Content-Length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(CRLF);
    if has_body && is_chunked {
        for piece in body.chunks(11) {
            for part in [chunk_head(piece.len() as u64).as_bytes(), piece, CRLF] {
                out.extend_from_slice(part);
            }
        }
        out.extend_from_slice(&LAST_CHUNK[..3]);
        out.extend_from_slice(trailers_of(&decoder).as_bytes());
        out.extend_from_slice(CRLF);
    } else if has_body {
        out.extend_from_slice(&body);
    }

    let named = |name: &[u8], wanted: &str| name.eq_ignore_ascii_case(wanted.as_bytes());
    let listed_cookies = head.fields().any(|(name, value)| {
        let value = value.to_ascii_lowercase();
        named(name, "connection") && value.windows(10).any(|word| word == b"set-cookie")
    });
    let sent = head.fields().filter(|(name, _)| named(name, "set-cookie"));
    let sent: Vec<_> = sent.map(|(_, value)| value.to_vec()).collect();
    let sent_cookies = sent.len();
    let kept = passed.fields.value("set-cookie").is_some();
    let cookies = if kept { sent } else { Vec::new() };
    Ok(Some(Read { status, has_body, body, cookies, sent_cookies, listed_cookies }))
}
