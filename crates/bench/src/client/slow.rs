//! Very many downloads, each of which is read slowly: at a fixed rate, whatever the server could
//! do, with a receive buffer so small that most of a file has to wait at the server.
//!
//! One thread and a timer wheel: each download has its turn every 160 ms and then receives what
//! its rate allows since the last one, if it is there. A download that finds too little loses
//! what it could not use: like a narrow line it never catches up, and so shows who was starved.

mod download;
mod kernel;
mod queued;
mod wheel;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::download::Download;
pub(crate) use self::kernel::KernelMemory;
use self::queued::queued;
use self::wheel::Wheel;
use super::{Check, Resource, Server};
use crate::harness::cpu::CoreTime;
use crate::harness::memory::Memory;
use crate::harness::round::Window;

/// New connections in a tick: 5,000 a second, which no accept queue overflows of.
const CONNECTED_AT_ONCE: usize = 50;

/// Looks at the memory within a window; the largest counts.
const LOOKS: u32 = 3;

/// After the last connection was closed, until the cores are free again.
const PAUSE: Duration = Duration::from_millis(500);

/// A download may take so much longer than its rate says. What is not complete then was starved,
/// which is a finding and no failure of the run.
const GRACE: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct Slow {
    #[command(flatten)]
    resource: Resource,
    /// How many at once.
    #[arg(long)]
    downloads: usize,
    /// Bytes that each may receive in a second.
    #[arg(long)]
    rate: u64,
    /// What each asks for as its receive buffer (`SO_RCVBUF`), in bytes.
    #[arg(long)]
    receive_buffer: usize,
    /// How much of each body is compared.
    #[arg(long, value_enum)]
    check: Check,
    /// Milliseconds from the last connection to the window.
    #[arg(long)]
    warm_up: u64,
    /// Milliseconds of the window, within which all downloads must be under way.
    #[arg(long)]
    window: u64,
    /// Goes on behind the window, until every download is complete.
    #[arg(long)]
    to_the_end: bool,
    #[command(flatten)]
    server: Server,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SlowLoad {
    pub(crate) downloads: usize,
    /// Seconds from the first connection to the last.
    pub(crate) connecting_s: f64,
    /// From the first connection to the end of the window.
    pub(crate) work: Work,
    /// To the end of the last download, or of the patience with it.
    pub(crate) whole: Option<Work>,
    /// All other programs of the machine but the client, by time, to the end of the window.
    pub(crate) noise: f64,
    /// Round trip between the cores of server and client, before and after, in nanoseconds.
    pub(crate) distances_ns: [f64; 2],
    pub(crate) window_s: f64,
    /// Bytes of a second of the downloads in the window.
    pub(crate) rates: Rates,
    /// How late a turn was in the window, at most, in milliseconds: of the client's making.
    pub(crate) lag_ms: f64,
    /// The server's process before the first connection, and at most in the window.
    pub(crate) server: [Memory; 2],
    /// The same of the kernel, with what it keeps for the clients: theirs are alike.
    pub(crate) kernel: [KernelMemory; 2],
    /// Downloads that came to their ends.
    pub(crate) complete: usize,
    /// Seconds that the slowest of them took.
    pub(crate) slowest_s: Option<f64>,
}

/// What a server did since the first connection. Its own time lies where it hands bytes over; when
/// they are received later, it is the clients' core that sends them on. So its time is held against
/// what was handed over, and not against what was received: of two servers the one with fuller
/// queues would otherwise look idle.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Work {
    pub(crate) seconds: f64,
    /// Bytes of bodies that were received.
    pub(crate) received: u64,
    /// Bytes that waited in the sockets.
    pub(crate) queued: u64,
    /// The server's core.
    pub(crate) core: CoreTime,
    /// The server's own threads, in seconds.
    pub(crate) threads_s: f64,
}

impl Work {
    /// Bytes that the server's kernel has accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.received + self.queued
    }
}

/// The rates of many downloads, in bytes a second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Rates {
    pub(crate) slowest: f64,
    /// Of a hundred downloads one is slower.
    pub(crate) slow: f64,
    pub(crate) median: f64,
    pub(crate) fastest: f64,
}

impl Rates {
    fn of(mut rates: Vec<f64>) -> Option<Self> {
        rates.sort_by(f64::total_cmp);
        let (slowest, fastest) = (*rates.first()?, *rates.last()?);
        let (slow, median) = (rates[rates.len() / 100], rates[rates.len() / 2]);
        Some(Self { slowest, slow, median, fastest })
    }
}

impl Window for SlowLoad {
    fn noise(&self) -> f64 {
        self.noise
    }

    /// The client sets the pace: parts of a window say nothing of the cores.
    fn slices(&self) -> &[u64] {
        &[]
    }

    fn distances(&self) -> [f64; 2] {
        self.distances_ns
    }
}

impl Slow {
    pub(crate) fn run(&self) -> Result<SlowLoad> {
        sluicegate_sys::limits::raise_descriptors().context("cannot raise the descriptor limit")?;
        let nearby = self.server.distance()?;
        // So that what the server keeps of the file itself is there before.
        self.open()?.finish()?;
        let memory = (Memory::read(self.server.pid)?, KernelMemory::read()?);
        let others = self.server.others()?;
        let account = Account::open(self)?;

        let mut readers = Readers::new(self);
        readers.turn_until(|readers| readers.downloads.len() == self.downloads)?;
        let connecting_s = account.start.elapsed().as_secs_f64();
        let warm = Instant::now() + Duration::from_millis(self.warm_up);
        readers.turn_until(|_| Instant::now() >= warm)?;

        let begin = Instant::now();
        readers.begin();
        let mut most = memory;
        for look in 1..=LOOKS {
            let end = begin + Duration::from_millis(self.window) * look / LOOKS;
            readers.turn_until(|_| Instant::now() >= end)?;
            most.0 = larger(most.0, Memory::read(self.server.pid)?);
            most.1 = most.1.larger(KernelMemory::read()?);
        }
        let window_s = begin.elapsed().as_secs_f64();
        let work = account.read(&readers)?;
        let noise = (self.server.others()? - others) / account.start.elapsed().as_secs_f64();
        ensure!(readers.complete == 0, "downloads ended within the window: it is too long");
        let got = readers.downloads.iter().map(Download::since_begin);
        let rates = Rates::of(got.map(|bytes| bytes as f64 / window_s).collect());
        let lag_ms = readers.lag.as_secs_f64() * 1e3;

        let whole = if self.to_the_end { Some(self.finish(&mut readers, &account)?) } else { None };
        let (complete, slowest_s) = (readers.complete, readers.slowest());
        drop(readers);
        std::thread::sleep(PAUSE);
        Ok(SlowLoad {
            downloads: self.downloads,
            connecting_s,
            work,
            whole,
            noise,
            distances_ns: [nearby, self.server.distance()?],
            window_s,
            rates: rates.context("no downloads")?,
            lag_ms,
            server: [memory.0, most.0],
            kernel: [memory.1, most.1],
            complete,
            slowest_s,
        })
    }

    /// Reads on until every download is complete, or should long have been.
    fn finish(&self, readers: &mut Readers<'_>, account: &Account) -> Result<Work> {
        let due = self.resource.length as f64 / self.rate as f64;
        let end = Instant::now() + Duration::from_secs_f64(due) + GRACE;
        readers.turn_until(|readers| {
            readers.complete == readers.downloads.len() || Instant::now() >= end
        })?;
        account.read(readers)
    }

    fn open(&self) -> Result<Download> {
        Download::open(&self.resource, self.check, self.receive_buffer)
    }
}

/// What was on the server's account at the first connection.
struct Account {
    start: Instant,
    port: u16,
    server: Server,
    core: CoreTime,
    threads_s: f64,
}

impl Account {
    fn open(plan: &Slow) -> Result<Self> {
        let server = plan.server.clone();
        let (core, threads_s) = (server.core()?, server.threads()?);
        let port = plan.resource.address.port();
        Ok(Self { start: Instant::now(), port, server, core, threads_s })
    }

    fn read(&self, readers: &Readers<'_>) -> Result<Work> {
        Ok(Work {
            seconds: self.start.elapsed().as_secs_f64(),
            core: self.server.core()? - self.core,
            threads_s: self.server.threads()? - self.threads_s,
            received: readers.downloads.iter().map(Download::received).sum(),
            // Last, since it takes a while.
            queued: queued(self.port)?,
        })
    }
}

fn larger(one: Memory, another: Memory) -> Memory {
    if one.resident >= another.resident { one } else { another }
}

/// All downloads, read in turns.
struct Readers<'a> {
    plan: &'a Slow,
    wheel: Wheel,
    downloads: Vec<Download>,
    complete: usize,
    lag: Duration,
    buffer: Vec<u8>,
}

impl<'a> Readers<'a> {
    fn new(plan: &'a Slow) -> Self {
        let most = download::depth(plan.rate);
        Self {
            plan,
            wheel: Wheel::new(Instant::now()),
            downloads: Vec::with_capacity(plan.downloads),
            complete: 0,
            lag: Duration::ZERO,
            buffer: vec![0; usize::try_from(most).unwrap_or(usize::MAX)],
        }
    }

    /// Connects those that are missing, and receives, tick by tick, until `is_over`.
    fn turn_until(&mut self, is_over: impl Fn(&Self) -> bool) -> Result<()> {
        while !is_over(self) {
            let (turn, due) = self.wheel.next();
            let now = Instant::now();
            match due.checked_duration_since(now) {
                Some(early) => std::thread::sleep(early),
                None => self.lag = self.lag.max(now - due),
            }
            let missing = self.plan.downloads - self.downloads.len();
            for _ in 0..missing.min(CONNECTED_AT_ONCE) {
                let download = self.plan.open();
                let number = self.downloads.len() + 1;
                self.downloads.push(download.with_context(|| format!("download {number}"))?);
            }
            for (number, download) in turn.of(&mut self.downloads) {
                let done = download.turn(self.plan.rate, &mut self.buffer);
                if done.with_context(|| format!("download {}", number + 1))? {
                    self.complete += 1;
                }
            }
        }
        Ok(())
    }

    /// The window begins.
    fn begin(&mut self) {
        self.lag = Duration::ZERO;
        for download in &mut self.downloads {
            download.begin();
        }
    }

    /// Seconds that the slowest complete download took.
    fn slowest(&self) -> Option<f64> {
        self.downloads
            .iter()
            .filter_map(Download::took)
            .map(|took| took.as_secs_f64())
            .reduce(f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_told_by_their_order() {
        let rates = Rates::of((0..200).rev().map(f64::from).collect()).unwrap();
        assert_eq!(rates, Rates { slowest: 0.0, slow: 2.0, median: 100.0, fastest: 199.0 });
        assert_eq!(Rates::of(Vec::new()), None);
    }
}
