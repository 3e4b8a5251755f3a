//! A clock that all processes of one host share.

use rustix::time::{ClockId, clock_gettime};

/// The field of a head in which a server tells when it began to hand the answer over, in
/// [`monotonic_ns`].
pub(crate) const HANDED: &str = "Handed: ";

/// Nanoseconds of `CLOCK_MONOTONIC` (`clock_gettime(2)`): since the boot of the host, in every
/// process of it alike.
pub(crate) fn monotonic_ns() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // Neither is negative: the clock starts at 0.
    u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward_as_fast_as_the_other_one() {
        let (start, instant) = (monotonic_ns(), std::time::Instant::now());
        std::thread::sleep(std::time::Duration::from_millis(2));
        let (nanoseconds, elapsed) = (monotonic_ns() - start, instant.elapsed().as_nanos());
        assert!(nanoseconds >= 2_000_000 && u128::from(nanoseconds) < elapsed + 100_000_000);
    }
}
