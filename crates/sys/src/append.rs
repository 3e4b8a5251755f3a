//! Opening what lines are appended to (`open(2)` with `O_APPEND`).

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

/// Opens `path` for writing at its end; makes a regular file with the
/// permissions `mode`, less the umask, where there is nothing.
///
/// Neither this nor a write waits for the reader of a fifo (`O_NONBLOCK`, which
/// regular files know nothing of), and no terminal becomes the process's own
/// (`O_NOCTTY`).
///
/// # Errors
/// `ENXIO` for a fifo that nobody has open for reading, and for a socket;
/// `ENOENT`, `EACCES`, `EISDIR`, `EROFS`, `ENOSPC`.
pub fn append(path: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE;
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::from_raw_mode(mode))?.into())
}

/// Whether that is `ENXIO`: what [`append`] says of a fifo without a reader.
#[must_use]
pub fn is_without_reader(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NXIO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_is_written_comes_last_whoever_else_writes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut one = append(&path, 0o600).unwrap();
        let mut other = append(&path, 0o600).unwrap();
        one.write_all(b"a").unwrap();
        other.write_all(b"b").unwrap();
        one.write_all(b"c").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abc");
    }

    #[test]
    fn nothing_waits_for_the_reader_of_a_fifo() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        let (kind, mode) = (rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        assert!(is_without_reader(&append(&path, 0o600).unwrap_err()));
        assert!(!is_without_reader(&append(directory.path(), 0o600).unwrap_err()));
        // Both ends at once, which Linux opens without waiting (fifo(7)).
        let _reader = File::options().read(true).write(true).open(&path).unwrap();
        let mut fifo = append(&path, 0o600).unwrap();
        let full = std::iter::repeat_with(|| fifo.write(&[0; 4096])).find_map(Result::err);
        assert_eq!(full.unwrap().kind(), io::ErrorKind::WouldBlock);
    }
}
