//! How far apart two cores are, by the time that a cache line needs to go there and back.
//!
//! A virtual machine's cores are moved about by its host, a few times a minute. On the machine
//! this was written on a line needs 45–150 ns there and back while both share a cache, and
//! 290–580 ns while they do not, for some seconds each. A request and its answer pass tens of lines between the
//! cores of client and server: the very same loop that answers 1 KiB was seen to cost 2.1 µs on
//! near cores and 5.5 µs on far ones. No server can be compared with another across such a move.

use std::fmt::{self, Display};
use std::hint::spin_loop;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sluicegate_sys::affinity::pin_to;

/// Whether two cores share a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apart {
    Near,
    Far,
}

impl Apart {
    pub(crate) const BOTH: [Self; 2] = [Self::Near, Self::Far];

    /// Between what was seen within one cache (45–150 ns) and beyond it (290–580 ns).
    const FAR: f64 = 250.0;

    pub(crate) fn of(round_trip: f64) -> Self {
        if round_trip < Self::FAR { Self::Near } else { Self::Far }
    }
}

impl Display for Apart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Near => "near",
            Self::Far => "far",
        })
    }
}

/// Trips whose mean is one figure, and figures whose median counts: about a millisecond.
const TRIPS: u32 = 500;
const FIGURES: usize = 5;

/// Somebody else has the other core.
const LIMIT: Duration = Duration::from_secs(5);

/// The end of the game.
const OVER: u32 = u32::MAX;

/// Nanoseconds from the calling thread's core to `cpu` and back. Both should be free.
pub(crate) fn round_trip(cpu: usize) -> Result<f64> {
    let ball = AtomicU32::new(0);
    thread::scope(|scope| {
        let partner = scope.spawn(|| return_balls(cpu, &ball));
        let figures = figures(&ball);
        ball.store(OVER, Ordering::Release);
        match partner.join() {
            Ok(result) => result.with_context(|| format!("cannot run on processor {cpu}"))?,
            Err(_) => bail!("the partner failed"),
        }
        let mut figures = figures?;
        figures.sort_by(f64::total_cmp);
        Ok(figures[figures.len() / 2])
    })
}

/// An odd ball is ours to return, an even one theirs.
fn return_balls(cpu: usize, ball: &AtomicU32) -> std::io::Result<()> {
    pin_to(cpu)?;
    loop {
        match ball.load(Ordering::Acquire) {
            OVER => return Ok(()),
            odd if odd % 2 == 1 => {
                // Unless the game was ended meanwhile.
                let _ = ball.compare_exchange(odd, odd + 1, Ordering::AcqRel, Ordering::Relaxed);
            }
            _ => spin_loop(),
        }
    }
}

fn figures(ball: &AtomicU32) -> Result<Vec<f64>> {
    let deadline = Instant::now() + LIMIT;
    let mut number = 0;
    // One trip more at first: the partner has to arrive.
    pass(ball, &mut number, deadline)?;
    let mut figures = Vec::with_capacity(FIGURES);
    for _ in 0..FIGURES {
        let start = Instant::now();
        for _ in 0..TRIPS {
            pass(ball, &mut number, deadline)?;
        }
        figures.push(start.elapsed().as_nanos() as f64 / f64::from(TRIPS));
    }
    Ok(figures)
}

fn pass(ball: &AtomicU32, number: &mut u32, deadline: Instant) -> Result<()> {
    ball.store(*number + 1, Ordering::Release);
    *number += 2;
    let mut spins = 0_u32;
    while ball.load(Ordering::Acquire) != *number {
        spin_loop();
        spins += 1;
        if spins.is_multiple_of(1 << 16) && Instant::now() > deadline {
            bail!("the other core does not answer");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_takes_some_time_but_not_long() {
        let allowed = sluicegate_sys::affinity::allowed().unwrap();
        let [first, .., last] = allowed[..] else { return };
        // Affinity belongs to a thread, and this one is the test's own.
        pin_to(first).unwrap();
        let nanoseconds = round_trip(last).unwrap();
        assert!(nanoseconds > 1.0 && nanoseconds < 1e6, "{nanoseconds} ns");
    }
}
