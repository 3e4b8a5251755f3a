//! Downloads at a pace of the client's: as fast as a link gives them, or so many bytes a second
//! each. A reader that finds too little loses what it could not use, like a narrow line.

mod reader;
mod tally;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::{Deserialize, Serialize};

use self::reader::Reader;
use super::{Check, Resource, Server};
use crate::harness::clock::monotonic_ns;
use crate::harness::cpu::CoreTime;
use crate::harness::round::Window;

/// How often a few readers have their turn, and how often many have.
const TICKS: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(10)];
const FEW: usize = 8;

/// What a reader may save up that it could not use.
const SAVED: Duration = Duration::from_millis(20);

/// Connections that are made in one turn.
const CONNECTED_AT_ONCE: usize = 50;

/// Failures that are told of in words.
const TOLD: usize = 5;

#[derive(Debug, Args)]
pub(crate) struct Paced {
    #[command(flatten)]
    resource: Resource,
    /// How many at once.
    #[arg(long, default_value_t = 1)]
    downloads: usize,
    /// Bytes that each may receive in a second; otherwise as many as come, of one download.
    #[arg(long)]
    rate: Option<u64>,
    /// What each asks for as its receive buffer (`SO_RCVBUF`), in bytes.
    #[arg(long)]
    receive_buffer: Option<usize>,
    /// How much of each body is compared.
    #[arg(long, value_enum)]
    check: Check,
    /// Counts bytes that are wrong instead of failing at the first one.
    #[arg(long)]
    tallies: bool,
    /// Asks by HTTP/1.0, and takes a body without a length: its end is that of its connection, or of
    /// what was expected.
    #[arg(long, requires = "tallies")]
    endless: bool,
    /// Counts downloads that are cut off instead of failing with the first one.
    #[arg(long)]
    may_be_cut: bool,
    /// A download that is complete is followed by another, until so many milliseconds are over.
    #[arg(long)]
    window: Option<u64>,
    /// Milliseconds before that window.
    #[arg(long, default_value_t = 0)]
    warm_up: u64,
    /// Gives up after so many seconds without a byte.
    #[arg(long, default_value_t = 30)]
    silence: u64,
    #[command(flatten)]
    server: Server,
}

/// One download that is over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Download {
    /// When it was asked for, and when its last byte came, in nanoseconds of the host's clock.
    pub(crate) began: u64,
    pub(crate) ended: u64,
    /// Milliseconds to the first byte of the answer.
    pub(crate) first_ms: f64,
    pub(crate) is_whole: bool,
    /// Bytes of the body that came.
    pub(crate) received: u64,
    /// Those that were not what they should be, where they are counted.
    pub(crate) wrong: u64,
}

impl Download {
    /// Seconds from the request to the last byte.
    pub(crate) fn took_s(&self) -> f64 {
        (self.ended - self.began) as f64 / 1e9
    }
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct PacedLoad {
    /// From the first request, or the window's begin, to the last byte, or its end.
    pub(crate) seconds: f64,
    /// Bytes of bodies in that time.
    pub(crate) received: u64,
    /// Downloads that ended in that time.
    pub(crate) downloads: Vec<Download>,
    /// Why some were cut, and how many for the same reason.
    pub(crate) told: BTreeMap<String, u64>,
    /// The server's core.
    pub(crate) core: CoreTime,
    /// The server's own threads, in seconds.
    pub(crate) server_threads_s: f64,
    /// All other programs of the machine, in seconds.
    pub(crate) others_s: f64,
    /// Round trip between the cores of server and client, before and after, in nanoseconds.
    pub(crate) distances_ns: [f64; 2],
}

impl PacedLoad {
    /// Seconds of the server's core, by what it was not idle.
    pub(crate) fn core_s(&self) -> f64 {
        self.core.worked(self.seconds)
    }

    /// Seconds of the server's core for each GiB.
    pub(crate) fn core_by_gib(&self) -> f64 {
        self.core_s() / (self.received as f64 / f64::from(1 << 30))
    }

    /// The same of the server's own threads.
    pub(crate) fn threads_by_gib(&self) -> f64 {
        self.server_threads_s / (self.received as f64 / f64::from(1 << 30))
    }

    /// Downloads that came whole.
    pub(crate) fn whole(&self) -> usize {
        self.downloads.iter().filter(|download| download.is_whole).count()
    }

    /// Bytes that were not what they should be.
    pub(crate) fn wrong(&self) -> u64 {
        self.downloads.iter().map(|download| download.wrong).sum()
    }
}

impl Window for PacedLoad {
    fn noise(&self) -> f64 {
        self.others_s / self.seconds
    }

    fn distances(&self) -> [f64; 2] {
        self.distances_ns
    }

    /// The client, or the link, sets the pace.
    fn slices(&self) -> &[u64] {
        &[]
    }
}

/// The accounts at one moment.
struct Accounts {
    at: Instant,
    core: CoreTime,
    threads: f64,
    others: f64,
}

impl Paced {
    pub(crate) fn run(&self) -> Result<PacedLoad> {
        sluicegate_sys::limits::raise_descriptors().context("cannot raise the descriptor limit")?;
        if self.rate.is_none() && self.downloads > 1 {
            bail!("several downloads need a rate");
        }
        let nearby = self.server.distance()?;
        let mut crowd = Crowd::default();
        let mut before = self.accounts()?;
        if let Some(window) = self.window {
            let warm = before.at + Duration::from_millis(self.warm_up);
            crowd.drive(self, |_| Instant::now() >= warm)?;
            before = self.accounts()?;
            crowd.forget();
            let end = before.at + Duration::from_millis(window);
            crowd.drive(self, |_| Instant::now() >= end)?;
        } else {
            crowd.drive(self, |crowd| crowd.is_over(self.downloads))?;
        }
        let after = self.accounts()?;
        let received = crowd.received();
        drop(crowd.readers);
        Ok(PacedLoad {
            seconds: (after.at - before.at).as_secs_f64(),
            received,
            downloads: crowd.ended,
            told: crowd.told,
            core: after.core - before.core,
            server_threads_s: after.threads - before.threads,
            others_s: after.others - before.others,
            distances_ns: [nearby, self.server.distance()?],
        })
    }

    fn accounts(&self) -> Result<Accounts> {
        let others = self.server.others()?;
        let core = self.server.core()?;
        Ok(Accounts { at: Instant::now(), core, threads: self.server.threads()?, others })
    }
}

/// All downloads.
#[derive(Default)]
struct Crowd {
    readers: Vec<Option<Reader>>,
    ended: Vec<Download>,
    /// Bytes of those that ended before the window, and that those under way had then.
    before: u64,
    told: BTreeMap<String, u64>,
    buffer: Vec<u8>,
}

impl Crowd {
    fn is_over(&self, downloads: usize) -> bool {
        self.ended.len() == downloads
    }

    /// Bytes of bodies since [`Crowd::forget`].
    fn received(&self) -> u64 {
        let ended: u64 = self.ended.iter().map(|download| download.received).sum();
        let under_way: u64 = self.readers.iter().flatten().map(Reader::received).sum();
        ended + under_way - self.before
    }

    /// From now on counts what comes.
    fn forget(&mut self) {
        self.ended.clear();
        self.told.clear();
        self.before = self.readers.iter().flatten().map(Reader::received).sum();
    }

    /// Opens what is missing, and reads in turns, until `is_over`.
    fn drive(&mut self, plan: &Paced, is_over: impl Fn(&Self) -> bool) -> Result<()> {
        let tick = TICKS[usize::from(plan.downloads > FEW)];
        let most = plan.rate.map_or(256 << 10, |rate| {
            let depth = (rate as f64 * SAVED.max(2 * tick).as_secs_f64()) as usize;
            depth.max(1)
        });
        self.buffer.resize(most, 0);
        let mut due = Instant::now();
        while !is_over(self) {
            if plan.rate.is_some() {
                due = (due + tick).max(Instant::now());
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
            let missing = plan.downloads - self.readers.len();
            for _ in 0..missing.min(CONNECTED_AT_ONCE) {
                let reader = Reader::open(plan)
                    .with_context(|| format!("download {}", self.readers.len() + 1))?;
                self.readers.push(Some(reader));
            }
            for number in 0..self.readers.len() {
                self.turn(plan, number).with_context(|| format!("download {}", number + 1))?;
            }
        }
        Ok(())
    }

    fn turn(&mut self, plan: &Paced, number: usize) -> Result<()> {
        let Some(reader) = &mut self.readers[number] else { return Ok(()) };
        let outcome = reader.turn(plan, &mut self.buffer);
        let is_whole = match outcome {
            Ok(false) => return Ok(()),
            Ok(true) => true,
            Err(error) if plan.may_be_cut => {
                let text = format!("{error:#}");
                if self.told.len() < TOLD || self.told.contains_key(&text) {
                    *self.told.entry(text).or_default() += 1;
                }
                false
            }
            Err(error) => return Err(error),
        };
        if let Some(reader) = self.readers[number].take() {
            self.ended.push(reader.end(is_whole, monotonic_ns()));
        }
        if plan.window.is_some() {
            self.readers[number] = Some(Reader::open(plan)?);
        }
        Ok(())
    }
}
