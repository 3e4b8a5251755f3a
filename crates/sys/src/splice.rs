//! Moving page references through a pipe (`splice(2)`, `pipe(7)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::ioctl::{Getter, Opcode, ioctl};
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
    contained: AtomicUsize,
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
        Ok(Pipe { read, write, capacity: granted, contained: AtomicUsize::new(0) })
    }

    /// Bytes of full pages that fit.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes in the pipe now.
    #[must_use]
    pub fn contained(&self) -> usize {
        self.contained.load(Ordering::Relaxed)
    }

    /// Moves at most `len` bytes of `file` from `offset` into the pipe; the
    /// file's own position is neither used nor moved. 0 means that `offset`
    /// is at or past the end of the file.
    ///
    /// # Errors
    /// `EAGAIN` when no slot is free; `EINVAL` when the file cannot be
    /// spliced; `EIO`, `EINTR`.
    pub fn fill_from_file(
        &self,
        file: BorrowedFd<'_>,
        offset: u64,
        len: usize,
    ) -> io::Result<usize> {
        let mut offset = offset;
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(file, Some(&mut offset), &self.write, None, len, flags)?;
        self.contained.fetch_add(moved, Ordering::Relaxed);
        Ok(moved)
    }

    /// Moves at most `len` bytes from the pipe to `socket`; `more` says that
    /// others follow at once (`SPLICE_F_MORE`).
    ///
    /// # Errors
    /// `EAGAIN` when the socket is full or the pipe empty; `EPIPE`,
    /// `ECONNRESET`, `EINTR`.
    pub fn drain_to_socket(
        &self,
        socket: BorrowedFd<'_>,
        len: usize,
        more: bool,
    ) -> io::Result<usize> {
        let mut flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        flags.set(SpliceFlags::MORE, more);
        let moved = splice(&self.read, None, socket, None, len, flags)?;
        self.took(moved);
        Ok(moved)
    }

    /// Moves at most `len` bytes that `socket` has received into the pipe. 0
    /// means that its peer sends no more.
    ///
    /// # Errors
    /// `EAGAIN` when nothing has been received, or when no slot is free: the
    /// kernel does not say which (docs/kernel.md). `ECONNRESET`, `EINTR`.
    pub fn fill_from_socket(&self, socket: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let moved = splice(socket, None, &self.write, None, len, flags)?;
        self.contained.fetch_add(moved, Ordering::Relaxed);
        Ok(moved)
    }

    fn took(&self, bytes: usize) {
        // Never below zero: what is taken was put in before, by a call that has returned.
        self.contained.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Reads from the pipe (`read(2)`); returns how many bytes came.
    ///
    /// # Errors
    /// `EAGAIN` when it is empty; `EINTR`.
    pub fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = rustix::io::read(&self.read, buffer)?;
        self.took(count);
        Ok(count)
    }
}

/// Bytes that `socket` has received and that nobody has read (`FIONREAD`).
///
/// # Errors
/// `ENOTTY`, `EINVAL` of a listening socket.
pub fn received(socket: BorrowedFd<'_>) -> io::Result<u64> {
    Ok(rustix::io::ioctl_fionread(socket)?)
}

/// Whether what comes next on `socket` lies behind a byte out of band (`SIOCATMARK`).
///
/// # Errors
/// `ENOTTY` and the like where there is no such thing.
pub fn is_at_mark(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // asm-generic/sockios.h; `libc` has it for other systems alone.
    const SIOCATMARK: Opcode = 0x8905;
    // SAFETY: `SIOCATMARK` writes one int, on every socket that knows it (tcp_ioctl and
    // unix_ioctl: put_user of an int), which `Getter` has the room for.
    let mark = unsafe { ioctl(socket, Getter::<SIOCATMARK, libc::c_int>::new()) }?;
    Ok(mark != 0)
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
        let pipe = Pipe::new(64 * 1024).unwrap();
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
