//! What the file system of a directory allows.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use sluicegate::file::{Access, Links, Root, stamp};
use sluicegate::os::probe::{cachestat, magic, room, sendfile, unnamed_file};

use super::check::{Check, Topic, Verdict};
use super::pair::Pair;
use super::text;

/// Names that are looked at to find a file.
const NAMES: usize = 1000;

/// # Errors
/// The directory cannot be opened.
pub(super) fn checks(path: &Path) -> Result<Vec<Check>> {
    let root = Root::open(path, Links::Inside)
        .with_context(|| format!("cannot look at the directory `{}`", path.display()))?;
    let file = some_file(path, &root);
    let checks = vec![
        file_system(path),
        resolving(&root),
        by_sendfile(file.as_ref()),
        residency(file.as_ref()),
        unnamed(path),
        free(path),
        change_times(path),
    ];
    let subject = path.display().to_string();
    Ok(checks.into_iter().map(|check| check.about(&subject)).collect())
}

fn check(name: &'static str, title: &str, why: &'static str) -> Check {
    Check::new(Topic::Directory, name, title, why)
}

/// A file beneath the directory that this user may read, and its name.
fn some_file(path: &Path, root: &Root) -> Option<(File, PathBuf)> {
    use std::os::unix::ffi::OsStrExt;
    // What is right in it first, then what is further down.
    let (mut directories, mut left) = (VecDeque::from([PathBuf::new()]), NAMES);
    while let Some(directory) = directories.pop_front() {
        let Ok(entries) = std::fs::read_dir(path.join(&directory)) else { continue };
        for entry in entries.take(left).flatten() {
            left = left.saturating_sub(1);
            let name = directory.join(entry.file_name());
            // A link's own kind: none is followed.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => directories.push_back(name),
                Ok(kind) if kind.is_file() => {
                    let opened = root.open_beneath(name.as_os_str().as_bytes(), Access::Read);
                    let has_content = |file: &File| stamp(file.as_fd()).is_ok_and(|s| s.len > 0);
                    if let Some(file) = opened.ok().filter(has_content) {
                        return Some((file, name));
                    }
                }
                _ => {}
            }
        }
        if left == 0 {
            break;
        }
    }
    None
}

/// How a kind of file system behaves here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nature {
    Local,
    /// Its files change elsewhere, and reading one may wait for another host.
    Remote,
    /// A program of this host answers for it.
    User,
}

/// `<linux/magic.h>`, and those of file systems that keep theirs to themselves.
const KINDS: [(u32, &str, Nature); 22] = [
    (0xef53, "ext2, ext3 or ext4", Nature::Local),
    (0x5846_5342, "xfs", Nature::Local),
    (0x9123_683e, "btrfs", Nature::Local),
    (TMPFS, "tmpfs", Nature::Local),
    (0x8584_58f6, "ramfs", Nature::Local),
    (0x794c_7630, "overlay", Nature::Local),
    (0xf2f5_2010, "f2fs", Nature::Local),
    (0x2fc1_2fc1, "zfs", Nature::Local),
    (0xca45_1a4e, "bcachefs", Nature::Local),
    (0x7371_7368, "squashfs", Nature::Local),
    (0xe0f5_e1e2, "erofs", Nature::Local),
    (0x9660, "iso9660", Nature::Local),
    (0x4d44, "vfat", Nature::Local),
    (0x2011_bab0, "exfat", Nature::Local),
    (0x7366_746e, "ntfs3", Nature::Local),
    (0x9fa0, "proc", Nature::Local),
    (0x6265_6572, "sysfs", Nature::Local),
    (0x6969, "nfs", Nature::Remote),
    (0xff53_4d42, "cifs", Nature::Remote),
    (0x00c3_6400, "ceph", Nature::Remote),
    (0x0102_1997, "9p", Nature::Remote),
    (0x6573_5546, "fuse", Nature::User),
];

fn file_system(path: &Path) -> Check {
    let check = check(
        "directory.file_system",
        "file system",
        "Files on another host, or behind a program, can change without a sign here, and reading \
         one can hold a worker up for as long as the other side takes.",
    );
    let magic = match magic(path) {
        Ok(magic) => magic,
        Err(error) => return check.found(Verdict::NotKnown, format!("not told: {error}")),
    };
    let check = check.figure("magic", magic);
    let Some((_, name, nature)) = KINDS.iter().find(|(number, ..)| *number == magic) else {
        let value = format!("a kind that is not known here (0x{magic:x})");
        return check.found(Verdict::Information, value);
    };
    let check = check.figure("kind", *name);
    match nature {
        Nature::Local => check.found(Verdict::Good, *name),
        Nature::Remote => check.found(Verdict::CouldBeBetter, format!("{name}, on another host")),
        Nature::User => check.found(Verdict::CouldBeBetter, format!("{name}, behind a program")),
    }
    .change(
        "Serve from a local disk, or let `--in-memory` keep what is small and asked for often. If \
         files are written in place, say so by `--in-place-edits`.",
    )
}

fn resolving(root: &Root) -> Check {
    let check =
        check("directory.openat2", "resolving beneath it", "As above, tried on this directory.");
    match root.try_resolve() {
        Ok(()) => check.found(Verdict::Good, "openat2 works"),
        Err(error) => check.refused(&error, "openat2", "5.6"),
    }
}

fn no_file(check: Check) -> Check {
    check
        .found(Verdict::NotKnown, "found no file with content that this user may read")
        .change("Name a directory that has one, as the user that the server will run as.")
}

fn by_sendfile(file: Option<&(File, PathBuf)>) -> Check {
    let check = check(
        "directory.sendfile",
        "sendfile from it",
        "Some file systems give no pages away: their files are read and copied.",
    );
    let Some((file, name)) = file else { return no_file(check) };
    let pair = match Pair::new() {
        Ok(pair) => pair,
        Err(error) => return check.not_tried(&error),
    };
    match sendfile(pair.ours.as_fd(), file.as_fd(), 0, 1) {
        Ok(1) => check.found(Verdict::Good, format!("works (`{}`)", name.display())),
        Ok(_) => check.found(Verdict::NotKnown, format!("`{}` has just shrunk", name.display())),
        Err(error) if error.kind() == ErrorKind::InvalidInput => check
            .found(Verdict::Missing, "this file system has none (EINVAL)")
            .change("Nothing has to be done: Sluicegate copies. It costs CPU for large files."),
        Err(error) => check.refused(&error, "sendfile", "2.6"),
    }
}

fn residency(file: Option<&(File, PathBuf)>) -> Check {
    let check = check(
        "directory.cachestat",
        "what is in the page cache",
        "The kernel tells it only to who owns a file or may write to it.",
    );
    let Some((file, name)) = file else { return no_file(check) };
    match cachestat(file.as_fd(), 0, 0) {
        Ok(resident) => check
            .found(
                Verdict::Good,
                format!("told ({} pages of `{}`)", resident.cached, name.display()),
            )
            .figure("cached_pages", resident.cached),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => check
            .found(
                Verdict::CouldBeBetter,
                format!("not told to this user for `{}`", name.display()),
            )
            .change(
                "If this directory holds more than fits into memory, let the user that the server \
                 runs as own the files.",
            ),
        Err(error) => check.refused(&error, "cachestat", "6.5"),
    }
}

fn unnamed(path: &Path) -> Check {
    let check = check(
        "directory.unnamed_files",
        "files without a name",
        "Rings of more than fits into memory stand on files without a name (O_TMPFILE) in a \
         directory of their own. Serving a directory does not need it.",
    );
    match unnamed_file(path) {
        Ok(_) => check.found(Verdict::Good, "O_TMPFILE works"),
        Err(error) if error.kind() == ErrorKind::Unsupported => check
            .found(Verdict::CouldBeBetter, "this file system has none")
            .change("Put rings of files on ext4, xfs, btrfs or tmpfs."),
        Err(error) => check.found(Verdict::Information, format!("not for this user: {error}")),
    }
}

/// `<linux/magic.h>`.
const TMPFS: u32 = 0x0102_1994;

fn free(path: &Path) -> Check {
    let check = check(
        "directory.room",
        "room on the file system",
        "A ring on disk (`disk` of a spool) takes all of its room when it is made, for each answer \
         that needs one. On tmpfs that is memory, which no budget of ours counts.",
    );
    let is_memory = magic(path).is_ok_and(|magic| magic == TMPFS);
    match room(path) {
        Ok(bytes) => {
            let memory = if is_memory { ", of memory" } else { "" };
            let value = format!("{}{memory}", text::bytes(bytes));
            check.found(Verdict::Information, value).figure("bytes", bytes)
        }
        Err(error) => check.found(Verdict::NotKnown, format!("not told: {error}")),
    }
}

/// Pairs of writes that are compared.
const PAIRS: usize = 3;

/// Whether a second write right after a first, which somebody has seen the
/// time of, has another time.
fn is_fine(path: &Path) -> io::Result<bool> {
    let mut file = unnamed_file(path)?;
    for _ in 0..PAIRS {
        file.write_all(b"x")?;
        let first = stamp(file.as_fd())?;
        file.write_all(b"x")?;
        if stamp(file.as_fd())?.changed == first.changed {
            return Ok(false);
        }
    }
    Ok(true)
}

fn change_times(path: &Path) -> Check {
    let check = check(
        "directory.change_times",
        "times of changes",
        "A file that is rewritten in place within one tick of the kernel's clock keeps its times, \
         so that an entity tag cannot tell the two versions apart. Sluicegate therefore trusts no \
         file that changed less than a tenth of a second ago.",
    );
    match is_fine(path) {
        Ok(true) => {
            check.found(Verdict::Good, "two writes in a row have two times").figure("fine", true)
        }
        Ok(false) => check
            .found(Verdict::CouldBeBetter, "two writes in a row have one time")
            .figure("fine", false)
            .change(
                "Replace files by renaming a new one over the old one. Linux 6.13 and later tell \
                 finer times on ext4, xfs, btrfs and tmpfs.",
            ),
        Err(error) => check
            .found(Verdict::NotKnown, format!("could not be tried: {error}"))
            .change("Try a directory of the same file system that this user may write to."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_looked_at_and_left_as_it_was() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("page"), "hello").unwrap();
        let checks = checks(directory.path()).unwrap();
        let verdict =
            |name: &str| checks.iter().find(|check| check.name == name).map(|check| check.verdict);
        assert_eq!(verdict("directory.sendfile"), Some(Verdict::Good));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        assert!(super::checks(&directory.path().join("none")).is_err());
        assert!(super::checks(&directory.path().join("page")).is_err());
    }

    #[test]
    fn a_directory_of_the_kernel_is_told_of_without_a_panic() {
        for path in ["/proc", "/sys", "/dev", "/"] {
            assert!(!checks(Path::new(path)).unwrap().is_empty());
        }
    }
}
