//! Regular files: positioned reads and what `fstat(2)` says.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::buffer::spare_capacity;
use rustix::fs::{FileType, Stat, fstat};

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
    /// Names that it has; 0 for one that was deleted or replaced.
    pub links: u64,
}

/// How a file is not what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Difference {
    /// It is another file.
    Identity,
    /// Bytes before and after.
    Length(u64, u64),
    /// The time of its last modification.
    Modified,
    /// The time of its last change of any kind: somebody may have written to it
    /// and set its modification time back.
    Changed,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Difference::Identity => f.write_str("it is another file"),
            Difference::Length(before, after) => {
                write!(f, "it had {before} bytes and has {after}")
            }
            Difference::Modified => f.write_str("its modification time is another"),
            Difference::Changed => f.write_str("its change time is another"),
        }
    }
}

impl Stamp {
    pub(crate) fn of(stat: &Stat) -> Self {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => Kind::Regular,
            FileType::Directory => Kind::Directory,
            _ => Kind::Special,
        };
        // Nanoseconds are below 10⁹ by definition, so the narrowing keeps them whole.
        #[allow(clippy::cast_possible_truncation)]
        let nanos = |value| value as u32;
        Stamp {
            kind,
            len: u64::try_from(stat.st_size).unwrap_or(0),
            inode: (stat.st_dev, stat.st_ino),
            modified: (stat.st_mtime, nanos(stat.st_mtime_nsec)),
            changed: (stat.st_ctime, nanos(stat.st_ctime_nsec)),
            // 64 bits on x86-64 and 32 on aarch64.
            #[allow(clippy::useless_conversion)]
            links: stat.st_nlink.into(),
        }
    }

    /// How the content of the file may differ from what it was at this stamp.
    ///
    /// A file that was deleted, renamed over or linked anew has another change
    /// time and another number of names, and still its old content: this is
    /// how files are replaced properly, and no difference.
    #[must_use]
    pub fn difference(&self, now: &Stamp) -> Option<Difference> {
        if (self.kind, self.inode) != (now.kind, now.inode) {
            Some(Difference::Identity)
        } else if self.len != now.len {
            Some(Difference::Length(self.len, now.len))
        } else if self.modified != now.modified {
            Some(Difference::Modified)
        } else if self.changed != now.changed && self.links == now.links {
            Some(Difference::Changed)
        } else {
            None
        }
    }
}

/// `fstat(2)`. Works on a descriptor opened with `O_PATH` too.
///
/// # Errors
/// `EIO` and `ESTALE` from the file system.
pub fn stamp(file: BorrowedFd<'_>) -> io::Result<Stamp> {
    Ok(Stamp::of(&fstat(file)?))
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
        let after = stamp(file.as_fd()).unwrap();
        assert_ne!(before, after);
        assert_eq!(before.difference(&after), Some(Difference::Length(1, 2)));
        assert_eq!(after.difference(&after), None);
    }

    #[test]
    fn a_file_that_is_replaced_or_deleted_is_still_what_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "old").unwrap();
        let file = std::fs::File::open(&path).unwrap();
        let before = stamp(file.as_fd()).unwrap();
        // Until the clock has moved, there is nothing to be seen.
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(dir.path().join("new"), "new").unwrap();
        std::fs::rename(dir.path().join("new"), &path).unwrap();
        let after = stamp(file.as_fd()).unwrap();
        assert_ne!(before, after, "its change time moved");
        assert_eq!(before.difference(&after), None);
    }

    #[test]
    fn a_modification_time_that_was_set_back_is_seen() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "aaa").unwrap();
        let before = stamp(file.as_file().as_fd()).unwrap();
        let time = file.as_file().metadata().unwrap().modified().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(20));
        std::fs::write(file.path(), "bbb").unwrap();
        let after = stamp(file.as_file().as_fd()).unwrap();
        assert_eq!(before.difference(&after), Some(Difference::Modified));
        std::fs::OpenOptions::new()
            .write(true)
            .open(file.path())
            .unwrap()
            .set_modified(time)
            .unwrap();
        let after = stamp(file.as_file().as_fd()).unwrap();
        assert_eq!(before.difference(&after), Some(Difference::Changed));
    }
}
