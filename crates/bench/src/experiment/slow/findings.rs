//! What was measured, and what it says: a table, targets, plots.

use std::fmt::Write;

use anyhow::Result;

use super::figure::{
    Figure, GIB, MIB, core_cost, core_cost_of, kernel, memory, queued, resident, slab, tcp,
    threads_cost,
};
use crate::client::SlowLoad;
use crate::harness::plot::{self, Bar};
use crate::harness::report::{Table, Target, spread, verdicts};
use crate::harness::round::Fault;
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::{Spread, ratios};
use crate::peer::Peer;

/// So many rounds must be as they should be for the others to be left out, and there must be so
/// many for a verdict.
const ENOUGH: usize = 3;

/// Of its due, what the slowest download must have.
const FAIR: f64 = 0.8;

/// One crowd of downloads for each server.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) loads: Vec<SlowLoad>,
    pub(super) fault: Option<Fault>,
}

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) downloads: usize,
    /// What each download was read with, in bytes a second.
    pub(super) rate: u64,
    pub(super) peers: Vec<Peer>,
    pub(super) rounds: Vec<Round>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

impl Findings {
    /// The rounds that count: where hardly any is as it should be, all do.
    fn counted(&self) -> impl Iterator<Item = &Round> {
        let all = self.counts_all();
        self.rounds.iter().filter(move |round| all || round.fault.is_none())
    }

    fn counts_all(&self) -> bool {
        self.rounds.iter().filter(|round| round.fault.is_none()).count() < ENOUGH
    }

    fn figures(&self, peer: Peer, figure: Figure) -> Vec<f64> {
        let index = self.peers.iter().position(|&found| found == peer);
        let of = |round: &Round| index.and_then(|index| round.loads.get(index)).map(figure);
        self.counted().filter_map(of).collect()
    }

    fn spread(&self, peer: Peer, figure: Figure) -> Option<Spread> {
        Spread::of(&self.figures(peer, figure))
    }

    /// Ours by another's, within rounds.
    fn against(&self, peer: Peer, figure: Figure) -> Option<f64> {
        let ratios = ratios(&self.figures(Peer::Sluicegate, figure), &self.figures(peer, figure));
        if ratios.len() < ENOUGH { None } else { Spread::of(&ratios).map(|of| of.median) }
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}\n{}", self.costs(), self.fairness());
        if self.rounds.iter().flat_map(|round| &round.loads).any(|load| load.whole.is_some()) {
            let _ = writeln!(text, "{}", self.ends());
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    fn costs(&self) -> Table {
        let good = self.rounds.iter().filter(|round| round.fault.is_none()).count();
        let which = if self.counts_all() { "all count" } else { "those count" };
        let title = format!(
            "{} downloads at once, each at {} kB/s; median (min–max) of {} rounds, of which {good} \
             as they should be: {which}",
            self.downloads,
            self.rate / 1000,
            self.rounds.len(),
        );
        let columns = [
            "",
            "core s/GiB",
            "own threads",
            "resident MiB",
            "queued MiB",
            "TCP's account MiB",
            "slab MiB",
            "kernel in all MiB",
            "KiB/download",
        ];
        let mut table = Table::new(title, &columns);
        for &peer in &self.peers {
            let mib = |figure: Figure| {
                let of = self.spread(peer, figure);
                of.map_or_else(|| "—".to_owned(), |of| format!("{:.0}", of.median / MIB))
            };
            let each = self.spread(peer, memory).map(|of| of.median / 1024.0);
            table.row(vec![
                peer.to_string(),
                spread(self.spread(peer, core_cost), 4),
                spread(self.spread(peer, threads_cost), 4),
                mib(resident),
                mib(queued),
                mib(tcp),
                mib(slab),
                mib(kernel),
                each.map_or_else(String::new, |kib| format!("{:.1}", kib / self.downloads as f64)),
            ]);
        }
        table
    }

    fn fairness(&self) -> Table {
        let columns = ["", "slowest", "slowest 1 %", "median", "fastest", "lag ms"];
        let mut table = Table::new("Rates of the downloads in the windows, in kB/s", &columns);
        for &peer in &self.peers {
            let kilobytes = |figure: Figure| {
                let of = self.spread(peer, figure);
                of.map(|of| Spread {
                    median: of.median / 1e3,
                    min: of.min / 1e3,
                    max: of.max / 1e3,
                })
            };
            let lags = self.figures(peer, |load| load.lag_ms);
            table.row(vec![
                peer.to_string(),
                spread(kilobytes(|load| load.rates.slowest), 1),
                spread(kilobytes(|load| load.rates.slow), 1),
                spread(kilobytes(|load| load.rates.median), 1),
                spread(kilobytes(|load| load.rates.fastest), 1),
                format!("{:.0}", lags.iter().copied().fold(0.0, f64::max)),
            ]);
        }
        table
    }

    /// Of the rounds in which downloads went on to their ends.
    fn ends(&self) -> Table {
        let columns = ["", "round", "complete", "slowest s", "core s/GiB", "own threads"];
        let mut table = Table::new("Downloads to their ends", &columns);
        for (number, round) in self.rounds.iter().enumerate() {
            for (peer, load) in self.peers.iter().zip(&round.loads) {
                let Some(whole) = load.whole else { continue };
                let gib = whole.received as f64 / GIB;
                table.row(vec![
                    peer.to_string(),
                    (number + 1).to_string(),
                    format!("{} of {}", load.complete, load.downloads),
                    load.slowest_s.map_or_else(String::new, |slowest| format!("{slowest:.1}")),
                    format!("{:.4}", core_cost_of(&whole)),
                    format!("{:.4}", whole.threads_s / gib),
                ]);
            }
        }
        table
    }

    /// Each goal with what was measured.
    pub(super) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for &peer in self.peers.iter().filter(|&&peer| peer != Peer::Sluicegate) {
            let target = |what, figure: Figure| Target {
                name: format!("{what}: ours / {peer}"),
                bound: 1.0,
                value: self.against(peer, figure),
            };
            targets.push(target("CPU per GiB", core_cost));
            targets.push(target("memory, of the process and of the kernel", memory));
        }
        // The worst round of all that count.
        let slowest = self.spread(Peer::Sluicegate, |load| load.rates.slowest);
        targets.push(Target {
            name: "no one starved: what is due / what the slowest download got".to_owned(),
            bound: 1.0 / FAIR,
            value: slowest.map(|of| self.rate as f64 / of.min.max(1.0)),
        });
        let ours = self.peers.iter().position(|&peer| peer == Peer::Sluicegate);
        let loads = self.rounds.iter().filter_map(|round| round.loads.get(ours?));
        let ended = loads.filter(|load| load.whole.is_some());
        let left = ended.map(|load| (load.downloads - load.complete) as f64).reduce(f64::max);
        if left.is_some() {
            targets.push(Target {
                name: "downloads to their ends: incomplete ones of ours".to_owned(),
                bound: 0.0,
                value: left,
            });
        }
        targets
    }

    /// A plot of the costs, one of the memory, one of the rates.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        let bars = |group: &str, figure: Figure, by: f64| -> Vec<Bar> {
            let of = |&peer: &Peer| {
                let Spread { median, min, max } = self.spread(peer, figure)?;
                let spread = Spread { median: median / by, min: min / by, max: max / by };
                Some(Bar { group: group.to_owned(), name: peer.to_string(), spread })
            };
            self.peers.iter().filter_map(of).collect()
        };
        let draw = |name: &str, what: &str, unit: &str, groups: Vec<Vec<Bar>>| {
            let title = format!("{} slow downloads: {what}", self.downloads);
            let bars: Vec<Bar> = groups.into_iter().flatten().collect();
            plot::bars(&run.path().join(name), &title, unit, &bars)
        };
        let costs = vec![bars("core", core_cost, 1.0), bars("own threads", threads_cost, 1.0)];
        draw("cost.svg", "CPU", "s/GiB", costs)?;
        let memory = vec![
            bars("resident", resident, MIB),
            bars("TCP's account", tcp, MIB),
            bars("kernel in all", kernel, MIB),
        ];
        draw("memory.svg", "memory", "MiB", memory)?;
        let rates = vec![
            bars("slowest", |load| load.rates.slowest, 1e3),
            bars("median", |load| load.rates.median, 1e3),
        ];
        draw("rates.svg", "rates", "kB/s", rates)
    }
}

const NOTES: &str = "\
core: busy time of the core that the server alone is pinned to, from the first connection to the
end of the window, by what the server handed over until then: received or queued. (What is queued
is sent on by the core of the client, as it reads.) resident: the server's process, above what it
had after one download. queued: bytes in the sockets at the end of the window. TCP's account: what
the kernel counts for them at both ends (/proc/net/sockstat), also where a socket merely refers to
pages of the page cache. kernel in all: what is neither free nor a program's nor of the page cache
(/proc/meminfo), so without those pages; it holds the clients' ends too, which are alike, and what
else the machine did. KiB/download: resident and kernel in all. Each client reads at its rate and
never catches up, with a receive buffer of 64 KiB. lag: by how much the client itself was late.
Every answer's status and length was checked, and of its contents all that a quick run received,
otherwise the first, the last and every 64th block of 64 KiB; in the first round of a full run all
downloads went on to their ends, or 30 s longer than they should have taken. nginx keeps its files open (open_file_cache): otherwise it has two
descriptors for each download.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{KernelMemory, Rates, Work};
    use crate::harness::cpu::CoreTime;
    use crate::harness::memory::Memory;

    fn load(seconds: f64, mib: i64, slowest: f64) -> SlowLoad {
        let server =
            |mib: i64| Memory { resident: mib << 20, anonymous: mib << 20, proportional: None };
        let kernel = |mib: i64| KernelMemory { tcp: mib << 20, slab: 0, all: mib << 20 };
        let core = CoreTime { system: seconds, idle: 9.0, ..CoreTime::default() };
        let (received, queued) = (1 << 29, 1 << 29);
        let work = Work { seconds: 17.0, received, queued, core, threads_s: seconds / 2.0 };
        SlowLoad {
            downloads: 1_000,
            connecting_s: 1.0,
            work,
            whole: None,
            noise: 0.0,
            distances_ns: [100.0; 2],
            window_s: 15.0,
            rates: Rates { slowest, slow: 99e3, median: 1e5, fastest: 1.1e5 },
            lag_ms: 3.0,
            server: [server(10), server(10 + mib)],
            kernel: [kernel(100), kernel(100 + mib)],
            complete: 0,
            slowest_s: None,
        }
    }

    fn findings(slowest: f64) -> Findings {
        let round = |by: f64| Round {
            loads: vec![load(0.1 * by, 20, slowest), load(0.2 * by, 80, 9e4)],
            fault: None,
        };
        Findings {
            downloads: 1_000,
            rate: 100_000,
            peers: vec![Peer::Sluicegate, Peer::NginxCached],
            rounds: vec![round(1.0), round(2.0), round(1.5)],
            skipped: vec!["h2o: there is no h2o".to_owned()],
        }
    }

    #[test]
    fn servers_are_compared_within_rounds_by_cost_and_by_all_memory() {
        let findings = findings(9e4);
        let values: Vec<f64> =
            findings.targets().iter().map(|target| target.value.unwrap()).collect();
        assert!((values[0] - 0.5).abs() < 1e-9 && (values[1] - 0.25).abs() < 1e-9, "{values:?}");
        assert!(findings.targets().iter().all(|target| !target.is_missed()));
        let report = findings.report();
        for text in ["nginx-cached", "0.1500 (0.1000–0.2000)", "41.0", "SKIPPED: h2o"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }

    #[test]
    fn downloads_to_their_ends_have_a_table_of_their_own() {
        let mut findings = findings(9e4);
        assert!(!findings.report().contains("to their ends\n"));
        for load in &mut findings.rounds[0].loads {
            load.whole = Some(Work { received: 1 << 30, queued: 0, ..load.work });
            (load.complete, load.slowest_s) = (999, Some(85.25));
        }
        let incomplete = findings.targets().pop().unwrap();
        assert!(incomplete.value == Some(1.0) && incomplete.is_missed(), "{incomplete:?}");
        findings.rounds[0].loads[0].complete = 1_000;
        assert!(!findings.targets().pop().unwrap().is_missed());
        let report = findings.report();
        let row = report.lines().find(|line| line.contains("999 of 1000")).unwrap();
        assert!(row.contains("nginx-cached") && row.contains("0.2000"), "{report}");
    }

    #[test]
    fn one_starved_download_misses_the_target() {
        let targets = findings(79_000.0).targets();
        assert!(targets.last().unwrap().is_missed(), "{targets:?}");
        assert!(findings(0.0).targets().last().unwrap().is_missed());
        assert!(!findings(80_001.0).targets().last().unwrap().is_missed());
    }

    #[test]
    fn rounds_that_were_disturbed_are_left_out_while_enough_remain() {
        let mut findings = findings(9e4);
        findings.rounds.push(Round {
            loads: vec![load(50.0, 1, 1.0), load(1.0, 1, 1.0)],
            fault: Some(Fault::Noisy),
        });
        assert!(!findings.targets().last().unwrap().is_missed());
        findings.rounds.remove(0);
        assert!(findings.targets().last().unwrap().is_missed(), "now all count");
    }
}
