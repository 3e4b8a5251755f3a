//! Pipes that sockets borrow while bytes move through them.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sluicegate_sys::limits::descriptors;
use sluicegate_sys::splice::Pipe;

/// What each pipe is asked to hold: the kernel's default `pipe-max-size`, and
/// the size from which larger ones gain nothing (relaying by splice through
/// 256 KiB costs 0.17 CPU s/GiB, through 1 MiB 0.10–0.15).
pub(crate) const CAPACITY: usize = 1024 * 1024;

/// A smaller pipe is no better than the one inside `sendfile` (16 slots).
const USEFUL: usize = 128 * 1024;

/// Pipes of a pool that is only bounded by what there is: 4 GiB of bodies that
/// wait.
const MOST: usize = 4096;

/// Of the descriptors that the process may have, one in so many may be the end of
/// a pipe: a connection needs two, and pipes are for those that move something.
const SHARE: u64 = 4;

/// Pipes that files have at a time: they have `sendfile` beside it, and clients
/// that read nothing would have two descriptors more each.
const FOR_FILES: usize = 32;

/// Pipes that are kept although nobody needs them now. An idle one holds no pages,
/// but two descriptors and 10 KiB.
const KEPT: usize = 128;

/// The kernel has refused a pipe of useful size: so many times it is not asked
/// again. To ask costs four calls, and the user's other programs may have given
/// some back.
const PATIENCE: u32 = 64;

/// A bounded set of pipes; its clones are the same set. Every pipe that it lends
/// is empty.
#[derive(Clone, Debug)]
pub struct PipePool {
    shared: Arc<Shared>,
}

/// What a pool has of pipes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pipes {
    /// Bytes are moving through them.
    pub lent: usize,
    /// They exist, lent or idle.
    pub made: usize,
    /// So many there may be.
    pub limit: usize,
}

#[derive(Debug)]
struct Shared {
    idle: Mutex<Idle>,
    limit: usize,
}

#[derive(Debug, Default)]
struct Idle {
    pipes: Vec<Pipe>,
    /// Pipes that exist, idle or lent.
    made: usize,
    /// Pipes that there were when the kernel refused another one.
    granted: Option<usize>,
    /// So often no pipe is asked for before the kernel is asked again.
    patience: u32,
    /// Lent to files.
    for_files: usize,
}

impl Idle {
    fn lent(&self) -> usize {
        self.made.saturating_sub(self.pipes.len())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, idle: &mut Idle) -> Option<Pipe> {
        if let Some(pipe) = idle.pipes.pop() {
            return Some(pipe);
        }
        if idle.made >= self.limit {
            return None;
        }
        if idle.patience > 0 {
            idle.patience -= 1;
            return None;
        }
        // An unprivileged user's share of pipe pages is used up: what comes
        // now cannot grow. Or there are no descriptors.
        let pipe = Pipe::new(CAPACITY).ok().filter(|pipe| pipe.capacity() >= USEFUL);
        let Some(pipe) = pipe else {
            (idle.granted, idle.patience) = (Some(idle.made), PATIENCE);
            return None;
        };
        idle.made += 1;
        idle.granted = idle.granted.filter(|granted| *granted >= idle.made);
        Some(pipe)
    }
}

impl PipePool {
    /// A pool of at most `limit` pipes, made when they are wanted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        PipePool { shared: Arc::new(Shared { idle: Mutex::default(), limit }) }
    }

    /// A pool of as many as the process may well have: the kernel grants a
    /// privileged user any number, another one 64 of 1 MiB in all
    /// (`pipe-user-pages-soft`), and each takes two descriptors.
    #[must_use]
    pub fn granted() -> Self {
        let ends = descriptors().soft.unwrap_or(u64::MAX) / SHARE;
        Self::new(usize::try_from(ends / 2).unwrap_or(MOST).min(MOST))
    }

    /// An empty pipe; `None` when all are lent, or the kernel grants none of
    /// useful size. For bytes that move on at once.
    #[must_use]
    pub fn take(&self) -> Option<LentPipe> {
        let pipe = self.shared.take(&mut self.shared.lock())?;
        Some(self.lend(pipe))
    }

    fn lend(&self, pipe: Pipe) -> LentPipe {
        LentPipe { pipe: Some(pipe), pool: Some(Arc::clone(&self.shared)), is_for_file: false }
    }

    /// As [`PipePool::take`], for a file, which can go without.
    pub(crate) fn take_for_file(&self) -> Option<LentPipe> {
        let mut idle = self.shared.lock();
        if idle.for_files >= FOR_FILES {
            return None;
        }
        let pipe = self.shared.take(&mut idle)?;
        idle.for_files += 1;
        let mut lent = self.lend(pipe);
        lent.is_for_file = true;
        Some(lent)
    }

    /// As [`PipePool::take`], for bytes that may have to wait in it: the last
    /// quarter is kept for those that move.
    #[must_use]
    pub fn take_to_wait(&self) -> Option<LentPipe> {
        let mut idle = self.shared.lock();
        if self.is_scarce_in(&idle) {
            return None;
        }
        let pipe = self.shared.take(&mut idle)?;
        Some(self.lend(pipe))
    }

    /// Whether so many are lent that none is to be had for bytes that wait.
    #[must_use]
    pub fn is_scarce(&self) -> bool {
        self.is_scarce_in(&self.shared.lock())
    }

    fn is_scarce_in(&self, idle: &Idle) -> bool {
        let most = self.most(idle);
        idle.lent() >= most - most / 4
    }

    /// Whether so many are lent that bytes which do not move had better not stay
    /// in theirs.
    #[must_use]
    pub fn is_short(&self) -> bool {
        let idle = self.shared.lock();
        let most = self.most(&idle);
        idle.lent() >= most - most / 8
    }

    /// Pipes that one body may have for bytes that wait: a quarter of all.
    #[must_use]
    pub fn share(&self) -> usize {
        (self.most(&self.shared.lock()) / 4).max(1)
    }

    /// Pipes that there may be, as far as the kernel has told.
    fn most(&self, idle: &Idle) -> usize {
        idle.granted.unwrap_or(usize::MAX).min(self.shared.limit)
    }

    /// What there is of pipes now.
    #[must_use]
    pub fn pipes(&self) -> Pipes {
        let idle = self.shared.lock();
        Pipes { lent: idle.lent(), made: idle.made, limit: self.shared.limit }
    }
}

/// A pipe that goes back to its pool when it is dropped. One with bytes in it is
/// closed then: they belong to a stream that nobody will send.
#[derive(Debug)]
pub struct LentPipe {
    /// There until it is dropped.
    pipe: Option<Pipe>,
    /// None of one that is its owner's.
    pool: Option<Arc<Shared>>,
    is_for_file: bool,
}

impl From<Pipe> for LentPipe {
    /// One that goes back to nobody.
    fn from(pipe: Pipe) -> Self {
        LentPipe { pipe: Some(pipe), pool: None, is_for_file: false }
    }
}

impl Deref for LentPipe {
    type Target = Pipe;

    fn deref(&self) -> &Pipe {
        match &self.pipe {
            Some(pipe) => pipe,
            None => unreachable!("the pipe is taken when this is dropped"),
        }
    }
}

impl Drop for LentPipe {
    fn drop(&mut self) {
        let (Some(pipe), Some(pool)) = (self.pipe.take(), &self.pool) else { return };
        let mut idle = pool.lock();
        idle.for_files -= usize::from(self.is_for_file);
        let closed = if pipe.contained() == 0 && idle.pipes.len() < KEPT {
            idle.pipes.push(pipe);
            None
        } else {
            idle.made -= 1;
            Some(pipe)
        };
        drop(idle);
        // Outside of the lock: closing frees pages.
        drop(closed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn lent_pipes_are_bounded_and_one_with_bytes_in_it_never_comes_back() {
        let pool = PipePool::new(1);
        let Some(pipe) = pool.take() else { return };
        assert!(pool.take().is_none());
        assert_eq!(pool.pipes(), Pipes { lent: 1, made: 1, limit: 1 });
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        pipe.fill_from_file(file.as_fd(), 0, 100).unwrap();
        drop(pipe);
        assert_eq!(pool.pipes(), Pipes { lent: 0, made: 0, limit: 1 });
        let pipe = pool.take().expect("the dirty pipe made room");
        assert_eq!(pipe.contained(), 0);
        drop(pipe);
        assert_eq!(pool.pipes(), Pipes { lent: 0, made: 1, limit: 1 });
        assert!(pool.take().is_some());
    }

    #[test]
    fn files_leave_pipes_to_those_who_have_nothing_else() {
        let pool = PipePool::new(FOR_FILES + 1);
        let files: Vec<_> = std::iter::from_fn(|| pool.take_for_file()).collect();
        if files.is_empty() {
            return;
        }
        assert_eq!(files.len(), FOR_FILES);
        assert!(pool.take().is_some());
        drop(files);
        assert!(pool.take_for_file().is_some());
    }

    #[test]
    fn the_last_pipes_are_for_bytes_that_move() {
        let pool = PipePool::new(4);
        let waiting: Vec<_> = std::iter::from_fn(|| pool.take_to_wait()).collect();
        if waiting.is_empty() {
            return;
        }
        assert_eq!(waiting.len(), 3);
        assert!(pool.is_scarce());
        let moving = pool.take().expect("one is left");
        assert!(pool.take().is_none());
        drop(waiting);
        assert!(!pool.is_scarce());
        drop(moving);
        assert_eq!(pool.pipes().lent, 0);
    }
}
