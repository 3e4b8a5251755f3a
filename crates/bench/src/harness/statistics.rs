//! Medians of rounds, and comparisons that are made within a round first.
//!
//! Two servers are compared round by round, because neighbouring windows share the machine's
//! mood; the median is taken of the comparisons, not the comparison of the medians.

use serde::{Deserialize, Serialize};

/// The middle and the ends of the figures of several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// `None` without a figure. The median of an even count is the mean of the two in the middle.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let mut sorted = figures.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len().is_multiple_of(2) {
            f64::midpoint(sorted[middle - 1], sorted[middle])
        } else {
            sorted[middle]
        };
        Some(Self { median, min, max })
    }
}

/// `ours / theirs` in each round.
pub(crate) fn ratios(ours: &[f64], theirs: &[f64]) -> Vec<f64> {
    ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect()
}

/// `(ours − floor) / (theirs − floor)` in each round: of what a peer costs above the bare
/// minimum, how much do we. A round in which the peer was not above the floor says nothing and
/// is left out.
pub(crate) fn ratios_above_floor(ours: &[f64], theirs: &[f64], floor: &[f64]) -> Vec<f64> {
    ours.iter()
        .zip(theirs)
        .zip(floor)
        .filter(|((_, theirs), floor)| theirs > floor)
        .map(|((ours, theirs), floor)| (ours - floor) / (theirs - floor))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_and_one_outlier_does_not_move_it() {
        let spread = Spread::of(&[3.0, 1.0, 100.0]).unwrap();
        assert_eq!(spread, Spread { median: 3.0, min: 1.0, max: 100.0 });
        assert_eq!(Spread::of(&[1.0, 2.0, 3.0, 10.0]).unwrap().median, 2.5);
        assert_eq!(Spread::of(&[7.0]).unwrap().median, 7.0);
        assert_eq!(Spread::of(&[]), None);
    }

    #[test]
    fn servers_are_compared_within_a_round() {
        assert_eq!(ratios(&[1.0, 20.0], &[2.0, 40.0]), [0.5, 0.5]);
    }

    #[test]
    fn a_round_without_room_above_the_floor_is_left_out() {
        let ratios = ratios_above_floor(&[6.0, 6.0, 4.0], &[9.0, 4.9, 9.0], &[5.0, 5.0, 5.0]);
        assert_eq!(ratios, [0.25, -0.25]);
    }
}
