//! Sockets that were dropped while the kernel still referred to their memory.
//!
//! Closing a descriptor ends the proof: nobody can then be told that the kernel
//! has let go. So such a socket says that it sends no more, and its descriptor
//! and its memory stay here, in one table of the process, until the last
//! completion comes. One that takes too long is cut off by a reset, which
//! frees what was not sent; memory that even this does not free is never used
//! again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::errqueue::{self, Entry};
use sluicegate_sys::socket;
use sluicegate_sys::wake::Wake;

use crate::counters::WayBytes;
use crate::ledger::Ledger;
use crate::ring::{RegionUse, Settled};
use crate::socket::SendContext;

/// What the lingering table of this process holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lingering {
    /// Dropped sockets whose memory the kernel may still read.
    pub sockets: u64,
    /// Bytes of that memory, each buffer counted as a whole.
    pub bytes: u64,
    /// Bytes of buffers that the kernel never let go of, or of which it could
    /// not be told when: they are never freed.
    pub quarantined: u64,
}

/// How long a connection that was cut off may take until the kernel has freed
/// what it held: the packets that a device is sending at this moment.
const GRACE: Duration = Duration::from_secs(5);

/// How often the whole table is looked through, events or not: for deadlines,
/// and for what could not be watched.
const LOOK: Duration = Duration::from_secs(1);

/// Key of the doorbell, which no slot has.
const DOORBELL: u64 = u64::MAX;

/// A dropped socket.
#[derive(Debug)]
pub(crate) struct Dropped {
    pub(crate) fd: OwnedFd,
    /// Whose counters are told what the kernel copied.
    pub(crate) context: Arc<SendContext>,
    pub(crate) ledger: Ledger,
    /// What the ledger's open calls refer to.
    pub(crate) buffers: Vec<Bytes>,
    /// Partitions of rings that they refer to.
    pub(crate) regions: Vec<RegionUse>,
    /// When to cut it off.
    pub(crate) deadline: Instant,
    /// It is to be cut off at once.
    pub(crate) abort: bool,
}

#[derive(Debug)]
struct Table {
    epoll: Epoll,
    doorbell: Wake,
    incoming: Mutex<Vec<Dropped>>,
}

static TABLE: OnceLock<Table> = OnceLock::new();
/// Held while the table is made.
static MAKING: Mutex<()> = Mutex::new(());
static SOCKETS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);
static QUARANTINED: AtomicU64 = AtomicU64::new(0);

/// What the table holds now.
#[must_use]
pub fn lingering() -> Lingering {
    Lingering {
        sockets: SOCKETS.load(Ordering::Relaxed),
        bytes: BYTES.load(Ordering::Relaxed),
        quarantined: QUARANTINED.load(Ordering::Relaxed),
    }
}

/// Bytes that the table may hold: peers that never acknowledge, and connect
/// again and again, would otherwise pin what they please. Beyond it a dropped
/// socket is cut off at once.
const BUDGET: u64 = 1024 * 1024 * 1024;

/// Makes the table, if there is none yet. False where that fails, for want of a
/// thread or a descriptor: nothing may be sent by reference then, since nobody
/// could wait for its release.
pub(crate) fn can_linger() -> bool {
    if TABLE.get().is_some() {
        return true;
    }
    let _making = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    TABLE.get().is_some() || start().is_some_and(|table| TABLE.set(table).is_ok())
}

/// Takes a socket over. Never waits.
pub(crate) fn linger(mut dropped: Dropped) {
    dropped.abort |= BYTES.load(Ordering::Relaxed).saturating_add(dropped.bytes()) > BUDGET;
    if dropped.abort {
        cut_off(&dropped);
        dropped.deadline = Instant::now() + GRACE;
    } else {
        // The peer is told as by a close; an error means that it is gone.
        let _ = socket::shutdown_both(dropped.fd.as_fd());
    }
    let Some(table) = TABLE.get() else {
        // It was made before the first reference. What cannot be watched
        // cannot be freed.
        quarantine(dropped.buffers);
        return;
    };
    SOCKETS.fetch_add(1, Ordering::Relaxed);
    BYTES.fetch_add(dropped.bytes(), Ordering::Relaxed);
    table.incoming.lock().unwrap_or_else(PoisonError::into_inner).push(dropped);
    // Fails only when it is ringing already.
    let _ = table.doorbell.ring();
}

fn start() -> Option<Table> {
    let table = || -> io::Result<Table> {
        let (epoll, doorbell) = (Epoll::new()?, Wake::new()?);
        epoll.add(doorbell.as_fd(), DOORBELL, Interest::Read)?;
        Ok(Table { epoll, doorbell, incoming: Mutex::default() })
    };
    let table = table().ok()?;
    // The thread waits until the table is in its place.
    let run = || TABLE.wait().run();
    std::thread::Builder::new().name("sluicegate-linger".to_owned()).spawn(run).ok()?;
    Some(table)
}

fn quarantine(buffers: Vec<Bytes>) {
    QUARANTINED.fetch_add(total(&buffers), Ordering::Relaxed);
    std::mem::forget(buffers);
}

fn total(buffers: &[Bytes]) -> u64 {
    buffers.iter().map(|bytes| bytes.len() as u64).sum()
}

/// A reset: what was not sent is thrown away.
fn cut_off(dropped: &Dropped) {
    // Where it is refused the connection is gone already.
    let _ = socket::disconnect(dropped.fd.as_fd());
}

impl Dropped {
    fn bytes(&self) -> u64 {
        let regions = self.regions.iter().map(|used| used.at() as u64);
        total(&self.buffers) + regions.sum::<u64>()
    }

    /// Takes the completions that have come. True when nothing is held any more.
    fn is_free(&mut self) -> bool {
        // An error is a closed descriptor's, which this is not, or an
        // interruption: the next look goes on.
        while let Ok(Some(entry)) = errqueue::next(self.fd.as_fd()) {
            if let Entry::Released { first, last, copied } = entry {
                let bytes = self.ledger.handle_released(first, last, copied);
                if copied {
                    let counted = WayBytes { zerocopy_copied: bytes, ..WayBytes::default() };
                    self.context.counters.add(counted);
                }
            }
        }
        !self.ledger.has_references()
    }
}

impl Table {
    fn run(&self) {
        let mut sockets: Slab<Dropped> = Slab::new();
        let mut events = Events::with_capacity(64);
        let mut looked = Instant::now();
        loop {
            let timeout = (!sockets.is_empty()).then_some(LOOK);
            if self.epoll.wait(&mut events, timeout).is_err() {
                // Interrupted: what came stays for the next wait.
                std::thread::yield_now();
            }
            let now = Instant::now();
            // A look costs a system call for each socket: events are for one.
            let mut keys: Vec<usize> =
                events.iter().filter_map(|(key, _)| usize::try_from(key).ok()).collect();
            if events.iter().any(|(key, _)| key == DOORBELL) {
                self.doorbell.quiet();
                keys.extend(self.take_in(&mut sockets));
            }
            if now.saturating_duration_since(looked) >= LOOK {
                looked = now;
                keys = sockets.iter().map(|(key, _)| key).collect();
            }
            for key in keys {
                look_at(&mut sockets, key, now);
            }
        }
    }

    /// Watches those that have come, and returns their keys.
    fn take_in(&self, sockets: &mut Slab<Dropped>) -> Vec<usize> {
        let incoming =
            std::mem::take(&mut *self.incoming.lock().unwrap_or_else(PoisonError::into_inner));
        let watch = |dropped: Dropped| {
            let key = sockets.insert(dropped);
            // Without an event the look finds it within a second.
            let _ = self.epoll.add(sockets[key].fd.as_fd(), key as u64, Interest::Both);
            key
        };
        incoming.into_iter().map(watch).collect()
    }
}

/// Lets go of a socket that nothing refers to any more, and cuts off one that
/// takes too long. A key may be of a socket that has gone meanwhile, or of its
/// successor: a look too many does no harm.
fn look_at(sockets: &mut Slab<Dropped>, key: usize, now: Instant) {
    let Some(dropped) = sockets.get_mut(key) else { return };
    let is_free = dropped.is_free();
    if !is_free && now < dropped.deadline {
        return;
    }
    if !is_free && !dropped.abort {
        dropped.abort = true;
        dropped.deadline = now + GRACE;
        cut_off(dropped);
        return;
    }
    let dropped = sockets.remove(key);
    let bytes = dropped.bytes();
    let Dropped { fd, buffers, regions, .. } = dropped;
    drop(fd);
    if is_free {
        regions.into_iter().for_each(|used| used.settle(Settled::Released));
        drop(buffers);
    } else {
        // Regions that are dropped without a proof see to themselves.
        quarantine(buffers);
    }
    SOCKETS.fetch_sub(1, Ordering::Relaxed);
    BYTES.fetch_sub(bytes, Ordering::Relaxed);
}
