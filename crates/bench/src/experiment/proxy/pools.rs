//! A thousand pools of two servers, each with a host of its own, beside one (seeds/001).

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result};

use super::finding::Finding;
use super::{MESSAGE_FLOOR, NGINX, OURS, Scale, targets};
use crate::client::{Load, Resource, Sites};
use crate::experiment::contents::KIB;
use crate::experiment::record::Record;
use crate::experiment::session::{CLIENT_LIMIT, SERVER_CPU, Session, asking, void};
use crate::experiment::workload::Unit;
use crate::harness::interrupt;
use crate::harness::interval::Interval;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::report::{Table, spread};
use crate::harness::round::{Fault, fault, order};
use crate::harness::statistics::{Spread, ratios};
use crate::peer::{Peer, Running};
use crate::upstream::Kind;

/// What tells pools apart: each answers with other contents.
const SEED: u64 = 900_000;

const CONNECTIONS: &str = "64";

/// Pairs of windows, of one pool and of many, by proxy.
#[derive(Debug)]
pub(super) struct Pools {
    pools: u32,
    proxies: Vec<Pairs>,
}

#[derive(Debug)]
struct Pairs {
    peer: Peer,
    rounds: Vec<[Load; 2]>,
    faults: Vec<Option<Fault>>,
}

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let mut finding = Finding::default();
    let peers = scale.peers(session, &[OURS, NGINX, MESSAGE_FLOOR]);
    if peers.is_empty() {
        return Ok(finding);
    }
    let count: u32 = scale.of(100, 1_000);
    let network = Network::Loopback;
    let kind = Kind::ByAddress { seed: SEED, length: KIB.length };
    session.front(&network, kind)?;
    let place = session.place(network.server(), None);
    let port = place.upstream.context("no upstream")?.address.port();
    let mut servers = Vec::new();
    let mut found = Pools { pools: count, proxies: Vec::new() };
    for peer in peers {
        for pools_of_it in [1, count] {
            let all: Vec<[SocketAddr; 2]> = (0..pools_of_it).map(|pool| pair(pool, port)).collect();
            servers.push(Running::with_pools(peer, &place, &all, Sites::name)?);
        }
        found.proxies.push(Pairs { peer, rounds: Vec::new(), faults: Vec::new() });
    }
    let rounds = scale.rounds(3, 15);
    let window = Duration::from_millis(scale.of(300, 500));
    for round in 0..rounds.at_most {
        if !found.proxies.iter().any(|pairs| rounds.want_more(round, pairs.good())) {
            break;
        }
        for proxy in order(round, found.proxies.len()) {
            let mut loads = [None, None];
            for index in order(round, 2) {
                interrupt::check()?;
                let hosts = if index == 0 { 1 } else { count };
                loads[index] = Some(load(&network, &servers[2 * proxy + index], hosts, window)?);
            }
            if let [Some(one), Some(many)] = loads {
                found.proxies[proxy].take(session, count, [one, many])?;
            }
        }
    }
    finding.add(&found.table());
    finding.targets = targets::of_pools(&found);
    Ok(finding)
}

/// The servers of a pool: addresses of this host, one listener behind all of them.
fn pair(pool: u32, port: u16) -> [SocketAddr; 2] {
    let address =
        |number: u32| SocketAddr::new(Ipv4Addr::from_bits(0x7f80_0000 | number).into(), port);
    [address(2 * pool), address(2 * pool + 1)]
}

fn load(network: &Network, server: &Running, hosts: u32, window: Duration) -> Result<Load> {
    let resource = Resource {
        address: server.address,
        path: "/".to_owned(),
        length: KIB.length,
        seed: SEED,
        files: Some(hosts),
        sites: Some(Sites::Names),
    };
    let mut client = asking(network, &resource, "load", &["--check", "whole", "--waits"])?;
    let [warm_up, window] = [window / 5, window].map(|time| time.as_millis().to_string());
    let origin = server.origin.context("no upstream")?;
    for (option, value) in [
        ("--connections", CONNECTIONS.to_owned()),
        ("--warm-up", warm_up),
        ("--window", window),
        ("--server-cpu", SERVER_CPU.to_string()),
        ("--server-pid", server.child.pid().to_string()),
        ("--apart", origin.pid.to_string()),
    ] {
        client.args([option, &value]);
    }
    answer_of(client, CLIENT_LIMIT).with_context(|| void(server))
}

impl Pairs {
    fn take(&mut self, session: &mut Session, pools: u32, pair: [Load; 2]) -> Result<()> {
        let fault = fault(&pair);
        let [one, many] = pair.each_ref().map(|load| Unit::Request.rate(load));
        let round = self.rounds.len();
        let note = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
        session.run.progress(&format!(
            "lo pools round {}:  {}: one {one:.0}  {pools} {many:.0} requests/s{note}",
            round + 1,
            self.peer
        ));
        for (pools, load) in ["one pool".to_owned(), format!("{pools} pools")].iter().zip(&pair) {
            session.run.record(&Record::Load {
                network: "lo".to_owned(),
                workload: "pools".to_owned(),
                server: format!("{}, {pools}", self.peer),
                round,
                fault: fault.map(|fault| fault.to_string()),
                unit: Unit::Request,
                cost: Unit::Request.core_cost(load),
                load: Box::new(load.clone()),
            })?;
        }
        self.rounds.push(pair);
        self.faults.push(fault);
        Ok(())
    }

    fn good(&self) -> usize {
        self.faults.iter().filter(|fault| fault.is_none()).count()
    }

    /// The rates of one by those of many, of the pairs that count.
    fn ratio(&self) -> Option<Interval> {
        let all = self.good() * 2 < self.rounds.len();
        let pairs = self.rounds.iter().zip(&self.faults);
        let counted: Vec<_> =
            pairs.filter(|(_, fault)| all || fault.is_none()).map(|(pair, _)| pair).collect();
        let of = |index: usize| -> Vec<f64> {
            counted.iter().map(|pair| Unit::Request.rate(&pair[index])).collect()
        };
        Interval::of(&ratios(&of(0), &of(1)))
    }
}

impl Pools {
    /// One by many, of ours.
    pub(super) fn ratio(&self) -> Option<Interval> {
        self.proxies.iter().find(|pairs| pairs.peer == OURS)?.ratio()
    }

    fn table(&self) -> Table {
        let title = format!(
            "{} pools of two servers, a host for each, beside one; 64 connections",
            self.pools
        );
        let columns = ["proxy", "pools", "requests/s", "core µs/request", "pairs", "one / many"];
        let mut table = Table::new(title, &columns);
        for pairs in &self.proxies {
            for (index, pools) in [1, self.pools].into_iter().enumerate() {
                let of = |what: fn(&Load) -> f64| {
                    let all: Vec<f64> =
                        pairs.rounds.iter().map(|pair| what(&pair[index])).collect();
                    Spread::of(&all)
                };
                let ratio = pairs.ratio().map_or_else(|| "—".to_owned(), Interval::show);
                table.row(vec![
                    pairs.peer.to_string(),
                    pools.to_string(),
                    spread(of(|load| Unit::Request.rate(load)), 0),
                    spread(of(|load| Unit::Request.core_cost(load)), 2),
                    pairs.rounds.len().to_string(),
                    if index == 0 { String::new() } else { ratio },
                ]);
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_pool_has_two_addresses_of_its_own() {
        let text = |pool| pair(pool, 80).map(|address| address.to_string());
        assert_eq!(text(0), ["127.128.0.0:80", "127.128.0.1:80"]);
        assert_eq!(text(999), ["127.128.7.206:80", "127.128.7.207:80"]);
    }
}
