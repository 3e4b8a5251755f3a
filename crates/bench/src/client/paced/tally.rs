//! A body of which the wrong bytes are counted.

use anyhow::{Result, ensure};
use sluicegate_testkit::corpus;

/// How far it has come.
pub(super) struct Tally {
    length: u64,
    seed: u64,
    /// The head, until it is whole.
    head: Option<Vec<u8>>,
    pub(super) received: u64,
    pub(super) wrong: u64,
    expected: Vec<u8>,
}

impl Tally {
    pub(super) fn new(length: u64, seed: u64) -> Self {
        let head = Some(Vec::new());
        Self { length, seed, head, received: 0, wrong: 0, expected: Vec::new() }
    }

    /// Takes what has arrived; returns whether it is complete.
    pub(super) fn take(&mut self, data: &[u8]) -> Result<bool> {
        let Some(head) = &mut self.head else { return self.body(data) };
        let before = head.len();
        head.extend_from_slice(data);
        let Some(end) = memchr::memmem::find(head, b"\r\n\r\n") else { return Ok(false) };
        let status = String::from_utf8_lossy(&head[..head.len().min(15)]).into_owned();
        let is_good =
            [b"HTTP/1.1 200 ", b"HTTP/1.0 200 "].iter().any(|good| head.starts_with(*good));
        ensure!(is_good, "an answer that begins with {status:?}");
        self.head = None;
        // The head was incomplete without this data, so it ends within it.
        self.body(&data[end + 4 - before..])
    }

    fn body(&mut self, data: &[u8]) -> Result<bool> {
        self.expected.resize(data.len(), 0);
        corpus::fill(self.seed, self.received, &mut self.expected);
        if self.expected != data {
            let pairs = self.expected.iter().zip(data);
            self.wrong += pairs.filter(|(expected, found)| expected != found).count() as u64;
        }
        self.received += data.len() as u64;
        ensure!(self.received <= self.length, "more than was announced");
        Ok(self.received == self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_bytes_are_counted_behind_a_head_in_any_two_parts() {
        let mut message = b"HTTP/1.1 200 OK\r\nContent-Length: 300\r\n\r\n".to_vec();
        let at = message.len();
        message.resize(at + 300, 0);
        corpus::fill(7, 0, &mut message[at..]);
        message[at + 5] ^= 1;
        message[at + 299] ^= 1;
        for cut in 0..message.len() {
            let mut tally = Tally::new(300, 7);
            assert!(!tally.take(&message[..cut]).unwrap(), "{cut}");
            assert!(tally.take(&message[cut..]).unwrap(), "{cut}");
            assert_eq!((tally.received, tally.wrong), (300, 2));
        }
        assert!(Tally::new(1, 7).take(b"HTTP/1.1 502 Bad Gateway\r\n\r\n").is_err());
    }
}
