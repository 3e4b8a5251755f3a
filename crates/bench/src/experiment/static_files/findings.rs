//! What was measured, and what it says: tables, comparisons, targets, plots.

use std::fmt::Write;

use anyhow::Result;

use super::accounts::{CallsPerRequest, CyclesPerRequest};
use super::operation::Operation;
use super::sites::{self, SitesCell};
use crate::client::IdleMemory;
use crate::experiment::cell::Cell;
use crate::experiment::workload::Workload;
use crate::harness::interval::Interval;
use crate::harness::plot::{self, Bar};
use crate::harness::report::{Table, verdicts};
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::Spread;
use crate::peer::Peer;

/// The seeds' server (seeds, 001): 350 MHz by 9,000 requests a second.
const SEEDS: &str = "seeds: 9,000 requests/s of a Pentium II, 350 MHz";
const SEEDS_CYCLES: f64 = 350e6 / 9e3;

/// All that a run found out.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) cells: Vec<Cell>,
    pub(super) calls: Vec<CallsPerRequest>,
    pub(super) cycles: Option<CyclesPerRequest>,
    pub(super) idle: Vec<(Peer, IdleMemory)>,
    pub(super) sites: Vec<SitesCell>,
    pub(super) operation: Option<Operation>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

impl Findings {
    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        if !self.cells.is_empty() {
            let _ = writeln!(text, "{}", self.overview());
        }
        for cell in &self.cells {
            let _ = writeln!(text, "{}{}", cell.table(), cell.comparisons());
        }
        let tables = [self.habits(), self.calls_table(), self.cycles_table(), self.idle_table()];
        for table in tables.into_iter().flatten() {
            let _ = writeln!(text, "{table}");
        }
        if !self.sites.is_empty() {
            let _ = writeln!(text, "{}", sites::report(&self.sites));
        }
        if let Some(operation) = &self.operation {
            let _ = writeln!(text, "{}", operation.report());
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// Ours beside the best of the others, in each cell.
    fn overview(&self) -> Table {
        let title = "sluicegate by the best of the others (the smallest median of all peers but \
                     nginx-cached), within rounds, with the 95 % interval of the median";
        let columns = ["", "network", "sluicegate", "floor", "best", "", "ratio", "by the floor"];
        let mut table = Table::new(title, &columns);
        for cell in &self.cells {
            let Some(best) = cell.best_rival() else { continue };
            let digits = cell.workload.unit.digits().0;
            let cost = |peer: Peer| {
                let median = Spread::of(&cell.all_costs(peer)?)?.median;
                Some(format!("{median:.digits$} {}", cell.workload.unit.of_cost()))
            };
            let by = |other: Peer| {
                let ratios = cell.all_ratios(Peer::Sluicegate, other)?;
                Some(Interval::of(&ratios)?.show())
            };
            let floor = cell.best_floor();
            table.row(vec![
                cell.workload.name.clone(),
                cell.network.to_owned(),
                cost(Peer::Sluicegate).unwrap_or_default(),
                floor.and_then(cost).unwrap_or_default(),
                cost(best).unwrap_or_default(),
                best.to_string(),
                by(best).unwrap_or_default(),
                floor.and_then(by).unwrap_or_default(),
            ]);
        }
        table
    }

    /// How each server writes its log, where any was written.
    fn habits(&self) -> Option<Table> {
        let mut peers: Vec<Peer> = Vec::new();
        for cell in self.cells.iter().filter(|cell| cell.workload.logs) {
            let new = |peer: &&Peer| !peers.contains(peer);
            let new: Vec<Peer> = cell.workload.peers.iter().filter(new).copied().collect();
            peers.extend(new);
        }
        let title = "Logs of requests, to a file on the file system of the served ones; the lines \
                     of each were as many as its requests";
        let mut table = Table::new(title, &["", "form"]);
        for peer in &peers {
            table.row(vec![peer.to_string(), peer.log_habit().to_owned()]);
        }
        (!peers.is_empty()).then_some(table)
    }

    fn calls_table(&self) -> Option<Table> {
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
        (!self.calls.is_empty()).then_some(table)
    }

    fn cycles_table(&self) -> Option<Table> {
        let CyclesPerRequest { counter, of } = self.cycles.as_ref()?;
        let title = format!("Cycles per request of 1 KiB, 64 connections, {}", counter.in_words());
        let mut table = Table::new(title, &["", "cycles", "seeds' / this"]);
        let rows = of.iter().map(|(peer, cycles, fault)| {
            let fault = fault.map_or_else(String::new, |fault| format!(" ({fault})"));
            (format!("{peer}{fault}"), *cycles)
        });
        for (name, cycles) in rows.chain([(SEEDS.to_owned(), SEEDS_CYCLES)]) {
            let ratio = format!("{:.1}", SEEDS_CYCLES / cycles);
            table.row(vec![name, format!("{cycles:.0}"), ratio]);
        }
        Some(table)
    }

    fn idle_table(&self) -> Option<Table> {
        let mut table = Table::new(
            "Idle keep-alive connections that have served a request: bytes of the process for each",
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
        (!self.idle.is_empty()).then_some(table)
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
checked; of 1 KiB every byte, of 10 and 100 KiB the first and the last KiB and every byte of each
16th, of 1 GiB the first, the last and every 64th block of 64 KiB within the windows, and every
byte once before. On the loopback sluicegate and the floors are not paced (they choose Reno on
loopback listeners); the others have the host's congestion control, named above. Workloads called
-log are those in which every server, floors too, writes a line for each request; a server whose
log has other lines than there were requests is void. Of 1 KiB the ratio to the floor is judged
without logs. switches: how often the server's threads gave the core up. Cycles include the two
measurements of the cores' distance, some ms in each count.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::cell::tests::cell;
    use crate::floor::Way;
    use crate::harness::cycles::Counter;
    use crate::harness::report::Target;

    fn findings() -> Findings {
        let rounds: Vec<Vec<u64>> = [1, 2, 1, 1, 2]
            .map(|by| [160_000, 100_000, 90_000, 200_000].map(|rate| rate / by).to_vec())
            .into();
        let rounds: Vec<&[u64]> = rounds.iter().map(Vec::as_slice).collect();
        let peers = [Peer::Sluicegate, Peer::Nginx, Peer::Apache, Peer::Floor(Way::Epoll)];
        let cells = ["1KiB-64", "10KiB-64", "1KiB-64-log"].map(|name| cell(name, &peers, &rounds));
        Findings { cells: cells.into(), ..Findings::default() }
    }

    fn value(targets: &[Target], start: &str) -> f64 {
        let found = targets.iter().find(|target| target.name.starts_with(start));
        found.unwrap_or_else(|| panic!("no {start}")).value.unwrap()
    }

    #[test]
    fn small_files_are_judged_above_the_floor_beside_the_best_peer_and_by_the_floor() {
        let targets = findings().targets();
        // 6.25 µs, 10 µs, 5 µs: a quarter of what nginx costs above the floor.
        let above = "1KiB-64 over lo: ours above the floor / best peer, nginx,";
        assert!((value(&targets, above) - 0.25).abs() < 1e-9);
        let by_floor = "1KiB-64 over lo: ours / floor-epoll";
        assert!((value(&targets, by_floor) - 1.25).abs() < 1e-9);
        assert!(targets.iter().any(Target::is_missed));
        let by_floor = |target: &&Target| target.name.contains("ours / floor");
        assert_eq!(targets.iter().filter(by_floor).count(), 1);
    }

    #[test]
    fn a_gib_is_judged_by_nginx_and_by_the_better_floor_as_its_network_allows() {
        let floors = [Way::Sendfile, Way::Splice].map(Peer::Floor);
        let peers = [Peer::Sluicegate, Peer::Nginx, floors[0], floors[1]];
        let round: &[u64] = &[100, 80, 90, 105];
        let mut cell = cell("1GiB-8", &peers, &[round; 5]);
        cell.workload.connections = 8;
        cell.network = "veth";
        let findings = Findings { cells: vec![cell], ..Findings::default() };
        let targets = findings.targets();
        assert_eq!(targets[0].bound, 0.85);
        assert!((value(&targets, "1GiB-8 over veth: ours / nginx") - 0.8).abs() < 1e-9);
        assert!((value(&targets, "1GiB-8 over veth: ours / floor-splice") - 1.05).abs() < 1e-9);
    }

    #[test]
    fn the_report_names_every_server_and_what_was_skipped() {
        let mut findings = findings();
        findings.skipped.push("veth: no root".to_owned());
        findings.cells[2].workload.logs = true;
        let of = vec![(Peer::Sluicegate, 10_000.0, None)];
        findings.cycles = Some(CyclesPerRequest { counter: Counter::Perf, of });
        let report = findings.report();
        for text in [
            "sluicegate / nginx, far: 0.62",
            "floor-epoll",
            "SKIPPED: veth",
            "not measured",
            "38889",
            "3.9",
            "each line written by itself",
        ] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
