//! What a socket receives, and how it learns of its peer's end.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use sluicegate_sys::socket;
use sluicegate_sys::splice::received;

use super::Socket;
use crate::readiness::{Edge, Readiness};

/// Bytes that are collected before a task which has enough to do is woken: as many as a pipe
/// takes. A body of 64 MiB then comes by 50 wake-ups instead of 250, for half the CPU.
const GATHERED: u32 = crate::pipes::CAPACITY as u32;

/// A source that was not wanted so often is likely to go on: to say so, and to take it back, are
/// two calls.
const UNWANTED: u8 = 4;

/// More of it is not told.
pub(super) const QUIET: u8 = u8::MAX;

impl<R: Readiness> Socket<R> {
    /// Ready when something can be received, or the peer sends no more.
    pub fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // What it sent last may be released while it is idle.
        self.take_reports();
        if self.pending.as_ref().is_some_and(|pending| pending.is_over()) {
            self.settle();
        }
        self.readiness.poll_readable(cx).map(|_| ())
    }

    /// Whether [`Socket::poll_readable`] would be ready; nobody waits, and who waited before
    /// still does.
    #[must_use]
    pub fn is_readable(&self) -> bool {
        self.readiness.is_readable()
    }

    /// Ready once the peer has said that it sends no more, or the connection is
    /// gone. It may still be reading: only sending tells.
    pub fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.readiness.poll_hung_up(cx)
    }

    /// Ready once the connection is gone: reset by the peer, or given up by the
    /// kernel. Nothing need be sent to learn it. Pending for ever after
    /// [`Socket::shutdown`], since the kernel does not tell that from an end which
    /// both have asked for: then receiving tells.
    pub fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.learned.as_ref().is_some_and(|learned| learned.is_shut) {
            return Poll::Pending;
        }
        self.readiness.poll_gone(cx)
    }

    /// Receives into the spare room of `buffer`; 0 when the peer sends no more.
    ///
    /// # Errors
    /// `ConnectionReset` and the like; `InvalidInput` when there is no room.
    pub fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        self.poll_received(cx, buffer.capacity() - buffer.len(), |socket| {
            socket::receive(socket.fd(), buffer)
        })
    }

    /// Receives by `receive`, which has `room` for so much.
    pub(super) fn poll_received(
        &mut self,
        cx: &mut Context<'_>,
        room: usize,
        mut receive: impl FnMut(&Self) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        // Who waits to read is woken by reports too, and may be the only one.
        self.take_reports();
        loop {
            let edge = ready!(self.readiness.poll_readable(cx));
            match receive(self) {
                Ok(count) => {
                    // A short read took all there was: the next byte makes a
                    // new edge, and the call that would find nothing is saved.
                    // Not so the end of the stream, whose edge has passed.
                    if count < room && !edge.hung_up {
                        self.handle_nothing(edge);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.handle_nothing(edge);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// A receive found nothing more, on the strength of `edge`.
    #[inline]
    pub(super) fn handle_nothing(&mut self, edge: Edge) {
        self.readiness.clear_readable(edge);
        if std::mem::take(&mut self.unwanted) == QUIET {
            // Never refused: the socket is watched.
            self.readiness.tell_input(self.fd(), true);
        }
    }

    /// Something is there to be received, or was a moment ago, and is not wanted yet. While that
    /// goes on nobody is woken by more of it: each piece that lies down behind the others would
    /// be a turn for nothing. When a receive finds nothing it is told again.
    pub(crate) fn handle_unwanted(&mut self) {
        if self.unwanted == QUIET {
            return;
        }
        self.unwanted = UNWANTED.min(self.unwanted + 1);
        if self.unwanted == UNWANTED && self.readiness.tell_input(self.fd(), false) {
            self.unwanted = QUIET;
        }
    }

    /// Receives into the spare room of `buffer`, as [`Socket::poll_receive`].
    ///
    /// # Errors
    /// As [`Socket::poll_receive`].
    pub async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_receive(cx, buffer)).await
    }

    /// Tells the peer at once what was received. One that leaves Nagle's algorithm (RFC 896)
    /// on sends a short segment only when it has been told of the one before, which the
    /// kernel would put off for 40 ms while there is nothing to send with it.
    pub fn acknowledge_now(&self) {
        if self.is_tcp {
            // On a connection that is gone there is nobody to tell.
            let _ = socket::acknowledge_now(self.fd());
        }
    }

    /// While it `gathers`, the task is woken only when about a MiB is there to be received,
    /// or the peer's end: for who has enough to do without it, and knows that as much is still
    /// to come. Of less nothing is told however long it lies there; so whoever has a deadline
    /// for the peer asks [`Socket::stop_gathering`] when that is over.
    pub(crate) fn set_gathers(&mut self, gathers: bool) {
        if self.gathers == gathers || !self.is_tcp {
            return;
        }
        let least = if gathers { GATHERED } else { 1 };
        // Where it is refused all that comes wakes, as before. To end it is never refused.
        self.gathers = socket::set_receive_least(self.fd(), least).is_ok() && gathers;
    }

    /// All that comes wakes the task again. Whether something has come meanwhile that it was
    /// not woken for: it is now.
    #[inline]
    pub fn stop_gathering(&mut self) -> bool {
        self.gathers && self.end_gathering()
    }

    #[cold]
    fn end_gathering(&mut self) -> bool {
        let gathered = received(self.fd()).is_ok_and(|bytes| bytes > 0);
        self.set_gathers(false);
        gathered
    }
}
