//! One partition: its version, its state, and who still needs its pages. Pure;
//! [`super::table`] puts a lock around each.

use slab::Slab;

use super::Connection;
use super::alarm::Alarm;
use super::sync::Arc;

/// By which proof a partition was written to again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proof {
    /// None was needed: the kernel never saw these bytes.
    Unsent,
    /// The kernel took a copy of all.
    Copied,
    /// The kernel reported that it dropped the pages.
    Released,
    /// The peer's TCP has them, the peer is remote, and the memory stays with
    /// the same connection.
    Acked,
    /// Its pages were swapped for fresh ones.
    Replaced,
}

/// How the use of a region by one socket ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// The kernel accepted nothing.
    Unsent,
    /// The kernel accepted copies.
    Copied,
    /// It accepted references, and reported that it dropped them.
    Released,
    /// It accepted references, and this connection's remote peer has it all.
    Acked(Connection),
    /// It accepted references, and nobody will learn more of them: only fresh
    /// pages are ours now.
    Unproven,
}

/// What a partition is doing.
///
/// ```text
///   Free ──lease──▶ Leased ──publish──▶ Published ──the last one lets go──▶ Free
///    ▲                 │                     │ (of pages that cannot be replaced, and
///    └──revert─────────┘                     ▼  of which nobody knows)
///                                        Quarantined
/// ```
/// The paper's array has a version and one bit (seeds/000, II-C), in which
/// *new* and *sent, not acknowledged* look alike. Here they differ: what is
/// published and queued is a use, and a use knows how much of it was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Free,
    Leased,
    Published,
    /// Never written to again.
    Quarantined,
}

/// A use of a published region by one socket.
#[derive(Debug)]
struct Use {
    /// Bytes of it that the kernel accepted.
    at: usize,
    /// A call is reading the pages at this moment.
    is_pinned: bool,
    /// Some of it was accepted by reference.
    is_referenced: bool,
    /// Who is to be told when it is cut loose.
    alarm: Option<Arc<Alarm>>,
}

/// What a socket finds where its region was.
#[derive(Debug)]
pub(crate) enum Found<M> {
    /// The pages, and the offset in bytes of what it has not sent.
    Pages(Arc<M>, usize),
    /// Nothing: it was cut loose.
    Gone,
}

/// The use of a region that was cut loose, and the pages with what it had not
/// sent.
#[derive(Debug)]
pub(crate) struct Cut<M> {
    pub(crate) key: usize,
    pub(crate) at: usize,
    pub(crate) pages: Arc<M>,
    pub(crate) alarm: Option<Arc<Alarm>>,
}

#[derive(Debug)]
pub(crate) struct Slot<M> {
    /// Which content it has: one more for each lease of the ring.
    pub(crate) version: u64,
    pub(crate) phase: Phase,
    /// Here unless they are leased.
    pages: Option<Arc<M>>,
    /// Whose wire may still carry these pages, after an acknowledgement.
    bound: Option<Connection>,
    /// Whom the last lease was for.
    owner: Option<Connection>,
    /// Accepted by reference, and never proven: to be replaced.
    is_unproven: bool,
    /// The strongest proof that this round has needed so far.
    proof: Proof,
    /// Bytes of the region.
    len: usize,
    /// Regions in somebody's hands.
    handles: usize,
    /// Sockets that it was queued to.
    sockets: usize,
    uses: Slab<Use>,
}

impl<M> Slot<M> {
    pub(crate) fn new(pages: M) -> Self {
        Slot {
            version: 0,
            phase: Phase::Free,
            pages: Some(Arc::new(pages)),
            bound: None,
            owner: None,
            is_unproven: false,
            proof: Proof::Unsent,
            len: 0,
            handles: 0,
            sockets: 0,
            uses: Slab::new(),
        }
    }

    /// Whether its pages are to be replaced before they are written for `owner`.
    pub(crate) fn must_be_replaced(&self, owner: Option<Connection>) -> bool {
        self.is_unproven || (self.bound.is_some() && self.bound != owner)
    }

    /// The pages of a free partition, if nothing of this process reads them.
    pub(crate) fn pages_mut(&mut self) -> Option<&mut M> {
        if self.phase != Phase::Free {
            return None;
        }
        Arc::get_mut(self.pages.as_mut()?)
    }

    /// Fresh pages are in their place.
    pub(crate) fn handle_replaced(&mut self) {
        (self.is_unproven, self.bound, self.proof) = (false, None, Proof::Replaced);
    }

    /// Nobody writes to it again. The kernel may go on reading.
    pub(crate) fn quarantine(&mut self) {
        self.phase = Phase::Quarantined;
    }

    /// Gives the pages away to be written, as `version`, and tells by which
    /// proof; `None` unless it is free and proven.
    pub(crate) fn lease(
        &mut self,
        version: u64,
        owner: Option<Connection>,
    ) -> Option<(Arc<M>, Proof, u64)> {
        if self.phase != Phase::Free || self.must_be_replaced(owner) {
            return None;
        }
        let pages = self.pages.take()?;
        let before = std::mem::replace(&mut self.version, version);
        self.phase = Phase::Leased;
        self.owner = owner;
        self.sockets = 0;
        Some((pages, std::mem::replace(&mut self.proof, Proof::Unsent), before))
    }

    /// The lease ends without a region: the version is what it was.
    pub(crate) fn revert(&mut self, pages: Arc<M>, before: u64) {
        debug_assert_eq!(self.phase, Phase::Leased);
        self.pages = Some(pages);
        self.version = before;
        self.phase = Phase::Free;
    }

    /// The first `len` bytes are a region that is in one pair of hands.
    pub(crate) fn publish(&mut self, pages: Arc<M>, len: usize) {
        debug_assert_eq!(self.phase, Phase::Leased);
        self.pages = Some(pages);
        (self.len, self.handles) = (len, 1);
        self.phase = Phase::Published;
    }

    pub(crate) fn take_handle(&mut self) {
        self.handles += 1;
    }

    /// One pair of hands fewer. True when the partition is free.
    pub(crate) fn drop_handle(&mut self) -> bool {
        self.handles -= 1;
        self.let_go()
    }

    /// Whom the region is for; anybody if `None`.
    pub(crate) fn owner(&self) -> Option<Connection> {
        self.owner
    }

    /// Bytes of the region.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// A socket queues the region. Returns the key of the use, and how many
    /// sockets have queued it before.
    pub(crate) fn enlist(&mut self, alarm: Option<Arc<Alarm>>) -> (usize, usize) {
        let before = self.sockets;
        self.sockets += 1;
        let key = self.uses.insert(Use { at: 0, is_pinned: false, is_referenced: false, alarm });
        (key, before)
    }

    /// The pages, for one call that reads them. To be followed by
    /// [`Slot::unpin`].
    pub(crate) fn pin(&mut self, version: u64, key: usize) -> Found<M> {
        if self.version != version {
            return Found::Gone;
        }
        let Some(found) = self.uses.get_mut(key) else { return Found::Gone };
        let Some(pages) = &self.pages else { return Found::Gone };
        found.is_pinned = true;
        Found::Pages(Arc::clone(pages), found.at)
    }

    /// The call is over, and took `taken` bytes, `by_reference` or by copy.
    pub(crate) fn unpin(&mut self, key: usize, taken: usize, by_reference: bool) {
        // A pinned use is never cut loose, so it is still there.
        if let Some(found) = self.uses.get_mut(key) {
            found.is_pinned = false;
            found.at += taken.min(self.len - found.at);
            found.is_referenced |= by_reference && taken > 0;
        }
    }

    /// A use is over. True when the partition is free. One that was cut loose
    /// changes nothing.
    pub(crate) fn settle(&mut self, version: u64, key: usize, settled: Settled) -> bool {
        if self.version != version || self.uses.try_remove(key).is_none() {
            return false;
        }
        match settled {
            Settled::Unsent => {}
            Settled::Copied => self.proof = self.proof.max(Proof::Copied),
            Settled::Released => self.proof = self.proof.max(Proof::Released),
            Settled::Acked(connection) if Some(connection) == self.owner => {
                self.proof = self.proof.max(Proof::Acked);
                self.bound = Some(connection);
            }
            // An acknowledgement is no proof for anybody else's memory.
            Settled::Acked(_) | Settled::Unproven => self.is_unproven = true,
        }
        self.let_go()
    }

    /// Whether a partition that is waited for can be had by cutting sockets
    /// loose: nobody has the region in hand, and no call reads it now.
    /// Pages that cannot be replaced are left to those to whom they were sent by
    /// reference.
    pub(crate) fn can_be_cut(&self, is_replaceable: bool) -> bool {
        let can_be_cut = |found: &Use| !found.is_pinned && (is_replaceable || !found.is_referenced);
        self.phase == Phase::Published
            && self.handles == 0
            && (is_replaceable || !self.is_unproven)
            && self.uses.iter().all(|(_, found)| can_be_cut(found))
    }

    /// Whether somebody writes it, has it or sends it.
    pub(crate) fn is_used(&self) -> bool {
        matches!(self.phase, Phase::Leased | Phase::Published)
    }

    /// Whether all of it was accepted by all, and nobody has it in hand.
    pub(crate) fn is_accepted(&self) -> bool {
        let is_accepted = |found: &Use| !found.is_pinned && found.at == self.len;
        self.phase == Phase::Published
            && self.handles == 0
            && self.uses.iter().all(|(_, found)| is_accepted(found))
    }

    /// Takes the partition from the sockets that use it, and tells of each one
    /// that has not sent the whole. What they have sent by reference is left to
    /// the kernel: the pages are to be replaced.
    pub(crate) fn cut_loose(&mut self, mut each: impl FnMut(Cut<M>)) {
        let Some(pages) = &self.pages else { return };
        // Not `drain`, which would give the uses' memory back.
        for (key, found) in &mut self.uses {
            self.is_unproven |= found.is_referenced;
            if found.at > 0 {
                self.proof = self.proof.max(Proof::Copied);
            }
            if found.at < self.len {
                let (pages, alarm) = (Arc::clone(pages), found.alarm.take());
                each(Cut { key, at: found.at, pages, alarm });
            }
        }
        self.uses.clear();
        self.let_go();
    }

    /// Free, if nobody needs it any more.
    fn let_go(&mut self) -> bool {
        let is_free = self.phase == Phase::Published && self.handles == 0 && self.uses.is_empty();
        if is_free {
            self.phase = Phase::Free;
        }
        is_free
    }
}
