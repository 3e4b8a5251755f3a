//! Packets for each answer, as the client's TCP counts them.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use serde::{Deserialize, Serialize};
use sluicegate_sys::tcp_info::tcp_info;
use sluicegate_testkit::corpus;

use crate::experiment::contents::Contents;
use crate::harness::network::Network;
use crate::harness::statistics::Spread;

/// Answers that are counted, one after another on one connection.
const ANSWERS: u32 = 200;

/// Answers before those: the window opens meanwhile.
const WARM_UP: u32 = 20;

/// A server that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(10);

/// What came for each answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Packets {
    /// Bytes of head and body.
    pub(super) bytes: u64,
    /// Segments with data (`tcpi_data_segs_in`), of the median answer: each carries at most an
    /// MSS, also where several travelled together.
    pub(super) segments: f64,
    /// The most that any answer took.
    pub(super) most: u32,
    /// Frames that the client's device received, in the mean: up to 64 KiB in one, as long as no
    /// hardware has to cut them; bare acknowledgements count. `None` on the loopback, which
    /// everybody uses.
    pub(super) frames: Option<f64>,
}

/// What a segment carries at most: the MTU of the device, without the headers of IP and TCP
/// (20 bytes each) and TCP's timestamps (12). The loopback's MTU of 65,536 would make a longer
/// packet than IP allows, and is used up to 65,535.
pub(super) fn mss(network: &Network) -> u64 {
    match network {
        Network::Loopback => 65_535 - 52,
        Network::Lab(..) => 1500 - 52,
    }
}

impl Packets {
    /// The least that can carry an answer.
    pub(super) fn least(&self, mss: u64) -> u64 {
        self.bytes.div_ceil(mss)
    }

    /// Asks again and again, from the client's side of the network.
    pub(super) fn count(
        network: &Network,
        address: SocketAddr,
        contents: Contents,
    ) -> Result<Self> {
        network.client().enter(|| Self::count_here(network, address, contents))?
    }

    fn count_here(network: &Network, address: SocketAddr, contents: Contents) -> Result<Self> {
        let mut stream = TcpStream::connect(address).context("cannot connect")?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE))?;
        let mut buffer = vec![0; (contents.length as usize) + (16 << 10)];
        let mut bytes = 0;
        let mut segments = Vec::with_capacity(ANSWERS as usize);
        for _ in 0..WARM_UP {
            receive(&mut stream, contents, &mut buffer)?;
        }
        let frames_before = frames(network)?;
        for _ in 0..ANSWERS {
            let before = tcp_info(stream.as_fd())?.data_segments_in;
            bytes = receive(&mut stream, contents, &mut buffer)?;
            let after = tcp_info(stream.as_fd())?.data_segments_in;
            segments.push(after.wrapping_sub(before));
        }
        let frames = frames(network)?.zip(frames_before);
        let figures: Vec<f64> = segments.iter().copied().map(f64::from).collect();
        let packets = Self {
            bytes,
            segments: Spread::of(&figures).context("nothing was counted")?.median,
            most: segments.into_iter().max().unwrap_or(0),
            frames: frames.map(|(now, then)| (now - then) as f64 / f64::from(ANSWERS)),
        };
        let least = packets.least(mss(network)) as f64;
        ensure!(
            packets.segments >= least,
            "{} segments where {least} are the least",
            packets.segments
        );
        Ok(packets)
    }
}

/// Asks once, checks the answer, and returns its bytes, with the head.
fn receive(stream: &mut TcpStream, contents: Contents, buffer: &mut [u8]) -> Result<u64> {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: figure7\r\n\r\n")?;
    let mut received = 0;
    loop {
        let count = stream.read(&mut buffer[received..]).context("cannot receive")?;
        ensure!(count > 0, "the server closed a connection, or sent too much");
        received += count;
        let Some(head) = memmem::find(&buffer[..received], b"\r\n\r\n") else { continue };
        let body = &buffer[head + 4..received];
        if body.len() as u64 >= contents.length {
            ensure!(buffer.starts_with(b"HTTP/1.1 200 "), "an answer with another status");
            ensure!(body.len() as u64 == contents.length, "too long a body");
            corpus::verify(contents.seed, 0, body).context("a wrong body")?;
            return Ok(received as u64);
        }
    }
}

/// Frames that the device of the veth has received (`proc_pid_net(5)`).
fn frames(network: &Network) -> Result<Option<u64>> {
    match network {
        Network::Loopback => Ok(None),
        Network::Lab(..) => {
            // Of this thread, which is at the client's side; the process is not.
            let devices = fs::read_to_string("/proc/thread-self/net/dev")?;
            Ok(Some(parse_frames(&devices).context("there is no eth0")?))
        }
    }
}

/// `eth0: bytes packets …`, of what was received.
fn parse_frames(devices: &str) -> Option<u64> {
    let line = devices.lines().find_map(|line| line.trim_start().strip_prefix("eth0:"))?;
    line.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn received_frames_are_the_second_figure_of_the_device() {
        let devices = "Inter-|   Receive                    |  Transmit\n\
                       \x20face |bytes    packets errs drop|bytes    packets errs\n\
                       \x20   lo:       9       8    0    0       9       8    0\n\
                       \x20 eth0:    1356      16    0    0    1406      17    0\n";
        assert_eq!(parse_frames(devices), Some(16));
        assert_eq!(parse_frames("lo: 1 2"), None);
    }

    #[test]
    fn the_least_is_what_full_segments_carry() {
        let packets = |bytes| Packets { bytes, segments: 1.0, most: 1, frames: None };
        let mss = mss(&Network::Loopback);
        assert_eq!(packets(mss).least(mss), 1);
        assert_eq!(packets(mss + 1).least(mss), 2);
    }
}
