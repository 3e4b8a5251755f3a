//! Floors of proxies: loops that move bytes between a client and an upstream, a connection of its
//! own for each client, and know of HTTP no more than where a head and a body end, if that.

mod file;
mod messages;
mod pairs;
mod pools;
mod splice;

use std::fmt::{self, Display};
use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use sluicegate_sys::socket;

/// What the loop does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relay {
    /// Upstream, pipe of 1 MiB, client.
    Splice,
    /// Small messages: what one has sent is received and sent to the other.
    Messages,
    /// Through a file, as a proxy with a temporary file does.
    File(Through),
}

/// The factors of the paper's proxy (seeds/000, III-B), apart from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Through {
    /// A file of 1 MiB that is written anew when its bytes are acknowledged; otherwise one that
    /// grows to the size of the body.
    pub(crate) is_cyclic: bool,
    /// Each call that sends returns when all of its bytes are accepted, and the loop with it.
    pub(crate) blocks: bool,
    /// Bytes of one call: 100,000 instead of 8,000.
    pub(crate) is_large: bool,
}

impl Through {
    /// All of them.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..8).map(|bits| Self {
            is_cyclic: bits & 4 > 0,
            blocks: bits & 2 == 0,
            is_large: bits & 1 > 0,
        })
    }

    /// Bytes of one call.
    pub(crate) fn unit(self) -> usize {
        if self.is_large { 100_000 } else { 8_000 }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Splice,
    Messages,
    File,
}

/// The command line of a [`Relay`].
#[derive(Debug, Args)]
pub(crate) struct RelayFloor {
    #[arg(value_enum)]
    way: Way,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    upstream: SocketAddr,
    /// Where a file is made.
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    cyclic: bool,
    #[arg(long)]
    blocks: bool,
    #[arg(long)]
    large: bool,
    /// Of messages: the servers of pools, an address in each line, two for each pool.
    #[arg(long)]
    servers: Option<PathBuf>,
}

impl Relay {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(self, upstream: SocketAddr, directory: &Path) -> Vec<String> {
        let way = match self {
            Self::Splice => "splice",
            Self::Messages => "messages",
            Self::File(_) => "file",
        };
        let (upstream, directory) = (upstream.to_string(), directory.to_string_lossy());
        let mut arguments =
            vec!["relay-floor", way, "--upstream", &upstream, "--directory", &directory];
        if let Self::File(Through { is_cyclic, blocks, is_large }) = self {
            arguments.extend(is_cyclic.then_some("--cyclic"));
            arguments.extend(blocks.then_some("--blocks"));
            arguments.extend(is_large.then_some("--large"));
        }
        arguments.into_iter().map(str::to_owned).collect()
    }
}

impl Display for Relay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Splice => "floor-splice".to_owned(),
            Self::Messages => "floor-messages".to_owned(),
            Self::File(Through { is_cyclic, blocks, is_large }) => format!(
                "file-{}-{}-{}",
                if *is_cyclic { "cyclic" } else { "growing" },
                if *blocks { "blocking" } else { "non-blocking" },
                if *is_large { "100KB" } else { "8KB" },
            ),
        };
        f.pad(&text)
    }
}

impl RelayFloor {
    /// Relays until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        let listener = socket::listen(self.listen, 4096).context("cannot listen")?;
        if self.listen.ip().is_loopback() {
            socket::set_congestion_control(listener.as_fd(), "reno")?;
        }
        let address = socket::local_address(listener.as_fd())?.unwrap_or(self.listen);
        println!("listening on http://{address}");
        match self.way {
            Way::Splice => pairs::serve::<splice::Splice>(&listener, self.upstream),
            Way::Messages if let Some(path) = &self.servers => {
                pools::serve(&listener, &servers(path)?)
            }
            Way::Messages => pairs::serve::<messages::Messages>(&listener, self.upstream),
            Way::File => {
                let Self { cyclic: is_cyclic, blocks, large: is_large, .. } = *self;
                let through = Through { is_cyclic, blocks, is_large };
                file::serve(&listener, self.upstream, &self.directory, through)
            }
        }
        .context("cannot relay")
    }
}

fn servers(path: &Path) -> Result<Vec<SocketAddr>> {
    let text = fs::read_to_string(path).context("cannot read the servers")?;
    let servers: Vec<SocketAddr> =
        text.lines().map(str::parse).collect::<Result<_, _>>().context("not an address")?;
    ensure!(servers.len().is_multiple_of(2), "a pool has two servers");
    Ok(servers)
}

/// A connection to the upstream, which is beside.
fn connect(upstream: SocketAddr) -> std::io::Result<OwnedFd> {
    let stream = TcpStream::connect(upstream)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream.into())
}

/// Where a head ends in what was received, and how long the body behind it is.
fn head(received: &[u8]) -> Option<(usize, u64)> {
    let end = memchr::memmem::find(received, b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&received[..end]);
    let length = text.lines().find_map(|line| line.strip_prefix("Content-Length: "))?;
    Some((end, length.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_factors_are_all_there_once() {
        let names: Vec<String> = Through::all().map(|of| Relay::File(of).to_string()).collect();
        assert_eq!(names.len(), 8);
        assert_eq!(names[0], "file-growing-blocking-8KB");
        assert_eq!(names[7], "file-cyclic-non-blocking-100KB");
        assert!(names.iter().enumerate().all(|(n, name)| !names[..n].contains(name)));
    }

    #[test]
    fn a_body_begins_behind_its_head() {
        let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\n\r\nbody";
        assert_eq!(head(answer), Some((answer.len() - 4, 12)));
        assert_eq!(head(&answer[..20]), None);
    }
}
