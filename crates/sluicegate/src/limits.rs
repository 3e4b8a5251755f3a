//! What one connection may take of the kernel.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use sluicegate_sys::socket;

/// Bounds on what a connection takes of the kernel's memory and patience. A
/// bound that is `None` is the kernel's own.
///
/// Set on a listening socket, they hold for every connection that it accepts,
/// without a system call for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketLimits {
    /// Bytes that the socket holds and has not sent yet, beyond which it takes
    /// no more (`TCP_NOTSENT_LOWAT`). The kernel still chooses how much may be
    /// under way. A bound here keeps what a slow reader costs near this figure;
    /// one much below a MiB costs CPU with a fast one ([`Unsent`] has both).
    pub unsent: Option<u32>,
    /// Bytes of the send buffer (`SO_SNDBUF`; the kernel doubles it): sent and
    /// not acknowledged, and not sent. It also bounds the speed, to so much a
    /// round trip.
    pub send_buffer: Option<usize>,
    /// How long sent bytes may stay without acknowledgement, or the peer's
    /// window closed, before the connection is given up (`TCP_USER_TIMEOUT`,
    /// RFC 5482).
    pub unacknowledged: Option<Duration>,
}

impl SocketLimits {
    /// Sets those that are not `None`.
    ///
    /// # Errors
    /// As `setsockopt(2)`.
    pub fn apply(&self, socket: BorrowedFd<'_>) -> io::Result<()> {
        if let Some(bytes) = self.unsent {
            socket::set_unsent_limit(socket, bytes)?;
        }
        if let Some(bytes) = self.send_buffer {
            socket::set_send_buffer(socket, bytes)?;
        }
        if let Some(timeout) = self.unacknowledged {
            socket::set_user_timeout(socket, timeout)?;
        }
        Ok(())
    }
}

/// How many unsent bytes a socket may hold (`TCP_NOTSENT_LOWAT`), by how fast
/// its peer reads. What a fast one needs so that its server is not woken too
/// often, thousands of slow ones would hold for nothing: `tcp_mem` counts it
/// against all connections of the host, references as well as copies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsent {
    /// Bytes for a peer that leaves the socket full for long.
    pub slow: u32,
    /// Bytes for a peer that makes room at once.
    pub fast: u32,
}

impl Default for Unsent {
    /// A fast peer has what the kernel's own bound of the send buffer is by
    /// default (`tcp_wmem`): 1 GiB over veth with a bound of 128 KiB takes half
    /// as much CPU again, and a little more with 1 MiB (bench `static`). 10,000
    /// readers of 100 kB/s that hold 1 MiB each are at the host's `tcp_mem`
    /// (bench `slow`).
    fn default() -> Self {
        Unsent { slow: 64 * 1024, fast: 4 * 1024 * 1024 }
    }
}

/// A peer that makes room within this time is fast: at least 1.6 MB/s, with
/// the slow bound half empty again.
const FAST: Duration = Duration::from_millis(20);

/// One that takes so long is slow: below 10 MB/s, with the fast bound.
const SLOW: Duration = Duration::from_millis(200);

/// Which bound one socket has, and how long it has been full. Pure.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Filling {
    full_since: Option<Instant>,
    bound: Option<Speed>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speed {
    Slow,
    Fast,
}

impl Filling {
    /// The socket takes no more.
    pub(crate) fn handle_full(&mut self, now: Instant) {
        self.full_since.get_or_insert(now);
    }

    /// It takes something again. Returns the bound that it is to have, if that
    /// is another one now.
    pub(crate) fn handle_room(&mut self, bounds: &Unsent) -> Option<u32> {
        // Looked at only where it was full: a clock costs as much as a call.
        self.full_since?;
        self.after(Instant::now(), bounds)
    }

    fn after(&mut self, now: Instant, bounds: &Unsent) -> Option<u32> {
        let full = now.saturating_duration_since(self.full_since.take()?);
        let speed = match full {
            full if full <= FAST => Speed::Fast,
            full if full >= SLOW => Speed::Slow,
            _ => return None,
        };
        if self.bound.replace(speed) == Some(speed) {
            return None;
        }
        Some(match speed {
            Speed::Slow => bounds.slow,
            Speed::Fast => bounds.fast,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_follows_the_reader_and_is_set_once() {
        let bounds = Unsent::default();
        let (mut filling, start) = (Filling::default(), Instant::now());
        let mut at = start;
        let mut turn = |millis: u64| {
            filling.handle_full(at);
            at += Duration::from_millis(millis);
            filling.after(at, &bounds)
        };
        assert_eq!(turn(1), Some(bounds.fast));
        assert_eq!(turn(2), None, "it has that");
        assert_eq!(turn(100), None, "neither fast nor slow");
        assert_eq!(turn(500), Some(bounds.slow));
        assert_eq!(turn(500), None);
        assert_eq!(turn(5), Some(bounds.fast));
        assert_eq!(Filling::default().handle_room(&bounds), None, "it was not full");
    }
}
