//! One cell: a wire, a backing and a way, and what became of the stream.

use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use serde::Serialize;

use super::HEAD;
use super::backing::{Backing, Ground};
use super::content::Got;
use super::ours::{self, Account, Knowledge, Stream};
use super::reader::{self, Pace};
use super::ways::{self, Way, Writer};
use crate::experiment::session::SERVER_CPU;
use crate::harness::network::Network;

/// How long a connection may take to be made.
const SOON: Duration = Duration::from_secs(10);

/// What is sent, and to how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    pub(super) backing: Backing,
    pub(super) way: Way,
    /// Readers of the same stream.
    pub(super) readers: usize,
    /// Bytes to each, behind the head.
    pub(super) length: u64,
    /// How often a reader reads nothing for a while.
    pub(super) pauses: u64,
}

/// A cell that is over.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Cell {
    pub(super) wire: &'static str,
    #[serde(flatten)]
    pub(super) plan: Plan,
    /// By all readers together.
    pub(super) got: Got,
    /// Bytes that were sent and did not arrive.
    pub(super) missing: u64,
    pub(super) seconds: f64,
    /// Of the ring, where it is ours.
    pub(super) account: Option<Account>,
}

impl Cell {
    pub(super) fn new(
        wire: &'static str,
        plan: Plan,
        (got, account): (Got, Option<Account>),
        began: Instant,
    ) -> Self {
        let missing = plan.sent().saturating_sub(got.bytes);
        Self { wire, plan, got, missing, seconds: began.elapsed().as_secs_f64(), account }
    }

    /// Parts of a hundred that were corrupted.
    pub(super) fn share(&self) -> f64 {
        100.0 * self.got.corrupted as f64 / self.plan.sent().max(1) as f64
    }
}

impl Plan {
    /// Bytes of all streams with their heads.
    pub(super) fn sent(&self) -> u64 {
        self.readers as u64 * (HEAD as u64 + self.length)
    }

    fn pace(&self, reader: usize) -> Pace {
        let turn = (reader as u64, self.readers as u64);
        Pace { length: HEAD as u64 + self.length, pauses: self.pauses, turn }
    }

    /// Over a network, between two threads of this program.
    pub(super) fn run(&self, network: &Network, ground: &Ground) -> Result<Cell> {
        let began = Instant::now();
        let knowledge = match network.name() {
            // A TUN device says *copied* of everything, as if its other end were here: that the
            // wire copies is known by hand.
            "wire" | "wire50" | "far50" => Knowledge::Told,
            _ => Knowledge::None,
        };
        let of_reader = network.client().address();
        let listener = network.client().enter(|| reader::listen(of_reader))??;
        let address = listener.local_addr()?;
        let mut pairs = Vec::new();
        for _ in 0..self.readers {
            let stream = network.server().enter(|| connect(address))??;
            pairs.push((stream, reader::accept(&listener)?.0));
        }
        let (streams, readers): (Vec<_>, Vec<_>) = pairs.into_iter().unzip();
        let outcome = thread::scope(|scope| {
            let sender = scope.spawn(|| {
                sluicegate_sys::affinity::pin_to(SERVER_CPU)?;
                self.send(streams, ground, knowledge)
            });
            let readers: Vec<_> = readers
                .into_iter()
                .enumerate()
                .map(|(n, stream)| scope.spawn(move || reader::receive(&stream, self.pace(n))))
                .collect();
            let got = readers.into_iter().map(|one| one.join().map_err(panicked)?);
            let got: Result<Vec<Got>> = got.collect();
            // A sender that has failed is why a reader has, and not the other way round.
            let account = sender.join().map_err(panicked)??;
            Ok::<_, anyhow::Error>((got?.into_iter().fold(Got::default(), Got::and), account))
        });
        let outcome = outcome.with_context(|| self.name(network.name()))?;
        Ok(Cell::new(network.name(), *self, outcome, began))
    }

    pub(super) fn name(&self, wire: &str) -> String {
        let name = format!("{} on {} over {wire}", self.way, self.backing);
        if self.readers > 1 { format!("{name} to {}", self.readers) } else { name }
    }

    /// The sender's half.
    pub(super) fn send(
        &self,
        streams: Vec<TcpStream>,
        ground: &Ground,
        knowledge: Knowledge,
    ) -> Result<Option<Account>> {
        let mut streams = streams;
        if self.way == Way::Ours {
            let what = Stream::new(ground, self.backing, self.length, knowledge);
            let account = match (streams.pop(), streams.is_empty()) {
                (Some(one), true) => ours::to_one(one, what),
                (last, _) => ours::to_many(streams.into_iter().chain(last).collect(), &what),
            };
            return account.map(Some);
        }
        let stream = streams.first().context("there is no reader")?;
        let memory = ground.memory_of(self.backing)?;
        Writer::new(stream, memory, self.backing, self.way).send(self.length)?;
        Ok(None)
    }

    /// The reader's half, for a sender elsewhere.
    pub(super) fn receive(&self, stream: &TcpStream) -> Result<Got> {
        reader::receive(stream, self.pace(0))
    }
}

/// A sender's connection.
pub(super) fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, SOON).context("no connection")?;
    ways::widen(&stream)?;
    Ok(stream)
}

fn panicked<T>(_: T) -> anyhow::Error {
    anyhow!("a thread panicked")
}
