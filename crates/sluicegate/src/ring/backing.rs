//! What a ring's partitions stand on, and whether their pages can be replaced.

use std::io;
use std::path::{Path, PathBuf};

use sluicegate_sys::pages::Pages;
use sluicegate_sys::splice::Pipe;

use super::table::{Memory, Replaced};

/// Where a ring's memory comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Backing {
    /// One sealed file in memory (`memfd_create(2)`) for all partitions.
    #[default]
    Memfd,
    /// An unlinked file (O_TMPFILE) in this directory for each partition, all of
    /// it allocated when the ring is built: for more than fits into memory. The
    /// directory's file system must know such files (ext4, xfs and tmpfs do).
    /// Replacing a partition takes a new file: room on the disk and a descriptor,
    /// for a moment. A disk that fails, and one that is full below a file system
    /// that copies on write, end a process that writes in place by SIGBUS, as with
    /// any mapped file.
    Files(PathBuf),
    /// One such file for all partitions. They cannot be replaced, so such a ring
    /// serves one connection ([`super::RingBuilder::never_replaced`]); and it takes
    /// one descriptor. It is written by `pwrite(2)` alone, where a [`super::Lease`]
    /// is filled as [`std::io::Write`]: a disk that fails, or is full, is then an
    /// error of that call.
    File(PathBuf),
}

/// One partition's memory.
#[derive(Debug)]
pub(crate) struct Part {
    pages: Pages,
    renewal: Renewal,
    presence: Presence,
    /// To touch it through the mapping may end the process.
    is_on_disk: bool,
}

/// Which of its pages are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    /// None, or not all: they cost a fault each if they are touched through the
    /// mapping, and half of that if they are written by `pwrite`.
    Missing,
    /// All, in the file.
    Written,
    /// All, in the mapping too: to write to it costs least.
    Mapped,
}

/// How pages are replaced.
#[derive(Clone, Debug)]
enum Renewal {
    /// Not at all: the backing has failed its test.
    None,
    /// They are taken out of the file.
    Punch,
    /// The file is swapped for another one.
    Swap(PathBuf),
}

impl Memory for Part {
    fn replace(&mut self) -> Replaced {
        let replaced = match &self.renewal {
            Renewal::None => return Replaced::Never,
            Renewal::Punch => self.pages.replace(),
            Renewal::Swap(directory) => {
                Pages::in_directory(directory, self.pages.len()).map(|pages| self.pages = pages)
            }
        };
        match replaced {
            Ok(()) => {
                self.presence = Presence::Missing;
                Replaced::Done
            }
            Err(error) => Replaced::NotNow(error),
        }
    }
}

impl Part {
    /// The partitions of a ring: `count` times `len` bytes. Their pages can be
    /// `replaced` if that passes the test on this very memory.
    pub(super) fn all(
        backing: &Backing,
        len: usize,
        count: usize,
        replaced: bool,
    ) -> io::Result<Vec<Part>> {
        let (pages, renewal) = match backing {
            Backing::Memfd => (Pages::in_memory(len, count)?, Renewal::Punch),
            Backing::Files(directory) => {
                let pages: io::Result<Vec<_>> =
                    (0..count).map(|_| Pages::in_directory(directory, len)).collect();
                (pages?, Renewal::Swap(directory.clone()))
            }
            Backing::File(directory) => (Pages::in_one_file(directory, len, count)?, Renewal::None),
        };
        let is_on_disk = matches!(backing, Backing::File(_));
        let part = |pages| {
            let (renewal, presence) = (renewal.clone(), Presence::Missing);
            Part { pages, renewal, presence, is_on_disk }
        };
        let mut parts: Vec<Part> = pages.into_iter().map(part).collect();
        if is_on_disk {
            return Ok(parts);
        }
        let is_sure = !matches!(backing, Backing::Memfd) || !may_be_huge();
        if !replaced || !is_sure || !can_replace(&mut parts)? {
            parts.iter_mut().for_each(|part| part.renewal = Renewal::None);
        }
        Ok(parts)
    }

    pub(super) fn is_replaceable(&self) -> bool {
        !matches!(self.renewal, Renewal::None)
    }

    pub(super) fn pages(&self) -> &Pages {
        &self.pages
    }

    /// For writing in place.
    pub(super) fn bytes_mut(&mut self) -> &mut [u8] {
        self.map();
        self.pages.as_mut()
    }

    fn map(&mut self) {
        if self.presence != Presence::Mapped {
            // Where the kernel does not, each page takes a fault.
            let _ = self.pages.populate();
            self.presence = Presence::Mapped;
        }
    }

    /// Writes at `at` in the way that costs least.
    pub(super) fn write_at(&mut self, at: usize, bytes: &[u8]) -> io::Result<()> {
        if self.presence == Presence::Missing || self.is_on_disk {
            return self.pages.write_at(at, bytes);
        }
        self.map();
        let end = at.checked_add(bytes.len()).filter(|end| *end <= self.pages.len());
        let end = end.ok_or(io::ErrorKind::InvalidInput)?;
        self.pages.as_mut()[at..end].copy_from_slice(bytes);
        Ok(())
    }

    /// The first `len` bytes have been written.
    pub(super) fn written(&mut self, len: usize) {
        if self.presence == Presence::Missing && len == self.pages.len() {
            self.presence = Presence::Written;
        }
    }
}

/// Whether this memory keeps for a reader what it had when it was replaced.
///
/// A partition whose pages are part of a larger folio is zeroed in place when it
/// is punched, and what is written next lands in it (docs/kernel.md): 1–4 MiB of
/// ext4 written in pieces of 128 KiB, or huge pages. So partitions of both ends
/// and of the middle are written with their neighbours, put into a pipe, replaced
/// and written again in both ways; then the pipe is read.
fn can_replace(parts: &mut [Part]) -> io::Result<bool> {
    let len = parts.first().map_or(0, |part| part.pages.len());
    let last = parts.len().saturating_sub(1);
    let tried = [0, parts.len() / 2, last];
    let around = |index: usize| index.saturating_sub(1)..=(index + 1).min(last);
    let mut written: Vec<usize> = tried.into_iter().flat_map(around).collect();
    written.sort_unstable();
    written.dedup();
    for &index in &written {
        parts[index].pages.write_at(0, &pattern(index, len))?;
    }
    let mut passed = true;
    for index in tried {
        for is_end in [false, true] {
            passed = passed && keeps(&mut parts[index], index, is_end)?;
        }
    }
    // Their neighbours have what they had.
    let is_whole = |&index: &usize| parts[index].pages.as_ref() == pattern(index, len);
    passed = passed && written.iter().all(is_whole);
    // Memory that nobody has asked for yet goes back.
    Ok(passed && written.iter().all(|&index| matches!(parts[index].replace(), Replaced::Done)))
}

/// Whether the kernel gives files in memory pages that are larger than others
/// without being asked (`admin-guide/mm/transhuge.rst`): now and then, so that a
/// test may find none.
fn may_be_huge() -> bool {
    let settings = "/sys/kernel/mm/transparent_hugepage";
    let is_on = |file: &Path| {
        let setting = std::fs::read_to_string(file).unwrap_or_default();
        ["[always]", "[within_size]", "[force]"].iter().any(|on| setting.contains(on))
    };
    let sizes = std::fs::read_dir(settings).into_iter().flatten().flatten();
    is_on(&Path::new(settings).join("shmem_enabled"))
        || sizes.into_iter().any(|size| is_on(&size.path().join("shmem_enabled")))
}

/// Whether a pipe that refers to this part keeps what it had, when the part is
/// replaced and written again. Leaves it as it found it.
fn keeps(part: &mut Part, index: usize, is_end: bool) -> io::Result<bool> {
    let len = part.pages.len();
    let mut pipe = Pipe::new(len)?;
    // As much as the pipe takes, from its start or up to its end: a partition
    // may be larger, and either end may be part of something larger still.
    let most = len.min(pipe.capacity());
    let at = if is_end { len - most } else { 0 };
    let Ok(count) = part.pages.fill(&mut pipe, at, most) else {
        // It cannot even be spliced: nothing is known of it.
        return Ok(false);
    };
    if !matches!(part.replace(), Replaced::Done) {
        return Ok(false);
    }
    let (first, second) = (len / 2, pattern(index + 1, len));
    part.pages.write_at(0, &second[..first])?;
    part.pages.as_mut()[first..].copy_from_slice(&second[first..]);
    let mut kept = vec![0; count];
    let mut read = 0;
    while read < count {
        match pipe.read(&mut kept[read..])? {
            0 => return Ok(false),
            more => read += more,
        }
    }
    part.pages.write_at(0, &pattern(index, len))?;
    Ok(kept == pattern(index, len)[at..at + count])
}

/// Content that differs from partition to partition, and within one.
fn pattern(index: usize, len: usize) -> Vec<u8> {
    // Cut to a byte on purpose.
    #[allow(clippy::cast_possible_truncation)]
    let byte = |at: usize| (at / 251 + at + index * 97 + 1) as u8;
    (0..len).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEN: usize = 64 * 1024;

    #[test]
    fn a_file_in_memory_passes_and_begins_empty() {
        let mut parts = Part::all(&Backing::Memfd, LEN, 3, true).unwrap();
        assert_eq!(parts[0].is_replaceable(), !may_be_huge());
        if parts[0].is_replaceable() {
            assert!(parts.iter().all(|part| part.pages.as_ref() == [0; LEN]));
        }
        parts[1].write_at(LEN - 1, b"x").unwrap();
        assert!(parts[1].write_at(LEN, b"x").is_err());
        parts[1].written(LEN);
        assert!(parts[1].write_at(LEN, b"x").is_err(), "also in the mapping");
        parts[1].write_at(LEN - 1, b"y").unwrap();
        assert_eq!(parts[1].pages.as_ref()[LEN - 1], b'y');
    }

    #[test]
    fn partitions_that_are_no_multiple_of_a_page_fail_the_test() {
        let parts = Part::all(&Backing::Memfd, 4096 + 512, 3, true).unwrap();
        assert!(!parts[0].is_replaceable());
    }

    #[test]
    fn files_are_swapped() {
        let directory = tempfile::tempdir().unwrap();
        match Part::all(&Backing::Files(directory.path().to_owned()), LEN, 2, true) {
            Ok(parts) => assert!(parts[0].is_replaceable()),
            // A file system without unlinked files says so.
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        }
    }
}
