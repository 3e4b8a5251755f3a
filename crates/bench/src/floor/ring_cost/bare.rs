//! Blocking calls, one way each.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice, Read};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::ioctl_fionbio;
use sluicegate_sys::errqueue::{self, Entry};
use sluicegate_sys::pages::Pages;
use sluicegate_sys::{outq, socket, zerocopy};

use super::{Reuse, RingFloor};
use crate::floor::ring::{Account, ORDER, Stamped, TEMPLATE, order};

/// Between two looks at what is acknowledged.
const LOOK: Duration = Duration::from_micros(100);

/// A reader that lets nothing go for so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Serves one connection after another from one ring.
pub(super) fn serve(listener: &OwnedFd, floor: RingFloor) -> Result<()> {
    ioctl_fionbio(listener, false)?;
    let parts = Pages::in_memory(floor.partition, floor.size / floor.partition)
        .context("no file in memory")?;
    let mut ring = Ring { floor, parts, next: 0, stamped: Stamped::new() };
    loop {
        let (fd, _) = socket::accept(listener.as_fd()).context("cannot accept")?;
        socket::set_nodelay(fd.as_fd())?;
        ioctl_fionbio(&fd, false)?;
        if floor.way == Reuse::Zerocopy {
            zerocopy::allow(fd.as_fd()).context("no MSG_ZEROCOPY")?;
        }
        if let Err(error) = connection(&fd.into(), &mut ring) {
            eprintln!("{error:#}");
        }
    }
}

/// A ring that is gone through from its first partition to its last, again and again.
struct Ring {
    floor: RingFloor,
    parts: Vec<Pages>,
    next: usize,
    stamped: Stamped,
}

fn connection(mut stream: &TcpStream, ring: &mut Ring) -> Result<()> {
    let mut sent = Sent::new(stream);
    let mut bytes = [0; ORDER];
    loop {
        match stream.read_exact(&mut bytes) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(()),
            read => read?,
        }
        let partitions = order(&bytes).context("no order")?;
        for _ in 0..partitions {
            if sent.used.len() == ring.parts.len() {
                sent.free_one(ring.floor.way)?;
            }
            ring.write(&sent)?;
            sent.send(ring)?;
        }
        while !sent.used.is_empty() {
            sent.free_one(ring.floor.way)?;
        }
        Account { partitions, ..Account::default() }.tell()?;
    }
}

impl Ring {
    /// Writes the next partition, in the way that costs least.
    fn write(&mut self, sent: &Sent<'_>) -> Result<()> {
        let part = &mut self.parts[self.next];
        let is_replaced = self.floor.way == Reuse::Replaced;
        if is_replaced {
            part.replace()?;
        }
        let first = sent.partitions * self.floor.templates();
        for (at, n) in (0..self.floor.partition).step_by(TEMPLATE).zip(first..) {
            let contents = self.stamped.at(n);
            if is_replaced {
                part.write_at(at, contents)?;
            } else {
                part.as_mut()[at..at + TEMPLATE].copy_from_slice(contents);
            }
        }
        Ok(())
    }
}

/// What was sent on one connection.
struct Sent<'a> {
    stream: &'a TcpStream,
    partitions: u64,
    accepted: u64,
    /// Of partitions that may not be written yet: the position, or the number of the call, behind
    /// them.
    used: VecDeque<u64>,
    /// Calls with MSG_ZEROCOPY from the first one on that is not released: whether it is. The
    /// kernel may report them out of order.
    released: VecDeque<bool>,
    first: u64,
}

impl<'a> Sent<'a> {
    fn new(stream: &'a TcpStream) -> Self {
        let (partitions, accepted, used, released, first) = Default::default();
        Self { stream, partitions, accepted, used, released, first }
    }

    /// Blocks until the kernel has accepted the next partition.
    fn send(&mut self, ring: &mut Ring) -> Result<()> {
        let part = &ring.parts[ring.next];
        ring.next = (ring.next + 1) % ring.parts.len();
        let fd = self.stream.as_fd();
        let mut at = 0;
        while at < part.len() {
            let rest = &part.as_ref()[at..];
            let taken = match ring.floor.way {
                Reuse::Copy | Reuse::Ours => socket::send(fd, rest, false),
                Reuse::Zerocopy => zerocopy::send(fd, &[IoSlice::new(rest)], false),
                Reuse::Replaced | Reuse::Acked => part.sendfile(fd, at, rest.len()),
            };
            match taken {
                Ok(count) => {
                    ensure!(count > 0, "the ring's memory has become shorter");
                    at += count;
                    if ring.floor.way == Reuse::Zerocopy {
                        self.released.push_back(false);
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if zerocopy::is_exhausted(&error) => self.await_report()?,
                Err(error) => return Err(error).context("sending"),
            }
        }
        self.partitions += 1;
        self.accepted += part.len() as u64;
        match ring.floor.way {
            Reuse::Acked => self.used.push_back(self.accepted),
            Reuse::Zerocopy => self.used.push_back(self.first + self.released.len() as u64),
            Reuse::Copy | Reuse::Replaced | Reuse::Ours => {}
        }
        Ok(())
    }

    /// Waits until the oldest partition may be written again, and takes note of all that may.
    fn free_one(&mut self, way: Reuse) -> Result<()> {
        let Some(&oldest) = self.used.front() else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        let done = loop {
            let done = match way {
                Reuse::Acked => self.accepted - outq::unacknowledged(self.stream.as_fd())?,
                _ => {
                    self.take_reports()?;
                    self.first
                }
            };
            if done >= oldest {
                break done;
            }
            ensure!(Instant::now() < deadline, "the reader lets nothing go");
            match way {
                Reuse::Acked => thread::sleep(LOOK),
                _ => self.await_report()?,
            }
        };
        while self.used.front().is_some_and(|&end| end <= done) {
            self.used.pop_front();
        }
        Ok(())
    }

    /// Blocks until there is a report.
    fn await_report(&mut self) -> Result<()> {
        // The error queue alone: it is reported whether one asks for it or not.
        let mut fds = [PollFd::new(self.stream, PollFlags::empty())];
        let limit = Timespec { tv_sec: 30, tv_nsec: 0 };
        ensure!(poll(&mut fds, Some(&limit))? > 0, "the kernel reports nothing");
        self.take_reports()
    }

    fn take_reports(&mut self) -> Result<()> {
        while let Some(entry) = errqueue::next(self.stream.as_fd())? {
            let Entry::Released { first, last, .. } = entry else { continue };
            // No stream here makes 2³² calls.
            for call in u64::from(first)..=u64::from(last) {
                let at = call.checked_sub(self.first).context("released twice")?;
                let found = self.released.get_mut(at as usize).context("a call that was not")?;
                *found = true;
            }
            while self.released.front() == Some(&true) {
                self.released.pop_front();
                self.first += 1;
            }
        }
        Ok(())
    }
}
