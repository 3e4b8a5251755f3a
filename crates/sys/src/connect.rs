//! Connections that begin here: `socket(2)`, `connect(2)`, and how that went
//! (`SO_ERROR`, `socket(7)`).

use std::io;
use std::net::SocketAddr;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::io::Errno;
use rustix::net::sockopt;
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, getpeername, ipproto, socket_with,
};

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

/// A TCP socket for a connection to `address`, non-blocking, closed on exec. With
/// TCP_NODELAY.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`, `EAFNOSUPPORT`.
pub fn tcp_for(address: SocketAddr) -> io::Result<OwnedFd> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let fd = socket_with(family, SocketType::STREAM, FLAGS, Some(ipproto::TCP))?;
    sockopt::set_tcp_nodelay(&fd, true)?;
    Ok(fd)
}

/// A stream socket of the Unix domain, non-blocking, closed on exec.
///
/// # Errors
/// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`.
pub fn unix_stream() -> io::Result<OwnedFd> {
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, FLAGS, None)?)
}

/// Begins to connect. False while that is under way: the socket becomes writable
/// when it is over.
///
/// # Errors
/// `ECONNREFUSED`, `ENETUNREACH`, `EADDRNOTAVAIL` (no port is left).
pub fn connect(socket: BorrowedFd<'_>, address: SocketAddr) -> io::Result<bool> {
    match rustix::net::connect(socket, &address) {
        Ok(()) => Ok(true),
        // Interrupted, it goes on by itself.
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Connects to the stream socket at `path`, at once or not at all. False where its
/// queue of connections is full (`EAGAIN`): nothing tells when it no longer is
/// (`unix(7)`), so this has to be tried again.
///
/// # Errors
/// `ENOENT`, `ECONNREFUSED` (nobody listens), `EACCES`, `EPROTOTYPE` (no stream
/// socket), `ENAMETOOLONG` (more than 107 bytes), `EINTR`.
pub fn connect_unix(socket: BorrowedFd<'_>, path: &Path) -> io::Result<bool> {
    let address = SocketAddrUnix::new(path)?;
    match rustix::net::connect(socket, &address) {
        Ok(()) => Ok(true),
        Err(Errno::AGAIN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// What became of a connection that was begun: whether it stands.
///
/// # Errors
/// `ECONNREFUSED`, `EHOSTUNREACH`, `ENETUNREACH`, `ETIMEDOUT`, `ECONNRESET`. Told
/// once (`SO_ERROR`).
pub fn is_connected(socket: BorrowedFd<'_>) -> io::Result<bool> {
    sockopt::socket_error(socket)??;
    match getpeername(socket) {
        Ok(_) => Ok(true),
        Err(Errno::NOTCONN) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_full_unix_queue_is_told_apart_from_an_error() {
        let directory = std::env::temp_dir().join(format!("connect-{}", std::process::id()));
        let _ = std::fs::remove_file(&directory);
        let listener = unix_stream().unwrap();
        rustix::net::bind(&listener, &SocketAddrUnix::new(&directory).unwrap()).unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut clients = Vec::new();
        let mut is_full = false;
        for _ in 0..16 {
            let client = unix_stream().unwrap();
            is_full = !connect_unix(client.as_fd(), &directory).unwrap();
            clients.push(client);
            if is_full {
                break;
            }
        }
        std::fs::remove_file(&directory).unwrap();
        assert!(is_full);
        let error = connect_unix(unix_stream().unwrap().as_fd(), &directory).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
