//! TCP sockets: listen, accept, receive, send, close (`tcp(7)`, `send(2)`, `recv(2)`).

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, RecvFlags, SendAncillaryBuffer, SendFlags, Shutdown, SocketAddrAny, SocketFlags,
    SocketType, acceptfrom_with, getpeername, getsockname, ipproto, socket_with,
};

/// A listening TCP socket, non-blocking, closed on exec, with `SO_REUSEADDR`.
/// `backlog` is capped by `net.core.somaxconn`.
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES` (a port below 1024), `EMFILE`.
pub fn listen(address: SocketAddr, backlog: i32) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let fd = socket_with(family, SocketType::STREAM, flags, Some(ipproto::TCP))?;
    sockopt::set_socket_reuseaddr(&fd, true)?;
    if address.is_ipv6() {
        // One address, one listener: [::] does not also take 0.0.0.0.
        sockopt::set_ipv6_v6only(&fd, true)?;
    }
    rustix::net::bind(&fd, &address)?;
    rustix::net::listen(&fd, backlog)?;
    Ok(fd)
}

/// Sets how many connections a socket that listens already may keep, and makes
/// it non-blocking: one that somebody else has opened.
///
/// # Errors
/// `EOPNOTSUPP` when it cannot listen.
pub fn listen_again(socket: BorrowedFd<'_>, backlog: i32) -> io::Result<()> {
    set_nonblocking(socket)?;
    Ok(rustix::net::listen(socket, backlog)?)
}

/// The next connection that waits at `listener`, non-blocking and closed on exec.
///
/// # Errors
/// `EAGAIN` when none waits; `ECONNABORTED` when it was gone before it was
/// taken; `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`; `EINTR`.
pub fn accept(listener: BorrowedFd<'_>) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
    let (fd, address) = acceptfrom_with(listener, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?;
    Ok((fd, address.and_then(internet)))
}

fn internet(address: SocketAddrAny) -> Option<SocketAddr> {
    SocketAddr::try_from(address).ok()
}

/// The address that `socket` is bound to; `None` when it is no internet address.
///
/// # Errors
/// `ENOTSOCK`, `ENOBUFS`.
pub fn local_address(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    Ok(internet(getsockname(socket)?))
}

/// The peer's address; `None` when it is no internet address.
///
/// # Errors
/// `ENOTCONN` once the connection is gone.
pub fn peer_address(socket: BorrowedFd<'_>) -> io::Result<Option<SocketAddr>> {
    Ok(getpeername(socket)?.and_then(internet))
}

/// Acknowledges at once what was received, instead of after up to 40 ms or with something
/// that is sent (`TCP_QUICKACK`, `tcp(7)`). Of what comes later it says little: the kernel
/// soon delays again.
///
/// # Errors
/// `EOPNOTSUPP`, `ENOPROTOOPT` when it is no TCP socket.
pub fn acknowledge_now(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_tcp_quickack(socket, true)?)
}

/// Sends small segments at once instead of waiting for an acknowledgement
/// (`TCP_NODELAY`); `MSG_MORE` still holds back what has a successor.
///
/// # Errors
/// `EOPNOTSUPP` when the socket is not TCP.
pub fn set_nodelay(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_tcp_nodelay(socket, true)?)
}

/// Holds back segments that are not full while it is on; switching it off sends
/// what is held (`TCP_CORK`).
///
/// # Errors
/// `EOPNOTSUPP` when the socket is not TCP.
pub fn set_cork(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    Ok(sockopt::set_tcp_cork(socket, on)?)
}

/// Name of the socket's congestion control (`TCP_CONGESTION`).
///
/// # Errors
/// `EOPNOTSUPP` when the socket is not TCP.
pub fn congestion_control(socket: BorrowedFd<'_>) -> io::Result<String> {
    Ok(sockopt::tcp_congestion(socket)?)
}

/// Chooses the socket's congestion control; connections accepted from a
/// listener inherit its own.
///
/// # Errors
/// `ENOENT` when the kernel has none of that name, `EPERM` when this user may
/// not choose it (`net.ipv4.tcp_allowed_congestion_control`).
pub fn set_congestion_control(socket: BorrowedFd<'_>, name: &str) -> io::Result<()> {
    Ok(sockopt::set_tcp_congestion(socket, name)?)
}

/// Makes the descriptor non-blocking (`O_NONBLOCK`).
///
/// # Errors
/// `EBADF`-class only.
pub fn set_nonblocking(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::io::ioctl_fionbio(socket, true)?)
}

/// Bounds the socket's send buffer (`SO_SNDBUF`; the kernel doubles the value
/// and stops tuning it).
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_send_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_send_buffer_size(socket, bytes)?)
}

/// Bounds the socket's receive buffer (`SO_RCVBUF`).
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_receive_buffer(socket: BorrowedFd<'_>, bytes: usize) -> io::Result<()> {
    Ok(sockopt::set_socket_recv_buffer_size(socket, bytes)?)
}

/// Has the socket readable, for who polls it, only when so many bytes were received, its
/// peer sends no more, or its buffer is nearly full (`SO_RCVLOWAT`, `socket(7)`). Of TCP the
/// buffer is made large enough for that; where enough is there now, its watchers are told.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_receive_least(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_option(socket, libc::SOL_SOCKET, libc::SO_RCVLOWAT, bytes)
}

/// Bounds what the socket holds that was not sent yet: it is writable again
/// when less than `bytes` of that is left (`TCP_NOTSENT_LOWAT`, `tcp(7)`).
/// Connections accepted from a listener inherit its own.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_unsent_limit(socket: BorrowedFd<'_>, bytes: u32) -> io::Result<()> {
    set_tcp_option(socket, libc::TCP_NOTSENT_LOWAT, bytes)
}

/// The bound that [`set_unsent_limit`] sets; 0 where the host's own
/// (`net.ipv4.tcp_notsent_lowat`) holds.
///
/// # Errors
/// As `getsockopt(2)`.
pub fn unsent_limit(socket: BorrowedFd<'_>) -> io::Result<u32> {
    let mut value = 0_u32;
    let mut length = size_of::<u32>() as libc::socklen_t;
    // SAFETY: the kernel writes one int through the pointer, as the length
    // says, and that length itself; both live until the call is over.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_NOTSENT_LOWAT,
            (&raw mut value).cast(),
            &raw mut length,
        )
    };
    if result == 0 { Ok(value) } else { Err(io::Error::last_os_error()) }
}

/// Gives the connection up when sent bytes were not acknowledged, or the
/// peer's window was closed, for so long (`TCP_USER_TIMEOUT`, RFC 5482).
/// Milliseconds; zero restores the kernel's own patience. Connections accepted
/// from a listener inherit its own.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn set_user_timeout(socket: BorrowedFd<'_>, timeout: Duration) -> io::Result<()> {
    let millis = u32::try_from(timeout.as_millis()).unwrap_or(i32::MAX.cast_unsigned());
    set_tcp_option(socket, libc::TCP_USER_TIMEOUT, millis.min(i32::MAX.cast_unsigned()))
}

fn set_tcp_option(socket: BorrowedFd<'_>, option: libc::c_int, value: u32) -> io::Result<()> {
    set_option(socket, libc::IPPROTO_TCP, option, value)
}

fn set_option(
    socket: BorrowedFd<'_>,
    level: libc::c_int,
    option: libc::c_int,
    value: u32,
) -> io::Result<()> {
    // SAFETY: the kernel reads one int through the pointer, and the length says so.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of::<u32>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Ends a connection at once: what waits to be sent is thrown away, and the
/// peer gets a reset (`connect(2)` to `AF_UNSPEC`). The descriptor stays, so
/// that completions of MSG_ZEROCOPY can still be read.
///
/// # Errors
/// As `connect(2)`.
pub fn disconnect(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::connect_unspec(socket)?)
}

/// Makes the coming close a reset (`SO_LINGER` with zero seconds): the peer
/// learns that what it has is not the whole.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn reset_on_close(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(sockopt::set_socket_linger(socket, Some(Duration::ZERO))?)
}

/// Says that nothing more will be sent (FIN after what is queued).
///
/// # Errors
/// `ENOTCONN` once the connection is gone.
pub fn shutdown_write(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, Shutdown::Write)?)
}

/// Says that nothing more will be sent, nor read.
///
/// # Errors
/// `ENOTCONN` once the connection is gone.
pub fn shutdown_both(socket: BorrowedFd<'_>) -> io::Result<()> {
    Ok(rustix::net::shutdown(socket, Shutdown::Both)?)
}

/// Receives into the spare capacity of `buffer`, which must have some.
/// Returns how many bytes came; 0 means that the peer sends no more.
///
/// # Errors
/// `EAGAIN`, `ECONNRESET`, `EINTR`; `InvalidInput` when there is no room,
/// because the kernel's answer would look like the end of the stream.
pub fn receive(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    if buffer.len() == buffer.capacity() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (received, _) = rustix::net::recv(socket, spare_capacity(buffer), RecvFlags::empty())?;
    Ok(received)
}

/// Receives at most `len` bytes, as [`receive`].
///
/// # Errors
/// As [`receive`].
pub fn receive_some(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>, len: usize) -> io::Result<usize> {
    let len = len.min(buffer.capacity() - buffer.len());
    if len == 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let spare = &mut buffer.spare_capacity_mut()[..len];
    let ((received, _), _) = rustix::net::recv(socket, spare, RecvFlags::empty())?;
    let received = received.len();
    // SAFETY: the call has written so many bytes behind those that were there, and
    // they lie within the capacity.
    unsafe { buffer.set_len(buffer.len() + received) };
    Ok(received)
}

/// As [`receive`], without taking what it returns: the next call finds it again
/// (`MSG_PEEK`).
///
/// # Errors
/// As [`receive`].
pub fn peek(socket: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> io::Result<usize> {
    if buffer.len() == buffer.capacity() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (received, _) = rustix::net::recv(socket, spare_capacity(buffer), RecvFlags::PEEK)?;
    Ok(received)
}

/// Receives into a slice, as [`receive`].
///
/// # Errors
/// As [`receive`].
pub fn receive_into(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    if buffer.is_empty() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (received, _) = rustix::net::recv(socket, buffer, RecvFlags::empty())?;
    Ok(received)
}

fn flags(more: bool) -> SendFlags {
    // Without NOSIGNAL a peer that is gone would end the process.
    let mut flags = SendFlags::NOSIGNAL;
    flags.set(SendFlags::MORE, more);
    flags
}

/// Copies `bytes` into the socket's send queue; `more` says that others follow
/// at once (`MSG_MORE`). Returns how many were accepted.
///
/// # Errors
/// `EAGAIN`, `EPIPE`, `ECONNRESET`, `EINTR`, `ENOBUFS`.
pub fn send(socket: BorrowedFd<'_>, bytes: &[u8], more: bool) -> io::Result<usize> {
    Ok(rustix::net::send(socket, bytes, flags(more))?)
}

/// Copies `slices`, one after another, as [`send`]. At most `IOV_MAX` (1024).
///
/// # Errors
/// As [`send`]; `EMSGSIZE` for too many slices.
pub fn send_vectored(
    socket: BorrowedFd<'_>,
    slices: &[IoSlice<'_>],
    more: bool,
) -> io::Result<usize> {
    let mut control = SendAncillaryBuffer::default();
    Ok(rustix::net::sendmsg(socket, slices, &mut control, flags(more))?)
}

/// Whether a call failed at the memory that it was given: of a mapped file, a page that
/// cannot be read from its disk. Nothing is said of the socket.
#[must_use]
pub fn is_of_memory(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::FAULT.raw_os_error())
}
