//! The memory tier: a chain of pipes, or a ring in a file in memory.

use anyhow::Result;

use super::finding::{Finding, table};
use super::trip::{Plan, Trip};
use super::{SLOW, Scale, prepare};
use crate::experiment::downloads::sizes;
use crate::experiment::session::Session;
use crate::harness::network::Network;
use crate::harness::plot::size_label;
use crate::peer::Peer;
use crate::peer::proxy::{Proxy, Spool};

const CHAIN: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-pipes",
    memory: Some("64MiB"),
    disk: Some("0"),
    memory_ring: Some(false),
    ..Spool::DEFAULT
}));
const RING: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-memfd-ring",
    pipes: false,
    memory_ring: Some(true),
    memory: Some("64MiB"),
    disk: Some("0"),
    ..Spool::DEFAULT
}));
const COPY: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-copy",
    pipes: false,
    memory_ring: Some(false),
    memory: Some("64MiB"),
    disk: Some("0"),
    ..Spool::DEFAULT
}));

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let slow = sizes::some(&[scale.of(16 << 10, 64 << 10)])[0];
    let fast = sizes::some(&[scale.of(256 << 10, 1 << 20)])[0];
    prepare(session, &[slow, fast])?;
    let mut finding = Finding::default();
    let peers = scale.peers(session, &[CHAIN, RING, COPY]);
    if peers.is_empty() {
        return Ok(finding);
    }
    let network = Network::Loopback;
    // One fits as a whole, and waits in memory; the other goes straight through.
    let held = Plan {
        rounds: scale.rounds(2, 9),
        rate: Some(SLOW),
        receive_buffer: Some(256 << 10),
        ..Plan::new("tiers-held", slow, peers.clone())
    };
    let held = held.run(session, &network)?;
    finding.add(&table(&format!("Memory tiers: {} at 50 MB/s", size_label(slow.length)), &held));
    let through = Plan { rounds: scale.rounds(2, 7), ..Plan::new("tiers-through", fast, peers) };
    let through = through.run(session, &network)?;
    finding.add(&table(
        &format!("Memory tiers: {} to a fast client", size_label(fast.length)),
        &through,
    ));
    let cost = ("tiers-cost.svg", "Memory tiers: own threads", "s/GiB");
    let of = |trip: &Trip| trip.load.threads_by_gib();
    finding.bars_of(cost, &[held, through], of);
    Ok(finding)
}
