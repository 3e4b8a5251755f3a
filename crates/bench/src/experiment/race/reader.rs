//! The slow reader: it reads in bursts, rests between them, and now and then reads nothing for a
//! quarter of a second, so that what the kernel has accepted waits for it.

use std::io::{ErrorKind, Read};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

use super::content::{Got, Tally};

/// Read at a time.
const BUFFER: usize = 256 << 10;

/// Bytes of a burst: as many as wait, so that the queue is empty, then full.
const BURST: u64 = 4 << 20;

/// Between bursts. Four MiB each 10 ms bound the stream to 400 MiB/s: 4 GiB take 10 s of rests.
const REST: Duration = Duration::from_millis(10);

/// Longer than the longest time that a writer waits by itself (100 ms), twice over.
const PAUSE: Duration = Duration::from_millis(250);

/// Who has received nothing for so long gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// Room for bytes that the reader has not read: several rings, so that what was acknowledged can be
/// overwritten while it waits. The kernel doubles it. (Left to itself the kernel gives a slow reader
/// less, and then (b) looks safe where it is not.)
const RECEIVE_BUFFER: usize = 4 << 20;

/// How slow a reader is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Bytes that the stream has.
    pub(super) length: u64,
    /// How often it reads nothing for [`PAUSE`], evenly spread over the stream.
    pub(super) pauses: u64,
    /// Which reader this is of how many of the same stream: they pause one after another.
    pub(super) turn: (u64, u64),
}

impl Pace {
    /// Where the `n`-th pause is: in the middle of this reader's share of the `n`-th part of the
    /// stream.
    fn pause_at(&self, n: u64) -> Option<u64> {
        let (index, of) = self.turn;
        let shares = 2 * of.max(1);
        (n < self.pauses)
            .then(|| self.length / (shares * self.pauses) * (shares * n + 2 * index + 1))
    }
}

/// A listener whose connections have room for what is not read.
pub(super) fn listen(address: IpAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind((address, 0)).context("the reader cannot listen")?;
    // Inherited by what is accepted; the window's scale is agreed on with the first packet. Only
    // root may: what others may ask for (`rmem_max`) is mostly less than the kernel gives by itself.
    let _ = set_socket_recv_buffer_size_force(&listener, RECEIVE_BUFFER);
    Ok(listener)
}

/// The next connection; whoever is to make it may have failed.
pub(super) fn accept(listener: &TcpListener) -> Result<(TcpStream, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                stream.set_nonblocking(false)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                return Ok((stream, peer));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error).context("the reader cannot accept"),
        }
        if Instant::now() >= deadline {
            bail!("nobody has connected to the reader");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Reads a stream slowly, until it has its length or ends.
pub(super) fn receive(mut stream: &TcpStream, pace: Pace) -> Result<Got> {
    let mut tally = Tally::default();
    let mut buffer = vec![0; BUFFER];
    let (mut read, mut rest_at, mut pauses) = (0, BURST, 0);
    while read < pace.length {
        if pace.pause_at(pauses).is_some_and(|at| read >= at) {
            pauses += 1;
            thread::sleep(PAUSE);
        }
        if read >= rest_at {
            rest_at = read + BURST;
            thread::sleep(REST);
        }
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                read += count as u64;
                tally.update(&buffer[..count]);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => {
                return Err(error).with_context(|| format!("the reader fails after {read} bytes"));
            }
        }
    }
    Ok(tally.got())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::race::content::fill;
    use std::io::Write;
    use std::net::Ipv4Addr;

    #[test]
    fn pauses_are_spread_over_the_stream_and_readers_have_theirs_in_turn() {
        let of = |pace: Pace| -> Vec<u64> { (0..).map_while(|n| pace.pause_at(n)).collect() };
        let pace = Pace { length: 1600, pauses: 4, turn: (0, 1) };
        assert_eq!(of(pace), [200, 600, 1000, 1400]);
        assert_eq!(of(Pace { pauses: 0, ..pace }), [0; 0]);
        assert_eq!(of(Pace { turn: (0, 2), ..pace }), [100, 500, 900, 1300]);
        assert_eq!(of(Pace { turn: (1, 2), ..pace }), [300, 700, 1100, 1500]);
    }

    #[test]
    fn a_stream_that_ends_early_is_short_and_not_wrong() {
        let listener = listen(Ipv4Addr::LOCALHOST.into()).unwrap();
        let mut sender = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = accept(&listener).unwrap();
        let mut bytes = vec![0; 100_000];
        fill(0, &mut bytes);
        sender.write_all(&bytes).unwrap();
        drop(sender);
        let got = receive(&stream, Pace { length: 200_000, pauses: 1, turn: (0, 1) }).unwrap();
        assert_eq!(got, Got { bytes: 100_000, corrupted: 0, later: 0 });
    }
}
