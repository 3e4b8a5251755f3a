//! The rings of one spool.

use std::path::Path;

use sluicegate_sys::limits::page_size;

use super::budget::Charge;
use crate::ring::{Backing, Ring, RingCounters, RingError};

/// Partitions of a ring at most, whose size grows instead: a slot of each takes some
/// 200 bytes, and 4,096 of them keep any disk and any network busy.
const PARTITIONS: u64 = 4096;

/// Shape of a ring of at most `bytes` in partitions of about `unit`: partitions, and
/// bytes of each. `None` if there is no such ring, since one partition is written
/// while another is sent.
fn shape(bytes: u64, unit: usize) -> Option<(usize, usize)> {
    let page = page_size() as u64;
    let pages = |bytes: u64| bytes.div_ceil(page).max(1) * page;
    // What is hardly more than one is halved.
    let unit = pages(unit as u64).max(pages(bytes / PARTITIONS)).min(bytes / 2 / page * page);
    let count = bytes.checked_div(unit)?;
    Some((usize::try_from(count).ok()?, usize::try_from(unit).ok()?))
}

/// Bytes of the ring that [`in_memory`] or [`on_disk`] would make of at most `bytes`.
pub(super) fn size(bytes: u64, unit: usize) -> u64 {
    shape(bytes, unit).map_or(0, |(count, unit)| count as u64 * unit as u64)
}

/// A ring of memory for one connection.
pub(super) fn in_memory(bytes: u64, unit: usize, charge: Charge) -> Result<Ring, RingError> {
    make(Backing::Memfd, bytes, unit, charge)
}

/// A ring in an unlinked file of `directory`, for one connection.
pub(super) fn on_disk(
    directory: &Path,
    bytes: u64,
    unit: usize,
    charge: Charge,
) -> Result<Ring, RingError> {
    make(Backing::File(directory.to_owned()), bytes, unit, charge)
}

fn make(backing: Backing, bytes: u64, unit: usize, charge: Charge) -> Result<Ring, RingError> {
    // Too small is refused by who builds it.
    let (count, unit) = shape(bytes, unit).unwrap_or_default();
    // One connection writes in place what it has had acknowledged or copied: pages
    // need not be replaced, and nobody need test whether they can be.
    let builder = Ring::builder().backing(backing).size(count * unit).partitions(count);
    builder.never_replaced().build_with(Some(Box::new(charge)))
}

/// What two rings have done together.
pub(super) fn sum(rings: [Option<&Ring>; 2]) -> RingCounters {
    let mut sum = RingCounters::default();
    for counters in rings.into_iter().flatten().map(Ring::counters) {
        sum.unsent += counters.unsent;
        sum.copied += counters.copied;
        sum.released += counters.released;
        sum.acked += counters.acked;
        sum.replaced += counters.replaced;
        sum.reverted += counters.reverted;
        sum.quarantined += counters.quarantined;
        sum.bytes_copied += counters.bytes_copied;
        sum.bytes_sendfile += counters.bytes_sendfile;
        sum.bytes_zerocopy += counters.bytes_zerocopy;
        sum.bytes_copied_out += counters.bytes_copied_out;
        sum.aborted += counters.aborted;
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rings_are_within_their_bound_and_of_whole_pages() {
        let page = page_size() as u64;
        for bytes in [2 * page, 3 * page, 100_000, 1 << 20, (1 << 20) + 1, 16 << 20, 1 << 40] {
            for unit in [1, 4096, 8000, 64 * 1024, 100_000, 1 << 30] {
                let (count, unit) = shape(bytes, unit).unwrap();
                let size = count as u64 * unit as u64;
                assert!(count >= 2 && count as u64 <= PARTITIONS, "{bytes} {unit}: {count}");
                assert!(size <= bytes && size > bytes / 2, "{bytes} {unit}: {size}");
                assert_eq!(unit as u64 % page, 0);
            }
        }
        assert_eq!((shape(0, 4096), shape(2 * page - 1, 4096)), (None, None));
        assert_eq!(size(1 << 20, 100 * 1024), 10 * 100 * 1024);
    }
}
