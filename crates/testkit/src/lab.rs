//! Two hosts joined by a wire, out of network namespaces.
//!
//! ```text
//!   namespace sg-…-server          namespace sg-…-client
//!   ┌───────────────────┐          ┌───────────────────┐
//!   │ lo    10.99.0.1/24│   wire   │10.99.0.2/24    lo │
//!   │               eth0├──────────┤eth0               │
//!   └───────────────────┘          └───────────────────┘
//! ```
//!
//! Nothing of it is visible in the namespace that the test runs in, so tests may run at the same
//! time and ports are free. A [`Lab`] goes with its guard, however the test ends; what a killed
//! test left behind is removed when the next lab is built.
//!
//! # Three wires, and what each can stand for
//! | wire | made by | what it is | stands for | does not stand for |
//! |---|---|---|---|---|
//! | veth | [`Lab::veth`] | a pair of devices; a packet is handed over by reference, up to 64 KiB in one | a container on the same host: fast, *local* in KERNEL.md's sense | a NIC: pages sent without a copy lie in the receiver's queue, and change there when they are overwritten after the ACK |
//! | throttled veth | [`Lab::throttle`] | `tc tbf` at the sending end: packets wait in the sender's own queue, whose length its TCP knows and bounds | a slow uplink of this very host | a slow path: no packet is lost for a full queue far away. Still local |
//! | true wire | [`Lab::wire`] | two TUN devices, and a thread that copies every packet | a NIC and the path behind it: MTU-sized packets, pages not shared, and by choice a rate, a delay, loss, reordering, duplicates, a bounded queue ([`Conditions`]); its packets can be looked at ([`WireControl::capture`]) | a NIC's hardware: no segmentation or checksums by the card, so a byte costs the sender more; and the kernel's COPIED flag, which a TUN device raises like a local peer |
//!
//! A true wire can be throttled as well: that is a slow card, whose packets wait at their sender and
//! are not lost, where a [`Conditions::rate`] is a slow path.
//!
//! On each of them the work of *receiving* is done where the packet was put into the device, on
//! the sender's or the relay's processor. [`Host::receive_on`] moves it to the processor that it
//! is to be counted on.

mod error;
mod host;
mod link;
mod namespace;
mod tool;
mod wire;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

pub use error::LabError;
pub use host::Host;
use wire::Relay;
pub use wire::{Captured, Conditions, Counts, Direction, End, Wire, WireControl};

/// A server and a client, joined by a wire.
#[derive(Debug)]
pub struct Lab {
    /// The first to go: the devices of a true wire are its relay's.
    relay: Option<Relay>,
    server: Host,
    client: Host,
}

impl Lab {
    /// Two hosts joined by a veth pair, with its default MTU of 1500 bytes and no throttle.
    ///
    /// # Errors
    /// [`LabError`]; tests that need a lab ask for [`Need::NetworkNamespaces`] first.
    ///
    /// [`Need::NetworkNamespaces`]: crate::need::Need::NetworkNamespaces
    pub fn veth() -> Result<Self, LabError> {
        let (server, client) = Self::hosts()?;
        link::join(&server.namespace, &client.namespace)?;
        for host in [&server, &client] {
            link::address(&host.namespace, host.address())?;
        }
        for host in [&server, &client] {
            link::wait_until_up(&host.namespace)?;
        }
        Ok(Self { relay: None, server, client })
    }

    /// Two hosts joined by a true wire: everything between them is copied by a thread of this
    /// process, under the conditions that `wire` tells. It carries IPv4.
    ///
    /// # Errors
    /// [`LabError`]; tests that need one ask for [`Need::TrueWire`] first.
    ///
    /// [`Need::TrueWire`]: crate::need::Need::TrueWire
    pub fn wire(wire: Wire) -> Result<Self, LabError> {
        let (server, client) = Self::hosts()?;
        let devices = [server.make_tun()?, client.make_tun()?];
        for host in [&server, &client] {
            link::size(&host.namespace, wire.mtu)?;
            // A TUN device carries from the beginning: there is nothing to wait for.
            link::address(&host.namespace, host.address())?;
        }
        let relay = Some(Relay::start(wire, devices)?);
        Ok(Self { relay, server, client })
    }

    fn hosts() -> Result<(Host, Host), LabError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        namespace::sweep();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let server = Host::new(number, "server", Ipv4Addr::new(10, 99, 0, 1))?;
        let client = Host::new(number, "client", Ipv4Addr::new(10, 99, 0, 2))?;
        Ok((server, client))
    }

    /// The host that the server under test runs on.
    #[must_use]
    pub fn server(&self) -> &Host {
        &self.server
    }

    /// The host that its clients run on.
    #[must_use]
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// What changes, counts and shows the packets of a true wire; `None` on a veth.
    #[must_use]
    pub fn wire_control(&self) -> Option<&WireControl> {
        self.relay.as_ref().map(Relay::control)
    }

    /// Limits what each host sends to so many bits per second, in a queue of its own. It may be
    /// called again, for another rate.
    ///
    /// # Errors
    /// [`LabError`]; tests that throttle ask for [`Need::Throttle`] first.
    ///
    /// [`Need::Throttle`]: crate::need::Need::Throttle
    pub fn throttle(&self, bits_per_second: u64) -> Result<(), LabError> {
        self.server.throttle(bits_per_second)?;
        self.client.throttle(bits_per_second)
    }

    /// Takes the limit of the hosts away, in both directions. Without one nothing happens.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn unthrottle(&self) -> Result<(), LabError> {
        link::unthrottle(&self.server.namespace)?;
        link::unthrottle(&self.client.namespace)
    }
}
