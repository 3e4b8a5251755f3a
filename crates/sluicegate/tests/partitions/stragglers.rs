//! Regions that are taken from sockets which are too slow.

use loom::thread;

use crate::actors::{LEN, Rest, Ring, Taking, Use};
use crate::play::holds;
use crate::ring::Stragglers;
use crate::ring::slot::Settled;

/// Sends in two calls; what was cut loose has all that was not sent.
fn send_slowly(mut used: Use, taking: Taking) {
    let whole = Rest { at: 0, content: used.content };
    for at in 0..LEN {
        if let Err(rest) = used.send(1, taking) {
            assert_eq!(rest, Rest { at, ..whole }, "its rest is another");
            break;
        }
    }
    // The kernel may have the first bytes of it: whoever cut it loose knows.
    used.settle(settled(taking));
}

fn settled(taking: Taking) -> Settled {
    match taking {
        Taking::Copies => Settled::Copied,
        Taking::References => Settled::Unproven,
    }
}

fn cut_while_it_is_sent(taking: Taking) {
    let ring = Ring::with(1, true, Stragglers::Abort);
    let region = ring.lease(None).publish();
    let used = region.queue();
    region.drop();
    let sender = thread::spawn(move || send_slowly(used, taking));
    // Its successor has the same key, and is another's.
    let next = ring.lease(None).publish();
    let mut used = next.queue();
    used.send(LEN, taking).unwrap();
    sender.join().unwrap();
    used.settle(settled(taking));
    next.drop();
    ring.rest();
    assert_eq!(ring.table().quarantined(), 0);
}

#[test]
fn no_call_loses_the_pages_that_it_reads() {
    holds(Some(4), || cut_while_it_is_sent(Taking::Copies));
    holds(Some(4), || cut_while_it_is_sent(Taking::References));
}

#[test]
fn two_stragglers_of_one_region_each_keep_their_rest() {
    holds(Some(3), || {
        let ring = Ring::with(1, true, Stragglers::Abort);
        let region = ring.lease(None).publish();
        let uses = [region.queue(), region.queue()];
        region.drop();
        let [first, second] = uses;
        let senders = [
            thread::spawn(move || send_slowly(first, Taking::Copies)),
            thread::spawn(move || send_slowly(second, Taking::References)),
        ];
        ring.lease(None).publish().drop();
        for sender in senders {
            sender.join().unwrap();
        }
        ring.rest();
        assert_eq!(ring.table().quarantined(), 0);
    });
}

#[test]
fn two_writers_take_one_partition_from_one_straggler() {
    holds(Some(4), || {
        let ring = Ring::with(1, true, Stragglers::Abort);
        let region = ring.lease(None).publish();
        let mut used = region.queue();
        used.send(1, Taking::References).unwrap();
        region.drop();
        let other = thread::spawn({
            let ring = ring.clone();
            move || ring.lease(None).publish().drop()
        });
        ring.lease(None).publish().drop();
        other.join().unwrap();
        let rest = Rest { at: 1, content: used.content };
        assert_eq!(used.send(1, Taking::References), Err(rest));
        used.settle(Settled::Unproven);
        ring.rest();
        assert_eq!(ring.table().quarantined(), 0);
    });
}

#[test]
fn no_region_is_taken_that_is_newer_than_the_one_that_was_seen() {
    holds(Some(4), || {
        let ring = Ring::with(1, true, Stragglers::Abort);
        let region = ring.lease(None).publish();
        let first = region.queue();
        region.drop();
        let other = thread::spawn({
            let ring = ring.clone();
            move || {
                first.settle(Settled::Copied);
                let region = ring.lease(None).publish();
                let second = region.queue();
                region.drop();
                // Says of itself which one it was, when it was taken.
                send_slowly(second, Taking::References);
            }
        });
        ring.lease(None).publish().drop();
        other.join().unwrap();
        ring.rest();
    });
}
