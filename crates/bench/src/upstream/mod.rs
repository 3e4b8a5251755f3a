//! What proxies stand in front of: `sluicegate-bench upstream …`, a process of its own on the
//! client's core, so that nothing of it counts as the proxy's.
//!
//! It sends what it has as cheaply as it can (`sendfile` out of the page cache, small answers in
//! one send), and keeps an account of when it had a connection and a body off its hands.

mod account;
mod content;
mod pace;
mod request;
mod serving;
mod start;
mod synchronous;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use sluicegate_sys::socket;

pub(crate) use self::account::Account;
use self::content::Contents;
pub(crate) use self::start::{Kind, Upstream};

/// The path that its account is asked for at.
const ACCOUNT: &str = "/.account";

/// What stands in front of the port at which the account is told, in the line in which an
/// upstream tells its address.
const TOLD: &str = ", account at port ";

/// The path that has it begin a new one.
const FORGET: &str = "/.forget";

#[derive(Debug, Args)]
pub(crate) struct UpstreamServer {
    #[arg(long)]
    listen: SocketAddr,
    /// The directory with the bodies. `/NAME` is one of them as fast as it goes, `/burst/NAME`
    /// at 100 MB/s for a second and then nothing for one, without a length, as of what is made on
    /// the way.
    #[arg(long, required_unless_present = "by_address")]
    root: Option<PathBuf>,
    /// So many workers, each of which answers one request at a time, is blocked while it sends,
    /// and closes the connection: as gunicorn's default ones do.
    #[arg(long)]
    synchronous: Option<usize>,
    /// Never sleeps, but gives the processor up whenever there is nothing to do: waking it would be
    /// the proxy's work.
    #[arg(long)]
    spins: bool,
    /// Answers every request with so many bytes of the corpus whose seed is this one more than the
    /// number of the pair of addresses that was connected to.
    #[arg(long, num_args = 2, value_names = ["SEED", "LENGTH"])]
    by_address: Option<Vec<u64>>,
}

impl UpstreamServer {
    /// One loop, with the bodies of a directory.
    pub(crate) fn at(listen: SocketAddr, root: &Path) -> Self {
        let root = Some(root.to_owned());
        Self { listen, root, synchronous: None, spins: false, by_address: None }
    }

    /// Serves until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        let listener = socket::listen(self.listen, 4096).context("cannot listen")?;
        if self.listen.ip().is_loopback() {
            socket::set_congestion_control(std::os::fd::AsFd::as_fd(&listener), "reno")?;
        }
        let address = socket::local_address(std::os::fd::AsFd::as_fd(&listener))?;
        let address = address.unwrap_or(self.listen);
        // Workers may all be held: the account is told elsewhere then.
        let beside = match self.synchronous {
            Some(_) => Some(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?),
            None => None,
        };
        let told = match &beside {
            Some(beside) => beside.local_addr()?.port(),
            None => address.port(),
        };
        println!("listening on http://{address}{TOLD}{told}");
        let by_address =
            self.by_address.as_deref().and_then(|of| Some((*of.first()?, *of.get(1)?)));
        let contents = Contents::new(self.root.clone().unwrap_or_default(), by_address);
        match (self.synchronous, beside) {
            (Some(workers), Some(beside)) => {
                synchronous::serve(&listener, &beside, &contents, workers)
            }
            _ => serving::serve(&listener, contents, self.spins).context("cannot serve"),
        }
    }
}
