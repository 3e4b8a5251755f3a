//! What of the paper's proxy helps, which the paper did not measure: a cyclic file, calls that do
//! not block, larger units; each apart from the others, in a bare loop without a proxy around it.

use anyhow::Result;

use super::finding::{Finding, figure, mib};
use super::trip::{Plan, Trip, Trips};
use super::{NGINX, NGINX_LARGE_UNITS, Scale, prepare};
use crate::client::Check;
use crate::experiment::downloads::sizes;
use crate::experiment::session::Session;
use crate::floor::relay::{Relay, Through};
use crate::harness::plot::size_label;
use crate::harness::report::{Table, spread};
use crate::harness::statistics::Spread;
use crate::peer::Peer;
use crate::peer::proxy::Proxy;

const QUICK: u64 = 16 << 10;
const FULL: u64 = 256 << 10;

fn peer(through: Through) -> Peer {
    Peer::Proxy(Proxy::Floor(Relay::File(through)))
}

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let contents = sizes::some(&[scale.of(QUICK, FULL)])[0];
    prepare(session, &[contents])?;
    let mut finding = Finding::default();
    let Some(network) = scale.network(session, &["wire50"]) else { return Ok(finding) };
    let mut all: Vec<Peer> = Through::all().map(peer).collect();
    all.extend([NGINX, NGINX_LARGE_UNITS]);
    let peers = scale.peers(session, &all);
    if peers.is_empty() {
        return Ok(finding);
    }
    let plan = Plan {
        rounds: scale.rounds(1, 5),
        check: Check::Whole,
        link_too: true,
        ..Plan::new("factors", contents, peers)
    };
    let cell = plan.run(session, &network)?;
    finding.add(&table(&cell));
    finding.say(&paragraph(&cell));
    let cost = ("factors-cost.svg", "What of the paper's proxy helps: CPU", "s/GiB");
    finding.bars_of(cost, std::slice::from_ref(&cell), |trip| trip.load.core_by_gib());
    Ok(finding)
}

fn table(cell: &Trips) -> Table {
    let title = format!(
        "Which factor helps: {} through a file at 50 MB/s over {}, {}; nginx as it is and with \
         buffers of 100 KB beside them",
        size_label(cell.plan.contents.length),
        cell.network,
        cell.rounds_in_words()
    );
    let columns =
        ["", "core s/GiB", "own threads", "download s", "let go s", "on disk MiB", "written MiB"];
    let mut table = Table::new(title, &columns);
    for &peer in &cell.plan.peers {
        table.row(vec![
            peer.to_string(),
            spread(cell.spread(peer, |trip| trip.load.core_by_gib()), 3),
            figure(cell.median(peer, |trip| trip.load.threads_by_gib()), 3),
            figure(cell.median(peer, Trip::took_s), 2),
            figure(cell.median(peer, |trip| trip.held_s().unwrap_or(f64::NAN)), 2),
            mib(cell.most(peer, |trip| trip.watched.on_disk as f64)),
            mib(cell.median(peer, |trip| trip.watched.written as f64)),
        ]);
    }
    if let Some(seconds) = cell.link_s() {
        let mut row = vec![String::new(); 4];
        (row[0], row[3]) = ("the link itself".to_owned(), format!("{seconds:.2}"));
        table.row(row);
    }
    table
}

/// Each factor by itself: the four pairs of cells that differ in it alone.
fn paragraph(cell: &Trips) -> String {
    type Change = fn(Through) -> Option<Through>;
    type Of = fn(&Trip) -> f64;
    let factors: [(&str, Change); 3] = [
        ("a cyclic file instead of a growing one", |of| {
            (!of.is_cyclic).then_some(Through { is_cyclic: true, ..of })
        }),
        ("calls that do not block", |of| of.blocks.then_some(Through { blocks: false, ..of })),
        ("units of 100 KB instead of 8", |of| {
            (!of.is_large).then_some(Through { is_large: true, ..of })
        }),
    ];
    let figures: [(&str, Of); 3] = [
        ("CPU", |trip| trip.load.core_by_gib()),
        ("download time", Trip::took_s),
        ("time to let the upstream go", |trip| trip.held_s().unwrap_or(f64::NAN)),
    ];
    let mut text = "By itself, in the four pairs of cells that differ in it alone (median of the \
                    ratios, with over without): "
        .to_owned();
    for (number, (name, change)) in factors.into_iter().enumerate() {
        let told = figures.map(|(what, of)| {
            let pairs = Through::all().filter_map(|without| Some((without, change(without)?)));
            let ratios: Vec<f64> = pairs
                .filter_map(|(without, with)| cell.ratio(peer(with), peer(without), of))
                .collect();
            let middle = Spread::of(&ratios).map(|of| of.median);
            format!("{what} × {}", figure(middle, 2))
        });
        let end = if number == 2 { "." } else { "; " };
        text += &format!("{name}: {}{end}", told.join(", "));
    }
    text
}
