//! What became of the bytes that were accepted.

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

/// Accounts for accepted bytes: by which way they went and how far the peer
/// has acknowledged them. Pure: it is told, it never asks.
#[derive(Debug)]
pub struct Ledger {
    accepted: Position,
    acked: Position,
    ways: WayBytes,
}

impl Ledger {
    /// The account of a stream of which `accepted` is accepted already, and
    /// nothing is known of its acknowledgement.
    #[must_use]
    pub fn new(accepted: Position) -> Self {
        Ledger { accepted, acked: Position::START, ways: WayBytes::default() }
    }

    /// `count` bytes were accepted by `way`.
    pub fn handle_accepted(&mut self, way: Way, count: u64) {
        self.accepted = self.accepted.advanced(count);
        self.ways.add(way, count);
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
    /// and none moves it past what was accepted.
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
