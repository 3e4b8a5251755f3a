//! Very many downloads at once by a proxy that may not have a pipe for each: as a user without
//! privileges, who has 64 of 1 MiB.

use std::time::Duration;

use anyhow::{Context, Result};

use super::finding::{Finding, figure};
use super::watch::{Admin, sum};
use super::{Scale, front, prepare, targets};
use crate::client::{Check, Load};
use crate::experiment::contents::Contents;
use crate::experiment::record::Record;
use crate::experiment::session::{CLIENT_LIMIT, Session, load_of, void};
use crate::experiment::workload::{Unit, Workload};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::report::{Table, spread};
use crate::harness::round::{Fault, fault, order};
use crate::harness::statistics::{Spread, ratios};
use crate::peer::Peer;
use crate::peer::proxy::{Proxy, Spool};
use crate::upstream::Kind;

const FILE: Contents = Contents { name: "8MiB.bin", length: 8 << 20, seed: 71 };

pub(super) const UNPRIVILEGED: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-unprivileged",
    is_unprivileged: true,
    ..Spool::DEFAULT
}));

/// Connections that are compared.
const ONE: usize = 1;

/// One connection and a crowd, in each round.
#[derive(Debug)]
pub(super) struct Crowd {
    connections: usize,
    rounds: Vec<[Load; 2]>,
    faults: Vec<Option<Fault>>,
    /// Of a window's connections, those that got nothing in it, at most.
    starved: u64,
}

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    prepare(session, &[FILE])?;
    let mut finding = Finding::default();
    let peers = scale.peers(session, &[UNPRIVILEGED]);
    let Some(&peer) = peers.first() else { return Ok(finding) };
    let network = Network::Loopback;
    front(session, &network, Kind::Loop)?;
    let connections = scale.of(200, 1_000);
    let server = peer.start(&session.place(network.server(), None), FILE.name)?;
    let (rounds, mut good) = (scale.rounds(2, 5), 0);
    let mut crowd = Crowd { connections, rounds: Vec::new(), faults: Vec::new(), starved: 0 };
    while rounds.want_more(crowd.rounds.len(), good) {
        let mut loads = [None, None];
        for index in order(crowd.rounds.len(), 2) {
            interrupt::check()?;
            let connections = [ONE, connections][index];
            let workload = Workload {
                name: format!("crowd-{connections}"),
                contents: FILE,
                files: None,
                connections,
                check: Check::Sampled,
                unit: Unit::Gib,
                peers: vec![peer],
                logs: false,
            };
            let window = Duration::from_secs(scale.of(1, 4)).as_millis().to_string();
            let count = connections.to_string();
            let plan = ["--connections", &count, "--check", "sampled", "--warm-up", "500"];
            let plan = [&plan[..], &["--window", &window]].concat();
            let client = load_of(&network, &server, &workload, &plan)?;
            let load: Load = answer_of(client, CLIENT_LIMIT).with_context(|| void(&server))?;
            session.run.record(&Record::Load {
                network: network.name().to_owned(),
                workload: workload.name.clone(),
                server: peer.to_string(),
                round: crowd.rounds.len(),
                fault: None,
                unit: Unit::Gib,
                cost: Unit::Gib.core_cost(&load),
                load: Box::new(load.clone()),
            })?;
            loads[index] = Some(load);
        }
        let [Some(one), Some(many)] = loads else { continue };
        // A connection that got nothing in a window has still its turn, and is told of.
        crowd.starved = crowd.starved.max(many.starved);
        let pair = [one, Load { starved: 0, ..many }];
        let fault = fault(&pair);
        session.run.progress(&format!(
            "lo crowd round {}:  1 {:.3}  {connections} {:.3} s/GiB{}",
            crowd.rounds.len() + 1,
            Unit::Gib.core_cost(&pair[0]),
            Unit::Gib.core_cost(&pair[1]),
            fault.map_or_else(String::new, |fault| format!("  ({fault})")),
        ));
        good += usize::from(fault.is_none());
        crowd.faults.push(fault);
        crowd.rounds.push(pair);
    }
    finding.add(&crowd.table());
    if let Some(admin) = Admin::of(server.directory()) {
        let metrics = admin.ask(network.server())?;
        let of = |name: &str, label: &str| sum(&metrics, name, &[label]);
        let gib = |way: &str| of("sluicegate_sent_bytes_total", way) / f64::from(1 << 30);
        finding.say(&format!(
            "  it may have {:.0} pipes; of all that it sent, {:.1} GiB were spliced, {:.1} by \
             reference, {:.1} copied",
            of("sluicegate_pipes_max", ""),
            gib("\"spliced\""),
            gib("\"sendfile\"") + gib("\"zerocopy\""),
            gib("\"copied\"")
        ));
    }
    finding.targets = targets::of_crowd(&crowd);
    Ok(finding)
}

impl Crowd {
    /// What a GiB of the crowd costs by one of a single connection.
    pub(super) fn ratio(&self) -> Option<f64> {
        let good = self.faults.iter().filter(|fault| fault.is_none()).count();
        let all = good * 2 < self.rounds.len();
        let counts = |fault: &Option<Fault>| all || fault.is_none();
        let of = |index: usize| -> Vec<f64> {
            let rounds = self.rounds.iter().zip(&self.faults).filter(|(_, fault)| counts(fault));
            rounds.map(|(pair, _)| Unit::Gib.core_cost(&pair[index])).collect()
        };
        Spread::of(&ratios(&of(1), &of(0))).map(|of| of.median)
    }

    fn table(&self) -> Table {
        let noisy = self.faults.iter().flatten().count();
        let title = format!(
            "{} downloads of 8 MiB at once by a user who has 64 pipes; {} rounds, of which {noisy} \
             noisy or moved; at most {} got nothing within a window",
            self.connections,
            self.rounds.len(),
            self.starved
        );
        let mut table =
            Table::new(title, &["connections", "core s/GiB", "own threads", "GiB/s", "ratio"]);
        for (index, count) in [ONE, self.connections].into_iter().enumerate() {
            let of = |what: fn(&Load) -> f64| {
                let all: Vec<f64> = self.rounds.iter().map(|pair| what(&pair[index])).collect();
                spread(Spread::of(&all), 3)
            };
            let ratio = if index == 1 { figure(self.ratio(), 2) } else { String::new() };
            table.row(vec![
                count.to_string(),
                of(|load| Unit::Gib.core_cost(load)),
                of(|load| Unit::Gib.threads_cost(load)),
                of(|load| Unit::Gib.rate(load)),
                ratio,
            ]);
        }
        table
    }
}
