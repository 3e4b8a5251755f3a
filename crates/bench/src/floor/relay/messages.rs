//! Small messages both ways: four calls for a request and its answer, and nothing parsed.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use sluicegate_sys::socket;

use super::pairs::{Mover, pass_request};

/// Longer than any message.
const ROOM: usize = 4 << 10;

pub(super) struct Messages {
    /// Whose turn it is: each message is an answer to the last one.
    awaits_upstream: bool,
    buffer: Box<[u8; ROOM]>,
}

impl Mover for Messages {
    fn new() -> io::Result<Self> {
        Ok(Self { awaits_upstream: false, buffer: Box::new([0; ROOM]) })
    }

    fn turn(&mut self, client: BorrowedFd<'_>, upstream: BorrowedFd<'_>) -> io::Result<()> {
        if !self.awaits_upstream {
            self.awaits_upstream = pass_request(client, upstream, &mut self.buffer[..])?;
            return Ok(());
        }
        let received = socket::receive_into(upstream, &mut self.buffer[..])?;
        if received == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let sent = socket::send(client, &self.buffer[..received], false)?;
        if sent < received {
            return Err(ErrorKind::WriteZero.into());
        }
        self.awaits_upstream = false;
        Ok(())
    }
}
