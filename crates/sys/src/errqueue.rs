//! A socket's error queue: which bytes were acknowledged, which buffers were
//! let go (`recvmsg(MSG_ERRQUEUE)`, `ip(7)` IP_RECVERR;
//! `networking/timestamping.rst`, `networking/msg_zerocopy.rst`).
//!
//! Entries get lost (KERNEL.md), so a report of an acknowledgement is good for
//! waking up and for nothing else; SIOCOUTQ ([`crate::outq`]) tells the truth.
//! Completions of MSG_ZEROCOPY are never lost: they keep their place from the
//! moment of the call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The peer's TCP acknowledged a send call's last byte, which has this
    /// index since numbering began ([`number_acks`]). 32 bits: it wraps.
    Acked {
        /// Index in bytes.
        index: u32,
    },
    /// The kernel has let go of the buffers of the MSG_ZEROCOPY calls from
    /// `first` to `last`. Calls are counted from 0 for each socket, 32 bits,
    /// which wrap: `last` may be the smaller number.
    Released {
        /// Number of the first call.
        first: u32,
        /// Number of the last call.
        last: u32,
        /// The kernel had to copy some of it after all
        /// (`SO_EE_CODE_ZEROCOPY_COPIED`).
        copied: bool,
    },
    /// Something else: an error that a router reported, a time stamp that
    /// nobody asked for.
    Other {
        /// `ee_origin` of `<linux/errqueue.h>`; 0 when the entry told none.
        origin: u8,
        /// `ee_errno`.
        errno: u32,
    },
}

// <linux/errqueue.h>, <linux/net_tstamp.h>
const ORIGIN_TIMESTAMPING: u8 = 4;
const ORIGIN_ZEROCOPY: u8 = 5;
const CODE_ZEROCOPY_COPIED: u8 = 1;
const TSTAMP_ACK: u32 = 2;

const REPORT_SOFTWARE: libc::c_uint = libc::SOF_TIMESTAMPING_SOFTWARE;
const TX_ACK: libc::c_uint = 1 << 9;
const OPT_ID: libc::c_uint = 1 << 7;
const OPT_TSONLY: libc::c_uint = 1 << 11;
const OPT_ID_TCP: libc::c_uint = 1 << 16;

/// Room for the control messages of one entry: a `sock_extended_err` with an
/// IPv6 address behind it, and three time stamps, take 120 bytes.
const CONTROL: usize = 256;

/// A buffer that the kernel may take for `struct cmsghdr`.
#[repr(C, align(8))]
struct Control([u8; CONTROL]);

/// The next entry, if there is one; never waits.
///
/// # Errors
/// `EINTR`; `EBADF`-class errors. A connection's own error is not reported
/// here, and is not taken away.
pub fn next(socket: BorrowedFd<'_>) -> io::Result<Option<Entry>> {
    let mut control = Control([0; CONTROL]);
    Ok(receive(socket, &mut control)?.map(decode))
}

/// As [`next`], with the moment at which the kernel made the entry, if it tells
/// one: for [`Entry::Acked`] the moment at which it processed the
/// acknowledgement, on the clock of [`SystemTime`].
///
/// # Errors
/// As [`next`].
pub fn next_with_time(socket: BorrowedFd<'_>) -> io::Result<Option<(Entry, Option<SystemTime>)>> {
    let mut control = Control([0; CONTROL]);
    Ok(receive(socket, &mut control)?.map(|control| (decode(control), decode_time(control))))
}

/// The control messages of the next entry.
fn receive<'a>(socket: BorrowedFd<'_>, control: &'a mut Control) -> io::Result<Option<&'a [u8]>> {
    // The payload, of which there is none (OPT_TSONLY) or which nobody needs.
    let mut byte = [0_u8; 1];
    let mut iov = libc::iovec { iov_base: byte.as_mut_ptr().cast(), iov_len: byte.len() };
    // SAFETY: msghdr is a C struct of integers and pointers, for which all
    // zeroes is a valid value (null pointers with zero lengths).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL as _;
    // SAFETY: every pointer of `message` points at memory that lives until the
    // end of this function and is as long as the length beside it says; the
    // kernel writes no more than that, and to `message` itself.
    let received = unsafe {
        libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_ERRQUEUE | libc::MSG_DONTWAIT)
    };
    if received < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
    }
    // Distrusted: never past what we own.
    let len = (message.msg_controllen as usize).min(CONTROL);
    Ok(Some(&control.0[..len]))
}

/// What the control messages of an error-queue entry say. Whatever the bytes
/// are, it returns: what does not say anything that is known is
/// [`Entry::Other`].
#[must_use]
pub fn decode(control: &[u8]) -> Entry {
    let nothing = Entry::Other { origin: 0, errno: 0 };
    let mut rest = control;
    while let Some((level, kind, data, behind)) = message(rest) {
        rest = behind;
        let is_error = (level == libc::SOL_IP && kind == libc::IP_RECVERR)
            || (level == libc::SOL_IPV6 && kind == libc::IPV6_RECVERR);
        if is_error && let Some(entry) = extended_error(data) {
            return entry;
        }
    }
    nothing
}

/// The software time stamp of an error-queue entry: the first of the three of
/// `struct scm_timestamping`. `None` where there is none, whatever the bytes are.
#[must_use]
pub fn decode_time(control: &[u8]) -> Option<SystemTime> {
    const LONG: usize = size_of::<libc::c_long>();
    let mut rest = control;
    while let Some((level, kind, data, behind)) = message(rest) {
        rest = behind;
        // SCM_TIMESTAMPING has the number of the option that asks for it.
        if level != libc::SOL_SOCKET || kind != libc::SO_TIMESTAMPING {
            continue;
        }
        let (seconds, data) = data.split_first_chunk::<LONG>()?;
        let (nanoseconds, _) = data.split_first_chunk::<LONG>()?;
        let seconds = u64::try_from(libc::c_long::from_ne_bytes(*seconds)).ok()?;
        let nanoseconds = u32::try_from(libc::c_long::from_ne_bytes(*nanoseconds)).ok()?;
        // All zeroes where only the card has stamped it.
        if nanoseconds >= 1_000_000_000 || (seconds, nanoseconds) == (0, 0) {
            return None;
        }
        return UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds));
    }
    None
}

/// The first control message, as level, type and data, and what follows it:
/// `struct cmsghdr` of `recvmsg(2)`, whose length counts itself.
fn message(bytes: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    const LENGTH: usize = size_of::<usize>();
    const HEADER: usize = LENGTH + 8;
    let (length, after) = bytes.split_first_chunk::<LENGTH>()?;
    let (level, after) = after.split_first_chunk::<4>()?;
    let (kind, _) = after.split_first_chunk::<4>()?;
    let length = usize::from_ne_bytes(*length);
    let data = bytes.get(HEADER..length)?;
    let next = length.checked_next_multiple_of(LENGTH)?;
    let behind = bytes.get(next..).unwrap_or_default();
    Some((i32::from_ne_bytes(*level), i32::from_ne_bytes(*kind), data, behind))
}

/// `struct sock_extended_err`: errno, origin, type, code, padding, info, data.
fn extended_error(data: &[u8]) -> Option<Entry> {
    let (errno, data) = data.split_first_chunk::<4>()?;
    let (&[origin, _, code, _], data) = data.split_first_chunk::<4>()?;
    let (info, data) = data.split_first_chunk::<4>()?;
    let (value, _) = data.split_first_chunk::<4>()?;
    let (info, value) = (u32::from_ne_bytes(*info), u32::from_ne_bytes(*value));
    Some(match origin {
        ORIGIN_TIMESTAMPING if info == TSTAMP_ACK => Entry::Acked { index: value },
        ORIGIN_ZEROCOPY => {
            Entry::Released { first: info, last: value, copied: code & CODE_ZEROCOPY_COPIED != 0 }
        }
        _ => Entry::Other { origin, errno: u32::from_ne_bytes(*errno) },
    })
}

/// From where the kernel counts the indices of [`Entry::Acked`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Numbering {
    /// From the first byte that is sent from now on (`OPT_ID_TCP`, Linux 6.2).
    FromNow,
    /// From the first byte that was not acknowledged at this moment.
    FromUnacknowledged,
}

/// Begins to number what is sent. To be called once for a socket: a second
/// time changes nothing.
///
/// # Errors
/// As `setsockopt(2)`; `ENOPROTOOPT` or `EINVAL` where the kernel has no such
/// reports.
pub fn number_acks(socket: BorrowedFd<'_>) -> io::Result<Numbering> {
    match set_timestamping(socket, flags(Numbering::FromNow)) {
        Ok(()) => Ok(Numbering::FromNow),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            let numbering = Numbering::FromUnacknowledged;
            set_timestamping(socket, flags(numbering)).map(|()| numbering)
        }
        Err(error) => Err(error),
    }
}

/// Asks, or ceases to ask, for a report when the last byte of each send call
/// from now on is acknowledged (`SOF_TIMESTAMPING_TX_ACK`). `sendfile` and
/// `splice` are one send for every 64 KiB. About 0.2 µs.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn report_acks(socket: BorrowedFd<'_>, numbering: Numbering, on: bool) -> io::Result<()> {
    let ask = if on { TX_ACK } else { 0 };
    set_timestamping(socket, flags(numbering) | ask)
}

fn flags(numbering: Numbering) -> libc::c_uint {
    let from = match numbering {
        Numbering::FromNow => OPT_ID_TCP,
        Numbering::FromUnacknowledged => 0,
    };
    REPORT_SOFTWARE | OPT_ID | OPT_TSONLY | from
}

fn set_timestamping(socket: BorrowedFd<'_>, flags: libc::c_uint) -> io::Result<()> {
    // SAFETY: the kernel reads one int through the pointer, and the length says so.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPING,
            (&raw const flags).cast(),
            size_of::<libc::c_uint>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (ours, listener.accept().unwrap().0)
    }

    fn wait_for_entry(socket: &TcpStream) -> Entry {
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            if let Some(entry) = next(socket.as_fd()).unwrap() {
                return entry;
            }
            assert!(Instant::now() < deadline, "no entry came");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn only_calls_that_were_asked_about_are_reported() {
        let (mut ours, mut theirs) = pair();
        assert_eq!(next(ours.as_fd()).unwrap(), None);
        ours.write_all(b"before").unwrap();
        let numbering = number_acks(ours.as_fd()).unwrap();
        report_acks(ours.as_fd(), numbering, true).unwrap();
        ours.write_all(b"hello").unwrap();
        report_acks(ours.as_fd(), numbering, false).unwrap();
        theirs.read_exact(&mut [0; 11]).unwrap();
        let entry = wait_for_entry(&ours);
        match numbering {
            Numbering::FromNow => assert_eq!(entry, Entry::Acked { index: 4 }),
            Numbering::FromUnacknowledged => assert!(matches!(entry, Entry::Acked { .. })),
        }
        ours.write_all(b"after").unwrap();
        theirs.read_exact(&mut [0; 5]).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        assert_eq!(next(ours.as_fd()).unwrap(), None);
    }

    #[test]
    fn an_acknowledgement_tells_when_it_came() {
        let (mut ours, mut theirs) = pair();
        let numbering = number_acks(ours.as_fd()).unwrap();
        report_acks(ours.as_fd(), numbering, true).unwrap();
        let before = SystemTime::now();
        ours.write_all(b"hello").unwrap();
        theirs.read_exact(&mut [0; 5]).unwrap();
        let deadline = Instant::now() + Duration::from_secs(5);
        let time = loop {
            if let Some((entry, time)) = next_with_time(ours.as_fd()).unwrap() {
                assert!(matches!(entry, Entry::Acked { .. }), "{entry:?}");
                break time.unwrap();
            }
            assert!(Instant::now() < deadline, "no entry came");
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(before <= time && time <= SystemTime::now(), "{before:?} {time:?}");
    }

    #[test]
    fn a_time_that_is_none_is_not_told() {
        let stamp = |seconds: libc::c_long, nanoseconds: libc::c_long| {
            let mut bytes = Vec::new();
            let data = [seconds, nanoseconds, 0, 0, 0, 0].map(libc::c_long::to_ne_bytes).concat();
            bytes.extend((size_of::<usize>() + 8 + data.len()).to_ne_bytes());
            bytes.extend(libc::SOL_SOCKET.to_ne_bytes());
            bytes.extend(libc::SO_TIMESTAMPING.to_ne_bytes());
            bytes.extend(data);
            decode_time(&bytes)
        };
        assert_eq!(stamp(7, 5), Some(UNIX_EPOCH + Duration::new(7, 5)));
        for (seconds, nanoseconds) in [(0, 0), (-1, 5), (7, 1_000_000_000), (7, -1)] {
            assert_eq!(stamp(seconds, nanoseconds), None);
        }
        assert_eq!(decode_time(&[]), None);
        assert_eq!(decode_time(&[0xff; 64]), None);
    }

    #[test]
    fn what_cannot_be_read_is_other() {
        let nothing = Entry::Other { origin: 0, errno: 0 };
        assert_eq!(decode(&[]), nothing);
        assert_eq!(decode(&[0xff; 64]), nothing);
        assert_eq!(decode(&[0; 64]), nothing);
        // A header that says it is longer than what there is.
        let mut long = [0_u8; 16];
        long[..8].copy_from_slice(&48_usize.to_ne_bytes());
        assert_eq!(decode(&long), nothing);
    }
}
