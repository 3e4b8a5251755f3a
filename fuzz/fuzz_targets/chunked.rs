//! A chunked body means one thing, however it is cut. The oracle looks at whole lines of the whole
//! input, where the decoder judges byte by byte; it accepts exactly what the decoder accepts.
//!
//! Input: see [`Delivery`]; the bytes are the body and what follows it.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::{Delivery, is_field_value, is_token, trim};
use sluicegate_http::{CRLF, ChunkedDecoder, Event, LAST_CHUNK, Limits, Offence, Step, chunk_head};

fuzz_target!(|input: &[u8]| {
    let Delivery { bytes, limits, cuts } = Delivery::of(input);
    // One decoder for all: what a body leaves behind must not show in the next.
    let mut decoder = ChunkedDecoder::new();
    let whole = decode(&mut decoder, bytes, &[bytes.len()], &limits);
    assert_eq!(decode(&mut decoder, bytes, &cuts, &limits), whole, "cut at {cuts:?}");
    let every: Vec<_> = (0..=bytes.len()).collect();
    assert_eq!(decode(&mut decoder, bytes, &every, &limits), whole, "byte by byte");
    for step in [1, 3, cuts[0].max(1), bytes.len().max(1)] {
        assert_eq!(spliced(&mut decoder, bytes, step, &limits), whole, "spliced by {step}");
    }
    of_responses(bytes, &whole, &limits);

    assert!(whole.data.len() <= bytes.len(), "more data than input");
    assert!(whole.data.len() as u64 <= limits.body, "more data than the limit");
    match (&whole.end, oracle(bytes)) {
        (Ok(end), Some(body)) => {
            assert_eq!(whole.data, body.data, "other data");
            assert_eq!(*end, (body.trailers.clone(), body.consumed), "another end");
            assert!(!body.breaks(&limits), "a limit is not enforced");
        }
        (Ok(_), None) => panic!("a malformed body is accepted"),
        (
            Err(
                Offence::ChunkLineTooLong
                | Offence::ChunkOverhead
                | Offence::TrailerTooLarge
                | Offence::BodyTooLarge,
            ),
            Some(body),
        ) => assert!(body.breaks(&limits), "a limit is enforced too early"),
        (Err(offence), Some(_)) => panic!("a well-formed body is refused: {offence:?}"),
        (Err(_), None) => {}
    }
    there_and_back(&mut decoder, bytes, &cuts);
});

/// Everything observable of one body.
#[derive(Debug, PartialEq)]
struct Seen {
    data: Vec<u8>,
    /// Trailers and consumed bytes, or why there are none.
    end: Result<(Vec<Field>, usize), Offence>,
}

type Field = (Vec<u8>, Vec<u8>);

/// Decodes `bytes`, of which the decoder sees no more than up to each of `ends` in turn.
fn decode(decoder: &mut ChunkedDecoder, bytes: &[u8], ends: &[usize], limits: &Limits) -> Seen {
    decoder.reset();
    let mut data = Vec::new();
    let mut at = 0;
    for &end in ends {
        loop {
            let piece = &bytes[at..end];
            let Step { consumed, event } = match decoder.decode(piece, limits) {
                Ok(step) => step,
                Err(offence) => return Seen { data, end: Err(offence) },
            };
            assert!(consumed <= piece.len(), "more consumed than given");
            at += consumed;
            match event {
                Event::Data(range) => {
                    assert!(!range.is_empty() && range.end == consumed);
                    data.extend_from_slice(&piece[range]);
                    assert_eq!(decoder.decoded(), data.len() as u64);
                }
                Event::NeedMore => {
                    assert_eq!(at, end, "bytes left and more wanted");
                    break;
                }
                Event::Done => {
                    assert!(decoder.is_done());
                    let next = decoder.decode(&bytes[at..], limits);
                    assert_eq!(next, Ok(Step { consumed: 0, event: Event::Done }));
                    let trailers = decoder
                        .trailers()
                        .map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()))
                        .collect();
                    return Seen { data, end: Ok((trailers, at)) };
                }
            }
        }
    }
    assert!(!decoder.is_done());
    Seen { data, end: Err(Offence::Truncated) }
}

/// As [`decode`], but the decoder sees `step` bytes at a time, and of the data only what came with
/// the line of its chunk: the rest goes past it, as through a pipe.
fn spliced(decoder: &mut ChunkedDecoder, bytes: &[u8], step: usize, limits: &Limits) -> Seen {
    decoder.reset();
    let mut data = Vec::new();
    let mut at = 0;
    while !decoder.is_done() {
        let rest = &bytes[at..];
        if rest.is_empty() {
            return Seen { data, end: Err(Offence::Truncated) };
        }
        let ahead = usize::try_from(decoder.data_left()).unwrap_or(usize::MAX);
        if ahead > 0 {
            let here = ahead.min(rest.len()).min(step);
            assert_eq!(decoder.skip(here as u64), here as u64);
            assert_eq!(decoder.data_left(), (ahead - here) as u64);
            data.extend_from_slice(&rest[..here]);
            at += here;
            continue;
        }
        let piece = &rest[..rest.len().min(step)];
        match decoder.decode(piece, limits) {
            Ok(Step { consumed, event }) => {
                if let Event::Data(range) = event {
                    data.extend_from_slice(&piece[range]);
                }
                at += consumed;
            }
            Err(offence) => return Seen { data, end: Err(offence) },
        }
        assert_eq!(decoder.decoded(), data.len() as u64);
    }
    assert_eq!((decoder.data_left(), decoder.skip(1)), (0, 0));
    let trailers = decoder.trailers();
    let trailers = trailers.map(|(name, value)| (name.as_bytes().to_vec(), value.to_vec()));
    Seen { data, end: Ok((trailers.collect(), at)) }
}

/// What upstreams send is read alike, except that forbidden trailers are left out.
fn of_responses(bytes: &[u8], whole: &Seen, limits: &Limits) {
    let mut decoder = ChunkedDecoder::of_responses();
    let seen = decode(&mut decoder, bytes, &[bytes.len()], limits);
    match (&seen.end, &whole.end) {
        (Ok((trailers, _)), Err(Offence::ForbiddenTrailer)) => {
            assert!(trailers.iter().all(|(name, _)| !is_forbidden(name)));
        }
        (Err(_), Err(Offence::ForbiddenTrailer)) => {}
        _ => assert_eq!(&seen, whole, "another reading of an upstream's body"),
    }
}

/// What we send in chunks is what we would receive.
fn there_and_back(decoder: &mut ChunkedDecoder, data: &[u8], cuts: &[usize]) {
    let mut sent = Vec::new();
    let mut start = 0;
    for &cut in cuts {
        // A chunk of nothing would end the body.
        if cut > start {
            sent.extend_from_slice(chunk_head((cut - start) as u64).as_bytes());
            sent.extend_from_slice(&data[start..cut]);
            sent.extend_from_slice(CRLF);
            start = cut;
        }
    }
    sent.extend_from_slice(LAST_CHUNK);
    let received = decode(decoder, &sent, &[sent.len()], &Limits::default());
    assert_eq!(received, Seen { data: data.to_vec(), end: Ok((Vec::new(), sent.len())) });
}

/// A body as read line by line, and what it would have to be allowed.
#[derive(Debug, Default)]
struct Body {
    data: Vec<u8>,
    trailers: Vec<Field>,
    consumed: usize,
    longest_chunk_line: usize,
    overhead: u64,
    longest_trailer_line: usize,
    trailer: usize,
}

impl Body {
    fn breaks(&self, limits: &Limits) -> bool {
        self.data.len() as u64 > limits.body
            || self.longest_chunk_line > limits.chunk_line
            || self.overhead > limits.chunk_overhead as u64
            || self.longest_trailer_line > limits.header_line
            || self.trailer > limits.trailer
            || self.trailers.len() > limits.trailers
    }
}

/// RFC 9112 section 7.1 without BWS, or `None` where the body is malformed or not whole.
fn oracle(input: &[u8]) -> Option<Body> {
    let mut body = Body::default();
    let mut rest = input;
    let mut unexplained = 0u64;
    loop {
        let (line, after) = line(rest)?;
        let digits = line.iter().position(|&byte| byte == b';').unwrap_or(line.len());
        let size = size(&line[..digits])?;
        if !are_extensions(&line[digits..]) {
            return None;
        }
        body.longest_chunk_line = body.longest_chunk_line.max(line.len() + 2);
        let explained = u64::try_from(size).ok()?.saturating_mul(2).saturating_add(16);
        unexplained = (unexplained + line.len() as u64 + 2).saturating_sub(explained);
        body.overhead = body.overhead.max(unexplained);
        rest = after;
        if size == 0 {
            break;
        }
        body.data.extend_from_slice(rest.get(..size)?);
        rest = rest[size..].strip_prefix(CRLF)?;
    }
    let trailer = rest.len();
    loop {
        let (line, after) = line(rest)?;
        rest = after;
        body.longest_trailer_line = body.longest_trailer_line.max(line.len() + 2);
        if line.is_empty() {
            break;
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = (&line[..colon], trim(&line[colon + 1..]));
        if !is_token(name) || !is_field_value(value) || is_forbidden(name) {
            return None;
        }
        body.trailers.push((name.to_vec(), value.to_vec()));
    }
    body.trailer = trailer - rest.len();
    body.consumed = input.len() - rest.len();
    Some(body)
}

/// The bytes before the first CRLF and those after it.
fn line(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = bytes.windows(2).position(|two| two == CRLF)?;
    Some((&bytes[..end], &bytes[end + 2..]))
}

fn size(digits: &[u8]) -> Option<usize> {
    if !(1..=16).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(str::from_utf8(digits).ok()?, 16).ok()
}

/// `*( ";" token [ "=" ( token / quoted-string ) ] )`
fn are_extensions(mut rest: &[u8]) -> bool {
    while !rest.is_empty() {
        let Some(named) = rest.strip_prefix(b";").and_then(after_token) else {
            return false;
        };
        rest = named;
        if let Some(value) = named.strip_prefix(b"=") {
            let Some(after) = after_quoted(value).or_else(|| after_token(value)) else {
                return false;
            };
            rest = after;
        }
    }
    true
}

fn after_token(bytes: &[u8]) -> Option<&[u8]> {
    let len = bytes.iter().take_while(|&&byte| is_token(&[byte])).count();
    (len > 0).then(|| &bytes[len..])
}

fn after_quoted(bytes: &[u8]) -> Option<&[u8]> {
    let mut rest = bytes.strip_prefix(b"\"")?;
    loop {
        rest = match rest {
            [b'"', after @ ..] => return Some(after),
            [b'\\', pair, after @ ..] if is_field_value(&[*pair]) => after,
            [b'\\', ..] => return None,
            [byte, after @ ..] if is_field_value(&[*byte]) => after,
            _ => return None,
        };
    }
}

/// RFC 9110 section 6.5.1: what frames, routes, authenticates, or says how to read the content.
fn is_forbidden(name: &[u8]) -> bool {
    const FORBIDDEN: &str = "authorization cache-control connection content-encoding \
        content-length content-range content-type cookie expect forwarded host if-match \
        if-modified-since if-none-match if-range if-unmodified-since keep-alive max-forwards proxy \
        proxy-authorization proxy-connection range te trailer transfer-encoding upgrade \
        x-forwarded-for x-forwarded-host x-forwarded-proto";
    FORBIDDEN.split(' ').any(|forbidden| name.eq_ignore_ascii_case(forbidden.as_bytes()))
}
