//! Packets as they were seen on a wire.

use std::time::Instant;

use super::Direction;

/// Where on the wire a packet was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It has left its sender. Chance, the queue and the delay are still before it.
    Near,
    /// Its receiver is about to have it.
    Far,
}

/// A packet that was seen on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Captured {
    /// When. Comparable with what the test itself asks of the clock.
    pub at: Instant,
    /// Its way.
    pub direction: Direction,
    /// Where.
    pub end: End,
    /// All of it, from the IPv4 header (RFC 791, section 3.1) on.
    pub packet: Vec<u8>,
}

/// A bounded list of packets.
#[derive(Debug, Default)]
pub(super) struct Capture {
    /// How many more are wanted.
    room: usize,
    seen: Vec<Captured>,
}

impl Capture {
    /// Begins anew.
    pub(super) fn begin(&mut self, room: usize) {
        *self = Self { room, seen: Vec::new() };
    }

    pub(super) fn take(&mut self) -> Vec<Captured> {
        std::mem::take(&mut self.seen)
    }

    /// Whether more are wanted.
    pub(super) fn see(&mut self, direction: Direction, end: End, packet: &[u8]) -> bool {
        if self.room > 0 {
            self.room -= 1;
            let (at, packet) = (Instant::now(), packet.to_vec());
            self.seen.push(Captured { at, direction, end, packet });
        }
        self.room > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_wanted_is_kept() {
        let mut capture = Capture::default();
        assert!(!capture.see(Direction::ToClient, End::Near, b"unasked"));
        capture.begin(2);
        let wanted = [&b"one"[..], b"two", b"three"]
            .map(|packet| capture.see(Direction::ToServer, End::Far, packet));
        assert_eq!(wanted, [true, false, false]);
        let packets: Vec<_> = capture.take().into_iter().map(|seen| seen.packet).collect();
        assert_eq!(packets, [&b"one"[..], b"two"]);
        assert_eq!(capture.take(), []);
    }
}
