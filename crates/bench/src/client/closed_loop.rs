//! A closed loop: each connection asks again as soon as it has its whole answer.
//!
//! The accounts of the server's core are read here, at the moments between which answers are
//! counted, so that both tell of the same window.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use serde::{Deserialize, Serialize};
use sluicegate_sys::epoll::{Epoll, Events, Interest};

use super::answer::Answer;
use super::{Check, Resource, Server, send};
use crate::harness::cpu::{CoreTime, context_switches};
use crate::harness::round::Window;

/// What is received at a time; larger than any answer of 1 KiB, small enough for the cache.
const BUFFER: usize = 256 << 10;

/// From this length on an answer is a download.
const DOWNLOAD: u64 = 1 << 20;

/// How long a download's client waits before it looks whether the window is over.
const PATIENCE: Duration = Duration::from_millis(1);

/// Parts of a window, to see whether it was the same throughout.
const SLICES: u32 = 10;

/// A server may close a connection after so many answers; another one then costs less than can be
/// measured. (lighttpd does after 65,535.)
const CLOSED: u64 = 10_000;

/// A server that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct ClosedLoop {
    #[command(flatten)]
    resource: Resource,
    /// Keep-alive connections.
    #[arg(long)]
    connections: usize,
    /// How much of each body is compared.
    #[arg(long, value_enum)]
    check: Check,
    /// Milliseconds before the window.
    #[arg(long, default_value_t = 0)]
    warm_up: u64,
    /// Milliseconds of the window.
    #[arg(long, required_unless_present = "requests")]
    window: Option<u64>,
    /// Ends the window after so many answers instead.
    #[arg(long, conflicts_with = "window")]
    requests: Option<u64>,
    /// Waits for answers of any size instead of asking without end: the relay of a wire has the
    /// same core.
    #[arg(long)]
    waits: bool,
    /// Gives the processor up whenever nothing has come: somebody else who never sleeps has the
    /// same one.
    #[arg(long)]
    yields: bool,
    #[command(flatten)]
    server: Server,
}

/// What happened in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Load {
    pub(crate) window_s: f64,
    /// Complete answers.
    pub(crate) requests: u64,
    /// Bytes of bodies.
    pub(crate) bytes: u64,
    /// Those of each tenth of the window; of downloads none.
    pub(crate) slices: Vec<u64>,
    /// The server's core.
    pub(crate) core: CoreTime,
    /// The server's own threads, in seconds.
    pub(crate) server_threads_s: f64,
    /// All other programs of the machine but the client, in seconds.
    pub(crate) others_s: f64,
    /// Round trip between the cores of server and client, before and after, in nanoseconds.
    pub(crate) distances_ns: [f64; 2],
    pub(crate) latency_us: Latency,
    /// How often the server's threads gave their core up, by themselves and otherwise.
    #[serde(default)]
    pub(crate) switches: u64,
    /// Requests that were made from the first connection to the end of the last, and those that
    /// were answered whole: what a log of requests must have lines for.
    #[serde(default)]
    pub(crate) asked: u64,
    #[serde(default)]
    pub(crate) answered: u64,
    /// Connections that got nothing in the window.
    #[serde(default)]
    pub(crate) starved: u64,
}

/// From the request's send to the last byte of its answer, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50: f64,
    pub(crate) p90: f64,
    pub(crate) p99: f64,
    pub(crate) p999: f64,
    pub(crate) max: f64,
}

impl Latency {
    pub(crate) fn of(nanoseconds: &Histogram<u64>) -> Self {
        let at = |quantile| nanoseconds.value_at_quantile(quantile) as f64 / 1e3;
        let max = nanoseconds.max() as f64 / 1e3;
        Self { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max }
    }
}

impl Window for Load {
    /// A server that did not get round to all of its connections had something in its way: what it
    /// served the others with is no measure of it.
    fn noise(&self) -> f64 {
        if self.starved > 0 { f64::INFINITY } else { self.others_s / self.window_s }
    }

    fn slices(&self) -> &[u64] {
        &self.slices
    }

    fn distances(&self) -> [f64; 2] {
        self.distances_ns
    }
}

/// The accounts at one moment.
struct Accounts {
    at: Instant,
    core: CoreTime,
    threads: f64,
    switches: u64,
}

impl ClosedLoop {
    pub(crate) fn run(&self) -> Result<Load> {
        let nearby = self.server.distance()?;
        let mut clients = Clients::connect(self)?;
        clients.drive(|clients| clients.start.elapsed().as_millis() >= self.warm_up.into())?;

        let others = self.server.others()?;
        let before = self.accounts()?;
        clients.forget();
        let mut slices = Vec::with_capacity(SLICES as usize);
        match (self.requests, self.window) {
            (Some(requests), _) => clients.drive(|clients| clients.answers >= requests)?,
            (None, window) => {
                let slice = Duration::from_millis(window.unwrap_or(0)) / SLICES;
                let mut bytes = 0;
                for number in 1..=SLICES {
                    let end = before.at + slice * number;
                    clients.drive(|_| Instant::now() >= end)?;
                    let total = clients.bytes();
                    // Downloads come in bursts, whose parts say nothing of the machine.
                    if !clients.is_download {
                        slices.push(total - bytes);
                    }
                    bytes = total;
                }
            }
        }
        let after = self.accounts()?;
        let starved = clients.check_fair()?;
        let (requests, bytes) = (clients.answers, clients.bytes());
        let others = self.server.others()? - others;
        clients.settle()?;
        Ok(Load {
            window_s: (after.at - before.at).as_secs_f64(),
            requests,
            bytes,
            slices,
            core: after.core - before.core,
            server_threads_s: after.threads - before.threads,
            others_s: others,
            // Nobody asks the server any more.
            distances_ns: [nearby, self.server.distance()?],
            latency_us: Latency::of(&clients.latency),
            switches: after.switches.saturating_sub(before.switches),
            asked: clients.asked,
            answered: clients.answered,
            starved,
        })
    }

    fn accounts(&self) -> Result<Accounts> {
        let core = self.server.core()?;
        let at = Instant::now();
        let threads = self.server.threads()?;
        Ok(Accounts { at, core, threads, switches: context_switches(self.server.pid)? })
    }
}

/// One connection with the answer that it waits for.
struct Connection {
    stream: TcpStream,
    answer: Answer,
    asked: Instant,
    /// Bytes of bodies since the last [`Clients::forget`].
    bytes: u64,
}

/// All connections, and what they have received since the last [`Clients::forget`].
struct Clients {
    start: Instant,
    /// Made in turn, by all connections together, each with the seed of its answer.
    requests: Vec<(Vec<u8>, u64)>,
    next: usize,
    resource: Resource,
    /// Connections that the server has closed in order.
    closed: u64,
    connections: Vec<Connection>,
    epoll: Epoll,
    events: Events,
    /// Connections whose sockets were not empty when they were last read.
    unread: VecDeque<usize>,
    buffer: Vec<u8>,
    answers: u64,
    /// Requests and whole answers since the beginning.
    asked: u64,
    answered: u64,
    /// Nobody asks any more.
    is_over: bool,
    latency: Histogram<u64>,
    /// Bodies are so large that time between two looks costs nothing.
    is_download: bool,
    yields: bool,
}

impl Clients {
    fn connect(plan: &ClosedLoop) -> Result<Self> {
        let ClosedLoop { resource, check, connections: count, .. } = plan;
        let requests = resource.requests();
        ensure!(!requests.is_empty(), "nothing to ask for");
        let epoll = Epoll::new()?;
        let mut connections = Vec::with_capacity(*count);
        for key in 0..*count {
            let stream = open(resource, &epoll, key)?;
            let answer = Answer::new(resource.length, resource.seed, *check);
            connections.push(Connection { stream, answer, asked: Instant::now(), bytes: 0 });
        }
        let mut clients = Self {
            start: Instant::now(),
            requests,
            next: 0,
            resource: resource.clone(),
            closed: 0,
            events: Events::with_capacity(connections.len()),
            connections,
            epoll,
            unread: VecDeque::new(),
            buffer: vec![0; BUFFER],
            answers: 0,
            asked: 0,
            answered: 0,
            is_over: false,
            latency: Histogram::new(3)?,
            is_download: resource.length >= DOWNLOAD || plan.waits,
            yields: plan.yields,
        };
        for key in 0..*count {
            clients.ask(key)?;
        }
        Ok(clients)
    }

    /// Makes the next request, on this connection.
    fn ask(&mut self, key: usize) -> Result<()> {
        let number = self.resource.fixed(key).unwrap_or(self.next);
        let (request, seed) = &self.requests[number];
        let connection = &mut self.connections[key];
        connection.answer.expect(*seed);
        connection.asked = Instant::now();
        send(&connection.stream, request)?;
        self.next = (self.next + 1) % self.requests.len();
        self.asked += 1;
        Ok(())
    }

    /// Waits for the answers that are still due, and asks for none: what is cut off might or
    /// might not be in a log. Of downloads it would take too long.
    fn settle(&mut self) -> Result<()> {
        self.is_over = true;
        if self.is_download {
            Ok(())
        } else {
            self.drive(|clients| clients.answered == clients.asked)
        }
    }

    /// Starts counting at this moment.
    fn forget(&mut self) {
        self.answers = 0;
        self.closed = 0;
        self.latency.reset();
        for connection in &mut self.connections {
            connection.bytes = 0;
        }
    }

    /// Bytes of bodies on all connections.
    fn bytes(&self) -> u64 {
        self.connections.iter().map(|connection| connection.bytes).sum()
    }

    /// A server that leaves some connections waiting serves fewer than it is measured with, and
    /// cheaper: how many did. One that closes them after some answers, dearer.
    fn check_fair(&self) -> Result<u64> {
        let limit = self.answers / CLOSED + self.connections.len() as u64;
        ensure!(self.closed <= limit, "the server closed {} connections", self.closed);
        let starved = self.connections.iter().filter(|connection| connection.bytes == 0).count();
        Ok(starved as u64)
    }

    /// Asks and receives until `is_over`, which is looked at between batches of events.
    ///
    /// A client of small answers never sleeps: waking it would be work for the server's core, more
    /// of it the slower the server is (nginx: 5.4 instead of 4.2 µs for 1 KiB; a bare loop, which
    /// never lets the client sleep: none). Clients beyond a wire cost a server nothing of the
    /// kind. A client that downloads waits like any other: if it asked without end, it would
    /// fight the server's core for the lock of the receiving socket (a fifth of that core's time,
    /// by `perf record`).
    fn drive(&mut self, mut is_over: impl FnMut(&Self) -> bool) -> Result<()> {
        let mut heard = Instant::now();
        while !is_over(self) {
            let is_waiting = self.is_download && self.unread.is_empty();
            let patience = if is_waiting { PATIENCE } else { Duration::ZERO };
            match self.epoll.wait(&mut self.events, Some(patience)) {
                Ok(0) if self.unread.is_empty() => {
                    if self.yields {
                        std::thread::yield_now();
                    }
                    ensure!(heard.elapsed() < SILENCE, "no answer for {SILENCE:?}");
                    continue;
                }
                Ok(_) => heard = Instant::now(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot wait"),
            }
            // An event of a connection that is listed already brings it a second turn, which
            // finds the socket empty.
            for (key, ready) in self.events.iter() {
                if ready.readable() || ready.hung_up() || ready.error() {
                    self.unread.push_back(key as usize);
                }
            }
            // One receive for each: no connection starves behind a fast one.
            for _ in 0..self.unread.len() {
                if let Some(key) = self.unread.pop_front()
                    && self.receive(key)?
                {
                    self.unread.push_back(key);
                }
            }
        }
        Ok(())
    }

    /// Receives once; returns whether there may be more.
    ///
    /// Everything is copied out of the kernel, as every real client does.
    fn receive(&mut self, key: usize) -> Result<bool> {
        let connection = &mut self.connections[key];
        let room = &mut self.buffer[..];
        let asked = room.len();
        let received = match recv(&connection.stream, room, RecvFlags::empty()) {
            Ok((_, 0)) => bail!("the server closed a connection"),
            Ok((_, received)) => received,
            Err(Errno::AGAIN) => return Ok(false),
            Err(Errno::INTR) => return Ok(true),
            Err(error) => return Err(error).context("cannot receive"),
        };
        let before = connection.answer.received();
        if connection.answer.take(&self.buffer[..received])? {
            let now = Instant::now();
            let nanoseconds = (now - connection.asked).as_nanos();
            self.latency.record(u64::try_from(nanoseconds)?)?;
            self.answers += 1;
            self.answered += 1;
            connection.bytes += connection.answer.length() - before;
            if self.is_over {
                return Ok(received == asked);
            }
            if connection.answer.is_last() {
                // The old one leaves the epoll instance when it is closed.
                connection.stream = open(&self.resource, &self.epoll, key)?;
                self.closed += 1;
            }
            self.ask(key)?;
        } else {
            connection.bytes += connection.answer.received() - before;
        }
        Ok(received == asked)
    }
}

fn open(resource: &Resource, epoll: &Epoll, key: usize) -> Result<TcpStream> {
    let stream = resource.connect_as(key)?;
    stream.set_nonblocking(true)?;
    epoll.add(stream.as_fd(), key as u64, Interest::Both)?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_load_survives_the_round_trip_through_json() {
        let load = Load {
            window_s: 1.5,
            requests: 3,
            bytes: 1 << 40,
            slices: vec![1 << 39; 2],
            core: CoreTime { user: 0.25, ..CoreTime::default() },
            server_threads_s: 0.125,
            others_s: 0.03,
            distances_ns: [420.0, 430.0],
            latency_us: Latency { p50: 1.0, max: 9.5, ..Latency::default() },
            switches: 7,
            asked: 4,
            answered: 3,
            starved: 0,
        };
        let json = serde_json::to_string(&load).unwrap();
        assert_eq!(serde_json::from_str::<Load>(&json).unwrap(), load);
        assert_eq!(load.noise(), 0.02);
    }
}
