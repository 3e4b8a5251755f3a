//! The shape of a ring.

use super::backing::Part;
use super::{Backing, Charge, Ring, RingError};

/// What is done when no partition is free, and sockets stand in the way that
/// have not sent what they were given. What is accepted already and waits for
/// its acknowledgement alone gets fresh pages then, unless the writer waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stragglers {
    /// The writer waits: the slowest socket sets the pace.
    #[default]
    Wait,
    /// The oldest region is taken from its sockets. What they have not sent of
    /// it is copied aside for them, up to so many bytes of all together; beyond
    /// that they are cut as by [`Stragglers::Abort`].
    CopyOut {
        /// Bytes that may be held so at one time.
        up_to: u64,
    },
    /// The oldest region is taken from its sockets. Those that have not sent all
    /// of it fail with [`crate::SendError::CutLoose`]: their peers must not take
    /// what they have for the whole.
    Abort,
}

/// Sockets of one region from which on it goes by reference and is replaced.
///
/// What that spares is memory: 1,000 readers that do not read hold 27 KiB each
/// of 1 MiB that was sent to them, instead of 1,049. It costs CPU. To one socket
/// after the other over the loopback, in 64 KiB, a reference costs by a copy 2.5
/// with one socket (each region's pages are made anew), 1.5 with 16, 1.4 with 64
/// and 1.3 with 1,000 (bench `fan-out`, docs/runs/2026-11-22-fan-out): the pages'
/// reference counts go to and fro between the sender's core and the readers'. So
/// a few sockets get copies, whose memory is theirs to count; a crowd does not. A
/// ring whose last region went to so many sends the next by reference from the
/// first socket on.
const FAN_OUT_FROM: usize = 16;

/// Files are swapped instead, which costs a file each time: several times a copy.
const FAN_OUT_OF_FILES_FROM: usize = 64;

/// Builds rings ([`Ring::builder`]).
#[derive(Clone, Debug)]
pub struct RingBuilder {
    size: usize,
    partitions: usize,
    backing: Backing,
    fan_out: Option<usize>,
    is_never_replaced: bool,
    pub(super) fan_out_from: usize,
    pub(super) stragglers: Stragglers,
}

impl Default for RingBuilder {
    fn default() -> Self {
        RingBuilder {
            size: 1024 * 1024,
            partitions: 16,
            backing: Backing::Memfd,
            fan_out: None,
            is_never_replaced: false,
            fan_out_from: FAN_OUT_FROM,
            stragglers: Stragglers::Wait,
        }
    }
}

/// Partitions at most. A ring is then, beside its memory: a slot of some 200
/// bytes for each partition and, for each socket that has a region of it
/// queued, 32 bytes of a use; for the files of [`Backing::Files`] a descriptor
/// each, which the limit on descriptors bounds earlier. So 65,536 slots are
/// 13 MiB: as much as one would give to counting 4 GiB in parts of 64 KiB.
const PARTITIONS: usize = 64 * 1024;

/// A partition at most: its length fits in 31 bits, as the kernel's calls take
/// it (`MAX_RW_COUNT`).
const PARTITION: usize = 1 << 30;

/// The unit in which pages are replaced. A larger page size is a multiple.
fn page() -> usize {
    sluicegate_sys::limits::page_size()
}

impl RingBuilder {
    /// Bytes in all.
    #[must_use]
    pub fn size(mut self, bytes: usize) -> Self {
        self.size = bytes;
        self
    }

    /// Parts of equal size, each a multiple of the page size.
    #[must_use]
    pub fn partitions(mut self, count: usize) -> Self {
        self.partitions = count;
        self
    }

    /// Where the memory comes from.
    #[must_use]
    pub fn backing(mut self, backing: Backing) -> Self {
        self.backing = backing;
        self
    }

    /// What is done about sockets that are too slow.
    #[must_use]
    pub fn stragglers(mut self, stragglers: Stragglers) -> Self {
        self.stragglers = stragglers;
        self
    }

    /// To how many sockets a region is copied before it goes to further ones by
    /// reference: 0 for always by reference, `usize::MAX` for never. By itself 16,
    /// and 64 for files. Also from the first socket on, where the region before
    /// went to so many.
    #[must_use]
    pub fn fan_out_from(mut self, sockets: usize) -> Self {
        self.fan_out = Some(sockets);
        self
    }

    /// Never replaces pages, whatever the backing allows: as where it fails its
    /// test. For a bug or a measurement. A partition that a remote connection has
    /// acknowledged is then that connection's for good, and quarantined when
    /// somebody else would have it: such a ring serves one connection.
    #[must_use]
    pub fn never_replaced(mut self) -> Self {
        self.is_never_replaced = true;
        self
    }

    /// Makes the memory, and tests it.
    ///
    /// # Errors
    /// [`RingError::Shape`], [`RingError::Memory`].
    pub fn build(&self) -> Result<Ring, RingError> {
        self.build_with(None)
    }

    /// As [`RingBuilder::build`]. The memory is counted by `charge`: it is dropped when the
    /// last of the ring's handles, regions and uses is, and so are its pages.
    pub(crate) fn build_with(&self, charge: Option<Charge>) -> Result<Ring, RingError> {
        let RingBuilder { size, partitions, .. } = *self;
        let shape = |cause| RingError::Shape { size, partitions, cause };
        if partitions == 0 || partitions > PARTITIONS {
            return Err(shape("it has from 1 to 65,536 partitions"));
        }
        if size == 0 || !size.is_multiple_of(partitions) {
            return Err(shape("partitions are of equal size"));
        }
        let partition = size / partitions;
        if !partition.is_multiple_of(page()) {
            return Err(shape("a partition is a multiple of the page size"));
        }
        if partition > PARTITION {
            return Err(shape("a partition has at most 1 GiB"));
        }
        let parts = Part::all(&self.backing, partition, partitions, !self.is_never_replaced)
            .map_err(|cause| RingError::Memory { size, cause })?;
        let usual = match self.backing {
            Backing::Memfd => FAN_OUT_FROM,
            Backing::Files(_) | Backing::File(_) => FAN_OUT_OF_FILES_FROM,
        };
        let builder = RingBuilder { fan_out_from: self.fan_out.unwrap_or(usual), ..self.clone() };
        Ok(Ring::with(&builder, parts, partition, charge))
    }
}
