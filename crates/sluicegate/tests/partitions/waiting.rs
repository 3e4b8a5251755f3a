//! Whoever waits for a partition is woken.

use loom::thread;

use crate::actors::{Attempted, LEN, Policy, Ring, Taking, Waits, waker};
use crate::play::holds;
use crate::ring::slot::Settled;

fn use_one(ring: &Ring) {
    ring.acquire(None).lease().publish().drop();
}

#[test]
fn one_partition_serves_all_who_wait_for_it() {
    holds(Some(2), || {
        let ring = Ring::new(1);
        let lease = ring.acquire(None).lease();
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
        let lease = ring.acquire(None).lease();
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
        let region = ring.acquire(None).lease().publish();
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

/// Looks once, waits without ever sleeping, and gives up.
fn give_up(ring: &Ring) {
    let mut waits = Waits { ring, waiter: None };
    match ring.attempt(None) {
        Some(attempted) => attempted.lease().revert(),
        None => waits.waiter = Some(ring.table.wait(None, &waker())),
    }
}

#[test]
fn who_gives_up_when_it_is_woken_wakes_the_next() {
    holds(Some(2), || {
        let ring = Ring::new(1);
        let lease = ring.acquire(None).lease();
        let first = thread::spawn({
            let ring = ring.clone();
            move || give_up(&ring)
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

#[test]
fn all_who_wait_hear_that_nothing_will_ever_be_free() {
    holds(Some(2), || {
        let ring = Ring::with(1, false, Policy::Wait);
        let region = ring.acquire(None).lease().publish();
        let mut used = region.queue();
        region.drop();
        let others = [(); 2].map(|()| {
            let ring = ring.clone();
            thread::spawn(move || {
                assert!(matches!(ring.acquire(None), Attempted::Exhausted));
            })
        });
        used.send(LEN, Taking::References).unwrap();
        used.settle(Settled::Unproven);
        for other in others {
            other.join().unwrap();
        }
        ring.rest();
        assert_eq!(ring.table.quarantined(), 1);
    });
}
