//! Regular files: positioned reads and what `fstat(2)` says.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, fstat};

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    Regular,
    /// A directory.
    Directory,
    /// Device, fifo, socket or anything else that is not served.
    Special,
}

/// Identity and version of a file, as far as the kernel tells them.
///
/// Two equal stamps mean the same file in the same version, within the
/// resolution of its file system's timestamps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// What it is.
    pub kind: Kind,
    /// Size in bytes.
    pub len: u64,
    /// Device and inode number.
    pub inode: (u64, u64),
    /// Last change of the content: seconds since the epoch, nanoseconds.
    pub modified: (i64, u32),
    /// Last change of the content or of the inode: seconds since the epoch, nanoseconds.
    pub changed: (i64, u32),
}

/// `fstat(2)`. Works on a descriptor opened with `O_PATH` too.
///
/// # Errors
/// `EIO` and `ESTALE` from the file system.
pub fn stamp(file: BorrowedFd<'_>) -> io::Result<Stamp> {
    let stat = fstat(file)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => Kind::Regular,
        FileType::Directory => Kind::Directory,
        _ => Kind::Special,
    };
    // Nanoseconds are below 10⁹ by definition, so the narrowing keeps them whole.
    #[allow(clippy::cast_possible_truncation)]
    let nanos = |value| value as u32;
    Ok(Stamp {
        kind,
        len: u64::try_from(stat.st_size).unwrap_or(0),
        inode: (stat.st_dev, stat.st_ino),
        modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
        changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
    })
}

/// `pread(2)`: appends at most `len` bytes from `offset` to `buffer`, which
/// grows as needed. Returns how many came; 0 means the end of the file.
///
/// # Errors
/// `EIO`, `ESTALE`, `EINTR`.
pub fn read_at(
    file: BorrowedFd<'_>,
    offset: u64,
    len: usize,
    buffer: &mut Vec<u8>,
) -> io::Result<usize> {
    let start = buffer.len();
    buffer.reserve(len);
    if buffer.capacity() - start == len {
        return Ok(rustix::io::pread(file, spare_capacity(buffer), offset)?);
    }
    // The allocation is larger than what may be read: bound the read by a
    // slice of just the right length.
    buffer.resize(start + len, 0);
    let read = rustix::io::pread(file, &mut buffer[start..], offset);
    buffer.truncate(start + *read.as_ref().unwrap_or(&0));
    Ok(read?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::fd::AsFd;

    #[test]
    fn read_at_appends_no_more_than_asked_and_zero_at_the_end() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"0123456789").unwrap();
        let mut buffer = Vec::with_capacity(100);
        assert_eq!(read_at(file.as_fd(), 2, 3, &mut buffer).unwrap(), 3);
        assert_eq!(read_at(file.as_fd(), 8, 50, &mut buffer).unwrap(), 2);
        assert_eq!(buffer, b"23489");
        assert_eq!(read_at(file.as_fd(), 10, 5, &mut buffer).unwrap(), 0);
        assert_eq!(buffer.len(), 5);
    }

    #[test]
    fn a_stamp_changes_with_the_content() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(b"a").unwrap();
        let before = stamp(file.as_fd()).unwrap();
        assert_eq!((before.kind, before.len), (Kind::Regular, 1));
        file.write_all(b"b").unwrap();
        assert_ne!(before, stamp(file.as_fd()).unwrap());
    }
}
