//! Bytes that a socket receives and that go elsewhere, and the places that its
//! peer's acknowledgements make for them.

use std::io;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use sluicegate_sys::splice::{Pipe, is_at_mark, received};
use sluicegate_sys::{socket, tcp_info};

use super::regions::PAUSES;
use super::{AcquireError, Socket};
use crate::pipes::PipePool;
use crate::pump::SendError;
use crate::queue::SendQueue;
use crate::readiness::{Readiness, Timer};
use crate::ring::{Lease, Ring};

/// When who waits for a partition by [`Socket::poll_lease`] looks again.
#[derive(Debug)]
pub(super) struct LeaseWait<T> {
    timer: T,
    pause: Duration,
    is_set: bool,
}

/// The socket is full, and pipes are few: what waits in one is read out of it, and
/// the pipe serves others meanwhile. A copy is the price for those who would
/// otherwise have to copy all.
pub(super) fn give_way(queue: &mut SendQueue, pipes: &PipePool) {
    if !pipes.is_short() {
        return;
    }
    // One at a time, so that nobody's turn is long.
    let Some((pipe, left)) = queue.poll_piped() else { return };
    let mut bytes = vec![0; usize::try_from(left).unwrap_or(usize::MAX).min(pipe.contained())];
    // What cannot be read now stays.
    if let Ok(count) = pipe.read(&mut bytes) {
        bytes.truncate(count);
        queue.handle_unpiped(bytes.into());
    }
}

impl<R: Readiness> Socket<R> {
    /// Moves at most `len` bytes that were received into `pipe`; 0 when the peer
    /// sends no more.
    ///
    /// # Errors
    /// `WouldBlock`, as an error and not as pending: something may be there, and
    /// the pipe has no room for it; only who drains it can tell when to try again
    /// (docs/kernel.md). `ConnectionReset` and the like; `InvalidInput` where the
    /// socket cannot be spliced, or not past a byte out of band, which receiving
    /// leaves out.
    pub fn poll_splice(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &Pipe,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        // As `poll_receive`.
        self.take_reports();
        let mut tries = 0;
        loop {
            let edge = ready!(self.readiness.poll_readable(cx));
            match pipe.fill_from_socket(self.fd(), len) {
                // The kernel says so when either end blocks. An empty pipe does not;
                // else the socket is asked. Of one whose peer has sent its end
                // nobody knows: that counts as nothing received, and makes no
                // second edge.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    let may_be_full = pipe.contained() > 0
                        && (edge.hung_up || received(self.fd()).is_ok_and(|bytes| bytes > 0));
                    if !may_be_full {
                        self.look_for_mark()?;
                        self.handle_nothing(edge);
                        continue;
                    }
                    // Or something came just between the two looks. A pipe with so
                    // much room is seldom full, and to take it for that is dear: its
                    // bytes are then copied for a while.
                    tries += 1;
                    if tries > 1 || pipe.contained() > pipe.capacity() / 2 {
                        return Poll::Ready(Err(error));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(0) => {
                    self.look_for_mark()?;
                    return Poll::Ready(Ok(0));
                }
                done => return Poll::Ready(done),
            }
        }
    }

    /// A byte out of band stops `splice(2)` for good, which says then that there is nothing, or
    /// where the peer has sent its end that this is it. Receiving goes past it.
    fn look_for_mark(&self) -> io::Result<()> {
        match is_at_mark(self.fd()) {
            Ok(true) => Err(io::ErrorKind::InvalidInput.into()),
            _ => Ok(()),
        }
    }

    /// As [`Socket::poll_receive`], but at most `len` bytes.
    ///
    /// # Errors
    /// As [`Socket::poll_receive`].
    pub fn poll_receive_some(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        self.poll_received(cx, len.min(buffer.capacity() - buffer.len()), |socket| {
            socket::receive_some(socket.fd(), buffer, len)
        })
    }

    /// Receives into the slice, as [`Socket::poll_receive`].
    pub(crate) fn poll_receive_into(
        &mut self,
        cx: &mut Context<'_>,
        slice: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_received(cx, slice.len(), |socket| socket::receive_into(socket.fd(), slice))
    }

    /// As [`Socket::acquire`], of a ring that nobody else uses, but sends nothing:
    /// who waits sees to that. Pending until a partition is free, by what is sent
    /// or by what the peer acknowledges; of the latter the task is told.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub fn poll_lease(
        &mut self,
        cx: &mut Context<'_>,
        ring: &Ring,
    ) -> Poll<Result<Lease, AcquireError>> {
        let connection = self.connection();
        let failed = |error| AcquireError::Send(SendError::Connection(error));
        loop {
            // Mostly there is one.
            let mut lease = ring.try_acquire(Some(connection))?;
            if lease.is_none() {
                self.settle_regions().map_err(failed)?;
                lease = ring.try_acquire(Some(connection))?;
            }
            if let Some(lease) = lease {
                if let Some(wait) = self.learned.as_mut().and_then(|known| known.lease.as_mut()) {
                    (wait.pause, wait.is_set) = (PAUSES.0, false);
                    wait.timer.set(None);
                }
                return Poll::Ready(Ok(lease));
            }
            if self.pending.as_ref().is_none_or(|pending| pending.regions.is_empty()) {
                // Only what is sent frees one.
                return Poll::Pending;
            }
            if !self.is_lease_due(cx) {
                // A report of release wakes the task too.
                self.readiness.wait_as_writer(cx);
                return Poll::Pending;
            }
            // A connection that is gone never acknowledges, unless it had
            // acknowledged all before it went.
            if self.is_tcp && tcp_info::tcp_info(self.fd()).map_err(failed)?.closed {
                self.settle_regions().map_err(failed)?;
                let lease = ring.try_acquire(Some(connection))?;
                let reset = || failed(io::ErrorKind::ConnectionReset.into());
                return Poll::Ready(lease.ok_or_else(reset));
            }
        }
    }

    /// Whether it is time to look again; else the task is woken when it is.
    fn is_lease_due(&mut self, cx: &mut Context<'_>) -> bool {
        if self.learn().lease.is_none() {
            let timer = self.readiness.timer();
            self.learn().lease = Some(LeaseWait { timer, pause: PAUSES.0, is_set: false });
        }
        let Some(wait) = &mut self.learn().lease else { return false };
        if !wait.is_set {
            wait.timer.set(Some(Instant::now() + wait.pause));
            wait.is_set = true;
        }
        if wait.timer.poll_expired(cx).is_pending() {
            return false;
        }
        wait.pause = (wait.pause * 2).min(PAUSES.1);
        wait.is_set = false;
        true
    }
}
