//! A clock that turns a descriptor readable (`timerfd_create(2)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create,
    timerfd_settime,
};

/// A timer of its own, on the monotonic clock.
#[derive(Debug)]
pub struct TimerFd {
    fd: OwnedFd,
}

impl TimerFd {
    /// A timer that is not set, non-blocking and closed on exec.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(TimerFd { fd: timerfd_create(TimerfdClockId::Monotonic, flags)? })
    }

    /// Turns the descriptor readable after `delay`, once; `None` stops it.
    /// What it had to say before is forgotten.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn set(&self, delay: Option<Duration>) -> io::Result<()> {
        let zero = Timespec { tv_sec: 0, tv_nsec: 0 };
        // A zero would stop it: the shortest delay is a nanosecond.
        let value = delay.map_or(zero, |delay| Timespec {
            tv_sec: i64::try_from(delay.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(delay.subsec_nanos().max(u32::from(delay.is_zero()))),
        });
        let spec = Itimerspec { it_interval: zero, it_value: value };
        timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &spec)?;
        Ok(())
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};

    fn is_readable(timer: &TimerFd, wait: Duration) -> bool {
        let wait = Timespec { tv_sec: 0, tv_nsec: i64::from(wait.subsec_nanos()) };
        poll(&mut [PollFd::new(&timer.fd, PollFlags::IN)], Some(&wait)).unwrap() == 1
    }

    #[test]
    fn it_is_readable_once_its_time_has_come_and_not_when_it_is_stopped() {
        let timer = TimerFd::new().unwrap();
        timer.set(Some(Duration::ZERO)).unwrap();
        assert!(is_readable(&timer, Duration::from_millis(900)));
        timer.set(Some(Duration::from_secs(1000))).unwrap();
        assert!(!is_readable(&timer, Duration::ZERO));
        timer.set(Some(Duration::from_millis(1))).unwrap();
        timer.set(None).unwrap();
        assert!(!is_readable(&timer, Duration::from_millis(20)));
    }
}
