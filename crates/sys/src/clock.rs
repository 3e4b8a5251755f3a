//! Wall-clock time at the cost of a memory read (`clock_gettime(2)`).

use rustix::time::{ClockId, clock_gettime};

/// Seconds since the Unix epoch, from `CLOCK_REALTIME_COARSE`: answered by the
/// vDSO without reading the hardware clock, at most one timer tick (1 to 10 ms)
/// behind. Clocks set before 1970 count as 0.
#[must_use]
pub fn unix_seconds() -> u64 {
    u64::try_from(clock_gettime(ClockId::RealtimeCoarse).tv_sec).unwrap_or(0)
}

/// Milliseconds on `CLOCK_MONOTONIC_COARSE`: never runs backwards, at most one
/// timer tick behind. Its zero has no meaning.
#[must_use]
pub fn monotonic_millis() -> u64 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    seconds * 1000 + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000
}
