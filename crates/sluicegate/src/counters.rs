//! Which way the bytes went: no claim of zero-copy without its counter.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

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

/// Threads that count in a place of their own.
const THREADS: usize = 16;

/// Numbers threads that count.
static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// The number of this thread, which no other has or will have.
    static NUMBER: usize = NEXT.fetch_add(1, Ordering::Relaxed);
}

/// Counters that several sockets share. Any thread may read them at any time.
///
/// The first threads that count have a place each, which nobody else writes: workers would
/// take one another's cache line with each call that sends.
#[derive(Debug, Default)]
pub struct Counters {
    own: [Place; THREADS],
    /// Of all other threads.
    shared: Place,
}

#[derive(Debug, Default)]
#[repr(align(64))]
struct Place {
    ways: [AtomicU64; 5],
}

impl Counters {
    /// Adds what one turn of a socket sent.
    pub fn add(&self, sent: WayBytes) {
        let own = NUMBER.try_with(|number| self.own.get(*number)).ok().flatten();
        let WayBytes { copied, sendfile, spliced, zerocopy, zerocopy_copied } = sent;
        let plus = |way: usize, count: u64| match own {
            _ if count == 0 => {}
            // This thread alone writes it: no lock of the bus.
            Some(own) => {
                let ways = &own.ways[way];
                ways.store(ways.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
            }
            None => {
                self.shared.ways[way].fetch_add(count, Ordering::Relaxed);
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
            [0, 1, 2, 3, 4].map(|way: usize| {
                let places = self.own.iter().chain([&self.shared]);
                let counts = places.map(|place| place.ways[way].load(Ordering::Relaxed));
                counts.fold(0, u64::wrapping_add)
            });
        WayBytes { copied, sendfile, spliced, zerocopy, zerocopy_copied }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_many_threads_count_at_a_time_is_counted_whole() {
        let counters = Counters::default();
        std::thread::scope(|scope| {
            for _ in 0..2 * THREADS {
                scope.spawn(|| {
                    for _ in 0..1000 {
                        counters.add(WayBytes { copied: 3, sendfile: 1, ..WayBytes::default() });
                    }
                });
            }
        });
        let all = 2000 * THREADS as u64;
        let expected = WayBytes { copied: 3 * all, sendfile: all, ..WayBytes::default() };
        assert_eq!(counters.ways(), expected);
    }
}
