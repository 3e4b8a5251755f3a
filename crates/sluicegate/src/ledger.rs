//! What became of the bytes that were accepted.

use std::collections::VecDeque;

use crate::counters::WayBytes;
use crate::position::Position;
use crate::strategy::Way;

/// How far a socket's stream has come. Always `acked ≤ accepted ≤ queued`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Where the last queued byte ends.
    pub queued: Position,
    /// Where the last byte that the kernel accepted ends.
    pub accepted: Position,
    /// Where the last byte that the peer's TCP acknowledged ends. Its TCP:
    /// that may be a load balancer's, and says nothing of the application.
    pub acked: Position,
}

/// Accounts for accepted bytes: by which way they went, how far the peer has
/// acknowledged them, and which memory the kernel still refers to. Pure: it is
/// told, it never asks.
#[derive(Debug)]
pub struct Ledger {
    accepted: Position,
    acked: Position,
    ways: WayBytes,
    /// Calls by reference from the oldest that is not released on, in order.
    calls: VecDeque<Call>,
    /// The kernel's number of the first of them.
    first_call: u32,
}

/// A call that handed memory over by reference.
#[derive(Clone, Copy, Debug)]
struct Call {
    start: Position,
    end: Position,
    released: bool,
}

impl Ledger {
    /// The account of a stream of which `accepted` is accepted already, and
    /// nothing is known of its acknowledgement.
    #[must_use]
    pub fn new(accepted: Position) -> Self {
        Self::after_calls(accepted, 0)
    }

    /// As [`Ledger::new`], when the socket has made so many calls by reference
    /// that were accepted, and all of them are released.
    #[must_use]
    pub fn after_calls(accepted: Position, calls: u32) -> Self {
        Ledger {
            accepted,
            acked: Position::START,
            ways: WayBytes::default(),
            calls: VecDeque::new(),
            first_call: calls,
        }
    }

    /// `count` bytes were accepted by `way`, in one call.
    pub fn handle_accepted(&mut self, way: Way, count: u64) {
        let start = self.accepted;
        self.accepted = start.advanced(count);
        self.ways.add(way, count);
        if way == Way::Zerocopy {
            self.calls.push_back(Call { start, end: self.accepted, released: false });
        }
    }

    /// Somebody else sent `count` bytes on this stream; by which way, nobody
    /// knows.
    pub(crate) fn handle_foreign(&mut self, count: u64) {
        self.accepted = self.accepted.advanced(count);
    }

    /// The kernel has let go of the memory of the calls by reference from
    /// number `first` to `last` ([`crate::Gate`]; 32 bits, which wrap), and had
    /// to copy it after all if `copied`. Reports may come in any order. Numbers
    /// of calls that were never made, or are released already, change nothing.
    /// Returns how many bytes were let go.
    pub fn handle_released(&mut self, first: u32, last: u32, copied: bool) -> u64 {
        let mut bytes = 0;
        // Distances from the oldest open call: right while fewer than 2³² are
        // open, which memory ends long before.
        let from = first.wrapping_sub(self.first_call) as usize;
        let to = last.wrapping_sub(self.first_call) as usize;
        // A range that begins before the oldest open call wraps to a huge
        // distance: what is left of it begins at the oldest.
        let from = match from > to {
            true if from > i32::MAX as usize => 0,
            // No range at all.
            true => return 0,
            false => from,
        };
        for call in self.calls.iter_mut().take(to.saturating_add(1)).skip(from) {
            if !std::mem::replace(&mut call.released, true) {
                bytes += call.end.since(call.start);
            }
        }
        while self.calls.front().is_some_and(|call| call.released) {
            self.calls.pop_front();
            self.first_call = self.first_call.wrapping_add(1);
        }
        if copied {
            self.ways.zerocopy_copied = self.ways.zerocopy_copied.saturating_add(bytes);
        }
        bytes
    }

    /// Whether the kernel refers to none of the memory that was sent as the
    /// bytes from `start` to `end` of the stream. What it has not accepted, it
    /// does not refer to.
    #[must_use]
    pub fn is_released(&self, start: Position, end: Position) -> bool {
        !self.calls.iter().any(|call| !call.released && call.start < end && start < call.end)
    }

    /// Bytes of memory that the kernel may still refer to.
    #[must_use]
    pub fn referenced(&self) -> u64 {
        let open = self.calls.iter().filter(|call| !call.released);
        open.map(|call| call.end.since(call.start)).sum()
    }

    /// Whether a call by reference is not released.
    #[must_use]
    pub fn has_references(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Number that the kernel gives to the next call by reference.
    #[must_use]
    pub fn next_call(&self) -> u32 {
        // Only the low 32 bits count.
        self.first_call.wrapping_add(self.calls.len() as u32)
    }

    /// The kernel says that `unacked` of the accepted bytes are not
    /// acknowledged (SIOCOUTQ). Returns by how many bytes the acknowledged
    /// part grew.
    ///
    /// The kernel counts a FIN under way as one byte, so until that is
    /// acknowledged the answer is one byte short: never one too many. Bytes
    /// that somebody sent before this account was opened count as ours, with
    /// the same effect. An answer taken before the last accepted bytes is older
    /// than what is known and moves nothing back.
    pub fn handle_unacked(&mut self, unacked: u64) -> u64 {
        let acked = Position::new(self.accepted.get().saturating_sub(unacked));
        self.advance(acked)
    }

    /// The kernel reports the acknowledgement of the byte with the 32-bit
    /// index `id` (SO_TIMESTAMPING with OPT_ID: `ee_data` is the index of the
    /// last byte of a send call). Returns by how many bytes the acknowledged
    /// part grew. Reports may be late, doubled or missing; none moves it back,
    /// and none moves it past what was accepted. The index must count from this
    /// account's first byte. For who drives the machine by itself: a
    /// [`crate::Socket`] takes reports for a wake-up and asks SIOCOUTQ.
    pub fn handle_ack_id(&mut self, id: u32) -> u64 {
        // What is under way lies between acked and accepted, and less than
        // 2 GiB of it, so the newest accepted byte is a safe reference.
        let last = Position::widen(id, self.accepted);
        let end = last.advanced(1);
        if end > self.accepted {
            return 0;
        }
        self.advance(end)
    }

    fn advance(&mut self, acked: Position) -> u64 {
        let grown = acked.since(self.acked);
        self.acked = self.acked.max(acked);
        grown
    }

    /// Where the last accepted byte ends.
    #[must_use]
    pub fn accepted(&self) -> Position {
        self.accepted
    }

    /// Where the last acknowledged byte ends, as far as it was told.
    #[must_use]
    pub fn acked(&self) -> Position {
        self.acked
    }

    /// Bytes by way since this account was opened.
    #[must_use]
    pub fn ways(&self) -> WayBytes {
        self.ways
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acked_never_moves_back_and_never_past_accepted() {
        let mut ledger = Ledger::new(Position::START);
        ledger.handle_accepted(Way::Copy, 100);
        assert_eq!(ledger.handle_unacked(40), 60);
        assert_eq!(ledger.handle_unacked(70), 0);
        assert_eq!(ledger.handle_unacked(u64::MAX), 0);
        assert_eq!(ledger.acked().get(), 60);
        assert_eq!(ledger.handle_ack_id(200), 0, "not sent yet");
        assert_eq!(ledger.handle_ack_id(99), 40);
        assert_eq!(ledger.handle_ack_id(10), 0, "late");
    }

    #[test]
    fn calls_are_released_in_any_order_and_only_once() {
        let mut ledger = Ledger::after_calls(Position::new(50), u32::MAX - 1);
        for _ in 0..3 {
            ledger.handle_accepted(Way::Copy, 10);
            ledger.handle_accepted(Way::Zerocopy, 100);
        }
        assert_eq!((ledger.next_call(), ledger.referenced()), (1, 300));
        let [first, second] = [60, 170].map(Position::new);
        assert!(ledger.is_released(Position::new(50), first), "copied");
        assert_eq!(ledger.handle_released(u32::MAX, u32::MAX, false), 100);
        assert!(ledger.is_released(second, second.advanced(100)));
        assert!(!ledger.is_released(first, first.advanced(1)));
        assert_eq!(ledger.handle_released(77, 99, true), 0, "never made");
        assert_eq!(ledger.handle_released(u32::MAX - 1, 0, true), 200, "across the wrap");
        assert_eq!(ledger.handle_released(u32::MAX - 1, 0, true), 0, "again");
        assert!(!ledger.has_references());
        assert_eq!(ledger.next_call(), 1);
        assert_eq!(ledger.ways().zerocopy_copied, 200);
        assert_eq!(ledger.ways().total(), 330);
    }

    #[test]
    fn ids_are_followed_across_the_wrap() {
        let mut ledger = Ledger::new(Position::new((1 << 32) - 10));
        ledger.handle_unacked(0);
        ledger.handle_accepted(Way::Sendfile, 30);
        assert_eq!(ledger.handle_ack_id(u32::MAX), 10);
        assert_eq!(ledger.handle_ack_id(19), 20);
        assert_eq!(ledger.acked(), ledger.accepted());
        assert_eq!(ledger.ways().sendfile, 30);
    }
}
