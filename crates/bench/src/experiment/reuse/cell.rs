//! One size over one network: its rounds, and what they say of each way.

use serde::Serialize;

use super::sizes::Size;
use crate::client::Load;
use crate::experiment::workload::Unit;
use crate::floor::reuse::{Made, Make};
use crate::harness::interval::Interval;
use crate::harness::round::{self, Fault};
use crate::harness::statistics::{Spread, ratios};

/// So many rounds must be as they should be for the others to be left out.
const ENOUGH: usize = 5;

/// What happened in a window: what the client saw, and what the server tells.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Window {
    pub(super) load: Load,
    pub(super) made: Made,
}

/// A figure of a window.
pub(super) type Figure = fn(&Window) -> f64;

impl Window {
    /// Busy seconds of the server's core for each GiB, of making and of sending.
    pub(super) fn core(&self) -> f64 {
        Unit::Gib.core_cost(&self.load)
    }

    /// Seconds of the server's own thread for each GiB.
    pub(super) fn threads(&self) -> f64 {
        Unit::Gib.threads_cost(&self.load)
    }

    /// Seconds for each GiB in which images were made. It is not the same for all ways: a new page
    /// has to be found and cleared, and a buffer that another core has read is cold.
    pub(super) fn making(&self) -> f64 {
        let images = self.load.bytes as f64 / self.load.requests.max(1) as f64;
        let each = self.made.making_s / self.made.images.max(1) as f64;
        each / images * f64::from(1 << 30)
    }

    /// Microseconds for which a call holds its caller.
    pub(super) fn held(&self) -> f64 {
        self.made.held_us.p50
    }

    /// Microseconds until the buffer may be written to again.
    pub(super) fn reusable(&self) -> f64 {
        self.made.reusable_us.map_or(f64::NAN, |of| of.p50)
    }
}

impl round::Window for Window {
    fn noise(&self) -> f64 {
        self.load.noise()
    }

    fn distances(&self) -> [f64; 2] {
        self.load.distances_ns
    }

    fn slices(&self) -> &[u64] {
        &self.load.slices
    }
}

/// One size over one network.
#[derive(Debug)]
pub(super) struct ReuseCell {
    pub(super) network: &'static str,
    pub(super) size: Size,
    /// In each: the windows of all ways, in the order of [`Make::ALL`].
    pub(super) rounds: Vec<Vec<Window>>,
    /// What is wrong with each round.
    pub(super) faults: Vec<Option<Fault>>,
    /// Images whose acknowledgement was looked for, in the same order.
    pub(super) looked_for: Vec<Vec<Made>>,
}

impl ReuseCell {
    pub(super) fn new(network: &'static str, size: Size) -> Self {
        let (rounds, faults, looked_for) = Default::default();
        Self { network, size, rounds, faults, looked_for }
    }

    /// Where hardly any round is as it should be, all count, and the report says so.
    fn counts_all(&self) -> bool {
        self.faults.iter().filter(|fault| fault.is_none()).count() < ENOUGH
    }

    fn figures(&self, way: Make, figure: Figure) -> Vec<f64> {
        let all = self.counts_all();
        let rounds = self.rounds.iter().zip(&self.faults);
        let counted = rounds.filter(|(_, fault)| all || fault.is_none());
        counted.filter_map(|(round, _)| round.get(place(way))).map(figure).collect()
    }

    /// The median of a figure; `None` where the way tells none.
    pub(super) fn median(&self, way: Make, figure: Figure) -> Option<f64> {
        Spread::of(&self.figures(way, figure)).map(|of| of.median).filter(|median| !median.is_nan())
    }

    /// One way by another, compared within rounds.
    pub(super) fn against(&self, one: Make, other: Make, figure: Figure) -> Option<Interval> {
        Interval::of(&ratios(&self.figures(one, figure), &self.figures(other, figure)))
    }

    /// Microseconds until everything was acknowledged.
    pub(super) fn acked(&self, way: Make) -> Option<f64> {
        let of = |round: &Vec<Made>| Some(round.get(place(way))?.acked_us?.p50);
        Spread::of(&self.looked_for.iter().filter_map(of).collect::<Vec<_>>()).map(|of| of.median)
    }

    /// How many rounds count, and whether that is because too few were good.
    pub(super) fn verdict(&self) -> String {
        let good = self.faults.iter().filter(|fault| fault.is_none()).count();
        match (self.counts_all(), self.rounds.len()) {
            (false, _) => good.to_string(),
            (true, all) if all < ENOUGH || good == all => all.to_string(),
            (true, all) => format!("{all} UNSTEADY"),
        }
    }
}

fn place(way: Make) -> usize {
    Make::ALL.into_iter().position(|found| found == way).unwrap_or(Make::ALL.len())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::client::Latency;
    use crate::experiment::cell::tests::load;
    use crate::experiment::reuse::sizes::SIZES;

    /// Each round has the ways' rates, in GiB that a core sends in its second.
    pub(in super::super) fn cell(rounds: &[[u64; 7]]) -> ReuseCell {
        let window = |(way, rate): (Make, &u64)| {
            let us = |p50| Latency { p50, p99: 2.0 * p50, ..Latency::default() };
            let reusable_us = (way != Make::Sendfile).then(|| us(20.0));
            let made = Made {
                images: 10,
                making_s: 0.1,
                held_us: us(9.0),
                reusable_us,
                acked_us: Some(us(70.0)),
            };
            Window { load: load(rate << 20), made }
        };
        let round = |rates: &[u64; 7]| Make::ALL.into_iter().zip(rates).map(window).collect();
        let mut cell = ReuseCell::new("lo", SIZES[0]);
        cell.rounds = rounds.iter().map(round).collect();
        cell.faults = vec![None; rounds.len()];
        cell.looked_for = vec![cell.rounds[0].iter().map(|window| window.made.clone()).collect()];
        cell
    }

    #[test]
    fn ways_are_compared_within_rounds_and_one_tells_of_no_reuse() {
        let cell = cell(&[[4, 4, 8, 5, 2, 4, 4]; 6]);
        assert_eq!(cell.median(Make::Heap, Window::core), Some(0.25));
        let ratio = cell.against(Make::Ours, Make::Heap, Window::core).unwrap();
        assert!((ratio.median - 0.8).abs() < 1e-9);
        assert_eq!(cell.median(Make::Heap, Window::reusable), Some(20.0));
        assert_eq!(cell.median(Make::Sendfile, Window::reusable), None);
        assert_eq!(cell.acked(Make::Sendfile), Some(70.0));
        assert_eq!(cell.verdict(), "6");
    }

    #[test]
    fn making_is_counted_by_the_image_and_not_by_the_window() {
        // Ten images of 1 KiB in a tenth of a second.
        let cell = cell(&[[1; 7]]);
        let making = cell.median(Make::Heap, Window::making).unwrap();
        assert!((making - 0.01 * f64::from(1 << 20)).abs() < 1e-6, "{making}");
    }
}
