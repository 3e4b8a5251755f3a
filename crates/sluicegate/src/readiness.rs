//! When to try again: the seam between a socket and whatever watches it.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll};
use std::time::Instant;

/// What watches descriptors: a worker's own [`crate::Reactor`], or a shared
/// one inside another runtime.
pub trait Source: Clone {
    /// One watched descriptor.
    type Readiness: Readiness;

    /// Watches `fd` for as long as the result lives. `fd` is closed no earlier.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`: `ENOSPC`, `ENOMEM`, `EPERM`.
    fn watch(&self, fd: BorrowedFd<'_>) -> io::Result<Self::Readiness>;

    /// Watches a listener that other sources may share.
    ///
    /// # Errors
    /// As [`Source::watch`].
    fn watch_listener(&self, fd: BorrowedFd<'_>) -> io::Result<Self::Readiness>;
}

/// The readiness of one descriptor, edge by edge.
///
/// Both ways start as *may be ready* or become so by an event, and stay so
/// until a call that found nothing says [`Readiness::clear_readable`] or
/// [`Readiness::clear_writable`]. At most one task waits for each way.
pub trait Readiness {
    /// Timers of the same source.
    type Timer: Timer;

    /// Ready when a read may return something.
    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<Edge>;

    /// Whether [`Readiness::poll_readable`] is ready; nobody waits.
    fn is_readable(&self) -> bool;

    /// Ready when a write may take something.
    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Edge>;

    /// Ready once the peer has said that it sends no more, or the connection is
    /// gone. Waits in the place of the task that waits to read.
    fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready once the connection is gone, or both ends have said that they send no
    /// more. Waits in the place of the task that waits to read.
    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready when something may be on the socket's error queue: reports of
    /// acknowledgement and of release. Waits in the place of the task that
    /// waits to write, which such an event wakes too.
    fn poll_error(&self, cx: &mut Context<'_>) -> Poll<Edge> {
        match self.error() {
            Some(edge) => Poll::Ready(edge),
            None => {
                self.wait_as_writer(cx);
                Poll::Pending
            }
        }
    }

    /// Whether [`Readiness::poll_error`] is ready; nobody waits.
    fn error(&self) -> Option<Edge>;

    /// The next event that a writer cares for wakes this task.
    fn wait_as_writer(&self, cx: &mut Context<'_>);

    /// The error queue was emptied, after `edge` was seen.
    fn clear_error(&self, edge: Edge);

    /// Says whether what comes on `fd`, the watched one, is `told` from now on; the peer's end
    /// and errors always are. What came while it was not is then told too. False where it
    /// stays as it was, as at a source that can do no such thing.
    fn tell_input(&self, fd: BorrowedFd<'_>, told: bool) -> bool {
        let _ = (fd, told);
        false
    }

    /// Watches `fd`, which is the watched one, no longer, though it stays open.
    fn unwatch(&self, fd: BorrowedFd<'_>);

    /// A read found nothing more, on the strength of `edge`. Without effect
    /// when a newer event has come since.
    fn clear_readable(&self, edge: Edge);

    /// A write found no room, on the strength of `edge`.
    fn clear_writable(&self, edge: Edge);

    /// A timer that is not set.
    fn timer(&self) -> Self::Timer;

    /// The time, for deadlines: at most one turn of the source old.
    fn now(&self) -> Instant;
}

/// One report of readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Edge {
    /// Which report, to tell it from later ones.
    pub(crate) tick: u8,
    /// The peer sends no more, or the connection is gone: a short read does not
    /// mean that nothing follows, the end does.
    pub(crate) hung_up: bool,
}

/// One deadline that can be moved at little cost.
pub trait Timer {
    /// Sets the deadline, or none. Moving it later costs nothing but a store.
    fn set(&mut self, deadline: Option<Instant>);

    /// Ready once the deadline has passed; pending for ever without one.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()>;
}
