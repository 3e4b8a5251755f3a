//! Blocking `sendfile` for many connections on one loop, what an event loop must not do: while one
//! client downloads, nobody else is served.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::io::ioctl_fionbio;
use sluicegate_sys::{outq, sendfile, tcp_info};

use super::sendfile::Source;
use super::{Transfer, Turn};

/// With `ACKED` the call stands for one that returns when the peer's TCP has acknowledged the last
/// byte, which no kernel has: the queue is asked (`SIOCOUTQ`) without a pause, so that not a
/// moment is lost that a kernel would not lose either. (Its CPU time is therefore no figure.)
pub(crate) struct Blocking<const ACKED: bool>;

impl<const ACKED: bool> Transfer for Blocking<ACKED> {
    type Shared = Source;

    fn prepare(file: File, length: u64) -> io::Result<Source> {
        Ok(Source::new(file, length))
    }

    fn new(_: &Source) -> io::Result<Self> {
        Ok(Self)
    }

    fn restart(&mut self) {}

    fn drive(&mut self, source: &Source, socket: BorrowedFd<'_>) -> io::Result<Turn> {
        source.send_head(socket, false)?;
        ioctl_fionbio(socket, false)?;
        let mut sent = 0;
        while sent < source.length {
            let left = usize::try_from(source.length - sent).unwrap_or(usize::MAX);
            match sendfile::sendfile(socket, source.file.as_fd(), sent, left) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(accepted) => sent += accepted as u64,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        if ACKED {
            await_acked(socket)?;
        }
        // The loop receives requests without blocking.
        ioctl_fionbio(socket, true)?;
        Ok(Turn::Done)
    }
}

/// Asks without a pause until everything is acknowledged.
pub(super) fn await_acked(socket: BorrowedFd<'_>) -> io::Result<()> {
    let mut asked = 0_u32;
    while outq::unacknowledged(socket)? > 0 {
        asked = asked.wrapping_add(1);
        // What a connection that is gone has not acknowledged it never will.
        if asked.is_multiple_of(1 << 10) && tcp_info::tcp_info(socket)?.closed {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
    }
    Ok(())
}
