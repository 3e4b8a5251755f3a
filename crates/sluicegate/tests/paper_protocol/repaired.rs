//! The same actors with the third state: free, being filled, new, sent.

use crate::actors::Wire;
use crate::model::Finding::{self, Failed, Lost, Newer, Older, Twice};
use crate::play::Play;
use crate::protocols::{Ours, Slip};

fn ours(partitions: usize, laps: u8) -> Play<Ours> {
    Play { preemptions: Some(3), ..Play::of(Ours::default(), partitions, laps) }
}

/// Every version arrives once, in order and whole, and nobody is stuck.
#[track_caller]
fn holds(play: Play<Ours>) {
    let report = play.explore();
    // With less there would be nothing to tell apart.
    assert!(report.executions > 100, "{report:?}");
    assert_eq!(report.clean, report.executions, "{report:?}");
}

#[test]
fn every_version_arrives_once_and_whole_in_all_orders() {
    holds(Play { preemptions: None, ..ours(1, 2) });
}

#[test]
fn partitions_arrive_in_the_order_of_the_ring() {
    holds(ours(2, 2));
}

#[test]
fn writers_share_a_ring() {
    holds(Play { writers: 2, preemptions: Some(2), ..ours(1, 2) });
    holds(Play { writers: 2, preemptions: Some(2), ..ours(2, 1) });
}

#[test]
fn senders_share_a_partition() {
    holds(Play { senders: 2, preemptions: Some(2), ..ours(1, 2) });
}

#[test]
fn a_partition_is_free_when_its_last_recipient_has_acknowledged() {
    holds(Play { connections: 2, preemptions: Some(2), ..ours(1, 2) });
}

#[test]
fn of_a_write_that_fails_nothing_is_sent() {
    holds(Play { failures: 1, ..ours(1, 2) });
}

#[test]
fn on_one_host_a_copy_frees_and_an_acknowledgement_does_not() {
    let shared = Play { wire: Wire::Shared, ..ours(1, 2) };
    // States alone are not enough: they say when to ask for a proof, not
    // which one it is.
    assert_eq!(shared.explore().found(), [Newer]);
    holds(Play { protocol: Ours { copies: true, slip: None }, ..shared });
}

#[test]
fn a_rule_left_out_is_found() {
    let without = |slip, play: Play<Ours>| -> Vec<Finding> {
        Play { protocol: Ours { copies: false, slip: Some(slip) }, ..play }.explore().found()
    };
    assert_eq!(without(Slip::TakesSent, ours(1, 2)), [Newer]);
    assert_eq!(without(Slip::StaysNew, ours(1, 2)), [Newer, Twice, Lost]);
    assert_eq!(without(Slip::NewUnfilled, ours(1, 2)), [Older]);
    let failing = Play { failures: 1, ..ours(1, 1) };
    assert_eq!(without(Slip::RevertsToNew, failing), [Older, Failed]);
    let several = Play { connections: 2, preemptions: Some(2), ..ours(1, 2) };
    assert_eq!(without(Slip::FirstFrees, several), [Newer]);
}
