//! What operators are shown of the process besides its counts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::bound::Bound;

/// How the process stands.
#[derive(Debug)]
pub(crate) struct State {
    draining: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    listen: Vec<SocketAddr>,
    generation: u64,
    loaded: SystemTime,
    refused: Option<(SystemTime, String)>,
}

impl State {
    pub(super) fn new(bound: &[Arc<Bound>]) -> Arc<Self> {
        let inner = Inner {
            listen: addresses(bound),
            generation: 1,
            loaded: SystemTime::now(),
            refused: None,
        };
        Arc::new(State { draining: AtomicBool::new(false), inner: Mutex::new(inner) })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reloaded(&self, bound: &[Arc<Bound>]) {
        let mut inner = self.lock();
        inner.listen = addresses(bound);
        inner.generation += 1;
        inner.loaded = SystemTime::now();
        inner.refused = None;
    }

    pub(super) fn refused(&self, why: String) {
        self.lock().refused = Some((SystemTime::now(), why));
    }

    pub(super) fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether the process is about to end.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// Addresses that are listened on.
    pub(crate) fn listen(&self) -> Vec<SocketAddr> {
        self.lock().listen.clone()
    }

    /// Which configuration is in force, counted from 1, and since when.
    pub(crate) fn generation(&self) -> (u64, SystemTime) {
        let inner = self.lock();
        (inner.generation, inner.loaded)
    }

    /// When and why the last reload was refused, if it was.
    pub(crate) fn last_refusal(&self) -> Option<(SystemTime, String)> {
        self.lock().refused.clone()
    }
}

fn addresses(bound: &[Arc<Bound>]) -> Vec<SocketAddr> {
    bound.iter().map(|bound| bound.address).collect()
}
