//! One answer as it arrives: status, length and body, each checked.

use std::io::Read;

use anyhow::{Context, Result, bail, ensure};
use memchr::memmem;

use super::body::{Body, Check};

/// A head longer than this is no answer of a server under test.
const HEAD_LIMIT: usize = 16 << 10;

/// Header fields that a head may have.
const FIELDS: usize = 32;

/// What a connection has of the answer that it waits for.
#[derive(Debug)]
pub(crate) struct Answer {
    length: u64,
    /// The beginning of a head that arrived in parts.
    head: Vec<u8>,
    body: Body,
    in_body: bool,
    is_last: bool,
}

impl Answer {
    /// Expects `length` bytes of the corpus with this seed.
    pub(crate) fn new(length: u64, seed: u64, check: Check) -> Self {
        Self {
            length,
            head: Vec::new(),
            body: Body::new(length, seed, check),
            in_body: false,
            is_last: false,
        }
    }

    /// Takes what has arrived and returns whether the answer is complete. The next one may
    /// follow then.
    pub(crate) fn take(&mut self, mut data: &[u8]) -> Result<bool> {
        if !self.in_body {
            match self.take_head(data)? {
                Some(rest) => data = rest,
                None => return Ok(false),
            }
            self.in_body = true;
        }
        self.body.take(data)?;
        let complete = self.body.is_complete();
        if complete {
            self.body.restart();
            self.in_body = false;
        }
        Ok(complete)
    }

    /// Expects other contents of the same length from the next answer on. None of it may have
    /// arrived.
    pub(crate) fn expect(&mut self, seed: u64) {
        self.body.expect(seed);
    }

    /// Receives the whole answer from a blocking socket.
    pub(crate) fn receive(mut self, mut from: impl Read, buffer: &mut [u8]) -> Result<()> {
        loop {
            let received = from.read(buffer).context("cannot receive")?;
            ensure!(received > 0, "the server closed a connection");
            if self.take(&buffer[..received])? {
                return Ok(());
            }
        }
    }

    /// What follows the head, once it is there.
    fn take_head<'a>(&mut self, data: &'a [u8]) -> Result<Option<&'a [u8]>> {
        if self.head.is_empty()
            && let Some(end) = head_end(data)
        {
            self.is_last = check_head(&data[..end], self.length)?;
            return Ok(Some(&data[end..]));
        }
        let before = self.head.len();
        self.head.extend_from_slice(data);
        let Some(end) = head_end(&self.head) else {
            ensure!(self.head.len() < HEAD_LIMIT, "a head of more than {HEAD_LIMIT} bytes");
            return Ok(None);
        };
        self.is_last = check_head(&self.head[..end], self.length)?;
        self.head.clear();
        // The head was incomplete without this data, so it ends within it.
        Ok(Some(&data[end - before..]))
    }

    /// Whether the server closes the connection behind the last answer whose head was seen.
    pub(crate) fn is_last(&self) -> bool {
        self.is_last
    }

    /// Bytes of the body that are expected.
    pub(crate) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes of the body that have arrived.
    pub(crate) fn received(&self) -> u64 {
        self.body.received()
    }
}

fn head_end(data: &[u8]) -> Option<usize> {
    memmem::find(data, b"\r\n\r\n").map(|at| at + 4)
}

/// Returns whether the server closes the connection behind this answer (RFC 9112, section 9.6).
fn check_head(head: &[u8], length: u64) -> Result<bool> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut response = httparse::Response::new(&mut fields);
    response.parse(head).context("cannot parse the head of an answer")?;
    if response.code != Some(200) {
        bail!("an answer with status {:?}: {}", response.code, String::from_utf8_lossy(head));
    }
    let field = |name: &str| {
        let mut fields = response.headers.iter();
        Some(fields.find(|field| field.name.eq_ignore_ascii_case(name))?.value)
    };
    let announced = field("content-length").context("an answer without Content-Length")?;
    let announced: u64 = std::str::from_utf8(announced)?.parse()?;
    ensure!(announced == length, "an answer of {announced} bytes instead of {length}");
    Ok(field("connection").is_some_and(|value| value.eq_ignore_ascii_case(b"close")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_testkit::corpus;

    fn message(length: usize, seed: u64) -> Vec<u8> {
        let mut message =
            format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n").into_bytes();
        let head = message.len();
        message.resize(head + length, 0);
        corpus::fill(seed, 0, &mut message[head..]);
        message
    }

    #[test]
    fn an_answer_may_arrive_in_any_two_parts() {
        let message = message(300, 7);
        let mut answer = Answer::new(300, 7, Check::Whole);
        for cut in 0..message.len() {
            let (first, second) = message.split_at(cut);
            assert!(!answer.take(first).unwrap(), "complete after {cut}");
            assert!(answer.take(second).unwrap(), "incomplete, cut at {cut}");
        }
    }

    #[test]
    fn an_answer_tells_whether_it_is_the_last_of_its_connection() {
        let mut answer = Answer::new(0, 7, Check::Whole);
        for (field, is_last) in [("close", true), ("keep-alive", false), ("Close", true)] {
            let head =
                format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: {field}\r\n\r\n");
            assert!(answer.take(head.as_bytes()).unwrap());
            assert_eq!(answer.is_last(), is_last, "{field}");
        }
    }

    #[test]
    fn a_wrong_answer_is_refused() {
        let take = |bytes: &[u8]| Answer::new(300, 7, Check::Whole).take(bytes);
        assert!(take(&message(300, 7)).unwrap());
        assert!(take(&message(300, 8)).is_err(), "other contents");
        assert!(take(&message(299, 7)).is_err(), "another length");
        assert!(take(b"HTTP/1.1 404 Not Found\r\nContent-Length: 300\r\n\r\n").is_err());
        assert!(take(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        let mut longer = message(300, 7);
        longer.push(b'H');
        assert!(take(&longer).is_err(), "a byte too many");
    }
}
