//! Wall-clock time at the cost of a memory read, and the processor's
//! (`clock_gettime(2)`).

use std::time::Duration;

/// Seconds since the Unix epoch. As [`unix_time`].
#[must_use]
pub fn unix_seconds() -> u64 {
    unix_time().as_secs()
}

/// A clock's time; zero for one that this kernel does not have, or that shows a
/// time before its beginning.
///
/// By way of libc, which goes without the vDSO where there is none (under
/// valgrind, say); rustix takes its presence for granted.
fn read(clock: libc::clockid_t) -> Duration {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec through the pointer, which is
    // valid for writes for the length of the call. Where it fails, `now` keeps
    // the zeroes that it was made with.
    unsafe { libc::clock_gettime(clock, &raw mut now) };
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
    u64::try_from(now.tv_sec).map_or(Duration::ZERO, |seconds| Duration::new(seconds, nanoseconds))
}

/// Time since the Unix epoch, from `CLOCK_REALTIME_COARSE`: answered by the
/// vDSO without reading the hardware clock, at most one timer tick (1 to 10 ms)
/// behind. Clocks set before 1970 count as 0.
#[must_use]
pub fn unix_time() -> Duration {
    read(libc::CLOCK_REALTIME_COARSE)
}

/// Time since some moment before, from `CLOCK_MONOTONIC_COARSE`: it never goes
/// back, and costs as little as [`unix_time`].
#[must_use]
pub fn coarse_time() -> Duration {
    read(libc::CLOCK_MONOTONIC_COARSE)
}

/// Processor time that all threads of the process have taken, those that have
/// ended among them (`CLOCK_PROCESS_CPUTIME_ID`).
#[must_use]
pub fn process_cpu() -> Duration {
    read(libc::CLOCK_PROCESS_CPUTIME_ID)
}

/// Microseconds of `CLOCK_MONOTONIC`, which other processes can compare.
#[must_use]
pub fn monotonic_micros() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let whole = u64::try_from(now.tv_sec).unwrap_or(0) * 1_000_000;
    whole + u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_the_processor_grows_with_work() {
        let before = process_cpu();
        let start = std::time::Instant::now();
        while process_cpu() == before && start.elapsed() < Duration::from_secs(30) {
            std::hint::black_box((0..1000_u64).sum::<u64>());
        }
        assert!(process_cpu() > before);
    }

    #[test]
    fn the_coarse_clock_agrees_with_the_exact_one() {
        let exact = std::time::SystemTime::now();
        let exact = exact.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((exact - 1..=exact + 1).contains(&unix_seconds()));
        assert!(unix_time().subsec_nanos() < 1_000_000_000);
    }
}
