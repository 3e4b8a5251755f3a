//! What was measured, and what it says: tables, comparisons, targets, plots.

use std::fmt::Write;

use anyhow::Result;

use super::accounts::CallsPerRequest;
use crate::client::IdleMemory;
use crate::experiment::cell::Cell;
use crate::experiment::workload::Workload;
use crate::harness::plot::{self, Bar};
use crate::harness::report::{Table, spread, verdicts};
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::Spread;
use crate::peer::Peer;

/// All that a run found out.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) cells: Vec<Cell>,
    pub(super) calls: Vec<CallsPerRequest>,
    pub(super) idle: Vec<(Peer, IdleMemory)>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

impl Findings {
    pub(super) fn cell(&self, network: &str, workload: &str) -> Option<&Cell> {
        self.cells.iter().find(|cell| cell.network == network && cell.workload.name == workload)
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}", self.overview());
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

    /// Ours beside the best of the others, in each cell.
    fn overview(&self) -> Table {
        let title = "sluicegate by the best of the others (the smallest median of nginx, \
                     nginx-copy, lighttpd and h2o), within rounds";
        let columns = ["", "network", "sluicegate", "best", "", "ratio"];
        let mut table = Table::new(title, &columns);
        for cell in &self.cells {
            let Some(best) = cell.best_rival() else { continue };
            let median = |figures: Option<Vec<f64>>| Spread::of(&figures?).map(|of| of.median);
            let digits = cell.workload.unit.digits().0;
            let cost = |peer: Peer| {
                median(cell.all_costs(peer)).map_or_else(String::new, |cost| {
                    format!("{cost:.digits$} {}", cell.workload.unit.of_cost())
                })
            };
            table.row(vec![
                cell.workload.name.clone(),
                cell.network.to_owned(),
                cost(Peer::Sluicegate),
                cost(best),
                best.to_string(),
                spread(cell.all_ratios(Peer::Sluicegate, best).and_then(|of| Spread::of(&of)), 2),
            ]);
        }
        table
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
loopback listeners); the others have the host's congestion control, named above.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::cell::tests::cell;
    use crate::floor::Way;

    fn findings() -> Findings {
        let rounds: Vec<Vec<u64>> = [1, 2, 1, 1, 2]
            .map(|by| [160_000, 100_000, 200_000].map(|rate| rate / by).to_vec())
            .into();
        let rounds: Vec<&[u64]> = rounds.iter().map(Vec::as_slice).collect();
        let peers = [Peer::Sluicegate, Peer::Nginx, Peer::Floor(Way::Epoll)];
        let cells = ["1KiB-64", "10KiB-64"].map(|name| cell(name, &peers, &rounds));
        Findings { cells: cells.into(), ..Findings::default() }
    }

    #[test]
    fn a_target_is_judged_by_the_median_of_rounds() {
        let targets = findings().targets();
        // 6.25 µs, 10 µs, 5 µs: a quarter of what nginx costs above the floor.
        assert!(targets[0].name.contains("over lo"));
        assert!((targets[0].value.unwrap() - 0.25).abs() < 1e-9);
        assert!(!targets[0].is_missed());
        assert_eq!(targets[1].value, None);
        let best = targets.iter().find(|target| target.name.starts_with("10KiB-64 over lo"));
        let best = best.unwrap();
        assert!(best.name.contains("best peer (nginx)"), "{}", best.name);
        assert!((best.value.unwrap() - 0.625).abs() < 1e-9);
    }

    #[test]
    fn what_a_quick_run_leaves_out_is_no_target_of_it() {
        let names: Vec<String> = findings().targets().into_iter().map(|of| of.name).collect();
        let has = |start: &str| names.iter().any(|name| name.starts_with(start));
        assert!(has("100KiB-64 over veth") && has("1GiB-1 over lo"));
        assert!(!has("100KiB-8 ") && !has("10KiB-1 ") && !has("1GiB-8"));
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
}
