//! What it costs to be told how far the peer is (docs/paper.md, P40): one long stream at full
//! speed, sent by the library with acknowledgement events, every MiB and at the end of each file
//! alone, and without.

mod findings;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use self::findings::{CallsOf, Findings};
use super::contents::{self, GIB};
use super::downloads::ask;
use super::options::Outcome;
use super::session::{CLIENT_LIMIT, Effort, Session, load_of};
use super::workload::{Unit, Workload};
use crate::client::{Check, Load};
use crate::floor::tracking::{REPORT, Told, Track};
use crate::harness::calls;
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::round::Rounds;
use crate::peer::Peer;

const QUICK: Effort = Effort {
    rounds: Rounds { wanted: 5, at_most: 6 },
    warm_up: Duration::from_millis(50),
    window: Duration::from_millis(400),
};

/// Fifteen rounds: a cost of 3 % is told from none by fifteen pairs.
const FULL: Effort = Effort {
    rounds: Rounds { wanted: 15, at_most: 20 },
    warm_up: Duration::from_millis(100),
    window: Duration::from_millis(1000),
};

#[derive(Debug, Args)]
pub(crate) struct Tracking {
    /// Few and short windows: under a minute.
    #[arg(long)]
    quick: bool,
    /// Measure over these networks alone.
    #[arg(long, value_delimiter = ',', value_parser = ["lo", "veth"])]
    network: Vec<String>,
    #[command(flatten)]
    outcome: Outcome,
}

/// A line of `rounds.jsonl`, beside those of the windows.
#[derive(Debug, Serialize)]
struct Line<'a> {
    kind: &'a str,
    #[serde(flatten)]
    calls: &'a CallsOf,
}

impl Tracking {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        let effort = if self.quick { QUICK } else { FULL };
        // Each way is a loop of this program: there is no server to build.
        let mut session = Session::open("tracking", self.outcome.out(), effort, false)?;
        session.serve(contents::prepare(&[GIB])?);
        let networks = session.networks(&self.network);
        for network in &networks {
            session.measure(network, &workload())?;
        }
        let calls = count(&mut session)?;

        let Session { run, machine, cells, skipped, .. } = session;
        let findings = Findings { cells, calls, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }
}

fn workload() -> Workload {
    Workload {
        name: "one stream".to_owned(),
        contents: GIB,
        files: None,
        connections: 1,
        check: Check::Sampled,
        unit: Unit::Gib,
        peers: Track::ALL.map(Peer::Tracker).into(),
        logs: false,
    }
}

/// Events and system calls of one file over loopback.
fn count(session: &mut Session) -> Result<Vec<CallsOf>> {
    let mut all = Vec::new();
    if !calls::can_count() {
        session.skip("system calls: there is no strace".to_owned());
        return Ok(all);
    }
    let (network, workload) = (Network::Loopback, workload());
    for track in Track::ALL {
        interrupt::check()?;
        session.run.progress(&format!("{track}: counting calls"));
        let server = session.start(&network, Peer::Tracker(track), workload.contents)?;
        let plan = ["--connections", "1", "--check", "sampled", "--requests", "1"];
        let client = || load_of(&network, &server, &workload, &plan);
        answer_of::<Load>(client()?, CLIENT_LIMIT)?;
        let told: Told = ask(network.server(), server.address, REPORT)?;
        let client = client()?;
        let mut bytes = 0;
        let counted = calls::count(server.child, || {
            bytes = answer_of::<Load>(client, CLIENT_LIMIT)?.bytes;
            Ok(())
        });
        let calls = counted.with_context(|| format!("cannot count calls of {track}"))?;
        let of = CallsOf { track: track.to_string(), bytes, events: told.events, calls };
        session.run.record(&Line { kind: "calls", calls: &of })?;
        all.push(of);
    }
    Ok(all)
}
