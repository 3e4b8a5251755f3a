//! The end, as tasks on every worker learn of it.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

/// Says once, to all who wait, that no new connections are to be served: to the tasks of workers, or of
/// the admin server.
#[derive(Debug, Default)]
pub(crate) struct Shutdown {
    begun: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Shutdown {
    /// Wakes everybody who waits, now and from now on.
    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        let waiting = std::mem::take(&mut *self.lock());
        for waker in waiting {
            waker.wake();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it has begun, for who looks now and again.
    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Acquire)
    }

    pub(crate) fn poll_begun(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.lock();
        // Looked at under the lock, so that `begin` either sees this waker or
        // is seen here.
        if self.begun.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        if !waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(crate) async fn begun(&self) {
        poll_fn(|cx| self.poll_begun(cx)).await;
    }
}
