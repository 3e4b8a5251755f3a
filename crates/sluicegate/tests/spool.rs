//! Bodies from one socket to another through a spool.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod relay;

use std::future::poll_fn;
use std::io::Write;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use relay::{
    Seen, all_given_back, narrow, on_disk, options, pair, pattern, receive, relay, send, socket,
    spool,
};
use rustix::event::{PollFd, PollFlags};
use sluicegate::{
    AcquireError, Lease, PipePool, Registration, Ring, RingError, Room, SendContext, Sink, Socket,
    Spool, SpoolOptions, Timer, Worker,
};

const MIB: u64 = 1024 * 1024;

/// Relays `content` to a client, and checks that it is whole and that nothing is
/// left of the spool.
fn whole(options: SpoolOptions, pipes: usize, piece: usize, known: bool, len: usize) -> Seen {
    let content = pattern(len);
    let context = SendContext { pipes: PipePool::new(pipes), ..SendContext::default() };
    let context = Arc::new(context);
    let worker = Worker::new().unwrap();
    let ((from, upstream), (to, client)) = (pair(), pair());
    let mut from = socket(from, worker.reactor(), &context);
    let mut to = socket(to, worker.reactor(), &context);
    let (mut spool, budget) = spool(options, 256 * MIB, &context);
    let reader = receive(client, 64 * 1024, |_| ());
    let writer = send(upstream, content.clone(), piece);
    let seen = worker
        .run(async move {
            let known = known.then_some(len as u64);
            let seen = relay(&mut from, &mut to, &mut spool, known).await.unwrap();
            drop(spool);
            to.shutdown().unwrap();
            to.acked(to.queued()).await.unwrap();
            seen
        })
        .unwrap();
    writer.join().unwrap();
    assert!(reader.join().unwrap() == content, "the body differs");
    all_given_back(&budget);
    assert_eq!(context.pipes.pipes().lent, 0);
    seen
}

#[test]
fn a_body_is_whole_by_every_way_and_leaves_nothing() {
    let len = 9_000_017;
    for (memory, with_pipes, pipes, piece, known) in [
        (64 * MIB, true, 64, 1 << 20, true),
        (64 * MIB, true, 64, 1 << 20, false),
        (0, true, 64, 1 << 20, true),
        (300_000, true, 1, 1460, false),
        (64 * MIB, true, 2, 1 << 20, true),
        (64 * MIB, true, 0, 1 << 20, true),
        (0, false, 64, 1 << 20, false),
        (MIB, false, 64, 1460, true),
    ] {
        let options = SpoolOptions { pipes: with_pipes, ..options(memory) };
        let case = format!("{memory} bytes, pipes {with_pipes} {pipes}, {piece}, {known}");
        let seen = whole(options, pipes, piece, known, len);
        let all = seen.bytes.spliced + seen.bytes.copied;
        assert_eq!(all, len as u64, "{case}");
        assert!(seen.most <= memory.max(MIB), "{case}: {}", seen.most);
        if !with_pipes || pipes == 0 {
            assert_eq!(seen.bytes.spliced, 0, "{case}");
        } else {
            assert!(seen.bytes.spliced > 0, "{case}");
        }
    }
}

#[test]
fn a_byte_out_of_band_hides_nothing_behind_it() {
    for (before, behind, ends) in
        [(0, 100_000, true), (0, 100_000, false), (5_000, 100_000, true), (5_000, 0, true)]
    {
        let content = pattern(before + behind);
        let context = Arc::new(SendContext::default());
        let worker = Worker::new().unwrap();
        let ((from, mut upstream), (to, client)) = (pair(), pair());
        let mut from = socket(from, worker.reactor(), &context);
        let mut to = socket(to, worker.reactor(), &context);
        let (mut spool, _budget) = spool(options(MIB), 256 * MIB, &context);
        upstream.set_nodelay(true).unwrap();
        upstream.write_all(&content[..before]).unwrap();
        assert_eq!(rustix::net::send(&upstream, b"!", rustix::net::SendFlags::OOB), Ok(1));
        upstream.write_all(&content[before..]).unwrap();
        if ends {
            upstream.shutdown(std::net::Shutdown::Write).unwrap();
        }
        let (told, all) = (mpsc::channel(), content.len());
        let (tell, wait) = told;
        let reader = receive(client, 64 * 1024, move |received| {
            if received == all {
                let _ = tell.send(());
            }
        });
        // Without its end nothing comes behind what is there that would have it looked at again.
        let closer = std::thread::spawn(move || {
            let came = wait.recv_timeout(Duration::from_secs(20));
            drop(upstream);
            came
        });
        worker
            .run(async move {
                relay(&mut from, &mut to, &mut spool, None).await.unwrap();
                to.shutdown().unwrap();
            })
            .unwrap();
        assert!(reader.join().unwrap() == content, "{before} {behind} {ends}: the body differs");
        assert!(closer.join().unwrap().is_ok(), "{before} {behind} {ends}: it stood still");
    }
}

#[test]
fn a_single_byte_and_nothing_at_all_pass() {
    for len in [0, 1, 2] {
        let seen = whole(options(MIB), 4, 1, len > 0, len);
        assert_eq!(seen.bytes.spliced + seen.bytes.copied, len as u64);
    }
}

/// A client that does not read until it is told; returns what the spool held and
/// how the upstream was.
fn stalled(options: SpoolOptions, known: bool, len: usize) -> (Seen, u64) {
    stalled_with(options, known, len, 1024)
}

fn stalled_with(options: SpoolOptions, known: bool, len: usize, pipes: usize) -> (Seen, u64) {
    let content = pattern(len);
    let pipes = PipePool::new(pipes);
    let context = Arc::new(SendContext { pipes, ..SendContext::default() });
    let worker = Worker::new().unwrap();
    let ((from, upstream), (to, client)) = (pair(), pair());
    for stream in [&from, &upstream, &to, &client] {
        narrow(stream);
    }
    let mut from = socket(from, worker.reactor(), &context);
    let mut to = socket(to, worker.reactor(), &context);
    let (mut spool, budget) = spool(options, 256 * MIB, &context);
    let (go, wait) = mpsc::channel::<()>();
    let mut told = false;
    let reader = receive(client, 64 * 1024, move |_| {
        if !std::mem::replace(&mut told, true) {
            wait.recv_timeout(Duration::from_secs(60)).unwrap();
        }
    });
    let (sent, is_sent) = mpsc::channel();
    let all = content.clone();
    let writer = std::thread::spawn(move || {
        send(upstream, all, 16 * 1024).join().unwrap();
        // Nobody waits for it any more, if it took long.
        let _ = sent.send(());
    });
    let releaser = std::thread::spawn(move || {
        // With all of it in the spool, or when it has long been full.
        let in_time = is_sent.recv_timeout(Duration::from_millis(700)).is_ok();
        go.send(()).unwrap();
        in_time
    });
    let seen = worker
        .run(async move {
            let known = known.then_some(len as u64);
            let seen = relay(&mut from, &mut to, &mut spool, known).await.unwrap();
            drop(spool);
            to.shutdown().unwrap();
            seen
        })
        .unwrap();
    writer.join().unwrap();
    assert!(reader.join().unwrap() == content, "the body differs");
    all_given_back(&budget);
    assert_eq!(context.pipes.pipes().lent, 0);
    let freed = u64::from(releaser.join().unwrap());
    (seen, freed)
}

#[test]
fn what_fits_is_taken_at_once_and_frees_the_upstream() {
    let (seen, freed) = stalled(options(16 * MIB), true, 8 << 20);
    assert_eq!(freed, 1, "the upstream waited: {seen:?}");
    assert!(seen.accepted_at_end < 2 * MIB, "{seen:?}");
    assert!(seen.most <= 16 * MIB);
    // Woken for what comes and what leaves, not in circles.
    assert!(seen.polls < 20_000, "{}", seen.polls);
}

#[test]
fn what_comes_by_drops_is_collected_while_the_sink_has_enough_to_do() {
    const LEN: usize = 24 << 20;
    const FIRST: usize = LEN - (4 << 20) - 77;
    let limit = Duration::from_secs(60);
    let context = SendContext { pipes: PipePool::new(1024), ..SendContext::default() };
    let context = Arc::new(context);
    let worker = Worker::new().unwrap();
    let ((from, mut upstream), (to, client)) = (pair(), pair());
    let mut from = socket(from, worker.reactor(), &context);
    let mut to = socket(to, worker.reactor(), &context);
    let (mut spool, _budget) = spool(options(64 * MIB), 256 * MIB, &context);
    let content = pattern(LEN);
    let (first, rest) = (content[..FIRST].to_vec(), content[FIRST..].to_vec());
    let ((is_sent, sent), (is_here, here)) = (mpsc::channel(), mpsc::channel());
    let writer = std::thread::spawn(move || {
        for piece in first.chunks(8 * 1024) {
            upstream.write_all(piece).unwrap();
            // Each comes by itself.
            std::thread::sleep(Duration::from_micros(20));
        }
        is_sent.send(()).unwrap();
        // The client has all that came so far, however little the last of it was.
        here.recv_timeout(limit).unwrap();
        upstream.write_all(&rest).unwrap();
    });
    let mut before = None;
    let reader = receive(client, 1 << 20, move |count| {
        let before = before.replace(count);
        if before.is_none() {
            sent.recv_timeout(limit).unwrap();
        }
        if count >= FIRST && before.is_some_and(|before| before < FIRST) {
            is_here.send(()).unwrap();
        }
    });
    let seen = worker
        .run(async move {
            let seen = relay(&mut from, &mut to, &mut spool, Some(LEN as u64)).await.unwrap();
            to.shutdown().unwrap();
            seen
        })
        .unwrap();
    writer.join().unwrap();
    assert!(reader.join().unwrap() == content, "the body differs");
    // Of 2,500 pieces that were sent.
    assert!(seen.polls < 800, "woken {} times", seen.polls);
}

#[test]
fn what_does_not_fit_goes_through_one_pipe_and_the_upstream_waits() {
    let (seen, _) = stalled(options(4 * MIB), true, 32 << 20);
    assert!(seen.most <= 4 * MIB, "{seen:?}");
    assert!(seen.accepted_at_end > 24 * MIB, "{seen:?}");
    assert!(seen.polls < 20_000, "{}", seen.polls);
}

#[test]
fn of_an_unknown_length_as_much_is_taken_as_may_be() {
    let (seen, _) = stalled(options(4 * MIB), false, 32 << 20);
    assert!(seen.most <= 4 * MIB && seen.most > 3 * MIB, "{seen:?}");
    assert!(seen.polls < 20_000, "{}", seen.polls);
}

#[test]
fn a_ring_of_memory_takes_what_has_no_pipe() {
    for (memory, unit, piece, known) in [
        (MIB, 64 * 1024, 1 << 20, true),
        (MIB, 4096, 1460, false),
        (16 * MIB, 100_000, 1 << 20, true),
        (16 * MIB, 64 * 1024, 1 << 20, false),
    ] {
        let options = SpoolOptions { pipes: false, memory_ring: true, unit, ..options(memory) };
        let seen = whole(options, 0, piece, known, 9_000_017);
        assert_eq!(seen.bytes.ring, 9_000_017, "{seen:?}");
        assert!(seen.most <= memory, "{seen:?}");
    }
}

#[test]
fn the_papers_form_goes_through_a_cyclic_file() {
    let directory = tempfile::tempdir().unwrap();
    for unit in [8 * 1024, 100 * 1024] {
        let options = SpoolOptions { pipes: false, ..on_disk(0, MIB, unit, &directory) };
        let seen = whole(options, 0, 1 << 20, true, 9_000_017);
        assert_eq!(seen.bytes.disk, 9_000_017, "{seen:?}");
        assert!(seen.most <= MIB, "{seen:?}");
        // What was sent by reference once all had come is not written over.
        assert!(seen.counters.copied > 8 && seen.counters.acked == 0, "{seen:?}");
        assert_eq!(seen.counters.quarantined, 0, "{seen:?}");
    }
}

#[test]
fn behind_memory_there_is_the_disk() {
    let directory = tempfile::tempdir().unwrap();
    for known in [true, false] {
        let (seen, freed) = stalled(on_disk(MIB, 16 * MIB, 64 * 1024, &directory), known, 8 << 20);
        assert_eq!(freed, 1, "the upstream waited: {seen:?}");
        assert!(seen.bytes.disk > 5 * MIB && seen.bytes.spliced >= MIB, "{seen:?}");
        // What had not been sent when all had come is not written over, and needs no copy,
        // though the peer is local.
        let by = seen.counters;
        let before = by.bytes_copied + by.bytes_zerocopy;
        assert!(by.bytes_sendfile > 0 && before <= seen.accepted_at_end, "{seen:?}");
        assert_eq!(by.reused() + by.quarantined, 0, "{seen:?}");
        assert!(seen.polls < 20_000, "{}", seen.polls);
    }
    // More than both can have.
    let (seen, _) = stalled(on_disk(MIB, 2 * MIB, 64 * 1024, &directory), false, 32 << 20);
    assert!(seen.most <= 3 * MIB && seen.most > 2 * MIB, "{seen:?}");
    assert!(std::fs::read_dir(directory.path()).unwrap().next().is_none(), "a file with a name");
}

#[test]
fn a_disk_that_cannot_be_had_makes_the_upstream_wait_and_is_told() {
    let mut options = options(MIB);
    (options.disk, options.directory) = (16 * MIB, "/nonexistent/sluicegate".into());
    let (seen, _) = stalled(options, false, 8 << 20);
    assert!(seen.trouble.is_some(), "{seen:?}");
    assert!(seen.most <= MIB, "{seen:?}");
}

/// A client whose rings are at an end after so many partitions.
struct Exhausted {
    to: Socket<Registration>,
    left: u32,
}

impl Sink for Exhausted {
    fn poll_lease(
        &mut self,
        cx: &mut Context<'_>,
        ring: &Ring,
    ) -> Poll<Result<Lease, AcquireError>> {
        if self.left == 0 {
            // As when all are quarantined.
            return Poll::Ready(Err(RingError::Exhausted.into()));
        }
        self.left -= 1;
        self.to.poll_lease(cx, ring)
    }
}

#[test]
fn a_ring_of_which_nothing_can_be_used_again_is_given_up() {
    const LEN: usize = 3_000_017;
    let directory = tempfile::tempdir().unwrap();
    let ring = SpoolOptions { pipes: false, memory_ring: true, ..options(MIB) };
    let disk = SpoolOptions { pipes: false, ..on_disk(0, MIB, 64 * 1024, &directory) };
    for (options, left) in [(ring.clone(), 0), (ring, 3), (disk.clone(), 0), (disk, 3)] {
        let case = format!("{left} of {options:?}");
        let context = Arc::new(SendContext::default());
        let worker = Worker::new().unwrap();
        let ((from, upstream), (to, client)) = (pair(), pair());
        let mut from = socket(from, worker.reactor(), &context);
        let to = socket(to, worker.reactor(), &context);
        let mut sink = Exhausted { to, left };
        let is_disk = options.disk > 0;
        let (mut spool, budget) = spool(options, 256 * MIB, &context);
        let reader = receive(client, 64 * 1024, |_| ());
        let writer = send(upstream, pattern(LEN), 64 * 1024);
        let mut timer = from.timer();
        timer.set(Some(Instant::now() + Duration::from_secs(20)));
        let bytes = worker
            .run(async move {
                let (begin, mut told) = (sink.to.accepted_position(), 0);
                poll_fn(|cx| {
                    loop {
                        let filled = spool.poll_fill(cx, &mut from, &mut sink, u64::MAX);
                        while let Some(segment) = spool.segment() {
                            sink.to.queue(segment).unwrap();
                        }
                        let _ = sink.to.poll_flush(cx).map(Result::unwrap);
                        let accepted = sink.to.accepted_position().since(begin);
                        spool.handle_accepted(accepted - told);
                        let has_moved = filled.is_ready() || accepted > told;
                        told = accepted;
                        if accepted == LEN as u64 {
                            return Poll::Ready(());
                        }
                        if !has_moved {
                            let is_late = timer.poll_expired(cx).is_ready();
                            assert!(!is_late, "it stands still: {spool:?}");
                            return Poll::Pending;
                        }
                    }
                })
                .await;
                assert_eq!(spool.take_trouble().is_some(), is_disk);
                sink.to.shutdown().unwrap();
                spool.bytes()
            })
            .unwrap();
        writer.join().unwrap();
        assert!(reader.join().unwrap() == pattern(LEN), "{case}: the body differs");
        assert_eq!(bytes.ring + bytes.disk > 0, left > 0, "{case}: {bytes:?}");
        assert!(bytes.copied > 0, "{case}: {bytes:?}");
        all_given_back(&budget);
    }
}

#[test]
fn where_the_disk_was_to_be_the_path_memory_is_without_one() {
    for known in [true, false] {
        let mut options = SpoolOptions { pipes: false, ..options(0) };
        (options.disk, options.directory) = (MIB, "/nonexistent/sluicegate".into());
        let seen = whole(options, 0, 1 << 20, known, 9_000_017);
        assert!(seen.trouble.is_some() && seen.bytes.copied == 9_000_017, "{seen:?}");
    }
}

#[test]
fn where_pipes_are_scarce_what_waits_in_one_gives_way() {
    let (seen, _) = stalled_with(options(16 * MIB), true, 8 << 20, 1);
    assert!(seen.bytes.spliced > 0, "{seen:?}");
    let (seen, _) = stalled_with(options(16 * MIB), true, 8 << 20, 2);
    assert!(seen.bytes.spliced > 0, "{seen:?}");
}

#[test]
fn whatever_is_dropped_in_the_middle_leaves_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let ring = SpoolOptions { pipes: false, memory_ring: true, ..options(16 * MIB) };
    let disk = SpoolOptions { pipes: false, ..on_disk(0, 4 * MIB, 64 * 1024, &directory) };
    for (case, options) in [options(16 * MIB), ring, disk].into_iter().enumerate() {
        for drops_spool_first in [true, false] {
            let context = Arc::new(SendContext::default());
            let worker = Worker::new().unwrap();
            let ((from, upstream), (to, client)) = (pair(), pair());
            narrow(&to);
            narrow(&client);
            let mut from = socket(from, worker.reactor(), &context);
            let mut to = socket(to, worker.reactor(), &context);
            let (mut spool, budget) = spool(options.clone(), 256 * MIB, &context);
            let writer = send(upstream, pattern(4 << 20), 64 * 1024);
            let held = worker
                .run(async move {
                    poll_fn(|cx| {
                        while spool.held() <= 2 * MIB
                            && let Poll::Ready(filled) =
                                spool.poll_fill(cx, &mut from, &mut to, u64::MAX)
                        {
                            assert!(filled.unwrap() > 0, "case {case}: it ended early");
                            while let Some(segment) = spool.segment() {
                                to.queue(segment).unwrap();
                            }
                            let before = to.accepted_position();
                            let _ = to.poll_flush(cx);
                            spool.handle_accepted(to.accepted_position().since(before));
                        }
                        // The client takes nothing.
                        if spool.held() > 2 * MIB { Poll::Ready(()) } else { Poll::Pending }
                    })
                    .await;
                    let held = spool.held();
                    if drops_spool_first {
                        drop(spool);
                        to.cancel();
                    } else {
                        drop(to);
                        drop(spool);
                    }
                    held
                })
                .unwrap();
            assert!(held > 2 * MIB);
            all_given_back(&budget);
            assert_eq!(context.pipes.pipes().lent, 0, "case {case}");
            drop(worker);
            drop(client);
            writer.join().unwrap();
        }
    }
}

#[test]
fn what_lies_down_behind_a_full_spool_wakes_nobody() {
    let context = Arc::new(SendContext::default());
    let worker = Worker::new().unwrap();
    let ((from, mut upstream), (to, client)) = (pair(), pair());
    let mut from = socket(from, worker.reactor(), &context);
    let mut to = socket(to, worker.reactor(), &context);
    let (mut spool, _budget) = spool(options(MIB / 2), 256 * MIB, &context);
    let content = pattern(600 << 10);
    let mut writer = upstream.try_clone().unwrap();
    let first = content.clone();
    let writer = std::thread::spawn(move || writer.write_all(&first).unwrap());
    let reader = receive(client, 64 * 1024, |_| {});
    let reactor = worker.reactor().clone();
    let mut sent = 0;
    worker
        .run(async move {
            let mut fill = async |spool: &mut Spool, to: &mut Socket<Registration>, len: u64| {
                poll_fn(|cx| {
                    while spool.poll_fill(cx, &mut from, to, u64::MAX).is_ready() {
                        spool.handle_accepted(0);
                    }
                    if spool.held() >= len { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
            };
            // Every look finds it full; after a few the rest is not told any more.
            for _ in 0..8 {
                fill(&mut spool, &mut to, MIB / 2).await;
            }
            writer.join().unwrap();
            reactor.sleep(Duration::from_millis(20)).await;
            let is_woken = |within: Duration| {
                let mut fds = [PollFd::new(&reactor, PollFlags::IN)];
                let timeout = within.try_into().unwrap();
                rustix::event::poll(&mut fds, Some(&timeout)).unwrap() > 0
            };
            upstream.write_all(b"more").unwrap();
            assert!(!is_woken(Duration::from_millis(50)), "of what is not wanted");
            // It was there all the same, and what comes behind it is told again.
            while spool.held() > 0 {
                while let Some(segment) = spool.segment() {
                    to.queue(segment).unwrap();
                }
                to.flush().await.unwrap();
                spool.handle_accepted(to.accepted_position().get() - sent);
                sent = to.accepted_position().get();
                fill(&mut spool, &mut to, 0).await;
            }
            assert_eq!(sent, (600 << 10) + 4);
            upstream.write_all(b"last").unwrap();
            assert!(is_woken(Duration::from_secs(10)), "of what is waited for");
            fill(&mut spool, &mut to, 4).await;
            to.queue(spool.segment().unwrap()).unwrap();
            to.flush().await.unwrap();
            to.shutdown().unwrap();
        })
        .unwrap();
    assert!(reader.join().unwrap() == [&content, &b"morelast"[..]].concat(), "the body differs");
}

#[test]
fn an_upstream_is_awaited_only_where_there_is_room() {
    let context = Arc::new(SendContext::default());
    let worker = Worker::new().unwrap();
    let ((from, upstream), (to, _client)) = (pair(), pair());
    let mut from = socket(from, worker.reactor(), &context);
    let mut to = socket(to, worker.reactor(), &context);
    let (mut spool, _budget) = spool(options(MIB), 256 * MIB, &context);
    let writer = send(upstream, pattern(4 << 20), 64 * 1024);
    worker
        .run(async move {
            assert!(spool.wanted() > 0);
            poll_fn(|cx| {
                while spool.poll_fill(cx, &mut from, &mut to, u64::MAX).is_ready() {
                    spool.handle_accepted(0);
                }
                if spool.held() == MIB { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            assert_eq!(spool.wanted(), 0);
            assert!(matches!(spool.room(), Room::Full));
            drop(from);
        })
        .unwrap();
    writer.join().unwrap();
}

#[test]
fn an_empty_spool_always_takes_something() {
    let directory = tempfile::tempdir().unwrap();
    let context = Arc::new(SendContext::default());
    let worker = Worker::new().unwrap();
    let ((from, mut upstream), (to, _client)) = (pair(), pair());
    let mut from = socket(from, worker.reactor(), &context);
    let mut to = socket(to, worker.reactor(), &context);
    let ring = SpoolOptions { pipes: false, memory_ring: true, ..options(MIB) };
    let disk = SpoolOptions { pipes: false, ..on_disk(0, MIB, 64 * 1024, &directory) };
    for options in [options(0), options(1), ring, disk] {
        let (mut spool, _budget) = spool(options, 0, &context);
        upstream.write_all(&[1; 1000]).unwrap();
        (from, to, spool) = worker
            .run(async move {
                // The ring is made, and all of it has left.
                let filled =
                    poll_fn(|cx| spool.poll_fill(cx, &mut from, &mut to, u64::MAX)).await.unwrap();
                let segment = spool.segment().unwrap();
                assert_eq!(segment.len(), filled as u64);
                to.queue(segment).unwrap();
                to.flush().await.unwrap();
                spool.handle_accepted(filled as u64);
                // What was not received yet comes in the next round.
                (from, to, spool)
            })
            .unwrap();
        assert_eq!(spool.held(), 0);
        assert!(spool.wanted() > 0, "{spool:?}");
    }
}
