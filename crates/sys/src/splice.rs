//! Moving page references through a pipe (`splice(2)`, `pipe(7)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};

/// A pipe of our own: a cyclic buffer of page references in the kernel.
///
/// It counts slots, not bytes (docs/kernel.md): what it holds is
/// bounded by `contained`, which this type keeps.
#[derive(Debug)]
pub struct Pipe {
    read: OwnedFd,
    write: OwnedFd,
    capacity: usize,
    contained: usize,
}

impl Pipe {
    /// A pipe with room for `capacity` bytes of full pages, or as many as the
    /// kernel grants (`pipe-max-size`, `pipe-user-pages-soft`).
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`.
    pub fn new(capacity: usize) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC)?;
        // EPERM beyond the user's share of pipe pages: the pipe still works,
        // smaller; its true size is asked for below.
        let granted = fcntl_setpipe_size(&write, capacity)
            .or_else(|_| rustix::pipe::fcntl_getpipe_size(&write))?;
        Ok(Pipe { read, write, capacity: granted, contained: 0 })
    }

    /// Bytes of full pages that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes in the pipe now.
    #[must_use]
    pub fn contained(&self) -> usize {
        self.contained
    }

    /// Moves at most `len` bytes of `file` from `offset` into the pipe; the
    /// file's own position is neither used nor moved. 0 means that `offset`
    /// is at or past the end of the file.
    ///
    /// # Errors
    /// `EAGAIN` when no slot is free; `EINVAL` when the file cannot be
    /// spliced; `EIO`, `EINTR`.
    pub fn fill_from_file(
        &mut self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let mut offset = offset;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(file, Some(&mut offset), &self.write, None, len, flags)?;
        self.contained += moved;
        Ok(moved)
    }

    /// Moves at most `len` bytes from the pipe to `socket`; `more` says that
    /// others follow at once (`SPLICE_F_MORE`).
    ///
    /// # Errors
    /// `EAGAIN` when the socket is full or the pipe empty; `EPIPE`,
    /// `ECONNRESET`, `EINTR`.
    pub fn drain_to_socket(
        &mut self,
        socket: BorrowedFd<'_>,
        len: usize,
        more: bool,
    ) -> io::Result<usize> {
        let mut flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        flags.set(SpliceFlags::MORE, more);
        let moved = splice(&self.read, None, socket, None, len, flags)?;
        self.contained = self.contained.saturating_sub(moved);
        Ok(moved)
    }

    /// Reads from the pipe (`read(2)`); returns how many bytes came.
    ///
    /// # Errors
    /// `EAGAIN` when it is empty; `EINTR`.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = rustix::io::read(&self.read, buffer)?;
        self.contained = self.contained.saturating_sub(count);
        Ok(count)
    }
}

impl AsFd for Pipe {
    /// The reading end.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};

    #[test]
    fn a_file_range_passes_through_whole_and_the_pipe_knows_what_it_holds() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let mut pipe = Pipe::new(64 * 1024).unwrap();
        assert!(pipe.capacity() >= 4096);
        assert_eq!(pipe.fill_from_file(file.as_fd(), 3, 4).unwrap(), 4);
        assert_eq!(pipe.contained(), 4);
        assert_eq!(pipe.drain_to_socket(theirs.as_fd(), 100, false).unwrap(), 4);
        assert_eq!(pipe.contained(), 0);
        let mut got = [0; 4];
        ours.read_exact(&mut got).unwrap();
        assert_eq!(&got, b"3456");
        assert_eq!(pipe.fill_from_file(file.as_fd(), 10, 4).unwrap(), 0);
        let empty = pipe.drain_to_socket(theirs.as_fd(), 1, false).unwrap_err();
        assert_eq!(empty.kind(), io::ErrorKind::WouldBlock);
    }
}
