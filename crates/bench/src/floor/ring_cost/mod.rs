//! One stream through a ring of memory that is written anew for each partition: four bare loops
//! that each know one way, and the library's ring. See [`super::ring`] for what is said.

mod bare;
mod ours;

use std::fmt::{self, Display};
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use serde::Serialize;

use super::ring::TEMPLATE;

/// How a partition is sent, and when it is written again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Reuse {
    /// `send`, and at once: the kernel has a copy.
    Copy,
    /// MSG_ZEROCOPY, and when the kernel reports that it has let go.
    Zerocopy,
    /// `sendfile`, and at once: with fresh pages.
    Replaced,
    /// `sendfile`, and in place when all is acknowledged. Wrong where the wire shares pages.
    Acked,
    /// The library's ring, as it chooses.
    Ours,
}

impl Reuse {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [Self; 5] =
        [Self::Copy, Self::Zerocopy, Self::Replaced, Self::Acked, Self::Ours];
}

impl Display for Reuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Copy => "copy",
            Self::Zerocopy => "zerocopy",
            Self::Replaced => "replaced",
            Self::Acked => "acked",
            Self::Ours => "ours",
        })
    }
}

/// The command line of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(crate) struct RingFloor {
    #[arg(value_enum)]
    pub(crate) way: Reuse,
    /// Bytes of the ring.
    #[arg(long)]
    pub(crate) size: usize,
    /// Bytes of a partition.
    #[arg(long)]
    pub(crate) partition: usize,
    /// It is known that the reader is on another host.
    #[arg(long)]
    pub(crate) remote: bool,
    #[arg(long)]
    pub(crate) listen: SocketAddr,
}

impl RingFloor {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(self) -> Vec<String> {
        let Self { way, size, partition, remote, listen } = self;
        let mut arguments = vec!["ring-floor".to_owned(), way.to_string()];
        arguments.extend(["--size".to_owned(), size.to_string()]);
        arguments.extend(["--partition".to_owned(), partition.to_string()]);
        arguments.extend(["--listen".to_owned(), listen.to_string()]);
        arguments.extend(remote.then(|| "--remote".to_owned()));
        arguments
    }

    /// Sends until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        let Self { size, partition, .. } = *self;
        ensure!(partition > 0 && partition.is_multiple_of(TEMPLATE), "a partition of templates");
        ensure!(size > 0 && size.is_multiple_of(partition), "a ring of whole partitions");
        // As our server listens: without pacing on the loopback.
        let listener = sluicegate::listen(self.listen).context("cannot listen")?;
        let address = sluicegate::os::local_address(&listener)?.unwrap_or(self.listen);
        println!("listening on {address}");
        match self.way {
            Reuse::Ours => ours::serve(listener, *self),
            _ => bare::serve(&listener, *self),
        }
    }

    /// Places of [`TEMPLATE`] bytes in a partition.
    fn templates(&self) -> u64 {
        (self.partition / TEMPLATE) as u64
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

    /// Two orders of twice the ring each; returns how many pages were wrong.
    fn read(way: Reuse, partition: usize) -> u64 {
        let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = sluicegate::os::local_address(&listener.as_fd()).unwrap().unwrap();
        let floor = RingFloor { way, size: 1 << 20, partition, remote: false, listen: address };
        // The thread ends with the process of the tests.
        thread::spawn(move || match way {
            Reuse::Ours => ours::serve(listener, floor),
            _ => bare::serve(&listener, floor),
        });
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut checker = Checker::new(Compare::Whole);
        let mut buffer = vec![0; 256 << 10];
        for total in [2 << 20, 4 << 20] {
            let order = (2 << 20) / partition as u64;
            stream.write_all(&order.to_le_bytes()).unwrap();
            while checker.position() < total {
                let count = stream.read(&mut buffer).unwrap();
                assert!(count > 0, "{way} ended early");
                checker.update(&buffer[..count]);
            }
            assert_eq!(checker.position(), total);
        }
        checker.wrong()
    }

    #[test]
    fn every_way_that_is_right_on_the_loopback_sends_what_was_written() {
        for way in Reuse::ALL.into_iter().filter(|&way| way != Reuse::Acked) {
            for partition in [64 << 10, 1 << 20] {
                assert_eq!(read(way, partition), 0, "{way} {partition}");
            }
        }
    }

    #[test]
    fn the_way_that_may_be_wrong_sends_as_much() {
        read(Reuse::Acked, 64 << 10);
    }
}
