//! How far the median of rounds can be trusted.

use super::statistics::Spread;

/// A median with the interval that covers the true one in at least 95 of 100 runs, whatever the
/// distribution: an order statistic at each end. Of fewer than six figures, all that was seen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Interval {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

/// What may lie beyond one end.
const BEYOND: f64 = 0.025;

impl Interval {
    /// `None` without a figure.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let median = Spread::of(figures)?.median;
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let cut = cut(sorted.len());
        Some(Self { median, low: sorted[cut], high: sorted[sorted.len() - 1 - cut] })
    }

    /// `median [low–high]`, with two digits behind the point.
    pub(crate) fn show(self) -> String {
        let Self { median, low, high } = self;
        format!("{median:.2} [{low:.2}–{high:.2}]")
    }
}

/// How many of `count` sorted figures can be left out at each end. The true median is below the
/// figure at `cut` when at most `cut` of the figures are below it, of which each is with
/// probability 1/2.
fn cut(count: usize) -> usize {
    let mut exactly = 0.5_f64.powi(i32::try_from(count).unwrap_or(i32::MAX));
    let mut at_most = exactly;
    let mut cut = 0;
    for below in 1..count / 2 {
        exactly *= (count - below + 1) as f64 / below as f64;
        at_most += exactly;
        if at_most > BEYOND {
            break;
        }
        cut = below;
    }
    cut
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ends_are_those_of_the_binomial_table() {
        assert_eq!([1, 5, 6, 9, 12, 15, 25, 30].map(cut), [0, 0, 0, 1, 2, 3, 7, 9]);
    }

    #[test]
    fn outliers_do_not_widen_the_interval_of_fifteen() {
        let mut figures: Vec<f64> = (1..=15).map(f64::from).collect();
        figures[14] = 1000.0;
        let interval = Interval::of(&figures).unwrap();
        assert_eq!(interval, Interval { median: 8.0, low: 4.0, high: 12.0 });
        assert_eq!(interval.show(), "8.00 [4.00–12.00]");
        assert_eq!(Interval::of(&[]), None);
    }
}
