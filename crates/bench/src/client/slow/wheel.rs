//! Turns of very many, without a timer for each.

use std::time::{Duration, Instant};

/// From one turn of a download to its next.
pub(super) const PERIOD: Duration = Duration::from_millis(160);

/// Some have their turn at each tick.
pub(super) const TICK: Duration = Duration::from_millis(10);

/// How many ticks a period has.
const SLOTS: usize = (PERIOD.as_millis() / TICK.as_millis()) as usize;

/// Whose turn it is, tick by tick.
#[derive(Debug)]
pub(super) struct Wheel {
    start: Instant,
    tick: u32,
}

/// Those whose turn it is in a tick: every sixteenth of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Turn {
    slot: usize,
}

impl Wheel {
    pub(super) fn new(start: Instant) -> Self {
        Self { start, tick: 0 }
    }

    /// The next turn, and when it is due.
    pub(super) fn next(&mut self) -> (Turn, Instant) {
        self.tick += 1;
        (Turn { slot: self.tick as usize % SLOTS }, self.start + TICK * self.tick)
    }
}

impl Turn {
    /// Those of a list, with their numbers.
    pub(super) fn of<T>(self, all: &mut [T]) -> impl Iterator<Item = (usize, &mut T)> {
        all.iter_mut().enumerate().skip(self.slot).step_by(SLOTS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_a_period_everybody_has_one_turn_and_ticks_are_evenly_apart() {
        let start = Instant::now();
        let mut wheel = Wheel::new(start);
        let mut turns = vec![0; 1_003];
        let mut last = start;
        for _ in 0..SLOTS {
            let (turn, due) = wheel.next();
            assert_eq!(due - last, TICK);
            last = due;
            for (_, count) in turn.of(&mut turns) {
                *count += 1;
            }
        }
        assert_eq!(turns, [1; 1_003]);
        assert_eq!(last - start, PERIOD);
    }
}
