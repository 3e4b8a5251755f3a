//! The bare splice loop: upstream, pipe of 1 MiB, client.

use std::io::{self, ErrorKind};
use std::os::fd::BorrowedFd;

use sluicegate_sys::{socket, splice::Pipe};

use super::head;
use super::pairs::{Mover, pass_request};

/// The default of `pipe-max-size`.
const PIPE: usize = 1 << 20;

/// Room for a head.
const ROOM: usize = 4 << 10;

pub(super) struct Splice {
    pipe: Pipe,
    /// Bytes of the body that are not yet in the pipe; `None` between answers.
    left: Option<u64>,
    is_asked: bool,
    buffer: Box<[u8; ROOM]>,
}

impl Mover for Splice {
    fn new() -> io::Result<Self> {
        let buffer = Box::new([0; ROOM]);
        Ok(Self { pipe: Pipe::new(PIPE)?, left: None, is_asked: false, buffer })
    }

    fn turn(&mut self, client: BorrowedFd<'_>, upstream: BorrowedFd<'_>) -> io::Result<()> {
        if !self.is_asked {
            self.is_asked = pass_request(client, upstream, &mut self.buffer[..])?;
            return Ok(());
        }
        if self.left.is_none() {
            let received = socket::receive_into(upstream, &mut self.buffer[..])?;
            let received = &self.buffer[..received];
            // It comes in one packet.
            let (end, length) = head(received).ok_or(ErrorKind::InvalidData)?;
            let left = length - (received.len() - end) as u64;
            let sent = socket::send(client, received, left > 0)?;
            if sent < received.len() {
                return Err(ErrorKind::WriteZero.into());
            }
            self.left = Some(left);
        }
        self.body(client, upstream)
    }
}

impl Splice {
    fn body(&mut self, client: BorrowedFd<'_>, upstream: BorrowedFd<'_>) -> io::Result<()> {
        loop {
            let left = self.left.unwrap_or(0);
            let room = self.pipe.capacity().saturating_sub(self.pipe.contained());
            let share = left.min(room as u64) as usize;
            let mut is_dry = share == 0;
            if share > 0 {
                match self.pipe.fill_from_socket(upstream, share) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(filled) => self.left = Some(left - filled as u64),
                    Err(error) if error.kind() == ErrorKind::WouldBlock => is_dry = true,
                    Err(error) => return Err(error),
                }
            }
            if self.pipe.contained() == 0 {
                if self.left == Some(0) {
                    (self.left, self.is_asked) = (None, false);
                    return Ok(());
                }
                if is_dry {
                    return Ok(());
                }
            }
            let more = self.left != Some(0);
            self.pipe.drain_to_socket(client, self.pipe.contained(), more)?;
        }
    }
}
