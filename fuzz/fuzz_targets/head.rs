//! A request head means one thing: to us however it is cut, and to httparse. The oracle of the
//! scanner judges one byte after the other, where the scanner jumps; framing, target and
//! connection are read again from the fields that httparse found.
//!
//! Input: see [`Delivery`]; the bytes are requests, one after the other up to the first with a body.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::{Delivery, trim};
use sluicegate_http::{
    HeadScanner, Known, Limits, Method, Offence, RequestFraming, RequestHead, Scan, TargetForm,
    Version, expects_continue, keep_alive,
};

fuzz_target!(|input: &[u8]| {
    let Delivery { mut bytes, limits, cuts } = Delivery::of(input);
    // One head for all: what a request leaves behind must not show in the next.
    let mut head = RequestHead::new();
    let left = b"PUT http://left/over?q HTTP/1.0\r\nHost: left\r\nRange: x\r\nTE: y\r\n\r\n";
    assert_eq!(head.parse(left, &Limits::default()), Ok(()));
    while let Some((skip, len)) = scan(bytes, &cuts, &limits) {
        let goes_on = check(&mut head, &bytes[skip..skip + len], &limits);
        if !goes_on {
            break;
        }
        bytes = &bytes[skip + len..];
    }
});

/// Where the head is, if nothing is wrong with its bytes.
fn scan(bytes: &[u8], cuts: &[usize], limits: &Limits) -> Option<(usize, usize)> {
    let expected = byte_by_byte(bytes, limits);
    assert_eq!(in_pieces(bytes, &[bytes.len()], limits), expected, "at once");
    assert_eq!(in_pieces(bytes, cuts, limits), expected, "cut at {cuts:?}");
    let every: Vec<_> = (0..=bytes.len()).collect();
    assert_eq!(in_pieces(bytes, &every, limits), expected, "byte by byte");
    let Ok(Scan::Complete { skip, len }) = expected else {
        return None;
    };
    assert_eq!(in_pieces(bytes, &[skip + len - 1], limits), Ok(Scan::Partial), "too early");
    Some((skip, len))
}

fn in_pieces(bytes: &[u8], ends: &[usize], limits: &Limits) -> Result<Scan, Offence> {
    let mut scanner = HeadScanner::new();
    for &end in ends {
        let seen = bytes.get(..end).unwrap_or(bytes);
        match scanner.scan(seen, limits)? {
            Scan::Partial => {
                let begun = seen.iter().any(|byte| !b"\r\n".contains(byte));
                assert_eq!(scanner.has_started(), begun, "whether a head has begun");
            }
            complete => return Ok(complete),
        }
    }
    Ok(Scan::Partial)
}

/// What [`HeadScanner::scan`] documents, one byte at a time.
fn byte_by_byte(bytes: &[u8], limits: &Limits) -> Result<Scan, Offence> {
    let (mut line, mut skip, mut headers) = (0, 0, 0);
    let (mut started, mut cr) = (false, false);
    for (at, &byte) in bytes.iter().enumerate() {
        let (longest, too_long) = if started {
            (limits.header_line, Offence::HeaderLineTooLong)
        } else {
            (limits.request_line, Offence::RequestLineTooLong)
        };
        if started && at == line && headers >= limits.headers && byte != b'\r' {
            return Err(Offence::TooManyHeaders);
        } else if at >= limits.head {
            return Err(Offence::HeadTooLarge);
        } else if at - line >= longest {
            return Err(too_long);
        } else if cr && byte != b'\n' {
            return Err(Offence::BareCr);
        } else if !cr && byte == b'\n' {
            return Err(Offence::BareLf);
        } else if byte == 0 {
            return Err(Offence::Nul);
        }
        cr = byte == b'\r';
        if byte != b'\n' {
            continue;
        }
        let empty = at - line == 1;
        line = at + 1;
        if !started && empty {
            skip = line;
        } else if !started {
            started = true;
        } else if empty {
            return Ok(Scan::Complete { skip, len: line - skip });
        } else {
            headers += 1;
        }
    }
    Ok(Scan::Partial)
}

type Field = (String, Vec<u8>);

/// Checks one whole head; whether another may follow at once.
fn check(head: &mut RequestHead, bytes: &[u8], limits: &Limits) -> bool {
    if let Err(offence) = head.parse(bytes, limits) {
        refused(offence, bytes);
        assert_eq!((head.target(), head.method_str(), head.headers().count()), ("", "", 0));
        assert!(Known::ALL.iter().all(|&known| head.count(known) == 0));
        return false;
    }
    let fields = read_alike(head, bytes);
    known_fields(head, &fields);
    target(head, &fields);
    connection(head, &fields);
    written_again(head, &fields);
    framing(head, &fields)
}

/// A refusal tells the truth, as far as it is easily told.
fn refused(offence: Offence, bytes: &[u8]) {
    let lines = || bytes.split(|&byte| byte == b'\n').skip(1);
    let hosts = lines().filter(|line| line.to_ascii_lowercase().starts_with(b"host:")).count();
    match offence {
        Offence::MissingHost => assert_eq!(hosts, 0),
        Offence::DoubledHost => assert!(hosts > 1),
        Offence::ObsFold => {
            assert!(lines().any(|line| matches!(line.first(), Some(b' ' | b'\t'))));
        }
        Offence::EmptyHeaderName => assert!(lines().any(|line| line.first() == Some(&b':'))),
        Offence::SpaceBeforeColon => {
            let spaced = |two: &[u8]| matches!(two, [b' ' | b'\t', b':']);
            assert!(bytes.windows(2).any(spaced));
        }
        Offence::BadHeaderValue => assert!(bytes.iter().any(u8::is_ascii_control)),
        Offence::BadMethod
        | Offence::BadTarget
        | Offence::BadVersion
        | Offence::UnsupportedVersion
        | Offence::BadHeaderName
        | Offence::BadHost => {}
        // The scanner has judged line ends, NUL and limits, and said that this is one head.
        other => panic!("scanner and parser disagree: {other:?}"),
    }
}

/// httparse reads what we read. Returns its fields.
fn read_alike(head: &RequestHead, bytes: &[u8]) -> Vec<Field> {
    let mut bytes = bytes.to_vec();
    // httparse knows 1.0 and 1.1 alone, where RFC 9110 section 2.5 has us take any 1.x.
    let minor = head.method_str().len() + head.target().len() + " ".len() * 2 + "HTTP/1.".len();
    assert_eq!(head.version() == Version::Http10, bytes[minor] == b'0');
    bytes[minor] = bytes[minor].min(b'1');
    let mut slots = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut slots);
    let parsed = request.parse(&bytes);
    assert_eq!(parsed, Ok(httparse::Status::Complete(bytes.len())), "httparse disagrees");
    assert_eq!(request.method, Some(head.method_str()));
    assert_eq!(request.path, Some(head.target()));
    assert_eq!(request.version, Some(u8::from(head.version() == Version::Http11)));
    let fields: Vec<Field> = request
        .headers
        .iter()
        .map(|header| (header.name.to_owned(), header.value.to_vec()))
        .collect();
    assert_eq!(own_fields(head), fields, "httparse reads other fields");
    fields
}

fn own_fields(head: &RequestHead) -> Vec<Field> {
    head.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect()
}

fn values<'a>(fields: &'a [Field], name: &str) -> Vec<&'a [u8]> {
    let named = fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name));
    named.map(|(_, value)| value.as_slice()).collect()
}

/// The non-empty members of a list that has no quoted strings.
fn members<'a>(fields: &'a [Field], name: &str) -> Vec<&'a [u8]> {
    let pieces = values(fields, name).into_iter().flat_map(|value| value.split(|&b| b == b','));
    pieces.map(trim).filter(|member| !member.is_empty()).collect()
}

fn known_fields(head: &RequestHead, fields: &[Field]) {
    for &known in Known::ALL {
        let expected = values(fields, known.name());
        assert_eq!(head.values(known).collect::<Vec<_>>(), expected);
        assert_eq!(head.count(known), expected.len());
        assert_eq!(head.known(known), expected.first().copied());
        assert_eq!(head.header(known.name()), head.known(known));
    }
}

/// The parts of the target make the target; RFC 9112 section 3.2 says which form is whose.
fn target(head: &RequestHead, fields: &[Field]) {
    let (target, path) = (head.target(), head.path());
    let host = values(fields, "Host").first().copied().unwrap_or_default();
    let named = str::from_utf8(host).ok().filter(|host| !host.is_empty());
    let query = head.query().map(|query| format!("?{query}")).unwrap_or_default();
    assert!(target.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#'));
    assert_eq!(head.method() == Method::Connect, head.target_form() == TargetForm::Authority);
    match head.target_form() {
        TargetForm::Origin => {
            assert!(path.starts_with('/') && !path.contains('?'));
            assert_eq!(target, format!("{path}{query}"));
            assert_eq!(head.host(), named);
        }
        TargetForm::Absolute => {
            let authority = head.host().unwrap_or_default();
            assert!(path.starts_with('/') && !path.contains('?') && !authority.is_empty());
            let scheme = target.find("://").map_or("", |at| &target[..at + 3]);
            assert!(["http://", "https://"].iter().any(|s| s.eq_ignore_ascii_case(scheme)));
            // RFC 9110 section 4.2.3: an empty path is "/".
            let rebuilt = format!("{scheme}{authority}{path}{query}");
            let rootless = format!("{scheme}{authority}{query}");
            assert!(target == rebuilt || (path == "/" && target == rootless));
        }
        TargetForm::Authority => {
            assert_eq!((head.host(), path, head.query()), (Some(target), "", None));
        }
        TargetForm::Asterisk => {
            assert_eq!((target, path, head.query()), ("*", "*", None));
            assert_eq!((head.method(), head.host()), (Method::Options, named));
        }
    }
    if let Some(host) = head.host() {
        // Whoever writes it into another head, a URL or a log needs to escape nothing.
        assert!(host.bytes().all(|b| b.is_ascii_graphic() && !b"@/?#\\\"<>,{}|^`".contains(&b)));
        let name = head.host_name().unwrap_or_default();
        let port = host.strip_prefix(name);
        let digits = port.map(|port| port.strip_prefix(':').unwrap_or(port));
        assert!(digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit())));
        assert!(name.starts_with('[') || !name.contains(':'));
    }
}

/// Who closes, and who waits. RFC 9112 section 9.3 and RFC 9110 section 10.1.1.
fn connection(head: &RequestHead, fields: &[Field]) {
    let has = |option: &[u8]| {
        members(fields, "Connection").iter().any(|member| member.eq_ignore_ascii_case(option))
    };
    let new = head.version() == Version::Http11;
    assert_eq!(keep_alive(head), !has(b"close") && (new || has(b"keep-alive")));
    let expectations = members(fields, "Expect");
    let expected = if expectations.iter().all(|e| e.eq_ignore_ascii_case(b"100-continue")) {
        Ok(!expectations.is_empty())
    } else {
        Err(Offence::UnsupportedExpectation)
    };
    assert_eq!(expects_continue(head), if new { expected } else { Ok(false) });
}

/// A body is announced in one way that everybody understands, or the request is refused.
/// RFC 9112 section 6.3. Whether the head is the whole request.
fn framing(head: &RequestHead, fields: &[Field]) -> bool {
    let (lengths, codings) =
        (values(fields, "Content-Length"), values(fields, "Transfer-Encoding"));
    let digits = |value: &[u8]| {
        let digits = !value.is_empty() && value.iter().all(u8::is_ascii_digit);
        str::from_utf8(value).ok().filter(|_| digits)?.parse::<u64>().ok()
    };
    let expected = match (&lengths[..], &codings[..]) {
        ([], []) => Some(RequestFraming::None),
        ([length], []) => digits(length).map(RequestFraming::Sized),
        ([], [coding]) if head.version() == Version::Http11 => {
            coding.eq_ignore_ascii_case(b"chunked").then_some(RequestFraming::Chunked)
        }
        _ => None,
    };
    assert_eq!(RequestFraming::of(head).ok(), expected, "another framing");
    expected.is_some_and(|framing| !framing.has_body())
}

/// Whoever forwards the request in our words is understood by us as the client was.
fn written_again(head: &RequestHead, fields: &[Field]) {
    let version = if head.version() == Version::Http10 { "1.0" } else { "1.1" };
    let mut bytes =
        format!("{} {} HTTP/{version}\r\n", head.method_str(), head.target()).into_bytes();
    for (name, value) in fields {
        bytes.extend_from_slice(name.as_bytes());
        bytes.extend_from_slice(b": ");
        bytes.extend_from_slice(value);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let mut again = RequestHead::new();
    assert_eq!(again.parse(&bytes, &Limits::default()), Ok(()));
    assert_eq!((again.method(), again.version()), (head.method(), head.version()));
    assert_eq!((again.target(), again.host()), (head.target(), head.host()));
    assert_eq!(own_fields(&again), fields);
}
