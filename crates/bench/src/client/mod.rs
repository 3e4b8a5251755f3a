//! The client of all measurements: `sluicegate-bench client …`, a process of its own in the
//! network and on the core where the harness puts it. It prints one line of JSON, or complains
//! and fails: a single wrong answer voids what it measured.

mod answer;
mod body;
mod closed_loop;
mod idle;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

#[cfg(test)]
pub(crate) use answer::Answer;
pub(crate) use body::Check;
#[cfg(test)]
pub(crate) use closed_loop::Latency;
pub(crate) use closed_loop::{ClosedLoop, Load};
pub(crate) use idle::{Idle, IdleMemory};

#[derive(Debug, Subcommand)]
pub(crate) enum Client {
    /// Keep-alive connections, each of which asks again as soon as it has its answer.
    Load(ClosedLoop),
    /// Connections that have been served once and then say nothing.
    Idle(Idle),
}

impl Client {
    pub(crate) fn run(self) -> Result<()> {
        let line = match self {
            Self::Load(load) => serde_json::to_string(&load.run()?)?,
            Self::Idle(idle) => serde_json::to_string(&idle.run()?)?,
        };
        println!("{line}");
        Ok(())
    }
}

/// What is asked for, and what must come.
#[derive(Debug, Clone, Args)]
pub(crate) struct Resource {
    /// The server.
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// The path of the request.
    #[arg(long)]
    pub(crate) path: String,
    /// The length of the body, in bytes.
    #[arg(long)]
    pub(crate) length: u64,
    /// The seed of its contents.
    #[arg(long)]
    pub(crate) seed: u64,
}

impl Resource {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(&self) -> [String; 8] {
        let Self { address, path, length, seed } = self;
        let [address, length, seed] = [address.to_string(), length.to_string(), seed.to_string()];
        let option = str::to_owned;
        [
            option("--address"),
            address,
            option("--path"),
            path.clone(),
            option("--length"),
            length,
            option("--seed"),
            seed,
        ]
    }

    /// A request of the size that a small one has.
    fn request(&self) -> Vec<u8> {
        let Self { address, path, .. } = self;
        format!(
            "GET {path} HTTP/1.1\r\n\
             Host: {address}\r\n\
             User-Agent: sluicegate-bench/0.1\r\n\
             Accept: */*\r\n\r\n"
        )
        .into_bytes()
    }

    fn connect(&self) -> Result<TcpStream> {
        let stream = TcpStream::connect(self.address)
            .with_context(|| format!("cannot connect to {}", self.address))?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

/// Sends a request, which always fits into an idle connection's buffer.
fn send(mut stream: &TcpStream, request: &[u8]) -> Result<()> {
    let sent = stream.write(request).context("cannot send a request")?;
    ensure!(sent == request.len(), "a request did not fit into the socket");
    Ok(())
}
