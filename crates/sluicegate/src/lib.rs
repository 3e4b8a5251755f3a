//! Send files and memory over TCP without copying, return at once, and know
//! when the bytes have arrived.
//!
//! Modules in the order in which a byte meets them. [`SendQueue`] and
//! [`Ledger`] are pure state machines: `handle_*` takes what happened,
//! `poll_*` gives what to do, no descriptor and no clock. [`Transport`] is
//! what they are carried out on: the kernel in a [`Socket`], a script in
//! tests. [`Readiness`] says when to try again, from a worker's own
//! [`Reactor`] or from a [`SharedReactor`] inside tokio (feature `tokio`).
//!
//! Three words, never mixed: *accepted* (a send call took the bytes; the
//! kernel owns the job), *acked* (the peer's TCP acknowledged them),
//! *released* (the kernel holds no reference to their pages any more, because
//! it copied them or has reported it). [`Socket::accepted`], [`Socket::acked`]
//! and [`Socket::released`] wait for them; an [`AckQueue`] tells of the second
//! in an event loop of one's own, and [`AckSignals`] by signal.
//!
//! The crate knows nothing of HTTP.

#![forbid(unsafe_code)]

mod ack_queue;
mod ack_signals;
mod buffers;
mod counters;
mod executor;
mod ledger;
mod limits;
mod linger;
mod listener;
mod locality;
mod pipes;
mod position;
mod pump;
mod queue;
mod reactor;
mod readiness;
mod ring;
mod segment;
mod socket;
mod spool;
mod strategy;
mod transport;
mod worker;

pub use ack_queue::{AckQueue, EpollRecord, Event, Grown, SocketId, Tag, Watch};
pub use ack_signals::{AckSignals, RealTimeSignal, SignalProgress, signal_handler};
pub use counters::{Counters, WayBytes};
pub use executor::{Spawner, Task};
pub use ledger::{Ledger, Progress};
pub use limits::{SocketLimits, Unsent};
pub use linger::{Lingering, lingering};
pub use listener::{BACKLOG, Listener, listen, listen_on};
pub use locality::{Locality, LocalityRule, Locator};
pub use pipes::{LentPipe, PipePool, Pipes};
pub use position::Position;
pub use pump::{FileError, FileFault, Pumped, SendError, pump};
pub use queue::{Acks, Gate, QueueError, RegionWay, SendQueue, SentRegion, Transmit};
pub use reactor::local::{LocalTimer, Reactor, Registration};
#[cfg(feature = "tokio")]
pub use reactor::shared::{SharedReactor, SharedRegistration, SharedTimer};
pub use readiness::{Edge, Readiness, Source, Timer};
pub use ring::{
    Backing, Connection, Held, Lease, Pinned, Pool, PooledRing, Region, RegionUse, Ring,
    RingBuilder, RingCounters, RingError, Stragglers,
};
pub use segment::{FileRange, Piped, Segment};
pub use socket::{AckWait, AcquireError, SendContext, Socket, Target};
pub use spool::{Room, Sink, Spool, SpoolBudget, SpoolBytes, SpoolOptions};
pub use strategy::{
    COPY_UP_TO, JOIN_UP_TO, MEMORY_UP_TO, SPLICE_FROM, Strategy, Way, ZEROCOPY_FROM,
};
pub use transport::Transport;
pub use worker::{Worker, yield_now};

/// Whether this is the build in which a ring's memory is written again as soon as its
/// bytes are accepted, which corrupts what is sent: for the measurement of the
/// paper's race alone (docs/reuse.md). It is made with `--cfg sluicegate_lawless`,
/// which no feature sets, so that no crate of a program can switch it on.
pub const IS_LAWLESS: bool = cfg!(sluicegate_lawless);

/// The time of day, at the cost of a memory read and as exact as a timer tick.
pub use sluicegate_sys::clock::{coarse_time, unix_seconds, unix_time};

/// Files beneath a directory: opening them, and telling one version from another.
pub mod file {
    pub use sluicegate_sys::directory::{Named, Names};
    pub use sluicegate_sys::file::{Difference, Kind, Stamp, read_at, stamp};
    pub use sluicegate_sys::open::{Access, Links, Root, path_of};
}

/// Pipes between sockets.
pub use sluicegate_sys::splice::Pipe;

/// What a program around the sockets needs of the host.
pub mod os {
    pub use sluicegate_sys::append::{append, is_without_reader};
    pub use sluicegate_sys::clock::{monotonic_micros, process_cpu};
    pub use sluicegate_sys::identity;
    pub use sluicegate_sys::inherit;
    pub use sluicegate_sys::limits::{is_out_of_descriptors, raise_descriptors};
    pub use sluicegate_sys::signal::{Signal, Signals, ignore_file_size};

    /// Single facilities of the kernel, for a program that tells what it allows
    /// here. What sends is a [`crate::Socket`].
    pub mod probe {
        pub use sluicegate_sys::cachestat::{Resident, cachestat};
        pub use sluicegate_sys::epoll::{Epoll, Interest};
        pub use sluicegate_sys::errqueue::{self, Entry, Numbering};
        pub use sluicegate_sys::ethtool::{Feature, driver, feature};
        pub use sluicegate_sys::file_system::{magic, room, unnamed_file};
        pub use sluicegate_sys::io_uring;
        pub use sluicegate_sys::limits::{Limit, descriptors, locked_memory, page_size};
        pub use sluicegate_sys::links::{Link, links};
        pub use sluicegate_sys::memfd::MappedMemfd;
        pub use sluicegate_sys::outq::unacknowledged;
        pub use sluicegate_sys::ports::try_bind;
        pub use sluicegate_sys::sendfile::sendfile;
        pub use sluicegate_sys::socket::{
            congestion_control, reset_on_close, set_congestion_control, set_unsent_limit,
            unsent_limit,
        };
        pub use sluicegate_sys::splice::Pipe;
        pub use sluicegate_sys::ulp::add_tls;
        pub use sluicegate_sys::wake::Wake;
        pub use sluicegate_sys::zerocopy;
    }

    use std::io;
    use std::net::SocketAddr;
    use std::os::fd::AsFd;

    /// The address that a socket is bound to; `None` when it is no internet address.
    ///
    /// # Errors
    /// `ENOTSOCK`, `ENOBUFS`.
    pub fn local_address(socket: &impl AsFd) -> io::Result<Option<SocketAddr>> {
        sluicegate_sys::socket::local_address(socket.as_fd())
    }
}
