//! Something that all wait for until a test says so.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use super::PATIENCE;

/// Requests that are under way for as long as a test wants them to be, so that no test counts on
/// how long something takes.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<State>);

#[derive(Debug, Default)]
struct State {
    is_open: Mutex<bool>,
    changed: Condvar,
    now: AtomicUsize,
    most: AtomicUsize,
}

impl Gate {
    /// Waits until it is open.
    pub fn pass(&self) {
        let state = &self.0;
        state.most.fetch_max(state.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        let is_open = state.is_open.lock().unwrap();
        // A test that has failed before opens none.
        let _ = state.changed.wait_timeout_while(is_open, PATIENCE, |is_open| !*is_open);
        state.now.fetch_sub(1, Ordering::SeqCst);
    }

    pub fn open(&self) {
        *self.0.is_open.lock().unwrap() = true;
        self.0.changed.notify_all();
    }

    /// Who comes from now on waits.
    pub fn close(&self) {
        *self.0.is_open.lock().unwrap() = false;
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.0.now.load(Ordering::SeqCst)
    }

    /// The most that were there at a time.
    pub fn most(&self) -> usize {
        self.0.most.load(Ordering::SeqCst)
    }
}
