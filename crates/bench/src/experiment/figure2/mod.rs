//! Figure 2 of the paper (docs/paper.md, P60–P62): download times by size of the file, of a server
//! that sends from memory, one that uses `sendfile`, and ours with its strategy.
//!
//! - `send`: [`Way::Epoll`], head and content in memory and one `send`. The paper's server sends
//!   from a mapping that it has made for it; a mapping that stays is memory that stays, and the
//!   same one copy. (One that is made anew for each request pays for its page faults besides.)
//! - `sendfile`: [`Way::Sendfile`], the head with `MSG_MORE`, then the file.
//! - `ours`: the library with its default strategy, in a loop as bare as the two others. This is
//!   what the target judges.
//! - `serve`: the program, which reads and answers real requests. It stands beside.

mod findings;

use std::time::Duration;

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use self::findings::{Findings, Picked};
use super::contents::{self, Contents};
use super::downloads::{Plan, Site, ask, sizes};
use super::options::{Networks, Outcome};
use super::session::{Effort, Session};
use crate::floor::Way;
use crate::floor::figure7::{Answerer, Join, WAYS, Ways};
use crate::harness::round::Rounds;
use crate::peer::Peer;

const SEND: Peer = Peer::Floor(Way::Epoll);
const SENDFILE: Peer = Peer::Floor(Way::Sendfile);
const OURS: Peer = Peer::Answerer(Answerer { join: Join::Ours, tail: false });
const SERVE: Peer = Peer::Sluicegate;

/// In the order in which they are shown, with their names.
const SERVERS: [(Peer, &str); 4] =
    [(SEND, "send"), (SENDFILE, "sendfile"), (OURS, "ours"), (SERVE, "serve")];

/// The paper's wire, the one without a limit, and one that copies.
const NETWORKS: [&str; 3] = ["veth50", "veth", "wire50"];

/// The largest file: a second and a half over 50 MB/s.
const LARGEST: u64 = 64 << 20;

/// From this size on a single download is a window where the wire is slow, and rounds are fewer.
const LARGE: u64 = 16 << 20;

#[derive(Debug, Args)]
pub(crate) struct Figure2 {
    /// Four sizes, few and short windows: under two minutes.
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
    /// Leave the program `serve` out: then nothing has to be built.
    #[arg(long)]
    bare: bool,
    #[command(flatten)]
    outcome: Outcome,
}

/// A line of `rounds.jsonl`, beside those of the windows.
#[derive(Debug, Serialize)]
struct Line<'a> {
    kind: &'a str,
    #[serde(flatten)]
    picked: &'a Picked,
}

impl Figure2 {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        let sizes = self.sizes();
        let mut session = Session::open("figure2", self.outcome.out(), Effort::NONE, !self.bare)?;
        session.run.progress("preparing the files");
        session.serve(contents::prepare(&sizes)?);
        let wanted = self.networks.or(&NETWORKS);
        let mut sites = Site::open(&mut session, &wanted, self.peer.as_deref())?;
        let (mut cells, mut picked) = (Vec::new(), Vec::new());
        for site in &mut sites {
            for &contents in &sizes {
                let plan = self.plan(contents);
                let cell = plan.measure(&mut session, site, |session, site, server| {
                    if server.peer != OURS {
                        return Ok(());
                    }
                    let ways: Ways = ask(site.server(), server.address, WAYS)?;
                    let network = site.name();
                    let of = Picked { network, length: contents.length, ways };
                    session.run.record(&Line { kind: "ways", picked: &of })?;
                    picked.push(of);
                    Ok(())
                })?;
                cells.push(cell);
            }
        }

        let who: Vec<String> = sites.iter().filter_map(Site::who).collect();
        let networks = sites.iter().map(Site::name).collect();
        drop(sites);
        let Session { run, machine, skipped, .. } = session;
        let findings = Findings { networks, cells, picked, skipped };
        let report = format!("{}\n{}\n{}", machine.summary(), who.join("\n"), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }

    fn sizes(&self) -> Vec<Contents> {
        let mut sizes = if self.quick {
            sizes::some(&[1, 64, 1 << 10, 16 << 10])
        } else {
            sizes::up_to(LARGEST)
        };
        sizes.retain(|size| self.up_to.is_none_or(|kib| size.length <= kib << 10));
        sizes
    }

    fn plan(&self, contents: Contents) -> Plan<'static> {
        const PEERS: [Peer; 4] = [SEND, SENDFILE, OURS, SERVE];
        let servers = if self.bare { &PEERS[..3] } else { &PEERS };
        let is_large = contents.length >= LARGE;
        let (wanted, at_most, window) = match (self.quick, is_large) {
            (true, true) => (3, 3, 60),
            (true, false) => (5, 6, 60),
            (false, true) => (9, 10, 150),
            (false, false) => (15, 18, 150),
        };
        Plan {
            contents,
            servers,
            rounds: Rounds { wanted, at_most },
            window: Duration::from_millis(window),
            // On a connection that has found the rate of its path, as far as that is cheap.
            warm_up: u32::from(!is_large),
            reports: false,
        }
    }
}
