//! What harness and peer say to each other: lines of JSON over TCP, each with an end in sight.
//!
//! ```text
//!   harness                                peer
//!   "sluicegate-bench peer 1"        ─▶
//!                                    ◀─    {"hello": {…}}
//!   {"download": {…}}                ─▶    connects, warms up
//!                                    ◀─    "ready"
//!   "go"                             ─▶    downloads
//!                                    ◀─    {"done": {…}}
//!   {"stall": {…}}                   ─▶    asks, and reads nothing
//!                                    ◀─    "stalled"
//! ```
//!
//! Whatever else is said ends the conversation with `{"failed": "why"}`. A peer connects to nobody
//! but the host that gives it orders, and everything it does has a limit in time.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use memchr::memchr;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::client::{Check, Latency};
use crate::harness::interrupt;

/// The first line of a harness. The number is that of the protocol.
pub(super) const GREETING: &str = "sluicegate-bench peer 1";

/// The port of a peer that is named without one.
pub(super) const PORT: u16 = 7363;

/// A line is no longer: the longest real one is a few hundred bytes.
const LINE: usize = 16 << 10;

/// Longer than any download of an experiment, 4 GiB over a wire of 50 MB/s among them.
pub(super) const LONGEST: Duration = Duration::from_secs(300);

/// How often a wait looks whether the user interrupted it.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(100);

/// What a harness says after its greeting.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Order {
    Download(Download),
    Go,
    Stall(Stall),
}

/// What a peer says.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Word {
    Hello(Hello),
    Ready,
    Done(Downloaded),
    Stalled,
    Failed(String),
}

/// Who the peer is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub(crate) version: String,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    /// `/proc/sys/kernel/random/boot_id`: the same one means the same host, and the same clock.
    pub(crate) boot: String,
    /// The core that it runs on.
    pub(crate) cpu: usize,
}

/// Downloads of one file, one after another on one connection.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Download {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// Bytes of the body, and the seed of its contents.
    pub(crate) length: u64,
    pub(crate) seed: u64,
    pub(crate) check: Check,
    /// Downloads that are not counted.
    pub(crate) warm_up: u32,
    /// Goes on for so many milliseconds, and counts one download at least.
    pub(crate) for_ms: u64,
    /// Asks the socket without end instead of waiting for it: waking a receiver is work, for the
    /// server's core too, and takes longer than a small file does. Not where something else has
    /// to run on the receiver's core.
    pub(crate) spins: bool,
}

/// A download whose receiver never reads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stall {
    pub(crate) address: SocketAddr,
    pub(crate) path: String,
    /// Until the server ends the connection, but no longer.
    pub(crate) limit_ms: u64,
}

/// What came of a [`Download`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Downloaded {
    pub(crate) window_s: f64,
    pub(crate) downloads: u64,
    /// From the request's send to the first and to the last byte of the answer.
    pub(crate) first_us: Latency,
    pub(crate) whole_us: Latency,
    /// From the beginning of the hand-over, by the server's clock, to the first byte, by ours.
    /// Of servers that tell when they began; it means something on one host alone.
    pub(crate) since_handed_us: Option<Latency>,
}

/// A connection as lines that are bounded in length and in time.
#[derive(Debug)]
pub(super) struct Lines {
    stream: TcpStream,
    /// What was received behind the last line.
    rest: Vec<u8>,
}

impl Lines {
    pub(super) fn new(stream: TcpStream) -> Result<Self> {
        stream.set_nodelay(true)?;
        // Lines are short, and the other side reads them at once.
        stream.set_write_timeout(Some(Duration::from_secs(10)))?;
        Ok(Self { stream, rest: Vec::new() })
    }

    /// Sends a text as it is.
    pub(super) fn write(&mut self, line: &str) -> Result<()> {
        let line = format!("{line}\n");
        self.stream.write_all(line.as_bytes()).context("the control connection broke")
    }

    pub(super) fn say(&mut self, what: &impl Serialize) -> Result<()> {
        self.write(&serde_json::to_string(what)?)
    }

    /// The next line; `None` when the other side is gone.
    pub(super) fn read(&mut self, limit: Duration) -> Result<Option<String>> {
        let deadline = Instant::now() + limit;
        let mut buffer = [0; 4096];
        loop {
            let end = memchr(b'\n', &self.rest);
            ensure!(end.unwrap_or(self.rest.len()) < LINE, "a line of more than {LINE} bytes");
            if let Some(end) = end {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                let line = String::from_utf8(line).ok().context("a line that is not UTF-8")?;
                return Ok(Some(line.trim_end().to_owned()));
            }
            interrupt::check()?;
            let left = deadline.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "nothing was said for {limit:?}");
            self.stream.set_read_timeout(Some(left.min(INTERRUPT_INTERVAL)))?;
            match self.stream.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(count) => self.rest.extend_from_slice(&buffer[..count]),
                Err(error) if is_not_yet(&error) => {}
                Err(error) => return Err(error).context("the control connection broke"),
            }
        }
    }

    /// The next line, understood; `None` when the other side is gone.
    pub(super) fn hear<T: DeserializeOwned>(&mut self, limit: Duration) -> Result<Option<T>> {
        let Some(line) = self.read(limit)? else { return Ok(None) };
        match serde_json::from_str(&line) {
            Ok(word) => Ok(Some(word)),
            Err(error) => bail!("cannot understand {}: {error}", shortened(&line)),
        }
    }
}

/// Whether a read only has to be tried again.
pub(super) fn is_not_yet(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

/// The beginning of a line, for messages.
pub(super) fn shortened(line: &str) -> String {
    const SHOWN: usize = 60;
    let shown: String = line.chars().take(SHOWN).collect();
    let dots = if line.chars().nth(SHOWN).is_some() { "…" } else { "" };
    format!("{shown:?}{dots}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn pair() -> (Lines, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let other = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (Lines::new(listener.accept().unwrap().0).unwrap(), other)
    }

    #[test]
    fn lines_come_one_by_one_however_they_arrive() {
        let (mut lines, mut other) = pair();
        other.write_all(b"\"ready\"\n{\"fai").unwrap();
        let limit = Duration::from_secs(5);
        assert_eq!(lines.hear::<Word>(limit).unwrap(), Some(Word::Ready));
        other.write_all(b"led\":\"x\"}\r\n").unwrap();
        assert_eq!(lines.hear::<Word>(limit).unwrap(), Some(Word::Failed("x".into())));
        drop(other);
        assert_eq!(lines.hear::<Word>(limit).unwrap(), None);
    }

    #[test]
    fn what_is_too_long_too_late_or_no_word_is_refused() {
        let (mut lines, mut other) = pair();
        other.write_all(b"GET / HTTP/1.1\n").unwrap();
        let error = lines.hear::<Word>(Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("GET / HTTP/1.1"), "{error}");
        let error = lines.read(Duration::from_millis(20)).unwrap_err();
        assert!(error.to_string().contains("nothing was said"), "{error}");
        other.write_all(&vec![b'a'; LINE + 1]).unwrap();
        let error = lines.read(Duration::from_secs(5)).unwrap_err();
        assert!(error.to_string().contains("more than"), "{error}");
    }

    #[test]
    fn an_order_survives_the_round_trip_and_one_with_unknown_fields_is_refused() {
        let order = Order::Stall(Stall {
            address: "127.0.0.1:80".parse().unwrap(),
            path: "/".to_owned(),
            limit_ms: 5,
        });
        let json = serde_json::to_string(&order).unwrap();
        assert_eq!(serde_json::from_str::<Order>(&json).unwrap(), order);
        let more = json.replace("limit_ms", "limit");
        assert!(serde_json::from_str::<Order>(&more).is_err());
    }
}
