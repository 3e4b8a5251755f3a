//! Nothing is allocated for a partition: what a ring and its sockets need, they
//! have after the first laps.
//!
//! Counted on the worker's thread alone, by an allocator of the test's own.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod peers;
mod sending;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use allocation_counter::measure;
use peers::discard;
use sending::{context, context_at, pair, socket};
use sluicegate::{Locality, Registration, Ring, RingCounters, SendContext, Socket, Timer, Worker};

/// As much as a partition has here, at most.
static PIECE: [u8; 64 * 1024] = [7; 64 * 1024];

/// Partitions that are counted: so many laps that what is allocated for a lap
/// shows too.
const COUNTED: usize = 1000;

/// Tries of which one must need nothing.
const TRIES: usize = 8;

type Sockets = Vec<Socket<Registration>>;

/// Sends so many partitions to all sockets.
async fn stream(ring: &Ring, sockets: &mut Sockets, partitions: usize) {
    for _ in 0..partitions {
        let mut lease = match &mut sockets[..] {
            [socket] => socket.acquire(ring).await.unwrap(),
            _ => ring.acquire().await.unwrap(),
        };
        // All of it: fresh pages are missing until they are written.
        lease.write_all(&PIECE[..ring.partition_len()]).unwrap();
        let region = lease.publish_written();
        match &mut sockets[..] {
            [socket] => drop(socket.queue(region).unwrap()),
            sockets => {
                for socket in &mut *sockets {
                    socket.queue(region.clone()).unwrap();
                }
                for socket in sockets {
                    socket.flush().await.unwrap();
                }
            }
        }
    }
    for socket in sockets {
        socket.drive().await.unwrap();
    }
}

/// What is allocated while so many partitions are sent, as far as the worker
/// does not allocate it for any work at all.
fn allocated(worker: &Worker, ring: &Ring, sockets: &mut Sockets, partitions: usize) -> u64 {
    let mut counted = |partitions| {
        let (ring, mut ours) = (ring.clone(), std::mem::take(sockets));
        let reactor = worker.reactor().clone();
        let counted = measure(|| {
            let work = async move {
                // A turn has its list of who is woken by the clock.
                reactor.sleep(Duration::from_millis(1)).await;
                stream(&ring, &mut ours, partitions).await;
                ours
            };
            *sockets = worker.run(work).unwrap();
        });
        counted.count_total
    };
    let idle = counted(0);
    counted(partitions) - idle
}

/// The reactor's list of deadlines gets the room that it may ever need: those of
/// who waits no more stay in it until they are over, up to a bound.
fn give_room_for_timers(worker: &Worker) {
    let timer = |_| {
        let mut timer = worker.reactor().timer();
        timer.set(Some(Instant::now() + Duration::from_secs(3600)));
        timer
    };
    drop((0..4096).map(timer).collect::<Vec<_>>());
}

fn check(ring: &Ring, context: SendContext, sockets: usize) -> RingCounters {
    let worker = Worker::new().unwrap();
    let context = Arc::new(context);
    let (mut ours, mut peers) = (Vec::new(), Vec::new());
    for _ in 0..sockets {
        let (server, client) = pair();
        ours.push(socket(server, &worker, Arc::clone(&context)));
        peers.push(discard(client));
    }
    give_room_for_timers(&worker);
    allocated(&worker, ring, &mut ours, COUNTED);
    // A peer that stands still for longer than ever has queues grow as they never had to. They
    // do that a few times in all; what a partition needs, each try needs.
    let mut tries = Vec::new();
    let after = loop {
        let before = ring.counters();
        tries.push(allocated(&worker, ring, &mut ours, COUNTED));
        let after = ring.counters();
        assert_eq!(after.reused() - before.reused(), COUNTED as u64, "{after:?}");
        if tries.last() == Some(&0) || tries.len() == TRIES {
            break after;
        }
    };
    drop(ours);
    let sent = (1 + tries.len()) * COUNTED * ring.partition_len();
    for peer in peers {
        assert_eq!(peer.join().unwrap(), sent as u64);
    }
    assert_eq!(tries.last(), Some(&0), "for {COUNTED} partitions each: {tries:?}");
    after
}

#[test]
fn nothing_is_allocated_for_a_partition_that_is_copied() {
    let ring = Ring::builder().build().unwrap();
    let counters = check(&ring, context(None), 1);
    assert!(counters.copied > COUNTED as u64, "{counters:?}");
}

#[test]
fn nothing_is_allocated_for_a_partition_that_is_acknowledged() {
    // The loopback is not remote, and what the peer reads is not what was sent:
    // this counts, and looks at no byte.
    let ring = Ring::builder().build().unwrap();
    let counters = check(&ring, context_at(Locality::Remote), 1);
    assert!(counters.acked > COUNTED as u64, "{counters:?}");
}

#[test]
fn nothing_is_allocated_for_a_partition_of_many() {
    let ring = Ring::builder().partitions(64).build().unwrap();
    check(&ring, context(None), 1);
}

#[test]
fn nothing_is_allocated_for_a_partition_that_goes_to_many() {
    let ring = Ring::builder().fan_out_from(0).build().unwrap();
    let counters = check(&ring, context(None), 4);
    assert!(counters.replaced > COUNTED as u64, "{counters:?}");
}
