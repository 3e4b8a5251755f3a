//! Which way a segment goes to the kernel.

/// A way for bytes into a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Way {
    /// Into memory if they are not there yet, and copied by `send`.
    Copy,
    /// From the page cache by `sendfile`.
    Sendfile,
    /// From the page cache through a large pipe by `splice`.
    Splice,
    /// From our memory by reference, by `send` with MSG_ZEROCOPY.
    Zerocopy,
}

impl Way {
    /// All ways, in the order of their counters.
    pub const ALL: [Way; 4] = [Way::Copy, Way::Sendfile, Way::Splice, Way::Zerocopy];

    /// The ways that a file can take.
    pub const OF_FILES: [Way; 3] = [Way::Copy, Way::Sendfile, Way::Splice];

    /// The way to take where this one is refused. The last resort is a plain
    /// copy, which every file and every socket allows.
    #[must_use]
    pub fn fallback(self) -> Option<Way> {
        match self {
            Way::Splice => Some(Way::Sendfile),
            Way::Sendfile | Way::Zerocopy => Some(Way::Copy),
            Way::Copy => None,
        }
    }

    /// Its name in counters, logs and configuration.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Way::Copy => "copied",
            Way::Sendfile => "sendfile",
            Way::Splice => "spliced",
            Way::Zerocopy => "zerocopy",
        }
    }
}

/// How ways are chosen. The defaults are measured; see each constant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Strategy {
    /// Takes this way for everything that can go it, whatever its size: for a
    /// bug or a measurement. [`Way::Copy`] is for files and memory,
    /// [`Way::Zerocopy`] for memory, the others for files.
    pub forced: Option<Way>,
    /// Files of at most this many bytes are read into memory and sent together
    /// with what stands before them.
    pub copy_up_to: u64,
    /// Files of at most this many bytes are read into memory where something is
    /// queued behind them, and leave in one send with it.
    pub join_up_to: u64,
    /// Files of at least this many bytes go through a pipe.
    pub splice_from: u64,
    /// Memory of at least this many bytes goes by reference where that spares
    /// a copy: to peers on other hosts.
    pub zerocopy_from: u64,
}

/// Content of up to this many bytes is worth keeping in memory with its head:
/// one `send` of both. Measured with our own server (bench `crossover`, 64
/// connections; docs/runs/2026-11-22-crossover), cost by that of `sendfile`: one
/// file that stays in the processor's caches / 512 of them in turn, on the
/// loopback, then over veth. 16 KiB 0.90 / 0.86, 0.91 / 0.81; 24 KiB 0.85 / 0.85,
/// 0.85 / 0.89; 32 KiB 0.87 / 0.98, 0.86 / 0.96; 48 KiB 0.94 / 1.22, 0.94 / 1.20.
/// Another run had the sets of 32 KiB at 1.07 and 1.04: there the two change
/// places, and 24 KiB won in both.
pub const MEMORY_UP_TO: u64 = 24 * 1024;

/// A file range of up to this many bytes is read and leaves in one `send` with
/// its head. That is two calls as `sendfile` needs them, and two copies: the
/// same run has 4 KiB at 0.94 / 1.02, 0.98 / 0.98 of `sendfile`, 8 KiB at
/// 0.98 / 1.01, 0.93 / 1.01 and 32 KiB at 0.92 / 1.17, 1.05 / 1.14.
pub const COPY_UP_TO: u64 = 4 * 1024;

/// `sendfile` cannot say that more follows, so that a tail behind it costs a
/// packet of its own; and corking, or a pipe with `SPLICE_F_MORE`, holds back
/// the last part of a packet, which on a wire with an MTU of 1500 costs more
/// than that packet (bench `figure7`, 32 KiB and a tail over veth: one `writev`
/// 6.8 µs, `sendfile` and a packet for the tail 10.6, corked 16.9, spliced 16.7).
/// Up to here a second copy costs less than either.
pub const JOIN_UP_TO: u64 = 64 * 1024;

/// Two calls per MiB through a pipe that large beat `sendfile`, which fills its
/// own pipe of 64 KiB over and over (bench `static`, floors `sendfile` and
/// `splice`): 0.112 against 0.140 s/GiB over veth. Below one pipe's content the
/// two are mostly within 6 % of each other, now one ahead and now the other
/// (bench `crossover`: 512 KiB 0.96 / 1.00, 0.99 / 0.93; 1 MiB 0.91 / 0.90,
/// 0.93 / 0.96), and pipes are few.
pub const SPLICE_FROM: u64 = 1024 * 1024;

/// Below this a copy costs less than the pages' pinning and the report of their
/// release: `networking/msg_zerocopy.rst` has the two equal at about 10 KiB, on
/// buffers that are cold in the processor's caches. Hot ones gain nothing at
/// any size (docs/kernel.md), and a copied one is back at once; so a few times
/// that.
pub const ZEROCOPY_FROM: u64 = 64 * 1024;

impl Default for Strategy {
    fn default() -> Self {
        Strategy {
            forced: None,
            copy_up_to: COPY_UP_TO,
            join_up_to: JOIN_UP_TO,
            splice_from: SPLICE_FROM,
            zerocopy_from: ZEROCOPY_FROM,
        }
    }
}

impl Strategy {
    /// The way for a file range of `len` bytes.
    #[must_use]
    pub fn for_file(&self, len: u64) -> Way {
        if let Some(way) = self.forced.filter(|way| Way::OF_FILES.contains(way)) {
            way
        } else if len <= self.copy_up_to {
            Way::Copy
        } else if len >= self.splice_from {
            Way::Splice
        } else {
            Way::Sendfile
        }
    }

    /// The way for `len` bytes of memory, if the peer is on another host.
    #[must_use]
    pub fn for_memory(&self, len: u64) -> Way {
        match self.forced {
            Some(way @ (Way::Copy | Way::Zerocopy)) => way,
            _ if len >= self.zerocopy_from => Way::Zerocopy,
            _ => Way::Copy,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_ends_in_a_copy_when_it_is_refused() {
        for way in Way::ALL {
            let mut last = way;
            while let Some(next) = last.fallback() {
                last = next;
            }
            assert_eq!(last, Way::Copy);
        }
    }

    #[test]
    fn the_way_depends_on_the_size_unless_it_is_forced() {
        let strategy = Strategy::default();
        assert_eq!(strategy.for_file(1), Way::Copy);
        assert_eq!(strategy.for_file(COPY_UP_TO + 1), Way::Sendfile);
        assert_eq!(strategy.for_file(SPLICE_FROM), Way::Splice);
        let forced = Strategy { forced: Some(Way::Copy), ..Strategy::default() };
        assert_eq!(forced.for_file(u64::MAX), Way::Copy);
        assert_eq!(forced.for_memory(u64::MAX), Way::Copy);
        assert_eq!(strategy.for_memory(ZEROCOPY_FROM - 1), Way::Copy);
        assert_eq!(strategy.for_memory(ZEROCOPY_FROM), Way::Zerocopy);
        let forced = Strategy { forced: Some(Way::Zerocopy), ..Strategy::default() };
        assert_eq!(forced.for_memory(1), Way::Zerocopy);
        assert_eq!(forced.for_file(SPLICE_FROM), Way::Splice, "a file is no memory");
    }
}
