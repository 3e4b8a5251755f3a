//! `sluicegate-bench`: every measured figure of Sluicegate, from one harness.
//!
//! ```text
//! cargo run --release -p sluicegate-bench -- static [--quick] [--out DIR] [--only nginx,floor]
//!                                                   [--network lo,veth] [--workload 10KiB-64]
//!                                                   [--check]
//! cargo run --release -p sluicegate-bench -- crossover [--quick] [--network lo,veth]
//!                                                      [--size 16KiB,64KiB]
//! cargo run --release -p sluicegate-bench -- figure7 [--quick] [--network lo,veth] [--check]
//! ```
//!
//! # What a run is
//! Each server is pinned to core 0, the client to core 1; over `lo`, and over a veth between two
//! network namespaces where this may be built (root). Rounds are interleaved: in each, every
//! server has one window, beginning with another server each time, and servers are compared
//! within a round before the median is taken. The cost of a server is the busy time of its whole
//! core by what it delivered; the time of its own threads stands beside it. *Floors* are loops
//! of this program that answer without serving: what a server costs above its floor is its own
//! doing. Every answer is checked, and a single wrong one voids the run.
//!
//! # What it leaves
//! `runs/<UTC date>-<experiment>/`: `machine.json`, `rounds.jsonl` (every window of every round,
//! also those that did not count), `summary.txt`, `targets.json`, and plots as SVG. The served
//! files stay in `target/bench-data`. Processes, namespaces and temporary files go, also after an
//! error or Ctrl-C.
//!
//! # Where things are
//! - [`harness`]: rounds, CPU and memory accounts, statistics, networks, reports. It does not
//!   know what is measured.
//! - [`client`]: the load, a process of its own (`sluicegate-bench client …`), which reads the
//!   accounts at the very moments between which it counts answers.
//! - [`floor`]: the bare loops (`sluicegate-bench floor …`).
//! - [`peer`]: how each server is started.
//! - [`experiment`]: what is asked of whom, what is reported, and the targets.

#![forbid(unsafe_code)]

mod client;
mod experiment;
mod floor;
mod harness;
mod peer;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Measures Sluicegate beside its peers and its floors.
#[derive(Debug, Parser)]
#[command(version)]
struct Bench {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Static files of 1 KiB to 1 GiB beside other servers; system calls, idle connections.
    Static(experiment::static_files::StaticFiles),
    /// From which size on files are better sent in another way.
    Crossover(experiment::crossover::Crossover),
    /// Ways to join head, file and tail, by size of the file; packets, system calls.
    Figure7(experiment::figure7::Figure7),
    /// A client, started by an experiment.
    #[command(hide = true, subcommand)]
    Client(client::Client),
    /// A bare loop, started by an experiment.
    #[command(hide = true)]
    Floor(floor::Floor),
    /// A bare loop that joins head, file and tail, started by an experiment.
    #[command(hide = true)]
    Figure7Floor(floor::figure7::Figure7Floor),
    /// Runs a program on one core, started by an experiment.
    #[command(hide = true)]
    Pinned(harness::pinned::Pinned),
}

fn main() -> Result<ExitCode> {
    let acceptable = match Bench::parse().command {
        Command::Static(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Figure7(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Crossover(experiment) => {
            harness::interrupt::listen()?;
            experiment.run().map(|()| true)?
        }
        Command::Client(client) => client.run().map(|()| true)?,
        Command::Floor(floor) => floor.run().map(|()| true)?,
        Command::Figure7Floor(floor) => floor.run().map(|()| true)?,
        Command::Pinned(pinned) => pinned.exec().map(|()| true)?,
    };
    Ok(if acceptable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
