//! One socket whose peer acknowledges, and the moment at which its kernel heard of it.
//!
//! The moment is the kernel's own: the entry that it puts on the socket's error queue for an
//! acknowledgement (SOF_TIMESTAMPING_TX_ACK) has the time at which the acknowledgement was
//! processed. Each way of waiting ends with a look at the clock, and the difference is the delay.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use hdrhistogram::Histogram;
use rustix::time::{ClockId, clock_gettime};
use sluicegate_sys::errqueue::{self, Entry};

/// No acknowledgement in this lab takes longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// A way to wait for an acknowledgement.
pub(super) trait Wait {
    /// Sends a message and waits until it is told that all of it is acknowledged. Returns how long
    /// after the acknowledgement that was; `None` where the kernel left no time.
    fn once(&mut self) -> Result<Option<Duration>>;
}

/// What many messages have shown.
pub(super) struct Delays {
    pub(super) nanoseconds: Histogram<u64>,
    /// Messages without a time of the kernel's.
    pub(super) untimed: u64,
    /// Microseconds of the waiting thread for each message, its sending included.
    pub(super) cpu_us: f64,
}

/// Sends so many messages.
pub(super) fn measure(way: &mut dyn Wait, messages: u64, warm_up: u64) -> Result<Delays> {
    for _ in 0..warm_up {
        way.once()?;
    }
    let (mut nanoseconds, mut untimed) = (Histogram::new(3)?, 0);
    let before = thread_time();
    for _ in 0..messages {
        match way.once()? {
            Some(delay) => nanoseconds.record(u64::try_from(delay.as_nanos())?)?,
            None => untimed += 1,
        }
    }
    let cpu = thread_time() - before;
    Ok(Delays { nanoseconds, untimed, cpu_us: cpu.as_secs_f64() * 1e6 / messages as f64 })
}

/// For how long the calling thread has run.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

/// The time of the last acknowledgement on a socket's error queue.
#[derive(Debug, Default)]
pub(super) struct AckTime(Option<SystemTime>);

impl AckTime {
    /// Takes what is on the error queue.
    pub(super) fn take(&mut self, socket: BorrowedFd<'_>) -> Result<()> {
        while let Some((entry, time)) = errqueue::next_with_time(socket)? {
            match entry {
                Entry::Acked { .. } => self.0 = self.0.max(time),
                other => bail!("an entry that nobody asked for: {other:?}"),
            }
        }
        Ok(())
    }

    /// How long before `told` it was. The next message begins anew.
    pub(super) fn until(&mut self, told: SystemTime) -> Option<Duration> {
        // The kernel counts bytes as acknowledged a moment before it stamps the entry.
        self.0.take().map(|time| told.duration_since(time).unwrap_or_default())
    }
}

/// Asks for an entry for every send call on a socket.
pub(super) fn report_all(socket: &impl AsFd) -> Result<()> {
    let numbering = errqueue::number_acks(socket.as_fd()).context("no reports of this kernel")?;
    errqueue::report_acks(socket.as_fd(), numbering, true)?;
    Ok(())
}
