//! What was measured, and what it says: tables, comparisons, targets, plots.

use std::fmt::Write;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::workload::{Unit, Workload};
use crate::client::{IdleMemory, Load};
use crate::floor::Way;
use crate::harness::calls::Calls;
use crate::harness::distance::Apart;
use crate::harness::plot::{self, Bar};
use crate::harness::report::{Table, spread, verdicts};
use crate::harness::round::Fault;
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::{Spread, ratios, ratios_above_floor};
use crate::peer::Peer;

/// So many rounds must be as they should be for the others to be left out.
const ENOUGH: usize = 5;

/// A line of `rounds.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Record {
    Load {
        network: String,
        workload: String,
        server: String,
        round: usize,
        /// Why the round does not count.
        fault: Option<String>,
        unit: Unit,
        /// Busy time of the server's core, by `unit`.
        cost: f64,
        load: Box<Load>,
    },
    Calls {
        server: String,
        connections: usize,
        requests: u64,
        calls: Calls,
    },
    Idle {
        server: String,
        memory: IdleMemory,
    },
}

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

/// System calls for each request.
#[derive(Debug)]
pub(super) struct CallsPerRequest {
    pub(super) peer: Peer,
    pub(super) connections: usize,
    pub(super) requests: u64,
    pub(super) calls: Calls,
}

impl CallsPerRequest {
    pub(super) fn total(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.requests as f64
    }

    /// Those that matter, the most frequent first.
    fn breakdown(&self) -> String {
        let mut calls: Vec<(&String, f64)> = self
            .calls
            .iter()
            .map(|(name, &count)| (name, count as f64 / self.requests as f64))
            .filter(|(_, each)| *each >= 0.01)
            .collect();
        calls.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let parts: Vec<String> =
            calls.iter().map(|(name, each)| format!("{name} {each:.2}")).collect();
        parts.join(", ")
    }
}

/// All that a run found out.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) cells: Vec<Cell>,
    pub(super) calls: Vec<CallsPerRequest>,
    pub(super) idle: Vec<(Peer, IdleMemory)>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
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

    fn spread(&self, peer: Peer, apart: Apart, figure: impl Fn(&Load) -> f64) -> Option<Spread> {
        Spread::of(&self.figures(peer, apart, figure)?)
    }

    /// Each peer near and far, as far as there are such rounds.
    fn rows(&self) -> impl Iterator<Item = (Peer, Apart)> {
        let peers = self.workload.peers.iter();
        Apart::BOTH.into_iter().flat_map(move |apart| peers.clone().map(move |&peer| (peer, apart)))
    }

    fn costs(&self, peer: Peer, apart: Apart) -> Option<Vec<f64>> {
        self.figures(peer, apart, |load| self.workload.unit.core_cost(load))
    }

    /// Of each round: ours by theirs.
    pub(super) fn against(&self, peer: Peer, apart: Apart) -> Option<Vec<f64>> {
        Some(ratios(&self.costs(Peer::Sluicegate, apart)?, &self.costs(peer, apart)?))
    }

    /// Of each round: what we cost above the floor, by what nginx does.
    pub(super) fn above_floor(&self, apart: Apart) -> Option<Vec<f64>> {
        let [ours, theirs, floor] = [Peer::Sluicegate, Peer::Nginx, Peer::Floor(Way::Epoll)]
            .map(|peer| self.costs(peer, apart));
        Some(ratios_above_floor(&ours?, &theirs?, &floor?))
    }

    fn table(&self) -> String {
        let unit = self.workload.unit;
        let (digits, rate_digits) = unit.digits();
        let title = format!(
            "{} over {}: {} with {} connection(s); median (min–max) of {}",
            self.workload.name,
            self.network,
            self.workload.contents.name,
            self.workload.connections,
            self.verdict_on_rounds(),
        );
        let cost = format!("core {}", unit.of_cost());
        let columns = [
            "",
            "cores",
            &cost,
            "own threads",
            unit.of_rate(),
            "p50 µs",
            "p99 µs",
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
                median(&|load| load.core.busy() / load.window_s, 2),
                median(&|load| load.distances_ns[0], 0),
            ]);
        }
        table.to_string()
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

    fn comparisons(&self) -> String {
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
                if peer != Peer::Sluicegate {
                    line(&format!("sluicegate / {peer}"), apart, self.against(peer, apart));
                }
            }
            line("(sluicegate − floor) / (nginx − floor)", apart, self.above_floor(apart));
        }
        text
    }

    fn bars(&self, figure: impl Fn(&Load) -> f64) -> Vec<Bar> {
        let bar = |(peer, apart): (Peer, Apart)| {
            let group = format!("{} {apart}", self.network);
            let spread = self.spread(peer, apart, &figure)?;
            Some(Bar { group, name: peer.to_string(), spread })
        };
        self.rows().filter_map(bar).collect()
    }
}

impl Findings {
    pub(super) fn cell(&self, network: &str, workload: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.network == network && cell.workload.name == workload)
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for cell in &self.cells {
            let _ = writeln!(text, "{}{}", cell.table(), cell.comparisons());
        }
        if !self.calls.is_empty() {
            let mut table = Table::new(
                "System calls per request of 1 KiB (strace -f -c; waits are shared by requests \
                 that come together)",
                &["", "connections", "calls", "of which"],
            );
            for calls in &self.calls {
                let total = format!("{:.2}", calls.total());
                let connections = calls.connections.to_string();
                table.row(vec![calls.peer.to_string(), connections, total, calls.breakdown()]);
            }
            let _ = writeln!(text, "{table}");
        }
        if !self.idle.is_empty() {
            let mut table = Table::new(
                "Idle keep-alive connections: bytes of the process for each",
                &["", "connections", "RSS", "PSS"],
            );
            for (peer, memory) in &self.idle {
                let proportional = memory.proportional_each();
                table.row(vec![
                    peer.to_string(),
                    memory.connections.to_string(),
                    format!("{:.0}", memory.resident_each()),
                    proportional.map_or_else(|| "—".to_owned(), |bytes| format!("{bytes:.0}")),
                ]);
            }
            let _ = writeln!(text, "{table}");
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// A plot of the costs and one of the rates of each workload.
    pub(super) fn plot(&self, run: &RunDir, workloads: &[Workload]) -> Result<()> {
        for Workload { name, unit, .. } in workloads {
            let cells = || self.cells.iter().filter(|cell| cell.workload.name == *name);
            let costs: Vec<Bar> =
                cells().flat_map(|cell| cell.bars(|load| unit.core_cost(load))).collect();
            let rates: Vec<Bar> =
                cells().flat_map(|cell| cell.bars(|load| unit.rate(load))).collect();
            let path = |figure: &str| run.path().join(format!("{name}-{figure}.svg"));
            let title = format!("{name}: CPU of the server's core");
            plot::bars(&path("cost"), &title, unit.of_cost(), &costs)?;
            plot::bars(&path("rate"), &format!("{name}: rate"), unit.of_rate(), &rates)?;
        }
        Ok(())
    }
}

const NOTES: &str = "\
core: busy time (user, nice, system, irq, softirq) of the core that the server alone is pinned
to; the client has another core. busy: the share of the window in which that core worked; below
1 it also waited for the client. cores, trip: the time of a cache line from the client's core to
the server's and back; while the host of a virtual machine keeps the two far apart, every request
costs some µs more, on any server. Comparisons are made within rounds; near and far are shown
apart and judged together. A round is left out when within it the host moved a core (trips differ
by a factor of 2, or, of small answers, parts of a window by 1.9) or other programs ran for more
than 5 % of a window. The client of small answers never sleeps, so that no server pays for waking
it; a client that downloads waits and copies, like any other. Every answer's status and length was
checked; of 1 KiB every byte, of 1 GiB the first, the last and every 64th block of 64 KiB within
the windows, and every byte once before. On the loopback sluicegate and the floors are not paced
(they choose Reno on loopback listeners); the others have the host's congestion control, named above.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Latency;
    use crate::experiment::static_files::workload::workloads;
    use crate::harness::cpu::CoreTime;

    /// A window of a second in which the core was busy throughout.
    fn load(requests: u64) -> Load {
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
        }
    }

    fn findings() -> Findings {
        let rounds =
            [1, 2, 1, 1, 2].map(|by| [160_000, 100_000, 200_000].map(|rate| load(rate / by)));
        let rounds: Vec<Vec<Load>> = rounds.map(Vec::from).into();
        let workload = workloads(true).remove(0);
        let cell = Cell { network: "lo", workload, rounds, faults: vec![None; 5] };
        Findings { cells: vec![cell], ..Findings::default() }
    }

    #[test]
    fn a_target_is_judged_by_the_median_of_rounds() {
        let targets = findings().targets();
        // 6.25 µs, 10 µs, 5 µs: a quarter of what nginx costs above the floor.
        assert!(targets[0].name.contains("over lo"));
        assert!((targets[0].value.unwrap() - 0.25).abs() < 1e-9);
        assert!(!targets[0].is_missed());
        assert_eq!(targets[1].value, None);
    }

    #[test]
    fn faulty_rounds_are_left_out_while_enough_are_good() {
        let mut findings = findings();
        let cell = &mut findings.cells[0];
        cell.rounds.push(vec![load(1), load(1), load(1)]);
        cell.faults.push(Some(Fault::Moved));
        assert_eq!(cell.costs(Peer::Nginx, Apart::Far).unwrap().len(), 5);
        assert!(findings.report().contains("5 rounds; 0 noisy and 1 moved ones left out"));

        let cell = &mut findings.cells[0];
        cell.faults[0] = Some(Fault::Noisy);
        assert_eq!(cell.costs(Peer::Nginx, Apart::Far).unwrap().len(), 6);
        assert!(findings.report().contains("ALL 6 rounds, UNSTEADY: 1 noisy, 1 moved"));
    }

    #[test]
    fn the_report_names_every_server_and_what_was_skipped() {
        let mut findings = findings();
        findings.skipped.push("veth: no root".to_owned());
        let report = findings.report();
        for text in
            ["sluicegate / nginx, far: 0.62", "floor-epoll", "SKIPPED: veth", "not measured"]
        {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }

    #[test]
    fn a_record_survives_the_round_trip_through_json() {
        let record = Record::Load {
            network: "lo".to_owned(),
            workload: "1KiB-64".to_owned(),
            server: "nginx".to_owned(),
            round: 1,
            fault: Some(Fault::Moved.to_string()),
            unit: Unit::Request,
            cost: 8.5,
            load: Box::new(load(7)),
        };
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains(r#""kind":"load""#));
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }
}
