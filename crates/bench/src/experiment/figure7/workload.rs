//! What is asked for, over how many connections, and for how long.

use std::time::Duration;

use crate::client::Check;
use crate::experiment::contents::Contents;
use crate::experiment::session::Effort;
use crate::experiment::workload::{Unit, Workload};
use crate::floor::figure7::{Answerer, Join, TAIL};
use crate::harness::plot::size_label;
use crate::harness::round::Rounds;
use crate::peer::Peer;

/// A quick run.
pub(super) const QUICK: Effort = Effort {
    rounds: Rounds { wanted: 5, at_most: 6 },
    warm_up: Duration::from_millis(40),
    window: Duration::from_millis(150),
};

/// Fifteen rounds: ways that differ by less than a tenth are told apart by fifteen pairs.
pub(super) const FULL: Effort = Effort {
    rounds: Rounds { wanted: 15, at_most: 18 },
    warm_up: Duration::from_millis(40),
    window: Duration::from_millis(180),
};

/// From this length on checking every byte takes longer than sending them.
const LONG: u64 = 32 << 10;

/// A length of content; with a tail, which is in memory, behind it or without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// Bytes that are sent from the file.
    pub(super) content: u64,
    /// The file without a tail, and the one with it.
    files: [&'static str; 2],
}

impl Size {
    const fn new(content: u64, files: [&'static str; 2]) -> Self {
        Self { content, files }
    }

    /// Its name: `64 KiB`.
    pub(super) fn name(&self) -> String {
        size_label(self.content)
    }

    /// The file that is asked for. A tail is its last bytes.
    pub(super) fn contents(&self, tail: bool) -> Contents {
        let length = self.content + if tail { TAIL as u64 } else { 0 };
        Contents { name: self.files[usize::from(tail)], length, seed: 7 }
    }
}

/// The sizes of the full run, ascending.
pub(super) const SIZES: [Size; 12] = [
    Size::new(256, ["join-256B.bin", "join-256B-tail.bin"]),
    Size::new(512, ["join-512B.bin", "join-512B-tail.bin"]),
    Size::new(1 << 10, ["join-1KiB.bin", "join-1KiB-tail.bin"]),
    Size::new(2 << 10, ["join-2KiB.bin", "join-2KiB-tail.bin"]),
    Size::new(4 << 10, ["join-4KiB.bin", "join-4KiB-tail.bin"]),
    Size::new(8 << 10, ["join-8KiB.bin", "join-8KiB-tail.bin"]),
    Size::new(16 << 10, ["join-16KiB.bin", "join-16KiB-tail.bin"]),
    Size::new(32 << 10, ["join-32KiB.bin", "join-32KiB-tail.bin"]),
    Size::new(64 << 10, ["join-64KiB.bin", "join-64KiB-tail.bin"]),
    Size::new(128 << 10, ["join-128KiB.bin", "join-128KiB-tail.bin"]),
    Size::new(512 << 10, ["join-512KiB.bin", "join-512KiB-tail.bin"]),
    Size::new(1 << 20, ["join-1MiB.bin", "join-1MiB-tail.bin"]),
];

/// The sizes of which system calls are counted.
pub(super) const COUNTED: [u64; 2] = [1 << 10, 64 << 10];

/// Sizes that are measured alike, and make one table and one line in a plot.
#[derive(Debug, Clone)]
pub(super) struct Series {
    /// Its name in file names.
    pub(super) name: &'static str,
    pub(super) title: &'static str,
    pub(super) connections: usize,
    pub(super) tail: bool,
    pub(super) sizes: Vec<Size>,
}

impl Series {
    /// The files that are asked for.
    pub(super) fn files(&self) -> impl Iterator<Item = Contents> {
        self.sizes.iter().map(|size| size.contents(self.tail))
    }

    /// The server that joins in this way.
    pub(super) fn peer(&self, join: Join) -> Peer {
        Peer::Answerer(Answerer { join, tail: self.tail })
    }

    /// What is measured of a size.
    pub(super) fn workload(&self, size: Size) -> Workload {
        let contents = size.contents(self.tail);
        Workload {
            name: format!("{} {}", self.name, size.name()),
            contents,
            files: None,
            connections: self.connections,
            check: if contents.length < LONG { Check::Whole } else { Check::Edges },
            unit: Unit::Request,
            peers: Join::ALL.map(|join| self.peer(join)).into(),
            logs: false,
        }
    }
}

/// All series, in the order in which they are measured.
pub(super) fn series(quick: bool) -> Vec<Series> {
    let of = |kibibytes: &[u64]| -> Vec<Size> {
        SIZES.into_iter().filter(|size| kibibytes.contains(&(size.content >> 10))).collect()
    };
    let (all, some) = if quick {
        (of(&[1, 16, 128]), of(&[1, 32]))
    } else {
        // Every second one, in powers of 4.
        let some = SIZES.into_iter().filter(|size| size.content.trailing_zeros() % 2 == 0);
        (SIZES.to_vec(), some.collect())
    };
    vec![
        Series {
            name: "head",
            title: "head and file, 64 connections",
            connections: 64,
            tail: false,
            sizes: all,
        },
        Series {
            name: "head-tail",
            title: "head, file and a tail of 64 bytes, 64 connections",
            connections: 64,
            tail: true,
            sizes: some,
        },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_makes_the_file_longer_and_not_the_content() {
        let size = SIZES[2];
        assert_eq!(size.contents(false).length, 1024);
        assert_eq!(size.contents(true).length, 1024 + 64);
        assert_ne!(size.contents(true).name, size.contents(false).name);
    }

    #[test]
    fn a_full_run_has_every_size_and_a_quick_one_some_of_them() {
        assert_eq!(series(false)[0].sizes, SIZES);
        let names: Vec<String> = series(false)[1].sizes.iter().map(Size::name).collect();
        assert_eq!(names, ["256 B", "1 KiB", "4 KiB", "16 KiB", "64 KiB", "1 MiB"]);
        let names: Vec<String> = series(true)[1].sizes.iter().map(Size::name).collect();
        assert_eq!(names, ["1 KiB", "32 KiB"]);
        assert!(SIZES.is_sorted_by_key(|size| size.content));
    }
}
