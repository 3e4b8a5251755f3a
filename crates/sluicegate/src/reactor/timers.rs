//! Deadlines of a worker: cheap to move, exact enough to fire.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;
use std::time::Instant;

use slab::Slab;

use crate::executor::Wakes;

/// Deadlines in a heap whose entries may be out of date.
///
/// A connection moves its deadline with every request, and almost never
/// reaches it. So moving it later only stores the new time; when the old entry
/// comes up, it is put back at the new one. An entry is added only when the
/// deadline moves before the earliest one that the heap holds for the timer.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<(Instant, usize, u32)>>,
    slots: Slab<Slot>,
    generation: u32,
}

/// Entries out of date that are not worth a look through the heap.
const SPARE: usize = 1024;

#[derive(Debug)]
struct Slot {
    generation: u32,
    deadline: Option<Instant>,
    /// The earliest entry that the heap holds for this slot.
    entered: Option<Instant>,
    /// A later entry that the heap holds as well, of a deadline that was moved earlier: it
    /// serves again when that is over. A deadline that moves to and fro adds none.
    later: Option<Instant>,
    wakes: Wakes,
}

impl Slot {
    /// Sees to it that an entry comes up no later than `deadline`; whether one is to be added.
    #[inline]
    fn enter(&mut self, deadline: Instant) -> bool {
        match (self.entered, self.later) {
            (Some(entered), _) if entered <= deadline => return false,
            (None, Some(later)) if later <= deadline => {
                (self.entered, self.later) = (self.later, None);
                return false;
            }
            // Of two later ones the nearer is kept in mind.
            (Some(entered), _) => self.later = Some(entered),
            (None, _) => {}
        }
        self.entered = Some(deadline);
        true
    }
}

impl Timers {
    /// A timer without a deadline; its index.
    pub(super) fn insert(&mut self) -> usize {
        self.generation = self.generation.wrapping_add(1);
        self.slots.insert(Slot {
            generation: self.generation,
            deadline: None,
            entered: None,
            later: None,
            wakes: Wakes::NOBODY,
        })
    }

    /// Ends a timer. Its waker is given back, to be dropped where dropping may
    /// run other code.
    pub(super) fn remove(&mut self, index: usize) -> Option<Wakes> {
        let wakes = self.slots.try_remove(index).map(|slot| slot.wakes);
        // The entry of a timer that is gone would stay until its time comes:
        // for a minute of short connections that is millions of them.
        if self.heap.len() > 2 * self.slots.len() + SPARE {
            let slots = &self.slots;
            self.heap.retain(|&Reverse((at, index, generation))| {
                slots.get(index).is_some_and(|slot| {
                    slot.generation == generation && [slot.entered, slot.later].contains(&Some(at))
                })
            });
        }
        wakes
    }

    pub(super) fn set(&mut self, index: usize, deadline: Option<Instant>) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.deadline = deadline;
        if let Some(deadline) = deadline
            && slot.enter(deadline)
        {
            self.heap.push(Reverse((deadline, index, slot.generation)));
        }
    }

    /// Whether the timer's deadline is over at `now`; if not, `waker` is woken
    /// then. The waker that was there before is given back.
    pub(super) fn poll(&mut self, index: usize, now: Instant, waker: &Waker) -> (bool, Wakes) {
        let Some(slot) = self.slots.get_mut(index) else {
            return (false, Wakes::NOBODY);
        };
        match slot.deadline {
            Some(deadline) if deadline <= now => return (true, Wakes::NOBODY),
            Some(_) => {}
            None => return (false, Wakes::NOBODY),
        }
        let wakes = match (Wakes::running(waker), &slot.wakes) {
            (Some(key), _) => Wakes::Task(key),
            (None, Wakes::Other(old)) if old.will_wake(waker) => return (false, Wakes::NOBODY),
            (None, _) => Wakes::Other(waker.clone()),
        };
        (false, std::mem::replace(&mut slot.wakes, wakes))
    }

    /// When the next entry comes up.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the wakers of all timers that are over at `now`.
    pub(super) fn expire(&mut self, now: Instant, woken: &mut Vec<Wakes>) {
        while let Some(&Reverse((at, index, generation))) = self.heap.peek() {
            if at > now {
                return;
            }
            self.heap.pop();
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            if slot.generation != generation {
                continue;
            }
            if slot.later == Some(at) {
                slot.later = None;
            }
            if slot.entered != Some(at) {
                continue;
            }
            slot.entered = None;
            let Some(deadline) = slot.deadline else { continue };
            if deadline <= now {
                woken.push(std::mem::take(&mut slot.wakes));
            } else if slot.enter(deadline) {
                self.heap.push(Reverse((deadline, index, generation)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;
    use std::time::Duration;

    struct Count(AtomicUsize);
    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn fired(timers: &mut Timers, now: Instant) -> usize {
        let mut woken = Vec::new();
        timers.expire(now, &mut woken);
        woken.len()
    }

    #[test]
    fn a_deadline_moved_later_fires_once_at_the_later_time_and_costs_no_entry() {
        let waker = Waker::from(Arc::new(Count(AtomicUsize::new(0))));
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        let timer = timers.insert();
        timers.set(timer, Some(at(10)));
        for ms in 11..1000 {
            timers.set(timer, Some(at(ms)));
        }
        assert_eq!(timers.heap.len(), 1);
        timers.poll(timer, start, &waker);
        assert_eq!(fired(&mut timers, at(10)), 0);
        assert_eq!(timers.next(), Some(at(999)));
        assert_eq!(fired(&mut timers, at(998)), 0);
        assert_eq!(fired(&mut timers, at(999)), 1);
        assert!(timers.poll(timer, at(999), &waker).0);
        assert_eq!(fired(&mut timers, at(5000)), 0);
    }

    #[test]
    fn a_deadline_moved_earlier_fires_at_the_earlier_time() {
        let waker = Waker::from(Arc::new(Count(AtomicUsize::new(0))));
        let start = Instant::now();
        let mut timers = Timers::default();
        let timer = timers.insert();
        timers.set(timer, Some(start + Duration::from_secs(60)));
        timers.set(timer, Some(start + Duration::from_secs(1)));
        timers.poll(timer, start, &waker);
        assert_eq!(fired(&mut timers, start + Duration::from_secs(1)), 1);
    }

    #[test]
    fn a_deadline_that_moves_to_and_fro_adds_no_entries() {
        let start = Instant::now();
        let waker = Waker::from(Arc::new(Count(AtomicUsize::new(0))));
        let at = |ms| start + Duration::from_millis(ms);
        let mut timers = Timers::default();
        let timer = timers.insert();
        timers.set(timer, Some(at(75_000)));
        for turn in 0..1000 {
            let now = turn * 50;
            timers.set(timer, Some(at(now + 10)));
            timers.set(timer, Some(at(now + 20)));
            timers.poll(timer, at(now), &waker);
            assert_eq!(fired(&mut timers, at(now + 10)), 0, "{turn}");
            assert_eq!(fired(&mut timers, at(now + 20)), 1, "{turn}");
            timers.set(timer, Some(at(now + 20 + 75_000)));
            assert!(timers.heap.len() <= 2, "{turn}: {}", timers.heap.len());
        }
        timers.poll(timer, at(50_000), &waker);
        let end = 999 * 50 + 20 + 75_000;
        assert_eq!(fired(&mut timers, at(end - 1)), 0);
        assert_eq!(fired(&mut timers, at(end)), 1);
    }

    #[test]
    fn timers_that_came_and_went_leave_no_heap_behind() {
        let start = Instant::now();
        let mut timers = Timers::default();
        let kept = timers.insert();
        timers.set(kept, Some(start));
        for _ in 0..100_000 {
            let timer = timers.insert();
            timers.set(timer, Some(start + Duration::from_secs(75)));
            timers.remove(timer);
        }
        assert!(timers.heap.len() <= SPARE + 4, "{}", timers.heap.len());
        assert_eq!(timers.next(), Some(start), "and what is still to come is kept");
    }

    #[test]
    fn an_entry_of_a_removed_timer_does_not_fire_its_successor() {
        let waker = Waker::from(Arc::new(Count(AtomicUsize::new(0))));
        let start = Instant::now();
        let mut timers = Timers::default();
        let old = timers.insert();
        timers.set(old, Some(start));
        timers.remove(old);
        let new = timers.insert();
        assert_eq!(old, new);
        timers.set(new, Some(start + Duration::from_secs(1)));
        timers.poll(new, start, &waker);
        assert_eq!(fired(&mut timers, start), 0);
    }
}
