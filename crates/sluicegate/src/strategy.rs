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
}

impl Way {
    /// All ways, in the order of their counters.
    pub const ALL: [Way; 3] = [Way::Copy, Way::Sendfile, Way::Splice];

    /// The way to take where this one is refused. The last resort is a plain
    /// copy, which every file and every socket allows.
    #[must_use]
    pub fn fallback(self) -> Option<Way> {
        match self {
            Way::Splice => Some(Way::Sendfile),
            Way::Sendfile => Some(Way::Copy),
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
        }
    }
}

/// How ways are chosen. The defaults are measured; see each constant.
#[derive(Clone, Debug)]
pub struct Strategy {
    /// Takes this way for every file range, whatever its size: for a bug or a
    /// measurement.
    pub forced: Option<Way>,
    /// Files of at most this many bytes are read into memory and sent together
    /// with what stands before them.
    pub copy_up_to: u64,
    /// Files of at least this many bytes go through a pipe.
    pub splice_from: u64,
}

/// One `send` of head and content beats head with `MSG_MORE` and `sendfile` up
/// to here: a second system call costs more than copying 16 KiB that are hot
/// in the processor's cache.
pub const COPY_UP_TO: u64 = 16 * 1024;

/// Two calls per MiB through a pipe that large beat `sendfile`, which fills its
/// own pipe of 64 KiB over and over (bench `static`, floors `sendfile` and
/// `splice`): 0.112 against 0.140 s/GiB over veth. Below one pipe's content there is too little to gain.
pub const SPLICE_FROM: u64 = 1024 * 1024;

impl Default for Strategy {
    fn default() -> Self {
        Strategy { forced: None, copy_up_to: COPY_UP_TO, splice_from: SPLICE_FROM }
    }
}

impl Strategy {
    /// The way for a file range of `len` bytes.
    #[must_use]
    pub fn for_file(&self, len: u64) -> Way {
        if let Some(way) = self.forced {
            way
        } else if len <= self.copy_up_to {
            Way::Copy
        } else if len >= self.splice_from {
            Way::Splice
        } else {
            Way::Sendfile
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
    }
}
