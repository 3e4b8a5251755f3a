//! Very many slow downloads at once (docs/paper.md, P71 and P30): what they cost a server in memory
//! and time, and whether any of them is starved.

mod figure;
mod findings;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use self::findings::{Findings, Round};
use super::contents::{self, Contents};
use super::options::Outcome;
use super::session::{Effort, SERVER_CPU, Session, client_of, void};
use super::workload::{Unit, Workload};
use crate::client::{Check, SlowLoad};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::round::{Rounds, fault, order};
use crate::peer::{Peer, Running};

/// In the order in which they are shown. nginx keeps its files open, since otherwise it has a
/// descriptor more for each download, and 10,000 of them exceed the limit of many machines.
const PEERS: [Peer; 3] = [Peer::Sluicegate, Peer::NginxCached, Peer::NginxCopyCached];

const FILE: Contents = Contents { name: "8MiB.bin", length: 8 << 20, seed: 71 };

/// Bytes a second of each download, which takes 84 s so.
const RATE: u64 = 100_000;

/// The kernel doubles it, and announces about as much.
const RECEIVE_BUFFER: usize = 64 << 10;

/// Descriptors that a process needs beside its downloads.
const OTHER_DESCRIPTORS: u64 = 100;

/// What a client needs beside its plan: connecting, pauses, the end of what is late.
const CLIENT_GRACE: Duration = Duration::from_secs(90);

#[derive(Debug, Args)]
pub(crate) struct Slow {
    /// 1,000 downloads instead of 10,000, of which the first seconds alone: under two minutes.
    #[arg(long)]
    quick: bool,
    /// So many downloads instead.
    #[arg(long)]
    downloads: Option<usize>,
    #[command(flatten)]
    outcome: Outcome,
}

/// How many, how long, how often.
#[derive(Debug, Clone, Copy)]
struct Plan {
    downloads: usize,
    warm_up: Duration,
    window: Duration,
    rounds: Rounds,
    /// In the first round downloads go on to their ends.
    to_the_end: bool,
    check: Check,
}

const QUICK: Plan = Plan {
    downloads: 1_000,
    warm_up: Duration::from_millis(1_000),
    window: Duration::from_millis(3_000),
    rounds: Rounds { wanted: 5, at_most: 6 },
    to_the_end: false,
    check: Check::Whole,
};

/// A GB a second is not compared byte by byte without slowing the client down.
const FULL: Plan = Plan {
    downloads: 10_000,
    warm_up: Duration::from_secs(3),
    window: Duration::from_secs(15),
    rounds: Rounds { wanted: 5, at_most: 6 },
    to_the_end: true,
    check: Check::Sampled,
};

/// A line of `rounds.jsonl`.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename = "slow")]
struct Record<'a> {
    server: String,
    round: usize,
    /// Why the round does not count.
    fault: Option<String>,
    load: &'a SlowLoad,
}

impl Slow {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        let mut plan = if self.quick { QUICK } else { FULL };
        plan.downloads = self.downloads.unwrap_or(plan.downloads);
        let mut session = Session::open("slow", self.outcome.out(), Effort::NONE, true)?;
        let limit = sluicegate_sys::limits::raise_descriptors()?.saturating_sub(OTHER_DESCRIPTORS);
        if plan.downloads as u64 > limit {
            session.skip(format!("downloads beyond {limit}, for which there are no descriptors"));
            plan.downloads = limit as usize;
        }
        session.serve(contents::prepare(&[FILE])?);
        let mut peers = PEERS.to_vec();
        peers.retain(|peer| {
            peer.missing().is_none_or(|program| {
                session.skip(format!("{peer}: there is no {program}"));
                false
            })
        });
        let rounds = measure(&mut session, &peers, plan)?;

        let Session { run, machine, skipped, .. } = session;
        let findings = Findings { downloads: plan.downloads, rate: RATE, peers, rounds, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }
}

/// All rounds. A server is started for each of its turns: what it has kept from one crowd is
/// not to be taken for the memory of the next.
fn measure(session: &mut Session, peers: &[Peer], plan: Plan) -> Result<Vec<Round>> {
    let network = Network::Loopback;
    let workload = Workload {
        name: format!("{} downloads", plan.downloads),
        contents: FILE,
        files: None,
        connections: plan.downloads,
        check: plan.check,
        unit: Unit::Gib,
        peers: peers.to_vec(),
        logs: false,
    };
    let (mut rounds, mut good) = (Vec::<Round>::new(), 0);
    while plan.rounds.want_more(rounds.len(), good) {
        let number = rounds.len();
        let mut loads: Vec<Option<SlowLoad>> = vec![None; peers.len()];
        for index in order(number, peers.len()) {
            interrupt::check()?;
            let peer = peers[index];
            let server = session.start(&network, peer, FILE)?;
            session.run.progress(&format!("round {}: {peer}", number + 1));
            let to_the_end = plan.to_the_end && number == 0;
            let load = crowd(&network, &server, &workload, plan, to_the_end);
            loads[index] = Some(load.with_context(|| void(&server))?);
        }
        let loads: Vec<SlowLoad> = loads.into_iter().flatten().collect();
        let fault = fault(&loads);
        let mut line = format!("round {}:", number + 1);
        for (peer, load) in peers.iter().zip(&loads) {
            line += &format!("  {peer} {:.4}", figure::core_cost(load));
            let (server, fault) = (peer.to_string(), fault.map(|fault| fault.to_string()));
            session.run.record(&Record { server, round: number, fault, load })?;
        }
        let told = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
        session.run.progress(&format!("{line} s/GiB{told}"));
        good += usize::from(fault.is_none());
        rounds.push(Round { loads, fault });
    }
    Ok(rounds)
}

/// All downloads of one server.
fn crowd(
    network: &Network,
    server: &Running,
    workload: &Workload,
    plan: Plan,
    to_the_end: bool,
) -> Result<SlowLoad> {
    let check = match plan.check {
        Check::Whole => "whole",
        Check::Edges => "edges",
        Check::Sampled => "sampled",
    };
    let [downloads, rate, buffer, warm_up, window, cpu] = [
        plan.downloads as u128,
        RATE.into(),
        RECEIVE_BUFFER as u128,
        plan.warm_up.as_millis(),
        plan.window.as_millis(),
        SERVER_CPU as u128,
    ]
    .map(|number| number.to_string());
    let mut arguments = vec!["--downloads", &downloads, "--rate", &rate];
    arguments.extend(["--receive-buffer", &buffer, "--check", check]);
    arguments.extend(["--warm-up", &warm_up, "--window", &window, "--server-cpu", &cpu]);
    let mut limit = plan.warm_up + plan.window + CLIENT_GRACE;
    if to_the_end {
        arguments.push("--to-the-end");
        limit += Duration::from_secs(FILE.length / RATE);
    }
    answer_of(client_of(network, server, workload, "slow", &arguments)?, limit)
}
