//! The order of measurements: rounds in which every server has one window, and its neighbours
//! change from round to round. A round counts when nothing but the servers made the difference.

use std::fmt::{self, Display};

/// A window is noisy when other programs ran for more than this share of it.
const NOISY: f64 = 0.05;

/// By how much the distances between two cores may differ that have stayed where they were:
/// 45–71 ns near and 290–580 ns far were seen, and a move makes it at least 5 times as much (see
/// [`distance`](super::distance)).
const SAME_PLACE: f64 = 2.0;

/// By how much the rates of a window's parts may differ. There and back within a window, which
/// the distances do not show, changes them by 1.8 to 2.5; downloads over a veth are uneven by up
/// to 1.8 by themselves.
const SAME_RATE: f64 = 1.9;

/// How many rounds are measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rounds {
    /// So many must count.
    pub(crate) wanted: usize,
    /// But no more are tried.
    pub(crate) at_most: usize,
}

impl Rounds {
    /// With a third more to make up for those that do not count.
    pub(crate) fn and_a_third(wanted: usize) -> Self {
        Self { wanted, at_most: wanted + wanted.div_ceil(3) }
    }

    /// Whether another is due after so many, of which so many counted.
    pub(crate) fn want_more(self, tried: usize, good: usize) -> bool {
        good < self.wanted && tried < self.at_most
    }
}

/// Which of `count` servers is measured when, in round `round`: each starts a round in turn.
pub(crate) fn order(round: usize, count: usize) -> impl Iterator<Item = usize> {
    (0..count).map(move |position| (round + position) % count.max(1))
}

/// What a window tells of its surroundings.
pub(crate) trait Window {
    /// Time of other programs by time of the window.
    fn noise(&self) -> f64;

    /// Round trip between the cores of server and client, before and after.
    fn distances(&self) -> [f64; 2];

    /// What was delivered in each of its parts, which are equally long.
    fn slices(&self) -> &[u64];
}

/// Whether the host moved a core within a window. Two parts of it may be out of line: anything
/// can happen for an instant.
fn changed_pace(slices: &[u64]) -> bool {
    let mut sorted = slices.to_vec();
    sorted.sort_unstable();
    let [_, slow, .., fast, _] = sorted[..] else { return false };
    fast as f64 > slow as f64 * SAME_RATE
}

/// Why a round does not count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Other programs ran.
    Noisy,
    /// The host moved a core.
    Moved,
}

impl Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Noisy => "noisy",
            Self::Moved => "moved",
        })
    }
}

/// What is wrong with a round, if anything.
pub(crate) fn fault<W: Window>(windows: &[W]) -> Option<Fault> {
    if windows.iter().any(|window| window.noise() > NOISY) {
        return Some(Fault::Noisy);
    }
    let distances = || windows.iter().flat_map(W::distances);
    let nearest = distances().fold(f64::INFINITY, f64::min);
    let furthest = distances().fold(0.0, f64::max);
    let moved = furthest > nearest * SAME_PLACE
        || windows.iter().any(|window| changed_pace(window.slices()));
    moved.then_some(Fault::Moved)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Seen(f64, [f64; 2], [u64; 5]);

    const EVEN: [u64; 5] = [10; 5];

    impl Window for Seen {
        fn noise(&self) -> f64 {
            self.0
        }

        fn distances(&self) -> [f64; 2] {
            self.1
        }

        fn slices(&self) -> &[u64] {
            &self.2
        }
    }

    #[test]
    fn every_round_measures_every_server_and_starts_with_another() {
        let rounds: Vec<Vec<usize>> = (0..4).map(|round| order(round, 3).collect()).collect();
        assert_eq!(rounds, [[0, 1, 2], [1, 2, 0], [2, 0, 1], [0, 1, 2]]);
        assert_eq!(order(5, 0).count(), 0);
    }

    #[test]
    fn a_round_counts_while_the_machine_is_quiet_and_stays_as_it_is() {
        let quiet = Seen(0.01, [420.0, 450.0], [9, 12, 10, 2, 10]);
        assert_eq!(fault(&[Seen(0.0, [440.0, 425.0], EVEN), quiet]), None);
        assert_eq!(fault::<Seen>(&[]), None);
    }

    #[test]
    fn a_round_with_other_programs_or_a_moved_core_does_not_count() {
        let at = |distances| Seen(0.0, distances, EVEN);
        assert_eq!(fault(&[at([420.0, 425.0]), at([420.0, 125.0])]), Some(Fault::Moved));
        assert_eq!(fault(&[at([125.0, 125.0]), at([425.0, 420.0])]), Some(Fault::Moved));
        let turned = Seen(0.0, [420.0, 425.0], [10, 10, 20, 20, 20]);
        assert_eq!(fault(&[turned]), Some(Fault::Moved));
        assert_eq!(fault(&[Seen(0.2, [1.0, 1.0], EVEN)]), Some(Fault::Noisy));
    }
}
