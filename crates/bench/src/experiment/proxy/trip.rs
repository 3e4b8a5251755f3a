//! Downloads through proxies at a pace, in interleaved rounds: one fresh proxy for each turn, what
//! it cost and held, and when the upstream was let go.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::watch::{Admin, Metrics, Watched, watch};
use crate::client::{Check, PacedLoad, Resource};
use crate::experiment::contents::Contents;
use crate::experiment::session::{SERVER_CPU, Session, asking, void};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::round::{Fault, Rounds, fault, order};
use crate::harness::statistics::{Spread, ratios, ratios_above_floor};
use crate::peer::Peer;
use crate::upstream::{Account, Kind, Upstream};

/// So many rounds must be as they should be for the others to be left out.
const ENOUGH: usize = 3;

/// What a client needs beside the time of its downloads.
const GRACE: Duration = Duration::from_secs(60);

/// What is downloaded, by whom, and how.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) name: String,
    /// The path, of which the last part is the file's name.
    pub(super) path: String,
    pub(super) contents: Contents,
    pub(super) peers: Vec<Peer>,
    pub(super) rounds: Rounds,
    pub(super) upstream: Kind,
    /// Bytes a second that each reader takes; `None`: as the link gives them.
    pub(super) rate: Option<u64>,
    pub(super) downloads: usize,
    pub(super) receive_buffer: Option<usize>,
    pub(super) check: Check,
    /// Wrong bytes are counted, and make nothing void.
    pub(super) tallies: bool,
    /// Nobody knows the body's length before its end.
    pub(super) is_endless: bool,
    /// Downloads may be cut, which is counted.
    pub(super) may_be_cut: bool,
    /// Downloads follow each other for so long, after a time to warm up.
    pub(super) window: Option<[Duration; 2]>,
    /// Besides, each round asks the upstream directly: what the link by itself does.
    pub(super) link_too: bool,
    /// Seconds that one turn should take, as a limit for what is stuck.
    pub(super) expected_s: f64,
}

impl Plan {
    /// One download after another of all peers.
    pub(super) fn new(name: impl Into<String>, contents: Contents, peers: Vec<Peer>) -> Self {
        Self {
            name: name.into(),
            path: format!("/{}", contents.name),
            contents,
            peers,
            rounds: Rounds { wanted: 1, at_most: 1 },
            upstream: Kind::Loop,
            rate: None,
            downloads: 1,
            receive_buffer: None,
            check: Check::Sampled,
            tallies: false,
            is_endless: false,
            may_be_cut: false,
            window: None,
            link_too: false,
            expected_s: contents.length as f64 / 20e6,
        }
    }
}

/// One turn of a proxy.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Trip {
    pub(super) load: PacedLoad,
    pub(super) watched: Watched,
    pub(super) upstream: Account,
    /// What ours tells of itself behind it.
    pub(super) metrics: Metrics,
}

impl Trip {
    /// Seconds from the first request of the bodies to the moment at which the upstream had the
    /// last one off its hands; `None` while there is none or one was cut.
    pub(super) fn held_s(&self) -> Option<f64> {
        let held = self.upstream.bodies.iter().map(|body| body.held_s());
        held.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::max)
    }

    /// Seconds of the longest download.
    pub(super) fn took_s(&self) -> f64 {
        self.load.downloads.iter().map(|download| download.took_s()).fold(0.0, f64::max)
    }
}

/// All turns of a plan.
#[derive(Debug)]
pub(super) struct Trips {
    pub(super) network: &'static str,
    pub(super) plan: Plan,
    /// In each round: those of all peers, in their order.
    pub(super) rounds: Vec<Vec<Trip>>,
    /// What the link by itself did.
    pub(super) links: Vec<PacedLoad>,
    pub(super) faults: Vec<Option<Fault>>,
}

/// A line of `rounds.jsonl`.
#[derive(Serialize)]
#[serde(tag = "kind", rename = "trip")]
struct Record<'a> {
    network: &'static str,
    workload: &'a str,
    server: String,
    round: usize,
    fault: Option<String>,
    #[serde(flatten)]
    trip: &'a Trip,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename = "link")]
struct LinkRecord<'a> {
    network: &'static str,
    workload: &'a str,
    round: usize,
    load: &'a PacedLoad,
}

impl Plan {
    /// All rounds, over a network.
    pub(super) fn run(&self, session: &mut Session, network: &Network) -> Result<Trips> {
        session.front(network, self.upstream)?;
        let (mut rounds, mut links, mut faults) = (Vec::new(), Vec::new(), Vec::new());
        let mut good = 0;
        while self.rounds.want_more(rounds.len(), good) {
            let number = rounds.len();
            let mut trips: Vec<Option<Trip>> = vec![None; self.peers.len()];
            for index in order(number, self.peers.len()) {
                interrupt::check()?;
                trips[index] = Some(self.trip(session, network, self.peers[index])?);
            }
            if self.link_too {
                let load = self.link(session, network)?;
                session.run.record(&LinkRecord {
                    network: network.name(),
                    workload: &self.name,
                    round: number,
                    load: &load,
                })?;
                links.push(load);
            }
            let trips: Vec<Trip> = trips.into_iter().flatten().collect();
            let mut loads: Vec<PacedLoad> = trips.iter().map(|trip| trip.load.clone()).collect();
            loads.extend(links.last().filter(|_| self.link_too).cloned());
            let fault = fault(&loads);
            self.tell(session, network, number, &trips, fault)?;
            good += usize::from(fault.is_none());
            faults.push(fault);
            rounds.push(trips);
        }
        session.upstream = None;
        Ok(Trips { network: network.name(), plan: self.clone(), rounds, links, faults })
    }

    fn tell(
        &self,
        session: &mut Session,
        network: &Network,
        round: usize,
        trips: &[Trip],
        fault: Option<Fault>,
    ) -> Result<()> {
        let mut line = format!("{} {} round {}:", network.name(), self.name, round + 1);
        for (peer, trip) in self.peers.iter().zip(trips) {
            let (cost, took) = (trip.load.core_by_gib(), trip.took_s());
            line += &format!("  {peer} {cost:.3} ({took:.2} s)");
            session.run.record(&Record {
                network: network.name(),
                workload: &self.name,
                server: peer.to_string(),
                round,
                fault: fault.map(|fault| fault.to_string()),
                trip,
            })?;
        }
        let fault = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
        session.run.progress(&format!("{line} s/GiB{fault}"));
        Ok(())
    }

    /// One turn.
    fn trip(&self, session: &Session, network: &Network, peer: Peer) -> Result<Trip> {
        let server = peer.start(&session.place(network.server(), None), self.contents.name)?;
        let upstream = session.upstream.as_ref().context("no upstream")?;
        upstream.forget(network.server())?;
        let directory = server.directory();
        let watched = watch(server.child.pid(), directory.as_deref(), peer.is_ours(), || {
            self.load(network, server.address, server.child.pid(), upstream)
        });
        let (load, watched) = watched.with_context(|| void(&server))?;
        let metrics = match Admin::of(directory) {
            Some(admin) => admin.ask(network.server()).context("its metrics")?,
            None => Metrics::new(),
        };
        let upstream = upstream.account(network.server())?;
        self.check(&load).with_context(|| void(&server))?;
        Ok(Trip { load, watched, upstream, metrics })
    }

    fn check(&self, load: &PacedLoad) -> Result<()> {
        let wanted = if self.window.is_some() || self.may_be_cut { 0 } else { self.downloads };
        ensure!(load.whole() >= wanted, "{} of {wanted} came whole", load.whole());
        ensure!(self.tallies || load.wrong() == 0, "{} bytes were wrong", load.wrong());
        Ok(())
    }

    /// The same without a proxy.
    fn link(&self, session: &Session, network: &Network) -> Result<PacedLoad> {
        let upstream = session.upstream.as_ref().context("no upstream")?;
        self.load(network, upstream.direct(), upstream.origin().pid, upstream)
    }

    fn load(
        &self,
        network: &Network,
        address: std::net::SocketAddr,
        pid: u32,
        upstream: &Upstream,
    ) -> Result<PacedLoad> {
        let Contents { length, seed, .. } = self.contents;
        let path = self.path.clone();
        let resource = Resource { address, path, length, seed, files: None, sites: None };
        let check = match self.check {
            Check::Whole => "whole",
            Check::Edges => "edges",
            Check::Sampled => "sampled",
        };
        let mut client = asking(network, &resource, "paced", &["--check", check])?;
        let mut option = |name: &str, value: Option<u128>| {
            if let Some(value) = value {
                client.args([name, &value.to_string()]);
            }
        };
        option("--downloads", Some(self.downloads as u128));
        option("--rate", self.rate.map(u128::from));
        option("--receive-buffer", self.receive_buffer.map(|bytes| bytes as u128));
        option("--warm-up", self.window.map(|[warm_up, _]| warm_up.as_millis()));
        option("--window", self.window.map(|[_, window]| window.as_millis()));
        // Where many ask a few workers that are held, some get nothing all the while.
        let silence = self.window.map(|_| self.expected_s as u128 + GRACE.as_secs() as u128);
        option("--silence", silence);
        option("--server-cpu", Some(SERVER_CPU as u128));
        option("--server-pid", Some(pid.into()));
        option("--apart", Some(upstream.origin().pid.into()));
        option("--apart", Some(std::process::id().into()));
        client.args((self.tallies || self.is_endless).then_some("--tallies"));
        client.args(self.is_endless.then_some("--endless"));
        client.args(self.may_be_cut.then_some("--may-be-cut"));
        answer_of(client, Duration::from_secs_f64(self.expected_s * 2.0) + GRACE)
    }
}

impl Trips {
    /// The rounds that count: all, where too few are as they should be.
    fn counted(&self) -> impl Iterator<Item = &Vec<Trip>> {
        let good = self.faults.iter().filter(|fault| fault.is_none()).count();
        let all = good < ENOUGH.min(self.plan.rounds.wanted);
        let rounds = self.rounds.iter().zip(&self.faults);
        rounds.filter(move |(_, fault)| all || fault.is_none()).map(|(round, _)| round)
    }

    /// How many rounds count, and whether that is because too few were good.
    pub(super) fn rounds_in_words(&self) -> String {
        let count = self.counted().count();
        let good = self.faults.iter().filter(|fault| fault.is_none()).count();
        let steady = if good < count { ", UNSTEADY" } else { "" };
        format!("{count} round(s){steady}")
    }

    pub(super) fn has(&self, peer: Peer) -> bool {
        self.plan.peers.contains(&peer)
    }

    /// A figure of a peer in each round that counts.
    pub(super) fn figures(&self, peer: Peer, figure: impl Fn(&Trip) -> f64) -> Vec<f64> {
        let index = self.plan.peers.iter().position(|&found| found == peer);
        let of = |round: &Vec<Trip>| round.get(index?).map(&figure);
        self.counted().filter_map(of).collect()
    }

    pub(super) fn median(&self, peer: Peer, figure: impl Fn(&Trip) -> f64) -> Option<f64> {
        Spread::of(&self.figures(peer, figure)).map(|of| of.median)
    }

    pub(super) fn spread(&self, peer: Peer, figure: impl Fn(&Trip) -> f64) -> Option<Spread> {
        Spread::of(&self.figures(peer, figure))
    }

    /// One by another, compared within rounds.
    pub(super) fn ratio(
        &self,
        one: Peer,
        another: Peer,
        figure: impl Fn(&Trip) -> f64,
    ) -> Option<f64> {
        let all = ratios(&self.figures(one, &figure), &self.figures(another, &figure));
        Spread::of(&all).map(|of| of.median)
    }

    /// What one costs by what another does, both above what the link by itself has the proxy's core
    /// do (packets, timers of its throttle), in rounds where both do.
    pub(super) fn ratio_above_link(&self, one: Peer, another: Peer) -> Option<f64> {
        let costs = |peer| self.figures(peer, |trip| trip.load.core_by_gib());
        let links = self.rounds.iter().zip(&self.links);
        let links = links.filter(|(round, _)| self.counted().any(|of| std::ptr::eq(of, *round)));
        let links: Vec<f64> = links.map(|(_, link)| link.core_by_gib()).collect();
        let mut all = ratios_above_floor(&costs(one), &costs(another), &links);
        all.retain(|&ratio| ratio > 0.0);
        Spread::of(&all).map(|of| of.median)
    }

    /// A figure of a peer in every round: what must never be has no noise for an excuse.
    pub(super) fn all(&self, peer: Peer, figure: impl Fn(&Trip) -> f64) -> Vec<f64> {
        let index = self.plan.peers.iter().position(|&found| found == peer);
        self.rounds.iter().filter_map(|round| round.get(index?).map(&figure)).collect()
    }

    /// The largest figure of any round.
    pub(super) fn most(&self, peer: Peer, figure: impl Fn(&Trip) -> f64) -> Option<f64> {
        self.all(peer, figure).into_iter().reduce(f64::max)
    }

    /// Seconds that the link by itself took, in the middle.
    pub(super) fn link_s(&self) -> Option<f64> {
        let took = |load: &PacedLoad| load.downloads.first().map(|of| of.took_s());
        let all: Vec<f64> = self.links.iter().filter_map(took).collect();
        Spread::of(&all).map(|of| of.median)
    }
}

impl Session {
    /// Starts an upstream beside the proxies of a network.
    pub(super) fn front(&mut self, network: &Network, kind: Kind) -> Result<()> {
        use crate::experiment::session::CLIENT_CPU;
        self.upstream = None;
        let root = self.root().to_owned();
        self.upstream = Some(Upstream::start(network.server(), CLIENT_CPU, &root, kind)?);
        Ok(())
    }
}
