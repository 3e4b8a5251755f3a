//! The files that are asked for.

use crate::experiment::contents::Contents;

/// From where memory is sure to win to where it is sure to lose.
pub(super) const ALL: [Contents; 14] = [
    of("2KiB.bin", 2),
    of("4KiB.bin", 4),
    of("8KiB.bin", 8),
    of("16KiB.bin", 16),
    of("24KiB.bin", 24),
    of("32KiB.bin", 32),
    of("48KiB.bin", 48),
    of("64KiB.bin", 64),
    of("96KiB.bin", 96),
    of("128KiB.bin", 128),
    of("192KiB.bin", 192),
    of("256KiB.bin", 256),
    of("512KiB.bin", 512),
    of("1MiB.bin", 1024),
];

/// Those of a quick run.
pub(super) const QUICK: [&str; 3] = ["8KiB", "32KiB", "256KiB"];

const fn of(name: &'static str, kib: u64) -> Contents {
    Contents { name, length: kib << 10, seed: 1000 * kib }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_lengths_and_sizes_grow() {
        for contents in ALL {
            let mib = contents.label().strip_suffix("MiB").map(|mib| (mib, 20));
            let (number, shift) =
                mib.or(contents.label().strip_suffix("KiB").map(|kib| (kib, 10))).unwrap();
            assert_eq!(number.parse::<u64>().unwrap() << shift, contents.length);
        }
        assert!(ALL.is_sorted_by(|a, b| a.length < b.length));
        for quick in QUICK {
            assert!(ALL.iter().any(|contents| contents.label() == quick));
        }
    }
}
