//! `sluicegate-bench`: every measured figure of Sluicegate, from one harness.
//!
//! ```text
//! cargo run --release -p sluicegate-bench -- static [--quick] [--out DIR] [--only nginx,floor]
//!                                                   [--network lo,veth] [--logs on|off|both]
//!                                                   [--workload 10KiB-64,1GiB,counts,idle,sites,
//!                                                   operation] [--rounds N] [--check]
//! cargo run --release -p sluicegate-bench -- crossover [--quick] [--network lo,veth]
//!                                                      [--size 16KiB,64KiB]
//! cargo run --release -p sluicegate-bench -- figure2 [--quick] [--network veth50,veth,wire50]
//!                                                      [--peer HOST[:PORT]] [--bare] [--check]
//! cargo run --release -p sluicegate-bench -- figure3 [--quick] [--network lo,veth]
//!                                                      [--peer HOST[:PORT]] [--check]
//! cargo run --release -p sluicegate-bench -- ack-blocking [--quick] [--check]
//!                                                      [--network lo,veth,veth50,far50]
//! cargo run --release -p sluicegate-bench -- figure7 [--quick] [--network lo,veth] [--check]
//! cargo run --release -p sluicegate-bench -- slow [--quick] [--check]
//! cargo run --release -p sluicegate-bench -- reuse [--quick] [--network lo,veth,veth50,wire50]
//!                                                      [--check]
//! cargo run --release -p sluicegate-bench -- ack-delay [--quick] [--check]
//!                                                      [--network lo,veth,veth50,wire,far50]
//! cargo run --release -p sluicegate-bench -- tracking [--quick] [--network lo,veth] [--check]
//! cargo run --release -p sluicegate-bench -- race [--quick] [--size 4GiB] [--check]
//!                                                      [--network lo,veth,veth50,wire,vm]
//! cargo run --release -p sluicegate-bench -- ring-cost [--quick] [--network lo,veth,wire]
//!                                                      [--check]
//! cargo run --release -p sluicegate-bench -- demo [--size 2GiB]
//! cargo run --release -p sluicegate-bench -- proxy [--quick] [--only nginx,sluicegate]
//!                                                      [--workload large,small,figure4,paper,
//!                                                      factors,bursty,backend,slow-crowd,early,
//!                                                      crowd,pools,tiers] [--rounds N] [--check]
//! cargo run --release -p sluicegate-bench -- fan-out [--quick] [--sockets 64,1000] [--check]
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
//! # Over a real network
//! `sluicegate-bench peer --listen ADDR` on one host is the client of `figure2 --peer HOST` and
//! `figure3 --peer HOST` on another, which runs the servers on its core 0. The peer's port (7363
//! unless it is named) must be reachable from there, and any port of there from the peer. See
//! [`peer_host`].
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
//! - [`peer_host`]: the client of Figures 2 and 3, which may be on another host.
//! - [`upstream`]: what proxies stand in front of.
//! - [`experiment`]: what is asked of whom, what is reported, and the targets.

#![forbid(unsafe_code)]

mod client;
mod experiment;
mod floor;
mod harness;
mod peer;
mod peer_host;
mod upstream;

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
    /// The client's side of figure2 and figure3, on another host.
    Peer(peer_host::PeerHost),
    /// Download times by size of the file: `send`, `sendfile` and ours.
    Figure2(experiment::figure2::Figure2),
    /// How long handing a file over holds its caller, by size of the file.
    Figure3(experiment::figure3::Figure3),
    /// A `sendfile` that blocks until all is acknowledged, many connections on one loop, and ours.
    AckBlocking(experiment::ack_blocking::AckBlocking),
    /// Very many slow downloads at once: memory, CPU, and whether one is starved.
    Slow(experiment::slow::Slow),
    /// Images made in memory and sent in three ways and ours: CPU, and when the buffer is free.
    Reuse(experiment::reuse::Reuse),
    /// How long after the peer's acknowledgement the sender is told: epoll, signal, polling.
    AckDelay(experiment::ack_delay::AckDelay),
    /// What acknowledgement events cost a stream at full speed.
    Tracking(experiment::tracking::Tracking),
    /// A ring's memory overwritten on belief and by proof, under a slow reader: corrupted bytes.
    Race(experiment::race::Race),
    /// CPU of a stream through a small ring and a large one, by how its memory is reused.
    RingCost(experiment::ring_cost::RingCost),
    /// One region to up to 1,000 sockets: CPU by how many, and memory where none reads.
    FanOut(experiment::fan_out::FanOut),
    /// Reverse proxies: CPU, memory, disk, and when the upstream is let go.
    Proxy(experiment::proxy::ProxyBench),
    /// A download of 2 GiB by a slow client, live: ours, and nginx beside it. No root, a minute.
    Demo(experiment::demo::Demo),
    /// A client, started by an experiment.
    #[command(hide = true, subcommand)]
    Client(client::Client),
    /// A bare loop, started by an experiment.
    #[command(hide = true)]
    Floor(floor::Floor),
    /// A bare loop that joins head, file and tail, started by an experiment.
    #[command(hide = true)]
    Figure7Floor(floor::figure7::Figure7Floor),
    /// A bare loop that hands a file over, started by an experiment.
    #[command(hide = true)]
    Figure3Floor(floor::figure3::Figure3Floor),
    /// A bare loop that makes images and sends them, started by an experiment.
    #[command(hide = true)]
    ReuseFloor(floor::reuse::ReuseFloor),
    /// A bare loop that is told how far its peer is, started by an experiment.
    #[command(hide = true)]
    TrackingFloor(floor::tracking::TrackingFloor),
    /// A sender through a ring, started by an experiment.
    #[command(hide = true)]
    RingFloor(floor::ring_cost::RingFloor),
    /// A sender to many sockets, started by an experiment.
    #[command(hide = true)]
    FanOutFloor(floor::fan_out::FanOutFloor),
    /// A sender in a virtual machine, started by an experiment.
    #[command(hide = true)]
    RaceGuest(experiment::race::RaceGuest),
    /// What proxies stand in front of, started by an experiment.
    #[command(hide = true)]
    Upstream(upstream::UpstreamServer),
    /// A loop that relays, started by an experiment.
    #[command(hide = true)]
    RelayFloor(floor::relay::RelayFloor),
    /// A proxy in a virtual machine, started by an experiment.
    #[command(hide = true)]
    ProxyGuest(experiment::proxy::ProxyGuest),
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
        Command::Figure2(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Figure3(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::AckBlocking(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Figure7(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Reuse(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::AckDelay(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Tracking(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Race(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::RingCost(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::FanOut(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Crossover(experiment) => {
            harness::interrupt::listen()?;
            experiment.run().map(|()| true)?
        }
        Command::Slow(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Proxy(experiment) => {
            harness::interrupt::listen()?;
            experiment.run()?
        }
        Command::Demo(demo) => {
            harness::interrupt::listen()?;
            demo.run().map(|()| true)?
        }
        Command::Client(client) => client.run().map(|()| true)?,
        Command::Floor(floor) => floor.run().map(|()| true)?,
        Command::Figure7Floor(floor) => floor.run().map(|()| true)?,
        Command::Figure3Floor(floor) => floor.run().map(|()| true)?,
        Command::ReuseFloor(floor) => floor.run().map(|()| true)?,
        Command::TrackingFloor(floor) => floor.run().map(|()| true)?,
        Command::RingFloor(floor) => floor.run().map(|()| true)?,
        Command::FanOutFloor(floor) => floor.run().map(|()| true)?,
        Command::RaceGuest(guest) => guest.run().map(|()| true)?,
        Command::Peer(peer) => {
            harness::interrupt::listen()?;
            peer.run().map(|()| true)?
        }
        Command::Upstream(upstream) => upstream.run().map(|()| true)?,
        Command::RelayFloor(floor) => floor.run().map(|()| true)?,
        Command::ProxyGuest(guest) => guest.run().map(|()| true)?,
        Command::Pinned(pinned) => pinned.exec().map(|()| true)?,
    };
    Ok(if acceptable { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
