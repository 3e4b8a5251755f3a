//! What is tried where, and with how many bytes.
//!
//! The sum of a full run. A reader of [`super::reader`] takes 400 MiB/s at most and pauses for 4 s
//! in all, so 4 GiB take 17 s over a fast wire, 19 s over a true one, and 90 s at 50 MB/s. Who waits
//! for 10 ms before each reuse passes at most 100 MiB/s through a ring of 1 MiB (4 GiB: 45 s), who
//! waits for 100 ms at most 10 MiB/s: the 4 GiB of such a cell would take seven minutes, so it has a
//! sixteenth, 256 MiB in 26 s.
//!
//! | | memfd | three other backings |
//! |---|---|---|
//! | lo, veth | 4 × 17 s, 43 s, 26 s; to several readers 9 s: 2 × 2.5 min | 2 × 12 × 256 MiB (5 s): 2 min |
//! | true wire | 4 × 19 s, 45 s, 26 s: 2.5 min | 12 × 256 MiB (5 s): 1 min |
//! | 50 MB/s | 3 × 4 GiB (90 s), 2 × 1 GiB (25 s), 26 s: 6 min | 12 × 256 MiB (8 s): 1.6 min |
//! | virtual machine | 5 × 256 MiB (5 s), 64 MiB (7 s): 0.5 min | none: it has no disk |
//!
//! About 19 minutes.

use super::PARTITION;
use super::backing::Backing;
use super::ways::Way;

/// What a full run sends in each cell that is worth it.
pub(super) const WHOLE: u64 = 4 << 30;

/// In a quick run, where the machine is slow, the queues of a path (up to 8 MiB on either side) are
/// still filled twice.
const QUICK: u64 = 48 << 20;
const LEAST: u64 = 16 << 20;

/// In the virtual machine, which works in software.
const GUEST: u64 = 256 << 20;

/// The wires of a whole run.
pub(super) const WIRES: [&str; 5] = ["lo", "veth", "veth50", "wire", GUEST_WIRE];

/// The network card of the virtual machine.
pub(super) const GUEST_WIRE: &str = "vm";

/// Readers of one region.
pub(super) const READERS: usize = 8;

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    whole: u64,
    is_quick: bool,
}

impl Sizes {
    pub(super) fn new(wanted: Option<u64>, is_quick: bool) -> Self {
        let whole = wanted.unwrap_or(if is_quick { QUICK } else { WHOLE });
        Self { whole, is_quick }
    }

    /// How often a reader of such a cell pauses.
    pub(super) fn pauses(self) -> u64 {
        if self.is_quick { 2 } else { 16 }
    }

    /// Bytes of a cell; `None` where it is not tried.
    pub(super) fn of(self, wire: &str, backing: Backing, way: Way) -> Option<u64> {
        let is_main = backing == Backing::Memfd;
        if wire == GUEST_WIRE && !is_main {
            return None;
        }
        let others = [Way::AtOnce, Way::Waiting(10), Way::Acked, Way::Ours];
        if !is_main && (!others.contains(&way) || (self.is_quick && way == Way::Waiting(10))) {
            return None;
        }
        let whole = if wire == GUEST_WIRE { self.whole.min(GUEST) } else { self.whole };
        let part = match (wire, way) {
            (GUEST_WIRE, Way::Waiting(100)) => whole / 4,
            (_, Way::Waiting(100)) => whole / 16,
            _ if !is_main => whole / 16,
            ("veth50", Way::Waiting(_)) => whole / 4,
            _ => whole,
        };
        Some(round(part.max(LEAST.min(whole))))
    }

    /// Bytes that each of [`READERS`] gets: as much as one reader gets, in all.
    pub(super) fn of_each(self) -> u64 {
        round((self.whole / READERS as u64).max(LEAST.min(self.whole)))
    }
}

/// Whole rounds of the ring, at least two: the first overwrites nothing.
fn round(bytes: u64) -> u64 {
    let ring = super::RING as u64;
    debug_assert_eq!(ring % PARTITION as u64, 0);
    (bytes / ring).max(2) * ring
}

/// A number of bytes: `4GiB`, `256MiB`.
pub(in crate::experiment) fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is no size such as 256MiB or 4GiB");
    let (number, shift) = if let Some(number) = text.strip_suffix("GiB") {
        (number, 30)
    } else {
        (text.strip_suffix("MiB").ok_or_else(wrong)?, 20)
    };
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let bytes = number.checked_mul(1 << shift).filter(|&bytes| bytes >= LEAST);
    bytes.ok_or_else(|| format!("`{text}` is not {} MiB at least, or far too much", LEAST >> 20))
}

/// A number of bytes, for people.
pub(super) fn show(bytes: u64) -> String {
    match bytes {
        bytes if bytes >= 1 << 30 && bytes.is_multiple_of(1 << 30) => {
            format!("{} GiB", bytes >> 30)
        }
        bytes => format!("{} MiB", bytes >> 20),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_run_sends_four_gib_where_a_wire_bears_it_and_says_where_it_does_not() {
        let full = Sizes::new(None, false);
        for wire in ["lo", "veth", "wire"] {
            for way in [Way::AtOnce, Way::Waiting(1), Way::Waiting(10), Way::Acked, Way::Ours] {
                assert_eq!(full.of(wire, Backing::Memfd, way), Some(WHOLE));
            }
            assert_eq!(full.of(wire, Backing::Memfd, Way::Waiting(100)), Some(256 << 20));
            assert_eq!(full.of(wire, Backing::Ext4Large, Way::Acked), Some(256 << 20));
        }
        assert_eq!(full.of("vm", Backing::Memfd, Way::Acked), Some(256 << 20));
        assert_eq!(full.of("vm", Backing::HugeTmpfs, Way::Acked), None);
        assert_eq!(full.of_each() * READERS as u64, WHOLE);
    }

    #[test]
    fn every_cell_fills_the_queues() {
        for (wire, backing, way) in WIRES.iter().flat_map(|&wire| {
            let of = move |backing| Way::ALL.map(move |way| (wire, backing, way));
            Backing::ALL.into_iter().flat_map(of)
        }) {
            let bytes = Sizes::new(None, true).of(wire, backing, way);
            assert!(bytes.is_none_or(|bytes| bytes >= LEAST), "{wire} {backing} {way}");
        }
    }

    #[test]
    fn sizes_are_read_and_shown() {
        assert_eq!(parse("256MiB"), Ok(256 << 20));
        assert_eq!(parse("4GiB"), Ok(4 << 30));
        for wrong in ["4", "GiB", "1MiB", "4 GB", "99999999999999GiB"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!([show(4 << 30), show(300 << 20)], ["4 GiB", "300 MiB"]);
    }
}
