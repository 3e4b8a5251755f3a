//! The goals of the project for proxies, and whether they are met.

use super::backend;
use super::bursty::{self, LARGE, SMALL};
use super::crowd::Crowd;
use super::early::EARLY;
use super::guest::OverCard;
use super::paper::{LAWLESS, PAPER};
use super::pools::Pools;
use super::slow_crowd::{BOUNDED, DISK};
use super::trip::{Trip, Trips};
use super::watch::Metrics;
use super::{
    HAPROXY_AUTO, HAPROXY_SPLICE, LIGHTTPD, MESSAGE_FLOOR, NGINX, OURS, SLOW, SPLICE_FLOOR,
};
use crate::experiment::cell::Cell;
use crate::harness::report::Target;
use crate::harness::statistics::Spread;
use crate::peer::Peer;

/// CPU of a GiB to a fast client, by the splice floor, HAProxy with splice, and nginx.
const LARGE_BOUNDS: [(Peer, f64); 4] =
    [(SPLICE_FLOOR, 1.25), (HAPROXY_SPLICE, 0.5), (HAPROXY_AUTO, 0.5), (NGINX, 0.2)];

/// CPU of a KiB above the bare relay, by nginx's above it.
const ABOVE_RELAY: f64 = 0.4;

/// The same of 50 MB/s, by nginx and HAProxy with splice.
const FIGURE4_BOUNDS: [(Peer, f64); 3] =
    [(NGINX, 0.15), (HAPROXY_SPLICE, 0.45), (HAPROXY_AUTO, 0.45)];

/// Download time by the link's own.
const OF_LINK: f64 = 1.01;

/// Bodies below this length take less time than can be compared.
const COMPARED: u64 = 16 << 20;

/// And those below this one less than shows in a core's idle time, which has steps of 10 ms.
const CORE_COMPARED: u64 = 256 << 20;

/// Bytes that the default holds of one body: its bound, and what the process itself grows by.
const HELD: f64 = ((64 + 4) << 20) as f64;

/// Requests that the backend answers: nginx's by ours.
const BACKEND: f64 = 1.0;

/// CPU where the upstream is let go early, by nginx's and lighttpd's.
const EARLY_CPU: f64 = 0.6;

/// "No later" by a clock that is read between two calls.
const NO_LATER: f64 = 1.02;

/// A GiB of the crowd by one of a single connection.
const CROWD: f64 = 1.5;

/// One pool by a thousand, in requests per second.
const POOLS: f64 = 1.0 / 0.95;

/// The share of partitions that may be freed otherwise than by acknowledgement.
const UNPROVED: f64 = 0.02;

const MIB: f64 = (1 << 20) as f64;

fn target(name: impl Into<String>, bound: f64, value: Option<f64>) -> Target {
    Target { name: name.into(), bound, value }
}

fn median(ratios: Option<Vec<f64>>) -> Option<f64> {
    Spread::of(&ratios?).map(|of| of.median)
}

/// A GiB, or a KiB, in windows.
pub(super) fn of_stream(cell: &Cell) -> Vec<Target> {
    let name = &*cell.workload.name;
    match name {
        "large" => LARGE_BOUNDS
            .map(|(peer, bound)| {
                let ratio = median(cell.all_ratios(OURS, peer));
                target(format!("large over {}: CPU, ours / {peer}", cell.network), bound, ratio)
            })
            .into(),
        "small" => {
            let is_measured = cell.workload.peers.contains(&MESSAGE_FLOOR);
            let above = is_measured.then(|| cell.above_floor(NGINX)).flatten();
            let what = "small: CPU above the bare relay, ours / nginx's above it";
            vec![target(what, ABOVE_RELAY, median(above))]
        }
        // With logs it is shown in the table alone.
        _ => Vec::new(),
    }
}

/// What the link takes by itself: measured beside, or the client's own rate.
pub(super) fn link_of(cell: &Trips) -> Option<f64> {
    let by_rate = || Some(cell.plan.contents.length as f64 / cell.plan.rate? as f64);
    cell.link_s().or_else(by_rate)
}

pub(super) fn of_figure4(cells: &[Trips]) -> Vec<Target> {
    let mut targets = Vec::new();
    for cell in cells.iter().filter(|cell| cell.plan.contents.length >= COMPARED) {
        let name = format!("figure 4 (i), {}", cell.plan.name);
        let took = cell.median(OURS, Trip::took_s);
        let by_link = took.zip(link_of(cell)).map(|(took, link)| took / link);
        targets.push(target(format!("{name}: download time / the link's own"), OF_LINK, by_link));
        for (peer, bound) in FIGURE4_BOUNDS {
            if !cell.has(peer) {
                continue;
            }
            if cell.plan.contents.length >= CORE_COMPARED {
                let ratio = cell.ratio(OURS, peer, |trip| trip.load.core_by_gib());
                targets.push(target(format!("{name}: CPU, ours / {peer}"), bound, ratio));
            }
            let threads = cell.ratio(OURS, peer, |trip| trip.load.threads_by_gib());
            targets.push(target(format!("{name}: own threads, ours / {peer}"), bound, threads));
        }
    }
    let most = |figure: fn(&Trip) -> f64| {
        cells.iter().filter_map(|cell| cell.most(OURS, figure)).reduce(f64::max)
    };
    let held = most(|trip| trip.watched.held() as f64);
    let what = "figure 4 (i): MiB held, pipes and what the process grew by";
    targets.push(target(what, HELD / MIB, held.map(|bytes| bytes / MIB)));
    let written = most(|trip| trip.watched.written as f64);
    targets.push(target("figure 4 (i): bytes written to disk", 0.0, written));
    targets
}

/// Whether a metric tells of partitions by the proof that freed them.
pub(super) fn is_proof(name: &str) -> bool {
    name.contains("proof=")
}

pub(super) fn of_paper(cell: &Trips) -> Vec<Target> {
    let ratio = cell.ratio(PAPER, NGINX, |trip| trip.load.core_by_gib());
    let threads = cell.ratio(PAPER, NGINX, |trip| trip.load.threads_by_gib());
    // Of the partitions that were written again, those that no acknowledgement freed.
    let others = cell.most(PAPER, |trip| not_acked(&trip.metrics)).filter(|value| !value.is_nan());
    vec![
        target("figure 4 (ii): CPU, ours / nginx", 1.0, ratio),
        target("figure 4 (ii): own threads, ours / nginx", 1.0, threads),
        target("figure 4 (ii): share of partitions not freed by ack", UNPROVED, others),
    ]
}

/// The share of partitions that no acknowledgement freed; no number where none was told of.
fn not_acked(metrics: &Metrics) -> f64 {
    let proofs = |label: &str| -> f64 {
        let found = metrics.iter().filter(|(name, _)| is_proof(name));
        found.filter(|(name, _)| name.contains(label)).map(|(_, value)| value).sum()
    };
    let (all, acked) = (proofs("proof="), proofs("\"acked\""));
    if all > 0.0 { 1.0 - acked / all } else { f64::NAN }
}

pub(super) fn of_card(found: &OverCard) -> Target {
    let value = Some(not_acked(&found.metrics)).filter(|value| !value.is_nan());
    target("figure 4 (ii), virtual machine: share of partitions not freed by ack", UNPROVED, value)
}

pub(super) fn of_lawless(cell: &Trips) -> Vec<Target> {
    let wrong = |peer| cell.most(peer, |trip| trip.load.wrong() as f64);
    let right = |trip: &Trip| f64::from(u8::from(trip.load.wrong() == 0));
    vec![
        target("figure 4 (iii): wrong bytes with the law", 0.0, wrong(PAPER)),
        target(
            "figure 4 (iii): bodies without a wrong byte, law switched off",
            0.0,
            cell.has(LAWLESS).then(|| cell.all(LAWLESS, right).iter().sum()),
        ),
    ]
}

pub(super) fn of_bursty(cell: &Trips) -> Vec<Target> {
    let by_itself = cell.plan.contents.length as f64 / SLOW as f64;
    let took = |peer| cell.median(peer, Trip::took_s);
    let saved = took(LARGE).zip(took(SMALL)).map(|(large, small)| large / small);
    vec![
        target("bursty: download time, 64 MiB / 1 MiB of spool", bursty::bound(), saved),
        target(
            "bursty: download time with 64 MiB / the client's own",
            1.1,
            took(LARGE).map(|seconds| seconds / by_itself),
        ),
    ]
}

pub(super) fn of_backend(cell: &Trips) -> Vec<Target> {
    let length = cell.plan.contents.length;
    let ratio = cell.ratio(NGINX, OURS, |trip| backend::rate(trip, length));
    let written = cell.most(OURS, |trip| trip.watched.written as f64);
    vec![
        target("backend: answers a second, nginx / ours", BACKEND, ratio),
        target("backend: bytes that ours wrote to disk", 0.0, written),
    ]
}

pub(super) fn of_slow_crowd(cell: &Trips) -> Vec<Target> {
    let downloads = cell.plan.downloads as f64;
    let cut = cell.most(BOUNDED, |trip| downloads - trip.load.whole() as f64);
    let largest = cell.most(BOUNDED, |trip| trip.watched.largest as f64);
    let all = cell.most(BOUNDED, |trip| trip.watched.on_disk as f64);
    let held = cell.most(BOUNDED, |trip| trip.watched.held() as f64);
    // Its configuration allows each a MiB in memory; the process itself may grow by as much.
    let bound = 2.0 * downloads;
    vec![
        target("slow crowd: bodies that were cut", 0.0, cut),
        target(
            "slow crowd: MiB of the largest file on disk",
            DISK as f64 / MIB,
            largest.map(|bytes| bytes / MIB),
        ),
        target(
            "slow crowd: MiB on disk of all",
            downloads * DISK as f64 / MIB,
            all.map(|bytes| bytes / MIB),
        ),
        target("slow crowd: MiB held in memory", bound, held.map(|bytes| bytes / MIB)),
    ]
}

pub(super) fn of_early(cell: &Trips) -> Vec<Target> {
    let held = |trip: &Trip| trip.held_s().unwrap_or(f64::NAN);
    let mut targets = Vec::new();
    for peer in [NGINX, LIGHTTPD] {
        let later = cell.ratio(EARLY, peer, held).filter(|ratio| !ratio.is_nan());
        let name = format!("early: upstream let go, ours / {peer}");
        targets.push(target(name, NO_LATER, later));
        let cost = cell.ratio(EARLY, peer, |trip| trip.load.core_by_gib());
        targets.push(target(format!("early: CPU, ours / {peer}"), EARLY_CPU, cost));
        let threads = cell.ratio(EARLY, peer, |trip| trip.load.threads_by_gib());
        targets.push(target(format!("early: own threads, ours / {peer}"), EARLY_CPU, threads));
    }
    targets
}

pub(super) fn of_crowd(crowd: &Crowd) -> Vec<Target> {
    vec![target("crowd: CPU per GiB, all at once / one", CROWD, crowd.ratio())]
}

pub(super) fn of_pools(pools: &Pools) -> Vec<Target> {
    let ratio = pools.ratio().map(|of| of.median);
    vec![target("pools: requests a second, one pool / all", POOLS, ratio)]
}
