//! Ways to hand a file over to the kernel: those of the paper's Figure 3 (docs/paper.md, P63), as
//! far as a stock kernel has them, and ours. Each serves one connection after another, and keeps
//! an account of how long its caller was held.
//!
//! - `GET /…`: a head, in which the moment is told at which the hand-over begins, and the file;
//! - `GET /report`: the account since the last one, as JSON;
//! - `GET /calls` and `GET /stuff`, ours alone: see [`ours`].

mod in_calls;
mod ours;

use std::fmt::{self, Display};
use std::fs::File;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use sluicegate_sys::outq;

pub(crate) use self::ours::Calls;
use crate::client::Latency;
use crate::harness::clock::{HANDED, monotonic_ns};

/// The paths that are no file.
pub(crate) const REPORT: &str = "/report";
pub(crate) const CALLS: &str = "/calls";
pub(crate) const STUFF: &str = "/stuff";

/// Room for a request, of which the path alone is looked at.
const REQUEST: usize = 4096;

/// How a file is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum HandOver {
    /// `sendfile` on a blocking socket.
    Blocking,
    /// `sendfile` on a non-blocking socket, and `poll` whenever it is full.
    Polling,
    /// This project's library: queued on a socket, sent by the reactor.
    Ours,
}

impl HandOver {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(self) -> Vec<String> {
        vec!["figure3-floor".to_owned(), self.to_string()]
    }
}

impl Display for HandOver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Blocking => "blocking",
            Self::Polling => "polling",
            Self::Ours => "ours",
        })
    }
}

/// The command line of a [`HandOver`].
#[derive(Debug, Args)]
pub(crate) struct Figure3Floor {
    #[arg(value_enum)]
    way: HandOver,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    file: PathBuf,
}

impl Figure3Floor {
    /// Serves until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        let file = File::open(&self.file);
        let file = file.with_context(|| format!("cannot open {}", self.file.display()))?;
        // As our server listens: without pacing on the loopback.
        let listener = sluicegate::listen(self.listen).context("cannot listen")?;
        let address = sluicegate::os::local_address(&listener)?.unwrap_or(self.listen);
        println!("listening on http://{address}");
        match self.way {
            HandOver::Blocking => in_calls::serve(&listener, &file, true),
            HandOver::Polling => in_calls::serve(&listener, &file, false),
            HandOver::Ours => ours::serve(listener, file),
        }
        .context("cannot serve")
    }
}

/// What handing files over has cost their caller.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) transfers: u64,
    /// Calls that handed over, of all transfers.
    pub(crate) calls: u64,
    /// Of each transfer, the time within those calls: the caller can do nothing else in it.
    pub(crate) held_us: Latency,
    /// From the first call to the moment at which the kernel had accepted the last byte.
    pub(crate) accepted_us: Latency,
    /// Bytes that were not acknowledged at that moment, in the middle of all transfers.
    pub(crate) unacked: u64,
}

/// The account that becomes a [`Report`].
struct Account {
    calls: u64,
    held: Histogram<u64>,
    accepted: Histogram<u64>,
    unacked: Histogram<u64>,
}

impl Account {
    fn new() -> Result<Self> {
        let histogram = || Histogram::new(3);
        Ok(Self { calls: 0, held: histogram()?, accepted: histogram()?, unacked: histogram()? })
    }

    /// A transfer on this socket has just been accepted to its last byte.
    fn add(
        &mut self,
        socket: BorrowedFd<'_>,
        calls: u64,
        held: Duration,
        accepted: Duration,
    ) -> Result<()> {
        self.unacked.record(outq::unacknowledged(socket)?)?;
        self.calls += calls;
        self.held.record(nanoseconds(held)?)?;
        self.accepted.record(nanoseconds(accepted)?)?;
        Ok(())
    }

    /// What there is, and starts anew.
    fn report(&mut self) -> Report {
        let report = Report {
            transfers: self.held.len(),
            calls: self.calls,
            held_us: Latency::of(&self.held),
            accepted_us: Latency::of(&self.accepted),
            unacked: self.unacked.value_at_quantile(0.5),
        };
        self.calls = 0;
        self.held.reset();
        self.accepted.reset();
        self.unacked.reset();
        report
    }
}

fn nanoseconds(duration: Duration) -> Result<u64> {
    Ok(u64::try_from(duration.as_nanos())?)
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    File,
    Report,
    Calls,
    Stuff,
}

impl Request {
    /// The clients send a whole request in one packet, and none ahead.
    fn read(request: &[u8]) -> Result<Self> {
        ensure!(request.ends_with(b"\r\n\r\n"), "half a request");
        let path = request.split(|&byte| byte == b' ').nth(1).context("a request without path")?;
        let is = |known: &str| path == known.as_bytes();
        Ok(match () {
            () if is(REPORT) => Self::Report,
            () if is(CALLS) => Self::Calls,
            () if is(STUFF) => Self::Stuff,
            () => Self::File,
        })
    }
}

/// A head that tells that the hand-over begins now.
fn head(length: u64) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\n{HANDED}{}\r\nContent-Length: {length}\r\n\r\n", monotonic_ns())
        .into_bytes()
}

/// An answer of JSON.
fn answer(what: &impl Serialize) -> Result<Vec<u8>> {
    let json = serde_json::to_string(what)?;
    Ok(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len()).into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Answer, Check};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::thread;

    fn ask(stream: &mut TcpStream, path: &str) {
        stream.write_all(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).unwrap();
    }

    fn json<T: serde::de::DeserializeOwned>(stream: &mut TcpStream) -> T {
        let mut received = Vec::new();
        loop {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            received.push(byte[0]);
            if let Some(body) = received.windows(4).position(|end| end == b"\r\n\r\n")
                && let Ok(value) = serde_json::from_slice(&received[body + 4..])
            {
                return value;
            }
        }
    }

    fn server(way: HandOver, length: u64) -> SocketAddr {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("body.bin");
        sluicegate_testkit::corpus::write_file(&path, 5, length).unwrap();
        let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = sluicegate::os::local_address(&listener.as_fd()).unwrap().unwrap();
        let file = File::open(path).unwrap();
        // The thread ends with the process of the tests.
        thread::spawn(move || match way {
            HandOver::Blocking => in_calls::serve(&listener, &file, true),
            HandOver::Polling => in_calls::serve(&listener, &file, false),
            HandOver::Ours => ours::serve(listener, file),
        });
        address
    }

    #[test]
    fn every_way_hands_over_whole_files_and_accounts_for_each() {
        const LENGTH: u64 = 9 << 20;
        for &way in HandOver::value_variants() {
            let mut stream = TcpStream::connect(server(way, LENGTH)).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for _ in 0..3 {
                ask(&mut stream, "/body");
                let answer = Answer::new(LENGTH, 5, Check::Whole);
                answer.receive(&stream, &mut [0; 64 << 10]).unwrap();
            }
            ask(&mut stream, REPORT);
            let report: Report = json(&mut stream);
            assert_eq!(report.transfers, 3, "{way}");
            let calls = if way == HandOver::Ours { 3..=3 } else { 3..=30_000 };
            assert!(calls.contains(&report.calls), "{way}: {report:?}");
            assert!(report.held_us.max <= report.accepted_us.max, "{way}: {report:?}");
            ask(&mut stream, REPORT);
            assert_eq!(json::<Report>(&mut stream).transfers, 0, "{way}");
        }
    }

    #[test]
    fn calls_are_timed_on_an_idle_socket_and_on_a_stuffed_one() {
        let address = server(HandOver::Ours, 100_000);
        let mut stuffed = TcpStream::connect(address).unwrap();
        stuffed.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        ask(&mut stuffed, STUFF);
        // Served when the first one is done with.
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        ask(&mut stream, CALLS);
        let calls: Calls = json(&mut stream);
        assert!(calls.idle_us.p50 > 0.0 && calls.stuffed_us.unwrap().p50 > 0.0, "{calls:?}");
        // The stuffed one has been ended by a reset.
        assert!(stuffed.read_to_end(&mut Vec::new()).is_err());
        // The stream is as it was.
        ask(&mut stream, "/body");
        let answer = Answer::new(100_000, 5, Check::Whole);
        answer.receive(&stream, &mut [0; 64 << 10]).unwrap();
    }

    #[test]
    fn a_request_is_known_by_its_path() {
        let of = |text: &str| Request::read(text.as_bytes()).ok();
        assert_eq!(of("GET /report HTTP/1.1\r\n\r\n"), Some(Request::Report));
        assert_eq!(of("GET /reports HTTP/1.1\r\n\r\n"), Some(Request::File));
        assert_eq!(of("GET /report HTTP/1.1\r\n"), None);
        assert_eq!(of("\r\n\r\n"), None);
    }
}
