//! Connections spread over the workers.
//!
//! The kernel wakes the same idle worker for every new connection of a shared
//! listener, so long-lived connections that come one by one would all live on
//! one thread. The worker that accepts one therefore hands it to the one with
//! the fewest, where that is not itself. It costs a wake-up from thread to
//! thread for each connection handed on, and nothing for each request.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use sluicegate_http::Endpoints;

use crate::observe::Stats;

/// What the workers know of one another.
#[derive(Debug)]
pub(super) struct Balance {
    workers: Vec<Seat>,
    stats: Arc<Stats>,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(super) struct Accepted {
    pub(super) socket: OwnedFd,
    pub(super) endpoints: Endpoints,
}

/// One worker, as the others see it.
#[derive(Debug, Default)]
struct Seat {
    /// Connections that it has, or was handed.
    open: AtomicUsize,
    inbox: Mutex<Inbox>,
}

#[derive(Debug, Default)]
struct Inbox {
    handed: Vec<(Accepted, Counted)>,
    waker: Option<Waker>,
    /// The worker takes no more.
    closed: bool,
}

/// Counts a connection with its worker for as long as it lives.
#[derive(Debug)]
pub(super) struct Counted {
    balance: Arc<Balance>,
    worker: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.balance.workers[self.worker].open.fetch_sub(1, Ordering::Relaxed);
        self.balance.stats.worker(self.worker).closed();
    }
}

impl Balance {
    /// Nobody has a connection yet.
    pub(super) fn new(workers: usize, stats: Arc<Stats>) -> Arc<Self> {
        Arc::new(Balance { workers: (0..workers).map(|_| Seat::default()).collect(), stats })
    }

    /// Connections that `worker` has.
    pub(super) fn open(&self, worker: usize) -> usize {
        self.workers[worker].open.load(Ordering::Relaxed)
    }

    fn inbox(&self, worker: usize) -> MutexGuard<'_, Inbox> {
        self.workers[worker].inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(self: &Arc<Self>, worker: usize) -> Counted {
        self.workers[worker].open.fetch_add(1, Ordering::Relaxed);
        self.stats.worker(worker).accepted();
        Counted { balance: Arc::clone(self), worker }
    }

    /// Places a connection that `here` has accepted: gives it back to be served
    /// here, or hands it to the worker with the fewest.
    ///
    /// Two workers may see the same least one and both hand it a connection;
    /// the next ones even that out.
    pub(super) fn place(
        self: &Arc<Self>,
        here: usize,
        accepted: Accepted,
    ) -> Option<(Accepted, Counted)> {
        let least = (0..self.workers.len()).min_by_key(|&worker| self.open(worker));
        let Some(there) = least.filter(|&there| self.open(there) < self.open(here)) else {
            return Some((accepted, self.count(here)));
        };
        let mut inbox = self.inbox(there);
        if inbox.closed {
            return Some((accepted, self.count(here)));
        }
        inbox.handed.push((accepted, self.count(there)));
        let waker = inbox.waker.take();
        drop(inbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }

    /// Connections that others have handed to `worker`; never none.
    pub(super) fn poll_handed(
        &self,
        worker: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Vec<(Accepted, Counted)>> {
        let mut inbox = self.inbox(worker);
        if !inbox.handed.is_empty() {
            return Poll::Ready(std::mem::take(&mut inbox.handed));
        }
        inbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// From now on nothing is handed to `worker`; what was is returned.
    pub(super) fn close(&self, worker: usize) -> Vec<(Accepted, Counted)> {
        let mut inbox = self.inbox(worker);
        inbox.closed = true;
        std::mem::take(&mut inbox.handed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accepted() -> Accepted {
        let socket = std::fs::File::open("/dev/null").unwrap().into();
        Accepted { socket, endpoints: Endpoints::default() }
    }

    fn balance(workers: usize) -> Arc<Balance> {
        Balance::new(workers, Stats::new(workers, Arc::default()))
    }

    fn handed(balance: &Balance, worker: usize) -> Vec<(Accepted, Counted)> {
        let mut cx = Context::from_waker(Waker::noop());
        match balance.poll_handed(worker, &mut cx) {
            Poll::Ready(handed) => handed,
            Poll::Pending => Vec::new(),
        }
    }

    #[test]
    fn connections_that_one_worker_accepts_are_spread_evenly() {
        let balance = balance(3);
        let mut kept = Vec::new();
        for _ in 0..30 {
            kept.extend(balance.place(0, accepted()));
        }
        assert_eq!([0, 1, 2].map(|worker| balance.open(worker)), [10, 10, 10]);
        assert_eq!((kept.len(), handed(&balance, 1).len()), (10, 10));
        assert_eq!(balance.open(1), 0, "what is dropped no longer counts");
        assert_eq!((balance.stats.accepted(), balance.stats.open()), (30, 20));
        assert_eq!(handed(&balance, 2).len(), 10);
    }

    #[test]
    fn a_lone_connection_stays_where_it_was_accepted() {
        let balance = balance(2);
        for _ in 0..5 {
            assert!(balance.place(1, accepted()).is_some());
        }
    }

    #[test]
    fn nothing_is_handed_to_a_worker_that_takes_no_more() {
        let balance = balance(2);
        let first = balance.place(0, accepted());
        assert!(balance.close(1).is_empty());
        let second = balance.place(0, accepted());
        assert!(first.is_some() && second.is_some());
        assert_eq!(balance.open(0), 2);
    }
}
