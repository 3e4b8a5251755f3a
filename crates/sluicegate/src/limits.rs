//! What one connection may take of the kernel.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

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
    /// under way. A bound here keeps what a slow reader costs near this figure
    /// and does not slow a fast one.
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
