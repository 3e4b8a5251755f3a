//! What a ring has done: which way its bytes went, and which proof freed each
//! partition.

use std::sync::atomic::{AtomicU64, Ordering};

use super::slot::Proof;
use crate::strategy::Way;

/// Counts of a ring since it was built.
///
/// A partition is counted when it is leased again, by the proof that made that
/// right; where several sockets had its region, by the strongest that was
/// needed, in the order of the fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RingCounters {
    /// Partitions that were leased for the first time, or whose last region
    /// was never sent: no proof was needed.
    pub unsent: u64,
    /// The kernel took a copy of all.
    pub copied: u64,
    /// The kernel reported that it dropped the pages.
    pub released: u64,
    /// The peer's TCP acknowledged all, the peer is remote, and the memory
    /// stayed with the same connection: reused in place.
    pub acked: u64,
    /// The pages were swapped for fresh ones.
    pub replaced: u64,
    /// Leases that ended without a region.
    pub reverted: u64,
    /// Partitions that are never used again: no proof came, and their pages
    /// cannot be replaced.
    pub quarantined: u64,
    /// Bytes that sockets accepted as copies.
    pub bytes_copied: u64,
    /// Bytes that sockets accepted as references to the pages.
    pub bytes_sendfile: u64,
    /// Bytes that sockets accepted by MSG_ZEROCOPY.
    pub bytes_zerocopy: u64,
    /// Bytes that were copied aside for sockets that were cut loose.
    pub bytes_copied_out: u64,
    /// Uses of regions that were ended because their sockets were too slow, and
    /// there was no room for a copy: those connections fail.
    pub aborted: u64,
}

impl RingCounters {
    /// Leases of partitions whose last region was sent.
    #[must_use]
    pub fn reused(&self) -> u64 {
        self.copied + self.released + self.acked + self.replaced
    }
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    proofs: [AtomicU64; 5],
    reverted: AtomicU64,
    ways: [AtomicU64; 3],
    copied_out: AtomicU64,
    aborted: AtomicU64,
}

fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

impl Counts {
    pub(super) fn handle_lease(&self, proof: Proof) {
        add(&self.proofs[proof as usize], 1);
    }

    pub(super) fn handle_revert(&self) {
        add(&self.reverted, 1);
    }

    pub(super) fn handle_accepted(&self, way: Way, count: usize) {
        let way = match way {
            Way::Copy => 0,
            Way::Sendfile | Way::Splice => 1,
            Way::Zerocopy => 2,
        };
        add(&self.ways[way], count as u64);
    }

    pub(super) fn handle_copied_out(&self, count: usize) {
        add(&self.copied_out, count as u64);
    }

    pub(super) fn handle_abort(&self) {
        add(&self.aborted, 1);
    }

    pub(super) fn read(&self, quarantined: usize) -> RingCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let proof = |proof: Proof| get(&self.proofs[proof as usize]);
        RingCounters {
            unsent: proof(Proof::Unsent),
            copied: proof(Proof::Copied),
            released: proof(Proof::Released),
            acked: proof(Proof::Acked),
            replaced: proof(Proof::Replaced),
            reverted: get(&self.reverted),
            quarantined: quarantined as u64,
            bytes_copied: get(&self.ways[0]),
            bytes_sendfile: get(&self.ways[1]),
            bytes_zerocopy: get(&self.ways[2]),
            bytes_copied_out: get(&self.copied_out),
            aborted: get(&self.aborted),
        }
    }
}
