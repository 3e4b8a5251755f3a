//! What reusing memory costs: one stream through a ring that is written anew for every partition,
//! small enough for the processor's caches and far too large for them, with each proof that frees a
//! partition, and with the library's ring, which chooses. Over wires that share pages and over one
//! that copies.

mod findings;
pub(super) mod sender;
pub(super) mod window;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use self::findings::{Cell, Findings, copies};
use self::sender::{Readers, Sender};
use self::window::{Window, Windows};
use super::options::{Networks, Outcome};
use super::session::{Effort, Session};
use crate::floor::ring::Compare;
use crate::floor::ring_cost::{Reuse, RingFloor};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::round::{Rounds, fault, order};

const NETWORKS: [&str; 3] = ["lo", "veth", "wire"];

/// Sent before each window: other senders have had the caches since the last one.
const WARM_UP: u64 = 16 << 20;

/// How often the ring is gone through before it is measured: its memory is there then, mapped, and
/// the connection's.
const PASSES: u64 = 3;

#[derive(Debug, Args)]
pub(crate) struct RingCost {
    /// Few and short windows: under two minutes.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    outcome: Outcome,
}

/// A ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shape {
    name: &'static str,
    size: usize,
    partition: usize,
}

const SHAPES: [Shape; 3] = [
    Shape { name: "1 MiB in 64 KiB", size: 1 << 20, partition: 64 << 10 },
    Shape { name: "256 MiB in 64 KiB", size: 256 << 20, partition: 64 << 10 },
    Shape { name: "256 MiB in 1 MiB", size: 256 << 20, partition: 1 << 20 },
];

/// How much is measured of a shape over a network.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: Rounds,
    /// Bytes of a window.
    window: u64,
}

/// A line of `rounds.jsonl`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    network: &'a str,
    ring: &'a str,
    way: Reuse,
    round: usize,
    /// Why the round does not count.
    fault: Option<String>,
    #[serde(flatten)]
    window: &'a Window,
}

impl RingCost {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        // Each way is a loop of this program: there is no server to build.
        let mut session = Session::open("ring-cost", self.outcome.out(), Effort::NONE, false)?;
        let networks = session.networks(&self.networks.or(&NETWORKS));
        let mut cells = Vec::new();
        for network in &networks {
            let plan = self.plan(network);
            for shape in SHAPES {
                cells.push(plan.measure(&mut session, network, shape)?);
            }
        }

        let Session { run, machine, skipped, .. } = session;
        let findings = Findings { cells, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }

    /// Fifteen rounds: a tenth more is told from none by fifteen pairs.
    fn plan(&self, network: &Network) -> Plan {
        let is_relayed = copies(network.name());
        let (wanted, at_most, mib) = match (self.quick, is_relayed) {
            (true, false) => (3, 4, 1024),
            (true, true) => (3, 4, 192),
            (false, false) => (15, 18, 4096),
            (false, true) => (15, 18, 512),
        };
        Plan { rounds: Rounds { wanted, at_most }, window: mib << 20 }
    }
}

impl Plan {
    /// All rounds of one shape.
    fn measure(&self, session: &mut Session, network: &Network, shape: Shape) -> Result<Cell> {
        let mut streams = Vec::new();
        for way in Reuse::ALL {
            interrupt::check()?;
            session.run.progress(&format!("{} {} {way}: checking", network.name(), shape.name));
            let mut stream = Stream::start(network, shape, way)?;
            stream.check().with_context(|| stream.sender.void())?;
            streams.push(stream);
        }
        let mut windows = Windows::default();
        while windows.want_more(self.rounds) {
            self.round(session, network, shape, &mut streams, &mut windows)?;
        }
        Ok(Cell { network: network.name(), shape, windows })
    }

    /// One window of each way.
    fn round(
        &self,
        session: &mut Session,
        network: &Network,
        shape: Shape,
        streams: &mut [Stream],
        windows: &mut Windows,
    ) -> Result<()> {
        let (round, _) = windows.count();
        let mut found: Vec<Option<Window>> = vec![None; streams.len()];
        for index in order(round, streams.len()) {
            interrupt::check()?;
            let stream = &mut streams[index];
            let window = stream.window(self.window);
            found[index] = Some(window.with_context(|| stream.sender.void())?);
        }
        let found: Vec<Window> = found.into_iter().flatten().collect();
        let fault = fault(&found);
        let mut line = format!("{} {} round {}:", network.name(), shape.name, round + 1);
        for (way, window) in Reuse::ALL.into_iter().zip(&found) {
            line += &format!("  {way} {:.3}", window.core());
            session.run.record(&Line {
                network: network.name(),
                ring: shape.name,
                way,
                round,
                fault: fault.map(|fault| fault.to_string()),
                window,
            })?;
        }
        let told = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
        session.run.progress(&format!("{line} s/GiB{told}"));
        windows.push(found, fault);
        Ok(())
    }
}

/// A sender with its one connection: acknowledged memory stays with that.
#[derive(Debug)]
struct Stream {
    sender: Sender,
    readers: Readers,
    shape: Shape,
    way: Reuse,
    /// What is known of the way over this network.
    is_right: bool,
}

impl Stream {
    fn start(network: &Network, shape: Shape, way: Reuse) -> Result<Self> {
        let Shape { size, partition, .. } = shape;
        let remote = copies(network.name());
        let of = |listen| RingFloor { way, size, partition, remote, listen }.arguments();
        let sender = Sender::start(network, of)?;
        let readers = Readers::connect(network, &sender, 1)?;
        let is_right = way != Reuse::Acked || remote;
        Ok(Self { sender, readers, shape, way, is_right })
    }

    /// Every byte of several times the ring.
    fn check(&mut self) -> Result<()> {
        self.readers.compare(Compare::Whole);
        self.send(PASSES * self.shape.size as u64)?;
        self.readers.compare(Compare::Stamps);
        Ok(())
    }

    fn window(&mut self, bytes: u64) -> Result<Window> {
        self.send(WARM_UP)?;
        self.send(bytes)
    }

    fn send(&mut self, bytes: u64) -> Result<Window> {
        let Self { sender, readers, shape, .. } = self;
        let partitions = bytes / shape.partition as u64;
        let window = Window::of(sender, readers, partitions, shape.partition)?;
        let is_voided = self.is_right && window.wrong > 0;
        ensure!(!is_voided, "{}: {} bytes are wrong", self.way, window.wrong);
        Ok(window)
    }
}
