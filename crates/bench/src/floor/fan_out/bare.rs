//! Blocking calls to one socket after the other.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, ensure};
use rustix::io::ioctl_fionbio;
use sluicegate_sys::pages::Pages;
use sluicegate_sys::socket;

use super::{FanOutFloor, PARTITION, RING, Spread};
use crate::floor::ring::{Account, ORDER, OVERWRITE, Stamped, order};

/// Serves one crowd after another from one ring.
pub(super) fn serve(listener: &OwnedFd, floor: FanOutFloor) -> Result<()> {
    ioctl_fionbio(listener, false)?;
    let parts = Pages::in_memory(PARTITION, RING / PARTITION).context("no file in memory")?;
    let mut ring = Ring { parts, next: 0, refers: floor.way == Spread::Reference };
    loop {
        let mut streams = Vec::with_capacity(floor.sockets);
        for _ in 0..floor.sockets {
            let (fd, _) = socket::accept(listener.as_fd()).context("cannot accept")?;
            socket::set_nodelay(fd.as_fd())?;
            ioctl_fionbio(&fd, false)?;
            floor.widen(&fd)?;
            streams.push(TcpStream::from(fd));
        }
        if let Err(error) = crowd(&streams, &mut ring) {
            eprintln!("{error:#}");
        }
    }
}

/// A ring that is gone through from its first partition to its last, again and again.
struct Ring {
    parts: Vec<Pages>,
    next: usize,
    /// What was sent refers to the pages.
    refers: bool,
}

fn crowd(streams: &[TcpStream], ring: &mut Ring) -> Result<()> {
    let mut stamped = Stamped::new();
    let mut template = 0;
    let mut bytes = [0; ORDER];
    loop {
        match (&streams[0]).read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let (partitions, is_sent) = match order(&bytes).context("no order")? {
            OVERWRITE => (ring.parts.len() as u64, false),
            partitions => (partitions, true),
        };
        for _ in 0..partitions {
            let part = ring.write(stamped.at(template))?;
            if is_sent {
                for stream in streams {
                    ring.send(part, stream)?;
                }
            }
            template += 1;
        }
        let bytes = if is_sent { partitions * (PARTITION * streams.len()) as u64 } else { 0 };
        let (bytes_copied, bytes_sendfile) = if ring.refers { (0, bytes) } else { (bytes, 0) };
        Account { partitions, bytes_copied, bytes_sendfile, ..Account::default() }.tell()?;
    }
}

impl Ring {
    /// Writes the next partition, and tells which one that is.
    fn write(&mut self, contents: &[u8]) -> Result<usize> {
        let index = self.next;
        self.next = (index + 1) % self.parts.len();
        let part = &mut self.parts[index];
        if self.refers {
            part.replace()?;
            part.write_at(0, contents)?;
        } else {
            part.as_mut().copy_from_slice(contents);
        }
        Ok(index)
    }

    /// Blocks until the kernel has accepted all of it.
    fn send(&self, part: usize, stream: &TcpStream) -> Result<()> {
        let part = &self.parts[part];
        let mut at = 0;
        while at < part.len() {
            let taken = if self.refers {
                part.sendfile(stream.as_fd(), at, part.len() - at)
            } else {
                socket::send(stream.as_fd(), &part.as_ref()[at..], false)
            };
            match taken {
                Ok(count) => {
                    ensure!(count > 0, "the ring's memory has become shorter");
                    at += count;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sending"),
            }
        }
        Ok(())
    }
}
