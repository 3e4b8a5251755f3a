//! One stream to many sockets, through a ring of 1 MiB: every partition is written once and goes to
//! all of them, in turn. Two bare loops, and the library's ring. See [`super::ring`] for what is
//! said; the first connection gives the orders.

mod bare;
mod ours;

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use serde::Serialize;

use super::ring::TEMPLATE;

/// Bytes of the ring.
pub(crate) const RING: usize = 1 << 20;

/// Bytes of each of its partitions.
pub(crate) const PARTITION: usize = TEMPLATE;

/// How one partition goes to many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Spread {
    /// A bare loop of `send`.
    Copy,
    /// A bare loop of `sendfile`; the pages are replaced before they are written again.
    Reference,
    /// The library's ring, told to copy to each.
    OursCopy,
    /// The same, told to refer from the first on.
    OursReference,
    /// The same, as it chooses.
    Ours,
}

impl Spread {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [Self; 5] =
        [Self::Copy, Self::Reference, Self::OursCopy, Self::OursReference, Self::Ours];
}

impl Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Copy => "copy",
            Self::Reference => "reference",
            Self::OursCopy => "ours-copy",
            Self::OursReference => "ours-reference",
            Self::Ours => "ours",
        })
    }
}

/// The command line of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct FanOutFloor {
    #[arg(value_enum)]
    pub(crate) way: Spread,
    /// So many connections are waited for before the first order.
    #[arg(long)]
    pub(crate) sockets: usize,
    /// Bytes that each socket has room for whatever its reader does, instead of what the kernel
    /// and the library give. Root alone may have more than `wmem_max`.
    #[arg(long)]
    pub(crate) send_buffer: Option<usize>,
    #[arg(long)]
    pub(crate) listen: SocketAddr,
}

impl FanOutFloor {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(self) -> Vec<String> {
        let Self { way, sockets, send_buffer, listen } = self;
        let mut arguments = vec!["fan-out-floor".to_owned(), way.to_string()];
        arguments.extend(["--sockets".to_owned(), sockets.to_string()]);
        arguments.extend(["--listen".to_owned(), listen.to_string()]);
        let room = send_buffer.map(|bytes| ["--send-buffer".to_owned(), bytes.to_string()]);
        arguments.extend(room.into_iter().flatten());
        arguments
    }

    /// Sends until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        ensure!(self.sockets > 0, "nobody to send to");
        // As our server listens: without pacing on the loopback.
        let listener = sluicegate::listen(self.listen).context("cannot listen")?;
        let address = sluicegate::os::local_address(&listener)?.unwrap_or(self.listen);
        println!("listening on {address}");
        match self.way {
            Spread::Copy | Spread::Reference => bare::serve(&listener, *self),
            _ => ours::serve(listener, *self),
        }
    }

    fn widen(&self, socket: &OwnedFd) -> Result<()> {
        let Some(bytes) = self.send_buffer else { return Ok(()) };
        set_socket_send_buffer_size_force(socket, bytes).context("no room for a stalled reader")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::ring::{Checker, Compare};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::os::fd::AsFd;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn every_reader_gets_the_same_whole_stream_in_every_way() {
        const READERS: usize = 10;
        for way in Spread::ALL {
            let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = sluicegate::os::local_address(&listener.as_fd()).unwrap().unwrap();
            let floor = FanOutFloor { way, sockets: READERS, send_buffer: None, listen: address };
            // The thread ends with the process of the tests.
            thread::spawn(move || match way {
                Spread::Copy | Spread::Reference => bare::serve(&listener, floor),
                _ => ours::serve(listener, floor),
            });
            let mut streams: Vec<_> =
                (0..READERS).map(|_| TcpStream::connect(address).unwrap()).collect();
            let partitions = 3 * (RING / PARTITION);
            streams[0].write_all(&(partitions as u64).to_le_bytes()).unwrap();
            let readers = streams.into_iter().map(|stream| thread::spawn(|| read(stream)));
            for reader in readers.collect::<Vec<_>>() {
                assert_eq!(reader.join().unwrap(), 0, "{way}");
            }
        }

        /// Returns how many pages were wrong of three rings.
        fn read(mut stream: TcpStream) -> u64 {
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut checker = Checker::new(Compare::Whole);
            let mut buffer = vec![0; 100_000];
            while checker.position() < 3 * RING as u64 {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "it ended early");
                checker.update(&buffer[..count]);
            }
            checker.wrong()
        }
    }
}
