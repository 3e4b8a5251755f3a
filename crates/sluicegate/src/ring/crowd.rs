//! To how many sockets a ring's regions go.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Counts the sockets of the newest region, and remembers those of the one
/// before: what was queued to a thousand is followed by what will be.
#[derive(Debug, Default)]
pub(super) struct Crowd(Mutex<Count>);

#[derive(Debug, Default)]
struct Count {
    /// Version of the newest region that was queued.
    version: u64,
    /// Sockets that it was queued to.
    now: usize,
    /// Sockets that the one before was queued to.
    last: usize,
}

impl Crowd {
    fn count(&self) -> MutexGuard<'_, Count> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The region of this version is queued to a socket more.
    pub(super) fn handle_queued(&self, version: u64) {
        let mut count = self.count();
        if version > count.version {
            *count = Count { version, now: 1, last: count.now };
        } else if version == count.version {
            count.now += 1;
        }
    }

    /// Sockets of the region before the newest.
    pub(super) fn last(&self) -> usize {
        self.count().last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_crowd_is_the_next_one() {
        let crowd = Crowd::default();
        (0..5).for_each(|_| crowd.handle_queued(1));
        assert_eq!(crowd.last(), 0, "nothing is known yet");
        crowd.handle_queued(3);
        crowd.handle_queued(1);
        assert_eq!(crowd.last(), 5);
        crowd.handle_queued(4);
        assert_eq!(crowd.last(), 1);
    }
}
