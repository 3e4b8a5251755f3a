//! Rings towards a peer behind a network card, of which nobody has said where it is: the kernel
//! is asked with the head of the stream, and then all of it is reused in place.
//!
//! The second test runs in the guest: see [`vm`].
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod guest_peer;
mod sending;

use std::io::Read;
use std::sync::Arc;

use guest_peer::{connect, with_peer};
use sending::{context, run, socket};
use sluicegate::{Locality, Ring, Segment, Worker};
use sluicegate_testkit::corpus::{self, Verifier};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use sluicegate_testkit::vm;

const HEAD: usize = 1024;
const TOTAL: u64 = 12 << 20;
const SEED: u64 = 4;

#[test]
fn what_goes_over_a_network_card_is_reused_in_place() {
    require!(Need::VirtualMachine);
    let received = with_peer("half_that_streams_a_ring", |mut client| {
        client.read_exact(&mut [0; HEAD]).unwrap();
        let mut verifier = Verifier::new(SEED, 0);
        let mut buffer = vec![0; 256 * 1024];
        loop {
            match client.read(&mut buffer).unwrap() {
                0 => return verifier.position(),
                count => verifier.update(&buffer[..count]).unwrap(),
            }
        }
    });
    assert_eq!(received, TOTAL);
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
            let mut lease = socket.acquire(&ours).await.unwrap();
            corpus::fill(SEED, at, &mut lease);
            let region = lease.publish(usize::MAX);
            at += region.len() as u64;
            socket.queue(region.into()).unwrap();
        }
        socket.drive().await.unwrap();
        socket.shutdown().unwrap();
    });
    let counters = ring.counters();
    assert_eq!((counters.bytes_copied, counters.bytes_sendfile), (0, TOTAL), "{counters:?}");
    assert_eq!(counters.acked, counters.reused(), "{counters:?}");
    assert_eq!(ring.free(), ring.partitions());
}
