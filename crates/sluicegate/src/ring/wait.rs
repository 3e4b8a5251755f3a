//! Waiting for a partition.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::Instant;

use super::{Connection, Lease, Ring, RingError};

/// A place in the queue for a ring's partitions. Dropped, it wakes the next.
#[derive(Debug)]
pub(crate) struct Wait<'r> {
    ring: &'r Ring,
    owner: Option<Connection>,
    waiter: Option<u64>,
}

impl<'r> Wait<'r> {
    pub(crate) fn new(ring: &'r Ring, owner: Option<Connection>) -> Self {
        Wait { ring, owner, waiter: None }
    }
}

impl Future for Wait<'_> {
    type Output = Result<Lease, RingError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(lease) = self.ring.try_acquire(self.owner).transpose() {
            return Poll::Ready(lease);
        }
        let waiter = self.ring.inner.table.wait(self.waiter, self.owner, cx.waker());
        self.waiter = Some(waiter);
        // What can be taken from others since the look has woken nobody.
        if let Some(lease) = self.ring.try_acquire(self.owner).transpose() {
            return Poll::Ready(lease);
        }
        Poll::Pending
    }
}

impl Drop for Wait<'_> {
    fn drop(&mut self) {
        if let Some(waiter) = self.waiter {
            self.ring.inner.table.wait_no_more(waiter);
        }
    }
}

/// Wakes a thread.
#[derive(Debug)]
pub(super) struct Blocking(Thread);

impl Wake for Blocking {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Blocking {
    /// Blocks the thread until the future is ready, or the time is over.
    pub(super) fn until<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
        let waker = Waker::from(Arc::new(Blocking(thread::current())));
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Some(output);
            }
            match deadline {
                None => thread::park(),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return None;
                    }
                    thread::park_timeout(left);
                }
            }
        }
    }
}
