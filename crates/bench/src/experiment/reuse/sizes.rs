//! The images: 10 KB to 50 MB, as the question has them, in powers of ten.

use crate::client::Check;
use crate::experiment::contents::Contents;
use crate::experiment::workload::{Unit, Workload};
use crate::floor::reuse::{Make, Maker};
use crate::peer::Peer;

/// Images that are made in turn: each is told from the one before it in the same buffer.
const IMAGES: u32 = 16;

/// Below this length every byte of every image is compared.
const LONG: u64 = 32 << 10;

/// From here on time between two looks of the checker costs nothing.
const DOWNLOAD: u64 = 1_000_000;

/// A length of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Its name: `10 KB`.
    pub(super) name: &'static str,
    contents: Contents,
    /// The same under the name by which servers look for acknowledgements.
    timed: Contents,
    /// Images of a window over a network of 50 MB/s: about a second's worth.
    pub(super) slow: u64,
    /// Images whose acknowledgement is looked for, in each round: fewer over such a network.
    pub(super) looked_for: [u64; 2],
}

const fn contents(name: &'static str, length: u64) -> Contents {
    Contents { name, length, seed: 2_000 }
}

const fn size(
    name: &'static str,
    files: [&'static str; 2],
    length: u64,
    slow: u64,
    looked_for: [u64; 2],
) -> Size {
    let (of, timed) = (contents(files[0], length), contents(files[1], length));
    Size { name, contents: of, timed, slow, looked_for }
}

/// All of them, ascending.
pub(super) const SIZES: [Size; 5] = [
    size("10 KB", ["10KB.bin", "10KB-timed.bin"], 10_000, 1000, [400, 200]),
    size("100 KB", ["100KB.bin", "100KB-timed.bin"], 100_000, 300, [200, 50]),
    size("1 MB", ["1MB.bin", "1MB-timed.bin"], 1_000_000, 40, [50, 8]),
    size("10 MB", ["10MB.bin", "10MB-timed.bin"], 10_000_000, 4, [5, 2]),
    size("50 MB", ["50MB.bin", "50MB-timed.bin"], 50_000_000, 1, [2, 1]),
];

impl Size {
    /// Bytes of an image.
    pub(super) fn length(&self) -> u64 {
        self.contents.length
    }

    /// The server of such images that works in this way.
    pub(super) fn peer(&self, way: Make) -> Peer {
        let Contents { length, seed, .. } = self.contents;
        Peer::Maker(Maker { way, length, seed })
    }

    /// What is asked for.
    pub(super) fn workload(&self, timed: bool) -> Workload {
        Workload {
            name: self.name.to_owned(),
            contents: if timed { self.timed } else { self.contents },
            files: Some(IMAGES),
            connections: 1,
            check: self.check(),
            unit: Unit::Gib,
            peers: Make::ALL.map(|way| self.peer(way)).into(),
            logs: false,
        }
    }

    fn check(&self) -> Check {
        match self.length() {
            0..LONG => Check::Whole,
            LONG..DOWNLOAD => Check::Edges,
            _ => Check::Sampled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_ascend_and_a_timed_image_is_the_same_image_by_another_name() {
        assert!(SIZES.is_sorted_by_key(Size::length));
        for size in SIZES {
            let [of, timed] = [false, true].map(|timed| size.workload(timed).contents);
            assert_eq!((of.length, of.seed), (timed.length, timed.seed));
            assert!(!of.set().contains("timed") && timed.set().ends_with("-timed-set"));
        }
    }
}
