//! The goals of the project for static files, and whether they are met.

use super::accounts::CallsPerRequest;
use super::findings::Findings;
use crate::experiment::cell::Cell;
use crate::harness::distance::Apart;
use crate::harness::report::Target;
use crate::harness::statistics::Spread;
use crate::peer::Peer;

/// So few rounds say nothing of a ratio.
const ROUNDS: usize = 5;

/// Ratios of rounds, of which the median is judged.
type Comparison = fn(&Cell, Apart) -> Option<Vec<f64>>;

/// The median over all rounds, near and far together: each ratio is of one round, in which all
/// servers had the same cores.
fn median(cell: &Cell, ratios: Comparison) -> Option<f64> {
    let all: Vec<f64> =
        Apart::BOTH.into_iter().filter_map(|apart| ratios(cell, apart)).flatten().collect();
    if all.len() < ROUNDS { None } else { Spread::of(&all).map(|of| of.median) }
}

impl Findings {
    /// Each goal with what was measured.
    pub(super) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        let small: Comparison = |cell, apart| cell.above_floor(apart);
        let large: Comparison = |cell, apart| cell.against(Peer::Nginx, apart);
        for (workload, what, bound, ratios) in [
            ("1KiB-64", "(ours − floor) / (nginx − floor)", 0.5, small),
            ("1GiB-1", "ours / nginx", 1.0, large),
            ("1GiB-8", "ours / nginx", 1.0, large),
        ] {
            for network in ["lo", "veth"] {
                let cell = self.cell(network, workload);
                if cell.is_none() && workload == "1GiB-8" {
                    // Not in a quick run.
                    continue;
                }
                targets.push(Target {
                    name: format!("{workload} over {network}: {what}"),
                    bound,
                    value: cell.and_then(|cell| median(cell, ratios)),
                });
            }
        }
        for size in ["10KiB", "100KiB"] {
            for connections in ["64", "8", "1"] {
                targets.extend(self.against_best(&format!("{size}-{connections}")));
            }
        }
        let ours = self.calls.iter().filter(|calls| calls.peer == Peer::Sluicegate);
        targets.push(Target {
            name: "1KiB: system calls per request, with 64 connections and with 1".to_owned(),
            bound: 3.05,
            value: ours.map(CallsPerRequest::total).reduce(f64::max),
        });
        let ours = self.idle.iter().find(|(peer, _)| *peer == Peer::Sluicegate);
        targets.push(Target {
            name: "idle connection: resident bytes".to_owned(),
            bound: 1024.0,
            value: ours.map(|(_, memory)| memory.resident_each()),
        });
        targets
    }

    /// Whether the best of the others is beaten; nothing of what a quick run leaves out.
    fn against_best(&self, workload: &str) -> Vec<Target> {
        let target = |network| {
            let cell = self.cell(network, workload);
            if cell.is_none() && !workload.ends_with("-64") {
                return None;
            }
            let best = cell.and_then(Cell::best_rival);
            let named = best.map_or_else(String::new, |best| format!(" ({best})"));
            let ratios = cell.zip(best).and_then(|(cell, best)| {
                cell.all_ratios(Peer::Sluicegate, best).filter(|all| all.len() >= ROUNDS)
            });
            let value = ratios.and_then(|all| Spread::of(&all)).map(|of| of.median);
            let name = format!("{workload} over {network}: ours / best peer{named}");
            Some(Target { name, bound: 1.0, value })
        };
        ["lo", "veth"].into_iter().filter_map(target).collect()
    }
}
