//! Files that were asked for before: open, or small and in memory.

use std::os::fd::AsFd;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use quick_cache::Weighter;
use quick_cache::unsync;
use sluicegate::file::stamp;
use sluicegate_http::Coding;

use super::Directory;
use super::counters::Lookup;
use super::lookup::{self, Entry, Found, Refusal};

/// How long an entry is believed. With the time that an answer takes, a
/// changed file is served new within a second.
const BELIEVED: Duration = Duration::from_millis(500);

/// How long an open file is believed to be unchanged. Sending it looks again
/// before each piece; this only keeps answers from being cut that begin after
/// an edit, and spares a call for each answer while there are many.
const SEEN: Duration = Duration::from_millis(10);

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
        if let Some((entry, lookup)) = kept {
            let entry = Rc::clone(entry);
            if is_current(directory, path, coding, &entry) {
                directory.counters.count(lookup);
                return Ok(Found::File(entry));
            }
            directory.counters.count(Lookup::Changed);
            self.small.remove(key);
            self.open.remove(key);
        }
        let Some(entry) = lookup::open(directory, path, coding)? else {
            return Ok(Found::Directory);
        };
        directory.counters.count(Lookup::Opened);
        let entry = Rc::new(entry);
        if entry.response.file().is_some() {
            self.open.insert(key.into(), Rc::clone(&entry));
        } else if is_settled(entry.stamp.changed, SystemTime::now()) {
            self.small.insert(key.into(), Rc::clone(&entry));
        }
        Ok(Found::File(entry))
    }
}

/// How long ago a small file must have changed for what was read of it to be kept.
///
/// A write sets the file's times when it begins: what was read while it went on
/// may be of two versions, and nothing will ever tell. And where clocks are
/// coarse, two writes within one tick (at most 10 ms) leave the same times.
const SETTLED: Duration = Duration::from_millis(100);

fn is_settled((seconds, nanos): (i64, u32), now: SystemTime) -> bool {
    let Ok(seconds) = u64::try_from(seconds) else {
        return true;
    };
    // A time in the future is one that somebody set, or another host's clock.
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::new(seconds, nanos))
        .and_then(|changed| now.duration_since(changed).ok())
        .is_none_or(|since| since > SETTLED)
}

/// Whether `path` still leads to what is kept of it.
fn is_current(directory: &Directory, path: &[u8], coding: Coding, entry: &Entry) -> bool {
    let now = Instant::now();
    // One that was changed in place would be cut off in the middle of its
    // answer: an open file costs one call to look at.
    if let Some(file) = entry.response.file()
        && now.duration_since(entry.seen.get()) > SEEN
    {
        if !stamp(file.as_fd()).is_ok_and(|now| entry.stamp.difference(&now).is_none()) {
            return false;
        }
        entry.seen.set(now);
    }
    if now.duration_since(entry.checked.get()) < BELIEVED {
        return true;
    }
    // The path is looked at anew, not the open file: a rename puts another
    // file in its place.
    let is_current = lookup::look(&directory.root, &lookup::name_of(path, coding))
        .is_ok_and(|stamp| stamp == entry.stamp)
        && lookup::neighbours(directory, path, coding, &entry.stamp) == entry.neighbours;
    if is_current {
        entry.checked.set(now);
    }
    is_current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_while_it_changed_is_not_kept() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (changed, expected) in [
            ((999, 950_000_000), false),
            ((1000, 0), false),
            ((999, 899_999_999), true),
            ((0, 0), true),
            ((-1, 0), true),
            ((1001, 0), true),
            ((i64::MAX, 999_999_999), true),
        ] {
            assert_eq!(is_settled(changed, now), expected, "{changed:?}");
        }
    }

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
