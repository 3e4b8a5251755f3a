//! Sending memory by reference (`MSG_ZEROCOPY`, `networking/msg_zerocopy.rst`).
//!
//! The kernel pins the pages of a call and reports on the error queue
//! ([`crate::errqueue`]) when it has let them go. Until then their content must
//! not change: it would change on the wire too.

use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Allows calls of [`send`] on this socket (`SO_ZEROCOPY`). To be called once;
/// again does nothing.
///
/// # Errors
/// `ENOTSUPP` or `ENOPROTOOPT` where the kernel or the protocol has none.
pub fn allow(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the kernel reads one int through the pointer, and the length says so.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether somebody has allowed calls of [`send`] on this socket, and may have
/// made some: nobody else can then tell which numbers their calls will have.
///
/// # Errors
/// As [`allow`].
pub fn is_allowed(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let mut is_on: libc::c_int = 0;
    let mut length = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: the kernel writes one int through the pointer, as the length
    // says, and that length itself; both live until the call is over.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ZEROCOPY,
            (&raw mut is_on).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(is_on != 0) } else { Err(io::Error::last_os_error()) }
}

/// Hands `slices`, one after another, to the socket by reference; `more` says
/// that others follow at once. Returns how many bytes were accepted. Each call
/// that succeeds has the next number, from 0 on, in [`crate::errqueue::Entry::Released`].
///
/// # Errors
/// `EAGAIN`, `EPIPE`, `ECONNRESET`, `EINTR`; `ENOBUFS` when the user may not
/// pin more memory (`RLIMIT_MEMLOCK`) or the socket has no room for another
/// report (`net.core.optmem_max`): nothing was accepted then, and the call has
/// no number.
pub fn send(socket: BorrowedFd<'_>, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
    // SAFETY: msghdr is a C struct of integers and pointers, for which all
    // zeroes is a valid value (null pointers with zero lengths).
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    // IoSlice is documented to have the layout of iovec. The kernel does not
    // write through it.
    message.msg_iov = slices.as_ptr().cast_mut().cast();
    message.msg_iovlen = slices.len() as _;
    let more = if more { libc::MSG_MORE } else { 0 };
    let flags = libc::MSG_ZEROCOPY | libc::MSG_NOSIGNAL | more;
    // SAFETY: `message` and the slices that it points at live throughout the
    // call. After it the kernel may still read their pages, which it holds
    // references to: freeing the memory can change what is sent, but no access
    // of the kernel to it is ever invalid.
    let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Whether an error of [`send`] says that nothing more can be pinned, or
/// reported, at the moment (ENOBUFS): copy, or wait for completions.
#[must_use]
pub fn is_exhausted(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::errqueue::{Entry, next};
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::time::{Duration, Instant};

    #[test]
    fn the_loopback_says_that_it_copied() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut theirs, _) = listener.accept().unwrap();
        assert!(!is_allowed(ours.as_fd()).unwrap());
        allow(ours.as_fd()).unwrap();
        assert!(is_allowed(ours.as_fd()).unwrap());
        let content = vec![7_u8; 300];
        for _ in 0..2 {
            assert_eq!(send(ours.as_fd(), &[IoSlice::new(&content)], false).unwrap(), 300);
        }
        let mut got = [0; 600];
        theirs.read_exact(&mut got).unwrap();
        assert!(got.iter().all(|&byte| byte == 7));
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut released = 0;
        while released < 2 {
            match next(ours.as_fd()).unwrap() {
                Some(Entry::Released { first, last, copied }) => {
                    assert!(copied);
                    assert_eq!(first, released);
                    released = last + 1;
                }
                Some(other) => panic!("{other:?}"),
                None => assert!(Instant::now() < deadline, "never released"),
            }
        }
    }
}
