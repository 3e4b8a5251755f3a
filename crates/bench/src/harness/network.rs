//! Where server and client stand: on one host, or on two that something joins.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sluicegate_testkit::lab::{Conditions, Host, Lab, Wire};

/// The processors that the work of receiving is done on, on the slow veth and on a true wire, whose
/// relay is no part of the server either.
const SERVER_CPU: usize = 0;
const CLIENT_CPU: usize = 1;

/// The rate of the slow links in bytes per second: that of the case study's network.
const SLOW: u64 = 50_000_000;

/// What may wait for its turn on the slow wire: 84 ms' worth. Eight connections at once overflow
/// a quarter of it, and what is sent twice would count as the server's work.
const SLOW_QUEUE: usize = 4 << 20;

/// How long a packet is under way on the far wire, each way: as between two towns of one country.
const FAR: Duration = Duration::from_millis(5);

/// A way from client to server.
#[derive(Debug)]
pub(crate) enum Network {
    /// The loopback device of this host.
    Loopback,
    /// Two network namespaces.
    Lab(Link, Box<Lab>),
}

/// What joins the two hosts of a lab.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Link {
    /// A veth: fast, and a local path.
    Veth,
    /// A veth of 50 MB/s (400 Mbit/s).
    SlowVeth,
    /// A true wire, as fast as its relay is.
    Wire,
    /// A true wire of 50 MB/s.
    SlowWire,
    /// The same, 5 ms long in each direction.
    FarWire,
}

impl Link {
    const ALL: [Self; 5] = [Self::Veth, Self::SlowVeth, Self::Wire, Self::SlowWire, Self::FarWire];

    fn name(self) -> &'static str {
        match self {
            Self::Veth => "veth",
            Self::SlowVeth => "veth50",
            Self::Wire => "wire",
            Self::SlowWire => "wire50",
            Self::FarWire => "far50",
        }
    }

    fn build(self) -> Result<Lab> {
        let lab = match self {
            Self::Veth | Self::SlowVeth => Lab::veth()?,
            Self::Wire => true_wire(Conditions::default())?,
            Self::SlowWire => true_wire(slow(Duration::ZERO))?,
            Self::FarWire => true_wire(slow(FAR))?,
        };
        if self == Self::SlowVeth {
            lab.throttle(8 * SLOW)?;
            // As on a true wire: half of what a server sends at this pace, acknowledgements set off.
            lab.server().receive_on(SERVER_CPU)?;
            lab.client().receive_on(CLIENT_CPU)?;
        }
        Ok(lab)
    }
}

fn slow(delay: Duration) -> Conditions {
    Conditions { rate: SLOW, queue: SLOW_QUEUE, delay, ..Conditions::default() }
}

/// A true wire whose relay shares the client's processor. What arrives at a host is worked off on
/// that host's own: the server's TCP, which sends most of an answer when an acknowledgement
/// comes, would otherwise count as the client's.
fn true_wire(conditions: Conditions) -> Result<Lab> {
    let lab = Lab::wire(Wire { cpu: Some(CLIENT_CPU), ..Wire::with(conditions) })?;
    lab.server().receive_on(SERVER_CPU)?;
    lab.client().receive_on(CLIENT_CPU)?;
    Ok(lab)
}

/// One end of a network.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Side<'a> {
    /// This host.
    Here,
    /// A host of the lab.
    At(&'a Host),
    /// This host, on the address by which a host beyond a real network reaches it.
    Facing(IpAddr),
}

impl Network {
    /// The network of this name: `lo`, `veth`, `veth50`, `wire`, `wire50` or `far50`.
    pub(crate) fn by_name(name: &str) -> Result<Self> {
        if name == Self::Loopback.name() {
            return Ok(Self::Loopback);
        }
        let Some(link) = Link::ALL.into_iter().find(|link| link.name() == name) else {
            bail!("there is no network `{name}`: lo, {}", Link::ALL.map(Link::name).join(", "));
        };
        let lab = link.build().with_context(|| format!("cannot build a {name}"))?;
        Ok(Self::Lab(link, Box::new(lab)))
    }

    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Loopback => "lo",
            Self::Lab(link, _) => link.name(),
        }
    }

    pub(crate) fn server(&self) -> Side<'_> {
        match self {
            Self::Loopback => Side::Here,
            Self::Lab(_, lab) => Side::At(lab.server()),
        }
    }

    pub(crate) fn client(&self) -> Side<'_> {
        match self {
            Self::Loopback => Side::Here,
            Self::Lab(_, lab) => Side::At(lab.client()),
        }
    }
}

impl Side<'_> {
    /// The address that the other side reaches.
    pub(crate) fn address(self) -> IpAddr {
        match self {
            Self::Here => Ipv4Addr::LOCALHOST.into(),
            Self::At(host) => host.address().into(),
            Self::Facing(address) => address,
        }
    }

    /// A command that runs here.
    pub(crate) fn command(self, program: &str) -> Command {
        match self {
            Self::Here | Self::Facing(_) => Command::new(program),
            Self::At(host) => host.command(program),
        }
    }

    /// Runs a closure whose sockets are this side's.
    pub(crate) fn enter<T: Send>(self, work: impl FnOnce() -> T + Send) -> Result<T> {
        match self {
            Self::Here | Self::Facing(_) => Ok(work()),
            Self::At(host) => Ok(host.enter(work)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_testkit::need::Need;
    use sluicegate_testkit::require;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn every_network_is_found_by_its_name_and_carries() {
        require!(Need::TrueWire, Need::Throttle);
        for name in ["lo", "veth", "veth50", "wire", "wire50", "far50"] {
            let network = Network::by_name(name).unwrap();
            assert_eq!(network.name(), name);
            let server = network.server();
            let listener = server.enter(|| TcpListener::bind((server.address(), 0))).unwrap();
            let listener = listener.unwrap();
            let address = listener.local_addr().unwrap();
            network.client().enter(|| TcpStream::connect(address)).unwrap().unwrap();
        }
        let error = Network::by_name("carrier pigeon").unwrap_err().to_string();
        assert!(error.contains("wire50"), "{error}");
    }
}
