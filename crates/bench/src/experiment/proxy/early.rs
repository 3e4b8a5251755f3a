//! When an upstream is let go while the client is slow, where the disk may have all of the body.

use anyhow::Result;

use super::finding::{Finding, table};
use super::targets;
use super::trip::{Plan, Trip};
use super::{LIGHTTPD, NGINX, SLOW, Scale, prepare};
use crate::experiment::contents::GIB;
use crate::experiment::downloads::sizes;
use crate::experiment::session::Session;
use crate::harness::network::Network;
use crate::harness::plot::size_label;
use crate::peer::Peer;
use crate::peer::proxy::{Proxy, Spool};

pub(super) const EARLY: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-disk-1GiB",
    disk: Some("1GiB"),
    ..Spool::DEFAULT
}));

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let contents = if scale.quick { sizes::some(&[64 << 10])[0] } else { GIB };
    prepare(session, &[contents])?;
    let mut finding = Finding::default();
    let Some(network) = scale.network(session, &["veth50", "lo"]) else { return Ok(finding) };
    let peers = scale.peers(session, &[EARLY, NGINX, LIGHTTPD]);
    if peers.is_empty() {
        return Ok(finding);
    }
    let plan = Plan {
        rounds: scale.rounds(1, 5),
        rate: matches!(network, Network::Loopback).then_some(SLOW),
        link_too: !matches!(network, Network::Loopback),
        ..Plan::new("early", contents, peers)
    };
    let cell = plan.run(session, &network)?;
    let title = format!(
        "Letting the upstream go: {} at 50 MB/s, all may be on disk",
        size_label(contents.length)
    );
    finding.add(&table(&title, &cell));
    finding.targets = targets::of_early(&cell);
    let held = ("early-seconds.svg", "When the upstream is let go", "s");
    let of = |trip: &Trip| trip.held_s().unwrap_or(0.0);
    finding.bars_of(held, std::slice::from_ref(&cell), of);
    Ok(finding)
}
