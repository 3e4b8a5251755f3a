//! The bare `sendfile` loop.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use sluicegate_sys::{sendfile, socket};

use super::{Transfer, Turn};

/// A turn's share, so that eight downloads advance together; nginx's own default
/// (`sendfile_max_chunk`).
const SHARE: u64 = 2 << 20;

/// The file behind its head.
pub(crate) struct Source {
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) head: Vec<u8>,
}

impl Source {
    pub(super) fn new(file: File, length: u64) -> Self {
        Self { file, length, head: super::head(length) }
    }

    /// Sends the head; a socket that has just delivered its last answer has room for it.
    pub(super) fn send_head(&self, socket: BorrowedFd<'_>, cork: bool) -> io::Result<()> {
        if cork {
            socket::set_cork(socket, true)?;
        }
        let sent = socket::send(socket, &self.head, true)?;
        if sent == self.head.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }
}

/// How much of the file was accepted; `None` before the head.
pub(crate) struct Sendfile<const CORK: bool> {
    sent: Option<u64>,
}

impl<const CORK: bool> Transfer for Sendfile<CORK> {
    type Shared = Source;

    fn prepare(file: File, length: u64) -> io::Result<Source> {
        Ok(Source::new(file, length))
    }

    fn new(_: &Source) -> io::Result<Self> {
        Ok(Self { sent: None })
    }

    fn restart(&mut self) {
        self.sent = None;
    }

    fn drive(&mut self, source: &Source, socket: BorrowedFd<'_>) -> io::Result<Turn> {
        let sent = match &mut self.sent {
            Some(sent) => sent,
            before_head => {
                source.send_head(socket, CORK)?;
                before_head.insert(0)
            }
        };
        let share = (source.length - *sent).min(SHARE);
        let accepted = sendfile::sendfile(socket, source.file.as_fd(), *sent, share as usize)?;
        if accepted == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *sent += accepted as u64;
        if *sent < source.length {
            return Ok(Turn::Again);
        }
        if CORK {
            socket::set_cork(socket, false)?;
        }
        Ok(Turn::Done)
    }
}
