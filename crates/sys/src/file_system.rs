//! What the file system of a directory is, and a file there that has no name
//! (`statfs(2)`, `statvfs(3)`, `open(2)` with O_TMPFILE).

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags, open, statfs, statvfs};

/// The number by which the kernel knows a kind of file system (`f_type` of
/// `statfs(2)`, `<linux/magic.h>`), in its 32 bits.
///
/// # Errors
/// `ENOENT`, `EACCES`, `ENOTDIR`, `EIO`; `ENOSYS` from file systems in user space.
pub fn magic(path: &Path) -> io::Result<u32> {
    let found = statfs(path)?;
    // A signed word on some architectures; only these bits are used.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    Ok(found.f_type as u32)
}

/// Bytes that a user without privilege may still write to the file system of a
/// directory.
///
/// # Errors
/// As [`magic`].
pub fn room(directory: &Path) -> io::Result<u64> {
    let found = statvfs(directory)?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// A file in this directory that no name leads to, and that goes when it is
/// closed: empty, for reading and writing, closed on exec.
///
/// # Errors
/// `EOPNOTSUPP` where the file system has no such files; `EACCES`, `EROFS`,
/// `ENOSPC`, `EDQUOT`.
pub fn unnamed_file(directory: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(open(directory, flags, Mode::RUSR | Mode::WUSR)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_own_file_system_is_known_and_takes_no_files() {
        const PROC_SUPER_MAGIC: u32 = 0x9fa0;
        assert_eq!(magic(Path::new("/proc")).unwrap(), PROC_SUPER_MAGIC);
        assert!(unnamed_file(Path::new("/proc")).is_err());
    }

    #[test]
    fn an_unnamed_file_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        assert!(room(directory.path()).unwrap() > 0);
        assert!(room(Path::new("/no/such/directory")).is_err());
        match unnamed_file(directory.path()) {
            Ok(file) => assert_eq!(file.metadata().unwrap().len(), 0),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
