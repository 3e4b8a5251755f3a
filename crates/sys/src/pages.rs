//! Pages of a file of our own, in parts that are written, sent and replaced one
//! by one (`memfd_create(2)`, `open(2)` with O_TMPFILE, `mmap(2)`,
//! `fallocate(2)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::Arc;

use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate,
    memfd_create, open,
};
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap};

use crate::splice::Pipe;

/// A part of a mapped file that is nobody else's: the only value through which
/// these bytes are written.
///
/// Pages that were given to a socket by [`Pages::sendfile`] *do* change when
/// they are written to; whoever does that names the proof that they are sent.
/// After [`Pages::replace`] they do not.
#[derive(Debug)]
pub struct Pages {
    map: Arc<Map>,
    /// Where in the file, and in its mapping.
    offset: usize,
    len: usize,
}

/// A file that is mapped whole, and that no name leads to.
#[derive(Debug)]
struct Map {
    start: NonNull<u8>,
    len: usize,
    fd: OwnedFd,
}

// SAFETY: a mapping is the whole process's, and no method of `Map` itself reads
// or writes its bytes: `Pages` does, of which there is one for each byte.
unsafe impl Send for Map {}
// SAFETY: as for `Send`.
unsafe impl Sync for Map {}

impl Map {
    fn new(fd: OwnedFd, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping where the kernel likes it; nothing of ours is
        // there. It stays valid until `drop` unmaps it.
        let start = unsafe {
            let protection = ProtFlags::READ | ProtFlags::WRITE;
            mmap(ptr::null_mut(), len, protection, MapFlags::SHARED, &fd, 0)?
        };
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Map { start, len, fd })
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: mapped by `new` with this length; every slice of it borrows a
        // `Pages`, each of which holds this value, so none is left. An error
        // leaves it mapped, which leaks it.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
    }
}

impl Pages {
    /// A file in memory of `parts` times `len` bytes, all of them zero, in its
    /// parts. It is sealed (`F_ADD_SEALS`) against growing and shrinking, so that
    /// no byte of the mapping can be behind its end. `len` is to be a multiple of
    /// the page size if parts are to be replaced.
    ///
    /// # Errors
    /// `InvalidInput` for no bytes, or more than can be counted; `EMFILE`, `ENOMEM`.
    pub fn in_memory(len: usize, parts: usize) -> io::Result<Vec<Pages>> {
        let total = len.checked_mul(parts).filter(|total| *total > 0);
        let total = total.ok_or(io::ErrorKind::InvalidInput)?;
        let fd = memfd_create(c"sluicegate-ring", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&fd, total as u64)?;
        fcntl_add_seals(&fd, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = Arc::new(Map::new(fd, total)?);
        Ok((0..parts)
            .map(|part| Pages { map: Arc::clone(&map), offset: part * len, len })
            .collect())
    }

    /// An unlinked file of `len` bytes in `directory`, all of them zero, as one
    /// part. Its blocks are allocated, so that no write can find the disk full
    /// (but on file systems that copy on write). Who may open this process's
    /// descriptors through /proc can truncate it, and a process that touches a
    /// page behind the end is ended by SIGBUS.
    ///
    /// # Errors
    /// `InvalidInput` for no bytes; `ENOENT`, `EACCES`, `EMFILE`, `ENOSPC`;
    /// `EOPNOTSUPP` where the file system has no unlinked files or does not
    /// allocate.
    pub fn in_directory(directory: &Path, len: usize) -> io::Result<Pages> {
        let pages = Self::in_one_file(directory, len, 1)?;
        pages.into_iter().next().ok_or_else(|| io::ErrorKind::InvalidInput.into())
    }

    /// As [`Pages::in_directory`], in `parts` parts of `len` bytes.
    ///
    /// # Errors
    /// As [`Pages::in_directory`].
    pub fn in_one_file(directory: &Path, len: usize, parts: usize) -> io::Result<Vec<Pages>> {
        let total = len.checked_mul(parts).filter(|total| *total > 0);
        let total = total.ok_or(io::ErrorKind::InvalidInput)?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC | OFlags::EXCL;
        let fd = open(directory, flags, Mode::RUSR | Mode::WUSR)?;
        fallocate(&fd, FallocateFlags::empty(), 0, total as u64)?;
        let map = Arc::new(Map::new(fd, total)?);
        Ok((0..parts)
            .map(|part| Pages { map: Arc::clone(&map), offset: part * len, len })
            .collect())
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none: never, since there is no such mapping.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Writes `bytes` from `at` on by `pwrite(2)`. Where the pages are missing
    /// that costs half of what writing to the slice does, which takes a fault
    /// for each page.
    ///
    /// # Errors
    /// `InvalidInput` when that is not within this part; `ENOSPC`, `EIO`, `ENOMEM`.
    pub fn write_at(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        let end = at.checked_add(bytes.len()).filter(|end| *end <= self.len);
        end.ok_or(io::ErrorKind::InvalidInput)?;
        let mut done = 0;
        while done < bytes.len() {
            let offset = (self.offset + at + done) as u64;
            match rustix::io::pwrite(&self.map.fd, &bytes[done..], offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => done += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Makes all pages of this part, and maps them, in one call
    /// (`MADV_POPULATE_WRITE`, Linux 5.14): each would otherwise cost a fault
    /// when it is first touched.
    ///
    /// # Errors
    /// `EINVAL` on an older kernel, `ENOMEM`; nothing is lost then but time.
    pub fn populate(&mut self) -> io::Result<()> {
        // SAFETY: the range lies within the mapping, of which no other value has
        // these bytes; populating changes none of them.
        unsafe {
            let start = self.map.start.as_ptr().add(self.offset);
            madvise(start.cast(), self.len, Advice::LinuxPopulateWrite)?;
        }
        Ok(())
    }

    /// Takes these pages out of the file (`FALLOC_FL_PUNCH_HOLE`); the next
    /// access finds fresh ones, all zero. Sockets and pipes keep the old ones,
    /// unchanged, *if the pages are no part of something larger* (a folio across
    /// the end of this part is zeroed in place, docs/kernel.md): that is to be
    /// tested before it is relied upon.
    ///
    /// # Errors
    /// `EOPNOTSUPP`, `EIO`.
    pub fn replace(&mut self) -> io::Result<()> {
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        loop {
            match fallocate(&self.map.fd, flags, self.offset as u64, self.len as u64) {
                // A file in memory gives way to signals; what it has punched by then
                // is punched.
                Err(rustix::io::Errno::INTR) => {}
                done => return Ok(done?),
            }
        }
    }

    /// Sends at most `len` bytes from `at` on to `socket`, by reference
    /// ([`crate::sendfile::sendfile`]).
    ///
    /// # Errors
    /// `InvalidInput` when that is not within this part; else as
    /// [`crate::sendfile::sendfile`].
    pub fn sendfile(&self, socket: BorrowedFd<'_>, at: usize, len: usize) -> io::Result<usize> {
        let offset = self.range(at, len)?;
        crate::sendfile::sendfile(socket, self.map.fd.as_fd(), offset, len)
    }

    /// Puts references to at most `len` bytes from `at` on into `pipe`.
    ///
    /// # Errors
    /// `InvalidInput` when that is not within this part; else as
    /// [`Pipe::fill_from_file`].
    pub fn fill(&self, pipe: &mut Pipe, at: usize, len: usize) -> io::Result<usize> {
        let offset = self.range(at, len)?;
        pipe.fill_from_file(self.map.fd.as_fd(), offset, len)
    }

    fn range(&self, at: usize, len: usize) -> io::Result<u64> {
        let end = at.checked_add(len).filter(|end| *end <= self.len);
        end.ok_or(io::ErrorKind::InvalidInput)?;
        Ok((self.offset + at) as u64)
    }
}

impl AsRef<[u8]> for Pages {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `len` bytes from `offset` lie within the mapping (made so in
        // the constructors), which is readable until the last `Pages` of it is
        // dropped. They change only through a `&mut` of this one value: no
        // other has these bytes, and the descriptor is handed to nobody.
        unsafe { std::slice::from_raw_parts(self.map.start.as_ptr().add(self.offset), self.len) }
    }
}

impl AsMut<[u8]> for Pages {
    fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `as_ref`, and writable; the borrow of this value is
        // exclusive. The kernel reads the pages and does not write to them
        // but in `write_at` and `replace`, which borrow it exclusively too.
        unsafe {
            std::slice::from_raw_parts_mut(self.map.start.as_ptr().add(self.offset), self.len)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: usize = 4096;

    /// What is in the pipe.
    fn drained(pipe: &mut Pipe) -> Vec<u8> {
        let mut bytes = vec![0; pipe.contained()];
        let count = pipe.read(&mut bytes).unwrap();
        assert_eq!(count, bytes.len());
        bytes
    }

    #[test]
    fn parts_are_apart_and_their_ends_are_kept() {
        let mut parts = Pages::in_memory(PAGE, 3).unwrap();
        parts[1].as_mut().fill(7);
        parts[2].write_at(PAGE - 3, b"end").unwrap();
        assert_eq!(parts[0].as_ref(), [0; PAGE]);
        assert_eq!(parts[1].as_ref(), [7; PAGE]);
        assert_eq!(&parts[2].as_ref()[PAGE - 4..], b"\0end");
        assert!(parts[0].write_at(PAGE - 2, b"abc").is_err(), "into the next part");
        assert!(parts[0].write_at(usize::MAX, b"abc").is_err());
        let mut pipe = Pipe::new(PAGE).unwrap();
        assert!(parts[0].fill(&mut pipe, 1, PAGE).is_err());
        assert!(Pages::in_memory(0, 3).is_err());
        assert!(Pages::in_memory(usize::MAX, 2).is_err());
    }

    #[test]
    fn what_a_pipe_refers_to_changes_with_the_page_unless_that_was_replaced() {
        let mut parts = Pages::in_memory(PAGE, 2).unwrap();
        let mut pipe = Pipe::new(16 * PAGE).unwrap();
        for is_replaced in [false, true] {
            // Whether it is populated makes no difference.
            let _ = parts[1].populate();
            parts[1].as_mut().fill(1);
            assert_eq!(parts[1].fill(&mut pipe, 0, PAGE).unwrap(), PAGE);
            if is_replaced {
                parts[1].replace().unwrap();
                assert_eq!(parts[1].as_ref(), [0; PAGE], "fresh");
            }
            parts[1].write_at(0, &[2; PAGE]).unwrap();
            let expected = if is_replaced { [1; PAGE] } else { [2; PAGE] };
            assert_eq!(drained(&mut pipe), expected);
        }
    }

    #[test]
    fn a_file_of_its_own_keeps_its_content_for_who_refers_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut pages = match Pages::in_directory(directory.path(), 2 * PAGE) {
            Ok(pages) => pages,
            // A file system without unlinked files says so.
            Err(error) => return assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        };
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "it has no name");
        pages.as_mut().fill(9);
        let mut pipe = Pipe::new(16 * PAGE).unwrap();
        assert_eq!(pages.fill(&mut pipe, 0, 2 * PAGE).unwrap(), 2 * PAGE);
        drop(pages);
        assert_eq!(drained(&mut pipe), [9; 2 * PAGE]);
        assert!(Pages::in_directory(directory.path(), 0).is_err());
        assert!(Pages::in_directory(&directory.path().join("none"), PAGE).is_err());
    }
}
