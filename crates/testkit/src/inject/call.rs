//! The calls that faults are for, and where x86-64 has their arguments.

/// A kind of system call, whichever of its forms the program uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Call {
    /// `recvfrom`, `recvmsg`.
    Receive,
    /// `sendto`. Short: fewer bytes.
    Send,
    /// `sendmsg`. Short: fewer slices, or fewer bytes of a single one.
    SendMessage,
    /// `sendfile`. Short: fewer bytes.
    Sendfile,
    /// `splice` from a file, at an offset of it, into a pipe. Short: fewer bytes.
    Fill,
    /// `splice` from a pipe. Short: fewer bytes.
    Drain,
    /// `pread64`. Short: fewer bytes.
    Read,
    /// `pwrite64`. Short: fewer bytes.
    Write,
    /// `epoll_wait`, `epoll_pwait`, `epoll_pwait2`. Short: fewer events.
    Wait,
    /// `accept4`.
    Accept,
    /// `epoll_ctl`.
    Watch,
    /// `openat`, `openat2`.
    Open,
    /// `statx`, `newfstatat`, `fstat`.
    Stat,
}

/// How a call is made shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Length {
    /// By the argument of this index, from 0.
    Argument(usize),
    /// By the message that the argument of this index points to.
    Message(usize),
}

impl Call {
    /// The kind of the call of this number with these arguments (`arch/x86/entry/syscalls/
    /// syscall_64.tbl` of the kernel).
    pub(super) fn of(number: u64, arguments: &[u64; 6]) -> Option<Self> {
        Some(match number {
            45 | 47 => Self::Receive,
            44 => Self::Send,
            46 => Self::SendMessage,
            40 => Self::Sendfile,
            // The second argument points to the offset in a file; a pipe has none.
            275 if arguments[1] != 0 => Self::Fill,
            275 => Self::Drain,
            17 => Self::Read,
            18 => Self::Write,
            232 | 281 | 441 => Self::Wait,
            288 => Self::Accept,
            233 => Self::Watch,
            257 | 437 => Self::Open,
            5 | 262 | 332 => Self::Stat,
            _ => return None,
        })
    }

    /// Where it says how much it is to do; `None` for a call that cannot honestly be shortened.
    pub(super) fn length(self) -> Option<Length> {
        Some(match self {
            Self::Send | Self::Read | Self::Write | Self::Wait => Length::Argument(2),
            Self::Sendfile => Length::Argument(3),
            Self::Fill | Self::Drain => Length::Argument(4),
            Self::SendMessage => Length::Message(1),
            Self::Receive | Self::Accept | Self::Watch | Self::Open | Self::Stat => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_ends_of_a_splice_are_told_apart_by_the_offset() {
        assert_eq!(Call::of(275, &[3, 0x7fff_0000, 4, 0, 100, 0]), Some(Call::Fill));
        assert_eq!(Call::of(275, &[3, 0, 4, 0, 100, 0]), Some(Call::Drain));
        assert_eq!(Call::of(202, &[0; 6]), None, "a futex is nobody's business");
    }

    #[test]
    fn a_receive_is_never_shortened() {
        assert_eq!(Call::Receive.length(), None);
    }
}
