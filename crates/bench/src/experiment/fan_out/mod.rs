//! One region to many sockets: what it costs by how many there are, copied to each or by reference
//! and replaced, beside the library's choice; and what the kernel holds for a thousand readers that
//! do not read.

mod findings;
mod stalled;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use self::findings::{Cell, Findings};
use self::stalled::Held;
use super::options::Outcome;
use super::ring_cost::sender::{Readers, Sender};
use super::ring_cost::window::{Window, Windows};
use super::session::{Effort, Session};
use crate::floor::fan_out::{FanOutFloor, PARTITION, RING, Spread};
use crate::floor::ring::Compare;
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::round::{Rounds, fault, order};

/// Sockets of a region. The last is the question's.
const SOCKETS: [usize; 9] = [1, 2, 4, 8, 16, 64, 256, 512, 1000];
const SOCKETS_QUICK: [usize; 5] = [1, 4, 8, 64, 1000];

/// Readers that do not read.
const STALLED: usize = 1000;

#[derive(Debug, Args)]
pub(crate) struct FanOut {
    /// Few crowds and short windows: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Measure so many sockets alone, the most of them last.
    #[arg(long, value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..=8000))]
    sockets: Vec<u16>,
    #[command(flatten)]
    outcome: Outcome,
}

/// How much is measured of each number of sockets.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: Rounds,
    /// Bytes of a window, to all sockets together.
    window: u64,
    /// Rounds of readers that do not read.
    stalled: usize,
}

/// A line of `rounds.jsonl`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
enum Line<'a> {
    Window {
        sockets: usize,
        way: Spread,
        round: usize,
        /// Why the round does not count.
        fault: Option<String>,
        #[serde(flatten)]
        window: &'a Window,
    },
    Stalled {
        round: usize,
        #[serde(flatten)]
        held: &'a Held,
    },
}

impl FanOut {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        // Each way is a loop of this program: there is no server to build.
        let mut session = Session::open("fan-out", self.outcome.out(), Effort::NONE, false)?;
        let usual: &[usize] = if self.quick { &SOCKETS_QUICK } else { &SOCKETS };
        let mut sockets: Vec<usize> = self.sockets.iter().copied().map(usize::from).collect();
        if sockets.is_empty() {
            sockets.extend(usual);
        }
        let most = sockets.iter().copied().fold(STALLED, usize::max) as u64;
        let limit = sluicegate_sys::limits::raise_descriptors()?;
        ensure!(limit > most + 100, "{limit} descriptors are too few for {most} sockets");
        let plan = match self.quick {
            true => {
                Plan { rounds: Rounds { wanted: 3, at_most: 4 }, window: 512 << 20, stalled: 3 }
            }
            false => {
                Plan { rounds: Rounds { wanted: 15, at_most: 18 }, window: 2 << 30, stalled: 5 }
            }
        };
        let mut cells = Vec::new();
        for sockets in sockets {
            cells.push(plan.measure(&mut session, sockets)?);
        }
        let mut held = Vec::new();
        for round in 0..plan.stalled {
            for way in stalled::WAYS {
                interrupt::check()?;
                session.run.progress(&format!("{STALLED} readers that do not read: {way}"));
                let of = stalled::hold(way, STALLED)?;
                session.run.record(&Line::Stalled { round, held: &of })?;
                held.push(of);
            }
        }

        let Session { run, machine, skipped, .. } = session;
        let findings = Findings { cells, held, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }
}

impl Plan {
    /// All rounds of so many sockets.
    fn measure(&self, session: &mut Session, sockets: usize) -> Result<Cell> {
        let network = Network::Loopback;
        let mut senders = Vec::new();
        for way in Spread::ALL {
            interrupt::check()?;
            let of = |listen| FanOutFloor { way, sockets, send_buffer: None, listen }.arguments();
            let mut sender = Sender::start(&network, of)?;
            session.run.progress(&format!("{sockets} sockets, {way}: checking"));
            let checked = crowd(&network, &mut sender, sockets, Compare::Whole, 0);
            checked.with_context(|| sender.void())?;
            senders.push(sender);
        }
        let each = self.window / (sockets * PARTITION) as u64;
        let mut windows = Windows::default();
        while windows.want_more(self.rounds) {
            let (round, _) = windows.count();
            let mut found: Vec<Option<Window>> = vec![None; senders.len()];
            for index in order(round, senders.len()) {
                interrupt::check()?;
                let sender = &mut senders[index];
                let window = crowd(&network, sender, sockets, Compare::Stamps, each);
                found[index] = Some(window.with_context(|| sender.void())?);
            }
            let found: Vec<Window> = found.into_iter().flatten().collect();
            let fault = fault(&found);
            let mut line = format!("{sockets} sockets, round {}:", round + 1);
            for (way, window) in Spread::ALL.into_iter().zip(&found) {
                line += &format!("  {way} {:.3}", window.core());
                let fault = fault.map(|fault| fault.to_string());
                session.run.record(&Line::Window { sockets, way, round, fault, window })?;
            }
            let told = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
            session.run.progress(&format!("{line} s/GiB{told}"));
            windows.push(found, fault);
        }
        Ok(Cell { sockets, windows })
    }
}

/// New connections, on which the ring was gone through once before so many partitions are
/// measured.
fn crowd(
    network: &Network,
    sender: &mut Sender,
    sockets: usize,
    compare: Compare,
    partitions: u64,
) -> Result<Window> {
    let mut readers = Readers::connect(network, sender, sockets)?;
    readers.compare(compare);
    readers.order((RING / PARTITION) as u64)?;
    readers.receive(RING as u64)?;
    sender.account()?;
    let window = Window::of(sender, &mut readers, partitions.max(1), PARTITION)?;
    let wrong = readers.wrong();
    ensure!(wrong == 0, "{wrong} bytes are wrong");
    Ok(window)
}
