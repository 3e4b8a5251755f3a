//! The bare `splice` loop: file, pipe of 1 MiB, socket.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use sluicegate_sys::{socket, splice::Pipe};

use super::sendfile::Source;
use super::{Transfer, Turn};

/// The default of `pipe-max-size`, and the size that measured best.
const PIPE: usize = 1 << 20;

/// How much of the file is in the pipe or beyond; `None` before the head.
pub(crate) struct Splice<const CORK: bool> {
    pipe: Pipe,
    read: Option<u64>,
}

impl<const CORK: bool> Transfer for Splice<CORK> {
    type Shared = Source;

    fn prepare(file: File, length: u64) -> io::Result<Source> {
        Ok(Source::new(file, length))
    }

    fn new(_: &Source) -> io::Result<Self> {
        Ok(Self { pipe: Pipe::new(PIPE)?, read: None })
    }

    fn restart(&mut self) {
        self.read = None;
    }

    fn drive(&mut self, source: &Source, socket: BorrowedFd<'_>) -> io::Result<Turn> {
        let read = match &mut self.read {
            Some(read) => read,
            before_head => {
                source.send_head(socket, CORK)?;
                before_head.insert(0)
            }
        };
        if self.pipe.contained() == 0 {
            let share = (source.length - *read).min(self.pipe.capacity() as u64) as usize;
            let filled = self.pipe.fill_from_file(source.file.as_fd(), *read, share)?;
            if filled == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            *read += filled as u64;
        }
        let more = *read < source.length;
        self.pipe.drain_to_socket(socket, self.pipe.contained(), more)?;
        if more || self.pipe.contained() > 0 {
            return Ok(Turn::Again);
        }
        if CORK {
            socket::set_cork(socket, false)?;
        }
        Ok(Turn::Done)
    }
}
