//! Regions that are taken back while their socket is sending them.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;

use std::sync::Arc;

use rustix::net::sockopt::set_socket_send_buffer_size;
use sending::{context, context_at, pair, pair_between, read_all, run, send_some, socket};
use sluicegate::{Locality, Ring, Segment, SendContext, SendError, Stragglers, Worker};
use sluicegate_testkit::corpus;
use sluicegate_testkit::lab::{Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

const PARTITION: usize = 1024 * 1024;
const SEED: u64 = 8;
const END: &[u8] = b"that was all";

fn ring(stragglers: Stragglers) -> Ring {
    let builder = Ring::builder().size(2 * PARTITION).partitions(2);
    builder.stragglers(stragglers).build().unwrap()
}

#[test]
fn of_a_region_that_is_taken_back_what_was_accepted_arrives_and_is_proven() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let (server, client) = pair_between(lab.server(), lab.client());
    set_socket_send_buffer_size(&server, 64 * 1024).unwrap();
    let worker = Worker::new().unwrap();
    let context = SendContext { unsent: None, ..context_at(Locality::Remote) };
    let mut socket = socket(server, &worker, Arc::new(context));
    let ring = ring(Stragglers::Wait);
    let mut lease = ring.try_acquire(Some(socket.connection())).unwrap().unwrap();
    corpus::fill(SEED, 0, &mut lease);
    socket.queue(lease.publish(PARTITION)).unwrap();
    // Another one, of which nothing is accepted.
    let lease = ring.try_acquire(Some(socket.connection())).unwrap().unwrap();
    socket.queue(lease.publish(PARTITION)).unwrap();
    assert!(!send_some(&mut socket), "there is no room for all of it");
    let accepted = socket.cancel().get();
    assert!((1..PARTITION as u64).contains(&accepted), "{accepted}");
    assert_eq!(ring.free(), 1, "what nobody has seen is free at once");
    socket.queue(Segment::given(END)).unwrap();
    let reader = read_all(client);
    let ours = ring.clone();
    run(&worker, async move {
        socket.drive().await.unwrap();
        assert_eq!(ours.free(), 2);
        // In place: the peer has what was accepted of it.
        for _ in 0..2 {
            drop(socket.acquire(&ours).await.unwrap().publish(1));
        }
        socket.shutdown().unwrap();
    });
    let all = reader.join().unwrap();
    let (sent, end) = all.split_at(usize::try_from(accepted).unwrap());
    corpus::verify(SEED, 0, sent).unwrap();
    assert_eq!(end, END);
    let counters = ring.counters();
    assert_eq!((counters.acked, counters.replaced), (1, 0), "{counters:?}");
}

#[test]
fn a_socket_from_which_a_region_was_cut_sends_again_when_it_has_taken_back_the_rest() {
    let (server, client) = pair();
    let worker = Worker::new().unwrap();
    let mut socket = socket(server, &worker, Arc::new(context(None)));
    let ring = ring(Stragglers::Abort);
    let stuffed = socket.queue(Segment::given(vec![1; 32 << 20])).unwrap();
    for _ in 0..2 {
        let lease = ring.try_acquire(None).unwrap().unwrap();
        socket.queue(lease.publish(PARTITION)).unwrap();
    }
    assert!(!send_some(&mut socket), "its peer does not read");
    assert!(ring.try_acquire(None).unwrap().is_some(), "it is cut loose");
    let accepted = socket.cancel();
    assert!(accepted < stuffed);
    socket.queue(Segment::given(END)).unwrap();
    let reader = read_all(client);
    let sent: Result<(), SendError> = run(&worker, async move {
        let sent = socket.flush().await;
        socket.shutdown().unwrap();
        sent
    });
    sent.unwrap();
    let all = reader.join().unwrap();
    assert_eq!(all.len() as u64, accepted.get() + END.len() as u64);
    assert!(all.ends_with(END));
    assert_eq!(ring.free(), 2);
}
