//! A connection to an upstream while a request is on it.

use std::sync::Arc;
use std::time::Instant;

use super::note::{Note, millis};
use crate::gateway::Upstream;

/// A connection that is reset when it is dropped, so that the server behind it stops
/// working for nobody; unless it is let go. Either way it tells how long it was held.
#[derive(Debug)]
pub(super) struct Held {
    /// There until it is let go.
    upstream: Option<Upstream>,
    since: Instant,
    /// Where it tells; until it is there, whoever has it does.
    note: Option<Arc<Note>>,
}

impl Held {
    /// Since `since` it is lent for a request.
    pub(super) fn new(upstream: Upstream, since: Instant) -> Self {
        Held { upstream: Some(upstream), since, note: None }
    }

    /// From now on it tells of itself.
    pub(super) fn tell_to(&mut self, note: Arc<Note>) {
        self.note = Some(note);
    }

    pub(super) fn since(&self) -> Instant {
        self.since
    }

    /// The connection, until it is let go.
    pub(super) fn get(&mut self) -> Option<&mut Upstream> {
        self.upstream.as_mut()
    }

    /// Milliseconds since the request had it.
    pub(super) fn age(&self) -> u64 {
        self.upstream.as_ref().map_or(0, |upstream| millis(self.since, upstream.socket.now()))
    }

    /// The answer is complete: another request may have the connection, if there
    /// is nothing against it, or it is closed. Returns how many milliseconds it was held.
    pub(super) fn let_go(&mut self, keep: bool) -> Option<u64> {
        self.let_go_after(keep, self.age())
    }

    /// As [`Held::let_go`], by who knows how old it is.
    pub(super) fn let_go_after(&mut self, keep: bool, held_ms: u64) -> Option<u64> {
        let mut upstream = self.upstream.take()?;
        self.tell(held_ms);
        if keep {
            // Its next answer may be short.
            upstream.socket.stop_gathering();
            upstream.keep();
        }
        Some(held_ms)
    }

    #[inline]
    fn tell(&self, held_ms: u64) {
        if let Some(note) = &self.note {
            Self::tell_note(note, held_ms);
        }
    }

    #[cold]
    fn tell_note(note: &Note, held_ms: u64) {
        note.change(|told| told.held_ms = Some(held_ms));
    }

    /// The request is over, and its answer is not.
    #[cold]
    fn abandon(&mut self) {
        self.tell(self.age());
        if let Some(upstream) = &mut self.upstream {
            // Where the option is refused the connection is gone already.
            let _ = upstream.socket.reset_when_dropped();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.upstream.is_some() {
            self.abandon();
        }
    }
}
