//! Where an experiment takes place: servers on one side, a peer that downloads on the other.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use sluicegate_testkit::process::Child;

use crate::experiment::session::{CLIENT_CPU, Session};
use crate::harness::network::{Network, Side};
use crate::harness::pinned::{await_line, own_path, pinned};
use crate::peer_host::{Control, Hello, announced};

/// How long a peer may take to start.
const START: Duration = Duration::from_secs(10);

/// Its parts go in this order: first the conversation, at last the wire.
#[derive(Debug)]
pub(in crate::experiment) struct Site {
    pub(in crate::experiment) control: Control,
    peer: Option<Child>,
    network: Option<Network>,
}

/// The name of a site beyond a real network.
const REAL: &str = "peer";

impl Site {
    /// Those that can be had: beyond a real network where a `host` is named, otherwise on the
    /// networks that are wanted.
    pub(in crate::experiment) fn open(
        session: &mut Session,
        wanted: &[String],
        host: Option<&str>,
    ) -> Result<Vec<Self>> {
        if let Some(host) = host {
            let control = Control::to_host(host)?;
            session.run.write_json("peer.json", control.hello())?;
            return Ok(vec![Self { control, peer: None, network: None }]);
        }
        session.networks(wanted).into_iter().map(Self::on).collect()
    }

    /// Starts a peer at the client's side.
    fn on(network: Network) -> Result<Self> {
        let mut command = pinned(network.client(), CLIENT_CPU, &own_path()?)?;
        let listen = SocketAddr::new(network.client().address(), 0);
        command.args(["peer", "--listen", &listen.to_string()]);
        let mut peer = Child::spawn(command)?;
        let line = await_line(&mut peer, START, |line| announced(line).is_some())
            .context("a peer does not start")?;
        let address = announced(&line).context("no address")?;
        let control = Control::connect(address, network.server())?;
        Ok(Self { control, peer: Some(peer), network: Some(network) })
    }

    pub(in crate::experiment) fn name(&self) -> &'static str {
        self.network.as_ref().map_or(REAL, Network::name)
    }

    /// Where the servers stand.
    pub(in crate::experiment) fn server(&self) -> Side<'_> {
        match &self.network {
            Some(network) => network.server(),
            None => Side::Facing(self.control.own_address()),
        }
    }

    /// Whether the peer runs on this host, whose clock it then has.
    pub(in crate::experiment) fn is_here(&self) -> bool {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        self.control.hello().boot == boot.trim()
    }

    /// Whether the peer shares its core with nobody while it downloads: the relay of a wire that
    /// copies has no core of its own.
    pub(in crate::experiment) fn has_own_core(&self) -> bool {
        !["wire", "wire50", "far50"].contains(&self.name())
    }

    /// The peer of a host of ours, which is no noise.
    pub(in crate::experiment) fn peer_pid(&self) -> Option<u32> {
        self.peer.as_ref().map(Child::pid)
    }

    /// Who is at the other end, for the head of a report.
    pub(in crate::experiment) fn who(&self) -> Option<String> {
        let Hello { version, kernel, processor, cores, cpu, .. } = self.control.hello();
        self.network.is_none().then(|| {
            format!("peer: {version}, Linux {kernel}, {cores} × {processor}, on its core {cpu}")
        })
    }
}
