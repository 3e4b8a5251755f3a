//! What the rounds of one size say of the ways.

use super::workload::{Series, Size};
use crate::client::Load;
use crate::experiment::cell::Cell;
use crate::floor::figure7::Join;
use crate::harness::distance::Apart;
use crate::harness::interval::Interval;

/// So few rounds say nothing of a ratio.
const ROUNDS: usize = 5;

/// A figure of a window.
pub(super) type Figure = fn(&Load) -> f64;

/// A cell, and what it belongs to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Comparison<'a> {
    pub(super) cell: &'a Cell,
    pub(super) series: &'a Series,
    pub(super) size: Size,
}

/// The ways that ours is judged by.
pub(super) fn others() -> impl Iterator<Item = Join> {
    Join::ALL.into_iter().filter(|join| !join.is_ours())
}

impl Comparison<'_> {
    /// The median of a figure of a way, while the cores were so far apart.
    pub(super) fn median(&self, join: Join, apart: Apart, figure: Figure) -> Option<f64> {
        self.cell.spread(self.series.peer(join), apart, figure).map(|of| of.median)
    }

    /// The cost of one way by that of another: compared within each round, near and far together.
    pub(super) fn against(&self, join: Join, other: Join) -> Option<Interval> {
        let [one, other] = [join, other].map(|join| self.series.peer(join));
        Interval::of(&self.cell.all_ratios(one, other)?)
    }

    /// The other way that ours looks worst beside, and how; `None` while there are too few rounds.
    pub(super) fn against_best(&self) -> Option<(Join, Interval)> {
        if self.cell.all_costs(self.series.peer(Join::Ours))?.len() < ROUNDS {
            return None;
        }
        let all = others().filter_map(|other| Some((other, self.against(Join::Ours, other)?)));
        all.max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::experiment::cell::tests::load;
    use crate::experiment::figure7::workload::series;

    /// So many far rounds, in each of which the machine is slower: `separate` takes 10 µs, `cork`
    /// 8, `writev` 4, `more` 6, `ours` 5, `ours-file` 4 in the first.
    pub(in super::super) fn cell(rounds: u64) -> Cell {
        let series = &series(true)[0];
        let round = |by: u64| {
            let rates = [100_000, 125_000, 250_000, 166_667, 200_000, 250_000];
            rates.map(|rate| load(rate / by)).into()
        };
        Cell {
            network: "lo",
            workload: series.workload(series.sizes[0]),
            rounds: (1..=rounds).map(round).collect(),
            faults: vec![None; rounds as usize],
        }
    }

    #[test]
    fn the_best_of_the_others_is_the_one_that_ours_looks_worst_beside() {
        let (cell, series) = (cell(5), &series(true)[0]);
        let comparison = Comparison { cell: &cell, series, size: series.sizes[0] };
        let (join, interval) = comparison.against_best().unwrap();
        assert_eq!(join, Join::Writev);
        assert!((interval.median - 1.25).abs() < 1e-3);
        assert!(comparison.against(Join::Ours, Join::Separate).unwrap().median < 0.51);
    }

    #[test]
    fn too_few_rounds_are_no_verdict() {
        let (cell, series) = (cell(4), &series(true)[0]);
        let comparison = Comparison { cell: &cell, series, size: series.sizes[0] };
        assert_eq!(comparison.against_best(), None);
    }
}
