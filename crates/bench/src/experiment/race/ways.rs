//! The ways to reuse a ring's memory: three that believe something, and ours.

use std::collections::VecDeque;
use std::fmt::{self, Display};
use std::io::{ErrorKind, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::set_socket_send_buffer_size_force;
use serde::{Deserialize, Serialize};
use sluicegate_sys::outq;
use sluicegate_sys::sendfile::sendfile;

use super::backing::{Backing, Memory};
use super::{HEAD, PARTITION, RING};
use crate::experiment::race::content::fill;

/// Room in the socket for several rings: who sends by reference fills it with references to the
/// same megabyte, and that is the race. The kernel doubles it, and left to itself reaches a similar
/// size on a fast path (`tcp_wmem`: 4 MiB).
const SEND_BUFFER: usize = 4 << 20;

/// A peer that takes nothing for so long has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at what is acknowledged.
const LOOK: Duration = Duration::from_micros(50);

/// When memory is overwritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Way {
    /// (a): as soon as `sendfile` has accepted it.
    AtOnce,
    /// (a′): so many milliseconds after that.
    Waiting(u64),
    /// (b): when SIOCOUTQ says that it is acknowledged.
    Acked,
    /// (c): with one of the ring's four proofs.
    Ours,
}

impl Way {
    pub(super) const ALL: [Self; 6] = [
        Self::AtOnce,
        Self::Waiting(1),
        Self::Waiting(10),
        Self::Waiting(100),
        Self::Acked,
        Self::Ours,
    ];

    /// By its name in an argument.
    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|way| way.argument() == name)
    }

    /// Its name in an argument.
    pub(super) fn argument(self) -> String {
        match self {
            Self::AtOnce => "at-once".to_owned(),
            Self::Waiting(ms) => format!("after-{ms}-ms"),
            Self::Acked => "after-ack".to_owned(),
            Self::Ours => "ring".to_owned(),
        }
    }
}

impl Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::AtOnce => "(a) at once".to_owned(),
            Self::Waiting(ms) => format!("(a′) {ms} ms"),
            Self::Acked => "(b) acked".to_owned(),
            Self::Ours => "(c) ring".to_owned(),
        })
    }
}

/// Makes room in a sender's socket, the same for all ways. Only root may; what others may ask for
/// (`wmem_max`) is mostly less than the kernel gives by itself.
pub(super) fn widen(stream: &TcpStream) -> Result<()> {
    let _ = set_socket_send_buffer_size_force(stream, SEND_BUFFER);
    stream.set_nodelay(true)?;
    Ok(stream.set_write_timeout(Some(PATIENCE))?)
}

/// A writer with a ring of its own, cyclic, that reuses memory by `way`; not for [`Way::Ours`].
#[derive(Debug)]
pub(super) struct Writer<'a> {
    stream: &'a TcpStream,
    memory: Memory,
    /// Bytes that are rewritten together.
    unit: usize,
    way: Way,
    accepted: u64,
    /// Units that were accepted and not overwritten since, the oldest first: when, and where in the
    /// stream they end.
    used: VecDeque<(Instant, u64)>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(stream: &'a TcpStream, memory: Memory, on: Backing, way: Way) -> Self {
        let (accepted, used) = Default::default();
        Self { stream, memory, unit: on.unit(), way, accepted, used }
    }

    /// Sends so many bytes through the ring, behind a head that is none of it, and says that this
    /// was all.
    pub(super) fn send(mut self, length: u64) -> Result<()> {
        let mut head = vec![0; HEAD];
        fill(0, &mut head);
        self.stream.write_all(&head).context("the head cannot be sent")?;
        self.accepted = HEAD as u64;
        let units = RING / self.unit;
        let mut scratch = vec![0; self.unit];
        for n in 0..length / self.unit as u64 {
            if self.used.len() == units {
                self.wait()?;
            }
            let at = (n % units as u64) as usize * self.unit;
            // Made elsewhere, so that it is the overwriting that is quick and not the making.
            fill(self.accepted, &mut scratch);
            self.memory.write(at, &scratch)?;
            for partition in (at..at + self.unit).step_by(PARTITION) {
                self.hand_over(partition)?;
            }
            self.used.push_back((Instant::now(), self.accepted));
        }
        self.stream.shutdown(std::net::Shutdown::Write).context("the reader has gone")
    }

    /// Blocks until the kernel has accepted a partition.
    fn hand_over(&mut self, partition: usize) -> Result<()> {
        let mut sent = 0;
        while sent < PARTITION {
            let at = (partition + sent) as u64;
            match sendfile(self.stream.as_fd(), self.memory.as_fd(), at, PARTITION - sent) {
                Ok(0) => bail!("the ring's memory has become shorter"),
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("sendfile"),
            }
        }
        self.accepted += PARTITION as u64;
        Ok(())
    }

    /// Until the oldest unit may be overwritten, as the way believes.
    fn wait(&mut self) -> Result<()> {
        let Some((since, end)) = self.used.pop_front() else { return Ok(()) };
        match self.way {
            Way::AtOnce => {}
            Way::Waiting(ms) => {
                let until = since + Duration::from_millis(ms);
                thread::sleep(until.saturating_duration_since(Instant::now()));
            }
            Way::Acked => {
                let deadline = Instant::now() + PATIENCE;
                while self.accepted - outq::unacknowledged(self.stream.as_fd())? < end {
                    if Instant::now() > deadline {
                        bail!("the reader's TCP acknowledges nothing");
                    }
                    thread::sleep(LOOK);
                }
            }
            Way::Ours => bail!("the ring's proofs are not to be had by hand"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ways_are_found_by_their_names() {
        for way in Way::ALL {
            assert_eq!(Way::by_name(&way.argument()), Some(way));
        }
        assert_eq!(Way::by_name("by-luck"), None);
    }
}
