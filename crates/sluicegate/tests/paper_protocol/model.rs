//! What every protocol here is played with: partitions of memory, each with a
//! cell under a lock, and connections that read the memory later than the call
//! that handed it over. Nothing in this file decides who may do what.

use std::sync::PoisonError;

use loom::sync::atomic::{AtomicU8, Ordering::Relaxed};
use loom::sync::{Mutex, MutexGuard};

/// Counts from 1; 0 is memory that nobody has written.
pub(crate) type Version = u8;

/// What a write that fails leaves behind.
pub(crate) const FAILED: Version = Version::MAX;

/// What one reading or writing of a partition's memory sees: two halves, so
/// that a partition can be half written.
pub(crate) type Bytes = [Version; 2];

/// What a sender remembers when it comes to a partition.
#[derive(Clone, Copy)]
pub(crate) struct Memory {
    /// How often it has gone around the ring, from 1.
    pub(crate) lap: Version,
    /// Version of what it sent last, from whatever partition.
    pub(crate) previous: Version,
    /// Version of what it sent last from this partition.
    pub(crate) here: Version,
}

/// Who may do what to a partition, by its cell. Called with the cell's lock.
pub(crate) trait Protocol: Copy + Send + Sync + 'static {
    type Cell: Copy + 'static;

    /// A cell at the start.
    fn start(self) -> Self::Cell;
    /// Whether the writer may write `wanted` here. If so, enters it.
    fn take(self, cell: &mut Self::Cell, wanted: Version) -> bool;
    /// The memory is written.
    fn publish(self, cell: &mut Self::Cell);
    /// Writing failed; `before` is the cell as it was before `take`.
    fn revert(self, cell: &mut Self::Cell, before: Self::Cell);
    /// The version to send now, to so many recipients, if it may be sent.
    fn send(self, cell: &mut Self::Cell, memory: Memory, recipients: u8) -> Option<Version>;
    /// One recipient has acknowledged this partition.
    fn acknowledge(self, cell: &mut Self::Cell);
    /// The version that stands here.
    fn version(self, cell: &Self::Cell) -> Version;
    /// Whether nothing more is going to happen to what stands here.
    fn is_over(self, cell: &Self::Cell) -> bool;
    /// Whether the send call takes a copy.
    fn copies(self) -> bool {
        false
    }
}

pub(crate) struct Partition<C> {
    cell: Mutex<C>,
    // Memory has no order of its own: what no lock orders, loom reorders.
    halves: [AtomicU8; 2],
}

impl<C> Partition<C> {
    pub(crate) fn cell(&self) -> MutexGuard<'_, C> {
        // Nobody panics with a lock held; loom's locks are never poisoned.
        self.cell.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn write_half(&self, half: usize, version: Version) {
        self.halves[half].store(version, Relaxed);
    }

    pub(crate) fn read(&self) -> Bytes {
        [self.halves[0].load(Relaxed), self.halves[1].load(Relaxed)]
    }
}

/// A partition in a connection's send queue.
#[derive(Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) partition: usize,
    pub(crate) version: Version,
    /// Its bytes, if the kernel took a copy; otherwise it has a reference.
    pub(crate) copy: Option<Bytes>,
}

/// What was meant, and what came.
#[derive(Clone, Copy)]
pub(crate) struct Delivered {
    pub(crate) partition: usize,
    pub(crate) version: Version,
    pub(crate) bytes: Bytes,
}

/// A connection: what was accepted, in order, and how much of it is acked.
#[derive(Default)]
pub(crate) struct Queue {
    pub(crate) sent: Vec<Sent>,
    pub(crate) acked: usize,
}

pub(crate) struct Connection {
    queue: Mutex<Queue>,
    // Not loom's: the record of the experiment, which must order nothing.
    delivered: std::sync::Mutex<Vec<Delivered>>,
}

impl Connection {
    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn deliver(&self, delivered: Delivered) {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).push(delivered);
    }

    pub(crate) fn delivered(&self) -> Vec<Delivered> {
        self.delivered.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

pub(crate) struct Ring<P: Protocol> {
    pub(crate) protocol: P,
    pub(crate) partitions: Vec<Partition<P::Cell>>,
    pub(crate) connections: Vec<Connection>,
    /// How often each partition is to be written.
    pub(crate) laps: Version,
}

impl<P: Protocol> Ring<P> {
    pub(crate) fn new(protocol: P, partitions: usize, connections: usize, laps: Version) -> Self {
        let partition = |_| Partition {
            cell: Mutex::new(protocol.start()),
            halves: [AtomicU8::new(0), AtomicU8::new(0)],
        };
        let connection = |_| Connection {
            queue: Mutex::new(Queue::default()),
            delivered: std::sync::Mutex::default(),
        };
        Self {
            protocol,
            partitions: (0..partitions).map(partition).collect(),
            connections: (0..connections).map(connection).collect(),
            laps,
        }
    }

    /// What is wrong with what each connection has received in the end.
    pub(crate) fn findings(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for partition in &self.partitions {
            let cell = partition.cell();
            if self.protocol.version(&cell) < self.laps || !self.protocol.is_over(&cell) {
                found.push(Finding::Stuck);
            }
        }
        for connection in &self.connections {
            let delivered = connection.delivered();
            for one in &delivered {
                found.extend(one.bytes.iter().filter_map(|&byte| Finding::of(byte, one.version)));
            }
            let places: Vec<_> = delivered.iter().map(|one| (one.version, one.partition)).collect();
            for (at, place) in places.iter().enumerate() {
                let earlier = &places[..at];
                found.extend(earlier.contains(place).then_some(Finding::Twice));
                let overtaken = earlier.iter().any(|other| other > place);
                found.extend(overtaken.then_some(Finding::OutOfOrder));
            }
            for (partition, at) in self.partitions.iter().zip(0..) {
                let cell = partition.cell();
                let (version, over) = (self.protocol.version(&cell), self.protocol.is_over(&cell));
                // What stands there and waits is not lost, but stuck.
                let lost = (1..=version)
                    .filter(|&written| over || written < version)
                    .any(|written| !places.contains(&(written, at)));
                found.extend(lost.then_some(Finding::Lost));
            }
        }
        found
    }
}

/// What an execution can show.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Finding {
    /// The receiver got bytes of a later version than was sent: the writer
    /// has overtaken the kernel (t1).
    Newer,
    /// The receiver got bytes of an earlier version: the sender has overtaken
    /// the writer (t2).
    Older,
    /// The receiver got bytes of a write that failed.
    Failed,
    /// Memory that nobody had written was sent.
    Unwritten,
    /// A version was sent again.
    Twice,
    /// A version was sent after one that comes later in the ring.
    OutOfOrder,
    /// A version was written, and its partition given up before it was sent.
    Lost,
    /// Work is left, and no rule allows anybody a step.
    Stuck,
}

impl Finding {
    fn of(byte: Version, meant: Version) -> Option<Self> {
        match byte {
            _ if meant == 0 => Some(Self::Unwritten),
            FAILED => Some(Self::Failed),
            _ if byte > meant => Some(Self::Newer),
            _ if byte < meant => Some(Self::Older),
            _ => None,
        }
    }
}
