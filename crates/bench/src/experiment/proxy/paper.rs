//! Figure 4 (ii) and (iii): the paper's form, all of a body through a file of 1 MiB that is reused
//! when its bytes are acknowledged, over a true wire; and the same without waiting for it.

use anyhow::Result;

use super::finding::{Finding, table};
use super::targets;
use super::trip::{Plan, Trips};
use super::{NGINX, Scale, guest, prepare};
use crate::client::Check;
use crate::experiment::downloads::sizes;
use crate::experiment::session::Session;
use crate::harness::plot::size_label;
use crate::harness::report::Table;
use crate::peer::Peer;
use crate::peer::proxy::{Proxy, Spool, build_lawless};

pub(super) const PAPER: Peer = Peer::Proxy(Proxy::Ours(Spool::PAPER));
pub(super) const LAWLESS: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-lawless",
    is_lawless: true,
    ..Spool::PAPER
}));

/// KiB of the bodies.
const QUICK: u64 = 64 << 10;
const FULL: u64 = 1 << 20;

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let contents = sizes::some(&[scale.of(QUICK, FULL)])[0];
    prepare(session, &[contents])?;
    let mut finding = Finding::default();
    // No other network of one host shows it: there an acknowledgement proves nothing.
    let Some(network) = scale.network(session, &["wire50"]) else { return Ok(finding) };

    let peers = scale.peers(session, &[PAPER, NGINX]);
    if !peers.is_empty() {
        let plan = Plan {
            rounds: scale.rounds(1, 5),
            check: Check::Whole,
            link_too: true,
            ..Plan::new("paper", contents, peers)
        };
        let cell = plan.run(session, &network)?;
        let title = format!(
            "Figure 4 (ii): {}, pipes off, a cyclic file of 1 MiB, every byte compared",
            size_label(contents.length)
        );
        finding.add(&table(&title, &cell));
        finding.add(&proofs(&cell));
        finding.targets.extend(targets::of_paper(&cell));
    }

    if !scale.peers(session, &[PAPER]).is_empty() {
        over_card(session, scale, &mut finding)?;
    }

    let mut peers = scale.peers(session, &[PAPER, LAWLESS]);
    if peers.contains(&LAWLESS) {
        session.run.progress("building the server without the law");
        if let Err(error) = build_lawless() {
            session.skip(format!("Figure 4 (iii): {error:#}"));
            peers.clear();
        }
    }
    if !peers.is_empty() {
        let plan = Plan {
            rounds: scale.rounds(1, 2),
            tallies: true,
            may_be_cut: true,
            ..Plan::new("lawless", contents, peers)
        };
        let cell = plan.run(session, &network)?;
        finding.add(&damage(&cell));
        finding.targets.extend(targets::of_lawless(&cell));
    }
    Ok(finding)
}

/// The same through the network card of a virtual machine.
fn over_card(session: &mut Session, scale: Scale<'_>, finding: &mut Finding) -> Result<()> {
    session.run.progress("booting a virtual machine");
    let length = scale.of(16, 128) << 20;
    match guest::download(length) {
        Ok(found) => {
            session.run.record(&serde_json::json!({ "kind": "card", "found": &found }))?;
            let title = format!(
                "Figure 4 (ii) through a virtual machine's network card ({}): {} whole, every byte \
                 compared, in {:.1} s (in software)",
                found.kernel,
                size_label(length),
                found.load.seconds
            );
            let mut table = Table::new(title, &["", "partitions"]);
            for (name, value) in found.metrics.iter().filter(|(name, _)| targets::is_proof(name)) {
                table.row(vec![name.clone(), format!("{value:.0}")]);
            }
            finding.add(&table);
            finding.targets.push(targets::of_card(&found));
        }
        Err(error) => session.skip(format!("a virtual machine's network card: {error:#}")),
    }
    Ok(())
}

/// Which proof freed the partitions.
fn proofs(cell: &Trips) -> Table {
    let mut table = Table::new(
        "Figure 4 (ii): partitions of our ring that were written again, by the proof for it",
        &["", "partitions"],
    );
    let found = cell.figures(PAPER, |_| 0.0).len();
    for round in cell.rounds.iter().take(found) {
        let Some(trip) = cell
            .plan
            .peers
            .iter()
            .position(|&peer| peer == PAPER)
            .and_then(|index| round.get(index))
        else {
            continue;
        };
        for (name, value) in &trip.metrics {
            if targets::is_proof(name) {
                table.row(vec![name.clone(), format!("{value:.0}")]);
            }
        }
    }
    table
}

fn damage(cell: &Trips) -> Table {
    let title = format!(
        "Figure 4 (iii): {} through a cyclic file of 1 MiB, with the law and without",
        size_label(cell.plan.contents.length)
    );
    let mut table = Table::new(title, &["", "round", "whole", "bytes received", "wrong"]);
    for (number, round) in cell.rounds.iter().enumerate() {
        for (peer, trip) in cell.plan.peers.iter().zip(round) {
            table.row(vec![
                peer.to_string(),
                (number + 1).to_string(),
                trip.load.whole().to_string(),
                trip.load.received.to_string(),
                trip.load.wrong().to_string(),
            ]);
        }
    }
    table
}
