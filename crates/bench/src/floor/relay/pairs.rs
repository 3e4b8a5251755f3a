//! The loop of pairs: a client and the upstream connection that is its own.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::socket;

use super::connect;

/// How the bytes of a pair are moved.
pub(super) trait Mover: Sized {
    fn new() -> io::Result<Self>;

    /// Moves what can be moved. An error ends the pair; `WouldBlock` is none.
    fn turn(&mut self, client: BorrowedFd<'_>, upstream: BorrowedFd<'_>) -> io::Result<()>;
}

struct Pair<M> {
    client: OwnedFd,
    upstream: OwnedFd,
    mover: M,
}

const LISTENER: u64 = u64::MAX;

pub(super) fn serve<M: Mover>(listener: &OwnedFd, upstream: SocketAddr) -> io::Result<()> {
    let epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), LISTENER, Interest::SharedListener)?;
    let mut events = Events::with_capacity(256);
    let mut pairs: Vec<Option<Pair<M>>> = Vec::new();
    loop {
        match epoll.wait(&mut events, None) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let mut accepts = false;
        for (key, ready) in events.iter() {
            if key == LISTENER {
                accepts = true;
                continue;
            }
            let key = key as usize;
            let Some(Some(pair)) = pairs.get_mut(key) else { continue };
            let moved = pair.mover.turn(pair.client.as_fd(), pair.upstream.as_fd());
            let is_over = moved.is_err_and(|error| error.kind() != ErrorKind::WouldBlock);
            if is_over || ready.error() {
                pairs[key] = None;
            }
        }
        // Behind the other events: those of a connection that was closed are not for a new one
        // with its number.
        while accepts && let Ok((client, _)) = socket::accept(listener.as_fd()) {
            socket::set_nodelay(client.as_fd())?;
            let upstream = connect(upstream)?;
            // Both have the client's number.
            let key = client.as_raw_fd() as usize;
            epoll.add(client.as_fd(), key as u64, Interest::Both)?;
            epoll.add(upstream.as_fd(), key as u64, Interest::Both)?;
            if pairs.len() <= key {
                pairs.resize_with(key + 1, || None);
            }
            pairs[key] = Some(Pair { client, upstream, mover: M::new()? });
        }
    }
}

/// Passes a request on, which comes and goes in one piece; returns whether there was one.
pub(super) fn pass_request(
    client: BorrowedFd<'_>,
    upstream: BorrowedFd<'_>,
    buffer: &mut [u8],
) -> io::Result<bool> {
    match socket::receive_into(client, buffer) {
        Ok(0) => Err(ErrorKind::UnexpectedEof.into()),
        Ok(received) => {
            let sent = socket::send(upstream, &buffer[..received], false)?;
            if sent == received { Ok(true) } else { Err(ErrorKind::WriteZero.into()) }
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
