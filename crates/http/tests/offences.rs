//! What a client can do wrong, over a real connection: the status, the end,
//! and that neither depends on how the bytes were cut.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::io::Write;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use common::Served;
use sluicegate::Segment;
use sluicegate_http::{Body, Failure, Handler, Limits, Offence, Request, Response, Timeouts};

/// Answers everything, reads every body, and remembers what failed.
struct Lenient {
    failures: Arc<Mutex<Vec<String>>>,
    handled: Arc<AtomicUsize>,
}

impl Handler for Lenient {
    async fn handle(&self, request: &mut Request) -> Response {
        self.handled.fetch_add(1, Ordering::Relaxed);
        match request.head.path() {
            "/zeroes" => {
                Response::new(200).with_body(Body::Segment(Segment::given(vec![0; 64 << 20])))
            }
            "/unread" => Response::text(200, "unread"),
            _ => match request.body.collect(1 << 20).await {
                Ok(body) => Response::text(200, format!("{} bytes", body.len())),
                // Overruled by the engine: the offence's own status is sent.
                Err(_) => Response::text(299, "never seen"),
            },
        }
    }

    fn failed(&self, failure: &Failure) {
        let name = match failure {
            Failure::Offence(offence) => offence.name().to_owned(),
            other => format!("{other:?}"),
        };
        self.failures.lock().unwrap().push(name);
    }
}

struct Setup {
    served: Served,
    failures: Arc<Mutex<Vec<String>>>,
    handled: Arc<AtomicUsize>,
}

fn setup(limits: Limits) -> Setup {
    let failures: Arc<Mutex<Vec<String>>> = Arc::default();
    let handled: Arc<AtomicUsize> = Arc::default();
    let (for_handler, count) = (Arc::clone(&failures), Arc::clone(&handled));
    let served = Served::new(limits, move || Lenient { failures: for_handler, handled: count });
    Setup { served, failures, handled }
}

impl Setup {
    /// Sends `bytes` whole and cut in small pieces; each time the last answer
    /// must be `status` with `Connection: close`, and the failure `name`.
    fn refuses(&self, bytes: &[u8], status: u16, offence: Offence) {
        assert_eq!(offence.status(), status);
        for piece in [usize::MAX, 1, 7] {
            let piece = if bytes.len() > 4_000 { piece.max(997) } else { piece };
            self.failures.lock().unwrap().clear();
            let answer = self.served.converse(bytes, piece);
            let text = String::from_utf8_lossy(&answer);
            let what = format!("{} in pieces of {piece}: {text}", bytes.escape_ascii());
            let last = text.rfind("HTTP/1.1 ").unwrap_or_else(|| panic!("no answer to {what}"));
            assert!(text[last..].starts_with(&format!("HTTP/1.1 {status} ")), "{what}");
            assert!(text[last..].contains("\r\nConnection: close\r\n"), "{what}");
            assert_eq!(*self.failures.lock().unwrap(), [offence.name()], "{what}");
        }
    }
}

#[test]
fn every_offence_gets_its_status_and_ends_the_connection() {
    let setup = setup(Limits { headers: 4, head: 3000, ..Limits::default() });
    let post = |rest: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{rest}");
    let chunked = |rest: &str| post(&format!("Transfer-Encoding: chunked\r\n\r\n{rest}"));
    let long = "a".repeat(4000);
    let cases: Vec<(String, u16, Offence)> = vec![
        ("GET / HTTP/1.1\nHost: h\n\n".into(), 400, Offence::BareLf),
        ("GET / HTTP/1.1\r\nHost: h\rX\r\n\r\n".into(), 400, Offence::BareCr),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\0b\r\n\r\n".into(), 400, Offence::Nul),
        ("GET / HTTP/1.1\r\nHost: h\r\nX: a\r\n b\r\n\r\n".into(), 400, Offence::ObsFold),
        ("GET / HTTP/1.1\r\nHost : h\r\n\r\n".into(), 400, Offence::SpaceBeforeColon),
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, Offence::MissingHost),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n".into(), 400, Offence::DoubledHost),
        ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n".into(), 400, Offence::BadHost),
        ("GET / HTTP/2.0\r\nHost: h\r\n\r\n".into(), 505, Offence::UnsupportedVersion),
        ("GET / HTTP/1.\r\nHost: h\r\n\r\n".into(), 400, Offence::BadVersion),
        ("GET  / HTTP/1.1\r\nHost: h\r\n\r\n".into(), 400, Offence::BadTarget),
        (format!("GET /{} HTTP/1.1\r\n", "a".repeat(9000)), 431, Offence::HeadTooLarge),
        (format!("GET / HTTP/1.1\r\nHost: h\r\nX: {long}\r\n\r\n"), 431, Offence::HeadTooLarge),
        (
            format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(4)),
            431,
            Offence::TooManyHeaders,
        ),
        (
            post("Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc"),
            400,
            Offence::LengthAndCoding,
        ),
        (post("Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"), 400, Offence::TwoLengths),
        (post("Content-Length: +3\r\n\r\nabc"), 400, Offence::BadLength),
        (post("Content-Length: 99999999999\r\n\r\n"), 413, Offence::BodyTooLarge),
        (post("Transfer-Encoding: gzip, chunked\r\n\r\n"), 501, Offence::UnknownCoding),
        (post("Transfer-Encoding: chunked, gzip\r\n\r\n"), 400, Offence::ChunkedNotLast),
        (post("Expect: tea\r\nContent-Length: 1\r\n\r\nx"), 417, Offence::UnsupportedExpectation),
        (chunked("x\r\n"), 400, Offence::BadChunkSize),
        (chunked("3\r\nabcd\r\n0\r\n\r\n"), 400, Offence::MissingChunkCrlf),
        (chunked("3;a=\x01\r\nabc\r\n0\r\n\r\n"), 400, Offence::BadChunkExtension),
        (chunked("3\r\nabc\r\n0\r\nContent-Length: 1\r\n\r\n"), 400, Offence::ForbiddenTrailer),
        (chunked("fffffffff\r\n"), 413, Offence::BodyTooLarge),
    ];
    for (text, status, offence) in cases {
        setup.refuses(text.as_bytes(), status, offence);
    }
}

#[test]
fn a_target_that_is_too_long_is_414_and_a_bad_one_after_a_good_request_stops_there() {
    let setup = setup(Limits::default());
    let long = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(9000));
    setup.refuses(long.as_bytes(), 414, Offence::RequestLineTooLong);
    let handled = setup.handled.load(Ordering::Relaxed);
    let mut three = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_vec();
    three.extend_from_slice(b"GET / HTTP/1.1\r\nHost: h\r\nBad\r\n\r\n");
    three.extend_from_slice(b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n");
    setup.refuses(&three, 400, Offence::BadHeaderName);
    // Once for each of the three ways of cutting: the first request, and
    // never the one behind the offence.
    assert_eq!(setup.handled.load(Ordering::Relaxed) - handled, 3);
}

fn hurried() -> Limits {
    let short = Duration::from_millis(150);
    let timeouts = Timeouts { head: short, body: short, idle: short, send: short };
    Limits { timeouts, ..Limits::default() }
}

#[test]
fn a_head_or_body_that_does_not_come_in_time_is_408() {
    let setup = setup(hurried());
    for (text, offence) in [
        ("GET / HTTP/1.1\r\nHos", Offence::HeadTimeout),
        ("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab", Offence::BodyTimeout),
        (
            "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
            Offence::BodyTimeout,
        ),
    ] {
        let answer = setup.served.converse(text.as_bytes(), usize::MAX);
        assert!(answer.starts_with(b"HTTP/1.1 408 "), "{text}: {}", answer.escape_ascii());
        assert_eq!(setup.failures.lock().unwrap().pop().unwrap(), offence.name());
    }
}

#[test]
fn a_trickle_of_header_bytes_does_not_hold_a_connection() {
    let setup = setup(hurried());
    let mut client = setup.served.connect();
    let mut refused = false;
    for _ in 0..100 {
        // A byte every 20 ms: never silent, never done.
        if client.stream.write_all(b"a").is_err() {
            refused = true;
            break;
        }
        if setup.failures.lock().unwrap().contains(&"head_timeout".to_owned()) {
            refused = true;
            break;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(refused);
    assert_eq!(client.head().status, 408);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let setup = setup(hurried());
    let mut client = setup.served.connect();
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    assert_eq!(client.rest(), b"");
    assert!(setup.failures.lock().unwrap().is_empty());
}

#[test]
fn a_client_that_does_not_read_is_given_up_with_a_reset() {
    let setup = setup(hurried());
    let mut client = setup.served.connect();
    client.send("GET /zeroes HTTP/1.1\r\nHost: h\r\n\r\n");
    for _ in 0..400 {
        if !setup.failures.lock().unwrap().is_empty() {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(*setup.failures.lock().unwrap(), ["Unread"]);
    assert!(client.ends_in_a_reset());
}

#[test]
fn a_client_that_goes_on_sending_still_gets_the_refusal() {
    let setup = setup(Limits { body: 1000, ..Limits::default() });
    let mut client = setup.served.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for _ in 0..1000 {
            if writer.write_all(&[b'x'; 10_000]).is_err() {
                return;
            }
        }
        let _ = writer.shutdown(std::net::Shutdown::Write);
    });
    // Late, so that a reset would have erased the answer from the receive buffer.
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(client.answer().status, 413);
    assert_eq!(client.rest(), b"");
    sending.join().unwrap();
}

#[test]
fn an_offence_in_a_head_request_gets_no_content() {
    let setup = setup(Limits::default());
    let ask = b"HEAD / HTTP/1.1\r\nHost: h\r\nExpect: tea\r\n\r\n";
    let answer = setup.served.converse(ask, usize::MAX);
    assert!(answer.starts_with(b"HTTP/1.1 417 "), "{}", answer.escape_ascii());
    assert!(answer.ends_with(b"\r\n\r\n"), "{}", answer.escape_ascii());
}

#[test]
fn a_client_that_goes_away_within_a_body_is_noticed() {
    let setup = setup(Limits::default());
    let mut client = setup.served.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nab");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.rest(), b"", "nothing can be said about half a request");
}
