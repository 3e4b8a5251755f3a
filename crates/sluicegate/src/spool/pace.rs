//! How fast a sink takes what waits for it.

use std::time::{Duration, Instant};

/// What is between two looks at the least.
const LOOK: Duration = Duration::from_millis(100);

/// Bytes a second below which a sink is slow: a body of 8 MiB then keeps its source
/// for longer than that can afford (a worker of a synchronous backend), and a copy of
/// it costs less than a hundredth of a core.
const SLOW: u64 = 500_000;

/// Tells slow sinks. Pure: it is told the time.
///
/// A sink is looked at when it has taken what it takes at once. What it has not taken while
/// nobody offered it is not its fault: of a thousand fast ones each waits for its turn for
/// longer than a slow one is given.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When something began to wait, and what was accepted by then.
    since: Option<(Instant, u64)>,
    /// When nothing waited any more.
    idle: Option<Instant>,
    is_slow: bool,
}

impl Pace {
    /// Whether it was slow when it was looked at last.
    pub(super) fn is_slow(&self) -> bool {
        self.is_slow
    }

    /// It was offered what there is, has accepted so many bytes in all, and something waits
    /// for it, or nothing does.
    pub(super) fn look(&mut self, now: Instant, accepted: u64, waits: bool) {
        if !waits {
            // For a moment, or for long: more may come in the same turn.
            self.idle.get_or_insert(now);
            return;
        }
        if self.idle.take().is_some_and(|idle| idle != now) {
            self.since = None;
        }
        let (since, before) = *self.since.get_or_insert((now, accepted));
        let time = now.saturating_duration_since(since);
        if time >= LOOK {
            let rate = u128::from(accepted.saturating_sub(before)) * 1_000_000 / time.as_micros();
            self.is_slow = rate < u128::from(SLOW);
            self.since = Some((now, accepted));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sink_is_slow_by_what_it_took_while_something_waited() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut look = |millis: u64, accepted, waits| {
            pace.look(start + Duration::from_millis(millis), accepted, waits);
            pace.is_slow()
        };
        assert!(!look(0, 0, true));
        assert!(!look(99, 0, true), "too early");
        assert!(look(300, 60_000, true));
        assert!(look(310, 900_000, true), "not looked at yet");
        assert!(!look(500, 1_000_000, true));
        assert!(!look(600, 1_000_000, false), "nothing waits");
        assert!(!look(9000, 1_000_000, true), "nothing waited meanwhile");
        assert!(look(9100, 1_000_000, true));
    }

    #[test]
    fn one_that_takes_much_when_it_is_offered_is_not_slow_however_late_that_is() {
        let (mut pace, start) = (Pace::default(), Instant::now());
        let mut accepted = 0;
        for turn in 0..10 {
            let now = start + turn * Duration::from_millis(700);
            // What was left over, then more of what had come.
            pace.look(now, accepted + 20_000, false);
            pace.look(now, accepted + 1_020_000, true);
            accepted += 1_020_000;
            assert!(!pace.is_slow(), "turn {turn}");
        }
        // One that takes only what was left over is.
        for turn in 10..12 {
            let now = start + turn * Duration::from_millis(700);
            pace.look(now, accepted + 20_000, false);
            pace.look(now, accepted + 120_000, true);
            accepted += 120_000;
        }
        assert!(pace.is_slow());
    }
}
