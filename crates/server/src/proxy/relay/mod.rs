//! What is to be done next between a client and an upstream, decided: pure state machines,
//! without a descriptor, a clock or a task. A driver ([`super::fetch`], [`super::tunnel`])
//! asks one what to do, does it, and tells it what came of that.

pub(super) mod body;
pub(super) mod tunnel;

/// Rounds in a row before the other tasks of the thread have their turn.
const TURN: u32 = 64;

/// Whose failure something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whose {
    Client,
    Upstream,
    /// Our own: a bound, a place that could not be had.
    Ours,
}

/// Counts the rounds of a turn.
#[derive(Debug, Default)]
struct Turn {
    rounds: u32,
}

impl Turn {
    /// A round has moved something: whether another may follow at once.
    fn goes_on(&mut self) -> bool {
        self.rounds = (self.rounds + 1) % TURN;
        self.rounds > 0
    }

    /// Others have their turn anyway.
    fn end(&mut self) {
        self.rounds = 0;
    }
}

/// Bytes that a kernel has accepted.
#[derive(Debug, Default)]
struct Accepted {
    bytes: u64,
}

impl Accepted {
    /// It has so many by now: how many more that is than before.
    fn advance(&mut self, bytes: u64) -> u64 {
        let more = bytes.saturating_sub(self.bytes);
        self.bytes += more;
        more
    }
}
