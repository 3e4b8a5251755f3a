//! Requests that wait for a server below its limit: one row for a pool, of all
//! workers, first come first served. What a reload has made of the pool shares it, since
//! they share servers.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::QueueFigures;
use super::balance::Choice;
use super::obtain::Tried;
use super::pool::Pool;
use super::server::{Active, millis};

/// The requests that wait.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// How many; looked at whenever a request is over.
    waiting: AtomicUsize,
    row: Mutex<VecDeque<Arc<Waiter>>>,
    /// That had to wait, that found the row as long as it may be, and that waited for
    /// too long.
    queued: AtomicU64,
    refused: AtomicU64,
    timed_out: AtomicU64,
}

#[derive(Debug)]
struct Waiter {
    pool: Arc<Pool>,
    key: u64,
    tried: Tried,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// A server, or that there is none any more that could be asked.
    given: Option<Option<Active>>,
    waker: Option<Waker>,
}

impl Waiter {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    fn row(&self) -> MutexGuard<'_, VecDeque<Arc<Waiter>>> {
        self.row.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::SeqCst)
    }

    /// Whether some of those that wait are of this pool: after a reload the row has those of
    /// two, which know other servers.
    pub(super) fn has_any_of(&self, pool: &Pool) -> bool {
        self.waiting() > 0 && self.row().iter().any(|waiter| waiter.pool.id == pool.id)
    }

    /// A request is over, or a server can be asked again.
    #[inline]
    pub(super) fn room(&self) {
        if self.waiting() > 0 {
            self.serve();
        }
    }

    /// Gives what room there is to those that wait, in order.
    pub(super) fn serve(&self) {
        let now = millis(Instant::now());
        let mut woken = Vec::new();
        let mut row = self.row();
        // The pools in which whoever comes later finds no room either.
        let mut full: Vec<u64> = Vec::new();
        row.retain(|waiter| {
            // Somebody behind may use what one that has tried that server cannot; and who has
            // tried some may have nobody left.
            if waiter.tried.is_empty() && full.contains(&waiter.pool.id) {
                return true;
            }
            let given = match waiter.pool.begin(waiter.key, &waiter.tried, now) {
                Ok(active) => Some(active),
                Err(Choice::Busy) => {
                    if waiter.tried.is_empty() {
                        full.push(waiter.pool.id);
                    }
                    return true;
                }
                // There is nothing to wait for.
                Err(_) => None,
            };
            let mut state = waiter.state();
            state.given = Some(given);
            woken.extend(state.waker.take());
            false
        });
        self.waiting.store(row.len(), Ordering::SeqCst);
        drop(row);
        for waker in woken {
            waker.wake();
        }
    }

    /// One that waited goes unserved.
    pub(super) fn handle_timeout(&self) {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn figures(&self) -> QueueFigures {
        QueueFigures {
            waiting: self.waiting() as u64,
            queued: self.queued.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            timed_out: self.timed_out.load(Ordering::Relaxed),
        }
    }

    /// Goes to the end of the row; `None` where that is as long as it may be.
    pub(super) fn wait(
        self: &Arc<Self>,
        pool: &Arc<Pool>,
        key: u64,
        tried: &Tried,
    ) -> Option<Wait> {
        let mut row = self.row();
        if row.iter().filter(|waiter| waiter.pool.id == pool.id).count() >= pool.rule.queue {
            drop(row);
            self.refused.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        let (pool, tried, state) = (Arc::clone(pool), tried.clone(), Mutex::default());
        let waiter = Arc::new(Waiter { pool, key, tried, state });
        row.push_back(Arc::clone(&waiter));
        self.waiting.store(row.len(), Ordering::SeqCst);
        drop(row);
        self.queued.fetch_add(1, Ordering::Relaxed);
        let wait = Wait { queue: Arc::clone(self), waiter };
        // Room may have been given back before it was seen that somebody waits.
        self.serve();
        Some(wait)
    }
}

/// A place in the row, given up when it is dropped.
#[derive(Debug)]
pub(super) struct Wait {
    queue: Arc<Queue>,
    waiter: Arc<Waiter>,
}

impl Wait {
    /// Ready with a server that the request is counted at; without one where none can be
    /// asked any more.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Active>> {
        let mut state = self.waiter.state();
        if let Some(given) = state.given.take() {
            return Poll::Ready(given);
        }
        if !state.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            state.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut row = self.queue.row();
        row.retain(|other| !Arc::ptr_eq(other, &self.waiter));
        self.queue.waiting.store(row.len(), Ordering::SeqCst);
        drop(row);
        // Given back only now: that looks at the row.
        let given = self.waiter.state().given.take();
        drop(given);
    }
}
