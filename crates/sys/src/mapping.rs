//! A file's pages as memory (`mmap(2)`), shared with everybody who has the file.
//!
//! Such memory is no `&[u8]`: whoever writes to the file changes it, at any
//! time, and pages behind the end of a file that was truncated raise SIGBUS.
//! So its bytes are copied in and out, one atomic access each, and the kernel
//! may send from it by itself.

use std::io;
use std::ops::Range;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::{NonNull, null_mut};
use std::sync::atomic::{AtomicU8, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The first bytes of a file, mapped readable, writable and shared.
///
/// Touching a page that lies wholly behind the end of the file ends the
/// process by SIGBUS, unless it has a handler for that. The system calls of a
/// mapping fail with `EFAULT` instead.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<AtomicU8>,
    len: usize,
}

// SAFETY: the mapping belongs to the process, not to a thread; it stays until
// the value is dropped, and all accesses to its bytes are atomic.
unsafe impl Send for Mapping {}
// SAFETY: as for `Send`; nothing of the value itself changes.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `len` bytes of `file`, which is open for reading and
    /// writing. The file may be shorter, and become so.
    ///
    /// # Errors
    /// As `mmap(2)`: `EACCES`, `ENODEV`, `ENOMEM`; `EINVAL` for no bytes at all.
    pub fn shared(file: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: the kernel chooses a place where nothing is, so no memory of
        // anybody's changes.
        let start = unsafe { mmap(null_mut(), len, protection, MapFlags::SHARED, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Mapping { start, len })
    }

    /// Bytes that it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it has none: never, since there is no such mapping.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: valid because `len` bytes from `start` are mapped readable
        // and writable, AtomicU8 has the layout of a byte, and whoever else
        // writes there in this process does so by atomic accesses too; until
        // the value is dropped, which the borrow outlives not. (Other
        // processes and the kernel are outside of the memory model: an atomic
        // access sees the old byte or the new one.)
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// Copies `buffer.len()` bytes from `offset` on into `buffer`.
    ///
    /// # Panics
    /// When that is not within the mapping.
    pub fn read_at(&self, offset: usize, buffer: &mut [u8]) {
        let bytes = &self.bytes()[offset..][..buffer.len()];
        for (byte, mapped) in buffer.iter_mut().zip(bytes) {
            *byte = mapped.load(Ordering::Relaxed);
        }
    }

    /// Copies `bytes` to where they are from `offset` on: into the file, too.
    ///
    /// # Panics
    /// When that is not within the mapping.
    pub fn write_at(&self, offset: usize, bytes: &[u8]) {
        for (mapped, byte) in self.bytes()[offset..][..bytes.len()].iter().zip(bytes) {
            mapped.store(*byte, Ordering::Relaxed);
        }
    }

    /// `send(2)` of these bytes: the kernel copies them itself. Returns how
    /// many it took.
    ///
    /// # Errors
    /// As [`crate::socket::send`]; `EFAULT` when it came to a page that is
    /// missing, and had taken nothing before.
    ///
    /// # Panics
    /// When the range is not within the mapping.
    pub fn send(&self, socket: BorrowedFd<'_>, range: Range<usize>) -> io::Result<usize> {
        let bytes = &self.bytes()[range];
        let flags = libc::MSG_NOSIGNAL;
        // SAFETY: the kernel reads `len` bytes from the pointer, which are
        // mapped until after the call; where one is missing it says so.
        let sent =
            unsafe { libc::send(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) };
        usize::try_from(sent).map_err(|_| io::Error::last_os_error())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: these `len` bytes were mapped by `shared`, and every borrow
        // of them has ended. An error cannot be: the range is a mapping's.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn a_mapping_is_the_file_both_ways() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mapping = Mapping::shared(file.as_fd(), 10).unwrap();
        let mut read = [0; 4];
        mapping.read_at(3, &mut read);
        assert_eq!(&read, b"3456");
        mapping.write_at(8, b"xy");
        let mut all = Vec::new();
        crate::file::read_at(file.as_fd(), 0, 20, &mut all).unwrap();
        assert_eq!(all, b"01234567xy");
        assert_eq!(mapping.len(), 10);
        assert!(Mapping::shared(file.as_fd(), 0).is_err(), "there is none without a byte");
    }

    #[test]
    #[should_panic(expected = "out of range")]
    fn nothing_outside_of_it_is_touched() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[0; 10]).unwrap();
        let mapping = Mapping::shared(file.as_fd(), 10).unwrap();
        mapping.read_at(8, &mut [0; 3]);
    }
}
