//! The goals of the project for static files, and whether they are met.

use super::accounts::CallsPerRequest;
use super::findings::Findings;
use super::operation::Operation;
use super::sites::SitesCell;
use super::workloads::LOGGED;
use crate::experiment::cell::Cell;
use crate::harness::report::Target;
use crate::harness::statistics::Spread;
use crate::peer::Peer;

/// So few rounds say nothing of a ratio.
const ROUNDS: usize = 5;

/// What our cost above the floor may be of the best peer's.
const ABOVE_FLOOR: f64 = 0.5;

/// What our cost of 1 KiB may be of the floor's.
const OF_FLOOR: f64 = 1.12;

/// What our cost of a GiB may be of the better floor's.
const LARGE_OF_FLOOR: f64 = 1.05;

/// The median over all rounds, near and far together: each ratio is of one round, in which all
/// servers had the same cores.
fn median(ratios: Option<Vec<f64>>) -> Option<f64> {
    let all = ratios.filter(|all| all.len() >= ROUNDS)?;
    Spread::of(&all).map(|of| of.median)
}

/// The goals of one cell.
fn of_cell(cell: &Cell) -> Vec<Target> {
    let name = &*cell.workload.name;
    let target = |what: String, bound: f64, ratios: Option<Vec<f64>>| Target {
        name: format!("{name} over {}: {what}", cell.network),
        bound,
        value: median(ratios),
    };
    let floor = cell.best_floor();
    let of_floor = |bound| {
        let ratios = floor.and_then(|floor| cell.all_ratios(Peer::Sluicegate, floor));
        let named = floor.map_or_else(|| "no floor".to_owned(), |floor| floor.to_string());
        target(format!("ours / {named}"), bound, ratios)
    };
    if name.starts_with("1GiB") {
        let bound = match (cell.network, cell.workload.connections) {
            ("lo", _) => 1.0,
            (_, 8) => 0.85,
            _ => 0.9,
        };
        let ratios = cell.all_ratios(Peer::Sluicegate, Peer::Nginx);
        return vec![target("ours / nginx".to_owned(), bound, ratios), of_floor(LARGE_OF_FLOOR)];
    }
    if cell.workload.connections != 64 {
        // Of the others nothing is asked but that nobody is better.
        let best = cell.best_rival();
        let ratios = best.and_then(|best| cell.all_ratios(Peer::Sluicegate, best));
        let named = best.map_or_else(|| "no peer".to_owned(), |best| best.to_string());
        return vec![target(format!("ours / best peer ({named})"), 1.0, ratios)];
    }
    let best = cell.best_rival();
    let ratios = best.and_then(|best| cell.above_floor(best));
    let named = best.map_or_else(|| "best peer".to_owned(), |best| format!("best peer, {best},"));
    let what = format!("ours above the floor / {named} above it");
    let mut targets = vec![target(what, ABOVE_FLOOR, ratios)];
    // With logs the ratio to the floor is shown in the table of the cell alone.
    if name.starts_with("1KiB") && !name.ends_with(LOGGED) {
        targets.push(of_floor(OF_FLOOR));
    }
    targets
}

impl Findings {
    /// Each goal with what was measured, of what was to be measured.
    pub(super) fn targets(&self) -> Vec<Target> {
        let mut targets: Vec<Target> = self.cells.iter().flat_map(of_cell).collect();
        targets.extend(self.sites.iter().flat_map(SitesCell::targets));
        targets.extend(self.operation.as_ref().map(Operation::target));
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
}
