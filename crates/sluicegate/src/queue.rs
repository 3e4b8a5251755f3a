//! What a socket still has to send, and what to do next about it.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Buf, Bytes};
use sluicegate_sys::file::Stamp;
use thiserror::Error;

use crate::position::Position;
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

/// The queue holds as many segments as it may. Nothing was queued; try again
/// when some of it has been accepted.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("the send queue is full: {limit} segments wait to be accepted")]
pub struct QueueFull {
    /// Segments that it may hold.
    pub limit: usize,
}

#[derive(Debug)]
enum Part<F> {
    Memory(Bytes),
    File { range: FileRange<F>, way: Way },
}

/// What to do next.
#[derive(Debug)]
pub enum Transmit<'q, F> {
    /// Send the slices of [`SendQueue::slices`], in order, and report the
    /// count by [`SendQueue::handle_accepted`].
    Send {
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
        SendQueue { parts: VecDeque::new(), accepted, end: accepted, piped: 0, limit }
    }

    /// Begins anew with nothing queued, on a stream of which `accepted` is
    /// accepted already. Keeps its memory.
    pub(crate) fn restart(&mut self, accepted: Position) {
        self.parts.clear();
        (self.accepted, self.end, self.piped) = (accepted, accepted, 0);
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

    /// Queues `segment`, which goes by `way` if it is a file; memory is copied.
    /// Takes the same time for one byte and for 4 GiB. Returns the position
    /// at which the segment ends.
    ///
    /// # Errors
    /// [`QueueFull`] when the limit of segments is reached; an empty segment
    /// needs no room.
    pub fn push(&mut self, segment: Segment<F>, way: Way) -> Result<Position, QueueFull> {
        let len = segment.len();
        if len == 0 {
            return Ok(self.end);
        }
        if self.parts.len() >= self.limit {
            return Err(QueueFull { limit: self.limit });
        }
        self.parts.push_back(match segment {
            Segment::Memory(bytes) => Part::Memory(bytes),
            Segment::File(range) => Part::File { range, way },
        });
        self.end = self.end.advanced(len);
        Ok(self.end)
    }

    /// Tells that something will be pushed behind the last segment. A file of
    /// up to `copy_up_to` bytes that was to go by `sendfile` is then copied, and
    /// leaves in one send with what stands around it: `sendfile` cannot say
    /// that more follows, and what follows would be a packet of its own.
    pub fn announce_more(&mut self, copy_up_to: u64) {
        if let Some(Part::File { range, way: way @ Way::Sendfile }) = self.parts.back_mut()
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
            Part::File { range, way } => Some(self.transmit_file(range, *way)),
            Part::Memory(_) => {
                let (slices, bytes) = self.run();
                // A file that is copied joins the memory before it in one
                // send: read its first piece now.
                if let Some(Part::File { range, way: Way::Copy }) = self.parts.get(slices)
                    && slices < SLICES
                    && bytes < STAGE
                {
                    return Some(Self::stage(range, STAGE - bytes));
                }
                Some(Transmit::Send { more: slices < self.parts.len() })
            }
        }
    }

    fn transmit_file<'q>(&self, range: &'q FileRange<F>, way: Way) -> Transmit<'q, F> {
        let len = usize::try_from(range.len().min(CALL)).unwrap_or(usize::MAX);
        let (file, offset) = (&range.file, range.range.start);
        match way {
            Way::Copy => Self::stage(range, STAGE),
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

    /// Memory parts at the front that one send takes, and their bytes.
    fn run(&self) -> (usize, usize) {
        let mut bytes = 0;
        for (count, part) in self.parts.iter().enumerate() {
            match part {
                Part::Memory(memory) if count < SLICES => bytes += memory.len(),
                _ => return (count, bytes),
            }
        }
        (self.parts.len(), bytes)
    }

    /// The memory at the front that goes into one send, in order: at least one
    /// slice when [`SendQueue::poll_transmit`] says [`Transmit::Send`].
    pub fn slices(&self) -> impl Iterator<Item = &[u8]> {
        self.parts.iter().take(SLICES).map_while(|part| match part {
            Part::Memory(bytes) => Some(&bytes[..]),
            Part::File { .. } => None,
        })
    }

    /// The kernel accepted `count` bytes from the front. More than are queued
    /// count as all of them.
    pub fn handle_accepted(&mut self, count: u64) {
        let mut left = count.min(self.end.since(self.accepted));
        self.accepted = self.accepted.advanced(left);
        self.piped = self.piped.saturating_sub(left);
        while left > 0 {
            let Some(front) = self.parts.front_mut() else {
                return;
            };
            let taken = match front {
                Part::Memory(bytes) => {
                    let taken = left.min(bytes.len() as u64);
                    // Bounded by the length above, so it fits.
                    bytes.advance(usize::try_from(taken).unwrap_or(bytes.len()));
                    if bytes.is_empty() {
                        self.parts.pop_front();
                    }
                    taken
                }
                Part::File { range, .. } => {
                    let taken = left.min(range.len());
                    range.range.start += taken;
                    if range.is_empty() {
                        self.parts.pop_front();
                    }
                    taken
                }
            };
            left -= taken;
        }
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
            self.parts[at] = Part::Memory(bytes);
        } else {
            self.parts.insert(at, Part::Memory(bytes));
        }
    }

    /// The way of the front file does not work here (no pipe to be had, a file
    /// system without splice): it falls back to the next. False when there is
    /// none left.
    pub fn handle_refused(&mut self) -> bool {
        match self.parts.front_mut() {
            Some(Part::File { way, .. }) if self.piped == 0 => match way.fallback() {
                Some(next) => {
                    *way = next;
                    true
                }
                None => false,
            },
            _ => false,
        }
    }

    /// Takes back what the kernel has not accepted; the stream ends where the
    /// kernel has it. What was in a pipe is the caller's to discard.
    pub fn cancel(&mut self) -> Position {
        self.parts.clear();
        self.piped = 0;
        self.end = self.accepted;
        self.accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(parts: Vec<(Segment<u8>, Way)>) -> SendQueue<u8> {
        let mut queue = SendQueue::new(Position::START);
        for (segment, way) in parts {
            queue.push(segment, way).unwrap();
        }
        queue
    }

    fn memory(len: usize) -> (Segment<u8>, Way) {
        (Segment::memory(vec![0; len]), Way::Copy)
    }

    fn file(len: u64, way: Way) -> (Segment<u8>, Way) {
        (Segment::range(1, 0..len), way)
    }

    #[test]
    fn a_head_says_more_exactly_when_a_body_follows() {
        let queue_both = queue(vec![memory(10), file(1 << 20, Way::Sendfile)]);
        assert!(matches!(queue_both.poll_transmit(), Some(Transmit::Send { more: true })));
        let alone = queue(vec![memory(10)]);
        assert!(matches!(alone.poll_transmit(), Some(Transmit::Send { more: false })));
    }

    #[test]
    fn a_copied_file_joins_the_head_in_one_send() {
        let mut queue = queue(vec![memory(10), file(100, Way::Copy)]);
        let Some(Transmit::Stage { offset: 0, len: 100, .. }) = queue.poll_transmit() else {
            panic!("{:?}", queue.poll_transmit());
        };
        queue.handle_staged(Bytes::from(vec![1; 100]));
        assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: false })));
        assert_eq!(queue.slices().map(<[u8]>::len).collect::<Vec<_>>(), [10, 100]);
        queue.handle_accepted(110);
        assert!(queue.poll_transmit().is_none());
        assert!(queue.is_empty());
    }

    #[test]
    fn what_is_in_the_pipe_is_drained_before_anything_else() {
        let mut queue = queue(vec![file(1000, Way::Splice), memory(5)]);
        assert!(matches!(queue.poll_transmit(), Some(Transmit::Fill { offset: 0, .. })));
        queue.handle_piped(600);
        assert!(matches!(
            queue.poll_transmit(),
            Some(Transmit::Drain { len: 600, more: true, .. })
        ));
        queue.handle_accepted(250);
        assert!(matches!(
            queue.poll_transmit(),
            Some(Transmit::Drain { len: 350, more: true, .. })
        ));
        assert!(!queue.handle_refused(), "bytes in the pipe cannot change their way");
        queue.handle_accepted(350);
        assert!(matches!(
            queue.poll_transmit(),
            Some(Transmit::Fill { offset: 600, len: 400, .. })
        ));
    }

    #[test]
    fn a_file_with_a_tail_behind_it_leaves_with_it() {
        let mut queue = queue(vec![memory(10), file(60_000, Way::Sendfile)]);
        assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: true })));
        queue.announce_more(50_000);
        assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: true })), "too long");
        queue.announce_more(60_000);
        queue.push(Segment::memory("tail"), Way::Copy).unwrap();
        assert!(matches!(queue.poll_transmit(), Some(Transmit::Stage { len: 60_000, .. })));
        queue.handle_staged(Bytes::from(vec![1; 60_000]));
        assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: false })));
        assert_eq!(queue.slices().map(<[u8]>::len).collect::<Vec<_>>(), [10, 60_000, 4]);
    }

    #[test]
    fn a_refused_way_falls_back_until_the_copy() {
        let mut queue = queue(vec![file(1000, Way::Splice)]);
        assert!(queue.handle_refused());
        assert!(matches!(queue.poll_transmit(), Some(Transmit::Sendfile { .. })));
        assert!(queue.handle_refused());
        assert!(matches!(queue.poll_transmit(), Some(Transmit::Stage { .. })));
        assert!(!queue.handle_refused());
    }

    #[test]
    fn the_bound_is_in_segments_and_refuses_without_loss() {
        let mut queue: SendQueue<u8> = SendQueue::with_limit(Position::START, 2);
        queue.push(Segment::range(1, 0..(4 << 30)), Way::Sendfile).unwrap();
        let end = queue.push(Segment::memory("tail"), Way::Copy).unwrap();
        assert_eq!(end.get(), (4 << 30) + 4);
        let full = queue.push(Segment::memory("x"), Way::Copy).unwrap_err();
        assert_eq!(full, QueueFull { limit: 2 });
        assert_eq!(queue.push(Segment::memory(""), Way::Copy), Ok(end), "nothing needs no room");
        assert_eq!(queue.end(), end);
    }

    #[test]
    fn cancelling_takes_back_what_was_not_accepted() {
        let mut queue = queue(vec![memory(10), memory(10)]);
        queue.handle_accepted(4);
        assert_eq!(queue.cancel().get(), 4);
        assert_eq!((queue.end().get(), queue.is_empty()), (4, true));
    }
}
