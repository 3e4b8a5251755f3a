//! A response head means one thing: to us however it is cut, and to httparse; and it is followed by
//! the body that its fields announce. The oracle looks at whole lines of the whole input.
//!
//! Input: see [`Delivery`]; HEAD in the first line makes it the answer to HEAD.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::{Delivery, first_line, is_field_value, is_token, trim};
use sluicegate_http::client::{ResponseFraming, ResponseHead, ResponseOffence};
use sluicegate_http::{Limits, Method, Offence};

type Verdict = Result<Option<usize>, ResponseOffence>;
type Field = (Vec<u8>, Vec<u8>);

fuzz_target!(|input: &[u8]| {
    let Delivery { bytes, limits, cuts } = Delivery::of(input);
    let is_head = first_line(input).0.windows(4).any(|word| word == b"HEAD");
    let method = if is_head { Method::Head } else { Method::Get };
    // One head for all: what a response leaves behind must not show in the next.
    let mut head = ResponseHead::new();
    let left = b"HTTP/1.0 404 left\r\nConnection: close\r\nContent-Length: 7\r\nA: b\r\n\r\n";
    assert_eq!(head.parse(left, &mut 0, &Limits::default()), Ok(Some(left.len())));

    let whole = in_pieces(&mut head, bytes, &[bytes.len()], &limits);
    let (status, fields) = seen(&head);
    let every: Vec<_> = (0..=bytes.len()).collect();
    for ends in [&cuts, &every] {
        let mut other = ResponseHead::new();
        assert_eq!(in_pieces(&mut other, bytes, ends, &limits), whole, "cut at {ends:?}");
        if whole != Ok(None) {
            assert_eq!(seen(&other), (status, fields.clone()), "cut at {ends:?}");
        }
    }
    match whole {
        Ok(Some(len)) => {
            assert_eq!(oracle(bytes, &limits), Some(len), "accepted, and malformed or too large");
            let mut early = ResponseHead::new();
            let verdict = in_pieces(&mut early, bytes, &[len - 1], &limits);
            assert_eq!(verdict, Ok(None), "too early");
            assert_eq!(head.as_bytes(), &bytes[..len]);
            read_alike(&head, &bytes[..len], &fields);
            connection(&head, &fields);
            framing(&head, method, &fields);
        }
        verdict => {
            assert_eq!(oracle(bytes, &limits), None, "well-formed, and {verdict:?}");
            if verdict.is_err() {
                assert_eq!((status, fields.len()), (0, 0), "left after an offence");
            }
        }
    }
});

fn in_pieces(head: &mut ResponseHead, bytes: &[u8], ends: &[usize], limits: &Limits) -> Verdict {
    let mut scanned = 0;
    for &end in ends {
        match head.parse(&bytes[..end], &mut scanned, limits) {
            Ok(None) => assert!(scanned <= end),
            verdict => return verdict,
        }
    }
    Ok(None)
}

fn seen(head: &ResponseHead) -> (u16, Vec<Field>) {
    let fields = head.fields().map(|(name, value)| (name.to_vec(), value.to_vec()));
    (head.status(), fields.collect())
}

/// The length of the head that the bytes begin with, if it is well-formed and within the limits.
fn oracle(bytes: &[u8], limits: &Limits) -> Option<usize> {
    let len = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = &bytes[..len - 4];
    let mut lines = Vec::new();
    let mut rest = text;
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        lines.push(&rest[..end]);
        rest = &rest[end + 2..];
    }
    lines.push(rest);
    let (status, fields) = lines.split_first()?;
    let is_good = is_status_line(status)
        && fields.iter().all(|line| is_field_line(line))
        && status.len() + 2 <= limits.request_line
        && fields.iter().all(|line| line.len() + 2 <= limits.header_line)
        && (limits.header_line >= 2 || len > limits.head)
        && fields.len() <= limits.headers
        && len <= limits.head;
    is_good.then_some(len)
}

fn is_status_line(line: &[u8]) -> bool {
    let is_digit = |at: usize| line.get(at).is_some_and(u8::is_ascii_digit);
    line.starts_with(b"HTTP/1.")
        && is_digit(7)
        && line.get(8) == Some(&b' ')
        && line.get(9).is_some_and(|&byte| matches!(byte, b'1'..=b'9'))
        && is_digit(10)
        && is_digit(11)
        && line.get(12).is_none_or(|&byte| byte == b' ')
        && is_field_value(&line[12..])
}

fn is_field_line(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return false };
    is_token(&line[..colon]) && is_field_value(&line[colon + 1..])
}

/// httparse reads what we read.
fn read_alike(head: &ResponseHead, bytes: &[u8], fields: &[Field]) {
    let mut bytes = bytes.to_vec();
    // httparse knows 1.0 and 1.1 alone, where RFC 9110 section 2.5 has us take any 1.x.
    assert_eq!(head.is_http11(), bytes[7] != b'0');
    bytes[7] = bytes[7].min(b'1');
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut response = httparse::Response::new(&mut slots);
    let parsed = response.parse(&bytes);
    assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len())), "httparse disagrees");
    assert_eq!(response.code, Some(head.status()));
    let theirs: Vec<Field> = response
        .headers
        .iter()
        .map(|header| (header.name.as_bytes().to_vec(), header.value.to_vec()))
        .collect();
    assert_eq!(fields, theirs, "httparse reads other fields");
}

fn values<'a>(fields: &'a [Field], name: &str) -> Vec<&'a [u8]> {
    let named = fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name.as_bytes()));
    named.map(|(_, value)| value.as_slice()).collect()
}

/// RFC 9112 section 9.3, and no more trust than is earned.
fn connection(head: &ResponseHead, fields: &[Field]) {
    let options = values(fields, "Connection");
    let has = |option: &[u8]| {
        let mut members = options.iter().flat_map(|value| value.split(|&byte| byte == b','));
        members.any(|member| trim(member).eq_ignore_ascii_case(option))
    };
    let announces = !values(fields, "Transfer-Encoding").is_empty()
        || values(fields, "Content-Length").iter().any(|length| *length != b"0");
    let in_doubt = head.status() == 101 || (head.status() == 204 && announces);
    let keeps = !has(b"close") && (head.is_http11() || has(b"keep-alive"));
    assert_eq!(head.keep_alive(), keeps && !in_doubt);
    assert_eq!(head.is_interim(), (100..200).contains(&head.status()) && head.status() != 101);
    for &(ref name, _) in fields {
        let name = String::from_utf8_lossy(name);
        assert_eq!(head.value(&name), values(fields, &name).first().copied());
    }
}

/// A body is announced in one way that everybody understands, or the response is refused.
/// RFC 9112 section 6.3.
fn framing(head: &ResponseHead, method: Method, fields: &[Field]) {
    let digits = |value: &[u8]| {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        str::from_utf8(value).ok().filter(|_| digits)?.parse::<u64>().ok()
    };
    let (lengths, codings) =
        (values(fields, "Content-Length"), values(fields, "Transfer-Encoding"));
    let announced = match (&lengths[..], &codings[..]) {
        ([], []) => Some(ResponseFraming::Close),
        ([length], []) => digits(length).map(|length| match length {
            0 => ResponseFraming::None,
            length => ResponseFraming::Sized(length),
        }),
        ([], [coding]) if head.is_http11() => {
            coding.eq_ignore_ascii_case(b"chunked").then_some(ResponseFraming::Chunked)
        }
        _ => None,
    };
    let expected = announced.map(|announced| match head.status() {
        101 => ResponseFraming::Upgraded,
        100..200 | 204 | 304 => ResponseFraming::None,
        _ if method == Method::Head => ResponseFraming::None,
        _ => announced,
    });
    let framing = ResponseFraming::of(head, method);
    assert_eq!(framing.ok(), expected, "another framing");
    if let Err(ResponseOffence::Message(offence)) = framing {
        assert!(!matches!(offence, Offence::NotOneHead | Offence::Truncated));
    }
}
