//! How many lines a log has got, looked at while its writer goes on.

use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::fs::{FallocateFlags, fallocate};

/// A log that somebody else appends to.
#[derive(Debug)]
pub(crate) struct LogLines {
    path: PathBuf,
    /// What has been read.
    offset: u64,
    lines: u64,
}

impl LogLines {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { path, offset: 0, lines: 0 }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Counts what has come since the last look, and returns the lines of all looks.
    ///
    /// What was read becomes a hole of the file: a log of gigabytes never reaches the disk, where
    /// writing it would take time of somebody's window. Its writer appends behind the hole, and
    /// nothing that comes meanwhile is lost, as it would be by truncation.
    pub(crate) fn look(&mut self) -> Result<u64> {
        let say = || format!("cannot count the lines of {}", self.path.display());
        let mut file = match File::options().read(true).write(true).open(&self.path) {
            Ok(file) => file,
            // Not written to yet.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(self.lines),
            Err(error) => return Err(error).with_context(say),
        };
        file.seek(SeekFrom::Start(self.offset)).with_context(say)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => {
                    self.offset += count as u64;
                    let newlines = memchr::memchr_iter(b'\n', &buffer[..count]).count();
                    self.lines += newlines as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).with_context(say),
            }
        }
        // A file system without holes keeps the lines.
        let _ = fallocate(
            &file,
            FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE,
            0,
            self.offset.max(1),
        );
        Ok(self.lines)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn lines_are_counted_once_however_often_one_looks() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut lines = LogLines::new(path.clone());
        assert_eq!(lines.look().unwrap(), 0);
        let mut log = File::options().append(true).create(true).open(path).unwrap();
        log.write_all(b"one\ntwo\nthr").unwrap();
        assert_eq!(lines.look().unwrap(), 2);
        log.write_all(b"ee\n").unwrap();
        assert_eq!(lines.look().unwrap(), 3);
        assert_eq!(lines.look().unwrap(), 3);
    }
}
