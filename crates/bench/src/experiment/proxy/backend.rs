//! A small backend whose four workers are held while they send, and slow clients: how many
//! requests a second it answers from behind a proxy.

use std::time::Duration;

use anyhow::Result;

use super::finding::{Finding, mib};
use super::targets;
use super::trip::{Plan, Trip, Trips};
use super::{HAPROXY_SPLICE, NGINX, OURS, Scale, prepare};
use crate::client::Check;
use crate::experiment::contents::Contents;
use crate::experiment::session::Session;
use crate::harness::network::Network;
use crate::harness::plot::size_label;
use crate::harness::report::{Table, spread};
use crate::upstream::Kind;

const FILES: [Contents; 2] = [
    Contents { name: "1MiB-backend.bin", length: 1 << 20, seed: 72 },
    Contents { name: "8MiB.bin", length: 8 << 20, seed: 71 },
];

const WORKERS: usize = 4;
const CLIENTS: usize = 50;

/// Bytes a second of each client.
const RATE: u64 = 200_000;

/// What each announces.
const RECEIVE_BUFFER: usize = 64 << 10;

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let contents = FILES[usize::from(!scale.quick)];
    prepare(session, &[contents])?;
    let mut finding = Finding::default();
    let peers = scale.peers(session, scale.of(&[OURS, NGINX], &[OURS, NGINX, HAPROXY_SPLICE]));
    if peers.is_empty() {
        return Ok(finding);
    }
    let window = scale.of([1, 6], [2, 45]).map(Duration::from_secs);
    let plan = Plan {
        rounds: scale.rounds(1, 5),
        upstream: Kind::Synchronous(WORKERS),
        rate: Some(RATE),
        downloads: CLIENTS,
        receive_buffer: Some(RECEIVE_BUFFER),
        check: Check::Sampled,
        window: Some(window),
        expected_s: (window[0] + window[1]).as_secs_f64(),
        ..Plan::new("backend", contents, peers)
    };
    let cell = plan.run(session, &Network::Loopback)?;
    finding.add(&table(&cell));
    finding.targets = targets::of_backend(&cell);
    Ok(finding)
}

/// Answers a second that clients got, parts of them included: all of them are under way for
/// longer than a window.
pub(super) fn rate(trip: &Trip, length: u64) -> f64 {
    trip.load.received as f64 / length as f64 / trip.load.seconds
}

fn table(cell: &Trips) -> Table {
    let length = cell.plan.contents.length;
    let title = format!(
        "A backend with {WORKERS} synchronous workers, answers of {} to {CLIENTS} clients of 200 \
         kB/s, who could take {:.2} a second; {}",
        size_label(cell.plan.contents.length),
        CLIENTS as f64 * RATE as f64 / length as f64,
        cell.rounds_in_words()
    );
    let columns =
        ["", "answers/s", "backend held s", "held MiB", "on disk MiB", "written MiB", "core s/GiB"];
    let mut table = Table::new(title, &columns);
    for &peer in &cell.plan.peers {
        let held = |trip: &Trip| {
            let held: Vec<f64> =
                trip.upstream.bodies.iter().filter_map(|body| body.held_s()).collect();
            held.iter().sum::<f64>() / held.len().max(1) as f64
        };
        table.row(vec![
            peer.to_string(),
            spread(cell.spread(peer, |trip| rate(trip, length)), 2),
            spread(cell.spread(peer, held), 2),
            mib(cell.most(peer, |trip| trip.watched.held() as f64)),
            mib(cell.most(peer, |trip| trip.watched.on_disk as f64)),
            mib(cell.median(peer, |trip| trip.watched.written as f64)),
            spread(cell.spread(peer, |trip| trip.load.core_by_gib()), 3),
        ]);
    }
    table
}
