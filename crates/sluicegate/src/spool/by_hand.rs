//! For who moves bytes into a spool himself.

use std::io;
use std::sync::Arc;
use std::task::Context;

use super::core::{LEAST, ROUND, Tier, Wants};
use super::fill::fits;
use super::holder::Holder;
use super::onto_ring::{Leased, lease};
use super::{Room, Sink, Spool};
use crate::pipes::LentPipe;
use crate::ring::Lease;

impl Spool {
    /// For who moves bytes himself (a client's, for an upload): where they go. What
    /// went into a pipe is told by [`Spool::handle_filled`], and that it took
    /// nothing more by [`Spool::handle_full`].
    pub fn room(&mut self) -> Room {
        let wants = self.wants();
        let loose = self.affords(wants.loose);
        if loose == 0 {
            return Room::Full;
        }
        let Some((pipe, _)) = self.pipe() else { return Room::Memory(fits(loose)) };
        let len = loose.min(ROUND - (pipe.contained() as u64).min(ROUND));
        Room::Pipe(pipe, fits(len))
    }

    /// As much of `bytes` as the budget has; what keeps a body moving always.
    pub(super) fn affords(&self, bytes: u64) -> u64 {
        let least = LEAST.saturating_sub(self.core.loose());
        bytes.min(self.share.left().max(least))
    }

    /// Bytes that it would take now by [`Spool::push`]. 0: none, until something was
    /// accepted, or the last [`Spool::poll_fill`] has found no place. Needs no pipe,
    /// as [`Spool::room`] may.
    pub fn wanted(&mut self) -> u64 {
        if self.is_stuck {
            return 0;
        }
        let wants = self.wants();
        match self.affords(wants.loose) {
            // Nobody else would have the task go on.
            0 if self.core.held() == 0 => LEAST,
            0 => self.on_disk().min(wants.disk),
            loose => loose,
        }
    }

    /// Bytes for which there is room in the partition on disk that is being written.
    fn on_disk(&mut self) -> u64 {
        let open = match self.core.open() {
            Some(last) if last.tier == Tier::Disk => match &last.holder {
                Holder::Lease(lease) => lease.room(),
                _ => 0,
            },
            _ => 0,
        };
        self.leased.as_ref().map_or(open, Lease::room) as u64
    }

    /// As [`Spool::wanted`], but finds room on disk too. Where that is 0 the sink has
    /// the task go on, or who gives back some of the budget.
    pub fn poll_wanted(&mut self, cx: &mut Context<'_>, sink: &mut dyn Sink) -> u64 {
        self.is_stuck = false;
        loop {
            let wants = self.wants();
            let wanted = self.poll_room(cx, sink, wants);
            if wanted > 0 || wants.loose == 0 {
                self.share.leave();
                return wanted;
            }
            if !self.share.wait(cx) {
                return 0;
            }
        }
    }

    fn poll_room(&mut self, cx: &mut Context<'_>, sink: &mut dyn Sink, wants: Wants) -> u64 {
        if self.affords(wants.loose) == 0
            && wants.disk > 0
            && self.on_disk() == 0
            && self.has_disk()
            && let Some(ring) = &self.disk
        {
            match lease(cx, ring, sink) {
                Leased::Lease(lease) => self.leased = Some(lease),
                Leased::Busy => {}
                Leased::Never(error) => self.handle_trouble(io::Error::other(error)),
            }
        }
        self.wanted()
    }

    /// So many bytes went into `pipe`: the one of [`Spool::room`], or another one that
    /// had nothing in it.
    pub fn handle_filled(&mut self, pipe: Arc<LentPipe>, bytes: usize) {
        let count = bytes as u64;
        if count == 0 {
            return;
        }
        self.share.take_anyway(count);
        let is_new = !self.is_open(&pipe);
        self.handle_piped(pipe, is_new, count);
    }

    /// `pipe`, which is that of [`Spool::room`], took nothing, though there was
    /// something: another place is to be asked for.
    pub fn handle_full(&mut self, pipe: &Arc<LentPipe>) {
        if self.is_open(pipe) {
            self.core.handle_full();
        }
    }

    /// Whether more can be put into `pipe` behind the last bytes that are held.
    fn is_open(&mut self, pipe: &Arc<LentPipe>) -> bool {
        self.core.open().is_some_and(|last| match &last.holder {
            Holder::Pipe(open) => Arc::ptr_eq(open, pipe),
            _ => false,
        })
    }
}
