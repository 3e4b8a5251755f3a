//! What is left of regions that were taken from stragglers.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use super::builder::Stragglers;
use super::slot::Cut;
use super::table::Place;
use super::{Part, Ring};

/// What a straggler finds.
#[derive(Debug)]
pub(super) enum Loose {
    /// Its rest, from the first byte that it had not sent on.
    Copied(Bytes),
    /// Nothing: it was too slow.
    Aborted,
}

/// Uses that were cut loose, until their sockets come by.
#[derive(Debug, Default)]
pub(super) struct CutLoose {
    loose: Mutex<HashMap<(Place, usize), Loose>>,
    /// Bytes that were copied aside, and not sent yet.
    held: Arc<AtomicU64>,
}

/// Bytes of a straggler, counted as long as they are held.
struct Aside {
    bytes: Box<[u8]>,
    held: Arc<AtomicU64>,
}

impl AsRef<[u8]> for Aside {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        self.held.fetch_sub(self.bytes.len() as u64, Ordering::Relaxed);
    }
}

impl CutLoose {
    fn all(&self) -> MutexGuard<'_, HashMap<(Place, usize), Loose>> {
        self.loose.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is left of a use.
    pub(super) fn take(&self, place: Place, key: usize) -> Option<Loose> {
        self.all().remove(&(place, key))
    }

    /// Its socket wants it no more.
    pub(super) fn forget(&self, place: Place, key: usize) {
        let mut all = self.all();
        if !all.is_empty() {
            all.remove(&(place, key));
        }
    }

    /// Copies bytes aside, if that leaves no more than `up_to` held.
    fn aside(&self, bytes: &[u8], up_to: u64) -> Option<Bytes> {
        let count = bytes.len() as u64;
        let fits = |held: u64| held.checked_add(count).filter(|held| *held <= up_to);
        self.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Bytes::from_owner(Aside { bytes: bytes.into(), held: Arc::clone(&self.held) }))
    }
}

impl Ring {
    /// Takes the oldest partition that can be had so from its sockets. False
    /// when there is none.
    pub(super) fn cut_oldest(&self) -> bool {
        let inner = &self.inner;
        let mut alarms = Vec::new();
        let has_cut = inner.table.cut_oldest(inner.is_replaceable, |place, len, cut: Cut<Part>| {
            let rest = cut.pages.pages().as_ref().get(cut.at..len).unwrap_or_default();
            let copied = match inner.stragglers {
                Stragglers::CopyOut { up_to } => inner.cut_loose.aside(rest, up_to),
                Stragglers::Wait | Stragglers::Abort => None,
            };
            let loose = match copied {
                Some(bytes) => {
                    inner.counts.handle_copied_out(bytes.len());
                    Loose::Copied(bytes)
                }
                None => {
                    inner.counts.handle_abort();
                    Loose::Aborted
                }
            };
            let is_cut = matches!(loose, Loose::Aborted);
            inner.cut_loose.all().insert((place, cut.key), loose);
            alarms.extend(cut.alarm.map(|alarm| (alarm, is_cut)));
        });
        // They may be waiting for room that never comes. Not while the partition
        // is locked: who is woken may do anything.
        alarms.into_iter().for_each(|(alarm, is_cut)| alarm.ring(is_cut));
        has_cut
    }
}
