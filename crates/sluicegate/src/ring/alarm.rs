//! A socket's bell: its regions are taken from it while it waits.

use std::sync::{Mutex, PoisonError};
use std::task::Waker;

/// Wakes whoever awaits a socket.
#[derive(Debug, Default)]
pub(crate) struct Alarm(Mutex<Set>);

#[derive(Debug, Default)]
struct Set {
    waker: Option<Waker>,
    /// It rang, and nobody has looked since.
    has_rung: bool,
    /// Something was taken for good: its stream cannot become whole.
    is_cut: bool,
}

impl Alarm {
    /// Wakes `waker` at the next ring, or now if one was missed.
    pub(crate) fn set(&self, waker: &Waker) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if std::mem::take(&mut set.has_rung) {
            drop(set);
            waker.wake_by_ref();
            return;
        }
        match &mut set.waker {
            Some(set) => set.clone_from(waker),
            None => set.waker = Some(waker.clone()),
        }
    }

    /// What was taken is wanted no more.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_cut = false;
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).is_cut
    }

    pub(crate) fn ring(&self, is_cut: bool) {
        let mut set = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        set.is_cut |= is_cut;
        let waker = set.waker.take();
        // It may have been of a task that awaits the socket no more.
        set.has_rung = true;
        drop(set);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
