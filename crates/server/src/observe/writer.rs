//! A worker's end of the access log.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_http::Answered;

use super::access_log::{SPARE, Shared};
use super::format::{self, Clock};

/// Bytes of lines that are handed over at a time: a hundred lines or so, one
/// write.
pub(super) const PIECE: usize = 32 * 1024;

/// Room of a piece: the line that fills it fits too, if it is no giant.
const ROOM: usize = PIECE + 8 * 1024;

/// A piece that a giant line has made larger than this is not used again.
const KEPT: usize = 4 * ROOM;

/// Lines of one worker that nobody has taken yet.
#[derive(Debug)]
pub(super) struct Seat {
    lines: Mutex<Lines>,
}

#[derive(Debug)]
struct Lines {
    /// What is being filled.
    piece: Vec<u8>,
    /// What is full, in the order in which it was.
    full: Vec<Vec<u8>>,
    clock: Clock,
    /// The thread knows that there is something.
    announced: bool,
    /// Nobody fills it any more.
    left: bool,
    /// Nobody empties it any more.
    closed: bool,
}

/// A piece without lines.
pub(super) fn empty_piece() -> Vec<u8> {
    Vec::with_capacity(ROOM)
}

/// Whether a piece is worth being used again.
pub(super) fn is_kept(piece: &Vec<u8>) -> bool {
    (ROOM..=KEPT).contains(&piece.capacity())
}

impl Seat {
    /// A seat of which nobody takes anything if it is `closed`.
    pub(super) fn new(closed: bool) -> Self {
        Seat {
            lines: Mutex::new(Lines {
                piece: empty_piece(),
                full: Vec::with_capacity(SPARE),
                clock: Clock::default(),
                announced: false,
                left: false,
                closed,
            }),
        }
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands all lines to `take`, first those that were first. Returns whether
    /// more may come.
    pub(super) fn empty(&self, shared: &Shared, mut take: impl FnMut(Vec<u8>)) -> bool {
        let mut lines = self.lines();
        lines.announced = false;
        for piece in lines.full.drain(..) {
            take(piece);
        }
        if !lines.piece.is_empty() {
            let piece = std::mem::replace(&mut lines.piece, shared.spare_piece());
            shared.handed(piece.len());
            take(piece);
        }
        !lines.left
    }

    /// From now on lines are lost.
    pub(super) fn close(&self) {
        self.lines().closed = true;
    }
}

/// Writes the lines of one worker into its seat.
#[derive(Debug)]
pub(crate) struct Writer {
    shared: Arc<Shared>,
    seat: Arc<Seat>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, seat: Arc<Seat>) -> Self {
        Writer { shared, seat }
    }

    /// Adds the line of a request. Where there is no room for it, it is counted
    /// as lost: whoever is served does not wait for a log.
    pub(crate) fn log(&self, answered: &Answered<'_>) {
        let mut lines = self.seat.lines();
        if lines.closed || (lines.piece.len() >= PIECE && !self.turn_over(&mut lines)) {
            drop(lines);
            return self.shared.lose(1);
        }
        let Lines { piece, clock, announced, .. } = &mut *lines;
        format::render(self.shared.format(), piece, clock, answered);
        let is_full = piece.len() >= PIECE;
        let is_first = !std::mem::replace(announced, true);
        if is_full {
            self.turn_over(&mut lines);
        }
        drop(lines);
        if is_full || is_first {
            self.shared.announce(is_full);
        }
    }

    /// Begins a new piece, if there is room for one in the backlog.
    fn turn_over(&self, lines: &mut Lines) -> bool {
        if !self.shared.has_room() {
            return false;
        }
        let piece = std::mem::replace(&mut lines.piece, self.shared.spare_piece());
        self.shared.handed(piece.len());
        lines.full.push(piece);
        true
    }

    /// Has what was logged written now, and not a moment later.
    pub(crate) fn flush(&self) {
        let is_some = {
            let lines = self.seat.lines();
            !lines.piece.is_empty()
        };
        if is_some {
            self.shared.announce(true);
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.seat.lines().left = true;
        self.shared.announce(false);
    }
}
