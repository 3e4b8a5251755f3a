//! Rings over real connections: every partition is written again with a proof, and which one
//! depends on where the peer is.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use sending::{SOON, context, context_at, pair, pair_between, run, socket, wait_until};
use sluicegate::{
    AckQueue, AcquireError, Backing, Event, Locality, QueueError, Region, Ring, RingCounters,
    RingError, Segment, SendContext, SendError, Socket, Stragglers, Tag, Watch, Way, Worker,
    lingering,
};
use sluicegate_testkit::corpus::{self, Verifier};
use sluicegate_testkit::lab::{Conditions, Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

const PARTITION: usize = 64 * 1024;
const SEED: u64 = 77;

fn ring() -> Ring {
    Ring::builder().build().unwrap()
}

/// Reads to the end of the stream, `slowly` at first so that much of it waits in queues, and
/// returns how much there was. It has to be the corpus.
fn verify(mut client: TcpStream, slowly: bool) -> JoinHandle<u64> {
    thread::spawn(move || {
        let mut verifier = Verifier::new(SEED, 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            if slowly && verifier.position() < 8 << 20 {
                thread::sleep(Duration::from_millis(2));
            }
            match client.read(&mut buffer).unwrap() {
                0 => return verifier.position(),
                count => verifier.update(&buffer[..count]).unwrap(),
            }
        }
    })
}

/// Sends `total` bytes of the corpus through `ring` to one socket.
fn stream(
    (server, client): (TcpStream, TcpStream),
    context: SendContext,
    ring: &Ring,
    total: u64,
) -> RingCounters {
    let worker = Worker::new().unwrap();
    let mut socket = socket(server, &worker, Arc::new(context));
    let reader = verify(client, true);
    let ours = ring.clone();
    run(&worker, async move {
        let mut at = 0;
        while at < total {
            let mut lease = socket.acquire(&ours).await.unwrap();
            corpus::fill(SEED, at, &mut lease);
            let region = lease.publish(PARTITION);
            at += region.len() as u64;
            socket.queue(region).unwrap();
        }
        socket.drive().await.unwrap();
        assert_eq!(ours.free(), ours.partitions(), "every use has ended");
        socket.shutdown().unwrap();
    });
    assert_eq!(reader.join().unwrap(), total);
    ring.counters()
}

#[test]
fn what_goes_to_a_peer_on_this_host_is_copied_out_of_the_ring() {
    let ring = ring();
    let counters = stream(pair(), context(None), &ring, 32 << 20);
    assert!(counters.bytes_zerocopy <= 1024, "the question where it is: {counters:?}");
    assert_eq!(counters.bytes_sendfile, 0);
    assert!(counters.copied >= 32 * 16 - 17, "{counters:?}");
    assert_eq!((counters.acked, counters.replaced), (0, 0));
}

#[test]
fn where_copies_are_forced_nobody_is_asked_where_the_peer_is() {
    let (server, client) = pair();
    let worker = Worker::new().unwrap();
    let mut socket = socket(server, &worker, Arc::new(context(Some(Way::Copy))));
    let reader = sending::read_all(client);
    run(&worker, async move {
        socket.expect_region();
        socket.queue(Segment::given(vec![7; 4096])).unwrap();
        assert_eq!(socket.located().await.unwrap(), Locality::Unknown);
        let ways = socket.context().counters.ways();
        assert_eq!((ways.copied, ways.zerocopy), (4096, 0), "{ways:?}");
    });
    assert_eq!(reader.join().unwrap(), [7; 4096]);
}

#[test]
fn what_goes_to_a_remote_peer_is_reused_in_place_when_it_is_acknowledged() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let ring = ring();
    let ends = pair_between(lab.server(), lab.client());
    let counters = stream(ends, context_at(Locality::Remote), &ring, 32 << 20);
    assert_eq!(counters.bytes_copied, 0);
    assert_eq!(counters.bytes_sendfile, 32 << 20);
    assert_eq!(counters.acked, 32 * 16 - 16, "{counters:?}");
}

/// One region after the other to several readers on this host.
fn fan_out(ring: &Ring, readers: usize, total: u64) -> RingCounters {
    let worker = Worker::new().unwrap();
    let context = Arc::new(context(None));
    let mut sockets = Vec::new();
    let mut threads = Vec::new();
    for _ in 0..readers {
        let (server, client) = pair();
        sockets.push(socket(server, &worker, Arc::clone(&context)));
        threads.push(verify(client, true));
    }
    let ours = ring.clone();
    run(&worker, async move {
        let mut at = 0;
        while at < total {
            let mut lease = ours.acquire().await.unwrap();
            let mut content = vec![0; PARTITION];
            corpus::fill(SEED, at, &mut content);
            lease.write_all(&content).unwrap();
            let region = lease.publish_written();
            at += region.len() as u64;
            for socket in &mut sockets {
                socket.queue(region.clone()).unwrap();
            }
            drop(region);
            for socket in &mut sockets {
                socket.flush().await.unwrap();
            }
        }
        for socket in &mut sockets {
            socket.drive().await.unwrap();
            socket.shutdown().unwrap();
        }
    });
    for thread in threads {
        assert_eq!(thread.join().unwrap(), total);
    }
    ring.counters()
}

#[test]
fn what_goes_to_many_is_sent_by_reference_and_replaced() {
    let ring = Ring::builder().fan_out_from(0).build().unwrap();
    let counters = fan_out(&ring, 4, 8 << 20);
    assert_eq!(counters.bytes_sendfile, 4 * (8 << 20), "{counters:?}");
    assert_eq!(counters.replaced, 8 * 16 - 16, "{counters:?}");
}

#[test]
fn memory_that_cannot_be_replaced_is_copied_to_many() {
    let ring = Ring::builder().fan_out_from(0).never_replaced().build().unwrap();
    assert!(!ring.is_replaceable());
    let counters = fan_out(&ring, 4, 4 << 20);
    assert_eq!(counters.bytes_copied + counters.bytes_zerocopy, 4 * (4 << 20), "{counters:?}");
    assert_eq!(counters.copied + counters.released, 4 * 16 - 16, "{counters:?}");
}

/// A wire on which acknowledgements take a while.
fn slow_wire() -> Lab {
    let delay = Duration::from_millis(100);
    Lab::wire(Wire::with(Conditions { delay, ..Conditions::default() })).unwrap()
}

/// Queues a region of each of `count` partitions, has them accepted, and drops the socket.
fn drop_in_flight(lab: &Lab, ring: &Ring, context: SendContext, count: u64) -> JoinHandle<u64> {
    let worker = Worker::new().unwrap();
    let (server, client) = pair_between(lab.server(), lab.client());
    let mut socket = socket(server, &worker, Arc::new(context));
    let reader = verify(client, false);
    let ours = ring.clone();
    run(&worker, async move {
        for index in 0..count {
            let mut lease = ours.try_acquire(Some(socket.connection())).unwrap().unwrap();
            corpus::fill(SEED, index * PARTITION as u64, &mut lease);
            socket.queue(lease.publish(PARTITION)).unwrap();
        }
        socket.flush().await.unwrap();
    });
    reader
}

#[test]
fn partitions_that_cannot_be_replaced_and_have_no_proof_are_never_used_again() {
    require!(Need::TrueWire);
    let lab = slow_wire();
    let ring = Ring::builder().size(4 * PARTITION).partitions(4).never_replaced().build().unwrap();
    let reader = drop_in_flight(&lab, &ring, context_at(Locality::Remote), 4);
    let error = ring.try_acquire(None).unwrap_err();
    assert!(matches!(error, RingError::Exhausted), "{error}");
    assert_eq!(ring.counters().quarantined, 4);
    assert_eq!(reader.join().unwrap(), 4 * PARTITION as u64, "with their content");
}

#[test]
fn a_dropped_socket_lingers_until_the_kernel_has_dropped_its_partitions() {
    require!(Need::TrueWire);
    let lab = slow_wire();
    let ring = Ring::builder().size(2 * PARTITION).partitions(2).never_replaced().build().unwrap();
    let reader = drop_in_flight(&lab, &ring, context(Some(Way::Zerocopy)), 2);
    assert_eq!((ring.free(), lingering().sockets), (0, 1));
    assert_eq!(reader.join().unwrap(), 2 * PARTITION as u64, "with their content");
    assert!(wait_until(|| ring.free() == 2), "{:?}", lingering());
    for _ in 0..2 {
        assert!(ring.try_acquire(None).unwrap().is_some());
    }
    let counters = ring.counters();
    assert_eq!((counters.released, counters.quarantined), (2, 0), "{counters:?}");
}

#[test]
fn a_ring_of_files_sends_the_same() {
    let directory = tempfile::tempdir().unwrap();
    let backing = Backing::Files(directory.path().to_owned());
    let built = Ring::builder().backing(backing).fan_out_from(0).build();
    let ring = match built {
        Ok(ring) => ring,
        Err(RingError::Memory { cause, .. }) => {
            return assert_eq!(cause.kind(), std::io::ErrorKind::Unsupported);
        }
        Err(error) => panic!("{error}"),
    };
    assert!(ring.is_replaceable());
    let counters = fan_out(&ring, 2, 4 << 20);
    assert_eq!(counters.replaced, 4 * 16 - 16, "{counters:?}");
}

#[test]
fn memory_that_was_acknowledged_for_one_connection_is_replaced_for_another() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let ring = ring();
    let remote = || context_at(Locality::Remote);
    let ends = || pair_between(lab.server(), lab.client());
    stream(ends(), remote(), &ring, 4 << 20);
    let before = ring.counters();
    stream(ends(), remote(), &ring, 4 << 20);
    let after = ring.counters();
    assert_eq!(after.replaced - before.replaced, 16, "each partition once: {after:?}");
    assert_eq!(after.acked - before.acked, 4 * 16 - 16, "{after:?}");
}

/// A connection that has sent its answer, and waits for the next request: nobody asks how far its
/// peer is.
#[test]
fn a_connection_that_is_idle_keeps_no_partition_from_another() {
    require!(Need::TrueWire);
    let lab = slow_wire();
    let worker = Worker::new().unwrap();
    let ring = Ring::builder().size(2 * PARTITION).partitions(2).build().unwrap();
    let context = Arc::new(context_at(Locality::Remote));
    let (server, client) = pair_between(lab.server(), lab.client());
    let mut idle = socket(server, &worker, Arc::clone(&context));
    let reader = verify(client, false);
    let (server, client) = pair_between(lab.server(), lab.client());
    let mut other = socket(server, &worker, context);
    let second = verify(client, false);
    let ours = ring.clone();
    run(&worker, async move {
        for index in 0..2 {
            let mut lease = idle.acquire(&ours).await.unwrap();
            corpus::fill(SEED, index * PARTITION as u64, &mut lease);
            idle.queue(lease.publish(PARTITION)).unwrap();
        }
        idle.flush().await.unwrap();
        assert_eq!(ours.free(), 0, "accepted, and not acknowledged");
        let mut lease = other.acquire(&ours).await.unwrap();
        corpus::fill(SEED, 0, &mut lease);
        other.queue(lease.publish(PARTITION)).unwrap();
        other.drive().await.unwrap();
        other.shutdown().unwrap();
        idle.drive().await.unwrap();
        idle.shutdown().unwrap();
    });
    assert_eq!(reader.join().unwrap(), 2 * PARTITION as u64, "with their content");
    assert_eq!(second.join().unwrap(), PARTITION as u64);
    assert_eq!(ring.counters().replaced, 1, "{:?}", ring.counters());
}

#[test]
fn a_region_goes_only_to_the_connection_that_it_was_leased_for() {
    let worker = Worker::new().unwrap();
    let context = Arc::new(context(None));
    let ((first, _one), (second, _other)) = (pair(), pair());
    let mut first = socket(first, &worker, Arc::clone(&context));
    let mut second = socket(second, &worker, context);
    let ring = ring();
    let lease = ring.try_acquire(Some(first.connection())).unwrap().unwrap();
    let region = lease.publish(100);
    assert_eq!(region.owner(), Some(first.connection()));
    let refused = second.queue(region.clone());
    assert_eq!(refused, Err(QueueError::OtherConnection));
    assert!(first.queue(region).is_ok());
    assert_eq!(ring.free(), ring.partitions() - 1);
    drop(first);
    assert_eq!(ring.free(), ring.partitions());
}

#[test]
fn a_lease_that_is_dropped_changes_nothing() {
    let ring = Ring::builder().size(2 * PARTITION).partitions(2).build().unwrap();
    let mut lease = ring.try_acquire(None).unwrap().unwrap();
    assert_eq!((lease.version(), lease.len()), (1, PARTITION));
    lease[0] = 1;
    drop(lease);
    assert_eq!((ring.counters().reverted, ring.free()), (1, 2));
    let both = [ring.try_acquire(None).unwrap(), ring.try_acquire(None).unwrap()];
    assert!(both.iter().all(Option::is_some));
    assert!(ring.try_acquire(None).unwrap().is_none());
    let waits = ring.acquire_within(None, Duration::from_millis(20)).unwrap();
    assert!(waits.is_none());
    let waiter = thread::spawn({
        let ring = ring.clone();
        move || ring.acquire_within(None, SOON).unwrap().map(|lease| lease.version())
    });
    thread::sleep(Duration::from_millis(20));
    drop(both);
    assert!(waiter.join().unwrap().is_some(), "it is woken");
}

#[test]
fn shapes_that_cannot_be_are_refused() {
    let refused = |size, partitions| {
        let built = Ring::builder().size(size).partitions(partitions).build();
        assert!(matches!(built, Err(RingError::Shape { .. })), "{size} / {partitions}");
        built.unwrap_err().to_string()
    };
    refused(0, 1);
    refused(1 << 20, 0);
    refused(1 << 20, 3);
    refused(1 << 20, 1 << 20);
    refused(usize::MAX & !4095, 1);
    let message = refused(10_000, 2);
    assert_eq!(
        message,
        "a ring of 10000 bytes in 2 partitions: a partition is a multiple of the page size"
    );
    let nowhere = Backing::Files("/nonexistent".into());
    let error = Ring::builder().backing(nowhere).build().unwrap_err();
    assert!(matches!(error, RingError::Memory { .. }), "{error}");
}

/// A socket whose peer reads nothing, stuffed with other bytes, and a region queued behind.
fn stalled(worker: &Worker, ring: &Ring) -> (Socket<sluicegate::Registration>, TcpStream) {
    let (server, client) = pair();
    let mut socket = socket(server, worker, Arc::new(context(None)));
    socket.queue(Segment::given(vec![1; 16 << 20])).unwrap();
    let mut lease = ring.try_acquire(None).unwrap().unwrap();
    corpus::fill(SEED, 0, &mut lease);
    socket.queue(lease.publish(PARTITION)).unwrap();
    (socket, client)
}

#[test]
fn a_straggler_gets_a_copy_of_what_it_has_not_sent() {
    let worker = Worker::new().unwrap();
    let ring = Ring::builder()
        .size(PARTITION)
        .partitions(1)
        .stragglers(Stragglers::CopyOut { up_to: PARTITION as u64 })
        .build()
        .unwrap();
    let (mut socket, mut client) = stalled(&worker, &ring);
    let mut lease = ring.try_acquire(None).unwrap().expect("it is taken from the straggler");
    lease.fill(0xee);
    assert_eq!(ring.counters().bytes_copied_out, PARTITION as u64);
    let reader = thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    run(&worker, async move {
        socket.drive().await.unwrap();
    });
    let all = reader.join().unwrap();
    assert_eq!(all.len(), (16 << 20) + PARTITION);
    corpus::verify(SEED, 0, &all[16 << 20..]).unwrap();
}

#[test]
fn a_straggler_without_room_for_a_copy_fails_at_once() {
    let worker = Worker::new().unwrap();
    let ring = Ring::builder()
        .size(PARTITION)
        .partitions(1)
        .stragglers(Stragglers::CopyOut { up_to: 10 })
        .build()
        .unwrap();
    let (mut socket, client) = stalled(&worker, &ring);
    // The peer reads just what stands before the region, so that its turn comes while it waits.
    let failed = run(&worker, {
        let ring = ring.clone();
        async move {
            let cut = thread::spawn(move || {
                thread::sleep(Duration::from_millis(50));
                ring.try_acquire(None).unwrap().is_some()
            });
            let mut client = client;
            let reader = thread::spawn(move || {
                let mut some = vec![0; 8 << 20];
                client.read_exact(&mut some).unwrap();
                thread::sleep(Duration::from_millis(200));
                std::io::copy(&mut client, &mut std::io::sink()).unwrap()
            });
            let failed = socket.drive().await;
            assert!(cut.join().unwrap());
            drop(socket);
            reader.join().unwrap();
            failed
        }
    });
    assert!(matches!(failed, Err(SendError::CutLoose)), "{failed:?}");
    assert_eq!((ring.counters().aborted, ring.counters().bytes_copied_out), (1, 0));
}

#[test]
fn who_reads_nothing_at_all_is_told_at_once_that_it_was_cut_loose() {
    let worker = Worker::new().unwrap();
    let ring = Ring::builder()
        .size(PARTITION)
        .partitions(1)
        .stragglers(Stragglers::Abort)
        .build()
        .unwrap();
    let (mut socket, _client) = stalled(&worker, &ring);
    let began = Instant::now();
    let failed = run(&worker, async move {
        let cut = thread::spawn(move || {
            thread::sleep(Duration::from_millis(100));
            ring.try_acquire(None).unwrap().is_some()
        });
        let failed = socket.flush().await;
        assert!(cut.join().unwrap());
        failed
    });
    assert!(matches!(failed, Err(SendError::CutLoose)), "{failed:?}");
    assert!(began.elapsed() < SOON / 2, "{:?}", began.elapsed());
}

#[test]
fn an_ack_queue_tells_that_a_socket_was_cut_loose() {
    let ring = Ring::builder()
        .size(PARTITION)
        .partitions(1)
        .stragglers(Stragglers::Abort)
        .build()
        .unwrap();
    let (server, mut client) = pair();
    let mut acks = AckQueue::new().unwrap();
    let id = acks.add(server, Watch::Ours).unwrap();
    acks.queue(id, Segment::given(vec![1; 16 << 20]), Tag::Number(0)).unwrap();
    let lease = ring.try_acquire(None).unwrap().unwrap();
    acks.queue(id, lease.publish(PARTITION), Tag::Number(1)).unwrap();
    let mut events = Vec::new();
    while ring.try_acquire(None).unwrap().is_none() {
        acks.wait(&mut events, Some(Duration::from_millis(1))).unwrap();
    }
    let is_cut = |event: &Event| matches!(event, Event::Failed(_, SendError::CutLoose));
    while !events.iter().any(is_cut) {
        assert!(acks.wait(&mut events, Some(SOON)).unwrap() > 0);
    }
    assert!(acks.abort(id) && !acks.abort(id));
    let mut all = Vec::new();
    let error = client.read_to_end(&mut all).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "no part for the whole");
}

#[test]
fn a_dropped_socket_leaves_no_partition_behind() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::with(Conditions {
        delay: Duration::from_millis(20),
        ..Conditions::default()
    }))
    .unwrap();
    let worker = Worker::new().unwrap();
    let ring = ring();
    let (server, client) = pair_between(lab.server(), lab.client());
    let mut socket = socket(server, &worker, Arc::new(context_at(Locality::Remote)));
    let reader = verify(client, false);
    let ours = ring.clone();
    run(&worker, async move {
        for index in 0..4 {
            let mut lease = socket.acquire(&ours).await.unwrap();
            corpus::fill(SEED, index * PARTITION as u64, &mut lease);
            socket.queue(lease.publish(PARTITION)).unwrap();
        }
        socket.flush().await.unwrap();
        // All is accepted, nothing acknowledged.
    });
    assert_eq!(ring.free(), ring.partitions());
    for _ in 0..ring.partitions() {
        let mut lease = ring.try_acquire(None).unwrap().unwrap();
        lease.fill(0xee);
        drop(lease.publish(PARTITION));
    }
    assert_eq!(ring.counters().replaced, 4, "{:?}", ring.counters());
    assert_eq!(reader.join().unwrap(), 4 * PARTITION as u64, "with their content");
}

#[test]
fn who_waits_for_a_partition_hears_of_a_connection_that_is_gone() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let worker = Worker::new().unwrap();
    let ring = Ring::builder().size(2 * PARTITION).partitions(2).build().unwrap();
    let (server, client) = pair_between(lab.server(), lab.client());
    let mut socket = socket(server, &worker, Arc::new(context_at(Locality::Remote)));
    rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
    let error = run(&worker, async move {
        for _ in 0..2 {
            let lease = socket.acquire(&ring).await.unwrap();
            socket.queue(lease.publish(PARTITION)).unwrap();
        }
        socket.flush().await.unwrap();
        drop(client);
        loop {
            match socket.acquire(&ring).await {
                Ok(lease) => socket.queue(lease.publish(PARTITION)).unwrap(),
                Err(error) => return error,
            };
        }
    });
    assert!(matches!(error, AcquireError::Send(SendError::Connection(_))), "{error:?}");
}

#[test]
fn a_region_is_readable_as_long_as_somebody_has_it() {
    let ring = Ring::builder().size(PARTITION).partitions(1).build().unwrap();
    let mut lease = ring.try_acquire(None).unwrap().unwrap();
    lease[..5].copy_from_slice(b"hello");
    let region: Region = lease.publish(5);
    let other = region.clone();
    drop(region);
    assert_eq!(other.as_ref(), b"hello");
    assert!(ring.try_acquire(None).unwrap().is_none());
    drop(other);
    assert!(ring.try_acquire(None).unwrap().is_some());
}
