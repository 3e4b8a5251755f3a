//! Files that were asked for before: open, or small and in memory.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::unsync;
use sluicegate::file::stamp;
use sluicegate_http::Coding;

use super::Directory;
use super::counters::Lookup;
use super::lookup::{self, Entry, Found, Refusal};
use super::settled::Age;

/// How long an entry is believed. With the time that an answer takes, a
/// changed file is served new within a second.
const BELIEVED: Duration = Duration::from_millis(500);

/// Bytes of small files that all workers together keep.
const MEMORY: u64 = 128 * 1024 * 1024;

/// Descriptors that all workers together keep, of the thousands that a program
/// may have; a share of `OF_LIMIT` where it has fewer.
const DESCRIPTORS: u64 = 4096;
/// Connections need most of the descriptors.
const OF_LIMIT: u64 = 8;

/// Bytes that an entry takes besides its content: keys, fields, tables. It
/// bounds the number of entries too: to a quarter of a million of empty files.
const OVERHEAD: u64 = 512;

/// Size that the table of small files is made for at first; it grows.
const SMALL_FILES: usize = 1024;

/// What one worker's caches may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budget {
    memory: u64,
    descriptors: usize,
}

impl Budget {
    /// The share of one of `workers` in a process that may have `limit` open
    /// descriptors.
    pub(super) fn share(workers: usize, limit: u64) -> Self {
        let workers = workers.max(1) as u64;
        let descriptors = DESCRIPTORS.min(limit / OF_LIMIT) / workers;
        Budget {
            memory: MEMORY / workers,
            descriptors: usize::try_from(descriptors).unwrap_or(usize::MAX),
        }
    }
}

#[derive(Clone, Debug)]
struct ByMemory;

impl Weighter<Box<[u8]>, Rc<Entry>> for ByMemory {
    fn weight(&self, key: &Box<[u8]>, entry: &Rc<Entry>) -> u64 {
        OVERHEAD + key.len() as u64 + entry.response.memory() as u64
    }
}

/// Two caches with bounds of their own: small files in bytes, open descriptors
/// in number. Both resist scans (S3-FIFO): a file asked for once leaves before
/// those that are asked for again.
///
/// A compressed neighbour is kept under the name of what it is a neighbour of,
/// a NUL, and the coding's name: as itself it has another type.
#[derive(Debug)]
pub(super) struct Cache {
    small: unsync::Cache<Box<[u8]>, Rc<Entry>, ByMemory>,
    open: unsync::Cache<Box<[u8]>, Rc<Entry>>,
    /// Room for the keys of compressed neighbours.
    key: Vec<u8>,
}

impl Cache {
    pub(super) fn new(budget: Budget) -> Self {
        Cache {
            small: unsync::Cache::with_weighter(SMALL_FILES, budget.memory, ByMemory),
            open: unsync::Cache::new(budget.descriptors),
            key: Vec::new(),
        }
    }

    /// What is at `path`, a normal form without a slash at its end.
    pub(super) fn find(&mut self, directory: &Directory, path: &[u8]) -> Result<Found, Refusal> {
        self.find_as(directory, path, path, Coding::Identity)
    }

    /// The neighbour of `path` that is coded with `coding`.
    pub(super) fn find_coded(
        &mut self,
        directory: &Directory,
        path: &[u8],
        coding: Coding,
    ) -> Result<Found, Refusal> {
        let mut key = std::mem::take(&mut self.key);
        key.clear();
        for part in [path, b"\0", coding.name().as_bytes()] {
            key.extend_from_slice(part);
        }
        let found = self.find_as(directory, &key, path, coding);
        self.key = key;
        found
    }

    fn find_as(
        &mut self,
        directory: &Directory,
        key: &[u8],
        path: &[u8],
        coding: Coding,
    ) -> Result<Found, Refusal> {
        let small = self.small.get(key).map(|entry| (entry, Lookup::Memory));
        let kept = small.or_else(|| self.open.get(key).map(|entry| (entry, Lookup::Open)));
        let mut unsettled = None;
        if let Some((entry, lookup)) = kept {
            let entry = Rc::clone(entry);
            match look_again(directory, path, coding, &entry) {
                Seen::Same => {
                    directory.counters.count(lookup);
                    return Ok(Found::File(entry));
                }
                Seen::Unsettled => unsettled = Some((entry, lookup)),
                Seen::Changed => directory.counters.count(Lookup::Changed),
            }
        }
        let opened = match (lookup::open(directory, path, coding), unsettled) {
            // Nothing speaks against what is kept but its age.
            (Err(Refusal::Exhausted(_) | Refusal::Failed(_)), Some((entry, lookup))) => {
                directory.counters.count(lookup);
                return Ok(Found::File(entry));
            }
            (opened, _) => opened,
        };
        // A file that grew or shrank belongs to the other cache now.
        self.small.remove(key);
        self.open.remove(key);
        let Some(entry) = opened? else {
            return Ok(Found::Directory);
        };
        directory.counters.count(Lookup::Opened);
        let entry = Rc::new(entry);
        if entry.response.file().is_some() {
            self.open.insert(key.into(), Rc::clone(&entry));
        } else if entry.age != Age::Fresh {
            self.small.insert(key.into(), Rc::clone(&entry));
        }
        Ok(Found::File(entry))
    }

    /// Lets go of files that nobody asked for lately, and of those that were
    /// deleted: their descriptors keep their space on the disk.
    pub(super) fn sweep(&mut self) {
        let now = Instant::now();
        self.open.retain(|_, entry| {
            let is_there =
                |file: &std::fs::File| stamp(file.as_fd()).is_ok_and(|now| now.links > 0);
            now.duration_since(entry.checked.get()) < UNUSED
                && entry.response.file().is_some_and(is_there)
        });
    }
}

/// How long a descriptor is kept for a file that nobody asks for.
const UNUSED: Duration = Duration::from_secs(60);

/// What a look at an entry shows.
enum Seen {
    /// It is what is there.
    Same,
    /// Its stamp is what is there, but was too young for its content to be sure.
    Unsettled,
    /// Something else is there now.
    Changed,
}

/// Whether `path` still leads to what is kept of it.
fn look_again(directory: &Directory, path: &[u8], coding: Coding, entry: &Entry) -> Seen {
    let now = Instant::now();
    // One that was changed in place would be cut off in the middle of its
    // answer: an open file costs one call to look at.
    if let Some(file) = entry.response.file()
        && !stamp(file.as_fd()).is_ok_and(|now| entry.stamp.difference(&now).is_none())
    {
        return Seen::Changed;
    }
    if now.duration_since(entry.checked.get()) < BELIEVED {
        return Seen::Same;
    }
    // The path is looked at anew, not the open file: a rename puts another
    // file in its place.
    match lookup::look(&directory.root, &lookup::name_of(path, coding)) {
        Ok(stamp) if stamp == entry.stamp => {}
        // This host is short of something, or a disk had an accident: nothing
        // speaks against what is kept.
        Err(Refusal::Exhausted(_) | Refusal::Failed(_)) => {}
        Ok(_) | Err(_) => return Seen::Changed,
    }
    match lookup::neighbours(directory, path, coding, &entry.stamp) {
        Some(neighbours) if neighbours != entry.neighbours => return Seen::Changed,
        _ => {}
    }
    if entry.age == Age::Young && entry.response.file().is_none() {
        return Seen::Unsettled;
    }
    entry.checked.set(now);
    Seen::Same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_share_what_the_process_may_have() {
        let one = Budget::share(1, 20_000);
        let four = Budget::share(4, 20_000);
        assert_eq!(one.memory, 4 * four.memory);
        assert_eq!((one.descriptors, four.descriptors), (2500, 625));
        assert_eq!(Budget::share(2, 1 << 20).descriptors, 2048);
        assert_eq!(Budget::share(2, 40).descriptors, 2);
    }
}
