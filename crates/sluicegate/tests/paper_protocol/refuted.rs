//! What II-C lets happen. Each test gives the paper the kindest reading in
//! everything but what it looks at: its table's start, a lock that is kept as
//! long as the writer writes, and a handler that knows what was sent.

use crate::actors::{Events, Wire};
use crate::model::Finding::{Failed, Lost, Newer, Older, OutOfOrder, Stuck, Twice, Unwritten};
use crate::play::Play;
use crate::protocols::{Blind, Paper, Reading};

fn paper(reading: Reading, partitions: usize, laps: u8) -> Play<Paper> {
    let protocol = Paper { starts_acked: true, reading };
    Play { keeps_lock: true, preemptions: Some(3), ..Play::of(protocol, partitions, laps) }
}

#[test]
fn without_acknowledgements_writer_and_sender_overtake_each_other() {
    let blind = Play { preemptions: Some(2), ..Play::of(Blind { laps: 2 }, 1, 2) };
    assert_eq!(blind.explore().found(), [Newer, Older]);
}

#[test]
fn from_the_start_in_the_text_garbage_is_sent_or_nothing_ever() {
    let text = |reading| {
        let protocol = Paper { starts_acked: false, reading };
        Play { protocol, preemptions: None, ..paper(reading, 1, 1) }.explore()
    };
    // Version 0 is "not less" than nothing, and its acknowledgement is what
    // lets the writer begin.
    let literal = text(Reading::NotLess);
    assert_eq!((literal.clean, literal.found[&Unwritten]), (0, literal.executions));
    let strict = text(Reading::Greater);
    assert_eq!((strict.found(), strict.found[&Stuck]), (vec![Stuck], strict.executions));
}

#[test]
fn new_and_sent_look_alike_so_a_partition_is_sent_twice() {
    // The first copy's acknowledgement lets the writer in while the second
    // one waits; the second's gives up the next version before it is sent.
    let one = paper(Reading::NotLess, 1, 2).explore();
    assert_eq!(one.found(), [Newer, Twice, Lost]);
    let two = paper(Reading::NotLess, 2, 1).explore();
    assert_eq!(two.found(), [Twice, OutOfOrder]);
}

#[test]
fn read_strictly_the_rule_never_sends_the_second_partition_of_a_lap() {
    let two = paper(Reading::Greater, 2, 1).explore();
    assert_eq!((two.found(), two.found[&Stuck]), (vec![Stuck], two.executions));
    let one = paper(Reading::Greater, 1, 2).explore();
    assert_eq!(one.clean, one.executions, "a ring of one partition is safe");
}

#[test]
fn a_sender_that_remembers_each_partition_has_the_third_state_to_itself() {
    for (partitions, laps) in [(1, 2), (2, 1)] {
        let alone = paper(Reading::GreaterHere, partitions, laps).explore();
        assert_eq!(alone.clean, alone.executions);
    }
    let two = Play { senders: 2, preemptions: Some(2), ..paper(Reading::GreaterHere, 1, 1) };
    assert_eq!(two.explore().found(), [Twice]);
}

#[test]
fn a_partition_is_sent_while_it_is_being_filled() {
    // "Any update to values in the cells" is under the lock; the memory is no
    // value in a cell.
    let literal =
        Play { keeps_lock: false, preemptions: None, ..paper(Reading::GreaterHere, 1, 1) };
    assert_eq!(literal.explore().found(), [Older]);
    let kept = Play { preemptions: None, ..paper(Reading::GreaterHere, 1, 1) }.explore();
    assert_eq!(kept.clean, kept.executions, "safe, while the sender waits for the writer");
}

#[test]
fn a_write_that_fails_may_have_been_sent_before_it_is_reverted() {
    let one = Play { failures: 1, ..paper(Reading::GreaterHere, 1, 1) };
    let literal = Play { keeps_lock: false, ..one }.explore();
    // Stuck, because the version that was sent by mistake is not sent again.
    assert_eq!(literal.found(), [Older, Failed, Stuck]);
    let kept = one.explore();
    assert_eq!(kept.clean, kept.executions);
}

#[test]
fn acknowledgements_counted_from_the_start_give_up_the_second_lap_unsent() {
    let total = Play { events: Events::Total, ..paper(Reading::GreaterHere, 1, 2) };
    assert_eq!(total.explore().found(), [Lost]);
}

#[test]
fn the_first_of_two_recipients_to_acknowledge_takes_the_memory_from_the_other() {
    // With one preemption more, in 155,000 executions: Lost too, when the
    // second acknowledgement gives up the next version before it is sent.
    let two = Play { connections: 2, preemptions: Some(2), ..paper(Reading::GreaterHere, 1, 2) };
    assert_eq!(two.explore().found(), [Newer]);
}

#[test]
fn on_one_host_memory_changes_that_is_acknowledged_and_not_yet_read() {
    let shared = Play { wire: Wire::Shared, ..paper(Reading::GreaterHere, 1, 2) };
    assert_eq!(shared.explore().found(), [Newer]);
}
