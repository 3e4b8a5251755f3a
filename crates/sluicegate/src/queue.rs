//! What a socket still has to send, and what to do next about it.

mod piped;
mod regions;

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use sluicegate_sys::file::Stamp;
use thiserror::Error;

pub use regions::{Acks, RegionWay, SentRegion};

use crate::pipes::LentPipe;
use crate::position::Position;
use crate::ring::RegionUse;
use crate::segment::{FileRange, Segment};
use crate::strategy::Way;

/// Segments that a queue holds at most, unless it is told otherwise. A
/// pipelining client that does not read is bounded by it.
pub(crate) const SEGMENTS: usize = 1024;

/// Slices gathered into one send call. Far below `IOV_MAX` (1024); more than
/// this many small pieces in a row are rare, and the array lives on the stack.
pub(crate) const SLICES: usize = 16;

/// Bytes of a file that are read into memory at a time when it is copied: the
/// largest send that still fits the second-level cache twice.
const STAGE: usize = 128 * 1024;

/// Bytes that one call is asked to move at most, so that one connection's turn
/// on a worker stays below a millisecond.
const CALL: u64 = 2 * 1024 * 1024;

/// Bytes that one call hands over by reference at most: the kernel counts a
/// call's whole length against the memory that the user may pin
/// (`RLIMIT_MEMLOCK`), also when the socket takes less of it.
const REFERENCES: u64 = 1024 * 1024;

/// Below this a call by reference is not worth what it costs.
const LEAST_REFERENCES: u64 = 32 * 1024;

/// Bytes of the call that asks the kernel whether references are kept: less
/// than a packet, so that hardly anything is pinned for a peer on this host.
const PROBE: u64 = 1024;

/// Whether memory may go by reference now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// No: it is copied.
    #[default]
    Closed,
    /// The next call may, with few bytes, to learn how it ends; then it closes.
    Probe,
    /// Yes.
    Open,
}

/// Bytes of a file that go into a pipe first, and after that as many as have
/// left already, until the pipe is full: nothing leaves while it is filled. A
/// whole pipe at once made a file of 1 MiB over veth take 1.6 times as long as
/// by `sendfile`, though it costs less CPU (bench `figure2`).
const FIRST_FILL: u64 = 128 * 1024;

/// Why a segment was not queued.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum QueueError {
    /// The queue holds as many segments as it may; try again when some of it
    /// has been accepted.
    #[error("the send queue is full: {limit} segments wait to be accepted, or to be asked back")]
    Full {
        /// Segments that it may hold.
        limit: usize,
    },
    /// The region was leased for another connection, whose wire may still carry
    /// what the same memory had before.
    #[error("the region was leased for another connection")]
    OtherConnection,
}

#[derive(Debug)]
enum Part<F> {
    Memory {
        bytes: Bytes,
        way: Way,
    },
    /// `sent`: bytes of it that were accepted.
    File {
        range: FileRange<F>,
        way: Way,
        sent: u64,
    },
    /// `left`: bytes of it that were not accepted.
    Region {
        used: RegionUse,
        way: RegionWay,
        left: u64,
    },
    /// `left`: bytes of it that were not accepted.
    Piped {
        pipe: Arc<LentPipe>,
        left: u64,
    },
}

/// What to do next.
#[derive(Debug)]
pub enum Transmit<'q, F> {
    /// Send the slices of [`SendQueue::slices`], in order, and report the
    /// count by [`SendQueue::handle_accepted`].
    Send {
        /// By reference, not by copying.
        by_reference: bool,
        /// Others follow at once.
        more: bool,
    },
    /// Send from the region at the front ([`SendQueue::hold_region`]), then
    /// [`SendQueue::handle_accepted`].
    Region {
        /// Which way: [`Way::Copy`], [`Way::Sendfile`] or [`Way::Zerocopy`].
        way: Way,
        /// At most how many bytes.
        len: usize,
        /// Others follow at once.
        more: bool,
    },
    /// Splice from this pipe into the socket, then [`SendQueue::handle_accepted`].
    Piped {
        /// The pipe, with at least so many bytes in it.
        pipe: &'q LentPipe,
        /// At most how many bytes.
        len: usize,
        /// Others follow at once.
        more: bool,
    },
    /// Read from the file and hand the bytes to [`SendQueue::handle_staged`].
    Stage {
        /// The file.
        file: &'q F,
        /// What it must still be after the read.
        version: Option<&'q Stamp>,
        /// From where, in bytes.
        offset: u64,
        /// At most how many bytes.
        len: usize,
    },
    /// `sendfile`, then [`SendQueue::handle_accepted`].
    Sendfile {
        /// The file.
        file: &'q F,
        /// What it must still be before the call.
        version: Option<&'q Stamp>,
        /// From where, in bytes.
        offset: u64,
        /// At most how many bytes.
        len: usize,
    },
    /// Splice from the file into the pipe, then [`SendQueue::handle_piped`].
    Fill {
        /// The file.
        file: &'q F,
        /// From where, in bytes.
        offset: u64,
        /// At most how many bytes.
        len: usize,
    },
    /// Splice from the pipe into the socket, then [`SendQueue::handle_accepted`].
    Drain {
        /// The file that is in the pipe.
        file: &'q F,
        /// What it must still be before the call.
        version: Option<&'q Stamp>,
        /// Where the pipe's first byte is in the file, in bytes.
        offset: u64,
        /// At most how many bytes.
        len: usize,
        /// Others follow at once.
        more: bool,
    },
}

/// The segments that wait for a socket, as a pure state machine.
///
/// ```text
///            accepted        piped            end
///   ────────────┼──────────────┼───────────────┼──▶ stream
///    the kernel │  in the pipe │  still ours   │
///    has them   │ (front file) │               │
/// ```
/// Invariant: `accepted ≤ accepted + piped ≤ end`.
#[derive(Debug)]
pub struct SendQueue<F = Arc<std::fs::File>> {
    parts: VecDeque<Part<F>>,
    accepted: Position,
    end: Position,
    /// Bytes of the front part, a file, that are in the pipe.
    piped: u64,
    limit: usize,
    gate: Gate,
    acks: Acks,
    /// Regions that were accepted, and have no proof yet.
    sent: VecDeque<SentRegion>,
    /// Bytes to be copied before references are tried again.
    copy_first: u64,
    /// Bytes of one call by reference, at most.
    references: u64,
}

impl<F> SendQueue<F> {
    /// An empty queue on a stream of which `accepted` is accepted already.
    #[must_use]
    pub fn new(accepted: Position) -> Self {
        Self::with_limit(accepted, SEGMENTS)
    }

    /// As [`SendQueue::new`], for at most `limit` segments.
    #[must_use]
    pub fn with_limit(accepted: Position, limit: usize) -> Self {
        SendQueue {
            parts: VecDeque::new(),
            accepted,
            end: accepted,
            piped: 0,
            limit,
            gate: Gate::Closed,
            acks: Acks::Nothing,
            sent: VecDeque::new(),
            copy_first: 0,
            references: REFERENCES,
        }
    }

    /// Begins anew with nothing queued, on a stream of which `accepted` is
    /// accepted already. Keeps its memory.
    pub(crate) fn restart(&mut self, accepted: Position) {
        self.parts.clear();
        (self.accepted, self.end, self.piped) = (accepted, accepted, 0);
        (self.gate, self.copy_first, self.references) = (Gate::Closed, 0, REFERENCES);
        self.acks = Acks::Nothing;
        self.sent.clear();
    }

    /// Segments that it has memory for.
    pub(crate) fn capacity(&self) -> usize {
        self.parts.capacity()
    }

    /// Where the last accepted byte ends.
    #[must_use]
    pub fn accepted(&self) -> Position {
        self.accepted
    }

    /// Where the last queued byte ends.
    #[must_use]
    pub fn end(&self) -> Position {
        self.end
    }

    /// Segments that can still be pushed.
    #[must_use]
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.parts.len())
    }

    /// Whether everything queued has been accepted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty()
    }

    /// Says whether memory may go by reference from now on. A queue begins
    /// closed.
    pub fn set_gate(&mut self, gate: Gate) {
        self.gate = gate;
    }

    /// Queues `segment`, which goes by `way` if that is one for it; other memory
    /// is copied. A region goes by copies, if it was leased for nobody in
    /// particular; for other ways there is [`SendQueue::push_region`]. Takes the
    /// same time for one byte and for 4 GiB. Returns the position at which the
    /// segment ends.
    ///
    /// # Errors
    /// [`QueueError`]; an empty segment needs no room.
    pub fn push(&mut self, segment: Segment<F>, way: Way) -> Result<Position, QueueError> {
        let len = segment.len();
        if len == 0 {
            return Ok(self.end);
        }
        if let Segment::Piped(piped) = &segment
            && let Some(Part::Piped { pipe, left }) = self.parts.back_mut()
            && Arc::ptr_eq(pipe, &piped.pipe)
        {
            // Behind what is in the same pipe already: one call takes both.
            *left += len;
            self.end = self.end.advanced(len);
            return Ok(self.end);
        }
        if self.parts.len() >= self.limit {
            return Err(QueueError::Full { limit: self.limit });
        }
        self.parts.push_back(match segment {
            Segment::Memory(bytes) | Segment::Lent(bytes) => Part::Memory { bytes, way },
            Segment::File(range) => Part::File { range, way, sent: 0 },
            Segment::Region(region) => {
                let (used, _) = region.enlist(None, None).ok_or(QueueError::OtherConnection)?;
                Part::Region { used, way: RegionWay::Copied, left: len }
            }
            Segment::Piped(piped) => Part::Piped { pipe: piped.pipe, left: len },
        });
        self.end = self.end.advanced(len);
        Ok(self.end)
    }

    /// Tells that something will be pushed behind the last segment. A file of
    /// up to `copy_up_to` bytes that was to go by `sendfile` is then copied, and
    /// leaves in one send with what stands around it: `sendfile` cannot say
    /// that more follows, and what follows would be a packet of its own.
    pub fn announce_more(&mut self, copy_up_to: u64) {
        if let Some(Part::File { range, way: way @ Way::Sendfile, .. }) = self.parts.back_mut()
            && range.len() <= copy_up_to
        {
            *way = Way::Copy;
        }
    }

    /// What to do next; `None` when everything has been accepted.
    #[must_use]
    pub fn poll_transmit(&self) -> Option<Transmit<'_, F>> {
        match self.parts.front()? {
            Part::File { range, .. } if self.piped > 0 => Some(Transmit::Drain {
                file: &range.file,
                version: range.version.as_deref(),
                offset: range.range.start,
                len: usize::try_from(self.piped).unwrap_or(usize::MAX),
                more: self.accepted.advanced(self.piped) < self.end,
            }),
            Part::File { range, way, sent } => Some(self.transmit_file(range, *way, *sent)),
            Part::Region { used, way, left } => Some(self.transmit_region(used, *way, *left)),
            Part::Piped { pipe, left } => {
                let len = (*left).min(CALL);
                // Of the last bytes of all the kernel must not be told that others
                // follow: it would keep them back for 200 ms.
                let more = self.accepted.advanced(len) < self.end;
                Some(Transmit::Piped {
                    pipe,
                    len: usize::try_from(len).unwrap_or(usize::MAX),
                    more,
                })
            }
            Part::Memory { way, .. } => {
                let by_reference = self.goes_by_reference(*way);
                let (slices, bytes) = self.run();
                let is_cut = bytes as u64 > self.room_of_send();
                // A file that is copied joins the memory before it in one
                // send: read its first piece now.
                if let Some(Part::File { range, way: Way::Copy, .. }) = self.parts.get(slices)
                    && slices < SLICES
                    && bytes < STAGE
                    && !by_reference
                    && !is_cut
                {
                    return Some(Self::stage(range, STAGE - bytes));
                }
                let more = is_cut || slices < self.parts.len();
                Some(Transmit::Send { by_reference, more })
            }
        }
    }

    fn goes_by_reference(&self, way: Way) -> bool {
        way == Way::Zerocopy && self.gate != Gate::Closed && self.copy_first == 0
    }

    /// Bytes of the memory at the front that one send takes at most.
    fn room_of_send(&self) -> u64 {
        match (self.parts.front(), self.gate) {
            (Some(Part::Memory { way: Way::Zerocopy, .. }), _) if self.copy_first > 0 => {
                self.copy_first
            }
            (Some(Part::Memory { way: Way::Zerocopy, .. }), Gate::Probe) => PROBE,
            (Some(Part::Memory { way: Way::Zerocopy, .. }), Gate::Open) => self.references,
            _ => u64::MAX,
        }
    }

    fn transmit_file<'q>(&self, range: &'q FileRange<F>, way: Way, sent: u64) -> Transmit<'q, F> {
        let most = if way == Way::Splice { sent.clamp(FIRST_FILL, CALL) } else { CALL };
        let len = usize::try_from(range.len().min(most)).unwrap_or(usize::MAX);
        let (file, offset) = (&range.file, range.range.start);
        match way {
            // References to memory are no way for a file.
            Way::Copy | Way::Zerocopy => Self::stage(range, STAGE),
            Way::Sendfile => {
                Transmit::Sendfile { file, version: range.version.as_deref(), offset, len }
            }
            Way::Splice => Transmit::Fill { file, offset, len },
        }
    }

    fn stage(range: &FileRange<F>, room: usize) -> Transmit<'_, F> {
        let len = usize::try_from(range.len()).unwrap_or(usize::MAX).min(room);
        let version = range.version.as_deref();
        Transmit::Stage { file: &range.file, version, offset: range.range.start, len }
    }

    /// Memory parts at the front that go alike, as many as one send takes, and
    /// their bytes.
    fn run(&self) -> (usize, usize) {
        let mut bytes = 0;
        let mut first = None;
        for (count, part) in self.parts.iter().enumerate() {
            match part {
                Part::Memory { bytes: memory, way } if count < SLICES => {
                    let by_reference = self.goes_by_reference(*way);
                    if *first.get_or_insert(by_reference) != by_reference {
                        return (count, bytes);
                    }
                    bytes += memory.len();
                }
                _ => return (count, bytes),
            }
        }
        (self.parts.len(), bytes)
    }

    /// The memory at the front that goes into one send, in order: at least one
    /// slice when [`SendQueue::poll_transmit`] says [`Transmit::Send`].
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        let mut room = usize::try_from(self.room_of_send()).unwrap_or(usize::MAX);
        let mut first = None;
        self.parts.iter().take(SLICES).map_while(move |part| match part {
            Part::Memory { bytes, way } if room > 0 => {
                let by_reference = self.goes_by_reference(*way);
                if *first.get_or_insert(by_reference) != by_reference {
                    return None;
                }
                let slice = &bytes[..bytes.len().min(room)];
                room -= slice.len();
                Some(slice)
            }
            _ => None,
        })
    }

    /// The kernel accepted `count` bytes from the front. More than are queued
    /// count as all of them.
    pub fn handle_accepted(&mut self, count: u64) {
        let mut left = count.min(self.end.since(self.accepted));
        self.accepted = self.accepted.advanced(left);
        self.piped = self.piped.saturating_sub(left);
        match self.parts.front() {
            Some(Part::Memory { way: Way::Zerocopy, .. })
                if self.goes_by_reference(Way::Zerocopy) =>
            {
                if self.gate == Gate::Probe {
                    self.gate = Gate::Closed;
                } else {
                    // What was too much may no longer be.
                    self.references = (self.references + REFERENCES / 64).min(REFERENCES);
                }
            }
            Some(Part::Region { .. }) => self.handle_asked(),
            _ => {}
        }
        self.copy_first = self.copy_first.saturating_sub(left);
        while left > 0 {
            let Some(front) = self.parts.front_mut() else {
                return;
            };
            let taken = match front {
                Part::Memory { bytes, .. } => {
                    let taken = left.min(bytes.len() as u64);
                    // Bounded by the length above, so it fits.
                    bytes.advance(usize::try_from(taken).unwrap_or(bytes.len()));
                    if bytes.is_empty() {
                        self.parts.pop_front();
                    }
                    taken
                }
                Part::File { range, sent, .. } => {
                    let taken = left.min(range.len());
                    range.range.start += taken;
                    *sent += taken;
                    if range.is_empty() {
                        self.parts.pop_front();
                    }
                    taken
                }
                Part::Region { left: rest, .. } => {
                    let taken = left.min(*rest);
                    *rest -= taken;
                    if *rest == 0 {
                        self.send_off(self.accepted);
                    }
                    taken
                }
                Part::Piped { left: rest, .. } => {
                    let taken = left.min(*rest);
                    *rest -= taken;
                    if *rest == 0 {
                        self.parts.pop_front();
                    }
                    taken
                }
            };
            left -= taken;
        }
    }

    /// Somebody else sent `count` bytes on this stream. Only while nothing is
    /// queued, since they stand before all that is.
    pub(crate) fn handle_foreign(&mut self, count: u64) {
        self.accepted = self.accepted.advanced(count);
        self.end = self.end.advanced(count);
    }

    /// `count` bytes of the front file, as [`Transmit::Fill`] asked, are in the
    /// pipe.
    pub fn handle_piped(&mut self, count: u64) {
        if let Some(Part::File { range, .. }) = self.parts.front() {
            self.piped = self.piped.saturating_add(count).min(range.len());
        }
    }

    /// The bytes that [`Transmit::Stage`] asked for, or the first of them.
    /// They take the place of that part of the file.
    pub fn handle_staged(&mut self, mut bytes: Bytes) {
        let Some(at) = self.parts.iter().position(|part| matches!(part, Part::File { .. })) else {
            return;
        };
        let Some(Part::File { range, .. }) = self.parts.get_mut(at) else {
            return;
        };
        bytes.truncate(usize::try_from(range.len()).unwrap_or(usize::MAX));
        range.range.start += bytes.len() as u64;
        let whole = range.is_empty();
        if bytes.is_empty() {
            return;
        }
        if whole {
            self.parts[at] = Part::Memory { bytes, way: Way::Copy };
        } else {
            self.parts.insert(at, Part::Memory { bytes, way: Way::Copy });
        }
    }

    /// Another reference is one too many for the kernel at the moment: the next
    /// bytes are copied, then references are tried again, by smaller calls: the
    /// user may be allowed to pin less than one of them had (64 KiB in some
    /// containers).
    pub fn handle_no_buffers(&mut self) {
        self.copy_first = STAGE as u64;
        self.references = (self.references / 2).max(LEAST_REFERENCES);
    }

    /// The way of the front segment does not work here (no pipe to be had, a
    /// file system without splice, a socket that takes no references): it
    /// falls back to the next. False when there is none left.
    pub fn handle_refused(&mut self) -> bool {
        match self.parts.front_mut() {
            Some(Part::Region { way, .. }) => {
                let is_last = *way == RegionWay::Copied;
                *way = RegionWay::Copied;
                !is_last
            }
            Some(Part::File { way, .. } | Part::Memory { way, .. }) if self.piped == 0 => {
                match way.fallback() {
                    Some(next) => {
                        *way = next;
                        true
                    }
                    None => false,
                }
            }
            _ => false,
        }
    }

    /// Takes back what the kernel has not accepted; the stream ends where the
    /// kernel has it. What was in a pipe is the caller's to discard.
    pub fn cancel(&mut self) -> Position {
        if let Some(Part::Region { .. }) = self.parts.front() {
            // The kernel may have the first bytes of it.
            self.send_off(self.accepted);
        }
        self.parts.clear();
        self.piped = 0;
        self.end = self.accepted;
        self.accepted
    }
}

#[cfg(test)]
mod tests;
