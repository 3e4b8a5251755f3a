//! The partitions of a ring, each behind a lock of its own, and the order in
//! which they are leased.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::task::Waker;

use super::Connection;
use super::alarm::Alarm;
use super::slot::{Cut, Found, Phase, Proof, Settled, Slot};
use super::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How replacing pages ended.
#[derive(Debug)]
pub(crate) enum Replaced {
    /// There are fresh ones.
    Done,
    /// There never will be.
    Never,
    /// The kernel has none now.
    NotNow(io::Error),
}

/// Pages that a partition stands on.
pub(crate) trait Memory {
    /// Puts fresh pages in their place, so that whoever reads the old ones
    /// keeps them unchanged.
    fn replace(&mut self) -> Replaced;
}

/// Which content of which partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) version: u64,
}

/// What a lease has taken out of the table.
#[derive(Debug)]
pub(crate) struct Taken<M> {
    pub(crate) place: Place,
    /// Version of the content before.
    pub(crate) before: u64,
    pub(crate) pages: Arc<M>,
    pub(crate) proof: Proof,
}

/// How an attempt to lease ended.
#[derive(Debug)]
pub(crate) enum Attempt<M> {
    Leased(Taken<M>),
    /// No partition is free now.
    Busy,
    /// None will be: all are quarantined.
    Exhausted,
    /// One is free, and the kernel has no fresh pages for it.
    Refused(io::Error),
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    owner: Option<Connection>,
    waker: Waker,
}

#[derive(Debug)]
struct Lists {
    /// Free partitions, in the order in which they became so: cyclic, as long
    /// as they are freed in order.
    free: VecDeque<usize>,
    /// Who waits for one, by a number of its own: the one that waits longest
    /// first, but that a look too many costs a place.
    waiting: VecDeque<Waiting>,
    /// Of the last lease.
    version: u64,
    /// Whom the last lease was for, and how often that was somebody else than
    /// before.
    owner: Option<Connection>,
    changes: u64,
    /// Partitions may be in use that were leased for others.
    is_mixed: bool,
    /// Of the last one who waits.
    waiter: u64,
    quarantined: usize,
}

#[derive(Debug)]
pub(crate) struct Table<M> {
    slots: Box<[Mutex<Slot<M>>]>,
    lists: Mutex<Lists>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic of somebody who held it is none of a state machine that changes
    // its fields last.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Memory> Table<M> {
    pub(crate) fn new(pages: impl IntoIterator<Item = M>) -> Self {
        let slots: Box<[_]> = pages.into_iter().map(|pages| Mutex::new(Slot::new(pages))).collect();
        let lists = Lists {
            free: (0..slots.len()).collect(),
            waiting: VecDeque::new(),
            version: 0,
            owner: None,
            changes: 0,
            is_mixed: false,
            waiter: 0,
            quarantined: 0,
        };
        Table { slots, lists: Mutex::new(lists) }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Leases the partition that is free for the longest time. One lock at a
    /// time is held, here as everywhere.
    pub(crate) fn lease(&self, owner: Option<Connection>) -> Attempt<M> {
        loop {
            let (index, version) = {
                let mut lists = lock(&self.lists);
                let Some(index) = lists.free.pop_front() else {
                    return match lists.quarantined == self.slots.len() {
                        true => Attempt::Exhausted,
                        false => Attempt::Busy,
                    };
                };
                lists.version += 1;
                if lists.owner != owner {
                    lists.owner = owner;
                    lists.changes += 1;
                    lists.is_mixed = true;
                }
                (index, lists.version)
            };
            let mut slot = lock(&self.slots[index]);
            if slot.must_be_replaced(owner) {
                match slot.pages_mut().map_or(Replaced::Never, Memory::replace) {
                    Replaced::Done => slot.handle_replaced(),
                    Replaced::Never => {
                        slot.quarantine();
                        drop(slot);
                        self.handle_quarantined();
                        continue;
                    }
                    Replaced::NotNow(error) => {
                        drop(slot);
                        lock(&self.lists).free.push_front(index);
                        return Attempt::Refused(error);
                    }
                }
            }
            if let Some((pages, proof, before)) = slot.lease(version, owner) {
                return Attempt::Leased(Taken {
                    place: Place { index, version },
                    before,
                    pages,
                    proof,
                });
            }
        }
    }

    fn handle_quarantined(&self) {
        let mut lists = lock(&self.lists);
        lists.quarantined += 1;
        if lists.quarantined == self.slots.len() {
            // Nobody will ever free one.
            let waiting = std::mem::take(&mut lists.waiting);
            drop(lists);
            waiting.into_iter().for_each(|waiting| waiting.waker.wake());
        }
    }

    /// Partitions that are never used again.
    pub(crate) fn quarantined(&self) -> usize {
        lock(&self.lists).quarantined
    }

    /// Takes the oldest partition of somebody else than `asker` that was accepted
    /// as a whole: its pages are to be replaced for `asker` whatever becomes of
    /// them, so nobody is waited for who may not even look. False if there is none.
    pub(crate) fn take_accepted(&self, asker: Option<Connection>) -> bool {
        let changes = {
            let lists = lock(&self.lists);
            if lists.owner == asker && !lists.is_mixed {
                // One connection alone, as mostly: nothing to look through.
                return false;
            }
            lists.changes
        };
        let has_others = Cell::new(false);
        let can_be_taken = |slot: &Slot<M>| {
            let is_others = slot.is_used() && slot.owner() != asker;
            has_others.set(has_others.get() || is_others);
            is_others && slot.is_accepted()
        };
        let nothing_left = |_, _, _| debug_assert!(false, "all of it was accepted");
        let has_taken = self.cut(can_be_taken, nothing_left);
        if !has_others.get() {
            let mut lists = lock(&self.lists);
            lists.is_mixed &= lists.owner != asker || lists.changes != changes;
        }
        has_taken
    }

    /// Takes the oldest partition that can be had so from the sockets that use
    /// it, and tells of each that has not sent the whole. False if there is none.
    pub(crate) fn cut_oldest(
        &self,
        is_replaceable: bool,
        each: impl FnMut(Place, usize, Cut<M>),
    ) -> bool {
        self.cut(|slot| slot.can_be_cut(is_replaceable), each)
    }

    fn cut(
        &self,
        can_be_cut: impl Fn(&Slot<M>) -> bool,
        mut each: impl FnMut(Place, usize, Cut<M>),
    ) -> bool {
        let oldest = self
            .slots
            .iter()
            .enumerate()
            .filter_map(|(index, slot)| {
                let slot = lock(slot);
                can_be_cut(&slot).then_some((slot.version, index))
            })
            .min();
        let Some((version, index)) = oldest else { return false };
        let mut slot = lock(&self.slots[index]);
        if slot.version != version || !can_be_cut(&slot) {
            // Somebody was quicker: the caller looks again.
            return true;
        }
        let len = slot.len();
        slot.cut_loose(|cut| each(Place { index, version }, len, cut));
        drop(slot);
        self.handle_free(index);
        true
    }

    fn handle_free(&self, index: usize) {
        let mut lists = lock(&self.lists);
        lists.free.push_back(index);
        let next = lists.waiting.pop_front();
        drop(lists);
        if let Some(next) = next {
            next.waker.wake();
        }
    }

    /// Wakes one who waits: something has changed that is worth a look.
    pub(crate) fn wake_one(&self) {
        let next = lock(&self.lists).waiting.pop_front();
        if let Some(next) = next {
            next.waker.wake();
        }
    }

    /// Wakes one who waits for somebody else than `owner`: [`Table::take_accepted`]
    /// may find something.
    pub(crate) fn wake_other(&self, owner: Option<Connection>) {
        let mut lists = lock(&self.lists);
        let other = lists.waiting.iter().position(|waiting| waiting.owner != owner);
        let next = other.and_then(|at| lists.waiting.remove(at));
        drop(lists);
        if let Some(next) = next {
            next.waker.wake();
        }
    }

    /// Waits for a partition: `waker` is woken once. `waiter` is the number that
    /// the last call returned, if that has not been woken. Where a partition has
    /// become free meanwhile, it is woken at once.
    pub(crate) fn wait(
        &self,
        waiter: Option<u64>,
        owner: Option<Connection>,
        waker: &Waker,
    ) -> u64 {
        let mut lists = lock(&self.lists);
        let known = waiter
            .and_then(|number| lists.waiting.iter_mut().find(|waiting| waiting.number == number));
        if let Some(known) = known {
            known.waker.clone_from(waker);
            return known.number;
        }
        lists.waiter += 1;
        let number = lists.waiter;
        if lists.free.is_empty() && lists.quarantined < self.slots.len() {
            lists.waiting.push_back(Waiting { number, owner, waker: waker.clone() });
        } else {
            drop(lists);
            waker.wake_by_ref();
        }
        number
    }

    /// Waits no more. If it was woken meanwhile, the next one is instead.
    pub(crate) fn wait_no_more(&self, waiter: u64) {
        let mut lists = lock(&self.lists);
        let before = lists.waiting.len();
        lists.waiting.retain(|waiting| waiting.number != waiter);
        if lists.waiting.len() == before {
            let next = lists.waiting.pop_front();
            drop(lists);
            if let Some(next) = next {
                next.waker.wake();
            }
        }
    }

    /// The lease ends without a region.
    pub(crate) fn revert(&self, place: Place, pages: Arc<M>, before: u64) {
        lock(&self.slots[place.index]).revert(pages, before);
        self.handle_free(place.index);
    }

    /// The first `len` bytes are a region.
    pub(crate) fn publish(&self, place: Place, pages: Arc<M>, len: usize) {
        lock(&self.slots[place.index]).publish(pages, len);
    }

    pub(crate) fn take_handle(&self, place: Place) {
        lock(&self.slots[place.index]).take_handle();
    }

    /// A region is dropped; `pages` are what it could read.
    pub(crate) fn drop_handle(&self, place: Place, pages: Arc<M>) {
        // First: what is free is nobody's to read.
        drop(pages);
        if lock(&self.slots[place.index]).drop_handle() {
            self.handle_free(place.index);
        }
    }

    /// Whom the region of `place` is for; anybody if `None`.
    pub(crate) fn owner(&self, place: Place) -> Option<Connection> {
        lock(&self.slots[place.index]).owner()
    }

    /// As [`Slot::enlist`]. Only while a handle is there.
    pub(crate) fn enlist(&self, place: Place, alarm: Option<Arc<Alarm>>) -> (usize, usize) {
        lock(&self.slots[place.index]).enlist(alarm)
    }

    /// As [`Slot::pin`].
    pub(crate) fn pin(&self, place: Place, key: usize) -> Found<M> {
        lock(&self.slots[place.index]).pin(place.version, key)
    }

    /// As [`Slot::unpin`]; `pages` are what [`Table::pin`] gave.
    pub(crate) fn unpin(
        &self,
        place: Place,
        key: usize,
        pages: Arc<M>,
        taken: usize,
        by_reference: bool,
    ) {
        // First: who finds the use unpinned may replace them.
        drop(pages);
        lock(&self.slots[place.index]).unpin(key, taken, by_reference);
    }

    /// As [`Slot::settle`].
    pub(crate) fn settle(&self, place: Place, key: usize, settled: Settled) {
        if lock(&self.slots[place.index]).settle(place.version, key, settled) {
            self.handle_free(place.index);
        }
    }

    /// Partitions in this phase.
    pub(crate) fn count(&self, phase: Phase) -> usize {
        self.slots.iter().filter(|slot| lock(slot).phase == phase).count()
    }
}
