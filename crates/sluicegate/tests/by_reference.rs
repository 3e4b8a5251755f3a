//! Memory that is sent by reference (MSG_ZEROCOPY), over the loopback where it is forced: nothing
//! is handed back or freed that the kernel refers to, and where no more can be pinned or reported
//! it is copied.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;

use std::env;
use std::fs;
use std::io::{IoSlice, Read};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use sending::{
    POISON, contents, context, may_pin, pair, read_all, run, send_some, socket, watched,
};
use sluicegate::{
    Position, Reactor, Registration, Segment, SendContext, Socket, Way, WayBytes, Worker,
};
use sluicegate_sys::socket::{set_receive_buffer, set_send_buffer};
use sluicegate_sys::zerocopy;
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

/// As much as these tests have pinned at one time.
const PINNED: u64 = 16 << 20;

fn pinning() -> Need {
    Need::Fact { what: "to pin 16 MiB (RLIMIT_MEMLOCK)", holds: may_pin(PINNED) }
}

fn forced() -> SendContext {
    context(Some(Way::Zerocopy))
}

#[test]
fn by_reference_over_the_loopback_every_byte_is_reported_as_copied() {
    require!(pinning());
    let worker = Worker::new().unwrap();
    let context = Arc::new(forced());
    let work: Vec<_> = (0..2)
        .map(|_| {
            let (server, client) = pair();
            let mut socket = socket(server, &worker, Arc::clone(&context));
            let reader = read_all(client);
            worker.spawner().spawn(async move {
                let lens = [100, 1_500_000, 1, 70_000, 2_000_000];
                let mut lent = Vec::new();
                for len in lens {
                    let buffer = contents(len);
                    let address = buffer.as_ptr();
                    lent.push((socket.queue(Segment::memory(buffer)).unwrap(), address));
                }
                // Not in the order in which they are released.
                for at in [3, 4, 0, 2, 1] {
                    let (end, address) = lent[at];
                    assert_eq!(socket.released(end).await.unwrap().as_ptr(), address);
                }
                assert_eq!(socket.referenced(), 0);
                drop(socket);
                (reader, lens.map(contents).concat())
            })
        })
        .collect();
    run(&worker, async move {
        for task in work {
            let (reader, expected) = task.await;
            assert!(reader.join().unwrap() == expected);
        }
    });
    let ways = context.counters.ways();
    assert_eq!((ways.zerocopy, ways.copied), (7_140_202, 0));
    assert_eq!(ways.zerocopy_copied, ways.zerocopy);
}

/// Fills a socket by reference, and then has all of these segments accepted behind what fills it,
/// though most of that is not read. Returns where each ends, and what was read.
async fn behind_a_full_socket(
    socket: &mut Socket<Registration>,
    reactor: &Reactor,
    client: &mut TcpStream,
    segments: Vec<Segment>,
) -> (Vec<Position>, Vec<u8>) {
    // Much in our queue and little in the peer's: what is accepted last is then not even sent.
    set_send_buffer(socket.as_fd(), 200_000).unwrap();
    set_receive_buffer(client.as_fd(), 32 * 1024).unwrap();
    socket.queue(Segment::given(contents(32 << 20))).unwrap();
    assert!(!send_some(socket), "nobody reads");
    socket.cancel();
    let ends = segments.into_iter().map(|segment| socket.queue(segment).unwrap()).collect();
    let (mut got, mut piece) = (Vec::new(), vec![0; 8 * 1024]);
    while !send_some(socket) {
        let count = client.read(&mut piece).unwrap();
        got.extend_from_slice(&piece[..count]);
        reactor.sleep(Duration::from_millis(2)).await;
    }
    (ends, got)
}

#[test]
fn what_the_kernel_refers_to_is_neither_handed_back_nor_freed() {
    require!(pinning());
    let worker = Worker::new().unwrap();
    let (server, mut client) = pair();
    let mut socket = socket(server, &worker, forced());
    let reactor = worker.reactor().clone();
    run(&worker, async move {
        let (lent, lent_is_freed) = watched(contents(30_000));
        let (given, given_is_freed) = watched(contents(40_000));
        let segments = vec![Segment::memory(lent), Segment::given(given)];
        let (ends, mut got) =
            behind_a_full_socket(&mut socket, &reactor, &mut client, segments).await;
        assert_eq!(socket.accepted_position(), socket.queued());
        let start = ends[0].get() as usize - 30_000;
        for _ in 0..50 {
            reactor.sleep(Duration::from_millis(2)).await;
            assert!(send_some(&mut socket));
            assert!(socket.try_released(ends[0]).is_none());
            assert!(socket.referenced() >= 70_000, "{}", socket.referenced());
            assert!(!lent_is_freed.is_so() && !given_is_freed.is_so());
        }
        let reader = read_all(client);
        let bytes = socket.released(ends[0]).await.unwrap();
        assert!(bytes == contents(30_000));
        assert!(!lent_is_freed.is_so(), "it was handed back");
        while !given_is_freed.is_so() {
            reactor.sleep(Duration::from_millis(2)).await;
            assert!(send_some(&mut socket));
        }
        assert_eq!(socket.referenced(), 0);
        drop(socket);
        got.extend(reader.join().unwrap());
        assert!(got[start..] == [contents(30_000), contents(40_000)].concat());
        assert!(got[..start] == contents(32 << 20)[..start]);
    });
}

/// Why all of this: the same with bare system calls.
#[test]
fn memory_that_is_overwritten_too_early_reaches_the_peer_changed() {
    require!(pinning());
    let (server, mut client) = pair();
    server.set_nonblocking(true).unwrap();
    zerocopy::allow(server.as_fd()).unwrap();
    let mut memory = vec![1_u8; 512 * 1024];
    let mut sent = 0;
    while let Ok(count) = zerocopy::send(server.as_fd(), &[IoSlice::new(&memory)], false) {
        sent += count;
        assert!(sent < 1 << 30, "it never fills up");
    }
    memory.fill(POISON);
    drop(server);
    let mut got = Vec::new();
    client.read_to_end(&mut got).unwrap();
    assert_eq!(got.len(), sent);
    let changed = got.iter().filter(|&&byte| byte == POISON).count();
    assert!(changed > 0, "all {sent} bytes arrived as they were");
}

#[test]
fn after_a_reset_a_buffer_that_was_accepted_comes_back_by_itself() {
    require!(pinning());
    let worker = Worker::new().unwrap();
    let (server, mut client) = pair();
    let mut socket = socket(server, &worker, forced());
    let reactor = worker.reactor().clone();
    run(&worker, async move {
        let segments = vec![Segment::memory(contents(30_000))];
        let (ends, _) = behind_a_full_socket(&mut socket, &reactor, &mut client, segments).await;
        assert!(socket.try_released(ends[0]).is_none());
        let closing = thread::spawn(move || {
            thread::sleep(Duration::from_millis(50));
            drop(client);
        });
        assert!(socket.released(ends[0]).await.unwrap() == contents(30_000));
        closing.join().unwrap();
    });
}

/// The kernel numbers the calls by reference of a socket, whoever makes them, and does not tell
/// how many there were: another owner's releases must not be taken for ours.
#[test]
fn a_socket_that_others_sent_on_by_reference_has_copies() {
    require!(pinning());
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    zerocopy::allow(server.as_fd()).unwrap();
    server.set_nonblocking(true).unwrap();
    // Many calls, whose releases are still to come.
    let theirs = vec![5; 100_000];
    let mut before = 0;
    while let Ok(count) = zerocopy::send(server.as_fd(), &[IoSlice::new(&theirs)], false) {
        before += count;
    }
    let context = Arc::new(forced());
    let mut socket = socket(server, &worker, Arc::clone(&context));
    let reader = read_all(client);
    run(&worker, async move {
        for _ in 0..20 {
            let end = socket.queue(Segment::memory(contents(200_000))).unwrap();
            let mut buffer = Vec::from(socket.released(end).await.unwrap());
            buffer.fill(POISON);
        }
    });
    let got = reader.join().unwrap();
    assert!(got[..before].iter().all(|&byte| byte == 5));
    assert!(got[before..].chunks(200_000).all(|piece| piece == contents(200_000)));
    let ways = context.counters.ways();
    assert_eq!((ways.copied, ways.zerocopy), (4_000_000, 0));
}

/// Runs a test of this binary, one that is a half, as somebody who may pin so little.
fn with_memlock(bytes: u64, half: &str) {
    let is_root = fs::read_to_string("/proc/self/status").is_ok_and(|status| {
        status.lines().any(|line| line.starts_with("Uid:") && line.contains("\t0"))
    });
    // Root may pin what it likes as long as it has CAP_IPC_LOCK.
    let mut command = if is_root {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock", "prlimit"]);
        command
    } else {
        Command::new("prlimit")
    };
    command.arg(format!("--memlock={bytes}:{bytes}")).arg(env::current_exe().unwrap());
    command.args(["--exact", half, "--nocapture"]).env(HALF, bytes.to_string());
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let passed = output.status.success() && text.contains("test result: ok. 1 passed");
    assert!(passed, "{}\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr));
}

/// Tells a half that it is one, and what it may pin.
const HALF: &str = "SLUICEGATE_MEMLOCK";

#[test]
fn who_may_pin_less_than_one_call_takes_makes_smaller_ones() {
    require!(Need::Program("setpriv"), Need::Program("prlimit"));
    with_memlock(65_536, "half_that_may_pin_little");
}

#[test]
fn who_may_pin_some_has_copies_of_the_rest() {
    require!(Need::Program("setpriv"), Need::Program("prlimit"));
    with_memlock(1_500_000, "half_that_may_pin_little");
}

#[test]
fn half_that_may_pin_little() {
    let Ok(limit) = env::var(HALF) else { return };
    assert!(!may_pin(PINNED));
    let ways = send_to_a_late_reader(pair());
    assert!(ways.copied > 0, "{ways:?}");
    let limit: u64 = limit.parse().unwrap();
    // Also where a call of the usual length is too long.
    assert!(ways.zerocopy >= limit / 2, "{ways:?}");
}

/// Sends 8 MB by reference to a peer that reads late, and looks whether they arrive.
fn send_to_a_late_reader((server, client): (TcpStream, TcpStream)) -> WayBytes {
    const LEN: usize = 8_000_000;
    let worker = Worker::new().unwrap();
    let context = Arc::new(forced());
    let mut socket = socket(server, &worker, Arc::clone(&context));
    let end = socket.queue(Segment::memory(contents(LEN))).unwrap();
    assert!(!send_some(&mut socket), "nobody reads");
    let reader = read_all(client);
    run(&worker, async move {
        assert!(socket.released(end).await.unwrap() == contents(LEN));
        assert_eq!(socket.referenced(), 0);
    });
    assert!(reader.join().unwrap() == contents(LEN));
    let ways = context.counters.ways();
    assert_eq!(ways.copied + ways.zerocopy, LEN as u64);
    ways
}

#[test]
fn a_socket_without_room_for_reports_has_copies() {
    // Before that, the bound was the whole machine's.
    require!(Need::NetworkNamespaces, Need::Kernel(6, 8), pinning());
    let lab = Lab::veth().unwrap();
    let ways = lab.server().enter(|| {
        // Room for one report.
        fs::write("/proc/sys/net/core/optmem_max", "1024").unwrap();
        send_to_a_late_reader(pair())
    });
    let ways = ways.unwrap();
    assert!(ways.copied > 0 && ways.zerocopy > 0, "{ways:?}");
}

#[cfg(feature = "tokio")]
#[test]
fn under_tokio_memory_comes_back_on_whatever_thread_it_is() {
    require!(pinning());
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let context = Arc::new(forced());
    let shared = Arc::clone(&context);
    let work = async move {
        let reactor = sluicegate::SharedReactor::new().unwrap();
        let mut tasks = Vec::new();
        for _ in 0..4 {
            let (server, client) = pair();
            server.set_nonblocking(true).unwrap();
            let context = Arc::clone(&shared);
            let mut socket = Socket::with_context(server.into(), &reactor, context).unwrap();
            tasks.push(tokio::spawn(async move {
                let reader = read_all(client);
                let mut buffer = contents(1_000_000);
                // A pointer would stay on its thread.
                let address = buffer.as_ptr().addr();
                for _ in 0..5 {
                    let end = socket.queue(Segment::memory(buffer)).unwrap();
                    buffer = Vec::from(socket.released(end).await.unwrap());
                    assert_eq!(buffer.as_ptr().addr(), address);
                    tokio::task::yield_now().await;
                }
                reader
            }));
        }
        for task in tasks {
            let reader = tokio::time::timeout(sending::SOON, task).await.unwrap().unwrap();
            assert!(reader.join().unwrap() == contents(1_000_000).repeat(5));
        }
    };
    runtime.block_on(work);
    let ways = context.counters.ways();
    assert_eq!((ways.zerocopy, ways.zerocopy_copied, ways.copied), (20_000_000, 20_000_000, 0));
}
