//! What a proxied request tells of itself.

use std::any::Any;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use sluicegate::SpoolBytes;
use sluicegate_http::Response;

use super::held::Held;
use super::trouble::Trouble;
use super::{Outcome, Shared};
use crate::observe::RelayStats;

/// The proofs by which a partition of a ring is written again, in the order in which
/// they are counted.
pub(crate) const PROOFS: [&str; 4] = ["copied", "released", "acked", "replaced"];

/// What became of a proxied request, for log and metrics
/// ([`sluicegate_http::Answered::note`]).
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    /// The server that answered, or was tried last.
    pub(crate) upstream: Option<Arc<str>>,
    /// Status of its answer.
    pub(crate) status: Option<u16>,
    /// Servers that were tried.
    pub(crate) tries: u32,
    /// Milliseconds in which it waited for a server's room.
    pub(crate) queue_ms: Option<u64>,
    /// Milliseconds until a connection stood, until the answer's head, and from the request to the
    /// moment in which the upstream was let go.
    pub(crate) connect_ms: Option<u64>,
    pub(crate) head_ms: Option<u64>,
    pub(crate) held_ms: Option<u64>,
    /// The answer's body by the path that it took.
    pub(crate) spool: SpoolBytes,
    /// Partitions of its rings that were written again, by the proof that allowed it
    /// ([`PROOFS`]).
    pub(crate) proofs: [u64; PROOFS.len()],
    /// There was no disk for what of it was to wait there, or it failed.
    pub(crate) lost_disk: bool,
    /// Why it failed: a stable snake_case name ([`Trouble::name`]).
    pub(crate) trouble: Option<&'static str>,
    /// Bytes of the request's body that went to the upstream.
    pub(crate) request_bytes: u64,
}

/// Told while it goes on, read when it is over.
#[derive(Debug, Default)]
pub(crate) struct Note {
    told: Mutex<Told>,
    /// Where it counts once nobody has anything more to tell.
    counts: Option<Arc<RelayStats>>,
}

impl Note {
    fn counted(told: Told, counts: &Arc<RelayStats>) -> Self {
        Note { told: Mutex::new(told), counts: Some(Arc::clone(counts)) }
    }

    pub(crate) fn get(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Told)) {
        change(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// As [`Note::change`], by who mostly has none.
    #[cold]
    #[inline(never)]
    fn change_cold(&self, change: impl FnOnce(&mut Told)) {
        self.change(change);
    }

    /// The first trouble is the cause; what follows from it says nothing new.
    pub(super) fn fail(&self, trouble: &Trouble) {
        self.change(|told| {
            told.trouble.get_or_insert(trouble.name());
        });
    }
}

impl Drop for Note {
    fn drop(&mut self) {
        if let Some(counts) = &self.counts {
            counts.add(self.told.get_mut().unwrap_or_else(PoisonError::into_inner));
        }
    }
}

/// Where log and metrics find what became of a request ([`sluicegate_http::Request::note`]).
#[derive(Debug)]
pub(crate) struct Place<'a> {
    pub(crate) note: &'a mut Option<Arc<dyn Any + Send + Sync>>,
    /// Somebody will look there.
    pub(crate) is_observed: bool,
}

/// What is told of a request until others tell of it too: most are over before that, and
/// then need no lock and no memory for it.
///
/// A client whose task is dropped in the middle of its request is gone, or we are ending;
/// nobody else would say so.
pub(super) struct Tale<'a> {
    told: Told,
    /// All that is told goes here, once it is there.
    note: Option<Arc<Note>>,
    place: Place<'a>,
    shared: &'a Shared,
    /// Since when a connection is held that has not this note, if one is.
    held: Option<Instant>,
    is_over: bool,
}

impl<'a> Tale<'a> {
    pub(super) fn new(shared: &'a Shared, place: Place<'a>) -> Self {
        Tale { told: Told::default(), note: None, place, shared, held: None, is_over: false }
    }

    pub(super) fn change(&mut self, change: impl FnOnce(&mut Told)) {
        match &self.note {
            Some(note) => note.change_cold(change),
            None => change(&mut self.told),
        }
    }

    #[cold]
    pub(super) fn fail(&mut self, trouble: &Trouble) {
        self.change(|told| {
            told.trouble.get_or_insert(trouble.name());
        });
    }

    /// The request has its answer, or none but that it failed.
    pub(super) fn close(&mut self, result: Result<Outcome, Trouble>) -> Outcome {
        self.is_over = true;
        result.unwrap_or_else(|trouble| {
            self.fail(&trouble);
            Outcome::Response(Response::status_page(trouble.status()))
        })
    }

    /// A request is on a connection, which tells nothing by itself.
    pub(super) fn handle_held(&mut self, held: &mut Held) {
        self.held = Some(held.since());
        self.told.tries += 1;
        // Its name is asked for by who looks at a note.
        if self.place.is_observed {
            self.told.upstream = held.get().map(|upstream| upstream.name());
        }
    }

    /// The connection of [`Tale::handle_held`] was let go after so many milliseconds.
    pub(super) fn handle_let_go(&mut self, held_ms: Option<u64>) {
        if self.held.take().is_some() {
            self.change(|told| told.held_ms = held_ms);
        }
    }

    /// The connection of [`Tale::handle_held`] ends with this.
    #[cold]
    fn abandon(&mut self, since: Instant) {
        let held = millis(since, self.shared.upstreams.now());
        self.change(|told| told.held_ms = Some(held));
    }

    /// The note that everybody tells.
    #[inline(never)]
    pub(super) fn note(&mut self) -> &Arc<Note> {
        let Tale { told, note, place, shared, .. } = self;
        note.get_or_insert_with(|| {
            let note = Arc::new(Note::counted(std::mem::take(told), &shared.counts));
            *place.note = Some(Arc::clone(&note) as _);
            note
        })
    }

    /// As [`Tale::note`]; `held` tells it by itself from now on.
    #[cold]
    pub(super) fn note_of(&mut self, held: &mut Held) -> &Arc<Note> {
        if self.held.take().is_some() {
            self.told.upstream = held.get().map(|upstream| upstream.name());
            held.tell_to(Arc::clone(self.note()));
        }
        self.note()
    }
}

impl Drop for Tale<'_> {
    fn drop(&mut self) {
        if let Some(since) = self.held.take() {
            self.abandon(since);
        }
        if !self.is_over {
            self.fail(&Trouble::ClientGone);
        }
        match (&self.note, self.place.is_observed) {
            (Some(_), _) => {}
            (None, true) => {
                self.note();
            }
            (None, false) => self.shared.counts.add(&self.told),
        }
    }
}

/// Whole milliseconds from one moment to another.
pub(super) fn millis(from: Instant, to: Instant) -> u64 {
    let passed: Duration = to.saturating_duration_since(from);
    u64::try_from(passed.as_millis()).unwrap_or(u64::MAX)
}
