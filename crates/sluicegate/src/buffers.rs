//! Memory that a socket holds for the kernel: lent until it is released.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ledger::Ledger;
use crate::position::Position;

/// The buffers of a socket that must not change or go yet, and those that are
/// to be handed back. Pure.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    held: VecDeque<Held>,
}

#[derive(Debug)]
struct Held {
    /// Where the segment was to end: its name.
    end: Position,
    /// The part of the stream that the kernel may have it for.
    from: Position,
    until: Position,
    bytes: Bytes,
    /// Somebody will ask for it.
    comes_back: bool,
    /// It was told that it is free.
    is_told: bool,
}

impl Buffers {
    /// Holds the memory of the segment that is the stream from `from` to `end`.
    pub(crate) fn hold(&mut self, from: Position, end: Position, bytes: Bytes, comes_back: bool) {
        self.held.push_back(Held { end, from, until: end, bytes, comes_back, is_told: false });
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// Nothing behind `accepted` will be sent any more.
    pub(crate) fn handle_cancelled(&mut self, accepted: Position) {
        for held in &mut self.held {
            held.until = held.until.min(accepted);
            held.from = held.from.min(held.until);
        }
    }

    /// Drops those that were given away and are free.
    pub(crate) fn sweep(&mut self, ledger: &Ledger) {
        self.held.retain(|held| held.comes_back || !held.is_free(ledger));
    }

    /// Whether a buffer was lent as the segment that ends at `end`.
    pub(crate) fn has(&self, end: Position) -> bool {
        self.find(end).is_some()
    }

    /// The buffer of the segment that ends at `end`, once it is free.
    pub(crate) fn take(&mut self, end: Position, ledger: &Ledger) -> Option<Bytes> {
        let at = self.find(end)?;
        if !self.held.get(at)?.is_free(ledger) {
            return None;
        }
        self.held.remove(at).map(|held| held.bytes)
    }

    /// Tells the ends of those that are free to be taken, each once.
    pub(crate) fn tell_free(&mut self, ledger: &Ledger, mut each: impl FnMut(Position)) {
        for held in &mut self.held {
            if held.comes_back && !held.is_told && held.is_free(ledger) {
                held.is_told = true;
                each(held.end);
            }
        }
    }

    fn find(&self, end: Position) -> Option<usize> {
        self.held.iter().position(|held| held.end == end && held.comes_back)
    }

    /// Those that the kernel may still read.
    pub(crate) fn into_referenced(self, ledger: &Ledger) -> Vec<Bytes> {
        let open = self.held.into_iter().filter(|held| !ledger.is_released(held.from, held.until));
        open.map(|held| held.bytes).collect()
    }
}

impl Held {
    /// Accepted or taken back as a whole, and copied or released.
    fn is_free(&self, ledger: &Ledger) -> bool {
        ledger.accepted() >= self.until && ledger.is_released(self.from, self.until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::strategy::Way;

    #[test]
    fn a_buffer_is_free_when_it_is_accepted_and_copied_or_released() {
        let mut ledger = Ledger::new(Position::START);
        let mut buffers = Buffers::default();
        let [ten, twenty, thirty] = [10, 20, 30].map(Position::new);
        buffers.hold(Position::START, ten, Bytes::from_static(b"a"), true);
        buffers.hold(ten, twenty, Bytes::from_static(b"b"), true);
        buffers.hold(twenty, thirty, Bytes::from_static(b"c"), false);
        assert!(buffers.take(ten, &ledger).is_none(), "not accepted");
        ledger.handle_accepted(Way::Copy, 10);
        ledger.handle_accepted(Way::Zerocopy, 15);
        assert_eq!(buffers.take(ten, &ledger).unwrap(), "a");
        assert!(buffers.take(twenty, &ledger).is_none(), "not released");
        ledger.handle_released(0, 0, false);
        assert_eq!(buffers.take(twenty, &ledger).unwrap(), "b");
        buffers.sweep(&ledger);
        assert_eq!(buffers.len(), 1, "half of it is not accepted");
        buffers.handle_cancelled(ledger.accepted());
        buffers.sweep(&ledger);
        assert_eq!(buffers.len(), 0);
    }
}
