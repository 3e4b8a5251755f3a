//! Files that were asked for before: open, or small and in memory.

use std::hash::{Hash, Hasher};
use std::os::fd::AsFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::unsync;
use quick_cache::{Equivalent, Weighter};
use sluicegate::coarse_time;
use sluicegate::file::stamp;
use sluicegate_http::Coding;

use super::Directory;
use super::counters::{Counters, Lookup, WorkerCounters};
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
pub(crate) struct Budget {
    memory: u64,
    descriptors: usize,
}

impl Budget {
    /// The share of one of `workers` in a process that may have `limit` open
    /// descriptors.
    pub(crate) fn share(workers: usize, limit: u64) -> Self {
        let workers = workers.max(1) as u64;
        let descriptors = DESCRIPTORS.min(limit / OF_LIMIT) / workers;
        Budget {
            memory: MEMORY / workers,
            descriptors: usize::try_from(descriptors).unwrap_or(usize::MAX),
        }
    }
}

/// Which file of which directory, as itself or as a compressed neighbour: that
/// is kept under the name of its original, since as itself it has another type.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    place: Place,
    path: Box<[u8]>,
}

/// As [`Key`], to look for.
#[derive(Clone, Copy, Debug)]
struct Wanted<'a> {
    place: Place,
    path: &'a [u8],
}

/// The directory's number, and the coding's above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place(u64);

impl Place {
    fn new(directory: u32, coding: Coding) -> Self {
        Place(u64::from(directory) | (coding as u64) << 32)
    }

    fn directory(self) -> u32 {
        // The lower half.
        (self.0 & u64::from(u32::MAX)) as u32
    }
}

impl Hash for Wanted<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The path ends what is hashed, so its length need not be in it.
        state.write_u64(self.place.0);
        state.write(self.path);
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        Wanted { place: self.place, path: &self.path }.hash(state);
    }
}

impl Equivalent<Key> for Wanted<'_> {
    fn equivalent(&self, key: &Key) -> bool {
        self.place == key.place && *self.path == *key.path
    }
}

impl From<Wanted<'_>> for Key {
    fn from(wanted: Wanted<'_>) -> Self {
        Key { place: wanted.place, path: wanted.path.into() }
    }
}

#[derive(Clone, Debug)]
struct ByMemory;

impl Weighter<Key, Rc<Entry>> for ByMemory {
    fn weight(&self, key: &Key, entry: &Rc<Entry>) -> u64 {
        OVERHEAD + key.path.len() as u64 + entry.response.memory() as u64
    }
}

/// What one worker keeps of the files of all directories, in two caches with
/// bounds of their own: small files in bytes, open descriptors in number. Both
/// resist scans (S3-FIFO): a file asked for once leaves before those that are
/// asked for again.
#[derive(Debug)]
pub(crate) struct Cache {
    small: unsync::Cache<Key, Rc<Entry>, ByMemory>,
    open: unsync::Cache<Key, Rc<Entry>>,
    counters: Arc<WorkerCounters>,
}

impl Cache {
    /// Empty; what it finds is counted in `counters`.
    pub(crate) fn new(budget: Budget, counters: &Counters) -> Self {
        Cache {
            small: unsync::Cache::with_weighter(SMALL_FILES, budget.memory, ByMemory),
            open: unsync::Cache::new(budget.descriptors),
            counters: counters.worker(),
        }
    }

    /// What is at `path`, a normal form without a slash at its end, or the
    /// neighbour of it that is coded with `coding`.
    pub(super) fn find(
        &mut self,
        directory: &Directory,
        path: &[u8],
        coding: Coding,
    ) -> Result<Found, Refusal> {
        let wanted = Wanted { place: Place::new(directory.number, coding), path };
        let small = self.small.get(&wanted).map(|entry| (entry, Lookup::Memory));
        let kept = small.or_else(|| self.open.get(&wanted).map(|entry| (entry, Lookup::Open)));
        let mut unsettled = None;
        if let Some((entry, lookup)) = kept {
            let entry = Rc::clone(entry);
            match look_again(directory, path, coding, &entry) {
                Seen::Same => {
                    self.counters.count(lookup);
                    return Ok(Found::File(entry));
                }
                Seen::Unsettled => unsettled = Some((entry, lookup)),
                Seen::Changed => self.counters.count(Lookup::Changed),
            }
        }
        let opened = match (lookup::open(directory, path, coding), unsettled) {
            // Nothing speaks against what is kept but its age.
            (Err(Refusal::Exhausted(_) | Refusal::Failed(_)), Some((entry, lookup))) => {
                self.counters.count(lookup);
                return Ok(Found::File(entry));
            }
            (opened, _) => opened,
        };
        // A file that grew or shrank belongs to the other cache now.
        self.small.remove(&wanted);
        self.open.remove(&wanted);
        let Some(entry) = opened? else {
            return Ok(Found::Directory);
        };
        self.counters.count(Lookup::Opened);
        let entry = Rc::new(entry);
        if entry.response.file().is_some() {
            self.open.insert(wanted.into(), Rc::clone(&entry));
        } else if entry.age != Age::Fresh {
            self.small.insert(wanted.into(), Rc::clone(&entry));
        }
        Ok(Found::File(entry))
    }

    /// Lets go of files that nobody asked for lately, and of those that were
    /// deleted: their descriptors keep their space on the disk.
    pub(crate) fn sweep(&mut self) {
        let now = coarse_time();
        self.open.retain(|_, entry| {
            let is_there =
                |file: &std::fs::File| stamp(file.as_fd()).is_ok_and(|now| now.links > 0);
            now.saturating_sub(entry.checked.get()) < UNUSED
                && entry.response.file().is_some_and(is_there)
        });
        self.tell();
    }

    /// Lets go of the files of directories that are served no more.
    pub(crate) fn keep(&mut self, is_served: impl Fn(u32) -> bool) {
        self.small.retain(|key, _| is_served(key.place.directory()));
        self.open.retain(|key, _| is_served(key.place.directory()));
        self.tell();
    }

    fn tell(&self) {
        let (files, open) = (self.small.len() as u64, self.open.len() as u64);
        self.counters.keeps([self.small.weight(), files, open]);
    }
}

/// How long a descriptor is kept for a file that nobody asks for.
const UNUSED: Duration = Duration::from_secs(60);

/// What a look at an entry shows.
enum Seen {
    /// It is what is there.
    Same,
    /// Its stamp is what is there, but was too young for its content, or for
    /// validators, to be sure.
    Unsettled,
    /// Something else is there now.
    Changed,
}

/// Whether `path` still leads to what is kept of it.
fn look_again(directory: &Directory, path: &[u8], coding: Coding, entry: &Entry) -> Seen {
    let now = coarse_time();
    // One that was changed in place would be cut off in the middle of its
    // answer: an open file costs one call to look at.
    if let Some(file) = entry.response.file()
        && !stamp(file.as_fd()).is_ok_and(|now| entry.stamp.difference(&now).is_none())
    {
        return Seen::Changed;
    }
    if now.saturating_sub(entry.checked.get()) < BELIEVED {
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
    let is_settled = match entry.age {
        // It went out without validators, and would do so as long as it is asked for.
        Age::Fresh => false,
        // An open file is read anew for each answer.
        Age::Young => entry.response.file().is_some(),
        Age::Settled => true,
    };
    if !is_settled {
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
