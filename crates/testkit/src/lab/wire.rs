//! A true wire: what leaves one host's device is copied, by a thread, into the other's.
//!
//! ```text
//!   host ──► TUN ──► chance ──► queue ──► delay ──► hold ──► TUN ──► host
//!                    drop,      rate,               reorder
//!                    duplicate  tail drop
//! ```
//!
//! [`Lane`] is this way in one direction, without descriptor or clock; the relay joins two lanes to
//! two devices. What chance does to the *n*-th packet of a direction follows from the seed and
//! from *n* alone.
//!
//! [`Lane`]: lane::Lane

mod capture;
mod control;
mod lane;
mod relay;

use std::time::Duration;

pub use capture::{Captured, End};
pub use control::WireControl;
pub(super) use relay::Relay;

/// A way that packets take over the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client: the answers.
    ToClient,
    /// From the client to the server: the requests, and the acknowledgements of the answers.
    ToServer,
}

impl Direction {
    /// Both.
    pub const ALL: [Self; 2] = [Self::ToClient, Self::ToServer];

    fn index(self) -> usize {
        match self {
            Self::ToClient => 0,
            Self::ToServer => 1,
        }
    }
}

/// A true wire, for [`Lab::wire`]. The default changes nothing and is as fast as the machine.
///
/// ```ignore
/// let wire = Wire { seed: 7, ..Wire::with(Conditions { rate: 50_000_000, ..Conditions::default() }) };
/// let lab = Lab::wire(wire)?;
/// ```
///
/// [`Lab::wire`]: super::Lab::wire
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wire {
    /// The longest IP packet, in bytes, with its header. 1500 by default, as Ethernet's.
    pub mtu: u16,
    /// What chance follows from. 0 by default.
    pub seed: u64,
    /// The processor that the relay runs on; any by default.
    pub cpu: Option<usize>,
    /// What happens on the way from the server to the client.
    pub to_client: Conditions,
    /// What happens on the way from the client to the server.
    pub to_server: Conditions,
}

impl Wire {
    /// A wire with the same conditions in both directions.
    #[must_use]
    pub fn with(conditions: Conditions) -> Self {
        Self { to_client: conditions, to_server: conditions, ..Self::default() }
    }
}

impl Default for Wire {
    fn default() -> Self {
        let conditions = Conditions::default();
        Self { mtu: 1500, seed: 0, cpu: None, to_client: conditions, to_server: conditions }
    }
}

/// What happens to the packets of one direction. By default nothing does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conditions {
    /// Bytes of IP packets, with their headers, per second; 0 for as many as the machine can.
    /// A rate is kept from packet to packet: nothing is saved up while the wire is idle.
    pub rate: u64,
    /// How many bytes may wait for their turn where there is a rate; what comes then is dropped
    /// (tail drop, RFC 7567, section 2). One packet may always wait. 1 MiB by default.
    pub queue: usize,
    /// How long a packet is under way after its turn. Packets are up to 0.1 ms late, by the
    /// kernel's timers, and never early.
    pub delay: Duration,
    /// One packet in so many is lost, by chance; 0 for none.
    pub drop_one_in: u32,
    /// One packet in so many comes twice, by chance; 0 for none.
    pub duplicate_one_in: u32,
    /// One packet in so many is held back, by chance, until three others have overtaken it (which
    /// TCP takes for a loss: RFC 5681, section 3.2) or 10 ms have passed; 0 for none.
    pub reorder_one_in: u32,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            rate: 0,
            queue: 1 << 20,
            delay: Duration::ZERO,
            drop_one_in: 0,
            duplicate_one_in: 0,
            reorder_one_in: 0,
        }
    }
}

/// What became of the packets of one direction, since the wire was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Packets that came out at the far end, duplicates among them.
    pub packets: u64,
    /// Their bytes, with the headers of IP.
    pub bytes: u64,
    /// Packets that were lost by chance.
    pub dropped: u64,
    /// Packets that found the queue full.
    pub overflowed: u64,
    /// Packets that were overtaken by others because they were held back.
    pub reordered: u64,
    /// Packets that came twice.
    pub duplicated: u64,
    /// Packets that the far end's device did not take.
    pub refused: u64,
}
