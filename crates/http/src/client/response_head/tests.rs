use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::client::limits;

type Verdict = Result<Option<usize>, ResponseOffence>;

/// Reads `bytes`, of which no more is seen than up to each of `ends` in turn.
fn in_pieces(head: &mut ResponseHead, bytes: &[u8], ends: &[usize], limits: &Limits) -> Verdict {
    let mut scanned = 0;
    for &end in ends {
        match head.parse(&bytes[..end], &mut scanned, limits) {
            Ok(None) => {}
            verdict => return verdict,
        }
    }
    Ok(None)
}

/// At once and byte by byte.
fn parse_with(text: &[u8], limits: &Limits) -> Result<ResponseHead, Option<ResponseOffence>> {
    let mut head = ResponseHead::new();
    let whole = in_pieces(&mut head, text, &[text.len()], limits);
    let every: Vec<_> = (0..=text.len()).collect();
    let mut slow = ResponseHead::new();
    let verdict = in_pieces(&mut slow, text, &every, limits);
    assert_eq!(verdict, whole, "{:?}", String::from_utf8_lossy(text));
    match whole {
        Ok(Some(len)) => {
            assert_eq!(head.as_bytes(), &text[..len]);
            Ok(head)
        }
        Ok(None) => Err(None),
        Err(offence) => {
            assert_eq!((head.status(), head.fields().count()), (0, 0), "left after an offence");
            Err(Some(offence))
        }
    }
}

fn parse(text: &str) -> Result<ResponseHead, Option<ResponseOffence>> {
    parse_with(text.as_bytes(), &limits())
}

#[test]
fn a_head_gives_back_what_was_sent() {
    let text =
        "HTTP/1.1 206 Some \u{e4}\t\u{ff}\r\nA: b\r\nX-Empty:\r\nset-Cookie:  a;\t b \r\n\r\nrest";
    let head = parse(text).unwrap();
    assert_eq!((head.status(), head.is_http11(), head.is_interim()), (206, true, false));
    assert_eq!(head.value("SET-COOKIE"), Some(b"a;\t b".as_slice()));
    assert_eq!((head.value("x-empty"), head.value("b")), (Some(b"".as_slice()), None));
    assert_eq!(head.fields().count(), 3);
    for (line, status, new) in [
        ("HTTP/1.0 200 OK", 200, false),
        ("HTTP/1.9 999 ", 999, true),
        ("HTTP/1.1 100", 100, true),
        ("HTTP/1.1 404 Not Found", 404, true),
    ] {
        let head = parse(&format!("{line}\r\n\r\n")).unwrap();
        assert_eq!((head.status(), head.is_http11()), (status, new), "{line}");
    }
    assert!(parse("HTTP/1.1 103 Early Hints\r\n\r\n").unwrap().is_interim());
    assert!(!parse("HTTP/1.1 101 \r\n\r\n").unwrap().is_interim());
}

#[test]
fn whatever_two_readers_could_take_differently_is_refused_by_name() {
    use ResponseOffence::{BadStatusLine, Message, StatusLineTooLong};
    let message = |offence| Some(Message(offence));
    let long = format!("HTTP/1.1 200 {}", "x".repeat(9000));
    for (text, expected) in [
        ("", None),
        ("HTTP/1.1 200 OK\r\nA: b\r\n", None),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\r", None),
        ("\r\nHTTP/1.1 200 OK\r\n\r\n", Some(BadStatusLine)),
        (" HTTP/1.1 200 OK\r\n\r\n", Some(BadStatusLine)),
        ("http/1.1 200 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/2.0 200 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/2 200\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/0.9 200 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.10 200 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1  200 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1\t200 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1 20 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1 2000 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1 099 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1 +20 OK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1 200\tOK\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1 200 O\x01K\r\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1 200 O\0K\r\n\r\n", message(Offence::Nul)),
        ("HTTP/1.1 200 OK\n\r\n", message(Offence::BareLf)),
        ("HTTP/1.1 200\n\r\n", Some(BadStatusLine)),
        ("HTTP/1.1 200 OK\rA: b\r\n\r\n", message(Offence::BareCr)),
        ("HTTP/1.1 200 OK\r\n A: b\r\n\r\n", message(Offence::ObsFold)),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\r\n", message(Offence::ObsFold)),
        ("HTTP/1.1 200 OK\r\nA: b\n\r\n", message(Offence::BareLf)),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\n", message(Offence::BareLf)),
        ("HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n", message(Offence::BareCr)),
        ("HTTP/1.1 200 OK\r\nA: b\r\n\rc", message(Offence::BareCr)),
        ("HTTP/1.1 200 OK\r\nA: b\0\r\n\r\n", message(Offence::Nul)),
        ("HTTP/1.1 200 OK\r\nA: b\x7f\r\n\r\n", message(Offence::BadHeaderValue)),
        ("HTTP/1.1 200 OK\r\nA : b\r\n\r\n", message(Offence::SpaceBeforeColon)),
        ("HTTP/1.1 200 OK\r\nA \t: b\r\n\r\n", message(Offence::SpaceBeforeColon)),
        ("HTTP/1.1 200 OK\r\nA b: c\r\n\r\n", message(Offence::BadHeaderName)),
        ("HTTP/1.1 200 OK\r\nA\r\n\r\n", message(Offence::BadHeaderName)),
        ("HTTP/1.1 200 OK\r\n: b\r\n\r\n", message(Offence::EmptyHeaderName)),
        ("HTTP/1.1 200 OK\r\nA\u{e4}: b\r\n\r\n", message(Offence::BadHeaderName)),
        ("<html>", Some(BadStatusLine)),
        (&long, Some(StatusLineTooLong)),
    ] {
        assert_eq!(parse(text).map(|_| ()), Err(expected), "{text:?}");
    }
}

#[test]
fn each_limit_is_broken_by_the_byte_beyond_it() {
    use ResponseOffence::{Message, StatusLineTooLong};
    let text = b"HTTP/1.1 200 OK\r\nAbc: d\r\nE: f\r\n\r\n";
    let exact =
        Limits { request_line: 17, header_line: 8, head: text.len(), headers: 2, ..limits() };
    assert!(parse_with(text, &exact).is_ok());
    for (limits, offence, at) in [
        (Limits { request_line: 16, ..exact.clone() }, StatusLineTooLong, 17),
        (Limits { request_line: 0, ..exact.clone() }, StatusLineTooLong, 1),
        (Limits { header_line: 7, ..exact.clone() }, Message(Offence::HeaderLineTooLong), 25),
        (
            Limits { head: text.len() - 1, ..exact.clone() },
            Message(Offence::HeadTooLarge),
            text.len(),
        ),
        (Limits { head: 20, ..exact.clone() }, Message(Offence::HeadTooLarge), 21),
        (Limits { headers: 1, ..exact.clone() }, Message(Offence::TooManyHeaders), 26),
        (Limits { headers: 0, ..exact.clone() }, Message(Offence::TooManyHeaders), 18),
    ] {
        assert_eq!(parse_with(&text[..at - 1], &limits).map(|_| ()), Err(None), "{offence}");
        assert_eq!(parse_with(&text[..at], &limits).map(|_| ()), Err(Some(offence)));
        assert_eq!(parse_with(text, &limits).map(|_| ()), Err(Some(offence)));
    }
}

#[test]
fn a_connection_is_used_again_where_its_next_response_can_be_told() {
    for (line, fields, keeps) in [
        ("1.1 200", "", true),
        ("1.1 200", "Connection: close\r\n", false),
        ("1.1 200", "Connection: keep-alive\r\nConnection: x,Close\r\n", false),
        ("1.1 200", "Connection: \"x, close\r\n", false),
        ("1.1 200", "Connection: closed\r\n", true),
        ("1.0 200", "", false),
        ("1.0 200", "Connection: Keep-Alive\r\n", true),
        ("1.1 204", "", true),
        ("1.1 204", "Content-Length: 0\r\n", true),
        ("1.1 204", "Content-Length: 5\r\n", false),
        ("1.1 204", "Transfer-Encoding: chunked\r\n", false),
        ("1.1 304", "Content-Length: 5\r\n", true),
        ("1.1 101", "Connection: upgrade\r\nUpgrade: x\r\n", false),
    ] {
        let head = parse(&format!("HTTP/{line} \r\n{fields}\r\n")).unwrap();
        assert_eq!(head.keep_alive(), keeps, "{line} {fields:?}");
    }
}

#[test]
fn an_upgrade_is_to_what_was_asked_for() {
    let switched = |line: &str, fields: &str, asked: Option<&str>| {
        let head = parse(&format!("HTTP/{line} \r\n{fields}\r\n")).unwrap();
        head.switched_to(asked.map(str::as_bytes))
            .map(|to| String::from_utf8_lossy(to).into_owned())
    };
    let good = "Connection: x, Upgrade\r\nUpgrade: WebSocket\r\n";
    assert_eq!(switched("1.1 101", good, Some("websocket")), Ok("WebSocket".to_owned()));
    for (line, fields, asked) in [
        ("1.1 101", good, None),
        ("1.1 101", good, Some("other")),
        ("1.1 200", good, Some("websocket")),
        ("1.0 101", good, Some("websocket")),
        ("1.1 101", "Upgrade: websocket\r\n", Some("websocket")),
        ("1.1 101", "Connection: upgrade\r\n", Some("websocket")),
        ("1.1 101", "Connection: upgrade\r\nUpgrade: websocket, x\r\n", Some("websocket")),
        (
            "1.1 101",
            "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: x\r\n",
            Some("websocket"),
        ),
    ] {
        let refused = Err(ResponseOffence::UnaskedUpgrade);
        assert_eq!(switched(line, fields, asked), refused, "{line} {fields:?} {asked:?}");
    }
}

#[test]
fn a_reused_head_keeps_nothing_of_the_response_before() {
    let mut head = parse(
        "HTTP/1.0 204 x\r\nConnection: keep-alive\r\nContent-Length: 1\r\nTransfer-Encoding: x\r\n\r\n",
    )
    .unwrap();
    let text = b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n";
    assert_eq!(head.parse(text, &mut 0, &limits()), Ok(Some(text.len())));
    assert!(head.is_http11() && head.keep_alive() && !head.has_coding());
    assert_eq!((head.status(), head.as_bytes()), (200, text.as_slice()));
    assert_eq!(head.fields().collect::<Vec<_>>(), [(b"A".as_slice(), b"b".as_slice())]);
}

const LINES: &[&str] = &[
    "HTTP/1.1 200 OK\r\n",
    "HTTP/1.0 404 Not Found\r\n",
    "HTTP/1.1 103\r\n",
    "HTTP/1.1 500 \u{e4} \r\n",
];
const FIELDS: &[&str] = &[
    "A: b\r\n",
    "Content-Length: 12\r\n",
    "Transfer-Encoding: chunked\r\n",
    "X:\r\n",
    "X-Y: \t a b\t \r\n",
    "Connection: close, x\r\n",
    "Set-Cookie: a=\"b, c\"\r\n",
    "X: \u{e4}\u{f6}\r\n",
    "Server: a-long-enough-server/1.0 (of words)\r\n",
];

/// A head, mostly right, some of its bytes changed, and something behind it.
pub(crate) fn message() -> impl Strategy<Value = Vec<u8>> {
    let noise = select(b"\r\n\0 \t:,;\"aG0\x7f\xff/".to_vec());
    let mutation = (any::<prop::sample::Index>(), 0..3u8, noise);
    let head = (select(LINES), prop::collection::vec(select(FIELDS), 0..5));
    (head, prop::collection::vec(mutation, 0..3)).prop_map(|((line, fields), mutations)| {
        let mut bytes = format!("{line}{}\r\nHTTP/1.1 200 OK\r\n", fields.concat()).into_bytes();
        for (index, kind, byte) in mutations {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn no_verdict_depends_on_how_the_bytes_were_split(
        bytes in message(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        tight in any::<bool>(),
        (line, long, headers) in (8usize..100, 20usize..200, 0usize..7),
    ) {
        let limits = if tight {
            Limits { request_line: line, header_line: line / 2, head: long, headers, ..limits() }
        } else {
            limits()
        };
        let mut head = ResponseHead::new();
        let whole = in_pieces(&mut head, &bytes, &[bytes.len()], &limits);
        let fields = |head: &ResponseHead| {
            let fields = head.fields().map(|(name, value)| (name.to_vec(), value.to_vec()));
            (head.status(), fields.collect::<Vec<_>>())
        };
        let read = fields(&head);
        let mut ends: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        ends.sort_unstable();
        ends.push(bytes.len());
        prop_assert_eq!(in_pieces(&mut head, &bytes, &ends, &limits), whole);
        if whole != Ok(None) {
            prop_assert_eq!(fields(&head), read.clone());
        }
        let every: Vec<_> = (0..=bytes.len()).collect();
        prop_assert_eq!(in_pieces(&mut head, &bytes, &every, &limits), whole);

        let Ok(Some(len)) = whole else { return Ok(()) };
        // httparse reads alike what we accept; it knows 1.0 and 1.1 alone.
        prop_assume!(matches!(bytes[7], b'0' | b'1'));
        let mut slots = [httparse::EMPTY_HEADER; 16];
        let mut peer = httparse::Response::new(&mut slots);
        prop_assert_eq!(peer.parse(&bytes[..len]), Ok(httparse::Status::Complete(len)));
        prop_assert_eq!(peer.code, Some(read.0));
        let theirs: Vec<_> =
            peer.headers.iter().map(|h| (h.name.as_bytes().to_vec(), h.value.to_vec())).collect();
        prop_assert_eq!(theirs, read.1);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = parse_with(&bytes, &limits());
    }
}
