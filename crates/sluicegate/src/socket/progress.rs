//! How far a socket's stream has come, and waiting for it.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate_sys::errqueue::{self, Entry};
use sluicegate_sys::{outq, tcp_info};

use super::Socket;
use super::kernel::{Report, Reports};
use crate::counters::WayBytes;
use crate::ledger::{Ledger, Progress};
use crate::position::Position;
use crate::pump::SendError;
use crate::readiness::{Readiness, Timer};

/// How often a waiter looks by itself: first and last pause. A report wakes it
/// sooner, where one was asked for; they get lost (KERNEL.md), which then
/// costs this time and nothing else.
const WITH_REPORT: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// Where no report was asked for: the bytes were accepted before anybody
/// waited, or the kernel makes none.
const WITHOUT: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(10));

/// A wait for an acknowledgement, from before it is asked for:
/// [`Socket::ack_wait`], [`Socket::poll_acked`].
#[derive(Debug)]
pub struct AckWait<R: Readiness> {
    end: Position,
    /// Between two looks, now and at last.
    pause: (Duration, Duration),
    /// There once it really waits.
    timer: Option<R::Timer>,
}

impl<R: Readiness> Socket<R> {
    /// Sends until the peer's TCP has acknowledged everything before `end`, and
    /// whatever else is queued meanwhile.
    ///
    /// A report of the kernel (`SOF_TIMESTAMPING_TX_ACK`) wakes it, if it is
    /// awaited before the byte at `end` is accepted; how far the peer really
    /// is, `SIOCOUTQ` tells. Without a report it looks by itself, at first
    /// after a fifth of a millisecond (as far as the source's timers go: tokio's
    /// have one), at last a hundred times a second.
    ///
    /// # Errors
    /// As [`Socket::accepted`]; `ConnectionReset` when the connection ended
    /// before the acknowledgement came.
    pub async fn acked(&mut self, end: Position) -> Result<(), SendError> {
        let mut wait = self.ack_wait(end);
        poll_fn(|cx| self.poll_acked(cx, &mut wait)).await
    }

    /// Begins what [`Socket::acked`] does, for who waits for other things too.
    /// A report can be had if it begins before the byte at `end` is accepted.
    pub fn ack_wait(&mut self, end: Position) -> AckWait<R> {
        let is_reported = self.report(Report { at: end, every: 0, last: end });
        let pause = if is_reported { WITH_REPORT } else { WITHOUT };
        AckWait { end, pause, timer: None }
    }

    /// Ready when the peer's TCP has acknowledged what `wait` is for. Sends
    /// meanwhile what is queued.
    ///
    /// # Errors
    /// As [`Socket::acked`].
    pub fn poll_acked(
        &mut self,
        cx: &mut Context<'_>,
        wait: &mut AckWait<R>,
    ) -> Poll<Result<(), SendError>> {
        if wait.end > self.queued() {
            return Poll::Ready(Err(SendError::Connection(io::ErrorKind::InvalidInput.into())));
        }
        loop {
            // What is queued behind goes on; its failure is told to who waits
            // for it. It takes the reports too, so whatever has woken this
            // task, it looks.
            let flushed = self.poll_flush(cx);
            if self.accepted_position() < wait.end {
                return flushed;
            }
            if self.is_acked(wait.end)? {
                return Poll::Ready(Ok(()));
            }
            let (pause, last) = &mut wait.pause;
            let timer = wait.timer.get_or_insert_with(|| {
                let mut timer = self.readiness.timer();
                timer.set(Some(Instant::now() + *pause));
                timer
            });
            if timer.poll_expired(cx).is_ready() {
                *pause = (*pause * 2).min(*last);
                timer.set(Some(Instant::now() + *pause));
            } else if let Poll::Ready(edge) = self.readiness.poll_error(cx) {
                self.readiness.clear_error(edge);
                self.drain_reports().map_err(SendError::Connection)?;
            } else {
                return Poll::Pending;
            }
        }
    }

    /// Whether everything before `end` is acknowledged.
    fn is_acked(&mut self, end: Position) -> Result<bool, SendError> {
        if self.progress().map_err(SendError::Connection)?.acked >= end {
            return Ok(true);
        }
        if !self.is_tcp {
            return Ok(true);
        }
        // A connection that is gone never acknowledges: its count stays. Asked
        // once more, since it may have gone after it had acknowledged all.
        let info = tcp_info::tcp_info(self.fd()).map_err(SendError::Connection)?;
        if info.closed {
            let acked = self.progress().map_err(SendError::Connection)?.acked;
            let reset = || SendError::Connection(io::ErrorKind::ConnectionReset.into());
            return if acked >= end { Ok(true) } else { Err(reset()) };
        }
        Ok(false)
    }

    /// Waits until the kernel refers no more to the memory that was queued with
    /// [`crate::Segment::memory`] and ends at `end`, and hands it back. Sends
    /// meanwhile what is queued.
    ///
    /// What was copied is back as soon as it is accepted; what went by
    /// reference when the kernel has reported its release (MSG_ZEROCOPY, which
    /// is after the acknowledgement). Nothing is said of its delivery. A
    /// `Vec<u8>` comes out of it again by `Vec::from`, without a copy.
    ///
    /// # Errors
    /// As [`Socket::flush`], as long as not all of it is accepted: after
    /// [`Socket::cancel`] the buffer can still be had. `InvalidInput` where no
    /// such segment was lent, or it was handed back already. (Two can have the
    /// same end, where one is empty or was cancelled: they come in order.)
    pub async fn released(&mut self, end: Position) -> Result<Bytes, SendError> {
        let is_lent =
            |socket: &Self| socket.pending.as_ref().is_some_and(|pending| pending.buffers.has(end));
        if !is_lent(self) {
            return Err(SendError::Connection(io::ErrorKind::InvalidInput.into()));
        }
        poll_fn(|cx| {
            loop {
                let flushed = self.poll_flush(cx);
                if let Some(bytes) = self.try_released(end) {
                    return Poll::Ready(Ok(bytes));
                }
                // A failure behind it is told to who waits for that.
                if let Poll::Ready(Err(error)) = flushed
                    && self.accepted_position() < end
                {
                    return Poll::Ready(Err(error));
                }
                let Poll::Ready(edge) = self.readiness.poll_error(cx) else {
                    return Poll::Pending;
                };
                self.readiness.clear_error(edge);
                self.drain_reports().map_err(SendError::Connection)?;
            }
        })
        .await
    }

    /// The buffer that [`Socket::released`] would wait for, if it is free now.
    pub fn try_released(&mut self, end: Position) -> Option<Bytes> {
        self.take_reports();
        let pending = self.pending.as_mut()?;
        let bytes = pending.buffers.take(end, &pending.ledger)?;
        if pending.is_over() {
            self.settle();
        }
        Some(bytes)
    }

    /// Tells the ends of the buffers that are free and were not told yet.
    pub(crate) fn tell_free(&mut self, each: impl FnMut(Position)) {
        if let Some(pending) = &mut self.pending {
            pending.buffers.tell_free(&pending.ledger, each);
        }
    }

    /// How far the stream has come, asked of the kernel now (`SIOCOUTQ`). What a
    /// socket of the Unix domain has accepted lies in its peer's queue, and
    /// counts as acked.
    ///
    /// # Errors
    /// As `ioctl(2)`.
    pub fn progress(&mut self) -> io::Result<Progress> {
        // Asked before the count: during the handshake that is 0 whatever was
        // accepted (TCP Fast Open).
        if !self.is_established {
            self.is_established = !tcp_info::tcp_info(self.fd())?.handshaking;
        }
        let mut unacked = if self.is_tcp { outq::unacknowledged(self.fd())? } else { 0 };
        let is_shut = self.learned.as_ref().is_some_and(|learned| learned.is_shut);
        // The end of the stream is counted as a byte while it is under way. If
        // it is so now, it was so at the count before.
        if is_shut && unacked > 0 && tcp_info::tcp_info(self.fd())?.fin_unacknowledged {
            unacked -= 1;
        }
        if !self.is_established {
            unacked = self.accepted_position().get();
        }
        let queued = self.queued();
        let (accepted, acked) = match &mut self.pending {
            Some(pending) => {
                pending.ledger.handle_unacked(unacked);
                pending.regions.sweep(&pending.ledger, self.learned.as_deref());
                (pending.ledger.accepted(), pending.ledger.acked())
            }
            None => {
                let mut ledger = Ledger::new(self.position);
                ledger.handle_unacked(unacked);
                (ledger.accepted(), ledger.acked())
            }
        };
        Ok(Progress { queued, accepted, acked })
    }

    /// Bytes of memory of ours that the kernel may still read.
    #[must_use]
    pub fn referenced(&self) -> u64 {
        self.pending.as_ref().map_or(0, |pending| pending.ledger.referenced())
    }

    /// Asks for a report at `at` and then every so many bytes until `last`,
    /// unless reports are under way: they then go on until `last`.
    pub(crate) fn continue_reports(&mut self, at: Position, every: u64, last: Position) {
        let accepted = self.accepted_position();
        match self.pending.as_mut().and_then(|pending| pending.report.as_mut()) {
            // It may lie behind the end, if some of what was queued was taken
            // back since, or before what somebody else has sent.
            Some(report) if report.at > accepted => {
                *report = Report { at: report.at.min(last), every, last };
            }
            _ => {
                self.report(Report { at, every, last });
            }
        }
    }

    /// Asks for a report; false when nothing is to be sent that one could be
    /// asked about.
    fn report(&mut self, report: Report) -> bool {
        let accepted = self.accepted_position();
        if report.at <= accepted {
            return false;
        }
        if let Reports::Refused = self.learn().reports {
            return false;
        }
        match &mut self.pending {
            Some(pending) => {
                pending.report = Some(report);
                true
            }
            None => false,
        }
    }

    /// Takes what is on the error queue, if an event has said that something is.
    #[inline]
    pub(crate) fn take_reports(&mut self) {
        // Nobody asked for anything: a look at a null pointer.
        if self.learned.is_some() {
            self.take_asked_reports();
        }
    }

    fn take_asked_reports(&mut self) {
        if let Some(edge) = self.readiness.error() {
            self.readiness.clear_error(edge);
            // An error here is an interruption at most: SIOCOUTQ and the next
            // event make up for it.
            let _ = self.drain_reports();
        }
    }

    /// Takes what is on the error queue.
    pub(crate) fn drain_reports(&mut self) -> io::Result<()> {
        let mut has_released = false;
        loop {
            let entry = match errqueue::next(self.fd()) {
                Ok(Some(entry)) => entry,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                end => {
                    if has_released && let Some(pending) = &mut self.pending {
                        pending.buffers.sweep(&pending.ledger);
                        pending.regions.sweep(&pending.ledger, self.learned.as_deref());
                    }
                    return end.map(drop);
                }
            };
            // Reports of acknowledgements wake, and say nothing else.
            let Entry::Released { first, last, copied } = entry else { continue };
            let Some(pending) = &mut self.pending else { continue };
            let bytes = pending.ledger.handle_released(first, last, copied);
            has_released = true;
            let position = pending.ledger.accepted();
            if let Some(learned) = &mut self.learned {
                learned.locator.handle_released(first, last, copied, position);
            }
            if copied {
                self.context
                    .counters
                    .add(WayBytes { zerocopy_copied: bytes, ..WayBytes::default() });
            }
        }
    }
}
