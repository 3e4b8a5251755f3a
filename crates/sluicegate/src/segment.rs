//! What is queued to be sent: memory, a range of a file, a region of a ring, or
//! what is in a pipe.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sluicegate_sys::file::Stamp;

use crate::pipes::LentPipe;
use crate::ring::Region;

/// A range of an open file, kept open until the kernel has accepted the last
/// byte of it. `F` is the file's handle; a script has its own.
#[derive(Clone, Debug)]
pub struct FileRange<F = Arc<File>> {
    pub(crate) file: F,
    pub(crate) range: Range<u64>,
    pub(crate) version: Option<Arc<Stamp>>,
    pub(crate) copied: bool,
}

impl<F> FileRange<F> {
    /// The bytes `range` of `file`, offsets in bytes. An empty or inverted
    /// range has no bytes.
    #[must_use]
    pub fn new(file: F, range: Range<u64>) -> Self {
        FileRange { file, range, version: None, copied: false }
    }

    /// To be sent only as long as the file is what `version` says: it is
    /// compared before each piece is handed to the kernel, and a difference is
    /// [`crate::FileFault::Changed`].
    ///
    /// What the kernel has accepted by reference and not yet sent can still be
    /// changed by whoever writes to the file in place; [`FileRange::copied`]
    /// excludes that.
    #[must_use]
    pub fn in_version(mut self, version: Arc<Stamp>) -> Self {
        self.version = Some(version);
        self
    }

    /// To be sent from copies, whatever its size: what the kernel has accepted
    /// then never changes, even if the file does.
    #[must_use]
    pub fn copied(mut self) -> Self {
        self.copied = true;
        self
    }

    /// Bytes in the range.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.range.end.saturating_sub(self.range.start)
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One piece of what a socket sends. It owns what it sends from, so nothing
/// that the kernel may still read is freed when a future is dropped.
#[derive(Clone, Debug)]
pub enum Segment<F = Arc<File>> {
    /// Memory that is given away: it is dropped when the kernel needs it no more.
    Memory(Bytes),
    /// Memory that is lent: [`crate::Socket::released`] hands it back when the
    /// kernel needs it no more.
    Lent(Bytes),
    /// A range of a file.
    File(FileRange<F>),
    /// What was published of a ring's partition.
    Region(Region),
    /// What is in a pipe.
    Piped(Piped),
}

/// Bytes that are in a pipe already, at its front when their turn comes. Whoever
/// fills it behind them may do so meanwhile.
///
/// Its clones are the same bytes: one of them is to be queued, once. Where it is
/// dropped before all of them were sent, they stay in the pipe, which then serves
/// nobody else ([`LentPipe`]).
#[derive(Clone, Debug)]
pub struct Piped {
    pub(crate) pipe: Arc<LentPipe>,
    pub(crate) len: u64,
}

impl Piped {
    /// The next `len` bytes of `pipe` that no other segment has.
    #[must_use]
    pub fn new(pipe: Arc<LentPipe>, len: u64) -> Self {
        Piped { pipe, len }
    }
}

impl<F> Segment<F> {
    /// A segment of memory that comes back from [`crate::Socket::released`]:
    /// [`Bytes`], `Vec<u8>`, `&'static [u8]`, and what else turns into
    /// [`Bytes`]. For an `Arc<[u8]>` there is [`Segment::shared`].
    ///
    /// A buffer that nobody asks back stays with the socket until the socket
    /// is dropped, and counts in its bound of segments: where it is not wanted,
    /// use [`Segment::given`].
    #[must_use]
    pub fn memory(bytes: impl Into<Bytes>) -> Self {
        Segment::Lent(bytes.into())
    }

    /// A segment of memory that is given away.
    #[must_use]
    pub fn given(bytes: impl Into<Bytes>) -> Self {
        Segment::Memory(bytes.into())
    }

    /// As [`Segment::memory`], for memory that others hold too.
    #[must_use]
    pub fn shared(bytes: Arc<[u8]>) -> Self {
        Segment::Lent(Bytes::from_owner(bytes))
    }

    /// A segment of a file; offsets in bytes.
    #[must_use]
    pub fn range(file: F, range: Range<u64>) -> Self {
        Segment::File(FileRange::new(file, range))
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Segment::Memory(bytes) | Segment::Lent(bytes) => bytes.len() as u64,
            Segment::File(range) => range.len(),
            Segment::Region(region) => region.len() as u64,
            Segment::Piped(piped) => piped.len,
        }
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Segment {
    /// The bytes `range` of an open file; offsets in bytes.
    #[must_use]
    pub fn file(file: &Arc<File>, range: Range<u64>) -> Self {
        Segment::range(Arc::clone(file), range)
    }
}

/// Given away: who wants it back says [`Segment::memory`].
impl<F> From<Bytes> for Segment<F> {
    fn from(bytes: Bytes) -> Self {
        Segment::given(bytes)
    }
}

/// Given away: who wants it back says [`Segment::memory`].
impl<F> From<Vec<u8>> for Segment<F> {
    fn from(bytes: Vec<u8>) -> Self {
        Segment::given(bytes)
    }
}

/// Given away: who wants to know when it is free says [`Segment::shared`].
impl<F> From<Arc<[u8]>> for Segment<F> {
    fn from(bytes: Arc<[u8]>) -> Self {
        Segment::given(Bytes::from_owner(bytes))
    }
}

impl<F> From<Piped> for Segment<F> {
    fn from(piped: Piped) -> Self {
        Segment::Piped(piped)
    }
}

impl<F> From<Region> for Segment<F> {
    fn from(region: Region) -> Self {
        Segment::Region(region)
    }
}
