//! Connections that begin here.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use sluicegate_sys::{connect, socket};

use super::{SendContext, Socket};
use crate::listener::spare_pacing;
use crate::position::Position;
use crate::readiness::{Readiness, Source};

/// Where a connection goes to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// TCP.
    Tcp(SocketAddr),
    /// A stream socket of the Unix domain, by its path.
    Unix(PathBuf),
}

impl<R: Readiness> Socket<R> {
    /// Begins to connect; [`Socket::poll_connected`] tells when it is done. To
    /// wait for no longer than is good is the caller's: the kernel itself goes on
    /// for two minutes (`tcp_syn_retries`).
    ///
    /// # Errors
    /// As `socket(2)`, `connect(2)` and [`Source::watch`]. `WouldBlock`: the
    /// queue of a Unix socket that listens is full. Nothing tells when it no
    /// longer is, so that this is to be tried again a little later.
    pub fn connect<S>(target: &Target, source: &S, context: Arc<SendContext>) -> io::Result<Self>
    where
        S: Source<Readiness = R>,
    {
        // Watched only when it connects or is connected: before that the kernel
        // calls it hung up.
        let (fd, is_established) = match target {
            Target::Tcp(address) => {
                let fd = connect::tcp_for(*address)?;
                spare_pacing(&fd, *address);
                context.limits.apply(fd.as_fd())?;
                // Where it stands at once this is found out as ever.
                connect::connect(fd.as_fd(), *address)?;
                (fd, false)
            }
            Target::Unix(path) => {
                let fd = connect::unix_stream()?;
                loop {
                    match connect::connect_unix(fd.as_fd(), path) {
                        Ok(true) => break,
                        Ok(false) => return Err(io::ErrorKind::WouldBlock.into()),
                        Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                (fd, true)
            }
        };
        let readiness = source.watch(fd.as_fd())?;
        Ok(Socket {
            readiness,
            fd: Some(fd),
            is_established,
            is_tcp: matches!(target, Target::Tcp(_)),
            gathers: false,
            unwanted: 0,
            context,
            position: Position::START,
            pending: None,
            learned: None,
        })
    }

    /// Ready once the connection stands, or cannot be made.
    ///
    /// # Errors
    /// `ConnectionRefused`, `HostUnreachable` and what else `connect(2)` says.
    pub fn poll_connected(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.is_established {
            let edge = ready!(self.readiness.poll_writable(cx));
            if connect::is_connected(self.fd())? {
                self.is_established = true;
                if self.is_of_itself()? {
                    // Its port is free again at once.
                    let _ = socket::reset_on_close(self.fd());
                    return Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into()));
                }
            } else if edge.hung_up {
                // It failed, and somebody else was told why.
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            } else {
                self.readiness.clear_writable(edge);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Waits until the connection stands.
    ///
    /// # Errors
    /// As [`Socket::poll_connected`].
    pub async fn connected(&mut self) -> io::Result<()> {
        poll_fn(|cx| self.poll_connected(cx)).await
    }

    /// Whether it is connected to itself. Where nobody listens at a port of this
    /// host that the kernel may also choose for the near end, it sometimes does,
    /// and TCP allows both ends to open at once (RFC 9293 section 3.5). Whoever
    /// is to listen there could not while such a connection stands.
    fn is_of_itself(&self) -> io::Result<bool> {
        let peer = socket::peer_address(self.fd())?;
        Ok(peer.is_some() && peer == socket::local_address(self.fd())?)
    }
}
