//! Files that were asked for before: open, or small and in memory.

use std::rc::Rc;
use std::time::{Duration, Instant};

use quick_cache::Weighter;
use quick_cache::unsync;
use sluicegate::file::Root;

use super::lookup::{self, Entry, Found, Refusal};

/// How long an entry is believed. With the time that an answer takes, a
/// changed file is served new within a second.
const BELIEVED: Duration = Duration::from_millis(500);

/// Bytes of small files that one worker keeps.
const MEMORY: u64 = 64 * 1024 * 1024;

/// Open descriptors that one worker keeps: an eighth of the 1,024 that a
/// process has where nobody raised the limit, for each of two workers.
const DESCRIPTORS: u64 = 128;

/// Bytes that an entry takes besides its content: keys, fields, tables.
const OVERHEAD: u64 = 512;

/// Size that the table of small files is made for at first; it grows.
const SMALL_FILES: usize = 1024;

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
#[derive(Debug)]
pub(super) struct Cache {
    small: unsync::Cache<Box<[u8]>, Rc<Entry>, ByMemory>,
    open: unsync::Cache<Box<[u8]>, Rc<Entry>>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache {
            small: unsync::Cache::with_weighter(SMALL_FILES, MEMORY, ByMemory),
            open: unsync::Cache::new(usize::try_from(DESCRIPTORS).unwrap_or(usize::MAX)),
        }
    }
}

impl Cache {
    /// What is at `path`, a normal form without a slash at its end.
    pub(super) fn find(&mut self, root: &Root, path: &[u8]) -> Result<Found, Refusal> {
        if let Some(entry) = self.small.get(path).or_else(|| self.open.get(path)) {
            let entry = Rc::clone(entry);
            if self.is_current(root, path, &entry) {
                return Ok(Found::File(entry));
            }
        }
        match lookup::open(root, path)? {
            None => Ok(Found::Directory),
            Some(entry) => {
                let entry = Rc::new(entry);
                self.keep(path, Rc::clone(&entry));
                Ok(Found::File(entry))
            }
        }
    }

    /// Whether `path` still leads to what is kept of it. If not, it is forgotten.
    fn is_current(&mut self, root: &Root, path: &[u8], entry: &Entry) -> bool {
        let now = Instant::now();
        if now.duration_since(entry.checked.get()) < BELIEVED {
            return true;
        }
        // The path is looked at anew, not the open file: a rename puts another
        // file in its place.
        if lookup::look(root, path).is_ok_and(|stamp| stamp == entry.stamp) {
            entry.checked.set(now);
            return true;
        }
        self.forget(path);
        false
    }

    fn keep(&mut self, path: &[u8], entry: Rc<Entry>) {
        if entry.response.memory() > 0 {
            self.small.insert(path.into(), entry);
        } else {
            self.open.insert(path.into(), entry);
        }
    }

    fn forget(&mut self, path: &[u8]) {
        self.small.remove(path);
        self.open.remove(path);
    }
}
