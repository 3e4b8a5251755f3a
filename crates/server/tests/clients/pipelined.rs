//! Requests by hand, several in one write.

use std::io::{Read, Write};
use std::net::TcpStream;

use sluicegate_testkit::corpus::{self, Tree};

use crate::common::Served;
use crate::ways::{LARGE, MIDDLE, SMALL, Ways};

const SEED: u64 = 12;

/// What comes on one connection, answer by answer.
struct Answers {
    stream: TcpStream,
    /// Received, but of the answers to come.
    ahead: Vec<u8>,
}

impl Answers {
    /// The next head, and as much content as it announces unless `head_only`.
    fn next(&mut self, head_only: bool) -> (String, Vec<u8>) {
        let end = loop {
            if let Some(end) = self.ahead.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            self.receive();
        };
        let head = String::from_utf8(self.ahead.drain(..end).collect()).unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length = if head_only { 0 } else { length.unwrap().parse().unwrap() };
        while self.ahead.len() < length {
            self.receive();
        }
        (head, self.ahead.drain(..length).collect())
    }

    fn receive(&mut self) {
        let mut buffer = vec![0; 1 << 20];
        let count = self.stream.read(&mut buffer).unwrap();
        assert!(count > 0, "closed behind {}", self.ahead.escape_ascii());
        self.ahead.extend_from_slice(&buffer[..count]);
    }

    /// The server has closed, and sent no more than was taken.
    fn assert_end(mut self) {
        self.stream.read_to_end(&mut self.ahead).unwrap();
        assert_eq!(self.ahead.escape_ascii().to_string(), "");
    }
}

fn send(served: &Served, requests: &str) -> Answers {
    let mut stream = served.connect();
    stream.write_all(requests.as_bytes()).unwrap();
    Answers { stream, ahead: Vec::new() }
}

fn tree() -> Tree {
    let tree = Tree::new().unwrap().file("small", SEED, SMALL).unwrap();
    tree.file("middle", SEED, MIDDLE).unwrap().file("large", SEED, LARGE).unwrap()
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let tree = tree();
    let served = Served::with(tree.path(), &[]);
    let last = LARGE - 7;
    let mut answers = send(
        &served,
        &format!(
            "GET /small HTTP/1.1\r\nHost: h\r\n\r\n\
             GET /large HTTP/1.1\r\nHost: h\r\nRange: bytes=5-{last}\r\n\r\n\
             HEAD /large HTTP/1.1\r\nHost: h\r\n\r\n\
             GET /nothing HTTP/1.1\r\nHost: h\r\n\r\n\
             GET /middle HTTP/1.1\r\nHost: h\r\n\r\n\
             GET /large HTTP/1.1\r\nHost: h\r\n\r\n\
             GET /small HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n\
             GET /small HTTP/1.1\r\nHost: h\r\n\r\n"
        ),
    );
    for (status, head_only, start, length) in [
        ("200", false, 0, SMALL),
        ("206", false, 5, last - 4),
        ("200", true, 0, 0),
        ("404", false, 0, 14),
        ("200", false, 0, MIDDLE),
        ("200", false, 0, LARGE),
        ("200", false, 0, SMALL),
    ] {
        let (head, content) = answers.next(head_only);
        assert_eq!(&head[..12], format!("HTTP/1.1 {status}"));
        assert_eq!(content.len() as u64, length);
        if status == "404" {
            assert_eq!(content, b"404 Not Found\n");
        } else {
            corpus::verify(SEED, start, &content).unwrap();
        }
    }
    // RFC 9112 section 9.6: what follows `close` is not answered.
    answers.assert_end();
    let ways = Ways::default().file(SMALL).file(last - 4).joined(MIDDLE).file(LARGE).file(SMALL);
    ways.answers(3).assert(served.stop());
}

#[test]
fn http_1_0_goes_on_when_it_asks_to_and_ends_when_it_does_not() {
    let tree = tree();
    let served = Served::with(tree.path(), &[]);
    let mut answers = send(
        &served,
        "GET /small HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\
         GET /middle HTTP/1.0\r\nConnection: Keep-Alive\r\nRange: bytes=-9\r\n\r\n\
         GET /large HTTP/1.0\r\n\r\n\
         GET /small HTTP/1.0\r\n\r\n",
    );
    for (status, persistence, start, length) in [
        ("200", "keep-alive", 0, SMALL),
        ("206", "keep-alive", MIDDLE - 9, 9),
        ("200", "close", 0, LARGE),
    ] {
        let (head, content) = answers.next(false);
        assert_eq!(&head[..12], format!("HTTP/1.1 {status}"));
        let told = head.lines().find_map(|line| line.strip_prefix("Connection: "));
        assert_eq!(told, Some(persistence));
        assert_eq!(content.len() as u64, length);
        corpus::verify(SEED, start, &content).unwrap();
    }
    answers.assert_end();
    Ways::default().file(SMALL).file(9).file(LARGE).assert(served.stop());
}
