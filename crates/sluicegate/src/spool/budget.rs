//! What all spools of a program hold together.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Context;

use super::row::{Row, Ticket};

/// Bytes that all spools of a program may hold together. Its bound is for what
/// waits: a spool with nothing in it may always move a little
/// ([`SpoolBudget::held`] is above the bound by as much), or all would stand still.
///
/// A ring counts as long as its memory is there, which may be longer than its spool: until
/// the last proof for what was sent of it by reference.
///
/// Bytes in pipes count as what they are. The memory below them may be more: the
/// kernel keeps a fragment for as long as a byte of it is referred to.
///
/// Who finds it used up is woken when somebody has given back some of it, whichever
/// thread that is on; those that have waited longest first.
#[derive(Debug)]
pub struct SpoolBudget {
    bytes: u64,
    held: AtomicU64,
    on_disk: AtomicU64,
    row: Row,
}

/// Bytes for which somebody is woken: one who gives back less takes as much again
/// himself a moment later.
const WORTH: u64 = 256 * 1024;

impl SpoolBudget {
    /// A budget of so many bytes.
    #[must_use]
    pub fn new(bytes: u64) -> Arc<Self> {
        Arc::new(SpoolBudget {
            bytes,
            held: AtomicU64::new(0),
            on_disk: AtomicU64::new(0),
            row: Row::default(),
        })
    }

    /// Bytes that it is for.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are held now, in pipes and rings of memory.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Bytes of rings on disk that exist now.
    #[must_use]
    pub fn on_disk(&self) -> u64 {
        self.on_disk.load(Ordering::Relaxed)
    }

    /// Whether there is so much left that somebody who waits is to have it.
    fn has_room(&self) -> bool {
        let left = self.bytes.saturating_sub(self.held.load(Ordering::SeqCst));
        left >= WORTH.min(self.bytes / 4).max(1)
    }

    fn give_back(&self, bytes: u64) {
        // Before the look at who waits: `wait` has them the other way round.
        self.held.fetch_sub(bytes, Ordering::SeqCst);
        self.offer();
    }

    /// Wakes the first of those that wait, if there is room for it. It leaves the row
    /// by [`Share::leave`], and what it does not take is the next one's.
    fn offer(&self) {
        if self.row.is_empty() || !self.has_room() {
            return;
        }
        if let Some(waker) = self.row.pop() {
            waker.wake();
        }
    }
}

/// What one spool has of a budget in pipes and copies; goes back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    budget: Arc<SpoolBudget>,
    held: u64,
    /// It waits, or has been woken since.
    ticket: Option<Ticket>,
}

impl Share {
    pub(super) fn new(budget: &Arc<SpoolBudget>) -> Self {
        Share { budget: Arc::clone(budget), held: 0, ticket: None }
    }

    /// Bytes that the budget has now.
    pub(super) fn left(&self) -> u64 {
        self.budget.bytes.saturating_sub(self.budget.held())
    }

    /// Takes at most `bytes` more; returns how many it got.
    pub(super) fn take(&mut self, bytes: u64) -> u64 {
        let mut granted = 0;
        let most = self.budget.bytes;
        let take = |held: u64| {
            granted = bytes.min(most.saturating_sub(held));
            (granted > 0).then_some(held + granted)
        };
        let _ = self.budget.held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        self.held += granted;
        granted
    }

    /// Takes `bytes` more, whatever others have.
    pub(super) fn take_anyway(&mut self, bytes: u64) {
        self.budget.held.fetch_add(bytes, Ordering::Relaxed);
        self.held += bytes;
    }

    /// Gives back so many bytes.
    pub(super) fn give_back(&mut self, bytes: u64) {
        let bytes = bytes.min(self.held);
        if bytes > 0 {
            self.held -= bytes;
            self.budget.give_back(bytes);
        }
    }

    /// There was nothing to be had: the task is woken when there is. Whether there is
    /// by now.
    pub(super) fn wait(&mut self, cx: &Context<'_>) -> bool {
        let ticket = *self.ticket.get_or_insert_with(|| self.budget.row.ticket());
        self.budget.row.wait(ticket, cx.waker());
        // It may have been given back before it was seen that somebody waits.
        let has_room = self.budget.has_room();
        if has_room {
            self.leave();
        }
        has_room
    }

    /// It does not wait any more. If it was woken, what it has left is for others.
    pub(super) fn leave(&mut self) {
        if let Some(ticket) = self.ticket.take()
            && !self.budget.row.leave(ticket)
        {
            self.budget.offer();
        }
    }

    /// So many of its bytes are a ring's from now on.
    pub(super) fn charge(&mut self, bytes: u64) -> Charge {
        let held = bytes.min(self.held);
        self.held -= held;
        Charge { budget: Arc::clone(&self.budget), held, on_disk: 0 }
    }

    /// A ring of so many bytes on disk.
    pub(super) fn charge_disk(&self, bytes: u64) -> Charge {
        self.budget.on_disk.fetch_add(bytes, Ordering::Relaxed);
        Charge { budget: Arc::clone(&self.budget), held: 0, on_disk: bytes }
    }
}

/// What one ring has of a budget; goes back with the ring's memory.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<SpoolBudget>,
    held: u64,
    on_disk: u64,
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.on_disk.fetch_sub(self.on_disk, Ordering::Relaxed);
        if self.held > 0 {
            self.budget.give_back(self.held);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.give_back(self.held);
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Wake, Waker};
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_a_share_has_is_counted_once_and_goes_back() {
        let budget = SpoolBudget::new(100);
        let (mut first, mut second) = (Share::new(&budget), Share::new(&budget));
        assert_eq!((first.take(70), second.take(70)), (70, 30));
        assert_eq!((first.take(1), budget.held()), (0, 100));
        second.take_anyway(5);
        first.give_back(10);
        assert_eq!((second.take(7), budget.held()), (5, 100));
        let (disk, ring) = (second.charge_disk(1000), second.charge(20));
        drop(second);
        assert_eq!((budget.held(), budget.on_disk()), (80, 1000), "the rings are still there");
        drop((disk, ring));
        assert_eq!((budget.held(), budget.on_disk()), (60, 0));
        first.give_back(100);
        drop(first);
        assert_eq!(budget.held(), 0);
    }

    /// Counts how often it is woken.
    #[derive(Debug, Default)]
    struct Bell(AtomicU64);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl Bell {
        fn rung(&self) -> u64 {
            self.0.swap(0, Ordering::Relaxed)
        }
    }

    /// Has it wait; whether there was something after all.
    fn wait(share: &mut Share, bell: &Arc<Bell>) -> bool {
        share.wait(&Context::from_waker(&Waker::from(Arc::clone(bell))))
    }

    #[test]
    fn what_is_given_back_wakes_those_that_wait_one_after_the_other() {
        let budget = SpoolBudget::new(4 * WORTH);
        let mut shares: Vec<_> = (0..4).map(|_| Share::new(&budget)).collect();
        let bells: Vec<Arc<Bell>> = (0..4).map(|_| Arc::default()).collect();
        let rung = || bells.iter().map(|bell| bell.rung()).collect::<Vec<_>>();
        assert_eq!(shares[0].take(u64::MAX), 4 * WORTH);
        for at in [2, 1, 3] {
            assert!(!wait(&mut shares[at], &bells[at]));
        }
        shares[0].give_back(WORTH - 1);
        assert_eq!(rung(), [0, 0, 0, 0], "too little for anybody");
        shares[0].give_back(2 * WORTH);
        assert_eq!(rung(), [0, 0, 1, 0], "the first that came");
        // It takes a part, and leaves the other to the next.
        assert_eq!(shares[2].take(WORTH), WORTH);
        shares[2].leave();
        assert_eq!(rung(), [0, 1, 0, 0]);
        // Others were quicker: its place stays the first.
        assert_eq!(shares[0].take(u64::MAX), 2 * WORTH - 1);
        assert!(!wait(&mut shares[1], &bells[1]));
        shares[2].give_back(WORTH);
        assert_eq!(rung(), [0, 1, 0, 0]);
        // One that goes without having taken anything passes it on.
        drop(shares.remove(1));
        assert_eq!(rung(), [0, 0, 0, 1]);
        drop(shares);
        assert_eq!(rung(), [0, 0, 0, 0]);
        assert!(budget.row.is_empty() && budget.held() == 0);
    }

    #[test]
    fn who_begins_to_wait_while_something_comes_back_does_not() {
        let budget = SpoolBudget::new(WORTH);
        let (mut first, mut second) = (Share::new(&budget), Share::new(&budget));
        let bell = Arc::default();
        assert_eq!((first.take(WORTH), second.take(1)), (WORTH, 0));
        first.give_back(WORTH);
        assert!(wait(&mut second, &bell));
        assert!(budget.row.is_empty());
    }

    #[test]
    fn a_budget_of_nothing_wakes_nobody() {
        let budget = SpoolBudget::new(0);
        let (mut first, mut second) = (Share::new(&budget), Share::new(&budget));
        let bell: Arc<Bell> = Arc::default();
        first.take_anyway(1000);
        assert!(!wait(&mut second, &bell));
        drop(first);
        assert_eq!(bell.rung(), 0);
    }

    #[test]
    fn no_wake_is_lost_between_threads() {
        const THREADS: usize = 4;
        let budget = SpoolBudget::new(WORTH);
        let total = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    let mut share = Share::new(&budget);
                    let waker = Waker::from(Arc::new(Parked(std::thread::current())));
                    let cx = Context::from_waker(&waker);
                    let end = Instant::now() + Duration::from_secs(30);
                    let mut had = 0;
                    while had < 500 {
                        assert!(Instant::now() < end, "nobody has woken it");
                        match share.take(WORTH) {
                            0 if share.wait(&cx) => {}
                            0 => std::thread::park_timeout(Duration::from_secs(31)),
                            granted => {
                                share.leave();
                                // The others find nothing meanwhile.
                                std::thread::yield_now();
                                share.give_back(granted);
                                had += 1;
                            }
                        }
                    }
                    total.fetch_add(had, Ordering::Relaxed);
                });
            }
        });
        assert_eq!(total.into_inner(), 500 * THREADS as u64);
        assert!(budget.row.is_empty() && budget.held() == 0);
    }

    struct Parked(std::thread::Thread);

    impl Wake for Parked {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
}
