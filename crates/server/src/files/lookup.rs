//! From a path in normal form to a file that is ready to be sent.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sluicegate::coarse_time;
use sluicegate::file::{Access, Kind, Root, Stamp, read_at, stamp};
use sluicegate::os::is_out_of_descriptors;
use sluicegate_http::{Coding, FileMetadata, FileResponse};

use super::settled::Age;
use super::{Directory, media_type};

/// How often a path is tried again while others rename directories.
const RENAMES: usize = 32;

/// How often a file that changes while it is read is read again.
const ATTEMPTS: usize = 3;

/// A compressed neighbour that is older than its original was made from another
/// version of it. File systems, archives and compressors round times, to as much
/// as two seconds.
const ROUNDED: i64 = 2;

/// Which of the codings have a neighbour, by their place in the options.
type Neighbours = u8;

/// One version of a file.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) stamp: Stamp,
    pub(super) response: FileResponse,
    /// Compressed neighbours of the file.
    pub(super) neighbours: Neighbours,
    /// How long it had been unchanged when it was read.
    pub(super) age: Age,
    /// When the path was last seen to lead to this version, by the coarse clock.
    pub(super) checked: Cell<Duration>,
}

impl Entry {
    /// Codings in which the file is to be had, beside its own, the most wanted
    /// first.
    pub(super) fn codings(&self, directory: &Directory) -> impl Iterator<Item = Coding> {
        let codings = directory.options.precompressed.iter().copied().enumerate();
        codings.filter(|(place, _)| self.neighbours >> place & 1 == 1).map(|(_, coding)| coding)
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

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Missing => f.write_str("is not there"),
            Refusal::Forbidden => f.write_str("may not be read, or leads outside"),
            Refusal::Exhausted(error) | Refusal::Failed(error) => {
                write!(f, "cannot be read: {error}")
            }
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        use io::ErrorKind as Error;
        const ENXIO: i32 = 6;
        const ELOOP: i32 = 40;
        match error.kind() {
            // A component that is no directory, or a name that no file system
            // could hold, is as missing as one that nobody made.
            Error::NotFound | Error::NotADirectory | Error::InvalidFilename => Refusal::Missing,
            // EXDEV: the name leads outside the root.
            Error::PermissionDenied | Error::CrossesDevices => Refusal::Forbidden,
            Error::OutOfMemory | Error::WouldBlock => Refusal::Exhausted(error),
            _ if is_out_of_descriptors(&error) => Refusal::Exhausted(error),
            _ => match error.raw_os_error() {
                // A socket, or a device without a driver; links in a circle.
                Some(ENXIO | ELOOP) => Refusal::Forbidden,
                _ => Refusal::Failed(error),
            },
        }
    }
}

/// Opens a path. Somebody who renames directories meanwhile can make the kernel
/// unsure whether a link stayed inside (EAGAIN), and a slow file system may be
/// interrupted (EINTR): then it is asked again.
pub(super) fn open_beneath(root: &Root, path: &[u8], access: Access) -> Result<File, Refusal> {
    use io::ErrorKind as Error;
    let mut opened = root.open_beneath(path, access);
    for _ in 0..RENAMES {
        match &opened {
            Err(error) if matches!(error.kind(), Error::WouldBlock | Error::Interrupted) => {
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

/// The name of the file that has `path` in `coding`.
pub(super) fn name_of(path: &[u8], coding: Coding) -> Cow<'_, [u8]> {
    match coding {
        Coding::Identity => Cow::Borrowed(path),
        coding => Cow::Owned([path, coding.suffix().as_bytes()].concat()),
    }
}

/// The codings in which `path`, whose own stamp is `original`, has a neighbour
/// that is no older; `None` when that cannot be told now.
pub(super) fn neighbours(
    directory: &Directory,
    path: &[u8],
    coding: Coding,
    original: &Stamp,
) -> Option<Neighbours> {
    let mut found = 0;
    // A coded file has no neighbours of its own.
    if coding == Coding::Identity {
        for (place, &coding) in directory.options.precompressed.iter().enumerate() {
            let is_there = match look(&directory.root, &name_of(path, coding)) {
                Ok(stamp) => stamp.kind == Kind::Regular && is_no_older(&stamp, original),
                Err(Refusal::Missing | Refusal::Forbidden) => false,
                Err(Refusal::Exhausted(_) | Refusal::Failed(_)) => return None,
            };
            found |= Neighbours::from(is_there) << place;
        }
    }
    Some(found)
}

/// Whether a neighbour was made from this version of its original, as far as
/// times tell. Where either has no fraction of a second it may have been rounded.
fn is_no_older(neighbour: &Stamp, original: &Stamp) -> bool {
    let (made, changed) = (neighbour.modified, original.modified);
    made >= changed
        || ((made.1 == 0 || changed.1 == 0) && made.0.saturating_add(ROUNDED) >= changed.0)
}

/// Opens `path` in `coding`; `None` for a directory.
pub(super) fn open(
    directory: &Directory,
    path: &[u8],
    coding: Coding,
) -> Result<Option<Entry>, Refusal> {
    let name = name_of(path, coding);
    // Looked at before it is opened: opening a device can act on it.
    match look(&directory.root, &name)?.kind {
        Kind::Regular => {}
        Kind::Directory => return Ok(None),
        Kind::Special => return Err(Refusal::Forbidden),
    }
    let file = open_beneath(&directory.root, &name, Access::Read)?;
    let mut stamp = stamp(file.as_fd())?;
    if stamp.kind != Kind::Regular {
        return Err(Refusal::Forbidden);
    }
    let content = if stamp.len <= directory.options.in_memory {
        let (read, content) = read(&file, stamp, directory.options.in_memory)?;
        stamp = read;
        Some(content)
    } else {
        None
    };
    // Not to be told: as if there were none, and looked for again soon.
    let neighbours = neighbours(directory, path, coding, &stamp).unwrap_or(0);
    let age = Age::of(&stamp, SystemTime::now());
    let mut metadata = metadata(directory, path, coding, neighbours);
    if age == Age::Fresh {
        metadata = metadata.without_validators();
    }
    let response = match content {
        Some(content) => FileResponse::from_memory(&content, &stamp, &metadata),
        None => FileResponse::from_file(Arc::new(file), &stamp, &metadata),
    };
    let checked = Cell::new(coarse_time());
    Ok(Some(Entry { stamp, response, neighbours, age, checked }))
}

/// What is said of `path` beside its bytes. A coded neighbour has the type of
/// what it decodes to (RFC 9110 section 8.4).
fn metadata(
    directory: &Directory,
    path: &[u8],
    coding: Coding,
    neighbours: Neighbours,
) -> FileMetadata {
    let mut metadata = FileMetadata::new().coding(coding).rules(Arc::clone(&directory.rules));
    if let Some(media_type) = media_type::of(path) {
        metadata = metadata.content_type(media_type);
    }
    if coding != Coding::Identity || neighbours != 0 {
        metadata = metadata.varies_by_coding();
    }
    if let Some(value) = directory.options.cache_control(path) {
        // It was checked when it was read from the command line.
        metadata = metadata.clone().cache_control(value).unwrap_or(metadata);
    }
    if directory.options.is_edited_in_place(path) {
        metadata = metadata.in_place_edits();
    }
    metadata
}

/// Reads one version of a small file: never a part of one and a part of another,
/// as far as stamps tell. One that changes faster than it can be read comes as
/// it is; it is too young to be kept, or to have validators.
fn read(file: &File, mut before: Stamp, at_most: u64) -> Result<(Stamp, Vec<u8>), Refusal> {
    for attempt in 1.. {
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
        let is_one = before.difference(&after).is_none() || attempt >= ATTEMPTS;
        if is_one && content.len() == len {
            return Ok((after, content));
        }
        if after.len > at_most || attempt >= 2 * ATTEMPTS {
            break;
        }
        before = after;
    }
    Err(Refusal::Failed(io::Error::other("it changes faster than it can be read")))
}
