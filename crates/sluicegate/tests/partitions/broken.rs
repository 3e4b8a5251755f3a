//! Actors that do one thing wrong: what is looked for is found.

use loom::thread;

use crate::actors::{LEN, Ring, Taking, Use};
use crate::play::fails;
use crate::ring::slot::{Found, Settled};
use crate::ring::{Connection, Stragglers};

/// A region that was queued and is in nobody's hands, and another thread that
/// writes the next one for `next`.
fn beside_a_writer(next: Connection, send: impl FnOnce(Use)) {
    let ring = Ring::new(1);
    let region = ring.lease(Some(Connection(1))).publish();
    let used = region.queue();
    region.drop();
    let writer = thread::spawn({
        let ring = ring.clone();
        move || ring.lease(Some(next)).publish().drop()
    });
    send(used);
    writer.join().unwrap();
    ring.rest();
    assert_eq!(ring.table().quarantined(), 0);
}

#[test]
fn settling_before_the_call_is_over() {
    fails("memory is written that somebody reads", || {
        beside_a_writer(Connection(1), |used| {
            let Found::Pages(pages, _) = used.ring.table().pin(used.place, used.key) else {
                return;
            };
            used.ring.table().settle(used.place, used.key, Settled::Copied);
            used.ring.table().unpin(used.place, used.key, pages, LEN, false);
        });
    });
}

#[test]
fn reading_after_the_call_is_over() {
    fails("a call reads other bytes", || {
        let ring = Ring::with(1, true, Stragglers::Abort);
        let region = ring.lease(None).publish();
        let used = region.queue();
        region.drop();
        let writer = thread::spawn({
            let ring = ring.clone();
            move || ring.lease(None).publish().drop()
        });
        let Found::Pages(pages, _) = ring.table().pin(used.place, used.key) else {
            panic!("a call reads other bytes: it comes too late");
        };
        // As a call would that holds no pages of its own.
        let read = pages.refer(used.content);
        ring.table().unpin(used.place, used.key, pages, 0, false);
        ring.table().wake_one();
        used.settle(Settled::Copied);
        writer.join().unwrap();
        assert!(read.is_unchanged(), "a call reads other bytes");
    });
}

#[test]
fn saying_of_references_that_they_are_copies() {
    fails("accepted bytes have changed", || {
        beside_a_writer(Connection(1), |mut used| {
            used.send(LEN, Taking::References).unwrap();
            used.settle(Settled::Copied);
        });
    });
}

#[test]
fn taking_an_acknowledgement_on_one_host_for_a_proof() {
    // As on the loopback: it is acknowledged, and not read.
    fails("accepted bytes have changed", || {
        beside_a_writer(Connection(1), |mut used| {
            used.send(LEN, Taking::References).unwrap();
            used.settle(Settled::Acked(Connection(1)));
        });
    });
}

#[test]
fn giving_acknowledged_memory_to_another_connection() {
    // An acknowledgement that is told as if it were a release.
    fails("leaves on the wire of", || {
        beside_a_writer(Connection(2), |mut used| {
            used.send(LEN, Taking::References).unwrap();
            used.references.iter_mut().for_each(|it| it.handle_acked(Connection(1)));
            used.settle(Settled::Released);
        });
    });
}

#[test]
fn a_region_that_is_counted_once_and_held_twice() {
    fails("memory is written that somebody reads", || {
        let ring = Ring::new(1);
        let region = ring.lease(None).publish();
        let other = region.uncounted();
        let holder = thread::spawn(move || other.read());
        region.drop();
        ring.lease(None).publish().drop();
        holder.join().unwrap();
    });
}

#[test]
fn replacing_pages_that_are_still_held() {
    // The count is given back before the pages are.
    fails("pages that can be replaced are", || {
        let ring = Ring::new(1);
        let region = ring.lease(None).publish();
        let mut used = region.queue();
        used.send(LEN, Taking::References).unwrap();
        used.settle(Settled::Unproven);
        let holder = thread::spawn(move || {
            let pages = region.uncounted();
            region.drop();
            pages.read();
        });
        let mut next = None;
        while next.is_none() && ring.table().quarantined() == 0 {
            next = ring.try_acquire(None).unwrap_or(None);
            thread::yield_now();
        }
        holder.join().unwrap();
        assert_eq!(ring.table().quarantined(), 0, "pages that can be replaced are");
    });
}

#[test]
fn one_who_is_not_woken() {
    fails("deadlock", || {
        let ring = Ring::new(1);
        let lease = ring.lease(None);
        let other = thread::spawn({
            let ring = ring.clone();
            move || ring.lease(None).publish().drop()
        });
        // Away, and never given back.
        drop(lease);
        other.join().unwrap();
    });
}
