//! The files that are downloaded, of 1 KiB to 4 GiB: four times as large each.

use crate::experiment::contents::{Contents, GIB};

/// All sizes, ascending.
const ALL: [Contents; 12] = [
    of("download-1KiB.bin", 1),
    of("download-4KiB.bin", 4),
    of("download-16KiB.bin", 16),
    of("download-64KiB.bin", 64),
    of("download-256KiB.bin", 256),
    of("download-1MiB.bin", 1 << 10),
    of("download-4MiB.bin", 4 << 10),
    of("download-16MiB.bin", 16 << 10),
    of("download-64MiB.bin", 64 << 10),
    of("download-256MiB.bin", 256 << 10),
    GIB,
    of("download-4GiB.bin", 4 << 20),
];

const fn of(name: &'static str, kib: u64) -> Contents {
    Contents { name, length: kib << 10, seed: 500_000 + kib }
}

/// The sizes up to this one.
pub(in crate::experiment) fn up_to(bytes: u64) -> Vec<Contents> {
    ALL.into_iter().filter(|contents| contents.length <= bytes).collect()
}

/// Those of them that are listed here, in KiB.
pub(in crate::experiment) fn some(kib: &[u64]) -> Vec<Contents> {
    ALL.into_iter().filter(|contents| kib.contains(&(contents.length >> 10))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_size_is_four_times_the_last_and_each_file_has_its_own_name() {
        let all = up_to(u64::MAX);
        assert!(all.windows(2).all(|two| two[1].length == 4 * two[0].length));
        assert_eq!((all[0].length, all[11].length), (1 << 10, 4 << 30));
        assert!(all.windows(2).all(|two| two[0].name != two[1].name));
        assert_eq!(up_to(64 << 20).len(), 9);
        assert_eq!(some(&[1, 1 << 10]).len(), 2);
    }
}
