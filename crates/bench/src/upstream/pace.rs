//! An upstream that has something to say by fits and starts.

use std::time::{Duration, Instant};

/// Bytes a second, while it has.
const RATE: u64 = 100_000_000;

/// For how long it has, and then has not.
const ON: Duration = Duration::from_secs(1);

/// How often it looks whether more is due.
pub(super) const TICK: Duration = Duration::from_millis(2);

/// A body that comes in bursts from its beginning on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bursts {
    began: Instant,
    /// What was not taken while it was due is late: it does not come faster for it later, like
    /// what a program makes while it is let.
    lost: u64,
}

impl Bursts {
    pub(super) fn new(now: Instant) -> Self {
        Self { began: now, lost: 0 }
    }

    /// Bytes of the body that may have left by `now`.
    pub(super) fn due(&self, now: Instant) -> u64 {
        made(now.duration_since(self.began)).saturating_sub(self.lost)
    }

    /// The other end took nothing more, at `now`, than `sent`: whoever makes a body stops meanwhile.
    pub(super) fn hold(&mut self, now: Instant, sent: u64) {
        self.lost += self.due(now).saturating_sub(sent);
    }
}

/// What is made in a time.
fn made(since: Duration) -> u64 {
    let period = 2 * ON.as_nanos();
    let (whole, part) = (since.as_nanos() / period, since.as_nanos() % period);
    let on = whole * ON.as_nanos() + part.min(ON.as_nanos());
    u64::try_from(on * u128::from(RATE) / 1_000_000_000).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_comes_for_a_second_and_then_not_for_one() {
        let at = |milliseconds| made(Duration::from_millis(milliseconds));
        assert_eq!([at(0), at(500), at(1000), at(1999)], [0, RATE / 2, RATE, RATE]);
        assert_eq!([at(2500), at(3100)], [RATE + RATE / 2, 2 * RATE]);
    }

    #[test]
    fn what_was_held_up_comes_no_faster_later() {
        let began = Instant::now();
        let mut bursts = Bursts::new(began);
        bursts.hold(began + Duration::from_millis(500), RATE / 4);
        assert_eq!(bursts.due(began + Duration::from_millis(500)), RATE / 4);
        assert_eq!(bursts.due(began + Duration::from_millis(750)), RATE / 2);
    }
}
