//! Spools that share a budget which is less than they would take.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[allow(dead_code)] // Another test uses the rest of it.
mod relay;

use std::future::{Future, poll_fn};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::Duration;

use relay::{
    all_given_back, narrow, on_disk, options, pair, pattern, receive, relay, send, socket,
};
use sluicegate::{
    PipePool, Reactor, Registration, SendContext, Socket, Spool, SpoolBudget, SpoolOptions, Worker,
};

const MIB: u64 = 1024 * 1024;

/// Fills a spool whose client reads nothing until it holds `bytes`, and no more.
async fn fill_up(
    from: &mut Socket<Registration>,
    to: &mut Socket<Registration>,
    spool: &mut Spool,
    bytes: u64,
) {
    poll_fn(|cx| {
        while let Poll::Ready(filled) = spool.poll_fill(cx, from, to, u64::MAX) {
            assert!(filled.unwrap() > 0, "it ended early");
            spool.handle_accepted(0);
        }
        assert!(spool.held() <= bytes, "{} of {bytes}", spool.held());
        if spool.held() == bytes { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

#[test]
fn what_another_response_gives_back_is_taken_at_once() {
    for pipes in [true, false] {
        taken_when_given_back(SpoolOptions { pipes, ..options(64 * MIB) });
    }
}

fn taken_when_given_back(options: SpoolOptions) {
    const BUDGET: u64 = 4 * MIB;
    let (budget, options) = (SpoolBudget::new(BUDGET), Arc::new(options));
    let (is_full, wait_for_full) = mpsc::channel::<()>();
    let (waits, wait_for_waiter) = mpsc::channel::<()>();
    let first = std::thread::spawn({
        let (budget, options) = (Arc::clone(&budget), Arc::clone(&options));
        move || {
            let context = Arc::new(SendContext::default());
            let worker = Worker::new().unwrap();
            let ((from, upstream), (to, _client)) = (pair(), pair());
            let mut from = socket(from, worker.reactor(), &context);
            let mut to = socket(to, worker.reactor(), &context);
            let mut spool = Spool::new(&options, &budget, &context);
            let writer = send(upstream, pattern(8 << 20), 64 * 1024);
            worker
                .run(async move {
                    fill_up(&mut from, &mut to, &mut spool, BUDGET).await;
                    is_full.send(()).unwrap();
                    wait_for_waiter.recv_timeout(Duration::from_secs(60)).unwrap();
                    // Late enough that the other one has nothing else to wake it.
                    std::thread::sleep(Duration::from_millis(100));
                })
                .unwrap();
            drop(worker);
            writer.join().unwrap();
        }
    });
    wait_for_full.recv_timeout(Duration::from_secs(60)).unwrap();
    let context = Arc::new(SendContext::default());
    let worker = Worker::new().unwrap();
    let ((from, upstream), (to, _client)) = (pair(), pair());
    let mut from = socket(from, worker.reactor(), &context);
    let mut to = socket(to, worker.reactor(), &context);
    let mut spool = Spool::new(&options, &budget, &context);
    let writer = send(upstream, pattern(8 << 20), 64 * 1024);
    let reactor = worker.reactor().clone();
    worker
        .run(async move {
            // Little, since the budget is used up.
            fill_up(&mut from, &mut to, &mut spool, 64 * 1024).await;
            waits.send(()).unwrap();
            let all = fill_up(&mut from, &mut to, &mut spool, BUDGET);
            in_time(&reactor, all, "nobody has woken it").await;
        })
        .unwrap();
    drop(worker);
    first.join().unwrap();
    writer.join().unwrap();
    assert_eq!(budget.held(), 0);
}

/// What `future` returns, if that is within a minute.
async fn in_time<T>(reactor: &Reactor, future: impl Future<Output = T>, why: &str) -> T {
    let mut future = std::pin::pin!(future);
    let mut end = std::pin::pin!(reactor.sleep(Duration::from_secs(60)));
    poll_fn(|cx| {
        assert!(end.as_mut().poll(cx).is_pending(), "{why}");
        future.as_mut().poll(cx)
    })
    .await
}

#[test]
fn a_ring_counts_as_long_as_its_memory_is_there() {
    let directory = tempfile::tempdir().unwrap();
    let ring = SpoolOptions { pipes: false, memory_ring: true, ..options(4 * MIB) };
    let disk = SpoolOptions { pipes: false, ..on_disk(0, 4 * MIB, 64 * 1024, &directory) };
    for (case, options) in [ring, disk].into_iter().enumerate() {
        let budget = SpoolBudget::new(256 * MIB);
        let counts = Arc::clone(&budget);
        let context = Arc::new(SendContext::default());
        let worker = Worker::new().unwrap();
        let ((from, upstream), (to, client)) = (pair(), pair());
        narrow(&to);
        narrow(&client);
        let mut from = socket(from, worker.reactor(), &context);
        let mut to = socket(to, worker.reactor(), &context);
        let mut spool = Spool::new(&Arc::new(options), &budget, &context);
        let writer = send(upstream, pattern(4 << 20), 64 * 1024);
        let reactor = worker.reactor().clone();
        worker
            .run(async move {
                let counted = || [counts.held(), counts.on_disk()];
                let full = poll_fn(|cx| {
                    while spool.held() < 2 * MIB
                        && let Poll::Ready(filled) =
                            spool.poll_fill(cx, &mut from, &mut to, u64::MAX)
                    {
                        assert!(filled.unwrap() > 0, "it ended early");
                        spool.handle_accepted(0);
                    }
                    if spool.held() < 2 * MIB { Poll::Pending } else { Poll::Ready(()) }
                });
                in_time(&reactor, full, "it does not fill").await;
                // More than the client, which reads nothing, leaves room for.
                while to.room() > 0
                    && let Some(segment) = spool.segment()
                {
                    to.queue(segment).unwrap();
                }
                poll_fn(|cx| Poll::Ready(to.poll_flush(cx).is_pending().then_some(())))
                    .await
                    .unwrap();
                let before = counted();
                assert!(before[case] >= 4 * MIB, "case {case}: {before:?}");
                drop(spool);
                assert_eq!(counted()[case], before[case], "case {case}: the socket has it still");
                drop((from, to));
            })
            .unwrap();
        drop((worker, client));
        writer.join().unwrap();
        all_given_back(&budget);
    }
}

#[test]
fn a_budget_of_less_than_a_little_for_each_stops_nobody() {
    const RELAYS: usize = 8;
    // Less than one pipe, less than what each may always have, and nothing.
    for bytes in [700_000, 100_000, 0] {
        let budget = SpoolBudget::new(bytes);
        let workers: Vec<_> = (0..3)
            .map(|at| {
                let budget = Arc::clone(&budget);
                std::thread::spawn(move || all_relayed(&budget, at, RELAYS))
            })
            .collect();
        for worker in workers {
            worker.join().unwrap();
        }
        assert_eq!(budget.held(), 0, "of {bytes}");
    }
}

/// So many relays on a worker of this thread, by all the ways of memory.
fn all_relayed(budget: &Arc<SpoolBudget>, at: usize, count: usize) {
    const LEN: usize = 3_000_017;
    let context = SendContext { pipes: PipePool::new(6), ..SendContext::default() };
    let context = Arc::new(context);
    let worker = Worker::new().unwrap();
    let ring = SpoolOptions { pipes: false, memory_ring: true, ..options(64 * MIB) };
    let copies = SpoolOptions { pipes: false, ..options(64 * MIB) };
    let ways = [options(64 * MIB), ring, copies].map(Arc::new);
    let (mut tasks, mut writers, mut readers) = (Vec::new(), Vec::new(), Vec::new());
    for number in 0..count {
        let ((from, upstream), (to, client)) = (pair(), pair());
        for stream in [&from, &upstream, &to, &client] {
            narrow(stream);
        }
        let mut from = socket(from, worker.reactor(), &context);
        let mut to = socket(to, worker.reactor(), &context);
        let mut spool = Spool::new(&ways[(number + at) % ways.len()], budget, &context);
        writers.push(send(upstream, pattern(LEN), 50_000));
        // Some are slow to begin.
        let late = Duration::from_millis(if number % 2 == 0 { 0 } else { 50 });
        readers.push(receive(client, 64 * 1024, move |got| {
            if got == 0 {
                std::thread::sleep(late);
            }
        }));
        tasks.push(worker.spawner().spawn(async move {
            let known = (number % 2 == 0).then_some(LEN as u64);
            relay(&mut from, &mut to, &mut spool, known).await.unwrap();
            to.shutdown().unwrap();
        }));
    }
    let reactor = worker.reactor().clone();
    worker
        .run(async move {
            let all = async {
                for task in tasks {
                    task.await;
                }
            };
            in_time(&reactor, all, "a relay stands still").await;
        })
        .unwrap();
    drop(worker);
    for reader in readers {
        assert!(reader.join().unwrap() == pattern(LEN), "a body differs");
    }
    for writer in writers {
        writer.join().unwrap();
    }
}
