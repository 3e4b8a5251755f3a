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
    /// By [`Way::Zerocopy`].
    pub zerocopy: u64,
    /// Those of `zerocopy` that the kernel copied after all, as it told later:
    /// all of them where the peer is on this host. An entry for a call counts
    /// all of the call's bytes.
    pub zerocopy_copied: u64,
}

impl WayBytes {
    /// Adds `count` bytes that went by `way`.
    pub fn add(&mut self, way: Way, count: u64) {
        let field = match way {
            Way::Copy => &mut self.copied,
            Way::Sendfile => &mut self.sendfile,
            Way::Splice => &mut self.spliced,
            Way::Zerocopy => &mut self.zerocopy,
        };
        *field = field.saturating_add(count);
    }

    /// Adds all of `others`.
    pub fn add_all(&mut self, others: &WayBytes) {
        self.copied = self.copied.saturating_add(others.copied);
        self.sendfile = self.sendfile.saturating_add(others.sendfile);
        self.spliced = self.spliced.saturating_add(others.spliced);
        self.zerocopy = self.zerocopy.saturating_add(others.zerocopy);
        self.zerocopy_copied = self.zerocopy_copied.saturating_add(others.zerocopy_copied);
    }

    /// Bytes by all ways together.
    #[must_use]
    pub fn total(&self) -> u64 {
        [self.sendfile, self.spliced, self.zerocopy]
            .iter()
            .fold(self.copied, |sum, part| sum.saturating_add(*part))
    }

    /// What came to these since they were `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &WayBytes) -> WayBytes {
        WayBytes {
            copied: self.copied.saturating_sub(earlier.copied),
            sendfile: self.sendfile.saturating_sub(earlier.sendfile),
            spliced: self.spliced.saturating_sub(earlier.spliced),
            zerocopy: self.zerocopy.saturating_sub(earlier.zerocopy),
            zerocopy_copied: self.zerocopy_copied.saturating_sub(earlier.zerocopy_copied),
        }
    }
}

impl std::fmt::Display for WayBytes {
    /// For people. What went by reference is told where there is any.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let WayBytes { copied, sendfile, spliced, zerocopy, zerocopy_copied } = self;
        write!(f, "{copied} copied, {sendfile} by sendfile, {spliced} spliced")?;
        if *zerocopy > 0 {
            write!(f, ", {zerocopy} by reference ({zerocopy_copied} of them copied after all)")?;
        }
        Ok(())
    }
}

/// Counters that several sockets share. Any thread may read them at any time.
#[derive(Debug, Default)]
pub struct Counters {
    ways: [AtomicU64; 5],
}

impl Counters {
    /// Adds what one turn of a socket sent.
    pub fn add(&self, sent: WayBytes) {
        let WayBytes { copied, sendfile, spliced, zerocopy, zerocopy_copied } = sent;
        let plus = |way: usize, count: u64| {
            if count > 0 {
                self.ways[way].fetch_add(count, Ordering::Relaxed);
            }
        };
        plus(0, copied);
        // What is read into memory goes in one way: the common case ends here.
        if sendfile | spliced | zerocopy | zerocopy_copied > 0 {
            plus(1, sendfile);
            plus(2, spliced);
            plus(3, zerocopy);
            plus(4, zerocopy_copied);
        }
    }

    /// The bytes so far.
    #[must_use]
    pub fn ways(&self) -> WayBytes {
        let [copied, sendfile, spliced, zerocopy, zerocopy_copied] =
            [0, 1, 2, 3, 4].map(|way: usize| self.ways[way].load(Ordering::Relaxed));
        WayBytes { copied, sendfile, spliced, zerocopy, zerocopy_copied }
    }
}
