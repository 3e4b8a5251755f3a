//! Image servers: each request makes an image anew, in memory, and sends it. The three ways of the
//! question (docs/paper.md, Q1–Q3), two of them also with memory that is never used again, and
//! ours. Each serves one connection after another and keeps an account.
//!
//! - `GET /…-set/N.bin`: image number N, the corpus of seed + N;
//! - the same where the set is called `…-timed-set`: besides, the server looks without a pause
//!   until everything is acknowledged, which costs CPU time and tells when that was;
//! - `GET /report`: the account since the last one, as JSON.

mod ours;
mod plain;

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use sluicegate_testkit::corpus;

use crate::client::Latency;

/// The path of the account.
pub(crate) const REPORT: &str = "/report";

/// Sets of this kind are acknowledged under the server's eyes.
const TIMED: &str = "-timed-set/";

/// Room for a request, of which the path alone is looked at.
const REQUEST: usize = 4096;

/// Where an image is made, and how it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Make {
    /// Way 1: in one heap buffer, sent by `write`.
    Heap,
    /// Way 2: in one mapping of a file in memory, sent by `write`.
    Mapping,
    /// Way 3: in the same, sent by `sendfile`.
    Sendfile,
    /// In one heap buffer that the library is lent and hands back.
    Ours,
    /// The same, made to go by reference (MSG_ZEROCOPY) also where the kernel then copies.
    OursZerocopy,
    /// As way 1, with a new buffer for each image.
    HeapNew,
    /// As way 3, with a new file for each image: what is never used again is never spoilt.
    SendfileNew,
}

impl Make {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [Self; 7] = [
        Self::Heap,
        Self::Mapping,
        Self::Sendfile,
        Self::Ours,
        Self::OursZerocopy,
        Self::HeapNew,
        Self::SendfileNew,
    ];
}

impl Display for Make {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Heap => "heap",
            Self::Mapping => "mapping",
            Self::Sendfile => "sendfile",
            Self::Ours => "ours",
            Self::OursZerocopy => "ours-zerocopy",
            Self::HeapNew => "heap-new",
            Self::SendfileNew => "sendfile-new",
        })
    }
}

/// A server of images of one length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Maker {
    pub(crate) way: Make,
    /// Bytes of an image.
    pub(crate) length: u64,
    /// The seed of image 0.
    pub(crate) seed: u64,
}

impl Maker {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(self) -> Vec<String> {
        let Self { way, length, seed } = self;
        let arguments = ["reuse-floor", &way.to_string(), "--length", &length.to_string()];
        let seed = seed.to_string();
        [&arguments[..], &["--seed", &seed]].concat().into_iter().map(str::to_owned).collect()
    }
}

impl Display for Maker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.way.fmt(f)
    }
}

/// The command line of a [`Maker`].
#[derive(Debug, Args)]
pub(crate) struct ReuseFloor {
    #[arg(value_enum)]
    way: Make,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    length: usize,
    #[arg(long)]
    seed: u64,
}

impl ReuseFloor {
    /// Serves until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        // As our server listens: without pacing on the loopback.
        let listener = sluicegate::listen(self.listen).context("cannot listen")?;
        let address = sluicegate::os::local_address(&listener)?.unwrap_or(self.listen);
        println!("listening on http://{address}");
        let studio = Studio::new(self.length, self.seed)?;
        match self.way {
            Make::Ours => ours::serve(listener, studio, false),
            Make::OursZerocopy => ours::serve(listener, studio, true),
            way => plain::serve(&listener, studio, way),
        }
        .context("cannot serve")
    }
}

/// What making and sending images has cost, in microseconds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Made {
    pub(crate) images: u64,
    /// Seconds in which they were made, all together.
    pub(crate) making_s: f64,
    /// From the first call that sends to the moment at which the caller could do something else.
    pub(crate) held_us: Latency,
    /// To the moment at which the buffer may be written to again, as far as the way tells: when
    /// the last `write` returned, when `released` handed it back. `sendfile` does not tell.
    pub(crate) reusable_us: Option<Latency>,
    /// To the moment at which the peer had acknowledged everything; where it was looked for.
    pub(crate) acked_us: Option<Latency>,
}

/// What all ways share: the images, and the account.
struct Studio {
    length: usize,
    seed: u64,
    making: Duration,
    held: Histogram<u64>,
    reusable: Histogram<u64>,
    acked: Histogram<u64>,
}

impl Studio {
    fn new(length: usize, seed: u64) -> Result<Self> {
        let [held, reusable, acked] = [Histogram::new(3)?, Histogram::new(3)?, Histogram::new(3)?];
        Ok(Self { length, seed, making: Duration::ZERO, held, reusable, acked })
    }

    /// Makes an image: the same work for every way.
    fn make(&mut self, number: u64, image: &mut [u8]) {
        let start = Instant::now();
        corpus::fill(self.seed + number, 0, image);
        self.making += start.elapsed();
    }

    fn head(&self) -> Vec<u8> {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", self.length).into_bytes()
    }

    /// Enters what an image took.
    fn enter(&mut self, took: Took) -> Result<()> {
        let nanoseconds = |of: Duration| u64::try_from(of.as_nanos());
        self.held.record(nanoseconds(took.held)?)?;
        if let Some(reusable) = took.reusable {
            self.reusable.record(nanoseconds(reusable)?)?;
        }
        if let Some(acked) = took.acked {
            self.acked.record(nanoseconds(acked)?)?;
        }
        Ok(())
    }

    /// What there is, as an answer, and starts anew.
    fn report(&mut self) -> Result<Vec<u8>> {
        let of = |times: &Histogram<u64>| (!times.is_empty()).then(|| Latency::of(times));
        let made = Made {
            images: self.held.len(),
            making_s: self.making.as_secs_f64(),
            held_us: Latency::of(&self.held),
            reusable_us: of(&self.reusable),
            acked_us: of(&self.acked),
        };
        self.making = Duration::ZERO;
        for times in [&mut self.held, &mut self.reusable, &mut self.acked] {
            times.reset();
        }
        let json = serde_json::to_string(&made)?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", json.len());
        Ok((head + &json).into_bytes())
    }
}

/// What one image took, from the first call that sends.
#[derive(Debug, Clone, Copy)]
struct Took {
    held: Duration,
    reusable: Option<Duration>,
    acked: Option<Duration>,
}

/// What a client asks for.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Image { number: u64, timed: bool },
    Report,
}

impl Request {
    /// The clients send a whole request in one packet, and none ahead.
    fn read(request: &[u8]) -> Result<Self> {
        ensure!(request.ends_with(b"\r\n\r\n"), "half a request");
        let path = request.split(|&byte| byte == b' ').nth(1).context("a request without path")?;
        let path = std::str::from_utf8(path)?;
        if path == REPORT {
            return Ok(Self::Report);
        }
        let name = path.rsplit('/').next().unwrap_or_default();
        let number = name.strip_suffix(".bin").and_then(|number| number.parse().ok());
        let number = number.with_context(|| format!("{path} has no number"))?;
        Ok(Self::Image { number, timed: path.contains(TIMED) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Answer, Check};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::thread;

    const SEED: u64 = 40;

    fn server(way: Make, length: usize) -> TcpStream {
        let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = sluicegate::os::local_address(&listener.as_fd()).unwrap().unwrap();
        let studio = Studio::new(length, SEED).unwrap();
        // The thread ends with the process of the tests.
        thread::spawn(move || match way {
            Make::Ours => ours::serve(listener, studio, false),
            Make::OursZerocopy => ours::serve(listener, studio, true),
            way => plain::serve(&listener, studio, way),
        });
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    fn report(stream: &mut TcpStream) -> Made {
        stream.write_all(b"GET /report HTTP/1.1\r\n\r\n").unwrap();
        let mut received = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            let count = stream.read(&mut buffer).unwrap();
            assert!(count > 0, "no report");
            received.extend_from_slice(&buffer[..count]);
            if let Some(end) = memchr::memmem::find(&received, b"\r\n\r\n")
                && let Ok(made) = serde_json::from_slice(&received[end + 4..])
            {
                return made;
            }
        }
    }

    #[test]
    fn every_way_sends_each_image_as_it_was_made_and_accounts_for_it() {
        for way in Make::ALL {
            for length in [10_000, 3_000_000] {
                let mut stream = server(way, length);
                for number in 0..3_u64 {
                    let set = if number == 2 { "x-timed-set" } else { "x-set" };
                    let request = format!("GET /{set}/{number}.bin HTTP/1.1\r\n\r\n");
                    stream.write_all(request.as_bytes()).unwrap();
                    let answer = Answer::new(length as u64, SEED + number, Check::Whole);
                    answer.receive(&stream, &mut [0; 64 << 10]).unwrap();
                }
                let made = report(&mut stream);
                assert_eq!(made.images, 3, "{way}");
                assert!(made.making_s > 0.0 && made.held_us.max > 0.0, "{way}: {made:?}");
                assert_eq!(made.reusable_us.is_none(), way == Make::Sendfile, "{way}");
                assert!(made.acked_us.is_some(), "{way}");
                assert_eq!(report(&mut stream).images, 0, "{way}");
            }
        }
    }

    #[test]
    fn a_request_tells_its_image_and_whether_it_is_timed() {
        let of = |path: &str| Request::read(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).ok();
        assert_eq!(of("/1MB-set/7.bin"), Some(Request::Image { number: 7, timed: false }));
        assert_eq!(of("/1MB-timed-set/0.bin"), Some(Request::Image { number: 0, timed: true }));
        assert_eq!(of("/report"), Some(Request::Report));
        assert_eq!(of("/1MB-set/x.bin"), None);
    }
}
