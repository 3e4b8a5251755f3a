//! Where the bytes of a spool are.

use std::cell::Cell;
use std::sync::Arc;

use bytes::Bytes;

use crate::pipes::LentPipe;
use crate::ring::Lease;
use crate::segment::{Piped, Segment};

/// What holds a stretch of bytes.
#[derive(Debug, Default)]
pub(super) enum Holder {
    Pipe(Arc<LentPipe>),
    /// Bytes are being received into it.
    Buffer(Vec<u8>),
    /// They are complete.
    Bytes(Bytes),
    /// Bytes are being written to it.
    Lease(Lease),
    /// The sink has them.
    #[default]
    Nothing,
}

impl Holder {
    /// Gives away the next `count` bytes, which are the last of the `filled` ones.
    pub(super) fn give(&mut self, count: u64, filled: u64) -> Option<Segment> {
        let (segment, left) = match std::mem::take(self) {
            Holder::Pipe(pipe) => {
                (Segment::Piped(Piped::new(Arc::clone(&pipe), count)), Holder::Pipe(pipe))
            }
            Holder::Bytes(bytes) => (Segment::Memory(bytes.clone()), Holder::Bytes(bytes)),
            Holder::Buffer(buffer) => {
                let bytes = Bytes::from(buffer);
                (Segment::Memory(bytes.clone()), Holder::Bytes(bytes))
            }
            Holder::Lease(lease) => {
                let filled = usize::try_from(filled).unwrap_or(usize::MAX);
                (Segment::Region(lease.publish(filled)), Holder::Nothing)
            }
            Holder::Nothing => return None,
        };
        *self = left;
        Some(segment)
    }
}

/// Bytes that are received by one call at most, where they are copied. Relaying in
/// pieces of 16 KiB costs half as much again (docs/kernel.md).
const PIECE: usize = 256 * 1024;

thread_local! {
    /// The last buffer of this thread that nobody needs any more.
    static SPARE: Cell<Option<Vec<u8>>> = const { Cell::new(None) };
}

/// A buffer with room for about `len` bytes, if that is not too much.
pub(super) fn take_buffer(len: u64) -> Vec<u8> {
    let len = usize::try_from(len).unwrap_or(PIECE).min(PIECE);
    // A thread that is ending has none left.
    match SPARE.try_with(Cell::take).ok().flatten() {
        // One that is far too large would hold what nobody counts.
        Some(spare) if (len / 2..=2 * len).contains(&spare.capacity()) => spare,
        _ => Vec::with_capacity(len),
    }
}

/// The bytes of `holder` are sent.
pub(super) fn give_back(holder: Holder) {
    let mut buffer = match holder {
        Holder::Bytes(bytes) => match bytes.try_into_mut() {
            Ok(bytes) => Vec::from(bytes),
            // Somebody still has them.
            Err(_) => return,
        },
        Holder::Buffer(buffer) => buffer,
        Holder::Pipe(_) | Holder::Lease(_) | Holder::Nothing => return,
    };
    buffer.clear();
    let _ = SPARE.try_with(|spare| spare.set(Some(buffer)));
}
