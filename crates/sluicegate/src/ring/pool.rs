//! Rings that are mapped once, and used by one connection after the other.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::{Ring, RingBuilder, RingError};

/// A set of rings that are mapped at start, as the paper's lighttpd has its
/// buffers (seeds/000, III-C).
///
/// What a ring's last user has had acknowledged is replaced before the next one
/// writes to it, partition by partition, when it is leased.
#[derive(Clone, Debug)]
pub struct Pool {
    inner: Arc<Mutex<Idle>>,
    len: usize,
}

#[derive(Debug)]
struct Idle {
    rings: Vec<Ring>,
    waiting: VecDeque<Waker>,
}

fn lock(idle: &Mutex<Idle>) -> MutexGuard<'_, Idle> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    /// `count` rings of one shape.
    ///
    /// # Errors
    /// As [`RingBuilder::build`].
    pub fn new(count: usize, shape: &RingBuilder) -> Result<Self, RingError> {
        let rings: Result<Vec<Ring>, _> = (0..count).map(|_| shape.build()).collect();
        let idle = Idle { rings: rings?, waiting: VecDeque::new() };
        Ok(Pool { inner: Arc::new(Mutex::new(idle)), len: count })
    }

    /// Rings that it was made with.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it was made without any.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Rings that nobody has.
    #[must_use]
    pub fn idle(&self) -> usize {
        lock(&self.inner).rings.len()
    }

    /// A ring, if one is idle.
    #[must_use]
    pub fn try_take(&self) -> Option<PooledRing> {
        let ring = lock(&self.inner).rings.pop()?;
        Some(PooledRing { ring: Some(ring), pool: self.clone() })
    }

    /// A ring, when one is idle. For ever, of a pool without rings.
    pub async fn take(&self) -> PooledRing {
        poll_fn(|cx| {
            let mut idle = lock(&self.inner);
            match idle.rings.pop() {
                Some(ring) => Poll::Ready(PooledRing { ring: Some(ring), pool: self.clone() }),
                None => {
                    if !idle.waiting.iter().any(|waiting| waiting.will_wake(cx.waker())) {
                        idle.waiting.push_back(cx.waker().clone());
                    }
                    Poll::Pending
                }
            }
        })
        .await
    }
}

/// A ring that goes back to its pool when this is dropped. Regions that are
/// still under way keep their partitions until their proof comes.
#[derive(Debug)]
pub struct PooledRing {
    /// There until it is dropped.
    ring: Option<Ring>,
    pool: Pool,
}

impl Deref for PooledRing {
    type Target = Ring;

    fn deref(&self) -> &Ring {
        match &self.ring {
            Some(ring) => ring,
            None => unreachable!("the ring goes back when this is dropped"),
        }
    }
}

impl Drop for PooledRing {
    fn drop(&mut self) {
        let waiting = {
            let mut idle = lock(&self.pool.inner);
            idle.rings.extend(self.ring.take());
            // All of them look: one that has given up meanwhile wakes nobody.
            std::mem::take(&mut idle.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}
