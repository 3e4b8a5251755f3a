//! Figure 3 of the paper (docs/paper.md, P24, P29, P31, P63): how long handing a file over holds
//! its caller, by its size; beside it the time until the first byte arrives, and the CPU time
//! until everything is acknowledged.
//!
//! - `blocking`: `sendfile` on a blocking socket, which waits while the send buffer is full;
//! - `polling`: `sendfile` on a non-blocking socket, again and again, with `poll` in between;
//! - `ours`: `Socket::queue(Segment::file(…))` of the library, whose reactor sends.

mod findings;
mod tables;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use self::findings::{Called, Findings};
use super::contents::{self, Contents};
use super::downloads::{Plan, Site, ask, sizes};
use super::options::{Networks, Outcome};
use super::session::{Effort, Session};
use crate::floor::figure3::{CALLS, HandOver, STUFF};
use crate::harness::round::Rounds;
use crate::peer::Peer;

const BLOCKING: Peer = Peer::HandOver(HandOver::Blocking);
const POLLING: Peer = Peer::HandOver(HandOver::Polling);
const OURS: Peer = Peer::HandOver(HandOver::Ours);

/// In the order in which they are shown.
const WAYS: [Peer; 3] = [BLOCKING, POLLING, OURS];

const NETWORKS: [&str; 2] = ["lo", "veth"];

/// The largest file over wires that take a second for each 50 MB.
const LARGEST_SLOW: u64 = 64 << 20;

/// From this size on a few downloads, at last one, are a window, and rounds are fewer.
const LARGE: u64 = 256 << 20;

/// Stuffing a socket and timing calls on it takes less than a second.
const STALL: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct Figure3 {
    /// Five sizes, few and short windows: under two minutes.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    networks: Networks,
    /// Measure over a real network: the host on which `sluicegate-bench peer --listen ADDR` runs.
    #[arg(long, value_name = "HOST[:PORT]", conflicts_with = "network")]
    peer: Option<String>,
    /// Measure files up to this size alone, in KiB.
    #[arg(long, value_name = "KIB")]
    up_to: Option<u64>,
    #[command(flatten)]
    outcome: Outcome,
}

/// A line of `rounds.jsonl`, beside those of the windows.
#[derive(Debug, Serialize)]
struct Line<'a> {
    kind: &'a str,
    #[serde(flatten)]
    called: &'a Called,
}

impl Figure3 {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        // Every way is a loop of this program: there is no server to build.
        let mut session = Session::open("figure3", self.outcome.out(), Effort::NONE, false)?;
        let sizes = self.sizes(&mut session);
        session.run.progress("preparing the files");
        session.serve(contents::prepare(&sizes)?);
        let wanted = self.networks.or(&NETWORKS);
        let mut sites = Site::open(&mut session, &wanted, self.peer.as_deref())?;
        let (mut cells, mut called) = (Vec::new(), Vec::new());
        for site in &mut sites {
            let is_slow = !NETWORKS.contains(&site.name());
            for &contents in &sizes {
                if is_slow && self.up_to.is_none() && contents.length > LARGEST_SLOW {
                    let label = contents.label();
                    session.skip(format!("{label} over {}: see --up-to", site.name()));
                    continue;
                }
                let plan = self.plan(contents);
                let cell = plan.measure(&mut session, site, |session, site, server| {
                    if server.peer != OURS {
                        return Ok(());
                    }
                    site.control.stall(server.address, STUFF, STALL)?;
                    let network = site.name();
                    let calls = ask(site.server(), server.address, CALLS)?;
                    let of = Called { network, length: contents.length, calls };
                    session.run.record(&Line { kind: "calls", called: &of })?;
                    called.push(of);
                    Ok(())
                })?;
                cells.push(cell);
            }
        }

        let who: Vec<String> = sites.iter().filter_map(Site::who).collect();
        let networks = sites.iter().map(Site::name).collect();
        drop(sites);
        let Session { run, machine, skipped, .. } = session;
        let findings = Findings { networks, cells, called, skipped };
        let report = format!("{}\n{}\n{}", machine.summary(), who.join("\n"), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }

    /// The sizes that are measured. A file that does not stay in memory would be read from the
    /// disk, which is another question.
    fn sizes(&self, session: &mut Session) -> Vec<Contents> {
        let mut sizes = if self.quick {
            sizes::some(&[1, 64, 4 << 10, 64 << 10, 4 << 20])
        } else {
            sizes::up_to(u64::MAX)
        };
        sizes.retain(|size| self.up_to.is_none_or(|kib| size.length <= kib << 10));
        let room = session.machine.memory_bytes / 3;
        for size in sizes.extract_if(.., |size| size.length > room) {
            session.skip(format!("{}: it does not stay in this machine's memory", size.label()));
        }
        sizes
    }

    fn plan(&self, contents: Contents) -> Plan<'static> {
        // A core's time is counted in steps of 10 ms: a window has tens of them.
        let (wanted, at_most, window) = match (self.quick, contents.length >= LARGE) {
            (true, true) => (3, 3, 200),
            (true, false) => (5, 6, 200),
            (false, true) => (9, 10, 400),
            (false, false) => (15, 18, 400),
        };
        Plan {
            contents,
            servers: &WAYS,
            rounds: Rounds { wanted, at_most },
            window: Duration::from_millis(window),
            // Servers account for every transfer, also for one that warms up.
            warm_up: 0,
            reports: true,
        }
    }
}
