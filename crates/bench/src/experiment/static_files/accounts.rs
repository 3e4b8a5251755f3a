//! What is counted rather than measured: system calls of a request, memory of an idle connection.

use anyhow::{Context, Result};

use super::workloads::small;
use crate::client::{IdleMemory, Load};
use crate::experiment::record::Record;
use crate::experiment::session::{CLIENT_LIMIT, SERVER_CPU, Session, client_of, load_of, void};
use crate::harness::calls::{self, Calls};
use crate::harness::cycles::{self, Counter};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::round::{Fault, fault};
use crate::harness::statistics::Spread;
use crate::peer::Peer;

const IDLE_CONNECTIONS: usize = 10_000;
/// Descriptors that a process needs beside its connections.
const OTHER_DESCRIPTORS: u64 = 100;

/// System calls for each request.
#[derive(Debug)]
pub(super) struct CallsPerRequest {
    pub(super) peer: Peer,
    pub(super) connections: usize,
    pub(super) requests: u64,
    pub(super) calls: Calls,
}

impl CallsPerRequest {
    pub(super) fn total(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.requests as f64
    }

    /// Those that matter, the most frequent first.
    pub(super) fn breakdown(&self) -> String {
        let mut calls: Vec<(&String, f64)> = self
            .calls
            .iter()
            .map(|(name, &count)| (name, count as f64 / self.requests as f64))
            .filter(|(_, each)| *each >= 0.01)
            .collect();
        calls.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let parts: Vec<String> =
            calls.iter().map(|(name, each)| format!("{name} {each:.2}")).collect();
        parts.join(", ")
    }
}

/// System calls for each request, over loopback. A server is started for each count, because
/// the count ends with it.
pub(super) fn count_calls(session: &mut Session, peers: &[Peer]) -> Result<Vec<CallsPerRequest>> {
    let mut counts = Vec::new();
    if !calls::can_count() {
        session.skip("system calls: there is no strace".to_owned());
        return Ok(counts);
    }
    for &peer in peers {
        for (connections, requests) in [(64, "8000"), (1, "2000")] {
            interrupt::check()?;
            let network = Network::Loopback;
            let workload = small(connections);
            let server = session.start(&network, peer, workload.contents)?;
            session.run.progress(&format!("{peer}: counting calls, {connections} connections"));
            let connected = connections.to_string();
            // It waits, since strace has the same core.
            let plan = [
                "--connections",
                &connected,
                "--check",
                "whole",
                "--requests",
                requests,
                "--waits",
            ];
            let client = load_of(&network, &server, &workload, &plan)?;
            let mut requests = 0;
            let counted = calls::count(server.child, || {
                requests = answer_of::<Load>(client, CLIENT_LIMIT)?.requests;
                Ok(())
            });
            let calls = counted.with_context(|| format!("cannot count calls of {peer}"))?;
            let server = peer.to_string();
            session.run.record(&Record::Calls {
                server,
                connections,
                requests,
                calls: calls.clone(),
            })?;
            counts.push(CallsPerRequest { peer, connections, requests, calls });
        }
    }
    Ok(counts)
}

/// Cycles of the server's core for each request of 1 KiB, over loopback.
#[derive(Debug)]
pub(super) struct CyclesPerRequest {
    /// How they were come by.
    pub(super) counter: Counter,
    /// Each with what disturbed it: the whole core is counted, whoever works there.
    pub(super) of: Vec<(Peer, f64, Option<Fault>)>,
}

/// Cycles for each request, counted while 64 connections ask without end. Where the processor
/// does not count, by what was measured of 1 KiB before.
pub(super) fn count_cycles(
    session: &mut Session,
    peers: &[Peer],
    requests: u64,
) -> Result<Option<CyclesPerRequest>> {
    if peers.is_empty() {
        return Ok(None);
    }
    let counter = Counter::find()?;
    let mut of = Vec::new();
    for &peer in peers {
        let cycles = match counter {
            Counter::Perf => Some(counted(session, peer, requests)?),
            Counter::Nominal(hertz) => {
                let mut cells = session.cells.iter();
                let cell = cells.find(|of| of.network == "lo" && of.workload.name == "1KiB-64");
                let costs = cell.and_then(|cell| cell.all_costs(peer));
                let cost = costs.and_then(|all| Spread::of(&all));
                cost.map(|cost| (cost.median * 1e-6 * hertz, None))
            }
        };
        of.extend(cycles.map(|(cycles, fault)| (peer, cycles, fault)));
    }
    Ok(Some(CyclesPerRequest { counter, of }))
}

fn counted(session: &mut Session, peer: Peer, requests: u64) -> Result<(f64, Option<Fault>)> {
    interrupt::check()?;
    let network = Network::Loopback;
    let workload = small(64);
    let server = session.start(&network, peer, workload.contents)?;
    session.run.progress(&format!("{peer}: counting cycles"));
    let asked = requests.to_string();
    let plan = ["--connections", "64", "--check", "whole", "--requests", &asked];
    let client = load_of(&network, &server, &workload, &plan)?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("cycles");
    let client = cycles::counted(&client, SERVER_CPU, &path).context("there is no perf")?;
    let load: Load = answer_of(client, CLIENT_LIMIT).with_context(|| void(&server))?;
    let cycles = cycles::read(&path)?;
    session.run.record(&Record::Cycles {
        server: peer.to_string(),
        cycles,
        requests: load.answered,
    })?;
    Ok((cycles as f64 / load.answered as f64, fault(&[load])))
}

/// The memory of idle connections, over loopback.
pub(super) fn weigh_idle(session: &mut Session, peers: &[Peer]) -> Result<Vec<(Peer, IdleMemory)>> {
    let mut weights = Vec::new();
    let limit = sluicegate_sys::limits::raise_descriptors()?;
    if limit < IDLE_CONNECTIONS as u64 + OTHER_DESCRIPTORS {
        session.skip(format!("idle connections: a process may open {limit} descriptors only"));
        return Ok(weights);
    }
    for &peer in peers {
        interrupt::check()?;
        let network = Network::Loopback;
        let workload = small(IDLE_CONNECTIONS);
        let server = session.start(&network, peer, workload.contents)?;
        session.run.progress(&format!("{peer}: {IDLE_CONNECTIONS} idle connections"));
        let connections = IDLE_CONNECTIONS.to_string();
        let plan = ["--connections", &connections, "--hold", "1000"];
        let client = client_of(&network, &server, &workload, "idle", &plan)?;
        let memory: IdleMemory = answer_of(client, CLIENT_LIMIT).with_context(|| void(&server))?;
        session.run.record(&Record::Idle { server: peer.to_string(), memory: memory.clone() })?;
        weights.push((peer, memory));
    }
    Ok(weights)
}
