//! What sockets of a worker, or of a program, have in common.

use std::time::Duration;

use crate::counters::Counters;
use crate::limits::{SocketLimits, Unsent};
use crate::locality::LocalityRule;
use crate::pipes::PipePool;
use crate::strategy::Strategy;

/// What a socket sends with; shared by all sockets of a worker, or of a program.
#[derive(Debug)]
pub struct SendContext {
    /// How ways are chosen.
    pub strategy: Strategy,
    /// Bytes by way, of all sockets together.
    pub counters: Counters,
    /// Pipes for splice.
    pub pipes: PipePool,
    /// What each of its sockets may take of the kernel, unless its listener
    /// has set that.
    pub limits: SocketLimits,
    /// How many unsent bytes a socket may hold, by how fast its peer reads, as
    /// far as that shows; `None` leaves it to the kernel and `limits`.
    pub unsent: Option<Unsent>,
    /// What is known of peers beforehand.
    pub locality: LocalityRule,
    /// How long a dropped socket may keep memory that was sent by reference,
    /// before it is cut off by a reset.
    pub linger: Duration,
}

/// How long a dropped socket may take to have its last bytes acknowledged: as
/// long as a server commonly waits for a client that acknowledges nothing.
const LINGER: Duration = Duration::from_secs(60);

impl Default for SendContext {
    fn default() -> Self {
        SendContext {
            strategy: Strategy::default(),
            counters: Counters::default(),
            pipes: PipePool::granted(),
            limits: SocketLimits::default(),
            unsent: Some(Unsent::default()),
            locality: LocalityRule::default(),
            linger: LINGER,
        }
    }
}
