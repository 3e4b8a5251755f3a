//! What lies between a socket that a body comes from and one that it goes to.

mod budget;
mod by_hand;
mod core;
mod fill;
mod holder;
mod onto_ring;
mod pace;
mod rings;
mod row;
mod sink;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

pub use budget::SpoolBudget;
pub use sink::Sink;

use self::core::{Bounds, Core, Tier};
use crate::pipes::LentPipe;
use crate::ring::{Lease, Ring, RingCounters};
use crate::segment::Segment;
use crate::socket::SendContext;
use budget::Share;
use holder::{Holder, give_back};
use pace::Pace;

/// A piece of more than this waits by itself.
const SMALL: usize = 4 * 1024;

/// Bytes of smaller ones that wait together at most.
const COLLECTED: usize = 64 * 1024;

/// The bounds of one body's spool, and the ways that it may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolOptions {
    /// Bytes of one body that may be held in memory, pipes included; 0 leaves
    /// only what is moving.
    pub memory: u64,
    /// Bytes of the ring on disk behind that; 0 for none.
    pub disk: u64,
    /// Where that ring is, an unlinked file.
    pub directory: PathBuf,
    /// Whether bytes may move through pipes (`splice(2)`). For a bug or a
    /// measurement: without, all that is relayed is copied, or goes by the rings.
    pub pipes: bool,
    /// Whether what has no pipe goes through a ring of memory; otherwise it is
    /// received and sent by copies.
    pub memory_ring: bool,
    /// Bytes of one partition of a ring.
    pub unit: usize,
}

/// Bytes that have come into a spool, by the path that they took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolBytes {
    /// Through pipes.
    pub spliced: u64,
    /// Through rings of memory.
    pub ring: u64,
    /// Through a ring on disk.
    pub disk: u64,
    /// Received and sent by copies.
    pub copied: u64,
}

impl SpoolBytes {
    fn add(&mut self, tier: Tier, bytes: u64) {
        *match tier {
            Tier::Pipe => &mut self.spliced,
            Tier::Ring => &mut self.ring,
            Tier::Disk => &mut self.disk,
            Tier::Memory => &mut self.copied,
        } += bytes;
    }
}

/// Where the next bytes go.
#[derive(Debug)]
pub enum Room {
    /// Into this pipe, so many at most.
    Pipe(Arc<LentPipe>, usize),
    /// Into memory ([`Spool::push`]), so many at most.
    Memory(usize),
    /// Nowhere, until something was accepted.
    Full,
}

/// Holds a body between two sockets, within bounds, in order.
///
/// One task has both ends. It goes on while any of this moves something:
/// ```text
///   poll_fill ─▶ segment, queued at the sink ─▶ flush ─▶ handle_accepted ─┐
///      ▲                                                                 │
///      └─────────────────────────────────────────────────────────────────┘
/// ```
/// A sink that keeps pace has each round's bytes at once, and nothing is held. For
/// one that does not, more is taken where that frees the source: when all that is
/// left fits within the bounds, or up to them if nobody knows how much is left.
#[derive(Debug)]
pub struct Spool {
    options: Arc<SpoolOptions>,
    context: Arc<SendContext>,
    share: Share,
    core: Core<Holder>,
    pace: Pace,
    /// The time of this turn.
    now: Option<Instant>,
    bytes: SpoolBytes,
    /// Bytes that the sink has accepted.
    accepted: u64,
    /// Made when they are needed.
    ring: Option<Ring>,
    disk: Option<Ring>,
    /// There can be no ring of memory.
    has_no_ring: bool,
    /// A partition of the ring on disk that nothing was written to.
    leased: Option<Lease>,
    /// The last try to fill found no place.
    is_stuck: bool,
    /// There was nothing of the budget for it.
    is_short: bool,
    trouble: Option<io::Error>,
}

impl Spool {
    /// An empty one. `context` has the pipes.
    #[must_use]
    pub fn new(
        options: &Arc<SpoolOptions>,
        budget: &Arc<SpoolBudget>,
        context: &Arc<SendContext>,
    ) -> Self {
        let SpoolOptions { memory, disk, pipes, .. } = **options;
        Spool {
            options: Arc::clone(options),
            context: Arc::clone(context),
            share: Share::new(budget),
            core: Core::new(Bounds { memory, disk, pipes }),
            pace: Pace::default(),
            now: None,
            bytes: SpoolBytes::default(),
            accepted: 0,
            ring: None,
            disk: None,
            has_no_ring: false,
            leased: None,
            is_stuck: false,
            is_short: false,
            trouble: None,
        }
    }

    /// So many bytes are still to come, if that is known: what fits into the
    /// bounds is then taken at once, to free the upstream. After the last of them
    /// nothing goes to a disk, whose partitions are then sent without being used again.
    pub fn expect(&mut self, left: Option<u64>) {
        self.core.expect(left);
    }

    /// Puts in what was received already, into memory unless [`Spool::poll_wanted`]
    /// has found room on disk. Nothing is refused: who asks before he receives stays
    /// within the bounds.
    pub fn push(&mut self, mut bytes: Bytes) {
        let loose = self.wants().loose;
        if (bytes.len() as u64) > self.affords(loose) {
            self.push_to_disk(&mut bytes);
        }
        if bytes.is_empty() {
            return;
        }
        let count = bytes.len() as u64;
        self.share.take_anyway(count);
        self.bytes.add(Tier::Memory, count);
        if bytes.len() > SMALL || self.core.held() == 0 {
            self.core.handle_new(Tier::Memory, Holder::Bytes(bytes), count, false);
        } else {
            self.collect(bytes);
        }
    }

    /// Puts a small piece behind others while something is before it at the sink. What each
    /// takes for itself, which nobody counts, is many times what is in it.
    fn collect(&mut self, bytes: Bytes) {
        let count = bytes.len() as u64;
        let open = match self.core.open().map(|last| &mut last.holder) {
            Some(Holder::Buffer(buffer)) if buffer.len() + bytes.len() <= COLLECTED => Some(buffer),
            _ => None,
        };
        match open {
            Some(buffer) => {
                buffer.extend_from_slice(&bytes);
                self.core.handle_filled(count);
            }
            None => {
                let buffer = Vec::from(bytes);
                self.core.handle_new(Tier::Memory, Holder::Buffer(buffer), count, true);
            }
        }
    }

    /// The next bytes to be queued on the sink, in the order in which they came:
    /// as much as lies together. `None`: nothing that is not queued already, or
    /// nothing but what is still being collected while the sink has enough. So a
    /// body is over when it has ended and [`Spool::held`] is 0, or after
    /// [`Spool::expect`] was told that nothing is left.
    pub fn segment(&mut self) -> Option<Segment> {
        if self.core.is_over()
            && let Some(ring) = &self.disk
        {
            // Without that what is for a peer on this host, or nobody knows where, would be
            // copied from the mapped file, with its faults.
            ring.retire();
        }
        let (stretch, count) = self.core.poll_given()?;
        let filled = stretch.filled();
        stretch.holder.give(count, filled)
    }

    /// The sink was flushed, and its kernel has accepted so many bytes more since
    /// it was told last, or none: of all that was queued, whenever it was sent.
    pub fn handle_accepted(&mut self, bytes: u64) {
        self.accepted += bytes;
        self.is_stuck &= bytes == 0;
        let freed = self.core.handle_accepted(bytes, give_back);
        self.share.give_back(freed);
        if let Some(now) = self.now {
            self.pace.look(now, self.accepted, self.core.held() > 0);
        }
        if self.core.held() == 0 {
            self.let_go_of_ring();
        } else if self.core.pipes() > 0 {
            self.core.let_go(|holder| match holder {
                Holder::Pipe(pipe) if pipe.contained() == 0 => {
                    *holder = Holder::Nothing;
                    true
                }
                _ => false,
            });
        }
    }

    /// A ring of memory that nothing is in serves no longer, where pipes do.
    fn let_go_of_ring(&mut self) {
        if self.ring.is_some() && self.core.takes_pipes() && !self.context.pipes.is_scarce() {
            self.core.handle_ring(0);
            self.ring = None;
        }
    }

    /// What its rings have done: by which proofs their partitions were used again.
    #[must_use]
    pub fn counters(&self) -> RingCounters {
        rings::sum([self.ring.as_ref(), self.disk.as_ref()])
    }

    /// Why there is no disk for what would go there, told once. The body goes on, as
    /// far as its memory goes, and its source waits.
    pub fn take_trouble(&mut self) -> Option<io::Error> {
        self.trouble.take()
    }

    /// Bytes in it that the sink's kernel has not accepted.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.core.held()
    }

    /// The most that it held in memory at one time, in bytes.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.core.peak()
    }

    /// What came in so far, by path.
    #[must_use]
    pub fn bytes(&self) -> SpoolBytes {
        self.bytes
    }
}
