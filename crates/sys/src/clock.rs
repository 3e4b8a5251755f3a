//! Wall-clock time at the cost of a memory read (`clock_gettime(2)`).

/// Seconds since the Unix epoch, from `CLOCK_REALTIME_COARSE`: answered by the
/// vDSO without reading the hardware clock, at most one timer tick (1 to 10 ms)
/// behind. Clocks set before 1970 count as 0.
///
/// By way of libc, which goes without the vDSO where there is none (under
/// valgrind, say); rustix takes its presence for granted.
#[must_use]
pub fn unix_seconds() -> u64 {
    let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: clock_gettime writes one timespec through the pointer, which is
    // valid for writes for the length of the call. Where it fails, `now` keeps
    // the zeroes that it was made with.
    unsafe { libc::clock_gettime(libc::CLOCK_REALTIME_COARSE, &raw mut now) };
    u64::try_from(now.tv_sec).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coarse_clock_agrees_with_the_exact_one() {
        let exact = std::time::SystemTime::now();
        let exact = exact.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        assert!((exact - 1..=exact + 1).contains(&unix_seconds()));
    }
}
