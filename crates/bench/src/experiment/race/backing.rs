//! The memory under a ring of 1 MiB: a memfd, or an unlinked file that is written in small or in
//! large pieces, or one in a tmpfs with huge pages.

use std::fmt::{self, Display};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use rustix::fs::{Mode, OFlags, fstatfs, openat};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use serde::{Deserialize, Serialize};
use sluicegate_sys::memfd::MappedMemfd;

use super::{PARTITION, RING};
use crate::harness::pinned::own_path;

/// `EXT4_SUPER_MAGIC` (statfs(2)).
const EXT4: u64 = 0xEF53;

/// Room in the tmpfs: sixteen partitions, each a file with a huge page of 2 MiB, several times over.
const TMPFS_SIZE: &str = "256m";

/// What `st_blocks` counts in.
const BLOCK: u64 = 512;

/// What a ring's memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Backing {
    /// A memfd, written through a mapping.
    Memfd,
    /// A file of ext4, written in 4 KiB pieces: pages of their own.
    Ext4Small,
    /// A file of ext4, written in 1 MiB pieces: large folios.
    Ext4Large,
    /// A file of a tmpfs with `huge=always`.
    HugeTmpfs,
}

impl Backing {
    /// All of them, the one that every way is tried with first.
    pub(super) const ALL: [Self; 4] =
        [Self::Memfd, Self::Ext4Small, Self::Ext4Large, Self::HugeTmpfs];

    /// Bytes of one write.
    pub(super) fn piece(self) -> usize {
        match self {
            Self::Ext4Small => 4 << 10,
            Self::Ext4Large => RING,
            Self::Memfd | Self::HugeTmpfs => PARTITION,
        }
    }

    /// Bytes that are rewritten together: a partition, or as many as a piece covers.
    pub(super) fn unit(self) -> usize {
        self.piece().max(PARTITION)
    }
}

impl Display for Backing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Memfd => "memfd",
            Self::Ext4Small => "ext4 by 4 KiB",
            Self::Ext4Large => "ext4 by 1 MiB",
            Self::HugeTmpfs => "tmpfs, huge",
        })
    }
}

/// Where backings are made.
#[derive(Debug)]
pub(super) struct Ground {
    /// A directory of an ext4.
    ext4: Option<PathBuf>,
    /// The root of a tmpfs that is mounted nowhere: it goes with its descriptor, however this
    /// program ends.
    tmpfs: Option<OwnedFd>,
}

impl Ground {
    /// What this machine has, and why it has not the rest.
    pub(super) fn prepare() -> (Self, Vec<String>) {
        let mut lacks = Vec::new();
        let mut lack = |what: &str, error: &anyhow::Error| {
            lacks.push(format!("everything on {what}: {error:#}"));
        };
        let ext4 = ext4_directory().inspect_err(|error| lack("ext4", error)).ok();
        let tmpfs = huge_tmpfs().inspect_err(|error| lack("tmpfs with huge pages", error)).ok();
        (Self { ext4, tmpfs }, lacks)
    }

    /// Nothing but memfds: what a virtual machine without a disk has.
    pub(super) fn memory() -> Self {
        Self { ext4: None, tmpfs: None }
    }

    pub(super) fn has(&self, backing: Backing) -> bool {
        backing == Backing::Memfd || self.directory(backing).is_some()
    }

    /// Where a ring of the library makes its files; `None` for a memfd.
    pub(super) fn directory(&self, backing: Backing) -> Option<PathBuf> {
        match backing {
            Backing::Memfd => None,
            Backing::Ext4Small | Backing::Ext4Large => self.ext4.clone(),
            Backing::HugeTmpfs => self.tmpfs.as_ref().map(path_of),
        }
    }

    /// The memory of a ring that somebody writes to by himself.
    pub(super) fn memory_of(&self, backing: Backing) -> Result<Memory> {
        let Some(directory) = self.directory(backing) else {
            if backing != Backing::Memfd {
                bail!("there is no {backing} here");
            }
            return Ok(Memory::Mapped(MappedMemfd::new(RING)?));
        };
        let file = unlinked(&directory).with_context(|| format!("no file on {backing}"))?;
        file.set_len(RING as u64)?;
        Ok(Memory::File { file, piece: backing.piece() })
    }
}

fn unlinked(directory: &Path) -> Result<File> {
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    Ok(File::from(openat(rustix::fs::CWD, directory, flags, Mode::RUSR | Mode::WUSR)?))
}

/// The directory of this program, where that is on an ext4.
fn ext4_directory() -> Result<PathBuf> {
    let own = PathBuf::from(own_path()?);
    let directory = own.parent().context("this program is in no directory")?;
    let kind = fstatfs(&unlinked(directory)?)?.f_type;
    if u64::try_from(kind) != Ok(EXT4) {
        bail!("{} is on another file system ({kind:#x})", directory.display());
    }
    Ok(directory.to_owned())
}

/// A tmpfs that nobody else sees (`fsmount(2)`, Linux 5.2), and that really has huge pages.
fn huge_tmpfs() -> Result<OwnedFd> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&context, "size", TMPFS_SIZE)?;
    fsconfig_set_string(&context, "huge", "always")?;
    fsconfig_create(&context)?;
    let none = MountAttrFlags::empty();
    let root = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, none)?;
    let file = unlinked(&path_of(&root))?;
    file.set_len(RING as u64)?;
    file.write_all_at(b"x", 0)?;
    let held = file.metadata()?.blocks() * BLOCK;
    if held <= RING as u64 {
        bail!("a byte takes {held} bytes: no huge page");
    }
    Ok(root)
}

/// The root of a mount that has no path of its own.
fn path_of(root: &OwnedFd) -> PathBuf {
    Path::new("/proc/self/fd").join(root.as_raw_fd().to_string())
}

/// A ring's memory that is overwritten in place.
#[derive(Debug)]
pub(super) enum Memory {
    Mapped(MappedMemfd),
    File { file: File, piece: usize },
}

impl Memory {
    /// Writes `bytes` to `offset`, in pieces.
    pub(super) fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<()> {
        match self {
            Self::Mapped(memory) => {
                memory.as_mut()[offset..][..bytes.len()].copy_from_slice(bytes);
            }
            Self::File { file, piece } => {
                for (n, piece_of) in bytes.chunks(*piece).enumerate() {
                    file.write_all_at(piece_of, (offset + n * *piece) as u64)?;
                }
            }
        }
        Ok(())
    }
}

impl AsFd for Memory {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Mapped(memory) => memory.as_fd(),
            Self::File { file, .. } => file.as_fd(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sys::file::read_at;

    #[test]
    fn every_backing_that_is_there_holds_what_is_written_to_it() {
        let (ground, lacks) = Ground::prepare();
        let there: Vec<_> = Backing::ALL.into_iter().filter(|&one| ground.has(one)).collect();
        assert!(there.contains(&Backing::Memfd));
        assert!(there.len() + lacks.len() >= 3, "{there:?} {lacks:?}");
        for backing in there {
            let mut memory = ground.memory_of(backing).unwrap();
            let bytes: Vec<u8> = (0..PARTITION).map(|at| (at / 7) as u8).collect();
            memory.write(3 * PARTITION, &bytes).unwrap();
            let mut read = Vec::with_capacity(PARTITION);
            let count =
                read_at(memory.as_fd(), 3 * PARTITION as u64, PARTITION, &mut read).unwrap();
            assert!(count == PARTITION && read == bytes, "{backing}");
        }
    }

    #[test]
    fn a_unit_is_as_many_partitions_as_a_piece_covers() {
        for backing in Backing::ALL {
            assert_eq!((backing.unit() % PARTITION, RING % backing.unit()), (0, 0));
            assert_eq!(backing.unit() % backing.piece(), 0);
        }
    }
}
