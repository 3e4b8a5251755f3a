//! Memory that is written, sent and written again, each time with a proof.

mod alarm;
mod backing;
mod builder;
mod counters;
mod crowd;
mod cut;
mod lease;
mod pool;
mod region;
mod slot;
mod table;
mod wait;

/// What the partitions' locks are made of; a model checker has its own.
mod sync {
    pub(super) use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
}

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use thiserror::Error;

pub(crate) use alarm::Alarm;
pub use backing::Backing;
pub use builder::{RingBuilder, Stragglers};
pub use counters::RingCounters;
pub use lease::Lease;
pub use pool::{Pool, PooledRing};
pub use region::{Held, Pinned, Region, RegionUse};
pub(crate) use slot::Settled;

use backing::Part;
use counters::Counts;
use crowd::Crowd;
use cut::CutLoose;
use slot::Phase;
use table::{Attempt, Table};
use wait::Blocking;
pub(crate) use wait::Wait;

/// One connection of this process. No other ever has the same.
///
/// Acknowledged memory stays with it: a late retransmission of bytes that are
/// acknowledged already may still wait in a queue of ours, and must not carry
/// another client's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Connection(u64);

impl Connection {
    /// The next one. At a million a second they last for 580,000 years.
    pub(crate) fn next() -> Self {
        static LAST: AtomicU64 = AtomicU64::new(0);
        Connection(LAST.fetch_add(1, Ordering::Relaxed) + 1)
    }
}

/// Why there is no ring, or no partition of it.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RingError {
    /// A ring of that shape cannot be.
    #[error("a ring of {size} bytes in {partitions} partitions: {cause}")]
    Shape {
        /// Bytes in all.
        size: usize,
        /// In how many parts.
        partitions: usize,
        /// What is wrong with it.
        cause: &'static str,
    },
    /// The kernel refuses the memory, when the ring is built or when pages are
    /// to be replaced; then a later try may succeed.
    #[error("the memory of a ring of {size} bytes: {cause}")]
    Memory {
        /// Bytes in all.
        size: usize,
        /// What the kernel says.
        #[source]
        cause: std::io::Error,
    },
    /// All partitions are quarantined: the kernel may read them for ever, and
    /// their pages cannot be replaced.
    #[error("no partition of the ring can be used again: all are quarantined")]
    Exhausted,
}

/// A cyclic buffer in partitions, of which each is leased, written, published,
/// queued to one or many sockets, and leased again when there is proof that it
/// may be written to.
///
/// ```text
///   acquire ─▶ Lease ─▶ publish ─▶ Region ─▶ queue (one or many sockets)
///      ▲                                        │
///      └──── copied, released, acked, replaced ◀┘
/// ```
/// Nothing but these four proofs frees a partition, and [`Ring::counters`] tell
/// how often each did:
/// - *copied*: what goes to a peer that is local or not known is copied out of
///   the ring by `send`.
/// - *acked*: what goes to a remote peer, by reference, if the partition was
///   leased for that connection ([`Ring::acquire_for`], [`crate::Socket::acquire`]).
/// - *replaced*: where one region goes to many sockets it is sent by reference,
///   and the partition gets fresh pages when it is needed again. Also when
///   memory that one connection has accepted or acknowledged is to go to
///   another, and when a straggler is cut loose ([`Stragglers`]). Only on a
///   [`Backing`] that has passed its test when the ring was built.
/// - *released*: by MSG_ZEROCOPY, what goes to few remote peers and was leased
///   for nobody in particular.
///
/// A handle: its clones are the same ring. Several threads may write and
/// several sockets send.
#[derive(Clone, Debug)]
pub struct Ring {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    table: Table<Part>,
    counts: Counts,
    partition: usize,
    is_replaceable: bool,
    fan_out_from: usize,
    stragglers: Stragglers,
    cut_loose: CutLoose,
    crowd: Crowd,
    /// Nobody will have a partition any more.
    is_retired: AtomicBool,
    /// Dropped after the memory, which is when nobody needs that any more.
    _charge: Option<Charge>,
}

/// What somebody has counted for a ring's memory, given back by being dropped.
pub(crate) type Charge = Box<dyn Any + Send + Sync>;

impl Ring {
    /// A ring of 1 MiB in 16 partitions of memory, unless it is told otherwise.
    #[must_use]
    pub fn builder() -> RingBuilder {
        RingBuilder::default()
    }

    fn with(
        builder: &RingBuilder,
        parts: Vec<Part>,
        partition: usize,
        charge: Option<Charge>,
    ) -> Self {
        let is_replaceable = parts.iter().all(Part::is_replaceable);
        Ring {
            inner: Arc::new(Inner {
                table: Table::new(parts),
                counts: Counts::default(),
                partition,
                is_replaceable,
                fan_out_from: builder.fan_out_from,
                stragglers: builder.stragglers,
                cut_loose: CutLoose::default(),
                crowd: Crowd::default(),
                is_retired: AtomicBool::new(false),
                _charge: charge,
            }),
        }
    }

    /// Bytes of a partition.
    #[must_use]
    pub fn partition_len(&self) -> usize {
        self.inner.partition
    }

    /// Partitions that there are.
    #[must_use]
    pub fn partitions(&self) -> usize {
        self.inner.table.len()
    }

    /// Partitions that nobody holds and that no socket has to prove anything of.
    #[must_use]
    pub fn free(&self) -> usize {
        self.inner.table.count(Phase::Free)
    }

    /// Whether pages can be replaced: the backing has passed its test.
    #[must_use]
    pub fn is_replaceable(&self) -> bool {
        self.inner.is_replaceable
    }

    /// What happened so far.
    #[must_use]
    pub fn counters(&self) -> RingCounters {
        self.inner.counts.read(self.inner.table.quarantined())
    }

    /// Leases a partition for nobody in particular: its region may be queued to
    /// any socket, and to many. Waits until there is proof that it may be
    /// written; who sends the regions is to be awaited elsewhere meanwhile, in
    /// another task or thread. [`crate::Socket::acquire`] does both.
    ///
    /// # Errors
    /// [`RingError::Exhausted`], [`RingError::Memory`].
    pub async fn acquire(&self) -> Result<Lease, RingError> {
        Wait::new(self, None).await
    }

    /// As [`Ring::acquire`], for one connection ([`crate::Socket::connection`]):
    /// its region can be queued to that socket alone, and what that peer has
    /// acknowledged is written again in place, if it is remote.
    ///
    /// # Errors
    /// As [`Ring::acquire`].
    pub async fn acquire_for(&self, connection: Connection) -> Result<Lease, RingError> {
        Wait::new(self, Some(connection)).await
    }

    /// Leases a partition, for a connection or for anybody, if one can be had
    /// now.
    ///
    /// # Errors
    /// As [`Ring::acquire`].
    pub fn try_acquire(&self, owner: Option<Connection>) -> Result<Option<Lease>, RingError> {
        let inner = &self.inner;
        if self.is_retired() {
            return Err(RingError::Exhausted);
        }
        loop {
            match inner.table.lease(owner) {
                Attempt::Leased(taken) => {
                    inner.counts.handle_lease(taken.proof);
                    return Ok(Some(Lease::new(self.clone(), taken)));
                }
                Attempt::Exhausted => return Err(RingError::Exhausted),
                Attempt::Refused(cause) => {
                    let size = inner.partition * inner.table.len();
                    return Err(RingError::Memory { size, cause });
                }
                Attempt::Busy => {}
            }
            if inner.is_replaceable && inner.table.take_accepted(owner) {
                continue;
            }
            if inner.stragglers == Stragglers::Wait || !self.cut_oldest() {
                return Ok(None);
            }
        }
    }

    /// As [`Ring::try_acquire`], for a thread of its own: waits, and blocks the
    /// thread, until the time is over.
    ///
    /// # Errors
    /// As [`Ring::acquire`].
    pub fn acquire_within(
        &self,
        owner: Option<Connection>,
        time: Duration,
    ) -> Result<Option<Lease>, RingError> {
        Blocking::until(Instant::now().checked_add(time), Wait::new(self, owner)).transpose()
    }

    /// No partition is leased from now on. So nothing that was published is ever written
    /// over, and needs no proof: a region that was leased for one connection goes there
    /// by reference, wherever the peer is.
    pub(crate) fn retire(&self) {
        self.inner.is_retired.store(true, Ordering::Release);
    }

    fn is_retired(&self) -> bool {
        self.inner.is_retired.load(Ordering::Acquire)
    }

    /// Whether a region goes by reference to a socket that is not known to be
    /// remote: it was queued to so many before, or the one before it was.
    fn fans_out(&self, sockets_before: usize) -> bool {
        let sockets = sockets_before.max(self.inner.crowd.last());
        self.inner.is_replaceable && sockets >= self.inner.fan_out_from
    }

    /// A region for `owner` is in fewer hands, or a call that read it is over:
    /// that may let others have its partition, by cutting its sockets loose or
    /// because all of it `is_accepted`.
    fn handle_cuttable(&self, owner: Option<Connection>, is_accepted: bool) {
        if self.inner.stragglers != Stragglers::Wait {
            self.inner.table.wake_one();
        } else if owner.is_some() && is_accepted {
            self.inner.table.wake_other(owner);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn a_retired_ring_leases_nothing_and_what_is_leased_can_be_published() {
        let ring = Ring::builder().build().unwrap();
        let owner = Some(Connection::next());
        let mut lease = ring.try_acquire(owner).unwrap().unwrap();
        lease.write_all(b"last").unwrap();
        let (used, _) = lease.publish_written().enlist(owner, None).unwrap();
        assert!(!used.is_last());
        let lease = ring.try_acquire(owner).unwrap().unwrap();
        ring.retire();
        assert!(used.is_last());
        let free = ring.free();
        assert!(free > 0 && matches!(ring.try_acquire(owner), Err(RingError::Exhausted)));
        assert_eq!(lease.publish(0).len(), 0);
        drop(used);
        assert!(ring.free() > free && ring.try_acquire(None).is_err());
    }
}
