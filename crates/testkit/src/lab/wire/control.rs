//! What a test and the relay share: conditions that change, counts, packets that were seen.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_sys::wake::Wake;

use super::capture::Capture;
use super::{Captured, Conditions, Counts, Direction, End};

/// Changes a wire while it runs, tells what became of its packets, and shows them. Clones are
/// of the same wire.
#[derive(Debug, Clone)]
pub struct WireControl {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// Interrupts the relay's sleep.
    wake: Wake,
    stopped: AtomicBool,
    conditions: Mutex<[Conditions; 2]>,
    changed: AtomicBool,
    counters: [Counters; 2],
    capture: Mutex<Capture>,
    /// Spares the relay the lock while nobody wants to see packets.
    capturing: AtomicBool,
}

/// [`Counts`] that are stored by one thread and read by others.
#[derive(Debug, Default)]
struct Counters([AtomicU64; 7]);

impl Counters {
    fn store(&self, counts: Counts) {
        let Counts { packets, bytes, dropped, overflowed, reordered, duplicated, refused } = counts;
        let values = [packets, bytes, dropped, overflowed, reordered, duplicated, refused];
        for (counter, value) in self.0.iter().zip(values) {
            counter.store(value, Ordering::Relaxed);
        }
    }

    fn load(&self) -> Counts {
        let [packets, bytes, dropped, overflowed, reordered, duplicated, refused] =
            self.0.each_ref().map(|counter| counter.load(Ordering::Relaxed));
        Counts { packets, bytes, dropped, overflowed, reordered, duplicated, refused }
    }
}

impl WireControl {
    pub(super) fn new(conditions: [Conditions; 2]) -> io::Result<Self> {
        let shared = Shared {
            wake: Wake::new()?,
            stopped: AtomicBool::new(false),
            conditions: Mutex::new(conditions),
            changed: AtomicBool::new(false),
            counters: Default::default(),
            capture: Mutex::default(),
            capturing: AtomicBool::new(false),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// What happens to the packets of a direction.
    #[must_use]
    pub fn conditions(&self, direction: Direction) -> Conditions {
        lock(&self.shared.conditions)[direction.index()]
    }

    /// Other conditions for a direction, for every packet that is sent from now on. What is under
    /// way stays so; what waits for its turn has it at the new rate.
    pub fn set(&self, direction: Direction, conditions: Conditions) {
        lock(&self.shared.conditions)[direction.index()] = conditions;
        self.shared.changed.store(true, Ordering::Release);
        self.ring();
    }

    /// What became of the packets of a direction. A packet is counted before its receiver has it.
    #[must_use]
    pub fn counts(&self, direction: Direction) -> Counts {
        self.shared.counters[direction.index()].load()
    }

    /// Keeps the next `packets` packets that are seen, of both directions and at both ends, so
    /// that one that passes is kept twice. What was kept before is forgotten; 0 ends it.
    pub fn capture(&self, packets: usize) {
        let mut capture = lock(&self.shared.capture);
        capture.begin(packets);
        self.shared.capturing.store(packets > 0, Ordering::Release);
    }

    /// The packets that were kept, in the order in which they were seen. More may follow.
    #[must_use]
    pub fn take_captured(&self) -> Vec<Captured> {
        lock(&self.shared.capture).take()
    }

    /// Ends the relay.
    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Release);
        self.ring();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Acquire)
    }

    pub(super) fn wake(&self) -> &Wake {
        &self.shared.wake
    }

    /// The conditions, if they are others than when this was last asked.
    pub(super) fn take_change(&self) -> Option<[Conditions; 2]> {
        let changed = &self.shared.changed;
        // Asked for each packet: a load is cheaper than a swap.
        let is_new = changed.load(Ordering::Acquire) && changed.swap(false, Ordering::Acquire);
        is_new.then(|| *lock(&self.shared.conditions))
    }

    pub(super) fn count(&self, direction: Direction, counts: Counts) {
        self.shared.counters[direction.index()].store(counts);
    }

    pub(super) fn see(&self, direction: Direction, end: End, packet: &[u8]) {
        if self.shared.capturing.load(Ordering::Acquire) {
            let mut capture = lock(&self.shared.capture);
            let more = capture.see(direction, end, packet);
            self.shared.capturing.store(more, Ordering::Release);
        }
    }

    fn ring(&self) {
        // It can only fail because it is ringing.
        let _ = self.shared.wake.ring();
    }
}

/// What is behind these locks is whole at any time.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
