//! An upstream that an experiment starts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use sluicegate_testkit::process::Child;

use super::account::Account;
use super::{ACCOUNT, FORGET, TOLD};
use crate::harness::network::Side;
use crate::harness::pinned::{await_line, own_path, pinned};
use crate::peer::{Origin, announced};

/// How long it may take to start, or to answer.
const SOON: Duration = Duration::from_secs(10);

/// An upstream that serves. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Upstream {
    child: Child,
    /// Where a proxy beside it reaches it.
    pub(crate) address: SocketAddr,
    /// Where its account is told.
    told: SocketAddr,
    side_address: std::net::IpAddr,
    spins: bool,
}

/// What kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One loop.
    Loop,
    /// One loop that never sleeps.
    Spinning,
    /// So many workers that are blocked while they send.
    Synchronous(usize),
    /// One loop that answers by the address that was connected to: so many bytes of a corpus with
    /// this seed and up.
    ByAddress { seed: u64, length: u64 },
}

impl Upstream {
    /// Starts one beside the proxies, on the core of their clients.
    pub(crate) fn start(side: Side<'_>, cpu: usize, root: &Path, kind: Kind) -> Result<Self> {
        let mut command = pinned(side, cpu, &own_path()?)?;
        // On all addresses: a client may ask it directly, as a measure of the link.
        command.args(["upstream", "--listen", "0.0.0.0:0"]);
        // Who runs by itself has none yet where it needs none.
        if !root.as_os_str().is_empty() {
            command.arg("--root").arg(root);
        }
        match kind {
            Kind::Loop => {}
            Kind::Spinning => drop(command.arg("--spins")),
            Kind::Synchronous(workers) => {
                command.args(["--synchronous", &workers.to_string()]);
            }
            Kind::ByAddress { seed, length } => {
                command.args(["--by-address", &seed.to_string(), &length.to_string()]);
            }
        }
        let mut child = Child::spawn(command)?;
        let line = await_line(&mut child, SOON, |line| announced(line).is_some())
            .context("the upstream does not start")?;
        let port = announced(&line).context("no address")?.port();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let told = line.split_once(TOLD).context("no port of its account")?.1;
        let told = SocketAddr::from(([127, 0, 0, 1], told.trim().parse()?));
        let spins = kind == Kind::Spinning;
        Ok(Self { child, address, told, side_address: side.address(), spins })
    }

    /// What a proxy has to know of it.
    pub(crate) fn origin(&self) -> Origin {
        Origin { address: self.address, pid: self.child.pid(), spins: self.spins }
    }

    /// Where a client on the other side of the network reaches it directly.
    pub(crate) fn direct(&self) -> SocketAddr {
        SocketAddr::new(self.side_address, self.address.port())
    }

    /// What it has done since [`Upstream::forget`].
    pub(crate) fn account(&self, side: Side<'_>) -> Result<Account> {
        side.enter(|| ask(self.told, ACCOUNT))?.context("the upstream does not tell of itself")
    }

    /// From now on it counts anew.
    pub(crate) fn forget(&self, side: Side<'_>) -> Result<()> {
        let asked = side.enter(|| ask::<serde_json::Value>(self.told, FORGET))?;
        asked.map(drop).context("the upstream does not begin anew")
    }
}

fn ask<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T> {
    let mut stream = TcpStream::connect_timeout(&address, SOON)?;
    stream.set_read_timeout(Some(SOON))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: upstream\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut piece = [0; 64 << 10];
    let body = loop {
        let count = stream.read(&mut piece)?;
        answer.extend_from_slice(&piece[..count]);
        if let Some(body) = whole(&answer)? {
            break body;
        }
        anyhow::ensure!(count > 0, "the connection ended within the answer");
    };
    Ok(serde_json::from_slice(body)?)
}

/// The body, once all of it is there.
fn whole(answer: &[u8]) -> Result<Option<&[u8]>> {
    let Some(end) = memchr::memmem::find(answer, b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&answer[..end]);
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
    let length: usize = length.context("no length")?.parse()?;
    Ok(answer[end + 4..].get(..length))
}
