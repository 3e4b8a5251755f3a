//! The receiving end: downloads one after another, each checked, each timed.

use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use hdrhistogram::Histogram;
use memchr::memmem;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::protocol::{Download, Downloaded, LONGEST, Stall};
use crate::client::{Answer, Latency};
use crate::harness::clock::{HANDED, monotonic_ns};
use crate::harness::interrupt;

/// What is received at a time, as by [`crate::client`].
const BUFFER: usize = 256 << 10;

/// A server that says nothing for so long is dead. (One that blocks until its last byte is
/// acknowledged may need the peer's delayed acknowledgement, 40 ms, now and then.)
const SILENCE: Duration = Duration::from_secs(20);

/// How long one wait for the socket takes at most.
const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);

/// One connection, and the answer that is expected on it.
pub(super) struct Receiver {
    stream: TcpStream,
    request: Vec<u8>,
    answer: Answer,
    buffer: Vec<u8>,
    spins: bool,
}

/// When things happened, in nanoseconds.
struct Times {
    first: u64,
    whole: u64,
    /// From the server's beginning to the first byte.
    since_handed: Option<u64>,
}

impl Receiver {
    /// Connects, and downloads without counting.
    pub(super) fn prepare(order: &Download) -> Result<Self> {
        let stream = connect(order.address)?;
        stream.set_nodelay(true)?;
        stream.set_nonblocking(true)?;
        let mut receiver = Self {
            stream,
            request: request(&order.path, order.address),
            answer: Answer::new(order.length, order.seed, order.check),
            buffer: vec![0; BUFFER],
            spins: order.spins,
        };
        let deadline = Instant::now() + LONGEST;
        for _ in 0..order.warm_up {
            receiver.download(deadline)?;
        }
        Ok(receiver)
    }

    /// Downloads for the time of the order, once at least.
    pub(super) fn run(&mut self, order: &Download) -> Result<Downloaded> {
        let (mut first, mut whole, mut handed) =
            (Histogram::new(3)?, Histogram::new(3)?, Histogram::<u64>::new(3)?);
        let start = Instant::now();
        let end = start + Duration::from_millis(order.for_ms);
        let deadline = start + LONGEST;
        let mut now = start;
        loop {
            let times = self.download(deadline)?;
            first.record(times.first)?;
            whole.record(times.whole)?;
            if let Some(since) = times.since_handed {
                handed.record(since)?;
            }
            now = now.max(Instant::now());
            if now >= end {
                break;
            }
        }
        Ok(Downloaded {
            window_s: (now - start).as_secs_f64(),
            downloads: whole.len(),
            first_us: Latency::of(&first),
            whole_us: Latency::of(&whole),
            since_handed_us: (!handed.is_empty()).then(|| Latency::of(&handed)),
        })
    }

    fn download(&mut self, deadline: Instant) -> Result<Times> {
        let asked = Instant::now();
        send(&self.stream, &self.request)?;
        let mut first = None;
        let mut since_handed = None;
        loop {
            let received = self.receive(deadline)?;
            let data = &self.buffer[..received];
            if first.is_none() {
                let arrived = monotonic_ns();
                first = Some(nanoseconds(asked)?);
                since_handed = handed(data).map(|began| arrived.saturating_sub(began));
            }
            if self.answer.take(data)? {
                let whole = nanoseconds(asked)?;
                return Ok(Times { first: first.unwrap_or(whole), whole, since_handed });
            }
        }
    }

    /// Everything is copied out of the kernel, as every real client does.
    fn receive(&mut self, deadline: Instant) -> Result<usize> {
        let mut silent = None;
        let mut spins = 0_u32;
        loop {
            match recv(&self.stream, &mut self.buffer[..], RecvFlags::empty()) {
                Ok((_, 0)) => bail!("the server closed a connection"),
                Ok((_, received)) => return Ok(received),
                Err(Errno::AGAIN) => {}
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("cannot receive"),
            }
            spins = spins.wrapping_add(1);
            if !self.spins || spins.is_multiple_of(1 << 12) {
                let since = *silent.get_or_insert_with(Instant::now);
                ensure!(since.elapsed() < SILENCE, "no answer for {SILENCE:?}");
                ensure!(Instant::now() < deadline, "not done within {LONGEST:?}");
                interrupt::check()?;
            }
            if !self.spins {
                let mut fds = [PollFd::new(&self.stream, PollFlags::IN)];
                match poll(&mut fds, Some(&PATIENCE)) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error).context("cannot wait"),
                }
            }
        }
    }
}

/// Asks, reads nothing, and waits until the server ends the connection.
pub(super) fn stall(order: &Stall) -> Result<()> {
    let stream = connect(order.address)?;
    send(&stream, &request(&order.path, order.address))?;
    let limit = Duration::from_millis(order.limit_ms).min(LONGEST);
    let deadline = Instant::now() + limit;
    loop {
        interrupt::check()?;
        // Asked for nothing, it tells of errors and of the end alone.
        let mut fds = [PollFd::new(&stream, PollFlags::empty())];
        match poll(&mut fds, Some(&PATIENCE)) {
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(()),
            Err(error) => return Err(error).context("cannot wait"),
        }
        ensure!(Instant::now() < deadline, "the server did not end it within {limit:?}");
    }
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    TcpStream::connect_timeout(&address, CONNECT)
        .with_context(|| format!("cannot connect to {address}"))
}

fn request(path: &str, host: SocketAddr) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sluicegate-bench/0.1\r\n\r\n")
        .into_bytes()
}

/// Sends a request, which always fits into an idle connection's buffer.
fn send(mut stream: &TcpStream, request: &[u8]) -> Result<()> {
    let sent = stream.write(request).context("cannot send a request")?;
    ensure!(sent == request.len(), "a request did not fit into the socket");
    Ok(())
}

fn nanoseconds(since: Instant) -> Result<u64> {
    Ok(u64::try_from(since.elapsed().as_nanos())?)
}

/// When the server says it began, if it does.
fn handed(data: &[u8]) -> Option<u64> {
    let head = &data[..memmem::find(data, b"\r\n\r\n")?];
    let value = &head[memmem::find(head, HANDED.as_bytes())? + HANDED.len()..];
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moment_of_the_hand_over_is_read_out_of_the_head() {
        let head = format!("HTTP/1.1 200 OK\r\n{HANDED}1234567890123\r\nA: 1\r\n\r\nbody");
        assert_eq!(handed(head.as_bytes()), Some(1_234_567_890_123));
        assert_eq!(handed(b"HTTP/1.1 200 OK\r\n\r\nHanded: 5\r\n\r\n"), None);
        assert_eq!(handed(b"HTTP/1.1 200 OK\r\nHan"), None);
    }
}
