//! Deadlines of a worker: cheap to move, exact enough to fire.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::task::Waker;
use std::time::Instant;

use slab::Slab;

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
    waker: Option<Waker>,
}

impl Timers {
    /// A timer without a deadline; its index.
    pub(super) fn insert(&mut self) -> usize {
        self.generation = self.generation.wrapping_add(1);
        self.slots.insert(Slot {
            generation: self.generation,
            deadline: None,
            entered: None,
            waker: None,
        })
    }

    /// Ends a timer. Its waker is given back, to be dropped where dropping may
    /// run other code.
    pub(super) fn remove(&mut self, index: usize) -> Option<Waker> {
        let waker = self.slots.try_remove(index).and_then(|slot| slot.waker);
        // The entry of a timer that is gone would stay until its time comes:
        // for a minute of short connections that is millions of them.
        if self.heap.len() > 2 * self.slots.len() + SPARE {
            let slots = &self.slots;
            self.heap.retain(|&Reverse((at, index, generation))| {
                slots
                    .get(index)
                    .is_some_and(|slot| slot.generation == generation && slot.entered == Some(at))
            });
        }
        waker
    }

    /// Takes all wakers.
    pub(super) fn forget_wakers(&mut self) -> Vec<Waker> {
        self.slots.iter_mut().filter_map(|(_, slot)| slot.waker.take()).collect()
    }

    pub(super) fn set(&mut self, index: usize, deadline: Option<Instant>) {
        let Some(slot) = self.slots.get_mut(index) else {
            return;
        };
        slot.deadline = deadline;
        if let Some(deadline) = deadline
            && slot.entered.is_none_or(|entered| deadline < entered)
        {
            slot.entered = Some(deadline);
            self.heap.push(Reverse((deadline, index, slot.generation)));
        }
    }

    /// Whether the timer's deadline is over at `now`; if not, `waker` is woken
    /// then. The waker that was there before is given back.
    pub(super) fn poll(
        &mut self,
        index: usize,
        now: Instant,
        waker: &Waker,
    ) -> (bool, Option<Waker>) {
        let Some(slot) = self.slots.get_mut(index) else {
            return (false, None);
        };
        match slot.deadline {
            Some(deadline) if deadline <= now => (true, None),
            Some(_) if slot.waker.as_ref().is_some_and(|old| old.will_wake(waker)) => (false, None),
            Some(_) => (false, slot.waker.replace(waker.clone())),
            None => (false, None),
        }
    }

    /// When the next entry comes up.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// Takes the wakers of all timers that are over at `now`.
    pub(super) fn expire(&mut self, now: Instant, woken: &mut Vec<Waker>) {
        while let Some(&Reverse((at, index, generation))) = self.heap.peek() {
            if at > now {
                return;
            }
            self.heap.pop();
            let Some(slot) = self.slots.get_mut(index) else {
                continue;
            };
            if slot.generation != generation || slot.entered != Some(at) {
                continue;
            }
            slot.entered = None;
            match slot.deadline {
                Some(deadline) if deadline > now => {
                    slot.entered = Some(deadline);
                    self.heap.push(Reverse((deadline, index, generation)));
                }
                Some(_) => woken.extend(slot.waker.take()),
                None => {}
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
