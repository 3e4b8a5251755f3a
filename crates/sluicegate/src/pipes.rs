//! Pipes that sockets borrow while bytes move through them.

use std::sync::Mutex;

use sluicegate_sys::splice::Pipe;

/// What each pipe is asked to hold: the kernel's default `pipe-max-size`, and
/// the size from which larger ones gain nothing (relaying by splice through
/// 256 KiB costs 0.17 CPU s/GiB, through 1 MiB 0.10–0.15).
const CAPACITY: usize = 1024 * 1024;

/// A smaller pipe is no better than the one inside `sendfile` (16 slots).
const USEFUL: usize = 128 * 1024;

/// A bounded set of pipes. Every pipe in it is empty.
#[derive(Debug)]
pub struct PipePool {
    idle: Mutex<Idle>,
    limit: usize,
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

#[derive(Debug, Default)]
struct Idle {
    pipes: Vec<Pipe>,
    /// Pipes that exist, idle or lent.
    made: usize,
}

impl PipePool {
    /// A pool of at most `limit` pipes, made when they are wanted.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        PipePool { idle: Mutex::default(), limit }
    }

    /// An empty pipe; `None` when all are lent, or the kernel grants none of
    /// useful size.
    pub fn take(&self) -> Option<Pipe> {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(pipe) = idle.pipes.pop() {
            return Some(pipe);
        }
        if idle.made >= self.limit {
            return None;
        }
        let pipe = Pipe::new(CAPACITY).ok()?;
        // An unprivileged user's share of pipe pages is used up: what comes
        // now cannot grow.
        if pipe.capacity() < USEFUL {
            return None;
        }
        idle.made += 1;
        Some(pipe)
    }

    /// What there is of pipes now.
    #[must_use]
    pub fn pipes(&self) -> Pipes {
        let idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let lent = idle.made.saturating_sub(idle.pipes.len());
        Pipes { lent, made: idle.made, limit: self.limit }
    }

    /// Takes a pipe back. One with bytes in it is closed: they belong to a
    /// stream that nobody will send.
    pub fn give_back(&self, pipe: Pipe) {
        let mut idle = self.idle.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if pipe.contained() == 0 {
            idle.pipes.push(pipe);
        } else {
            idle.made -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn lent_pipes_are_bounded_and_one_with_bytes_in_it_never_comes_back() {
        let pool = PipePool::new(1);
        let Some(mut pipe) = pool.take() else { return };
        assert!(pool.take().is_none());
        assert_eq!(pool.pipes(), Pipes { lent: 1, made: 1, limit: 1 });
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        pipe.fill_from_file(file.as_fd(), 0, 100).unwrap();
        pool.give_back(pipe);
        let pipe = pool.take().expect("the dirty pipe made room");
        assert_eq!(pipe.contained(), 0);
        pool.give_back(pipe);
        assert_eq!(pool.pipes(), Pipes { lent: 0, made: 1, limit: 1 });
        assert!(pool.take().is_some());
    }
}
