//! How often a file was already there when it was asked for.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of all workers together.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    memory: AtomicU64,
    open: AtomicU64,
    opened: AtomicU64,
    changed: AtomicU64,
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

impl Counters {
    /// Counts one.
    pub(super) fn count(&self, lookup: Lookup) {
        let counter = match lookup {
            Lookup::Memory => &self.memory,
            Lookup::Open => &self.open,
            Lookup::Opened => &self.opened,
            Lookup::Changed => &self.changed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

impl fmt::Display for Counters {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [memory, open, opened, changed] =
            [&self.memory, &self.open, &self.opened, &self.changed]
                .map(|counter| counter.load(Ordering::Relaxed));
        write!(
            f,
            "files: {memory} found in memory, {open} found open, {opened} opened, \
             {changed} of them changed since they were kept"
        )
    }
}
