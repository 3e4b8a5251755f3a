//! Regions that are taken from sockets which are too slow.

use loom::thread;

use crate::actors::{LEN, Policy, Rest, Ring, Taking, Use};
use crate::play::holds;
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
    used.settle(match taking {
        Taking::Copies => Settled::Copied,
        Taking::References => Settled::Unproven,
    });
}

fn cut_while_it_is_sent(taking: Taking) {
    let ring = Ring::with(1, true, Policy::Cut);
    let region = ring.acquire(None).lease().publish();
    let used = region.queue();
    region.drop();
    let sender = thread::spawn(move || send_slowly(used, taking));
    ring.acquire(None).lease().publish().drop();
    sender.join().unwrap();
    ring.rest();
    assert_eq!(ring.table.quarantined(), 0);
}

#[test]
fn no_call_loses_the_pages_that_it_reads() {
    holds(Some(3), || cut_while_it_is_sent(Taking::Copies));
    holds(Some(3), || cut_while_it_is_sent(Taking::References));
}

#[test]
fn two_stragglers_of_one_region_each_keep_their_rest() {
    holds(Some(2), || {
        let ring = Ring::with(1, true, Policy::Cut);
        let region = ring.acquire(None).lease().publish();
        let uses = [region.queue(), region.queue()];
        region.drop();
        let [first, second] = uses;
        let senders = [
            thread::spawn(move || send_slowly(first, Taking::Copies)),
            thread::spawn(move || send_slowly(second, Taking::References)),
        ];
        ring.acquire(None).lease().publish().drop();
        for sender in senders {
            sender.join().unwrap();
        }
        ring.rest();
        assert_eq!(ring.table.quarantined(), 0);
    });
}

#[test]
fn two_writers_take_one_partition_from_one_straggler() {
    holds(Some(2), || {
        let ring = Ring::with(1, true, Policy::Cut);
        let region = ring.acquire(None).lease().publish();
        let used = region.queue();
        region.drop();
        let other = thread::spawn({
            let ring = ring.clone();
            move || ring.acquire(None).lease().publish().drop()
        });
        ring.acquire(None).lease().publish().drop();
        other.join().unwrap();
        send_slowly(used, Taking::Copies);
        ring.rest();
    });
}

#[test]
#[ignore = "fails: what can be cut loose between a look and the wait wakes nobody"]
fn who_waits_hears_that_a_straggler_can_be_cut_loose() {
    // The region is in somebody's hands at first: it cannot be taken.
    holds(Some(3), || {
        let ring = Ring::with(1, true, Policy::Cut);
        let region = ring.acquire(None).lease().publish();
        let used = region.queue();
        let holder = thread::spawn(move || region.drop());
        ring.acquire(None).lease().publish().drop();
        holder.join().unwrap();
        send_slowly(used, Taking::Copies);
        ring.rest();
    });
}
