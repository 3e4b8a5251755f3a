//! One download at a fixed rate.

use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_recv_buffer_size;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, connect, recv, socket_with};

use super::super::{Answer, Check, Resource, send};
use super::wheel::PERIOD;

/// A server that says nothing for so long is dead. One that starves a download for less is seen by
/// its rate.
const SILENCE: Duration = Duration::from_secs(30);

/// Time for which a download may save up what it could not use: two turns, so that one that finds
/// its socket empty for an instant is not slower for it.
const SAVED: Duration = Duration::from_nanos(2 * PERIOD.as_nanos() as u64);

/// The most that a download may receive in one turn.
pub(super) fn depth(rate: u64) -> u64 {
    (rate as f64 * SAVED.as_secs_f64()) as u64
}

/// A download that is under way, or complete.
#[derive(Debug)]
pub(super) struct Download {
    stream: TcpStream,
    answer: Answer,
    began: Instant,
    /// The last turn in which it received, and the time up to which it has used its rate.
    heard: Instant,
    used: Instant,
    /// Bytes of the body when the window began.
    before: u64,
    took: Option<Duration>,
}

impl Download {
    /// Connects and asks. The receive buffer is chosen before: it decides what is announced.
    pub(super) fn open(resource: &Resource, check: Check, receive_buffer: usize) -> Result<Self> {
        let family = match resource.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket: OwnedFd = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        set_socket_recv_buffer_size(&socket, receive_buffer)?;
        connect(&socket, &resource.address)
            .with_context(|| format!("cannot connect to {}", resource.address))?;
        let stream = TcpStream::from(socket);
        send(&stream, &resource.request(&resource.path))?;
        let now = Instant::now();
        let answer = Answer::new(resource.length, resource.seed, check);
        Ok(Self { stream, answer, began: now, heard: now, used: now, before: 0, took: None })
    }

    /// Receives all of it, as fast as it comes.
    pub(super) fn finish(self) -> Result<()> {
        self.stream.set_read_timeout(Some(SILENCE))?;
        self.answer.receive(&self.stream, &mut vec![0; 256 << 10])
    }

    /// Receives what the rate allows, into `buffer`; returns whether that completed it.
    pub(super) fn turn(&mut self, rate: u64, buffer: &mut [u8]) -> Result<bool> {
        if self.took.is_some() {
            return Ok(false);
        }
        let now = Instant::now();
        // What is older is lost.
        self.used = self.used.max(now.checked_sub(SAVED).unwrap_or(self.used));
        let allowed = (now - self.used).as_secs_f64() * rate as f64;
        let room = (allowed as usize).min(buffer.len());
        if room == 0 {
            return Ok(false);
        }
        let received = match recv(&self.stream, &mut buffer[..room], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => bail!("the server closed it after {} bytes", self.answer.received()),
            Ok((_, received)) => received,
            Err(Errno::AGAIN | Errno::INTR) => {
                ensure!(now - self.heard < SILENCE, "nothing came for {SILENCE:?}");
                return Ok(false);
            }
            Err(error) => return Err(error).context("cannot receive"),
        };
        self.heard = now;
        self.used += Duration::from_secs_f64(received as f64 / rate as f64);
        if self.answer.take(&buffer[..received])? {
            self.took = Some(now - self.began);
        }
        Ok(self.took.is_some())
    }

    /// The window begins.
    pub(super) fn begin(&mut self) {
        self.before = self.received();
    }

    /// Bytes of the body since then.
    pub(super) fn since_begin(&self) -> u64 {
        self.received() - self.before
    }

    /// How long it took, when it is complete.
    pub(super) fn took(&self) -> Option<Duration> {
        self.took
    }

    /// Bytes of the body so far.
    pub(super) fn received(&self) -> u64 {
        match self.took {
            Some(_) => self.answer.length(),
            None => self.answer.received(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use sluicegate_testkit::corpus;

    use super::*;

    const LENGTH: usize = 100_000;
    const RATE: u64 = 1_000_000;

    /// A download of a body that a thread sends at once, with one byte of it changed.
    fn download(wrong: Option<usize>) -> (Download, Vec<u8>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let mut answer =
                format!("HTTP/1.1 200 OK\r\nContent-Length: {LENGTH}\r\n\r\n").into_bytes();
            let head = answer.len();
            answer.resize(head + LENGTH, 0);
            corpus::fill(4, 0, &mut answer[head..]);
            if let Some(wrong) = wrong {
                answer[head + wrong] ^= 1;
            }
            let _ = stream.write_all(&answer);
            // Until the other side closes.
            let _ = stream.read(&mut [0]);
        });
        let resource = Resource {
            address,
            path: "/".into(),
            length: LENGTH as u64,
            seed: 4,
            files: None,
            sites: None,
        };
        let download = Download::open(&resource, Check::Whole, 16 << 10).unwrap();
        (download, vec![0; depth(RATE) as usize])
    }

    #[test]
    fn a_download_never_exceeds_its_rate_and_is_complete_in_its_time() {
        let (mut download, mut buffer) = download(None);
        let began = download.began;
        while !download.turn(RATE, &mut buffer).unwrap() {
            let most = began.elapsed().as_secs_f64() * RATE as f64;
            assert!(download.received() as f64 <= most);
            assert!(began.elapsed() < SILENCE);
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(download.since_begin(), LENGTH as u64);
        assert!(download.took().unwrap() >= Duration::from_millis(99));
        assert!(!download.turn(RATE, &mut buffer).unwrap(), "it is complete once");
    }

    #[test]
    fn what_was_not_used_for_long_is_lost() {
        let (mut download, mut buffer) = download(None);
        download.used = Instant::now().checked_sub(Duration::from_secs(10)).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        assert!(!download.turn(10_000, &mut buffer).unwrap());
        assert!(download.received() <= depth(10_000), "{}", download.received());
    }

    #[test]
    fn a_wrong_byte_is_found() {
        let (mut download, mut buffer) = download(Some(50_000));
        let end = Instant::now() + SILENCE;
        while Instant::now() < end {
            if let Err(error) = download.turn(RATE, &mut buffer) {
                assert!(format!("{error:#}").contains("byte 50000"), "{error:#}");
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it was not found");
    }
}
