//! Rings towards a peer behind a network card, of which nobody has said where it is: the kernel
//! is asked with the head of the stream, and then all of it is reused in place.
//!
//! The tests at the end are halves that run in the guest: see [`vm`].
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;

use std::io::Read;
use std::net::TcpStream;
use std::sync::Arc;

use rustix::net::{AddressFamily, SocketFlags, SocketType, eth, socket_with};
use sending::{context, run, socket};
use sluicegate::{Locality, Registration, Ring, Segment, SendContext, Socket, Strategy, Worker};
use sluicegate_testkit::corpus::{self, Verifier};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use sluicegate_testkit::vm::{self, connect, with_peer};

const HEAD: usize = 1024;
const TOTAL: u64 = 12 << 20;
const SEED: u64 = 4;
/// As much as leaves at once.
const FEW: usize = 4 * 1024;
/// What is sent when somebody listens in.
const TAPPED: u64 = 4 << 20;

/// Reads a head and then the corpus; returns how much of that came.
fn receive(mut client: TcpStream, head: usize) -> u64 {
    client.read_exact(&mut vec![0; head]).unwrap();
    let mut verifier = Verifier::new(SEED, 0);
    let mut buffer = vec![0; 256 * 1024];
    loop {
        match client.read(&mut buffer).unwrap() {
            0 => return verifier.position(),
            count => verifier.update(&buffer[..count]).unwrap(),
        }
    }
}

/// Leases a partition and queues its part of the corpus; returns where that ends.
async fn queue_next(socket: &mut Socket<Registration>, ring: &Ring, at: u64) -> u64 {
    let mut lease = socket.acquire(ring).await.unwrap();
    corpus::fill(SEED, at, &mut lease);
    let region = lease.publish(usize::MAX);
    let end = at + region.len() as u64;
    socket.queue(region).unwrap();
    end
}

#[test]
fn what_goes_over_a_network_card_is_reused_in_place() {
    require!(Need::VirtualMachine);
    let received = with_peer("half_that_streams_a_ring", |client| receive(client, HEAD));
    assert_eq!(received, TOTAL);
}

#[test]
fn an_acknowledgement_is_no_proof_when_the_peer_turns_out_to_be_local() {
    require!(Need::VirtualMachine);
    let received = with_peer("half_that_is_tapped", |client| receive(client, HEAD));
    assert!(received >= TAPPED, "{received}");
}

#[test]
fn half_that_streams_a_ring() {
    if !vm::is_guest() {
        return;
    }
    let worker = Worker::new().unwrap();
    let mut socket = socket(connect(), &worker, Arc::new(context(None)));
    let ring = Ring::builder().build().unwrap();
    let ours = ring.clone();
    run(&worker, async move {
        socket.expect_region();
        socket.queue(Segment::given(vec![0; HEAD])).unwrap();
        assert_eq!(socket.located().await.unwrap(), Locality::Remote);
        let mut at = 0;
        while at < TOTAL {
            at = queue_next(&mut socket, &ours, at).await;
        }
        socket.drive().await.unwrap();
        socket.shutdown().unwrap();
    });
    let counters = ring.counters();
    assert_eq!((counters.bytes_copied, counters.bytes_sendfile), (0, TOTAL), "{counters:?}");
    assert_eq!(counters.acked, counters.reused(), "{counters:?}");
    assert_eq!(ring.free(), ring.partitions());
}

#[test]
fn half_that_is_tapped() {
    if !vm::is_guest() {
        return;
    }
    let worker = Worker::new().unwrap();
    let strategy = Strategy { zerocopy_from: 1, ..Strategy::default() };
    let by_reference = SendContext { strategy, ..SendContext::default() };
    let mut socket = socket(connect(), &worker, Arc::new(by_reference));
    let ring = Ring::builder().build().unwrap();
    let ours = ring.clone();
    run(&worker, async move {
        socket.expect_region();
        socket.queue(Segment::given(vec![0; HEAD])).unwrap();
        assert_eq!(socket.located().await.unwrap(), Locality::Remote);
        // Somebody here listens in: what is sent by reference is copied for him, and the kernel says
        // so at once. A region that was accepted just before may be in his queue, too: that its
        // peer has it is no proof any more.
        let flags = SocketFlags::CLOEXEC;
        let tap = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(eth::ALL));
        let mut lease = socket.acquire(&ours).await.unwrap();
        corpus::fill(SEED, 0, &mut lease);
        socket.queue(lease.publish(FEW)).unwrap();
        let mut next = vec![0; FEW];
        corpus::fill(SEED, FEW as u64, &mut next);
        socket.queue(Segment::given(next)).unwrap();
        socket.drive().await.unwrap();
        assert_eq!(socket.locality(), Locality::Local);
        assert_eq!(ours.counters().bytes_sendfile, FEW as u64);
        let mut at = 2 * FEW as u64;
        while at < TAPPED {
            at = queue_next(&mut socket, &ours, at).await;
        }
        socket.drive().await.unwrap();
        socket.shutdown().unwrap();
        drop(tap.unwrap());
    });
    let counters = ring.counters();
    assert_eq!(counters.acked, 0, "{counters:?}");
    assert_eq!(counters.replaced, 1, "{counters:?}");
    assert_eq!(counters.bytes_sendfile, FEW as u64, "{counters:?}");
}
