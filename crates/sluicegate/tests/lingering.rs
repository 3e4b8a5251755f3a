//! Sockets that are dropped while the kernel still refers to their memory: it is kept until the
//! kernel lets go, and no longer.
//!
//! All buffers are overwritten when they are freed: one that is freed too early reaches the peer
//! changed.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use sending::{
    Freed, contents, context, may_pin, pair, read_all, run, send_some, socket, wait_until, watched,
};
use sluicegate::{
    AckQueue, Lingering, Readiness, Registration, Segment, SendContext, Socket, Tag, Watch, Way,
    WayBytes, Worker, lingering,
};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

/// As much as these tests have pinned at one time.
const PINNED: u64 = 16 << 20;

/// More than a socket takes whose peer does not read.
const LEN: usize = 32 << 20;

/// The table is the process's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn pinning() -> Need {
    Need::Fact { what: "to pin 16 MiB (RLIMIT_MEMLOCK)", holds: may_pin(PINNED) }
}

fn by_reference(linger: Duration) -> SendContext {
    SendContext { linger, ..context(Some(Way::Zerocopy)) }
}

/// Queues a buffer on a socket whose peer does not read. Returns how much of it was accepted,
/// and what tells when it is freed.
fn stuff<R: Readiness>(socket: &mut Socket<R>, len: usize) -> (usize, Freed) {
    let (buffer, freed) = watched(contents(len));
    socket.queue(Segment::memory(buffer)).unwrap();
    assert!(!send_some(socket), "{len} bytes cannot be accepted without a reader");
    assert!(socket.referenced() > 0);
    (usize::try_from(socket.accepted_position().get()).unwrap(), freed)
}

fn stuffed(worker: &Worker, linger: Duration) -> (Socket<Registration>, TcpStream, usize, Freed) {
    let (server, client) = pair();
    let mut socket = socket(server, worker, by_reference(linger));
    let (accepted, freed) = stuff(&mut socket, LEN);
    (socket, client, accepted, freed)
}

fn is_empty() -> bool {
    lingering() == Lingering::default()
}

#[test]
fn a_dropped_sockets_bytes_arrive_whole_and_then_its_memory_goes() {
    require!(pinning());
    let _alone = alone();
    let worker = Worker::new().unwrap();
    let (socket, client, accepted, freed) = stuffed(&worker, Duration::from_secs(60));
    drop(socket);
    let held = Lingering { sockets: 1, bytes: LEN as u64, quarantined: 0 };
    for _ in 0..100 {
        assert_eq!(lingering(), held);
        assert!(!freed.is_so());
        thread::sleep(Duration::from_millis(2));
    }
    // The worker and its reactor are no part of it.
    drop(worker);
    let got = read_all(client).join().unwrap();
    assert_eq!(got.len(), accepted, "what was accepted, and the end of the stream");
    assert!(got == contents(LEN)[..accepted]);
    assert!(wait_until(|| is_empty() && freed.is_so()), "{:?}", lingering());
}

#[test]
fn what_was_copied_or_is_released_lingers_nowhere() {
    let _alone = alone();
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut copying = socket(server, &worker, context(Some(Way::Copy)));
    let (buffer, freed) = watched(contents(LEN));
    copying.queue(Segment::memory(buffer)).unwrap();
    assert!(!send_some(&mut copying));
    let accepted = copying.accepted_position().get();
    drop(copying);
    assert!(is_empty() && freed.is_so());
    assert_eq!(read_all(client).join().unwrap().len() as u64, accepted);

    let (server, client) = pair();
    let mut socket = socket(server, &worker, by_reference(Duration::from_secs(60)));
    let reader = read_all(client);
    let (buffer, freed) = watched(contents(100_000));
    run(&worker, async move {
        let end = socket.queue(Segment::memory(buffer)).unwrap();
        let bytes = socket.released(end).await.unwrap();
        drop(socket);
        assert!(is_empty() && !freed.is_so());
        drop(bytes);
        assert!(freed.is_so());
    });
    assert!(reader.join().unwrap() == contents(100_000));
}

/// Reads what is there until the connection is reset.
fn read_to_the_reset(mut client: TcpStream) -> Vec<u8> {
    let mut got = Vec::new();
    let error = client.read_to_end(&mut got).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    got
}

#[test]
fn who_reads_too_late_is_cut_off_by_a_reset() {
    require!(pinning());
    let _alone = alone();
    let worker = Worker::new().unwrap();
    let patience = Duration::from_millis(300);
    let (socket, client, accepted, freed) = stuffed(&worker, patience);
    let began = Instant::now();
    drop(socket);
    assert!(wait_until(|| freed.is_so()));
    let took = began.elapsed();
    assert!(took >= patience, "{took:?}");
    assert!(took < Duration::from_secs(10), "{took:?}");
    assert!(wait_until(is_empty), "{:?}", lingering());
    let got = read_to_the_reset(client);
    assert!(got.len() < accepted);
    assert!(got == contents(LEN)[..got.len()]);
}

#[test]
fn an_aborted_sockets_memory_goes_at_once() {
    require!(pinning());
    let _alone = alone();
    let worker = Worker::new().unwrap();
    let (socket, client, accepted, freed) = stuffed(&worker, Duration::from_secs(60));
    let began = Instant::now();
    socket.abort();
    assert!(wait_until(|| freed.is_so() && is_empty()), "{:?}", lingering());
    assert!(began.elapsed() < Duration::from_secs(10));
    let got = read_to_the_reset(client);
    assert!(got.len() < accepted);
    assert!(got == contents(LEN)[..got.len()]);
}

#[test]
fn a_peer_that_resets_ends_the_lingering() {
    require!(pinning());
    let _alone = alone();
    let worker = Worker::new().unwrap();
    let (socket, client, _, freed) = stuffed(&worker, Duration::from_secs(60));
    drop(socket);
    assert_eq!(lingering().sockets, 1);
    // Closed with unread data: a reset.
    drop(client);
    assert!(wait_until(|| freed.is_so() && is_empty()), "{:?}", lingering());
}

/// RFC 1122, 4.2.2.13: who closes and is still sent to answers by a reset.
#[test]
fn a_peer_that_still_sends_is_reset_as_after_a_close() {
    require!(pinning());
    let _alone = alone();
    let worker = Worker::new().unwrap();
    let (socket, mut client, accepted, freed) = stuffed(&worker, Duration::from_secs(60));
    drop(socket);
    assert_eq!(lingering().sockets, 1);
    client.write_all(b"one more thing").unwrap();
    assert!(wait_until(|| freed.is_so() && is_empty()), "{:?}", lingering());
    assert!(read_to_the_reset(client).len() < accepted);
}

#[test]
fn what_the_kernel_copied_is_counted_after_the_drop_too() {
    require!(pinning());
    let _alone = alone();
    let worker = Worker::new().unwrap();
    let (socket, client, accepted, _) = stuffed(&worker, Duration::from_secs(60));
    let context = socket.context().clone();
    drop(socket);
    read_all(client).join().unwrap();
    assert!(wait_until(is_empty), "{:?}", lingering());
    let accepted = accepted as u64;
    let all = WayBytes { zerocopy: accepted, zerocopy_copied: accepted, ..WayBytes::default() };
    assert_eq!(context.counters.ways(), all);
}

#[test]
fn many_sockets_linger_and_each_goes_by_itself() {
    const MANY: usize = 64;
    require!(pinning());
    let _alone = alone();
    let worker = Worker::new().unwrap();
    let dropped: Vec<_> = (0..MANY)
        .map(|n| {
            let (server, client) = pair();
            let mut context = by_reference(Duration::from_secs(60));
            // Small, for they are many.
            context.limits.send_buffer = Some(50_000);
            let mut socket = socket(server, &worker, context);
            let (accepted, freed) = stuff(&mut socket, 8_000_000 + n);
            (client, accepted, freed, 8_000_000 + n)
        })
        .collect();
    let bytes = dropped.iter().map(|(.., len)| *len as u64).sum();
    assert_eq!(lingering(), Lingering { sockets: MANY as u64, bytes, quarantined: 0 });
    for (n, (client, accepted, freed, len)) in dropped.into_iter().enumerate() {
        assert!(!freed.is_so());
        let got = read_all(client).join().unwrap();
        assert!(got == contents(len)[..accepted], "{n}");
        assert!(wait_until(|| freed.is_so()));
        assert!(wait_until(|| lingering().sockets == (MANY - 1 - n) as u64));
    }
    assert!(is_empty());
}

#[test]
fn what_an_ack_queue_forgets_lingers_too() {
    require!(pinning());
    let _alone = alone();
    let context = Arc::new(by_reference(Duration::from_secs(60)));
    let mut acks = AckQueue::with_context(context).unwrap();
    let (server, client) = pair();
    let id = acks.add(server, Watch::Ours).unwrap();
    let (buffer, freed) = watched(contents(LEN));
    acks.queue(id, Segment::given(buffer), Tag::Number(1)).unwrap();
    let mut events = Vec::new();
    while acks.progress(id).unwrap().accepted.get() < 100_000 {
        acks.wait(&mut events, Some(Duration::from_millis(1))).unwrap();
    }
    let accepted = usize::try_from(acks.progress(id).unwrap().accepted.get()).unwrap();
    assert!(acks.remove(id));
    assert_eq!(lingering(), Lingering { sockets: 1, bytes: LEN as u64, quarantined: 0 });
    assert!(!freed.is_so());
    drop(acks);
    let got = read_all(client).join().unwrap();
    assert!(got == contents(LEN)[..accepted]);
    assert!(wait_until(|| is_empty() && freed.is_so()), "{:?}", lingering());
}

#[cfg(feature = "tokio")]
#[test]
fn a_runtime_that_ends_frees_nothing_too_early() {
    require!(pinning());
    let _alone = alone();
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (server, client) = pair();
    server.set_nonblocking(true).unwrap();
    let task = runtime.spawn(async move {
        let reactor = sluicegate::SharedReactor::new().unwrap();
        let context = Arc::new(by_reference(Duration::from_secs(60)));
        let mut socket = Socket::with_context(server.into(), &reactor, context).unwrap();
        let (accepted, freed) = stuff(&mut socket, LEN);
        // Dropped in the middle of its work, with the future.
        let sending = tokio::time::timeout(Duration::from_millis(20), async move {
            let end = socket.queued();
            socket.released(end).await
        });
        assert!(sending.await.is_err(), "nobody reads");
        (accepted, freed)
    });
    let (accepted, freed) = runtime.block_on(task).unwrap();
    drop(runtime);
    assert_eq!(lingering(), Lingering { sockets: 1, bytes: LEN as u64, quarantined: 0 });
    assert!(!freed.is_so());
    let got = read_all(client).join().unwrap();
    assert!(got == contents(LEN)[..accepted]);
    assert!(wait_until(|| is_empty() && freed.is_so()), "{:?}", lingering());
}
