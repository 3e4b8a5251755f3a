//! Connections that begin here: TCP and Unix, those that stand, those that are
//! refused, and those that nobody answers.
#![allow(clippy::unwrap_used)]

use std::future::poll_fn;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
use sluicegate::{FileRange, Reactor, Registration, Segment, Socket, Target, Worker};
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

const PATIENCE: Duration = Duration::from_secs(60);

/// Connects; `None` while it is under way after `wait`.
async fn connect(
    reactor: &Reactor,
    target: &Target,
    wait: Duration,
) -> Option<io::Result<Socket<Registration>>> {
    let mut socket = match Socket::connect(target, reactor, Arc::default()) {
        Ok(socket) => socket,
        Err(error) => return Some(Err(error)),
    };
    let mut sleep = Box::pin(reactor.sleep(wait));
    let connected = poll_fn(|cx| match socket.poll_connected(cx) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await?;
    Some(connected.map(|()| socket))
}

fn refused(target: Target, wait: Duration) -> Option<io::Error> {
    let worker = Worker::new().unwrap();
    let reactor = worker.reactor().clone();
    let tried = worker.run(async move { connect(&reactor, &target, wait).await }).unwrap();
    tried.map(|tried| tried.unwrap_err())
}

/// Reads a request to its end, and answers as much again behind a `>`.
fn answer(mut stream: impl Read + Write, shut: impl FnOnce(&mut dyn Write)) {
    let mut request = Vec::new();
    stream.read_to_end(&mut request).unwrap();
    stream.write_all(b">").unwrap();
    stream.write_all(&request).unwrap();
    shut(&mut stream);
}

/// Sends memory, large memory and a file over it, and expects them back.
fn ask(target: Target) {
    let worker = Worker::new().unwrap();
    let reactor = worker.reactor().clone();
    worker
        .run(async move {
            let mut socket = connect(&reactor, &target, PATIENCE).await.unwrap().unwrap();
            let mut expected = b">hello".to_vec();
            assert_eq!(socket.send_now(b"hello").unwrap(), 5);
            let large = Bytes::from(vec![b'l'; 3 * 1024 * 1024]);
            expected.extend_from_slice(&large);
            socket.queue(large.clone()).unwrap();
            let mut file = tempfile::tempfile().unwrap();
            let content: Vec<u8> = (0..5_000_000_u32).map(|at| (at % 251) as u8).collect();
            file.write_all(&content).unwrap();
            let range = FileRange::new(Arc::new(file), 0..content.len() as u64);
            expected.extend_from_slice(&content);
            let end = socket.queue(Segment::File(range)).unwrap();
            socket.acked(end).await.unwrap();
            socket.shutdown().unwrap();
            let mut received = Vec::with_capacity(expected.len() + 1);
            while socket.receive(&mut received).await.unwrap() > 0 {}
            assert!(received == expected, "{} of {} bytes", received.len(), expected.len());
        })
        .unwrap();
}

#[test]
fn tcp_connects_and_carries_both_ways() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || answer(listener.accept().unwrap().0, |_| ()));
    ask(Target::Tcp(address));
    server.join().unwrap();
}

#[test]
fn unix_connects_and_carries_both_ways() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let server = std::thread::spawn(move || answer(listener.accept().unwrap().0, |_| ()));
    ask(Target::Unix(path));
    server.join().unwrap();
}

#[test]
fn tcp_is_refused_where_nobody_listens() {
    // Nobody else gets the port while it is bound.
    let held = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&held, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    let address = rustix::net::getsockname(&held).unwrap().try_into().unwrap();
    let error = refused(Target::Tcp(address), PATIENCE).unwrap();
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
}

#[test]
fn tcp_is_refused_by_nobody_but_itself() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().unwrap();
    let host = lab.server();
    host.enter(|| {
        // The near end has no choice but the port where nobody listens.
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40001 40001").unwrap();
        for ip in [std::net::Ipv4Addr::LOCALHOST, host.address()] {
            let target = Target::Tcp((ip, 40_001).into());
            let error = refused(target, PATIENCE).unwrap();
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{ip}");
        }
    })
    .unwrap();
}

#[test]
fn tcp_waits_where_nobody_answers() {
    // Its queue is full, so it drops what comes.
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&listener, &"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap()).unwrap();
    listen(&listener, 0).unwrap();
    let address: std::net::SocketAddr =
        rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    let _first = TcpStream::connect(address).unwrap();
    assert!(refused(Target::Tcp(address), Duration::from_millis(300)).is_none());
}

#[test]
fn unix_tells_what_is_missing_or_full_or_deaf() {
    let directory = tempfile::tempdir().unwrap();
    let kind = |name: &str| {
        let target = Target::Unix(directory.path().join(name));
        refused(target, PATIENCE).unwrap().kind()
    };
    assert_eq!(kind("missing"), ErrorKind::NotFound);
    drop(UnixListener::bind(directory.path().join("deaf")).unwrap());
    assert_eq!(kind("deaf"), ErrorKind::ConnectionRefused);
    assert_eq!(kind(&"long".repeat(40)), ErrorKind::InvalidFilename);

    let full = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    let path = directory.path().join("full");
    bind(&full, &rustix::net::SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&full, 0).unwrap();
    let worker = Worker::new().unwrap();
    let target = Target::Unix(path);
    let tries: Vec<_> =
        (0..16).map(|_| Socket::connect(&target, worker.reactor(), Arc::default())).collect();
    assert!(tries[0].is_ok());
    assert_eq!(tries[15].as_ref().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_unix_peer_that_is_gone_is_noticed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let worker = Worker::new().unwrap();
    let reactor = worker.reactor().clone();
    worker
        .run(async move {
            let mut socket =
                connect(&reactor, &Target::Unix(path), PATIENCE).await.unwrap().unwrap();
            let (peer, _) = listener.accept().unwrap();
            let mut buffer = Vec::with_capacity(8);
            let mut waits = true;
            poll_fn(|cx| {
                waits &= socket.poll_receive(cx, &mut buffer).is_pending();
                Poll::Ready(())
            })
            .await;
            assert!(waits);
            peer.shutdown(Shutdown::Both).unwrap();
            assert_eq!(socket.receive(&mut buffer).await.unwrap(), 0);
            let error = socket.send_now(b"more").unwrap_err();
            assert!(error.to_string().contains("pipe"), "{error}");
        })
        .unwrap();
}

#[test]
fn what_is_peeked_at_is_still_there() {
    let worker = Worker::new().unwrap();
    let reactor = worker.reactor().clone();
    worker
        .run(async move {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let target = Target::Tcp(listener.local_addr().unwrap());
            let mut socket = connect(&reactor, &target, PATIENCE).await.unwrap().unwrap();
            let (mut peer, _) = listener.accept().unwrap();
            let mut seen = Vec::with_capacity(16);
            let mut waits = async |socket: &mut Socket<Registration>, before: usize| {
                let polled = poll_fn(|cx| Poll::Ready(socket.poll_peek(cx, &mut seen, before)));
                assert!(polled.await.is_pending());
            };
            waits(&mut socket, 0).await;
            peer.write_all(b"one").unwrap();
            let mut seen = Vec::with_capacity(16);
            poll_fn(|cx| socket.poll_peek(cx, &mut seen, 0)).await.unwrap();
            assert_eq!(seen, b"one");
            waits(&mut socket, 3).await;
            peer.write_all(b"two").unwrap();
            poll_fn(|cx| socket.poll_peek(cx, &mut seen, 3)).await.unwrap();
            assert_eq!(seen, b"onetwo");
            socket.take_peeked(4).unwrap();
            let mut received = Vec::with_capacity(16);
            socket.receive(&mut received).await.unwrap();
            assert_eq!(received, b"wo");
            // There is no more room than that, and no more to come.
            peer.write_all(&[b'x'; 40]).unwrap();
            poll_fn(|cx| socket.poll_peek(cx, &mut seen, 16)).await.unwrap();
            assert_eq!(seen, [b'x'; 16]);
            socket.take_peeked(40).unwrap();
            peer.write_all(b"end").unwrap();
            drop(peer);
            poll_fn(|cx| socket.poll_peek(cx, &mut seen, 3)).await.unwrap();
            assert_eq!(seen, b"end");
            assert_eq!(socket.take_peeked(4).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        })
        .unwrap();
}
