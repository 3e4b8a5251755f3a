//! What the paper set aside (docs/paper.md, P32, P36): a `sendfile` that blocks until the last byte
//! is acknowledged, many connections on one loop, beside ours, which queues and goes on.

mod findings;

use anyhow::{Context, Result};
use clap::Args;

use self::findings::Findings;
use super::cell::Cell;
use super::contents::{self, Contents};
use super::options::{Networks, Outcome};
use super::record::Record;
use super::session::{CLIENT_LIMIT, Effort, Session, load_of, void};
use super::workload::{Unit, Workload};
use crate::client::{Check, Load};
use crate::floor::Way;
use crate::floor::figure7::{Answerer, Join};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::round::{Rounds, fault, order};
use crate::peer::Peer;

const ACKED: Peer = Peer::Floor(Way::BlockingAcked);
const BLOCKING: Peer = Peer::Floor(Way::Blocking);
const OURS: Peer = Peer::Answerer(Answerer { join: Join::OursFile, tail: false });

/// In the order in which they are shown, with their names.
const SERVERS: [(Peer, &str); 3] =
    [(ACKED, "until acked"), (BLOCKING, "until accepted"), (OURS, "ours")];

/// The last two carry as much; but on the last one, 5 ms long, a download waits for its
/// acknowledgements.
const NETWORKS: [&str; 4] = ["lo", "veth", "veth50", "far50"];

const FILE: Contents = Contents { name: "acked-1MiB.bin", length: 1 << 20, seed: 36 };

const CONNECTIONS: [usize; 4] = [1, 4, 16, 64];

/// Downloads of a window: so many, and so many for each connection, if that is more.
const DOWNLOADS: usize = 24;
const FOR_EACH: usize = 2;

#[derive(Debug, Args)]
pub(crate) struct AckBlocking {
    /// 1 and 16 connections, few rounds: under two minutes.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    outcome: Outcome,
}

impl AckBlocking {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        // Every way is a loop of this program: there is no server to build.
        let out = self.outcome.out();
        let mut session = Session::open("ack-blocking", out, Effort::NONE, false)?;
        session.serve(contents::prepare(&[FILE])?);
        let wanted = self.networks.or(&NETWORKS);
        let networks = session.networks(&wanted);
        let rounds = if self.quick {
            Rounds { wanted: 3, at_most: 3 }
        } else {
            Rounds { wanted: 5, at_most: 6 }
        };
        for network in &networks {
            for connections in CONNECTIONS {
                if !self.quick || [1, 16].contains(&connections) {
                    let cell = measure(&mut session, network, &workload(connections), rounds)?;
                    session.cells.push(cell);
                }
            }
        }

        let Session { run, machine, cells, skipped, .. } = session;
        let networks = networks.iter().map(Network::name).collect();
        let findings = Findings { networks, cells, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }
}

fn workload(connections: usize) -> Workload {
    Workload {
        name: format!("{connections} connection(s)"),
        contents: FILE,
        files: None,
        connections,
        check: Check::Sampled,
        unit: Unit::Request,
        peers: SERVERS.map(|(peer, _)| peer).into(),
        logs: false,
    }
}

/// All rounds of one workload. Windows end with a number of downloads and not with the time: the
/// slowest way is to serve every connection, too.
fn measure(
    session: &mut Session,
    network: &Network,
    workload: &Workload,
    rounds: Rounds,
) -> Result<Cell> {
    let mut servers = Vec::new();
    for &peer in &workload.peers {
        interrupt::check()?;
        servers.push(session.start(network, peer, workload.contents)?);
    }
    let requests = DOWNLOADS.max(FOR_EACH * workload.connections).to_string();
    let connections = workload.connections.to_string();
    let plan = ["--connections", &connections, "--check", "sampled", "--requests", &requests];
    let (mut all, mut faults) = (Vec::new(), Vec::new());
    let mut good = 0;
    while rounds.want_more(all.len(), good) {
        let mut windows: Vec<Option<Load>> = vec![None; servers.len()];
        for index in order(all.len(), servers.len()) {
            interrupt::check()?;
            let server = &servers[index];
            let load = answer_of(load_of(network, server, workload, &plan)?, CLIENT_LIMIT);
            windows[index] = Some(load.with_context(|| void(server))?);
        }
        let windows: Vec<Load> = windows.into_iter().flatten().collect();
        let found = fault(&windows);
        let mut line = format!("{} {} round {}:", network.name(), workload.name, all.len() + 1);
        for ((peer, name), load) in SERVERS.iter().zip(&windows) {
            line += &format!("  {name} {:.0}", findings::rate(load));
            session.run.record(&Record::Load {
                network: network.name().to_owned(),
                workload: workload.name.clone(),
                server: peer.to_string(),
                round: all.len(),
                fault: found.map(|fault| fault.to_string()),
                unit: workload.unit,
                cost: workload.unit.core_cost(load),
                load: Box::new(load.clone()),
            })?;
        }
        let fault = found.map_or_else(String::new, |fault| format!("  ({fault})"));
        session.run.progress(&format!("{line} MB/s{fault}"));
        good += usize::from(found.is_none());
        faults.push(found);
        all.push(windows);
    }
    Ok(Cell { network: network.name(), workload: workload.clone(), rounds: all, faults })
}
