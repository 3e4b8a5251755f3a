//! The race that the paper left open (seeds/000, II-C; docs/paper.md): a stream through a ring of
//! 1 MiB, whose memory is overwritten while what was sent from it waits for a slow reader; over
//! every wire, on every backing, by each belief about when that is safe, and by the ring's proofs.

mod backing;
mod cell;
mod content;
mod findings;
mod guest;
mod ours;
mod reader;
mod sizes;
mod tables;
mod ways;

use anyhow::Result;
use clap::Args;

use self::backing::{Backing, Ground};
use self::cell::{Cell, Plan};
use self::findings::Findings;
pub(crate) use self::guest::RaceGuest;
pub(super) use self::sizes::parse as parse_size;
use self::sizes::{GUEST_WIRE, READERS, Sizes, WIRES};
use self::ways::Way;
use super::options::Outcome;
use super::session::{Effort, Session};
use crate::harness::interrupt;

/// Bytes of the ring.
const RING: usize = 1 << 20;

/// Bytes of each of its sixteen partitions: what `sendfile` takes at a time.
const PARTITION: usize = 64 << 10;

/// Bytes that are sent before the ring's, as the head of an answer: what a ring's probe needs.
const HEAD: usize = 1 << 10;

/// Wires over which one region goes to several readers.
const FANNED_OUT: [&str; 2] = ["lo", "veth"];

#[derive(Debug, Args)]
pub(crate) struct Race {
    /// Little of everything: under two minutes.
    #[arg(long)]
    quick: bool,
    /// What a cell sends, such as 1GiB; those that are smaller in a full run (experiment/race/sizes)
    /// have their part of it. 4GiB if nothing else is said.
    #[arg(long, value_parser = sizes::parse)]
    size: Option<u64>,
    /// Only over these wires. `vm` is the network card of a virtual machine.
    #[arg(long, value_delimiter = ',', value_parser = WIRES)]
    network: Vec<String>,
    #[command(flatten)]
    outcome: Outcome,
}

impl Race {
    /// Sends and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        // Both ends are threads of this program: there is no server to build.
        let mut session = Session::open("race", self.outcome.out(), Effort::NONE, false)?;
        let (ground, lacks) = Ground::prepare();
        lacks.into_iter().for_each(|lack| session.skip(lack));
        let mut wanted: Vec<String> = self.network.clone();
        if wanted.is_empty() {
            wanted = WIRES.map(str::to_owned).into();
        }
        let in_guest = wanted.iter().any(|wire| wire == GUEST_WIRE);
        wanted.retain(|wire| wire != GUEST_WIRE);
        let sizes = Sizes::new(self.size, self.quick);
        let mut cells = Vec::new();
        // None wanted would mean the usual ones.
        let networks = if wanted.is_empty() { Vec::new() } else { session.networks(&wanted) };
        for network in &networks {
            for plan in plans(sizes, network.name(), &ground) {
                interrupt::check()?;
                cells.push(keep(&mut session, plan.run(network, &ground)?)?);
            }
        }
        drop(networks);
        if in_guest {
            cells.extend(over_guest(&mut session, sizes)?);
        }

        let Session { run, machine, skipped, .. } = session;
        let findings = Findings { cells, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }
}

/// The cells of a wire.
fn plans(sizes: Sizes, wire: &str, ground: &Ground) -> Vec<Plan> {
    let mut plans = Vec::new();
    for backing in Backing::ALL.into_iter().filter(|&backing| ground.has(backing)) {
        for way in Way::ALL {
            let pauses = sizes.pauses();
            plans.extend(sizes.of(wire, backing, way).map(|length| Plan {
                backing,
                way,
                readers: 1,
                length,
                pauses,
            }));
        }
    }
    if FANNED_OUT.contains(&wire) {
        plans.push(Plan {
            backing: Backing::Memfd,
            way: Way::Ours,
            readers: READERS,
            length: sizes.of_each(),
            pauses: sizes.pauses() / 2,
        });
    }
    plans
}

/// All ways through the network card of a virtual machine.
fn over_guest(session: &mut Session, sizes: Sizes) -> Result<Vec<Cell>> {
    let mut lacks = Vec::new();
    let cells = guest::with(&mut lacks, |guest| {
        session.run.progress(&format!("{GUEST_WIRE}: the guest's kernel is {}", guest.kernel()));
        let mut cells = Vec::new();
        for way in Way::ALL {
            let Some(length) = sizes.of(GUEST_WIRE, Backing::Memfd, way) else { continue };
            interrupt::check()?;
            cells.push(keep(session, guest.run(way, length, sizes.pauses())?)?);
        }
        Ok(cells)
    })?;
    lacks.into_iter().for_each(|lack| session.skip(lack));
    Ok(cells.unwrap_or_default())
}

/// Keeps what became of a cell, and tells of it.
fn keep(session: &mut Session, cell: Cell) -> Result<Cell> {
    session.run.record(&cell)?;
    let Cell { wire, plan, got, missing, seconds, account } = &cell;
    let mut line = format!("{}: {} corrupted", plan.name(wire), got.corrupted);
    if *missing > 0 {
        line += &format!(", {missing} missing");
    }
    line += &format!(" of {} in {seconds:.1} s", sizes::show(plan.readers as u64 * plan.length));
    if let Some(account) = account {
        line += &format!("; {account:?}");
    }
    session.run.progress(&line);
    Ok(cell)
}
