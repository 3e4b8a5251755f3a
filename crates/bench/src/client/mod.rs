//! The client of all measurements: `sluicegate-bench client …`, a process of its own in the
//! network and on the core where the harness puts it. It prints one line of JSON, or complains
//! and fails: a single wrong answer voids what it measured.

mod answer;
mod body;
mod churn;
mod closed_loop;
mod idle;
mod paced;
mod server;
mod slow;

use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand, ValueEnum};

pub(crate) use answer::Answer;
pub(crate) use body::Check;
pub(crate) use churn::{Churn, Churned};
pub(crate) use closed_loop::{ClosedLoop, Latency, Load};
pub(crate) use idle::{Idle, IdleMemory};
pub(crate) use paced::{Paced, PacedLoad};
use server::Server;
#[cfg(test)]
pub(crate) use slow::Rates;
pub(crate) use slow::{KernelMemory, Slow, SlowLoad, Work};

#[derive(Debug, Subcommand)]
pub(crate) enum Client {
    /// Keep-alive connections, each of which asks again as soon as it has its answer.
    Load(ClosedLoop),
    /// Connections that have been served once and then say nothing.
    Idle(Idle),
    /// Connections that come and go, and others that stay, while something happens to the server.
    Churn(Churn),
    /// Very many downloads, each read at a fixed rate.
    Slow(Slow),
    /// Downloads at a pace of the client's, to their ends.
    Paced(Paced),
}

impl Client {
    pub(crate) fn run(self) -> Result<()> {
        let line = match self {
            Self::Load(load) => serde_json::to_string(&load.run()?)?,
            Self::Idle(idle) => serde_json::to_string(&idle.run()?)?,
            Self::Churn(churn) => serde_json::to_string(&churn.run()?)?,
            Self::Slow(slow) => serde_json::to_string(&slow.run()?)?,
            Self::Paced(paced) => serde_json::to_string(&paced.run()?)?,
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
    /// Asks for so many files in turn: they are called 0.bin, 1.bin … in the directory PATH, and
    /// their seeds count up.
    #[arg(long)]
    pub(crate) files: Option<u32>,
    /// Asks for a file of as many sites in turn instead: PATH of each.
    #[arg(long, value_enum, requires = "files")]
    pub(crate) sites: Option<Sites>,
}

/// How sites are told apart. Their seeds count up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Sites {
    /// They are one site, and directories of it: `/0PATH`, `/1PATH` …
    Directories,
    /// By the name that is asked for.
    Names,
    /// By the address that is connected to: each connection has one.
    Addresses,
}

impl Sites {
    /// The name of a site.
    pub(crate) fn name(index: u32) -> String {
        format!("site-{index}.example.test")
    }

    /// The address of a site, all of which are this host's.
    pub(crate) fn address(index: u32, port: u16) -> SocketAddr {
        const IN_A_ROW: u32 = 250;
        let [high, low] = [index / IN_A_ROW, index % IN_A_ROW + 1];
        SocketAddr::new(Ipv4Addr::from(0x7f01_0000 | high << 8 | low).into(), port)
    }
}

impl Resource {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { address, path, length, seed, files, sites } = self;
        let [address, length, seed] = [address.to_string(), length.to_string(), seed.to_string()];
        let option = str::to_owned;
        let mut arguments = vec![
            option("--address"),
            address,
            option("--path"),
            path.clone(),
            option("--length"),
            length,
            option("--seed"),
            seed,
        ];
        if let Some(files) = files {
            arguments.extend([option("--files"), files.to_string()]);
        }
        if let Some(sites) = sites.and_then(|sites| sites.to_possible_value()) {
            arguments.extend([option("--sites"), sites.get_name().to_owned()]);
        }
        arguments
    }

    /// The requests that are made in turn, each with the seed of its answer.
    fn requests(&self) -> Vec<(Vec<u8>, u64)> {
        let Self { path, seed, .. } = self;
        let Some(files) = self.files else { return vec![(self.request(path), *seed)] };
        let of = |index: u32| {
            let request = match self.sites {
                None => self.request(&file_of(path, index)),
                Some(Sites::Directories) => request(&format!("/{index}{path}"), &Sites::name(0)),
                Some(Sites::Names) => request(path, &Sites::name(index)),
                Some(Sites::Addresses) => request(path, &self.address_of(index).to_string()),
            };
            (request, seed + u64::from(index))
        };
        (0..files).map(of).collect()
    }

    /// A request of the size that a small one has.
    fn request(&self, path: &str) -> Vec<u8> {
        request(path, &self.address.to_string())
    }

    /// The number of the request that a connection makes whenever it makes one, if it has its
    /// own.
    fn fixed(&self, connection: usize) -> Option<usize> {
        let sites = self.files.filter(|_| self.sites == Some(Sites::Addresses))?;
        Some(connection % sites.max(1) as usize)
    }

    /// The address of a site.
    fn address_of(&self, index: u32) -> SocketAddr {
        match self.sites {
            Some(Sites::Addresses) => Sites::address(index, self.address.port()),
            _ => self.address,
        }
    }

    fn connect(&self) -> Result<TcpStream> {
        connect(self.address)
    }

    /// Connects to where a connection's requests are answered.
    fn connect_as(&self, connection: usize) -> Result<TcpStream> {
        let index = self.fixed(connection).and_then(|index| u32::try_from(index).ok());
        connect(self.address_of(index.unwrap_or(0)))
    }
}

fn request(path: &str, host: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\n\
         Host: {host}\r\n\
         User-Agent: sluicegate-bench/0.1\r\n\
         Accept: */*\r\n\r\n"
    )
    .into_bytes()
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream =
        TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// The path of a file of a directory that holds many alike.
pub(crate) fn file_of(directory: &str, index: u32) -> String {
    format!("{directory}/{index}.bin")
}

/// Sends a request, which always fits into an idle connection's buffer.
fn send(mut stream: &TcpStream, request: &[u8]) -> Result<()> {
    let sent = stream.write(request).context("cannot send a request")?;
    ensure!(sent == request.len(), "a request did not fit into the socket");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_file_is_asked_for_by_its_path_and_many_by_their_numbers() {
        let address = "127.0.0.1:80".parse().unwrap();
        let path = "/a".to_owned();
        let mut of = Resource { address, path, length: 1, seed: 7, files: None, sites: None };
        let asked = |of: &Resource| -> Vec<(String, u64)> {
            let line = |request: Vec<u8>| {
                String::from_utf8(request).unwrap().lines().next().unwrap().to_owned()
            };
            of.requests().into_iter().map(|(request, seed)| (line(request), seed)).collect()
        };
        assert_eq!(asked(&of), [("GET /a HTTP/1.1".to_owned(), 7)]);
        of.files = Some(2);
        assert_eq!(asked(&of)[1], ("GET /a/1.bin HTTP/1.1".to_owned(), 8));
        assert_eq!(asked(&of).len(), 2);
    }

    #[test]
    fn sites_are_told_apart_by_path_name_or_address() {
        let address = "127.0.0.1:80".parse().unwrap();
        let path = "/a".to_owned();
        let of = |sites| Resource {
            address,
            path: path.clone(),
            length: 1,
            seed: 7,
            files: Some(1000),
            sites: Some(sites),
        };
        let second = |sites| {
            let (request, seed) = of(sites).requests().swap_remove(251);
            assert_eq!(seed, 258);
            let text = String::from_utf8(request).unwrap();
            text.lines().take(2).collect::<Vec<_>>().join(" ")
        };
        let named = second(Sites::Names);
        assert_eq!(named, "GET /a HTTP/1.1 Host: site-251.example.test");
        assert_eq!(second(Sites::Addresses), "GET /a HTTP/1.1 Host: 127.1.1.2:80");
        let together = second(Sites::Directories);
        assert_eq!(together, "GET /251/a HTTP/1.1 Host: site-0.example.test");
        assert_eq!(of(Sites::Addresses).fixed(1251), Some(251));
        assert_eq!(of(Sites::Names).fixed(251), None);
        assert!(of(Sites::Names).arguments().ends_with(&["--sites".into(), "names".into()]));
    }
}
