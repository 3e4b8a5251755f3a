//! A hundred slow clients of large bodies, with a bound on the disk; beside it nginx with a temporary
//! file system that is too small.

use anyhow::Result;

use super::finding::{Finding, mib};
use super::targets;
use super::trip::{Plan, Trips};
use super::{NGINX_SMALL, Scale, prepare};
use crate::client::Check;
use crate::experiment::downloads::sizes;
use crate::experiment::session::Session;
use crate::harness::network::Network;
use crate::harness::plot::size_label;
use crate::harness::report::{Table, spread};
use crate::peer::Peer;
use crate::peer::proxy::{Proxy, Spool};

/// Bytes on disk of one body.
pub(super) const DISK: u64 = 16 << 20;

pub(super) const BOUNDED: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-disk-16MiB",
    memory: Some("1MiB"),
    disk: Some("16MiB"),
    ..Spool::DEFAULT
}));

const RECEIVE_BUFFER: usize = 64 << 10;

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let (clients, kib, rate) = scale.of((20, 64 << 10, 16_000_000), (100, 256 << 10, 5_000_000));
    let contents = sizes::some(&[kib])[0];
    prepare(session, &[contents])?;
    let mut finding = Finding::default();
    let mut all = vec![BOUNDED];
    if rustix::process::geteuid().is_root() {
        all.push(NGINX_SMALL);
    } else {
        session.skip("nginx with a small partition: that needs root".to_owned());
    }
    let peers = scale.peers(session, &all);
    if peers.is_empty() {
        return Ok(finding);
    }
    let plan = Plan {
        rounds: scale.rounds(1, 1),
        rate: Some(rate),
        downloads: clients,
        receive_buffer: Some(RECEIVE_BUFFER),
        check: Check::Whole,
        may_be_cut: true,
        expected_s: 2.0 * contents.length as f64 / rate as f64,
        ..Plan::new("slow-crowd", contents, peers)
    };
    let cell = plan.run(session, &Network::Loopback)?;
    finding.add(&table(&cell, rate));
    for (peer, trip) in cell.plan.peers.iter().zip(cell.rounds.iter().flatten()) {
        for (why, count) in &trip.load.told {
            finding.say(&format!("  {peer}: {count} cut off: {why}"));
        }
    }
    finding.targets = targets::of_slow_crowd(&cell);
    Ok(finding)
}

fn table(cell: &Trips, rate: u64) -> Table {
    let title = format!(
        "{} clients of {:.0} MB/s, {} each; {}",
        cell.plan.downloads,
        rate as f64 / 1e6,
        size_label(cell.plan.contents.length),
        cell.rounds_in_words()
    );
    let columns = [
        "",
        "whole",
        "seconds",
        "largest file MiB",
        "all files MiB",
        "held MiB",
        "in pipes MiB",
        "core s/GiB",
    ];
    let mut table = Table::new(title, &columns);
    for &peer in &cell.plan.peers {
        let whole = cell.median(peer, |trip| trip.load.whole() as f64).unwrap_or(0.0);
        table.row(vec![
            peer.to_string(),
            format!("{whole:.0} of {}", cell.plan.downloads),
            spread(cell.spread(peer, |trip| trip.load.seconds), 1),
            mib(cell.most(peer, |trip| trip.watched.largest as f64)),
            mib(cell.most(peer, |trip| trip.watched.on_disk as f64)),
            mib(cell.most(peer, |trip| trip.watched.held() as f64)),
            mib(cell.most(peer, |trip| trip.watched.in_pipes as f64)),
            spread(cell.spread(peer, |trip| trip.load.core_by_gib()), 3),
        ]);
    }
    table
}
