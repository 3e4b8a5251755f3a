//! How often a file was already there when it was asked for, and what is kept.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Counts of all workers of the process, whatever directories they serve.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    workers: Mutex<Vec<Arc<WorkerCounters>>>,
}

/// One worker's counts, apart from the others' in the processor's caches. That
/// worker alone writes them, so that an increment needs no lock of the bus.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct WorkerCounters {
    lookups: [AtomicU64; 4],
    kept: [AtomicU64; 3],
}

/// How a file was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lookup {
    /// In memory, with its head.
    Memory,
    /// Its descriptor was open.
    Open,
    /// It had to be opened.
    Opened,
    /// What was kept is not what is there any more; it is opened next.
    Changed,
}

/// What all workers counted together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Files that were found in memory, with their heads.
    pub(crate) memory: u64,
    /// Files whose descriptor was open.
    pub(crate) open: u64,
    /// Files that had to be opened.
    pub(crate) opened: u64,
    /// Those among them of which another version was kept.
    pub(crate) changed: u64,
    /// Bytes that small files take in memory, as of a few seconds ago.
    pub(crate) kept_bytes: u64,
    /// Small files in memory, as of a few seconds ago.
    pub(crate) kept_files: u64,
    /// Open descriptors that are kept, as of a few seconds ago.
    pub(crate) kept_open: u64,
}

impl WorkerCounters {
    /// Counts one.
    pub(super) fn count(&self, lookup: Lookup) {
        let counter = &self.lookups[lookup as usize];
        counter.store(counter.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// What the worker keeps by now: bytes and number of small files, open
    /// descriptors.
    pub(super) fn keeps(&self, now: [u64; 3]) {
        for (counter, now) in self.kept.iter().zip(now) {
            counter.store(now, Ordering::Relaxed);
        }
    }
}

impl Counters {
    /// The counts of one more worker. They stay when it ends.
    pub(super) fn worker(&self) -> Arc<WorkerCounters> {
        let worker = Arc::<WorkerCounters>::default();
        self.lock().push(Arc::clone(&worker));
        worker
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Arc<WorkerCounters>>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything until now.
    pub(crate) fn totals(&self) -> Totals {
        let workers = self.lock();
        let sum = |counter: &dyn Fn(&WorkerCounters) -> &AtomicU64| {
            workers.iter().map(|worker| counter(worker).load(Ordering::Relaxed)).sum()
        };
        let lookups = |lookup: Lookup| sum(&|worker| &worker.lookups[lookup as usize]);
        Totals {
            memory: lookups(Lookup::Memory),
            open: lookups(Lookup::Open),
            opened: lookups(Lookup::Opened),
            changed: lookups(Lookup::Changed),
            kept_bytes: sum(&|worker| &worker.kept[0]),
            kept_files: sum(&|worker| &worker.kept[1]),
            kept_open: sum(&|worker| &worker.kept[2]),
        }
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Totals { memory, open, opened, changed, .. } = self.totals();
        write!(
            f,
            "files: {memory} found in memory, {open} found open, {opened} opened, \
             {changed} of them changed since they were kept"
        )
    }
}
