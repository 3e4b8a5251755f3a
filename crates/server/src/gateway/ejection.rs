//! How a server has behaved towards real requests: who fails so many in a row is
//! left alone for a while, and then gets its share back little by little.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use super::balance::Now;
use crate::config;

/// A pause is not doubled beyond this.
const LONGEST: Duration = Duration::from_secs(600);

/// A full share.
pub(super) const FULL: u32 = 1024;

/// What a server that has just returned gets at least: it would never show that it
/// lives without.
const LEAST: u32 = FULL / 32;

/// How much a server may be asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// It is left alone, unless there is nobody else.
    Ejected,
    /// So much of [`FULL`] of what its weight gives it; never 0.
    Of(u32),
}

/// Times are [`super::server::millis`].
#[derive(Debug, Default)]
pub(super) struct Conduct {
    pub(super) failures: AtomicU64,
    failures_in_a_row: AtomicU32,
    /// When it may be asked again, or could; 0: it was never left alone.
    back: AtomicU64,
    /// Pauses in a row, and how long the last was.
    pauses: AtomicU32,
    paused: AtomicU64,
}

impl Conduct {
    /// What it may be asked at `now`.
    #[inline]
    pub(super) fn share(&self, now: Now, rule: &config::Ejection) -> Share {
        match self.back.load(Ordering::Relaxed) {
            0 => Share::Of(FULL),
            back => Self::share_since(back, now.millis(), rule),
        }
    }

    fn share_since(back: u64, now: u64, rule: &config::Ejection) -> Share {
        if now < back {
            return Share::Ejected;
        }
        let slow = millis(rule.slow_start);
        let since = now - back;
        if since >= slow {
            return Share::Of(FULL);
        }
        let share = u64::from(FULL) * since / slow.max(1);
        Share::Of(u32::try_from(share).unwrap_or(FULL).clamp(LEAST, FULL))
    }

    /// Whether there is nothing that an answer of it would change.
    #[inline]
    pub(super) fn is_spotless(&self) -> bool {
        self.failures_in_a_row.load(Ordering::Relaxed) == 0
            && self.back.load(Ordering::Relaxed) == 0
    }

    /// It has answered.
    #[inline]
    pub(super) fn succeeded(&self, now: u64) {
        if self.failures_in_a_row.load(Ordering::Relaxed) != 0 {
            self.failures_in_a_row.store(0, Ordering::Relaxed);
        }
        if self.back.load(Ordering::Relaxed) != 0 {
            self.proved(now);
        }
    }

    fn proved(&self, now: u64) {
        let back = self.back.load(Ordering::Relaxed);
        if now < back {
            // Asked for want of another: it lives, so its pause is over. One that was not kept
            // doubles none: when all have failed for a reason that they share, the second that
            // returns would wait for minutes.
            let fewer = |pauses: u32| pauses.checked_sub(1);
            let _ = self.pauses.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fewer);
            self.back.store(now, Ordering::Relaxed);
        } else if now - back >= self.paused.load(Ordering::Relaxed) {
            // It has been well for as long as it was left alone.
            self.pauses.store(0, Ordering::Relaxed);
        }
    }

    /// It has failed. Returns for how long it is left alone, if it is from now on.
    pub(super) fn failed(&self, now: u64, rule: &config::Ejection) -> Option<Duration> {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        // What was under way when it was left alone does not count again. After a
        // pause one failure is enough, since none has answered in between.
        let back = self.back.load(Ordering::Relaxed);
        if rule.failures == 0 || in_a_row < rule.failures || now < back {
            return None;
        }
        let pauses = self.pauses.load(Ordering::Relaxed);
        let longest = millis(LONGEST).max(millis(rule.pause));
        let pause = millis(rule.pause).saturating_mul(1 << pauses.min(20)).min(longest);
        let until = now.saturating_add(pause).max(1);
        // Of workers that find it at the same time one begins the pause.
        self.back.compare_exchange(back, until, Ordering::Relaxed, Ordering::Relaxed).ok()?;
        self.pauses.fetch_add(1, Ordering::Relaxed);
        self.paused.store(pause, Ordering::Relaxed);
        Some(Duration::from_millis(pause))
    }

    /// It is there again, as somebody else has found out.
    pub(super) fn returned(&self, now: u64) {
        self.failures_in_a_row.store(0, Ordering::Relaxed);
        self.back.store(now.max(1), Ordering::Relaxed);
    }

    pub(super) fn is_ejected(&self, now: u64) -> bool {
        now < self.back.load(Ordering::Relaxed)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule() -> config::Ejection {
        config::Ejection {
            failures: 3,
            pause: Duration::from_secs(10),
            slow_start: Duration::from_secs(8),
        }
    }

    #[test]
    fn three_failures_in_a_row_are_a_pause_and_then_a_slow_return() {
        let (conduct, rule) = (Conduct::default(), rule());
        assert!(conduct.failed(1000, &rule).is_none() && conduct.failed(1000, &rule).is_none());
        conduct.succeeded(1000);
        assert!(conduct.failed(1000, &rule).is_none() && conduct.failed(1000, &rule).is_none());
        assert_eq!(conduct.share(Now::Millis(1000), &rule), Share::Of(FULL));
        assert!(conduct.failed(1000, &rule).is_some());
        assert_eq!(conduct.share(Now::Millis(10_999), &rule), Share::Ejected);
        // Others that were under way change nothing.
        assert!(conduct.failed(2000, &rule).is_none());
        assert_eq!(conduct.share(Now::Millis(11_000), &rule), Share::Of(LEAST));
        assert_eq!(conduct.share(Now::Millis(15_000), &rule), Share::Of(FULL / 2));
        assert_eq!(conduct.share(Now::Millis(19_000), &rule), Share::Of(FULL));
    }

    #[test]
    fn pauses_double_up_to_ten_minutes_until_it_has_been_well_for_as_long() {
        let (conduct, rule) = (Conduct::default(), rule());
        let mut now = 1000;
        assert!(conduct.failed(now, &rule).is_none() && conduct.failed(now, &rule).is_none());
        for pause in [10, 20, 40, 80, 160, 320, 600, 600] {
            assert!(conduct.failed(now, &rule).is_some());
            assert_eq!(conduct.share(Now::Millis(now + pause * 1000 - 1), &rule), Share::Ejected);
            now += pause * 1000;
            assert_eq!(conduct.share(Now::Millis(now), &rule), Share::Of(LEAST));
        }
        // Well, but not for long.
        conduct.succeeded(now + 500);
        assert!(
            conduct.failed(now + 600, &rule).is_none()
                && conduct.failed(now + 600, &rule).is_none()
        );
        assert!(conduct.failed(now + 600, &rule).is_some());
        now += 600 + 600_000;
        conduct.succeeded(now + 600_000);
        now += 600_001;
        assert!(conduct.failed(now, &rule).is_none() && conduct.failed(now, &rule).is_none());
        assert!(conduct.failed(now, &rule).is_some());
        assert_eq!(conduct.share(Now::Millis(now + 9_999), &rule), Share::Ejected);
        assert_eq!(conduct.share(Now::Millis(now + 10_000), &rule), Share::Of(LEAST));
    }

    #[test]
    fn an_answer_ends_a_pause_and_failures_0_never_begins_one() {
        let (conduct, rule) = (Conduct::default(), rule());
        for _ in 0..3 {
            conduct.failed(1000, &rule);
        }
        assert!(conduct.is_ejected(2000));
        conduct.succeeded(2000);
        assert!(!conduct.is_ejected(2000));
        assert_eq!(conduct.share(Now::Millis(2000), &rule), Share::Of(LEAST));
        // Cut short again and again, pauses are no longer than the first.
        let mut now = 2000;
        for _ in 0..8 {
            for _ in 0..2 {
                assert!(conduct.failed(now, &rule).is_none());
            }
            assert_eq!(conduct.failed(now, &rule), Some(rule.pause));
            now += 100;
            conduct.succeeded(now);
        }
        let never = config::Ejection { failures: 0, ..rule };
        let conduct = Conduct::default();
        assert!((0..100).all(|_| conduct.failed(1000, &never).is_none()));
        assert_eq!(conduct.failures.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn workers_that_fail_at_the_same_time_begin_one_pause() {
        let rule = config::Ejection { failures: 1, ..rule() };
        for _ in 0..500 {
            let (conduct, begin) = (Conduct::default(), std::sync::Barrier::new(2));
            let fail = || {
                begin.wait();
                (0..2).filter(|_| conduct.failed(1000, &rule).is_some()).count()
            };
            let pauses = std::thread::scope(|scope| {
                let other = scope.spawn(fail);
                fail() + other.join().unwrap()
            });
            assert_eq!(pauses, 1);
            assert_eq!(
                conduct.share(Now::Millis(11_000), &rule),
                Share::Of(LEAST),
                "the pause is the first"
            );
        }
    }
}
