//! The file that lines go to.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, fchown};
use std::path::Path;

use sluicegate::os::{append, is_without_reader};

use super::Owner;
use crate::config::LogTo;

/// Addresses of clients are in it: the owner writes, the group reads.
const MODE: u32 = 0o640;

/// An open file, or standard output.
#[derive(Debug)]
pub(super) struct Output {
    to: LogTo,
    file: File,
    /// Bytes at the end of the file that are the beginning of a line whose
    /// rest was not taken.
    torn: u64,
}

impl Output {
    pub(super) fn open(to: &LogTo) -> io::Result<Self> {
        Ok(Output { to: to.clone(), file: open(to)?, torn: 0 })
    }

    /// Writes as much of `piece`, which are whole lines, from `from` on as the
    /// file takes. Returns how far it came, and what stopped it.
    ///
    /// Each call appends as a whole (O_APPEND), so that another process may
    /// write into the same file, as it does at an upgrade.
    pub(super) fn write(&mut self, piece: &[u8], mut from: usize) -> (usize, io::Result<()>) {
        while from < piece.len() {
            let result = match self.file.write(&piece[from..]) {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    from += count;
                    continue;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => Err(error),
            };
            self.torn = (from - line_start(piece, from)) as u64;
            return (from, result);
        }
        self.torn = 0;
        (from, Ok(()))
    }

    /// Takes the beginning of a line away whose rest is not to follow, so that
    /// the file ends with a whole one. Returns whether there is none any more.
    pub(super) fn mend(&mut self) -> bool {
        if self.torn == 0 {
            return true;
        }
        // Only if it is still the end of the file: where our last write ended.
        let end = self.file.stream_position().ok();
        let length = self.file.metadata().ok().filter(std::fs::Metadata::is_file);
        let length = length.map(|metadata| metadata.len());
        let is_mended = end.is_some()
            && end == length
            && length
                .and_then(|length| length.checked_sub(self.torn))
                .is_some_and(|length| self.file.set_len(length).is_ok());
        if is_mended {
            self.torn = 0;
        }
        is_mended
    }

    /// The path opened anew.
    pub(super) fn reopened(&self) -> io::Result<Self> {
        Output::open(&self.to)
    }

    /// Whether what is written to this comes behind what `before` has taken, and
    /// is read in one: the same pipe or device.
    pub(super) fn continues(&self, before: &Output) -> bool {
        let identity = |output: &Output| {
            let metadata = output.file.metadata().ok().filter(|metadata| !metadata.is_file());
            metadata.map(|metadata| (metadata.dev(), metadata.ino()))
        };
        identity(self).is_some_and(|ours| identity(before) == Some(ours))
    }

    /// Whether that is another file than this.
    pub(super) fn can_reopen(&self) -> bool {
        self.to != LogTo::Stdout
    }
}

/// Where the line begins in `piece` that the byte at `at` belongs to.
pub(super) fn line_start(piece: &[u8], at: usize) -> usize {
    piece[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1)
}

fn open(to: &LogTo) -> io::Result<File> {
    match to {
        // A view of its own, past the standard library's buffer.
        LogTo::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        LogTo::File(path) => append(path, MODE).map_err(|error| {
            if is_without_reader(&error) && is_fifo(path) {
                return io::Error::other("it is a pipe that nobody reads");
            }
            error
        }),
    }
}

fn is_fifo(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.file_type().is_fifo())
}

/// Makes the file, if nothing has its name, and gives it to `owner`.
///
/// What is there already is neither followed nor given away: in a directory of
/// the owner's it may be a link to anything.
pub(super) fn create(path: &Path, (user, group): Owner) -> io::Result<()> {
    match OpenOptions::new().append(true).create_new(true).mode(MODE).open(path) {
        Ok(file) => fchown(&file, Some(user), Some(group)),
        // Whether that is in the way is told by who opens it.
        Err(_) => Ok(()),
    }
}
