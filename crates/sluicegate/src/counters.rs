//! Which way the bytes went: no claim of zero-copy without its counter.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::strategy::Way;

/// Bytes accepted by each way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayBytes {
    /// By [`Way::Copy`].
    pub copied: u64,
    /// By [`Way::Sendfile`].
    pub sendfile: u64,
    /// By [`Way::Splice`].
    pub spliced: u64,
}

impl WayBytes {
    /// Adds `count` bytes that went by `way`.
    pub fn add(&mut self, way: Way, count: u64) {
        let field = match way {
            Way::Copy => &mut self.copied,
            Way::Sendfile => &mut self.sendfile,
            Way::Splice => &mut self.spliced,
        };
        *field = field.saturating_add(count);
    }

    /// Bytes by all ways together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.copied.saturating_add(self.sendfile).saturating_add(self.spliced)
    }
}

/// Counters that several sockets share. Any thread may read them at any time.
#[derive(Debug, Default)]
pub struct Counters {
    ways: [AtomicU64; Way::ALL.len()],
}

impl Counters {
    /// Adds what one turn of a socket sent.
    pub fn add(&self, sent: WayBytes) {
        for (counter, count) in self.ways.iter().zip([sent.copied, sent.sendfile, sent.spliced]) {
            if count > 0 {
                counter.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    /// The bytes so far.
    #[must_use]
    pub fn ways(&self) -> WayBytes {
        let [copied, sendfile, spliced] =
            [0, 1, 2].map(|way: usize| self.ways[way].load(Ordering::Relaxed));
        WayBytes { copied, sendfile, spliced }
    }
}
