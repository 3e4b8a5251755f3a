//! An epoll set inside a tokio runtime (`tokio::io::unix::AsyncFd`).

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::epoll::{Epoll, Events};

/// A set whose descriptor tokio watches: tokio wakes the task, the task takes
/// the events.
#[derive(Debug)]
pub struct NestedEpoll {
    watched: AsyncFd<Watched>,
}

#[derive(Debug)]
struct Watched(Arc<Epoll>);

impl AsRawFd for Watched {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

impl NestedEpoll {
    /// Hands `epoll` to the current runtime's I/O driver.
    ///
    /// # Errors
    /// `ENOMEM`, `ENOSPC`.
    ///
    /// # Panics
    /// Outside a runtime with its I/O driver enabled.
    pub fn new(epoll: Arc<Epoll>) -> io::Result<Self> {
        // SAFETY: the descriptor belongs to the `Epoll` in the `Arc`, which
        // `Watched` owns and never gives away or replaces; an `Epoll` closes
        // its descriptor only when it is dropped, so it stays open and the
        // same until the `AsyncFd` drops its `Watched`, and `as_raw_fd`
        // returns it every time.
        let watched =
            unsafe { AsyncFd::register_with_interest(Watched(epoll), Interest::READABLE) };
        Ok(NestedEpoll { watched: watched.map_err(|error| error.into_parts().1)? })
    }

    /// Completes when the set may hold events.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn ready(&self) -> io::Result<()> {
        self.watched.readable().await.map(drop)
    }

    /// Takes the events that are there now. When there are none, the next
    /// [`NestedEpoll::ready`] waits.
    ///
    /// # Errors
    /// As [`Epoll::wait`].
    pub fn take(&self, events: &mut Events) -> io::Result<usize> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let std::task::Poll::Ready(guard) = self.watched.poll_read_ready(&mut context) else {
            return Ok(0);
        };
        let mut guard = guard?;
        let taken = self.watched.get_ref().0.wait(events, Some(Duration::ZERO))?;
        if taken == 0 {
            guard.clear_ready();
        }
        Ok(taken)
    }
}
