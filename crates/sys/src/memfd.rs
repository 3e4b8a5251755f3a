//! Memory that is a file, too (`memfd_create(2)`, `mmap(2)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ptr::{self, NonNull};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// A file in memory, mapped whole into this process: what is written to the
/// slice, `sendfile` and `splice` read from the descriptor.
///
/// The file is sealed (`F_ADD_SEALS`, Linux 5.1): it has its length for ever,
/// and nobody else can write to it, so that the slice is what a slice has to
/// be. Pages that were given to a socket *do* change when the slice is written
/// to; whoever reuses it names the proof that they are sent.
#[derive(Debug)]
pub struct MappedMemfd {
    start: NonNull<u8>,
    len: usize,
    fd: OwnedFd,
}

// SAFETY: the memory belongs to this value alone, like a `Box<[u8]>`, and a
// mapping is the whole process's.
unsafe impl Send for MappedMemfd {}
// SAFETY: through a shared reference it can only be read.
unsafe impl Sync for MappedMemfd {}

impl MappedMemfd {
    /// A file of `len` bytes, all of them zero.
    ///
    /// # Errors
    /// `InvalidInput` for a length of 0; `EMFILE`, `ENOMEM`; `EINVAL` where the
    /// kernel is older than the seal.
    pub fn new(len: usize) -> io::Result<Self> {
        if len == 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let fd = memfd_create(c"sluicegate", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, len as u64)?;
        // SAFETY: a new mapping where the kernel likes it; nothing of ours is
        // there. It stays valid until `drop` unmaps it, and every page of it
        // lies within the file, which the seals below keep as long as it is.
        let start = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, &fd, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let memory = MappedMemfd { start, len, fd };
        // From here on this mapping is the only thing that writes to the file.
        let seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::FUTURE_WRITE | SealFlags::SEAL;
        fcntl_add_seals(&memory.fd, seals)?;
        Ok(memory)
    }
}

impl AsRef<[u8]> for MappedMemfd {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: mapped, readable and `len` bytes long until `drop`; nobody
        // else can write to the file (its seals), and this process only
        // through `&mut self`.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl AsMut<[u8]> for MappedMemfd {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_ref`, and writable; the kernel reads the pages and
        // does not write to them.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

impl AsFd for MappedMemfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl Drop for MappedMemfd {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length, and no slice of it
        // outlives the value. An error leaves it mapped, which leaks it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::read_at;

    #[test]
    fn what_is_written_to_the_slice_is_in_the_file() {
        let mut memory = MappedMemfd::new(10_000).unwrap();
        assert_eq!(memory.as_ref(), vec![0; 10_000]);
        memory.as_mut()[9_000..].fill(7);
        let mut read = Vec::with_capacity(2_000);
        assert_eq!(read_at(memory.as_fd(), 8_999, 2_000, &mut read).unwrap(), 1_001);
        assert_eq!((read[0], &read[1..]), (0, &[7; 1_000][..]));
    }

    #[test]
    fn nobody_else_writes_to_it_or_changes_its_length() {
        let memory = MappedMemfd::new(8_192).unwrap();
        assert!(rustix::io::pwrite(&memory, b"x", 0).is_err());
        assert!(ftruncate(&memory, 4_096).is_err());
        assert!(ftruncate(&memory, 16_384).is_err());
        assert!(MappedMemfd::new(0).is_err());
    }
}
