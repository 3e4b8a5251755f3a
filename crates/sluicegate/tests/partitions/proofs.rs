//! What frees a partition, and what is written next.

use loom::thread;

use crate::actors::{LEN, Region, Ring, Taking, Use};
use crate::play::holds;
use crate::ring::slot::{Proof, Settled};
use crate::ring::table::Attempt;
use crate::ring::{Connection, Stragglers};

/// A socket's task: leases for its connection, sends by reference, and takes
/// the acknowledgement for the proof.
fn serve(ring: &Ring, connection: Connection, laps: usize) {
    for _ in 0..laps {
        let region = ring.lease(Some(connection)).publish();
        let mut used = region.queue();
        region.drop();
        used.send(LEN, Taking::References).unwrap();
        used.handle_acked(connection);
    }
}

fn two_connections(partitions: usize, laps: usize) {
    let ring = Ring::new(partitions);
    let other = thread::spawn({
        let ring = ring.clone();
        move || serve(&ring, Connection(2), laps)
    });
    serve(&ring, Connection(1), laps);
    other.join().unwrap();
    ring.rest();
    assert_eq!(ring.table().quarantined(), 0);
}

#[test]
fn acknowledged_memory_never_carries_another_connections_bytes() {
    holds(Some(4), || two_connections(1, 2));
    holds(Some(4), || two_connections(2, 2));
}

/// Two writers for anybody, and the sockets of another thread.
#[test]
fn writers_and_senders_share_a_partition() {
    holds(Some(3), || {
        let ring = Ring::new(1);
        let (sender, receiver) = loom::sync::mpsc::channel::<Use>();
        let write = |ring: Ring, sender: loom::sync::mpsc::Sender<Use>| {
            move || {
                let region = ring.lease(None).publish();
                sender.send(region.queue()).unwrap();
                region.drop();
            }
        };
        let first = thread::spawn(write(ring.clone(), sender.clone()));
        let second = thread::spawn(write(ring.clone(), sender));
        for _ in 0..2 {
            let mut used = receiver.recv().unwrap();
            used.send(1, Taking::References).unwrap();
            used.send(1, Taking::Copies).unwrap();
            used.settle(Settled::Unproven);
        }
        first.join().unwrap();
        second.join().unwrap();
        ring.rest();
        assert_eq!(ring.table().quarantined(), 0);
    });
}

/// One region for two sockets, and who wants its partition next.
fn fan_out(next: Option<Connection>, send: impl Fn(Use) + Copy + Send + Sync + 'static) -> Proof {
    let ring = Ring::new(1);
    let region = ring.lease(None).publish();
    let uses = [region.queue(), region.queue()];
    let senders = uses.map(|used| thread::spawn(move || send(used)));
    region.read();
    region.drop();
    let next = ring.lease(next);
    let proof = next.taken.proof;
    next.publish().drop();
    for sender in senders {
        sender.join().unwrap();
    }
    ring.rest();
    assert_eq!(ring.table().quarantined(), 0, "pages that can be replaced are");
    proof
}

#[test]
fn a_region_of_several_sockets_is_free_when_the_last_has_its_proof() {
    let send = |taking, settled| {
        move |mut used: Use| {
            used.send(1, taking).unwrap();
            used.send(1, taking).unwrap();
            used.settle(settled);
        }
    };
    holds(Some(3), move || {
        assert_eq!(fan_out(None, send(Taking::References, Settled::Unproven)), Proof::Replaced);
    });
    holds(Some(3), move || {
        assert_eq!(fan_out(None, send(Taking::Copies, Settled::Copied)), Proof::Copied);
    });
    holds(Some(3), move || {
        let proof = fan_out(None, move |mut used| {
            used.send(LEN, Taking::References).unwrap();
            used.handle_released();
        });
        assert_eq!(proof, Proof::Released);
    });
}

#[test]
fn an_acknowledgement_for_anybody_else_is_none() {
    holds(Some(3), || {
        // Leased for nobody in particular, acknowledged by both, and wanted by one.
        let proof = fan_out(Some(Connection(1)), |mut used| {
            used.send(LEN, Taking::References).unwrap();
            let connection = Connection(u8::try_from(used.key).unwrap() + 1);
            used.settle(Settled::Acked(connection));
        });
        assert_eq!(proof, Proof::Replaced);
    });
}

#[test]
fn pages_are_replaced_only_when_nobody_here_reads_them() {
    // Two who hold the region, one who sends it, and the writer: whoever lets
    // go last, the writer finds pages that are its own alone.
    holds(Some(3), || {
        let ring = Ring::new(1);
        let region = ring.lease(None).publish();
        let mut used = region.queue();
        let other = region.twice();
        let holder = thread::spawn(move || {
            other.read();
            other.drop();
        });
        let sender = thread::spawn(move || {
            used.send(LEN, Taking::References).unwrap();
            used.settle(Settled::Unproven);
        });
        region.drop();
        let next = ring.lease(None);
        assert_eq!(next.taken.proof, Proof::Replaced);
        next.publish().drop();
        holder.join().unwrap();
        sender.join().unwrap();
        ring.rest();
        assert_eq!(ring.table().quarantined(), 0);
    });
}

#[test]
fn a_lease_that_is_reverted_leaves_what_was_there_before() {
    holds(None, || {
        let ring = Ring::new(1);
        let lease = ring.lease(None);
        let other = thread::spawn({
            let ring = ring.clone();
            move || {
                let lease = ring.lease(None);
                // The first one's version was its own, and is over.
                assert_eq!((lease.taken.before, lease.taken.place.version), (0, 2));
                lease.publish().drop();
            }
        });
        let mut lease = lease;
        lease.write();
        lease.revert();
        other.join().unwrap();
        let Attempt::Leased(last) = ring.table().lease(None) else { panic!("it is free") };
        assert_eq!((last.before, last.place.version), (2, 3));
        ring.table().revert(last.place, last.pages, last.before);
        ring.rest();
    });
}

#[test]
fn a_proof_counts_once_and_partitions_come_in_the_order_in_which_they_were_freed() {
    holds(None, || {
        let ring = Ring::new(2);
        let (first, second) = (ring.lease(None), ring.lease(None));
        let (first, second) = (first.publish(), second.publish());
        let mut used = second.queue();
        second.drop();
        used.send(LEN, Taking::Copies).unwrap();
        used.settle(Settled::Copied);
        first.drop();
        let leased = [(); 3].map(|()| {
            let lease = ring.lease(None);
            let of = (lease.taken.place.index, lease.taken.proof);
            lease.revert();
            of
        });
        let expected = [(1, Proof::Copied), (0, Proof::Unsent), (1, Proof::Unsent)];
        assert_eq!(leased, expected);
        ring.rest();
    });
}

#[test]
fn versions_are_never_given_twice() {
    holds(None, || {
        let ring = Ring::new(2);
        let lease = |ring: &Ring| {
            let region: Region = ring.lease(None).publish();
            let version = region.queue().place.version;
            (region, version)
        };
        let other = thread::spawn({
            let ring = ring.clone();
            move || lease(&ring).1
        });
        let here = lease(&ring).1;
        assert_eq!(here + other.join().unwrap(), 3, "1 and 2");
    });
}

#[test]
fn memory_without_a_proof_that_cannot_be_replaced_is_never_written_again() {
    holds(Some(3), || {
        let ring = Ring::with(2, false, Stragglers::Wait);
        let region = ring.lease(None).publish();
        let mut used = region.queue();
        region.drop();
        let sender = thread::spawn(move || {
            used.send(LEN, Taking::References).unwrap();
            used.settle(Settled::Unproven);
        });
        // There is another, until it is wanted twice.
        ring.lease(None).publish().drop();
        ring.lease(None).publish().drop();
        sender.join().unwrap();
        let last = ring.lease(None);
        assert!(ring.try_acquire(None).unwrap().is_none(), "it is written again");
        assert_eq!(ring.table().quarantined(), 1);
        last.publish().drop();
        ring.rest();
    });
}
