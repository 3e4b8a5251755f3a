//! Both ends of connections, and what goes over them.
#![allow(dead_code)] // No test binary needs all of it.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::net::{RecvFlags, recv};
use sluicegate_sys::{outq, socket};

/// Longer than anything here takes, on a machine that is busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Our end and the peer's.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

/// As [`pair`], with a peer that takes little before its application reads, and
/// room for more than [`HELD`] bytes at our end.
pub(crate) fn narrow_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // Inherited by what it accepts; a window is chosen at the handshake.
    socket::set_receive_buffer(listener.as_fd(), 16 * 1024).unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    socket::set_send_buffer(ours.as_fd(), 1 << 20).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// Bytes that our end of [`narrow_pair`] accepts, and the peer does not.
pub(crate) const HELD: usize = 150_000;

/// Content that shows a shifted or a repeated piece.
pub(crate) fn pattern(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / 65_536) as u8 ^ seed).collect()
}

pub(crate) fn file_of(content: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(file)
}

/// A file of zeroes that takes no memory.
pub(crate) fn hole(len: u64) -> Arc<File> {
    let file = File::from(memfd_create("hole", MemfdFlags::CLOEXEC).unwrap());
    file.set_len(len).unwrap();
    Arc::new(file)
}

/// Reads to the end.
pub(crate) fn read_all(mut from: TcpStream) -> JoinHandle<Vec<u8>> {
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::spawn(move || {
        let mut all = Vec::new();
        from.read_to_end(&mut all).unwrap();
        all
    })
}

/// Receives to the end and copies nothing of it. Returns how much there was.
pub(crate) fn discard(from: TcpStream) -> JoinHandle<u64> {
    from.set_read_timeout(Some(PATIENCE)).unwrap();
    std::thread::spawn(move || {
        let mut all = 0;
        let mut room = vec![0; 4 << 20];
        loop {
            match recv(&from, &mut room[..], RecvFlags::TRUNC).unwrap().1 {
                0 => return all,
                count => all += count as u64,
            }
        }
    })
}

/// What the kernel says of a descriptor that somebody else owns.
pub(crate) fn unacked(fd: BorrowedFd<'_>) -> u64 {
    outq::unacknowledged(fd).unwrap()
}

/// Asks again and again until it is so.
pub(crate) fn eventually(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}
