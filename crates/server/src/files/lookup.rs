//! From a path in normal form to a file that is ready to be sent.

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use sluicegate::file::{Access, Kind, Root, Stamp, read_at, stamp};
use sluicegate_http::FileResponse;

use super::media_type;

/// Files up to this size are kept in memory with their head, and leave in one
/// send. Measured: the copy of 16 KiB that is hot costs less than the second
/// call that sendfile needs.
pub(super) const SMALL: u64 = 16 * 1024;

/// How often a path is tried again while others rename directories.
const RENAMES: usize = 32;

/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// One version of a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) response: FileResponse,
    /// When the path was last seen to lead to this version.
    pub(super) checked: Cell<Instant>,
}

impl Entry {
    fn new(stamp: Stamp, response: FileResponse) -> Self {
        Entry { stamp, response, checked: Cell::new(Instant::now()) }
    }
}

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Found {
    /// A regular file.
    File(Rc<Entry>),
    /// A directory.
    Directory,
}

/// Why a path is not served.
#[derive(Debug)]
pub(super) enum Refusal {
    /// There is nothing.
    Missing,
    /// It is not for this server to read, leads outside the root, or is no
    /// regular file.
    Forbidden,
    /// This host is at a limit: descriptors, memory. It may pass.
    Exhausted(io::Error),
    /// Reading failed.
    Failed(io::Error),
}

impl Refusal {
    pub(super) fn status(&self) -> u16 {
        match self {
            Refusal::Missing => 404,
            Refusal::Forbidden => 403,
            Refusal::Exhausted(_) => 503,
            Refusal::Failed(_) => 500,
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Error;
        const ENXIO: i32 = 6;
        const ELOOP: i32 = 40;
        const ENFILE: i32 = 23;
        const EMFILE: i32 = 24;
        match error.kind() {
            // A component that is no directory, or a name that no file system
            // could hold, is as missing as one that nobody made.
            Error::NotFound | Error::NotADirectory | Error::InvalidFilename => Refusal::Missing,
            // EXDEV: the name leads outside the root.
            Error::PermissionDenied | Error::CrossesDevices => Refusal::Forbidden,
            Error::OutOfMemory | Error::WouldBlock => Refusal::Exhausted(error),
            _ => match error.raw_os_error() {
                Some(EMFILE | ENFILE) => Refusal::Exhausted(error),
                // A socket, or a device without a driver; links in a circle.
                Some(ENXIO | ELOOP) => Refusal::Forbidden,
                _ => Refusal::Failed(error),
            },
        }
    }
}

/// Opens a path. Somebody who renames directories meanwhile can make the kernel
/// unsure whether a link stayed inside (EAGAIN): then it is asked again.
fn open_beneath(root: &Root, path: &[u8], access: Access) -> Result<File, Refusal> {
    let mut opened = root.open_beneath(path, access);
    for _ in 0..RENAMES {
        match &opened {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                opened = root.open_beneath(path, access);
            }
            _ => break,
        }
    }
    Ok(opened?)
}

/// What is at `path` now, without reading it.
pub(super) fn look(root: &Root, path: &[u8]) -> Result<Stamp, Refusal> {
    Ok(stamp(open_beneath(root, path, Access::Look)?.as_fd())?)
}

/// Opens what is at `path`; `None` for a directory.
pub(super) fn open(root: &Root, path: &[u8]) -> Result<Option<Entry>, Refusal> {
    // Looked at before it is opened: opening a device can act on it.
    match look(root, path)?.kind {
        Kind::Regular => {}
        Kind::Directory => return Ok(None),
        Kind::Special => return Err(Refusal::Forbidden),
    }
    let file = open_beneath(root, path, Access::Read)?;
    let stamp = stamp(file.as_fd())?;
    if stamp.kind != Kind::Regular {
        return Err(Refusal::Forbidden);
    }
    let media_type = media_type::of(path);
    if stamp.len > SMALL {
        let response = FileResponse::from_file(Arc::new(file), &stamp, media_type.as_deref());
        return Ok(Some(Entry::new(stamp, response)));
    }
    let (stamp, content) = read(&file, stamp)?;
    let response = FileResponse::from_memory(&content, &stamp, media_type.as_deref());
    Ok(Some(Entry::new(stamp, response)))
}

/// Reads one version of a small file: never a part of one and a part of another.
fn read(file: &File, mut before: Stamp) -> Result<(Stamp, Vec<u8>), Refusal> {
    for _ in 0..ATTEMPTS {
        let len = usize::try_from(before.len).unwrap_or(usize::MAX);
        let mut content = Vec::with_capacity(len);
        while content.len() < len {
            let offset = content.len() as u64;
            match read_at(file.as_fd(), offset, len - content.len(), &mut content) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        let after = stamp(file.as_fd())?;
        if after == before && content.len() == len {
            return Ok((before, content));
        }
        if after.len > SMALL {
            break;
        }
        before = after;
    }
    Err(Refusal::Failed(io::Error::other("it changes faster than it can be read")))
}
