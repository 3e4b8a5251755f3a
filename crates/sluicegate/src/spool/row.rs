//! Who waits for some of a budget.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Waker;

/// A place in a row: the lower, the earlier.
pub(super) type Ticket = u64;

/// Tasks of any thread, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Row {
    next: AtomicU64,
    /// How many there are: looked at whenever something is given back.
    waiting: AtomicUsize,
    wakers: Mutex<BTreeMap<Ticket, Waker>>,
}

impl Row {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Ticket, Waker>> {
        self.wakers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// The last place.
    pub(super) fn ticket(&self) -> Ticket {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// A task waits in this place; one that was woken for nothing has it again.
    pub(super) fn wait(&self, ticket: Ticket, waker: &Waker) {
        let mut wakers = self.lock();
        let replaced = match wakers.get_mut(&ticket) {
            Some(waiting) if waiting.will_wake(waker) => None,
            _ => wakers.insert(ticket, waker.clone()),
        };
        self.waiting.store(wakers.len(), Ordering::SeqCst);
        drop(wakers);
        // Outside of the lock: it may be the last of its task.
        drop(replaced);
    }

    /// Takes the first out.
    pub(super) fn pop(&self) -> Option<Waker> {
        let mut wakers = self.lock();
        let first = wakers.pop_first();
        self.waiting.store(wakers.len(), Ordering::SeqCst);
        first.map(|(_, waker)| waker)
    }

    /// Gives a place up; whether it was still waiting.
    pub(super) fn leave(&self, ticket: Ticket) -> bool {
        let mut wakers = self.lock();
        let waiting = wakers.remove(&ticket);
        self.waiting.store(wakers.len(), Ordering::SeqCst);
        drop(wakers);
        waiting.is_some()
    }
}
