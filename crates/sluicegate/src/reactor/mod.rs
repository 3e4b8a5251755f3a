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
///   bit 0 readable   bit 1 writable   bit 2 hung up   bits 8–15 tick
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct State(u16);

const READABLE: u16 = 1;
const WRITABLE: u16 = 2;
const HUNG_UP: u16 = 4;

impl State {
    /// A new socket is worth a try both ways: its first request is often there
    /// before the first event is.
    const NEW: State = State(READABLE | WRITABLE);

    /// After an event. Errors and hang-ups make both ways ready, because the
    /// next call on either is what reports them.
    fn after(self, ready: Ready) -> State {
        let mut bits = self.0 & 0xff;
        if ready.readable() || ready.hung_up() || ready.error() {
            bits |= READABLE;
        }
        if ready.writable() || ready.error() || ready.hung_up() {
            bits |= WRITABLE;
        }
        if ready.hung_up() {
            bits |= HUNG_UP;
        }
        State(bits | (u16::from(self.tick().wrapping_add(1)) << 8))
    }

    /// Worth a try to read, whatever was seen before.
    fn tried_again(self) -> State {
        State((self.0 & 0xff) | READABLE | (u16::from(self.tick().wrapping_add(1)) << 8))
    }

    fn tick(self) -> u8 {
        (self.0 >> 8) as u8
    }

    fn has(self, way: u16) -> bool {
        self.0 & way != 0
    }

    fn edge(self) -> Edge {
        Edge { tick: self.tick(), hung_up: self.has(HUNG_UP) }
    }

    /// Without `way`, unless a newer event than `edge` has set it.
    fn cleared(self, way: u16, edge: Edge) -> State {
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
