//! Floors: the least that a server can do for an answer, without being one. They parse nothing
//! but the end of a head, know one file, and answer every request with it.
//!
//! What a server costs above its floor is its own doing; the rest is the kernel's.

mod blocking;
pub(crate) mod fan_out;
pub(crate) mod figure3;
pub(crate) mod figure7;
mod fixed;
mod log;
pub(crate) mod relay;
pub(crate) mod reuse;
pub(crate) mod ring;
pub(crate) mod ring_cost;
mod sendfile;
mod splice;
pub(crate) mod tracking;

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::socket;

use self::log::Log;

/// Which way the bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Way {
    /// One receive and one send of a prepared answer for each request.
    Epoll,
    /// The head with `MSG_MORE`, then `sendfile`.
    Sendfile,
    /// The head with `MSG_MORE`, then `splice` through a pipe of 1 MiB with `SPLICE_F_MORE`.
    Splice,
    /// As `sendfile`, corked from the head to the last byte.
    SendfileCork,
    /// As `splice`, corked from the head to the last byte.
    SpliceCork,
    /// Blocking `sendfile`, which holds the whole loop until everything is accepted.
    Blocking,
    /// The same until everything is acknowledged.
    BlockingAcked,
}

#[derive(Debug, Args)]
pub(crate) struct Floor {
    #[arg(value_enum)]
    way: Way,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    file: PathBuf,
    /// Writes a line for each request to this file.
    #[arg(long)]
    log: Option<PathBuf>,
}

/// How a turn of a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// The answer is on its way, whole.
    Done,
    /// The socket is full.
    Full,
    /// There is more to do, after the others had their turn.
    Again,
}

/// One answer on one connection.
trait Transfer: Sized {
    /// What all connections share.
    type Shared;

    fn prepare(file: File, length: u64) -> io::Result<Self::Shared>;
    fn new(shared: &Self::Shared) -> io::Result<Self>;
    /// Begins with an answer.
    fn restart(&mut self);
    /// Goes on with it.
    fn drive(&mut self, shared: &Self::Shared, socket: BorrowedFd<'_>) -> io::Result<Turn>;
}

impl Floor {
    /// Serves until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        let file = File::open(&self.file);
        let file = file.with_context(|| format!("cannot open {}", self.file.display()))?;
        let length = file.metadata()?.len();
        let listener = socket::listen(self.listen, 4096).context("cannot listen")?;
        if self.listen.ip().is_loopback() {
            // As our server does: the least on the loopback is without pacing.
            socket::set_congestion_control(listener.as_fd(), "reno")?;
        }
        let address = socket::local_address(listener.as_fd())?.unwrap_or(self.listen);
        println!("listening on http://{address}");
        let log = self.log.as_deref().map(|path| Log::open(path, length)).transpose()?;
        self.way.serve(&listener, file, length, log).context("cannot serve")
    }
}

impl Way {
    fn serve(
        self,
        listener: &OwnedFd,
        file: File,
        length: u64,
        log: Option<Log>,
    ) -> io::Result<()> {
        match self {
            Way::Epoll => serve_logged::<fixed::Fixed>(listener, file, length, log),
            Way::Sendfile => serve_logged::<sendfile::Sendfile<false>>(listener, file, length, log),
            Way::Splice => serve_logged::<splice::Splice<false>>(listener, file, length, log),
            Way::SendfileCork => {
                serve_logged::<sendfile::Sendfile<true>>(listener, file, length, log)
            }
            Way::SpliceCork => serve_logged::<splice::Splice<true>>(listener, file, length, log),
            Way::Blocking => serve_logged::<blocking::Blocking<false>>(listener, file, length, log),
            Way::BlockingAcked => {
                serve_logged::<blocking::Blocking<true>>(listener, file, length, log)
            }
        }
    }
}

/// A head with the fields and the size that nginx gives its own.
fn head(length: u64) -> Vec<u8> {
    format!(
        "HTTP/1.1 200 OK\r\n\
         Server: nginx/1.22.1\r\n\
         Date: Sat, 21 Nov 2026 20:58:03 GMT\r\n\
         Content-Type: application/octet-stream\r\n\
         Content-Length: {length}\r\n\
         Last-Modified: Sat, 21 Nov 2026 20:58:03 GMT\r\n\
         Connection: keep-alive\r\n\
         ETag: \"6a0f3c2b-{length:x}\"\r\n\
         Accept-Ranges: bytes\r\n\r\n"
    )
    .into_bytes()
}

struct Connection<T> {
    fd: OwnedFd,
    peer: Option<SocketAddr>,
    transfer: T,
    is_sending: bool,
}

/// The key of the listener; connections have their descriptors' numbers.
const LISTENER: u64 = u64::MAX;

fn serve<T: Transfer>(listener: &OwnedFd, file: File, length: u64) -> io::Result<()> {
    serve_logged::<T>(listener, file, length, None)
}

fn serve_logged<T: Transfer>(
    listener: &OwnedFd,
    file: File,
    length: u64,
    mut log: Option<Log>,
) -> io::Result<()> {
    let shared = T::prepare(file, length)?;
    let epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), LISTENER, Interest::SharedListener)?;
    let mut events = Events::with_capacity(256);
    let mut connections: Vec<Option<Connection<T>>> = Vec::new();
    let mut again: VecDeque<usize> = VecDeque::new();
    let mut request = vec![0; 4096];
    loop {
        let patience = if again.is_empty() {
            log.as_ref().and_then(Log::patience)
        } else {
            Some(Duration::ZERO)
        };
        match epoll.wait(&mut events, patience) {
            Ok(0) if again.is_empty() => {
                if let Some(log) = &mut log {
                    log.write()?;
                }
            }
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        for _ in 0..again.len() {
            if let Some(key) = again.pop_front() {
                turn(&mut connections, key, &shared, &mut again);
            }
        }
        for (key, ready) in events.iter() {
            if key == LISTENER {
                accept(listener, &epoll, &shared, &mut connections)?;
                continue;
            }
            let key = key as usize;
            let Some(Some(connection)) = connections.get_mut(key) else { continue };
            if connection.is_sending {
                // What arrives meanwhile is not a request, but possibly the end.
                if ready.error() || ready.hung_up() {
                    connections[key] = None;
                } else if ready.writable() && !again.contains(&key) {
                    turn(&mut connections, key, &shared, &mut again);
                }
            } else if ready.readable() {
                match socket::receive_into(connection.fd.as_fd(), &mut request) {
                    // The clients send a whole request in one packet, and none ahead.
                    Ok(received) if request[..received].ends_with(b"\r\n\r\n") => {
                        connection.transfer.restart();
                        connection.is_sending = true;
                        if let Some(log) = &mut log {
                            log.line(connection.peer, &request[..received])?;
                        }
                        turn(&mut connections, key, &shared, &mut again);
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Ok(_) | Err(_) => connections[key] = None,
                }
            }
        }
    }
}

fn turn<T: Transfer>(
    connections: &mut [Option<Connection<T>>],
    key: usize,
    shared: &T::Shared,
    again: &mut VecDeque<usize>,
) {
    let Some(Some(connection)) = connections.get_mut(key) else { return };
    if !connection.is_sending {
        // The number was listed for a connection that is gone.
        return;
    }
    match connection.transfer.drive(shared, connection.fd.as_fd()) {
        Ok(Turn::Done) => connection.is_sending = false,
        Ok(Turn::Full) => {}
        Ok(Turn::Again) => again.push_back(key),
        Err(error) if error.kind() == ErrorKind::WouldBlock => {}
        Err(_) => connections[key] = None,
    }
}

fn accept<T: Transfer>(
    listener: &OwnedFd,
    epoll: &Epoll,
    shared: &T::Shared,
    connections: &mut Vec<Option<Connection<T>>>,
) -> io::Result<()> {
    // Until none waits: the listener is edge-triggered.
    while let Ok((fd, peer)) = socket::accept(listener.as_fd()) {
        socket::set_nodelay(fd.as_fd())?;
        let key = fd.as_raw_fd() as usize;
        epoll.add(fd.as_fd(), key as u64, Interest::Both)?;
        if connections.len() <= key {
            connections.resize_with(key + 1, || None);
        }
        let transfer = T::new(shared)?;
        connections[key] = Some(Connection { fd, peer, transfer, is_sending: false });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Answer, Check};
    use std::io::Write;
    use std::thread;

    fn answers(way: Way) {
        const LENGTH: u64 = 3 << 20;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("body.bin");
        sluicegate_testkit::corpus::write_file(&path, 5, LENGTH).unwrap();
        let listener = socket::listen("127.0.0.1:0".parse().unwrap(), 16).unwrap();
        let address = socket::local_address(listener.as_fd()).unwrap().unwrap();
        // The thread ends with the process of the tests.
        thread::spawn(move || {
            let file = File::open(path).unwrap();
            way.serve(&listener, file, LENGTH, None)
        });
        let mut first = std::net::TcpStream::connect(address).unwrap();
        let mut second = std::net::TcpStream::connect(address).unwrap();
        for _ in 0..3 {
            for stream in [&mut first, &mut second] {
                stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            }
            // In the order in which they asked: a blocking one has no other.
            for stream in [&first, &second] {
                let answer = Answer::new(LENGTH, 5, Check::Whole);
                answer.receive(stream, &mut [0; 64 << 10]).unwrap();
            }
        }
    }

    #[test]
    fn each_floor_answers_two_interleaved_connections_again_and_again() {
        for way in [Way::Epoll, Way::Sendfile, Way::Splice, Way::Blocking, Way::BlockingAcked] {
            answers(way);
        }
    }
}
