//! One download.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, connect, recv, socket_with};

use super::super::{Answer, send};
use super::tally::Tally;
use super::{Download, Paced, SAVED};
use crate::harness::clock::monotonic_ns;

/// A download that is under way.
pub(super) struct Reader {
    stream: TcpStream,
    content: Content,
    began: u64,
    first: Option<u64>,
    /// The last turn in which it received, and the time up to which it has used its rate.
    heard: Instant,
    used: Instant,
}

enum Content {
    /// Must be right.
    Right(Answer),
    /// What is wrong is counted.
    Any(Tally),
}

impl Reader {
    /// Connects and asks. The receive buffer is chosen before: it decides what is announced.
    pub(super) fn open(plan: &Paced) -> Result<Self> {
        let resource = &plan.resource;
        let family = match resource.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        if let Some(bytes) = plan.receive_buffer {
            set_socket_recv_buffer_size(&socket, bytes)?;
        }
        connect(&socket, &resource.address)
            .with_context(|| format!("cannot connect to {}", resource.address))?;
        let stream = TcpStream::from(socket);
        let began = monotonic_ns();
        let mut request = resource.request(&resource.path);
        if plan.endless {
            let text = String::from_utf8_lossy(&request).replacen("HTTP/1.1", "HTTP/1.0", 1);
            request = text.into_bytes();
        }
        send(&stream, &request)?;
        let now = Instant::now();
        let content = if plan.tallies {
            Content::Any(Tally::new(resource.length, resource.seed))
        } else {
            Content::Right(Answer::new(resource.length, resource.seed, plan.check))
        };
        if plan.rate.is_none() {
            stream.set_read_timeout(Some(Duration::from_secs(plan.silence)))?;
        }
        Ok(Self { stream, content, began, first: None, heard: now, used: now })
    }

    /// Receives what the rate allows, into `buffer`; returns whether that completed it.
    pub(super) fn turn(&mut self, plan: &Paced, buffer: &mut [u8]) -> Result<bool> {
        let (mut room, mut flags) = (buffer.len(), RecvFlags::empty());
        let now = Instant::now();
        if let Some(rate) = plan.rate {
            // What is older is lost.
            self.used = self.used.max(now.checked_sub(SAVED).unwrap_or(self.used));
            let allowed = (now - self.used).as_secs_f64() * rate as f64;
            room = room.min(allowed as usize);
            flags = RecvFlags::DONTWAIT;
        }
        if room == 0 {
            return Ok(false);
        }
        let received = match recv(&self.stream, &mut buffer[..room], flags) {
            Ok((_, 0)) => bail!("the server closed a connection within an answer"),
            Ok((_, received)) => received,
            Err(Errno::AGAIN | Errno::INTR) => {
                let silence = Duration::from_secs(plan.silence);
                ensure!(now - self.heard < silence, "nothing came for {silence:?}");
                return Ok(false);
            }
            Err(error) => return Err(error).context("cannot receive"),
        };
        self.heard = Instant::now();
        self.first.get_or_insert_with(monotonic_ns);
        if let Some(rate) = plan.rate {
            self.used += Duration::from_secs_f64(received as f64 / rate as f64);
        }
        match &mut self.content {
            Content::Right(answer) => answer.take(&buffer[..received]),
            Content::Any(tally) => tally.take(&buffer[..received]),
        }
    }

    /// Bytes of the body so far.
    pub(super) fn received(&self) -> u64 {
        match &self.content {
            Content::Right(answer) => answer.received(),
            Content::Any(tally) => tally.received,
        }
    }

    /// What became of it.
    pub(super) fn end(self, is_whole: bool, ended: u64) -> Download {
        let (received, wrong) = match &self.content {
            Content::Right(answer) if is_whole => (answer.length(), 0),
            Content::Right(answer) => (answer.received(), 0),
            Content::Any(tally) => (tally.received, tally.wrong),
        };
        let began = self.began;
        let first_ms = (self.first.unwrap_or(ended) - began) as f64 / 1e6;
        Download { began, ended, first_ms, is_whole, received, wrong }
    }
}
