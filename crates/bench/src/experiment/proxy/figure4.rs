//! Figure 4 (i): downloads of 1 MiB to 4 GiB by a client of 50 MB/s, through what the program does
//! by itself.

use anyhow::{Result, ensure};

use super::finding::{Finding, figure, mib, table};
use super::targets;
use super::trip::{Plan, Trip, Trips};
use super::{
    HAPROXY_AUTO, HAPROXY_SPLICE, NGINX, NGINX_UNBUFFERED, OURS, SLOW, SPLICE_FLOOR, Scale, prepare,
};
use crate::client::Check;
use crate::experiment::downloads::sizes;
use crate::experiment::session::Session;
use crate::harness::network::Network;
use crate::harness::plot::size_label;
use crate::harness::report::Table;
use crate::peer::Peer;

/// KiB of each body.
const FULL: [u64; 7] = [1 << 10, 4 << 10, 16 << 10, 64 << 10, 256 << 10, 1 << 20, 4 << 20];
const QUICK: [u64; 3] = [1 << 10, 16 << 10, 64 << 10];

/// A round of these takes six minutes.
const HUGE: u64 = 4 << 30;
/// From here on those alone that goals name.
const LARGE: u64 = 1 << 30;

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let mut sizes = sizes::some(scale.of(&QUICK[..], &FULL[..]));
    let name = |length| size_label(length).replace(' ', "");
    let names: Vec<String> = sizes.iter().map(|contents| name(contents.length)).collect();
    for wanted in &scale.bench.size {
        ensure!(
            names.contains(wanted),
            "no body of {wanted} is measured, but {}",
            names.join(", ")
        );
    }
    let all = scale.bench.size.is_empty();
    sizes.retain(|contents| all || scale.bench.size.contains(&name(contents.length)));
    prepare(session, &sizes)?;
    let mut finding = Finding::default();
    let Some(network) = scale.network(session, &["veth50", "lo"]) else { return Ok(finding) };
    // A link that is slow, or a client that is.
    let rate = matches!(network, Network::Loopback).then_some(SLOW);
    let mut cells = Vec::new();
    for contents in sizes {
        let mut all = vec![OURS, NGINX, HAPROXY_SPLICE];
        if contents.length < LARGE {
            all.extend([HAPROXY_AUTO, NGINX_UNBUFFERED, SPLICE_FLOOR]);
        }
        if scale.quick {
            all.truncate(3);
        }
        let plan = Plan {
            rounds: match contents.length {
                HUGE => scale.rounds(1, 1),
                LARGE => scale.rounds(1, 5),
                _ => scale.rounds(2, 5),
            },
            rate,
            check: Check::Whole,
            link_too: rate.is_none(),
            ..Plan::new(size_label(contents.length), contents, scale.peers(session, &all))
        };
        if plan.peers.is_empty() {
            return Ok(finding);
        }
        cells.push(plan.run(session, &network)?);
    }
    finding.add(&overview(&cells));
    for cell in &cells {
        finding.add(&table(&format!("Figure 4 (i): {} at 50 MB/s", cell.plan.name), cell));
    }
    finding.targets = targets::of_figure4(&cells);
    let took = ("figure4-seconds.svg", "Figure 4 (i): download", "s");
    finding.bars_of(took, &cells, Trip::took_s);
    let cost = ("figure4-cost.svg", "Figure 4 (i): CPU of the proxy's core", "s/GiB");
    finding.bars_of(cost, &cells, |trip| trip.load.core_by_gib());
    Ok(finding)
}

fn overview(cells: &[Trips]) -> Table {
    let columns = [
        "",
        "link s",
        "ours s",
        "nginx s",
        "haproxy s",
        "CPU / nginx",
        "CPU / haproxy-splice",
        "held MiB",
        "written MiB",
        "nginx wrote",
    ];
    let title = "Figure 4 (i): 50 MB/s, what the program does by itself; CPU of the core / of own threads / \
                 of the core above what the link by itself has it do";
    let mut table = Table::new(title, &columns);
    for cell in cells {
        let ratio = |peer: Peer| {
            let threads = cell.ratio(OURS, peer, |trip: &Trip| trip.load.threads_by_gib());
            let core = cell.ratio(OURS, peer, |trip: &Trip| trip.load.core_by_gib());
            let above = cell.ratio_above_link(OURS, peer);
            format!("{} / {} / {}", figure(core, 2), figure(threads, 2), figure(above, 2))
        };
        table.row(vec![
            cell.plan.name.clone(),
            figure(targets::link_of(cell), 2),
            figure(cell.median(OURS, Trip::took_s), 2),
            figure(cell.median(NGINX, Trip::took_s), 2),
            figure(cell.median(HAPROXY_SPLICE, Trip::took_s), 2),
            ratio(NGINX),
            ratio(HAPROXY_SPLICE),
            mib(cell.most(OURS, |trip| trip.watched.held() as f64)),
            mib(cell.most(OURS, |trip| trip.watched.written as f64)),
            mib(cell.median(NGINX, |trip| trip.watched.written as f64)),
        ]);
    }
    table
}
