//! An acknowledgement in the form that the paper's kernel gives it.

use std::os::fd::RawFd;

use super::sends::{Grown, Tag};

/// A record of the shape of `struct epoll_event` (`epoll_wait(2)`), filled as
/// the paper's patched kernel fills it (seeds/000, II-B2): both the file's
/// descriptor and the number of bytes fit the 64 bits of its `data`.
///
/// ```text
///   data bit 63 ─────────── 32 31 ──────────── 0
///        bytes acknowledged    descriptor
///        since the last event
/// ```
/// 32 bits of count end at 4 GiB: it saturates, and what is beyond it is lost
/// to a reader of this form. [`super::Grown`] has the `u64` total beside it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
#[cfg_attr(target_arch = "x86_64", repr(packed))]
pub struct EpollRecord {
    events: u32,
    data: u64,
}

impl EpollRecord {
    /// What `events` says: EPOLLOUT, since there is room where acknowledged
    /// bytes were.
    pub const ACKED: u32 = 4;

    /// EPOLLIN: the socket can be received from.
    pub const READABLE: u32 = 1;

    /// EPOLLPRI: a buffer of the socket's is released.
    pub const RELEASED: u32 = 2;

    /// EPOLLERR: the socket has failed.
    pub const FAILED: u32 = 8;

    /// A record about a socket, without a count.
    pub(super) fn about(events: u32, socket: RawFd) -> Self {
        EpollRecord { events, data: u64::from(socket.cast_unsigned()) }
    }

    pub(super) fn of(grown: &Grown) -> Self {
        let count = u32::try_from(grown.grown).unwrap_or(u32::MAX);
        let name = match grown.tag {
            Tag::File(fd) => fd.cast_unsigned(),
            // The low half, on purpose.
            Tag::Number(number) => (number & u64::from(u32::MAX)) as u32,
        };
        EpollRecord { events: Self::ACKED, data: u64::from(count) << 32 | u64::from(name) }
    }

    /// The event flag: one of the constants here.
    #[must_use]
    pub fn events(&self) -> u32 {
        self.events
    }

    /// The 64 bits as the kernel would give them.
    #[must_use]
    pub fn data(&self) -> u64 {
        self.data
    }

    /// The descriptor of the file, or the low 32 bits of the caller's number;
    /// of the socket, where the event is not about a send.
    #[must_use]
    pub fn fd(&self) -> i32 {
        ((self.data & u64::from(u32::MAX)) as u32).cast_signed()
    }

    /// By how many bytes its acknowledged part grew; 2³²−1 for so many or more.
    #[must_use]
    pub fn count(&self) -> u32 {
        (self.data >> 32) as u32
    }
}

impl std::fmt::Debug for EpollRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (fd, count) = (self.fd(), self.count());
        f.debug_struct("EpollRecord").field("fd", &fd).field("count", &count).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptor_and_count_fit_and_the_count_saturates() {
        let grown = Grown { tag: Tag::File(7), grown: 100, total: 300, len: 1000 };
        let record = EpollRecord::of(&grown);
        assert_eq!((record.fd(), record.count(), record.events()), (7, 100, 4));
        assert_eq!(record.data(), 100 << 32 | 7);
        let record = EpollRecord::of(&Grown { grown: 1 << 33, ..grown });
        assert_eq!((record.fd(), record.count()), (7, u32::MAX));
    }

    #[test]
    #[cfg(target_arch = "x86_64")]
    fn it_has_the_kernel_s_shape() {
        assert_eq!(size_of::<EpollRecord>(), 12);
    }
}
