//! The senders' processes, and the readers of what they send.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_testkit::process::Child;

use crate::experiment::session::SERVER_CPU;
use crate::floor::ring::{Account, Checker, Compare, PAGE};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::{await_line, own_path, pinned};

/// What is received at a time: what the closed loop's client takes.
const BUFFER: usize = 256 << 10;

/// How long a sender may take to start, and a connection to be made.
const SOON: Duration = Duration::from_secs(20);

/// A sender that sends nothing for so long is stuck.
const SILENCE: Duration = Duration::from_secs(30);

/// Between two looks whether the user has interrupted it.
const TURN: Duration = Duration::from_millis(100);

/// What a sender says first; its address follows.
const LISTENING: &str = "listening on ";

/// A sender at the server's side of a network, on the server's core.
#[derive(Debug)]
pub(in crate::experiment) struct Sender {
    child: Child,
    pub(in crate::experiment) address: SocketAddr,
}

impl Sender {
    /// Starts one with the arguments that `of` makes of the address to listen on.
    pub(in crate::experiment) fn start(
        network: &Network,
        of: impl FnOnce(SocketAddr) -> Vec<String>,
    ) -> Result<Self> {
        let side = network.server();
        let mut command = pinned(side, SERVER_CPU, &own_path()?)?;
        command.args(of(SocketAddr::new(side.address(), 0)));
        let mut child = Child::spawn(command)?;
        let line = await_line(&mut child, SOON, |line| line.starts_with(LISTENING))?;
        let address = line[LISTENING.len()..].parse().context("a sender with no address")?;
        Ok(Self { child, address })
    }

    pub(in crate::experiment) fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// What it tells of the order that it has just carried out.
    pub(in crate::experiment) fn account(&mut self) -> Result<Account> {
        let line = await_line(&mut self.child, SILENCE, |line| line.starts_with('{'))?;
        serde_json::from_str(&line).with_context(|| format!("cannot understand {line}"))
    }

    /// What to say when it has failed.
    pub(in crate::experiment) fn void(&self) -> String {
        format!("the run is void: a sender failed; it says:\n{}", self.child.output())
    }
}

/// Readers of one stream each, all of them on the calling thread.
#[derive(Debug)]
pub(in crate::experiment) struct Readers {
    readers: Vec<(TcpStream, Checker)>,
    epoll: Epoll,
    events: Events,
    /// Those whose sockets were not empty when they were last read.
    unread: VecDeque<usize>,
    buffer: Vec<u8>,
}

impl Readers {
    /// So many connections from the client's side of a network. A sender that waits for all of them
    /// takes them in this order.
    pub(in crate::experiment) fn connect(
        network: &Network,
        sender: &Sender,
        count: usize,
    ) -> Result<Self> {
        let epoll = Epoll::new()?;
        let connect = || TcpStream::connect_timeout(&sender.address, SOON);
        let streams: std::io::Result<Vec<TcpStream>> =
            network.client().enter(|| (0..count).map(|_| connect()).collect())?;
        let mut readers = Vec::with_capacity(count);
        for (key, stream) in streams.context("cannot connect to a sender")?.into_iter().enumerate()
        {
            stream.set_nonblocking(true)?;
            epoll.add(stream.as_fd(), key as u64, Interest::Read)?;
            readers.push((stream, Checker::new(Compare::Stamps)));
        }
        let (events, unread) = (Events::with_capacity(count), VecDeque::new());
        Ok(Self { readers, epoll, events, unread, buffer: vec![0; BUFFER] })
    }

    /// From now on so much is compared.
    pub(in crate::experiment) fn compare(&mut self, compare: Compare) {
        self.readers.iter_mut().for_each(|(_, checker)| checker.compare(compare));
    }

    /// Gives an order, on the first connection.
    pub(in crate::experiment) fn order(&mut self, order: u64) -> Result<()> {
        let (stream, _) = self.readers.first_mut().context("nobody reads")?;
        let bytes = order.to_le_bytes();
        ensure!(stream.write(&bytes)? == bytes.len(), "an order did not fit into the socket");
        Ok(())
    }

    /// Receives so many bytes more on each connection; returns how many that were in all.
    pub(in crate::experiment) fn receive(&mut self, bytes: u64) -> Result<u64> {
        let goal = |checker: &Checker| checker.position() + bytes;
        let goals: Vec<u64> = self.readers.iter().map(|(_, checker)| goal(checker)).collect();
        let total = bytes * goals.len() as u64;
        let mut left = total;
        let mut heard = Instant::now();
        while left > 0 {
            let patience = if self.unread.is_empty() { TURN } else { Duration::ZERO };
            match self.epoll.wait(&mut self.events, Some(patience)) {
                Ok(0) if self.unread.is_empty() => {
                    interrupt::check()?;
                    ensure!(heard.elapsed() < SILENCE, "nothing was sent for {SILENCE:?}");
                    continue;
                }
                Ok(_) => heard = Instant::now(),
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error).context("cannot wait"),
            }
            self.unread.extend(self.events.iter().map(|(key, _)| key as usize));
            // One receive for each: no connection starves behind a fast one.
            for _ in 0..self.unread.len() {
                let Some(key) = self.unread.pop_front() else { break };
                let count = self.receive_once(key)?;
                left = left.checked_sub(count as u64).context("more was sent than asked for")?;
                // A short read has emptied the socket, and what comes then makes a new edge.
                if count == self.buffer.len() {
                    self.unread.push_back(key);
                }
            }
        }
        for ((_, checker), goal) in self.readers.iter().zip(goals) {
            ensure!(checker.position() == goal, "a reader has what another one was to get");
        }
        Ok(total)
    }

    fn receive_once(&mut self, key: usize) -> Result<usize> {
        let (stream, checker) = self.readers.get_mut(key).context("an event of nobody's")?;
        loop {
            match stream.read(&mut self.buffer) {
                Ok(0) => anyhow::bail!("the stream has ended"),
                Ok(count) => {
                    checker.update(&self.buffer[..count]);
                    return Ok(count);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(0),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context("cannot receive"),
            }
        }
    }

    /// Bytes of pages that were wrong, of all streams.
    pub(in crate::experiment) fn wrong(&self) -> u64 {
        self.readers.iter().map(|(_, checker)| checker.wrong() * PAGE as u64).sum()
    }
}
