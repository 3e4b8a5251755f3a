//! Where a signal handler finds the account of a socket: a table by number,
//! allocated in pieces by ordinary code, read without locks, never freed.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

/// The account of one number.
#[derive(Default)]
pub(super) struct Slot {
    /// SO_COOKIE of the socket; 0 while there is none.
    pub(super) cookie: AtomicU64,
    /// Looks under way in all threads. A socket leaves its slot when this is
    /// 0 and no new one can begin.
    looks: AtomicU32,
    /// Bytes that the program noted.
    pub(super) accepted: AtomicU64,
    /// The most that was ever found acknowledged.
    pub(super) acked: AtomicU64,
    /// The end of the connection was told.
    pub(super) ended: AtomicBool,
}

// 2²² numbers, four times what `fs.nr_open` allows unless an operator raised
// it; 40 bytes each, in chunks that are allocated when one is needed.
const CHUNK: usize = 1024;
const CHUNKS: usize = 4096;
static TABLE: [OnceLock<Box<[Slot]>>; CHUNKS] = [const { OnceLock::new() }; CHUNKS];
/// One past the largest number that was ever watched.
static BOUND: AtomicUsize = AtomicUsize::new(0);

/// The slot of `fd`, if its chunk was ever needed. `OnceLock::get` is a load.
pub(super) fn find(fd: RawFd) -> Option<&'static Slot> {
    let fd = usize::try_from(fd).ok()?;
    TABLE.get(fd / CHUNK)?.get()?.get(fd % CHUNK)
}

/// The slot of `fd`, for ordinary code: allocates its chunk. `None` where the
/// table ends.
pub(super) fn make(fd: RawFd) -> Option<&'static Slot> {
    let at = usize::try_from(fd).ok()?;
    let chunk = TABLE.get(at / CHUNK)?;
    let slots = chunk.get_or_init(|| std::iter::repeat_with(Slot::default).take(CHUNK).collect());
    BOUND.fetch_max(at + 1, SeqCst);
    slots.get(at % CHUNK)
}

/// Every slot that was ever made, and some that were not.
pub(super) fn all() -> impl Iterator<Item = (RawFd, &'static Slot)> {
    let numbers = 0..RawFd::try_from(BOUND.load(SeqCst)).unwrap_or(RawFd::MAX);
    numbers.filter_map(|fd| Some((fd, find(fd)?)))
}

/// To be held by who changes which socket a slot is for. Never by a look, and
/// so by no handler.
pub(super) fn change() -> MutexGuard<'static, ()> {
    static CHANGES: Mutex<()> = Mutex::new(());
    CHANGES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Slot {
    /// Ends the account. When this returns no look at it is under way.
    pub(super) fn clear(&self) {
        self.cookie.store(0, SeqCst);
        while self.looks.load(SeqCst) != 0 {
            std::thread::yield_now();
        }
    }
}

/// A look under way.
pub(super) struct Look<'a>(&'a Slot);

impl<'a> Look<'a> {
    /// Counted before the cookie is read, where [`Slot::clear`] takes the
    /// cookie away before it reads the count: one of the two sees the other.
    pub(super) fn begin(slot: &'a Slot) -> Option<(Self, u64)> {
        slot.looks.fetch_add(1, SeqCst);
        let look = Look(slot);
        let cookie = slot.cookie.load(SeqCst);
        (cookie != 0).then_some((look, cookie))
    }
}

impl Drop for Look<'_> {
    fn drop(&mut self) {
        self.0.looks.fetch_sub(1, SeqCst);
    }
}
