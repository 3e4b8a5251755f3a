//! The client of all measurements: `sluicegate-bench client …`, a process of its own in the
//! network and on the core where the harness puts it. It prints one line of JSON, or complains
//! and fails: a single wrong answer voids what it measured.

mod answer;
mod body;
mod closed_loop;
mod idle;
mod slow;

use std::io::Write;
use std::net::{SocketAddr, TcpStream};

use anyhow::{Context, Result, ensure};
use clap::{Args, Subcommand};

pub(crate) use answer::Answer;
pub(crate) use body::Check;
pub(crate) use closed_loop::{ClosedLoop, Latency, Load};
pub(crate) use idle::{Idle, IdleMemory};
#[cfg(test)]
pub(crate) use slow::Rates;
pub(crate) use slow::{KernelMemory, Slow, SlowLoad, Work};

#[derive(Debug, Subcommand)]
pub(crate) enum Client {
    /// Keep-alive connections, each of which asks again as soon as it has its answer.
    Load(ClosedLoop),
    /// Connections that have been served once and then say nothing.
    Idle(Idle),
    /// Very many downloads, each read at a fixed rate.
    Slow(Slow),
}

impl Client {
    pub(crate) fn run(self) -> Result<()> {
        let line = match self {
            Self::Load(load) => serde_json::to_string(&load.run()?)?,
            Self::Idle(idle) => serde_json::to_string(&idle.run()?)?,
            Self::Slow(slow) => serde_json::to_string(&slow.run()?)?,
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
}

impl Resource {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(&self) -> Vec<String> {
        let Self { address, path, length, seed, files } = self;
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
        arguments
    }

    /// The requests that are made in turn, each with the seed of its answer.
    fn requests(&self) -> Vec<(Vec<u8>, u64)> {
        let Self { path, seed, .. } = self;
        let Some(files) = self.files else { return vec![(self.request(path), *seed)] };
        let of = |index: u32| (self.request(&file_of(path, index)), seed + u64::from(index));
        (0..files).map(of).collect()
    }

    /// A request of the size that a small one has.
    fn request(&self, path: &str) -> Vec<u8> {
        let Self { address, .. } = self;
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
        let mut of = Resource { address, path: "/a".to_owned(), length: 1, seed: 7, files: None };
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
}
