//! The least that a log of requests costs: a line in the combined format for each, made when the
//! request comes, gathered, and written 64 KiB at a time or after a second.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use memchr::{memchr, memmem};
use rustix::time::{ClockId, clock_gettime};

use crate::harness::machine::civil;

const BUFFER: usize = 64 << 10;

/// Longer than any line of a measurement.
const LINE: usize = 1 << 10;

/// How long a line may wait.
const PATIENCE: Duration = Duration::from_secs(1);

/// A log under way.
pub(super) struct Log {
    file: File,
    buffer: Vec<u8>,
    /// What an answer says after the request: its status and its length.
    outcome: String,
    /// The second that `date` shows, of the coarse clock.
    second: i64,
    date: String,
}

impl Log {
    pub(super) fn open(path: &Path, length: u64) -> io::Result<Self> {
        Ok(Self {
            file: OpenOptions::new().append(true).create(true).open(path)?,
            buffer: Vec::with_capacity(BUFFER + LINE),
            outcome: format!("\" 200 {length} \"-\" \""),
            second: -1,
            date: String::new(),
        })
    }

    /// Adds the line of a request, whose head is `head`.
    pub(super) fn line(&mut self, peer: Option<SocketAddr>, head: &[u8]) -> io::Result<()> {
        let now = clock_gettime(ClockId::RealtimeCoarse).tv_sec;
        if now != self.second {
            self.second = now;
            self.date = date(now);
            // Written at least once a second while requests come.
            self.write()?;
        }
        match peer {
            Some(peer) => write!(self.buffer, "{}", peer.ip())?,
            None => self.buffer.push(b'-'),
        }
        self.buffer.extend_from_slice(b" - - [");
        self.buffer.extend_from_slice(self.date.as_bytes());
        self.buffer.extend_from_slice(b"] \"");
        self.buffer.extend_from_slice(&head[..memchr(b'\r', head).unwrap_or(0)]);
        self.buffer.extend_from_slice(self.outcome.as_bytes());
        self.buffer.extend_from_slice(agent(head));
        self.buffer.extend_from_slice(b"\"\n");
        if self.buffer.len() >= BUFFER { self.write() } else { Ok(()) }
    }

    /// How long nothing may happen until [`Log::write`] is due; `None` when nothing waits.
    pub(super) fn patience(&self) -> Option<Duration> {
        (!self.buffer.is_empty()).then_some(PATIENCE)
    }

    /// Writes what waits.
    pub(super) fn write(&mut self) -> io::Result<()> {
        self.file.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

fn agent(head: &[u8]) -> &[u8] {
    const NAME: &[u8] = b"User-Agent: ";
    let Some(at) = memmem::find(head, NAME) else { return b"-" };
    let value = &head[at + NAME.len()..];
    &value[..memchr(b'\r', value).unwrap_or(value.len())]
}

/// `22/Nov/2026:09:31:52 +0000`.
fn date(second: i64) -> String {
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let second = u64::try_from(second).unwrap_or(0);
    let (year, month, day) = civil(second / 86_400);
    let month = MONTHS[(month - 1) as usize];
    let second = second % 86_400;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{day:02}/{month}/{year}:{hour:02}:{minute:02}:{second:02} +0000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_combined_format_and_is_written_when_it_is_due() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::open(&path, 1024).unwrap();
        assert_eq!(log.patience(), None);
        let head = b"GET /a HTTP/1.1\r\nHost: h\r\nUser-Agent: me/1\r\n\r\n";
        log.line(Some("127.0.0.1:9".parse().unwrap()), head).unwrap();
        assert!(log.patience().is_some());
        assert_eq!(std::fs::read(&path).unwrap(), b"");
        log.write().unwrap();
        let line = std::fs::read_to_string(&path).unwrap();
        assert!(line.starts_with("127.0.0.1 - - ["), "{line}");
        let end = " +0000] \"GET /a HTTP/1.1\" 200 1024 \"-\" \"me/1\"\n";
        assert!(line.ends_with(end), "{line}");
    }

    #[test]
    fn a_full_buffer_is_written_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = Log::open(&path, 1).unwrap();
        for _ in 0..2000 {
            log.line(None, b"GET / HTTP/1.1\r\n\r\n").unwrap();
        }
        assert!(std::fs::metadata(&path).unwrap().len() >= BUFFER as u64);
    }

    #[test]
    fn seconds_become_dates() {
        assert_eq!(date(0), "01/Jan/1970:00:00:00 +0000");
        assert_eq!(date(1_795_339_912), "22/Nov/2026:09:31:52 +0000");
    }
}
