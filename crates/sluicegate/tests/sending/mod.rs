//! What the tests of released memory share: sockets, peers, and buffers that tell when they are
//! freed.
#![allow(dead_code)] // Each test binary takes its part.

use std::future::poll_fn;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate::{
    Locality, LocalityRule, Readiness, Registration, SendContext, Socket, Strategy, Way, Worker,
};
use sluicegate_testkit::corpus;
use sluicegate_testkit::lab::Host;

/// What is asynchronous here ends within this time, or fails.
pub(crate) const SOON: Duration = Duration::from_secs(30);

/// What a freed buffer is overwritten with. The corpus is random: it has no long run of it.
pub(crate) const POISON: u8 = 0xEE;

/// A connection over the loopback: the end that sends, and its peer.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    client.set_read_timeout(Some(SOON)).unwrap();
    (server, client)
}

/// A connection between two hosts: the end that sends, and its peer.
pub(crate) fn pair_between(server: &Host, client: &Host) -> (TcpStream, TcpStream) {
    let address = server.address();
    let listener = server.enter(|| TcpListener::bind((address, 0))).unwrap().unwrap();
    let address = listener.local_addr().unwrap();
    let client = client.enter(|| TcpStream::connect_timeout(&address, SOON)).unwrap().unwrap();
    client.set_read_timeout(Some(SOON)).unwrap();
    (listener.accept().unwrap().0, client)
}

/// A context that forces a way, or none.
pub(crate) fn context(forced: Option<Way>) -> SendContext {
    SendContext { strategy: Strategy { forced, ..Strategy::default() }, ..SendContext::default() }
}

/// A context in which every peer is where it is said to be.
pub(crate) fn context_at(locality: Locality) -> SendContext {
    let locality = LocalityRule { forced: Some(locality), ..LocalityRule::default() };
    SendContext { locality, ..SendContext::default() }
}

/// A socket of a worker. `context` is shared, or its own.
pub(crate) fn socket(
    stream: TcpStream,
    worker: &Worker,
    context: impl Into<Arc<SendContext>>,
) -> Socket<Registration> {
    stream.set_nonblocking(true).unwrap();
    Socket::with_context(stream.into(), worker.reactor(), context.into()).unwrap()
}

/// The corpus's contents of this length; their number is the length's.
pub(crate) fn contents(len: usize) -> Vec<u8> {
    let mut buffer = vec![0; len];
    corpus::fill(len as u64, 0, &mut buffer);
    buffer
}

/// Runs `work`, which must end [`SOON`].
pub(crate) fn run<T: 'static>(worker: &Worker, work: impl Future<Output = T> + 'static) -> T {
    let reactor = worker.reactor().clone();
    let bounded = async move {
        let (mut work, mut limit) = (pin!(work), pin!(reactor.sleep(SOON)));
        poll_fn(|cx| {
            let result = work.as_mut().poll(cx);
            assert!(result.is_ready() || limit.as_mut().poll(cx).is_pending(), "it does not end");
            result
        })
        .await
    };
    worker.run(bounded).unwrap()
}

/// Sends what the socket takes without anybody being woken. True when all was accepted.
pub(crate) fn send_some<R: Readiness>(socket: &mut Socket<R>) -> bool {
    let mut last = None;
    loop {
        let mut cx = Context::from_waker(Waker::noop());
        let flushed = socket.poll_flush(&mut cx);
        let accepted = socket.accepted_position();
        match flushed {
            Poll::Ready(flushed) => {
                flushed.unwrap();
                return true;
            }
            Poll::Pending if last == Some(accepted) => return false,
            Poll::Pending => last = Some(accepted),
        }
    }
}

/// Reads to the end of the stream, on a thread.
pub(crate) fn read_all(mut client: TcpStream) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    })
}

/// Waits until `holds`; whether it does [`SOON`].
pub(crate) fn wait_until(mut holds: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + SOON;
    while !holds() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(Duration::from_millis(1));
    }
    true
}

/// Memory that is overwritten when it is freed, and tells it: who frees what the kernel still
/// reads changes what the peer gets.
struct Watched {
    bytes: Vec<u8>,
    is_freed: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Watched {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.bytes.fill(POISON);
        self.is_freed.store(true, Ordering::SeqCst);
    }
}

/// Whether a buffer of [`watched`] was freed.
#[derive(Clone)]
pub(crate) struct Freed(Arc<AtomicBool>);

impl Freed {
    pub(crate) fn is_so(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

/// Memory that is overwritten when it is freed, and whether it was.
pub(crate) fn watched(bytes: Vec<u8>) -> (Bytes, Freed) {
    let is_freed = Arc::new(AtomicBool::new(false));
    let freed = Freed(Arc::clone(&is_freed));
    (Bytes::from_owner(Watched { bytes, is_freed }), freed)
}

/// Whether this process may pin so many bytes at a time (`RLIMIT_MEMLOCK`, `CAP_IPC_LOCK`).
pub(crate) fn may_pin(bytes: u64) -> bool {
    const CAP_IPC_LOCK: u32 = 14;
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    if effective.is_some_and(|capabilities| capabilities & (1 << CAP_IPC_LOCK) != 0) {
        return true;
    }
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let locked = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = locked.and_then(|line| line.split_whitespace().next());
    soft.is_some_and(|soft| {
        soft == "unlimited" || soft.parse().is_ok_and(|soft: u64| soft >= bytes)
    })
}
