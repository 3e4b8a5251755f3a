//! One workload over one network: its rounds, and what they say of each server.

use std::fmt::Write;

use super::workload::Workload;
use crate::client::Load;
use crate::harness::distance::Apart;
use crate::harness::interval::Interval;
use crate::harness::plot::Bar;
use crate::harness::report::{Table, spread};
use crate::harness::round::Fault;
use crate::harness::statistics::{Spread, ratios, ratios_above_floor};
use crate::peer::Peer;

/// So many rounds must be as they should be for the others to be left out.
const ENOUGH: usize = 5;

/// The peers that the best is chosen from. Not `nginx-cached`, which may answer with what a file
/// was a minute ago.
const RIVALS: [Peer; 6] =
    [Peer::Nginx, Peer::NginxCopy, Peer::Lighttpd, Peer::H2o, Peer::Apache, Peer::Caddy];

/// One network and one workload.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) network: &'static str,
    pub(super) workload: Workload,
    /// In each: the windows of all peers of the workload, in their order.
    pub(super) rounds: Vec<Vec<Load>>,
    /// What is wrong with each round.
    pub(super) faults: Vec<Option<Fault>>,
}

impl Cell {
    /// The rounds that count. Where hardly any round is as it should be, all count, and the
    /// report says so.
    fn counted(&self) -> impl Iterator<Item = &Vec<Load>> {
        let all = self.counts_all();
        let rounds = self.rounds.iter().zip(&self.faults);
        rounds.filter(move |(_, fault)| all || fault.is_none()).map(|(round, _)| round)
    }

    fn counts_all(&self) -> bool {
        self.faults.iter().filter(|fault| fault.is_none()).count() < ENOUGH
    }

    /// A figure of a peer in each round that counts and was made with the cores so far apart.
    fn figures(&self, peer: Peer, apart: Apart, figure: impl Fn(&Load) -> f64) -> Option<Vec<f64>> {
        let index = self.workload.peers.iter().position(|&found| found == peer)?;
        let rounds = self.counted().filter(|round| {
            round.first().is_some_and(|load| Apart::of(load.distances_ns[0]) == apart)
        });
        Some(rounds.filter_map(|round| round.get(index)).map(figure).collect())
    }

    pub(super) fn spread(
        &self,
        peer: Peer,
        apart: Apart,
        figure: impl Fn(&Load) -> f64,
    ) -> Option<Spread> {
        Spread::of(&self.figures(peer, apart, figure)?)
    }

    /// Each peer near and far, as far as there are such rounds.
    fn rows(&self) -> impl Iterator<Item = (Peer, Apart)> {
        let peers = self.workload.peers.iter();
        Apart::BOTH.into_iter().flat_map(move |apart| peers.clone().map(move |&peer| (peer, apart)))
    }

    /// A figure of a peer in each round that counts, near and far together: a round in which all
    /// servers had the same cores.
    pub(super) fn all_figures(
        &self,
        peer: Peer,
        figure: impl Fn(&Load) -> f64,
    ) -> Option<Vec<f64>> {
        let [near, far] = Apart::BOTH.map(|apart| self.figures(peer, apart, &figure));
        Some([near?, far?].concat())
    }

    /// What a peer cost in each round that counts.
    pub(super) fn all_costs(&self, peer: Peer) -> Option<Vec<f64>> {
        self.all_figures(peer, |load| self.workload.unit.core_cost(load))
    }

    /// Of each round that counts: one by another, near and far together.
    pub(super) fn all_ratios(&self, one: Peer, another: Peer) -> Option<Vec<f64>> {
        Some(ratios(&self.all_costs(one)?, &self.all_costs(another)?))
    }

    /// The one with the smallest median of those that were measured.
    pub(super) fn cheapest(&self, of: &[Peer]) -> Option<Peer> {
        let median = |peer: Peer| Some(Spread::of(&self.all_costs(peer)?)?.median);
        let medians = of.iter().filter_map(|&peer| Some((peer, median(peer)?)));
        medians.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(peer, _)| peer)
    }

    /// The best of those that others wrote.
    pub(super) fn best_rival(&self) -> Option<Peer> {
        self.cheapest(&RIVALS)
    }

    /// Ours, in the form that is compared with the others.
    pub(super) fn ours(&self) -> Peer {
        let mut peers = self.workload.peers.iter().copied();
        let is_proxy = |peer: &Peer| peer.is_ours() && matches!(peer, Peer::Proxy(_));
        peers.find(is_proxy).unwrap_or(Peer::Sluicegate)
    }

    fn costs(&self, peer: Peer, apart: Apart) -> Option<Vec<f64>> {
        self.figures(peer, apart, |load| self.workload.unit.core_cost(load))
    }

    /// Of each round: ours by theirs.
    pub(super) fn against(&self, peer: Peer, apart: Apart) -> Option<Vec<f64>> {
        Some(ratios(&self.costs(self.ours(), apart)?, &self.costs(peer, apart)?))
    }

    /// The floor with the smallest median.
    pub(super) fn best_floor(&self) -> Option<Peer> {
        let floors = self.workload.peers.iter().filter(|peer| peer.is_floor());
        self.cheapest(&floors.copied().collect::<Vec<_>>())
    }

    /// Of each round, near and far together: what we cost above the best floor, by what a peer
    /// does.
    pub(super) fn above_floor(&self, peer: Peer) -> Option<Vec<f64>> {
        let floor = self.all_costs(self.best_floor()?)?;
        let (ours, theirs) = (self.all_costs(self.ours())?, self.all_costs(peer)?);
        Some(ratios_above_floor(&ours, &theirs, &floor))
    }

    /// Takes a server out, whose figures are void.
    pub(super) fn leave_out(&mut self, peer: Peer) {
        let Some(index) = self.workload.peers.iter().position(|&found| found == peer) else {
            return;
        };
        self.workload.peers.remove(index);
        for round in &mut self.rounds {
            if index < round.len() {
                round.remove(index);
            }
        }
    }

    pub(super) fn table(&self) -> String {
        let unit = self.workload.unit;
        let (digits, rate_digits) = unit.digits();
        let title = format!(
            "{} over {}: {} with {} connection(s); median (min–max) of {}",
            self.workload.name,
            self.network,
            self.workload.asked_for(),
            self.workload.connections,
            self.verdict_on_rounds(),
        );
        let cost = format!("core {}", unit.of_cost());
        let switches = format!("switches/{}", unit.name());
        let columns = [
            "",
            "cores",
            &cost,
            "own threads",
            unit.of_rate(),
            "p50 µs",
            "p99 µs",
            &switches,
            "busy",
            "trip ns",
        ];
        let mut table = Table::new(title, &columns);
        for (peer, apart) in self.rows() {
            let of = |figure: &dyn Fn(&Load) -> f64| self.spread(peer, apart, figure);
            let Some(cost) = of(&|load| unit.core_cost(load)) else { continue };
            let median = |figure: &dyn Fn(&Load) -> f64, digits: usize| {
                of(figure).map_or_else(String::new, |of| format!("{:.digits$}", of.median))
            };
            table.row(vec![
                peer.to_string(),
                apart.to_string(),
                spread(Some(cost), digits),
                median(&|load| unit.threads_cost(load), digits),
                median(&|load| unit.rate(load), rate_digits),
                median(&|load| load.latency_us.p50, 0),
                median(&|load| load.latency_us.p99, 0),
                median(&|load| unit.by(load.switches as f64, load), rate_digits.max(1)),
                median(&|load| load.core.busy() / load.window_s, 2),
                median(&|load| load.distances_ns[0], 0),
            ]);
        }
        table.to_string()
    }

    /// The share of the window that the core worked, of the server with the smallest.
    pub(super) fn least_busy(&self) -> Option<f64> {
        let busy = |index: usize| {
            let rounds = self.counted().filter_map(|round| round.get(index));
            let shares: Vec<f64> = rounds.map(|load| load.core.busy() / load.window_s).collect();
            Spread::of(&shares).map(|of| of.median)
        };
        (0..self.workload.peers.len()).filter_map(busy).min_by(f64::total_cmp)
    }

    /// In how many of the rounds that count the cores were near to each other, and far.
    pub(super) fn cores(&self) -> String {
        let parts = Apart::BOTH.map(|apart| {
            let found = self.counted().flat_map(|round| round.first());
            let count = found.filter(|load| Apart::of(load.distances_ns[0]) == apart).count();
            (count > 0).then(|| format!("{count} {apart}"))
        });
        parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
    }

    /// How many rounds count, and whether that is because too few were good.
    pub(super) fn verdict_in_short(&self) -> String {
        let unsteady = if self.counts_all() { " UNSTEADY" } else { "" };
        format!("{}{unsteady}", self.counted().count())
    }

    fn verdict_on_rounds(&self) -> String {
        let count = |wanted| self.faults.iter().filter(|&&fault| fault == wanted).count();
        let [good, noisy, moved] = [None, Some(Fault::Noisy), Some(Fault::Moved)].map(count);
        let all = self.rounds.len();
        if self.counts_all() {
            return format!("ALL {all} rounds, UNSTEADY: {noisy} noisy, {moved} moved");
        }
        format!("{good} rounds; {noisy} noisy and {moved} moved ones left out")
    }

    /// Ours by each other.
    pub(super) fn comparisons(&self) -> String {
        let mut text = String::new();
        let mut line = |what: &str, apart: Apart, ratios: Option<Vec<f64>>| {
            if let Some(ratios) = ratios
                && let Some(of) = Spread::of(&ratios)
            {
                let rounds = ratios.len();
                let of = spread(Some(of), 2);
                let _ = writeln!(text, "  {what}, {apart}: {of}, of {rounds} round(s)");
            }
        };
        for apart in Apart::BOTH {
            for &peer in &self.workload.peers {
                if peer != self.ours() {
                    line(&format!("sluicegate / {peer}"), apart, self.against(peer, apart));
                }
            }
        }
        if let (Some(floor), Some(best)) = (self.best_floor(), self.best_rival())
            && let Some(of) = self.above_floor(best).and_then(|all| Interval::of(&all))
        {
            let of = of.show();
            let what = format!("(sluicegate − {floor}) / ({best} − {floor})");
            let _ = writeln!(text, "  {what}, near and far: {of}, with its 95 % interval");
        }
        text
    }

    pub(super) fn bars(&self, figure: impl Fn(&Load) -> f64) -> Vec<Bar> {
        let bar = |(peer, apart): (Peer, Apart)| {
            let group = format!("{} {apart}", self.network);
            let spread = self.spread(peer, apart, &figure)?;
            Some(Bar { group, name: peer.to_string(), spread })
        };
        self.rows().filter_map(bar).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::client::{Check, Latency};
    use crate::experiment::contents::KIB;
    use crate::experiment::workload::Unit;
    use crate::floor::Way;
    use crate::harness::cpu::CoreTime;

    /// A window of a second in which the core was busy throughout.
    pub(in super::super) fn load(requests: u64) -> Load {
        Load {
            window_s: 1.0,
            requests,
            bytes: requests << 10,
            slices: Vec::new(),
            core: CoreTime { system: 1.0, ..CoreTime::default() },
            server_threads_s: 1.0,
            others_s: 0.0,
            distances_ns: [420.0, 430.0],
            latency_us: Latency::default(),
            switches: 0,
            asked: 0,
            answered: 0,
            starved: 0,
        }
    }

    /// Rounds in which each peer answered so many requests.
    pub(in super::super) fn cell(name: &str, peers: &[Peer], rounds: &[&[u64]]) -> Cell {
        let workload = Workload {
            name: name.to_owned(),
            contents: KIB,
            files: None,
            connections: 64,
            check: Check::Whole,
            unit: Unit::Request,
            peers: peers.to_vec(),
            logs: false,
        };
        let windows = |round: &&[u64]| round.iter().map(|&requests| load(requests)).collect();
        let faults = vec![None; rounds.len()];
        Cell { network: "lo", workload, rounds: rounds.iter().map(windows).collect(), faults }
    }

    #[test]
    fn faulty_rounds_are_left_out_while_enough_are_good() {
        let peers = [Peer::Sluicegate, Peer::Nginx];
        let rounds: [&[u64]; 5] = [&[160_000, 100_000]; 5];
        let mut cell = cell("1KiB-64", &peers, &rounds);
        cell.rounds.push(vec![load(1), load(1)]);
        cell.faults.push(Some(Fault::Moved));
        assert_eq!(cell.costs(Peer::Nginx, Apart::Far).unwrap().len(), 5);
        assert!(cell.table().contains("5 rounds; 0 noisy and 1 moved ones left out"));

        cell.faults[0] = Some(Fault::Noisy);
        assert_eq!(cell.costs(Peer::Nginx, Apart::Far).unwrap().len(), 6);
        assert!(cell.table().contains("ALL 6 rounds, UNSTEADY: 1 noisy, 1 moved"));
    }

    #[test]
    fn the_best_rival_has_the_smallest_median_whatever_a_single_round_says() {
        let peers = [Peer::Sluicegate, Peer::NginxCached, Peer::Nginx, Peer::H2o];
        let cell = cell("1KiB-64", &peers, &[&[9, 99, 50, 20], &[9, 99, 10, 20], &[9, 99, 10, 20]]);
        assert_eq!(cell.best_rival(), Some(Peer::H2o));
        assert_eq!(cell.cheapest(&[Peer::Lighttpd]), None);
        let ratios = cell.all_ratios(Peer::H2o, Peer::Nginx).unwrap();
        assert_eq!(ratios, [2.5, 0.5, 0.5]);
    }

    #[test]
    fn who_is_left_out_takes_its_windows_along() {
        let peers = [Peer::Sluicegate, Peer::H2o, Peer::Nginx, Peer::Floor(Way::Epoll)];
        let mut cell = cell("1KiB-64", &peers, &[&[160_000, 900_000, 100_000, 200_000]]);
        cell.leave_out(Peer::H2o);
        assert_eq!(cell.best_rival(), Some(Peer::Nginx));
        // 6.25 µs, 10 µs, 5 µs.
        assert!((cell.above_floor(Peer::Nginx).unwrap()[0] - 0.25).abs() < 1e-9);
    }
}
