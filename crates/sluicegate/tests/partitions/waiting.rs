//! Whoever waits for a partition is woken.

use loom::thread;

use crate::actors::{LEN, Ring, Taking};
use crate::play::holds;
use crate::ring::slot::Settled;
use crate::ring::{Connection, RingError, Stragglers};

fn use_one(ring: &Ring) {
    ring.lease(None).publish().drop();
}

#[test]
fn one_partition_serves_all_who_wait_for_it() {
    holds(Some(3), || {
        let ring = Ring::new(1);
        let lease = ring.lease(None);
        let others = [(); 2].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || use_one(&ring))
        });
        lease.publish().drop();
        for other in others {
            other.join().unwrap();
        }
        ring.rest();
    });
}

#[test]
fn a_lease_that_is_reverted_wakes_one_who_waits() {
    holds(None, || {
        let ring = Ring::new(1);
        let lease = ring.lease(None);
        let other = thread::spawn({
            let ring = ring.clone();
            move || use_one(&ring)
        });
        lease.revert();
        other.join().unwrap();
        ring.rest();
    });
}

#[test]
fn a_proof_wakes_one_who_waits() {
    holds(Some(3), || {
        let ring = Ring::new(1);
        let region = ring.lease(None).publish();
        let mut used = region.queue();
        let sender = thread::spawn(move || {
            used.send(LEN, Taking::References).unwrap();
            used.settle(Settled::Unproven);
        });
        region.drop();
        use_one(&ring);
        sender.join().unwrap();
        ring.rest();
    });
}

#[test]
fn who_gives_up_when_it_is_woken_wakes_the_next() {
    holds(Some(3), || {
        let ring = Ring::new(1);
        let lease = ring.lease(None);
        let first = thread::spawn({
            let ring = ring.clone();
            move || ring.look_once()
        });
        let second = thread::spawn({
            let ring = ring.clone();
            move || use_one(&ring)
        });
        lease.revert();
        first.join().unwrap();
        second.join().unwrap();
        ring.rest();
    });
}

/// A straggler whose region is in somebody's hands at first; then it can be cut
/// loose.
fn beside_a_straggler(others: impl FnOnce(&Ring) -> Vec<thread::JoinHandle<()>>) {
    let ring = Ring::with(1, true, Stragglers::Abort);
    let region = ring.lease(None).publish();
    let used = region.queue();
    let others = others(&ring);
    region.drop();
    for other in others {
        other.join().unwrap();
    }
    used.settle(Settled::Copied);
    ring.rest();
}

#[test]
fn who_waits_hears_that_a_straggler_can_be_cut_loose() {
    holds(Some(3), || {
        beside_a_straggler(|ring| {
            let ring = ring.clone();
            vec![thread::spawn(move || use_one(&ring))]
        });
    });
}

/// The call takes nothing, its socket is full, and nothing else will happen there.
#[test]
fn who_waits_hears_that_a_call_in_his_way_is_over() {
    holds(Some(3), || {
        let ring = Ring::with(1, true, Stragglers::Abort);
        let region = ring.lease(None).publish();
        let mut used = region.queue();
        region.drop();
        let waiter = thread::spawn({
            let ring = ring.clone();
            move || use_one(&ring)
        });
        let _ = used.send(0, Taking::Copies);
        waiter.join().unwrap();
        used.settle(Settled::Unsent);
        ring.rest();
    });
}

#[test]
fn who_gives_up_when_a_straggler_can_be_cut_loose_wakes_the_next() {
    holds(Some(3), || {
        beside_a_straggler(|ring| {
            let (first, second) = (ring.clone(), ring.clone());
            vec![thread::spawn(move || first.look_once()), thread::spawn(move || use_one(&second))]
        });
    });
}

/// The other has accepted all of it, and nobody ever asks how far his peer is.
#[test]
fn who_waits_gets_what_another_has_accepted_and_never_looks_at() {
    holds(Some(3), || {
        let (ring, one) = (Ring::new(1), Connection(1));
        let region = ring.lease(Some(one)).publish();
        let mut used = region.queue();
        let waiter = thread::spawn({
            let ring = ring.clone();
            move || use_one(&ring)
        });
        used.send(LEN, Taking::References).unwrap();
        region.drop();
        waiter.join().unwrap();
        used.settle(Settled::Acked(one));
        ring.rest();
    });
}

#[test]
fn all_who_wait_hear_that_nothing_will_ever_be_free() {
    holds(Some(3), || {
        let ring = Ring::with(1, false, Stragglers::Wait);
        let region = ring.lease(None).publish();
        let mut used = region.queue();
        region.drop();
        let others = [(); 2].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || {
                assert!(matches!(ring.acquire(None), Err(RingError::Exhausted)));
            })
        });
        used.send(LEN, Taking::References).unwrap();
        used.settle(Settled::Unproven);
        for other in others {
            other.join().unwrap();
        }
        ring.rest();
        assert_eq!(ring.table().quarantined(), 1);
    });
}
