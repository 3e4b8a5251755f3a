//! The two sources of readiness.

pub(crate) mod local;
#[cfg(feature = "tokio")]
pub(crate) mod shared;
mod timers;

use sluicegate_sys::epoll::Ready;

use crate::readiness::Edge;

/// Readiness of one descriptor as both reactors keep it, in one word.
///
/// ```text
///   bit 0 readable   bit 1 writable   bit 2 hung up   bit 3 error   bit 4 gone
///   bits 8–15 tick
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct State(u16);

pub(crate) const READABLE: u16 = 1;
pub(crate) const WRITABLE: u16 = 2;
pub(crate) const HUNG_UP: u16 = 4;
pub(crate) const ERROR: u16 = 8;
pub(crate) const GONE: u16 = 16;

impl State {
    /// A new socket is worth a try both ways: its first request is often there
    /// before the first event is.
    pub(crate) const NEW: State = State(READABLE | WRITABLE);

    /// After an event. A hang-up makes both ways ready, because the next call on
    /// either is what reports it. An error without one is an entry on the error
    /// queue: a connection that fails hangs up too (`tcp_done`).
    pub(crate) fn after(self, ready: Ready) -> State {
        let mut bits = self.0 & 0xff;
        if ready.readable() || ready.hung_up() {
            bits |= READABLE;
        }
        if ready.writable() || ready.hung_up() {
            bits |= WRITABLE;
        }
        if ready.hung_up() {
            bits |= HUNG_UP;
            if ready.gone() {
                bits |= GONE;
            }
        }
        if ready.error() {
            bits |= ERROR;
        }
        State(bits | (u16::from(self.tick().wrapping_add(1)) << 8))
    }

    /// Worth a try to read, whatever was seen before.
    fn tried_again(self) -> State {
        self.with(READABLE)
    }

    /// Worth a try that `way`, as if an event had said so.
    pub(crate) fn with(self, way: u16) -> State {
        State((self.0 & 0xff) | way | (u16::from(self.tick().wrapping_add(1)) << 8))
    }

    /// As a number, for a cell that only holds numbers.
    pub(crate) fn bits(self) -> u16 {
        self.0
    }

    /// What [`State::bits`] was of.
    pub(crate) fn of(bits: u16) -> State {
        State(bits)
    }

    fn tick(self) -> u8 {
        (self.0 >> 8) as u8
    }

    pub(crate) fn has(self, way: u16) -> bool {
        self.0 & way != 0
    }

    pub(crate) fn edge(self) -> Edge {
        Edge { tick: self.tick(), hung_up: self.has(HUNG_UP) }
    }

    /// Without `way`, unless a newer event than `edge` has set it.
    pub(crate) fn cleared(self, way: u16, edge: Edge) -> State {
        if self.tick() == edge.tick { State(self.0 & !way) } else { self }
    }
}

/// Key of a slot in an epoll set: its index, and a generation that tells an
/// event of a dead slot from one of its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[allow(clippy::cast_possible_truncation)] // Both halves are cut out on purpose.
    fn unpack(packed: u64) -> Key {
        Key { index: packed as u32, generation: (packed >> 32) as u32 }
    }
}

/// Events taken per wait: enough for every connection of a busy moment,
/// 12 bytes each.
const EVENTS: usize = 512;

/// Key of the reactor's own doorbell. No slot has it: a slab of 2³²−1 sockets
/// does not fit the descriptor table.
const DOORBELL: u64 = u64::MAX;
