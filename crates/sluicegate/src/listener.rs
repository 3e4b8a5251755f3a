//! A listening socket that several workers may share.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use sluicegate_sys::socket;

use crate::readiness::{Readiness, Source};

/// Connections that the kernel keeps until they are accepted; it cuts this
/// down to `net.core.somaxconn`.
pub const BACKLOG: i32 = 4096;

/// Opens a listening socket on `address`, for as many [`Listener`]s as share it.
///
/// On a loopback address its connections are not paced: where the host's
/// default is BBR, they get Reno, which every kernel has and every user may
/// choose. A pacing algorithm starts a timer for each 64 KiB, and there is no
/// congestion to find on the loopback: sending 1 GiB there costs 0.11 s of CPU
/// with BBR and 0.044 s without (bench `static`).
///
/// # Errors
/// `EADDRINUSE`, `EADDRNOTAVAIL`, `EACCES`, `EMFILE`.
pub fn listen(address: SocketAddr) -> io::Result<Arc<OwnedFd>> {
    let listener = socket::listen(address, BACKLOG)?;
    spare_pacing(&listener, address);
    Ok(Arc::new(listener))
}

/// As [`listen`], with a socket that listens already: inherited from whoever
/// started this process.
///
/// # Errors
/// `EOPNOTSUPP`, `ENOTSOCK`.
pub fn listen_on(socket: OwnedFd) -> io::Result<Arc<OwnedFd>> {
    socket::listen_again(socket.as_fd(), BACKLOG)?;
    if let Some(address) = socket::local_address(socket.as_fd())? {
        spare_pacing(&socket, address);
    }
    Ok(Arc::new(socket))
}

pub(crate) fn spare_pacing(listener: &OwnedFd, address: SocketAddr) {
    if address.ip().to_canonical().is_loopback()
        && socket::congestion_control(listener.as_fd()).is_ok_and(|name| name.starts_with("bbr"))
    {
        // A refusal costs speed and nothing else.
        let _ = socket::set_congestion_control(listener.as_fd(), "reno");
    }
}

/// One worker's view of a listening socket. The socket itself is never closed
/// while another view lives, so no queued connection is ever reset.
#[derive(Debug)]
pub struct Listener<S: Source> {
    // Dropped before the socket, as `Source::watch` asks.
    readiness: S::Readiness,
    source: S,
    socket: Arc<OwnedFd>,
}

impl<S: Source> Listener<S> {
    /// Watches an open listening socket.
    ///
    /// # Errors
    /// As [`Source::watch_listener`].
    pub fn new(socket: Arc<OwnedFd>, source: S) -> io::Result<Self> {
        let readiness = source.watch_listener(socket.as_fd())?;
        Ok(Listener { readiness, source, socket })
    }

    /// The address that it is bound to; tells the port that the kernel chose.
    ///
    /// # Errors
    /// `ENOBUFS`.
    pub fn local_address(&self) -> io::Result<Option<SocketAddr>> {
        socket::local_address(self.socket.as_fd())
    }

    /// The source that watches it, to watch what it accepts as well.
    #[must_use]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Watches the socket no longer: connections that come from now on wake
    /// whoever else watches it, in this process or another. Those that had
    /// woken this view before are still to be taken, by
    /// [`Listener::accept_now`] until there is none.
    pub fn unwatch(&self) {
        self.readiness.unwatch(self.socket.as_fd());
    }

    /// A connection that waits already; `None` when there is none.
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn accept_now(&self) -> io::Result<Option<(OwnedFd, Option<SocketAddr>)>> {
        loop {
            match socket::accept(self.socket.as_fd()) {
                Ok(connection) => return Ok(Some(connection)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// The next connection, and where it comes from.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOBUFS`, `ENOMEM`: wait a little before the next
    /// try, since the connection stays in the queue. `ECONNABORTED` and the
    /// network's errors of a connection that is gone already are skipped.
    pub async fn accept(&self) -> io::Result<(OwnedFd, Option<SocketAddr>)> {
        loop {
            let edge = poll_fn(|cx| self.readiness.poll_readable(cx)).await;
            match socket::accept(self.socket.as_fd()) {
                Ok(connection) => return Ok(connection),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readiness.clear_readable(edge);
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl<S: Source> Drop for Listener<S> {
    /// The socket may stay open elsewhere, and with it the kernel's registration
    /// here, which would take wake-ups that are another's.
    fn drop(&mut self) {
        self.unwatch();
    }
}

impl<S: Source> AsFd for Listener<S> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// accept(2): Linux passes pending network errors of the new connection on as
/// errors of `accept`, to be treated like `EAGAIN` by retrying.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind as Kind;
    const EPROTO: i32 = 71;
    matches!(
        error.kind(),
        Kind::ConnectionAborted
            | Kind::ConnectionReset
            | Kind::Interrupted
            | Kind::NetworkDown
            | Kind::NetworkUnreachable
            | Kind::HostUnreachable
    ) || error.raw_os_error() == Some(EPROTO)
}
