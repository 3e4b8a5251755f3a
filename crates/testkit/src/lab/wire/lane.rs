//! One direction of a wire: which packets come out, and when. No descriptor and no clock.

use std::collections::VecDeque;
use std::time::Duration;

use super::{Conditions, Counts};
use crate::scripted::Random;

/// How many packets overtake one that is held back: three duplicate acknowledgements make TCP
/// believe in a loss (RFC 5681, section 3.2).
const OVERTAKERS: u32 = 3;

/// How long a packet is held back for others to overtake it: the last one of all would otherwise
/// be held for ever.
const HOLD_LIMIT: Duration = Duration::from_millis(10);

/// Buffers that are kept for the next packets.
const SPARE: usize = 1024;

const NANOSECONDS: u64 = 1_000_000_000;

/// A packet that waits for its turn.
#[derive(Debug)]
struct Waiting {
    bytes: Vec<u8>,
    came: Duration,
    hold: bool,
}

/// A packet that is under way.
#[derive(Debug)]
struct Flying {
    bytes: Vec<u8>,
    due: Duration,
    hold: bool,
}

/// A packet that is held back at the far end.
#[derive(Debug)]
struct Held {
    bytes: Vec<u8>,
    until: Duration,
    overtaken_by: u32,
}

/// All times are counted from the wire's beginning.
#[derive(Debug)]
pub(super) struct Lane {
    conditions: Conditions,
    random: Random,
    counts: Counts,
    queue: VecDeque<Waiting>,
    queued_bytes: usize,
    /// When the last packet had had its turn, or the conditions changed.
    free_since: Duration,
    /// In the order in which they come out.
    flight: VecDeque<Flying>,
    held: VecDeque<Held>,
    spare: Vec<Vec<u8>>,
}

impl Lane {
    pub(super) fn new(conditions: Conditions, seed: u64) -> Self {
        Self {
            conditions,
            random: Random::new(seed),
            counts: Counts::default(),
            queue: VecDeque::new(),
            queued_bytes: 0,
            free_since: Duration::ZERO,
            flight: VecDeque::new(),
            held: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Other conditions from now on. What is under way stays so; what waits for its turn has it
    /// at the new rate.
    pub(super) fn handle_change(&mut self, now: Duration, conditions: Conditions) {
        self.take_turns(now);
        self.conditions = conditions;
        // Else the time since the last turn would count at the new rate.
        self.free_since = self.free_since.max(now);
    }

    /// A packet comes in.
    pub(super) fn handle_packet(&mut self, now: Duration, packet: &[u8]) {
        // All three are drawn for each packet: no condition changes another's luck.
        let [drop, duplicate, hold] = [
            self.conditions.drop_one_in,
            self.conditions.duplicate_one_in,
            self.conditions.reorder_one_in,
        ]
        .map(|n| self.random.number().checked_rem(n.into()) == Some(0));

        self.take_turns(now);
        if drop {
            self.counts.dropped += 1;
            return;
        }
        let queued = self.queue_up(now, packet, hold);
        if queued && duplicate && self.queue_up(now, packet, false) {
            self.counts.duplicated += 1;
        }
    }

    /// The far end's device did not take a packet that came out.
    pub(super) fn handle_refusal(&mut self, length: usize) {
        self.counts.packets -= 1;
        self.counts.bytes -= length as u64;
        self.counts.refused += 1;
    }

    /// The next packet that comes out by now. Give its buffer back with [`Lane::recycle`].
    pub(super) fn poll_packet(&mut self, now: Duration) -> Option<Vec<u8>> {
        self.take_turns(now);
        let bytes = self.overtaken(now).or_else(|| self.arrived(now))?;
        self.counts.packets += 1;
        self.counts.bytes += bytes.len() as u64;
        Some(bytes)
    }

    /// When the next packet comes out, if no other one comes in.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        // The end of a turn needs no wake-up: it is worked out afterwards.
        let waiting =
            self.queue.front().map(|packet| self.end_of_turn(packet) + self.conditions.delay);
        let flying = self.flight.front().map(|packet| packet.due);
        let held = self.held.front().map(|packet| packet.until);
        [waiting, flying, held].into_iter().flatten().min()
    }

    /// Takes a buffer back.
    pub(super) fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE {
            self.spare.push(buffer);
        }
    }

    /// Whether there was room.
    fn queue_up(&mut self, now: Duration, packet: &[u8], hold: bool) -> bool {
        let Conditions { rate, queue, .. } = self.conditions;
        if rate > 0 && self.queued_bytes > 0 && self.queued_bytes + packet.len() > queue {
            self.counts.overflowed += 1;
            return false;
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(packet);
        self.queued_bytes += bytes.len();
        self.queue.push_back(Waiting { bytes, came: now, hold });
        true
    }

    /// When a packet has had its turn, if it is the next one.
    fn end_of_turn(&self, packet: &Waiting) -> Duration {
        let length = packet.bytes.len() as u64;
        let nanoseconds = (length * NANOSECONDS).checked_div(self.conditions.rate).unwrap_or(0);
        self.free_since.max(packet.came) + Duration::from_nanos(nanoseconds)
    }

    /// Lets every packet go on its way whose turn has ended by now.
    fn take_turns(&mut self, now: Duration) {
        while let Some(packet) = self.queue.front() {
            let end = self.end_of_turn(packet);
            if end > now {
                return;
            }
            let Some(Waiting { bytes, hold, .. }) = self.queue.pop_front() else { return };
            self.free_since = end;
            self.queued_bytes -= bytes.len();
            self.flight.push_back(Flying { bytes, due: end + self.conditions.delay, hold });
        }
    }

    /// A packet that has been held back for long enough.
    fn overtaken(&mut self, now: Duration) -> Option<Vec<u8>> {
        let first = self.held.front()?;
        if first.overtaken_by < OVERTAKERS && first.until > now {
            return None;
        }
        let Held { bytes, overtaken_by, .. } = self.held.pop_front()?;
        self.counts.reordered += u64::from(overtaken_by > 0);
        Some(bytes)
    }

    /// A packet that has arrived and is not held back.
    fn arrived(&mut self, now: Duration) -> Option<Vec<u8>> {
        loop {
            if self.flight.front()?.due > now {
                return None;
            }
            let Flying { bytes, due, hold } = self.flight.pop_front()?;
            if !hold {
                for held in &mut self.held {
                    held.overtaken_by += 1;
                }
                return Some(bytes);
            }
            self.held.push_back(Held { bytes, until: due + HOLD_LIMIT, overtaken_by: 0 });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn lane(conditions: Conditions) -> Lane {
        Lane::new(conditions, 1)
    }

    /// Everything that comes out by now.
    fn out(lane: &mut Lane, now: Duration) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| lane.poll_packet(now)).collect()
    }

    /// What becomes of 1,000 packets that come at once, by their numbers.
    fn fate(conditions: Conditions, seed: u64) -> Vec<u16> {
        let mut lane = Lane::new(conditions, seed);
        for number in 0..1000_u16 {
            lane.handle_packet(Duration::ZERO, &number.to_be_bytes());
        }
        let mut packets = out(&mut lane, Duration::ZERO);
        packets.extend(out(&mut lane, HOLD_LIMIT));
        packets.iter().map(|packet| u16::from_be_bytes([packet[0], packet[1]])).collect()
    }

    #[test]
    fn without_conditions_packets_pass_at_once_and_in_order() {
        assert_eq!(fate(Conditions::default(), 3), Vec::from_iter(0..1000));
    }

    #[test]
    fn the_same_seed_decides_alike_and_no_condition_changes_anothers_luck() {
        let both = Conditions { drop_one_in: 10, duplicate_one_in: 10, ..Conditions::default() };
        assert_eq!(fate(both, 3), fate(both, 3));
        assert_ne!(fate(both, 3), fate(both, 4));

        let drop = Conditions { duplicate_one_in: 0, ..both };
        let mut without_duplicates = fate(both, 3);
        without_duplicates.dedup();
        assert_eq!(fate(drop, 3), without_duplicates);
        let lost = 1000 - without_duplicates.len();
        assert!((50..200).contains(&lost), "{lost} of 1000");
    }

    #[test]
    fn a_packet_that_is_held_back_is_overtaken_by_three() {
        let order = fate(Conditions { reorder_one_in: 50, ..Conditions::default() }, 3);
        let overtakers =
            |at: usize| order[..at].iter().filter(|&&before| before > order[at]).count();
        let late: Vec<usize> = (0..1000).map(overtakers).filter(|&count| count > 0).collect();
        assert!(late.len() > 10, "{late:?}");
        // All but those that come so late that no three follow.
        assert!(late.iter().rev().skip(3).all(|&count| count == 3), "{late:?}");
        let mut sorted = order;
        sorted.sort_unstable();
        assert_eq!(sorted, Vec::from_iter(0..1000));
    }

    #[test]
    fn the_last_packet_of_all_is_not_held_for_ever() {
        let mut lane = lane(Conditions { reorder_one_in: 1, ..Conditions::default() });
        lane.handle_packet(Duration::ZERO, b"last");
        assert_eq!(lane.poll_packet(Duration::ZERO), None);
        assert_eq!(lane.poll_timeout(), Some(HOLD_LIMIT));
        assert_eq!(lane.poll_packet(HOLD_LIMIT).as_deref(), Some(&b"last"[..]));
        assert_eq!((lane.poll_timeout(), lane.counts().reordered), (None, 0));
    }

    #[test]
    fn a_rate_spaces_packets_and_saves_nothing_up() {
        let mut lane = lane(Conditions { rate: 1000, ..Conditions::default() });
        // Idle for a second before: the first one still takes its tenth.
        for _ in 0..3 {
            lane.handle_packet(SECOND, &[0; 100]);
        }
        let tenth = SECOND / 10;
        for turn in 1..=3 {
            let end = SECOND + turn * tenth;
            assert_eq!(lane.poll_timeout(), Some(end));
            assert_eq!(out(&mut lane, end - Duration::from_nanos(1)).len(), 0);
            assert_eq!(out(&mut lane, end).len(), 1);
        }
        // A relay that wakes up late lets all of them out that had their turns.
        for _ in 0..3 {
            lane.handle_packet(2 * SECOND, &[0; 100]);
        }
        assert_eq!(out(&mut lane, 2 * SECOND + tenth * 5 / 2).len(), 2);
    }

    #[test]
    fn one_wake_up_is_enough_for_a_packet() {
        let conditions = Conditions { rate: 1000, delay: SECOND, ..Conditions::default() };
        let mut lane = lane(conditions);
        lane.handle_packet(Duration::ZERO, &[0; 100]);
        lane.handle_packet(Duration::ZERO, &[0; 100]);
        let first = SECOND + SECOND / 10;
        assert_eq!(lane.poll_timeout(), Some(first));
        assert_eq!(out(&mut lane, first).len(), 1);
        assert_eq!(lane.poll_timeout(), Some(first + SECOND / 10));
        assert_eq!(out(&mut lane, first + SECOND / 10).len(), 1);
        assert_eq!(lane.poll_timeout(), None);
    }

    #[test]
    fn a_full_queue_drops_what_comes_last() {
        let mut lane = lane(Conditions { rate: 1000, queue: 250, ..Conditions::default() });
        for number in 0..4 {
            lane.handle_packet(Duration::ZERO, &[number; 100]);
        }
        assert_eq!(lane.counts().overflowed, 2);
        let firsts: Vec<u8> = out(&mut lane, SECOND).iter().map(|packet| packet[0]).collect();
        assert_eq!(firsts, [0, 1]);
        // Longer than the queue is: it may still wait alone.
        lane.handle_packet(SECOND, &[4; 300]);
        assert_eq!(out(&mut lane, 2 * SECOND).len(), 1);
    }

    #[test]
    fn a_shorter_delay_lets_no_packet_overtake() {
        let mut lane = lane(Conditions { delay: SECOND, ..Conditions::default() });
        lane.handle_packet(Duration::ZERO, b"first");
        lane.handle_change(Duration::ZERO, Conditions::default());
        lane.handle_packet(Duration::ZERO, b"second");
        assert_eq!(out(&mut lane, SECOND / 2).len(), 0);
        assert_eq!(out(&mut lane, SECOND), [&b"first"[..], b"second"]);
    }

    #[test]
    fn a_higher_rate_counts_from_its_change() {
        let mut lane = lane(Conditions { rate: 1, ..Conditions::default() });
        for _ in 0..20 {
            lane.handle_packet(Duration::ZERO, &[0; 100]);
        }
        lane.handle_change(SECOND, Conditions { rate: 1000, ..Conditions::default() });
        // Not the ten packets that the new rate would have let pass since the beginning.
        assert_eq!(out(&mut lane, SECOND + SECOND / 10).len(), 1);
        assert_eq!(out(&mut lane, 2 * SECOND).len(), 9);
    }

    #[test]
    fn counts_tell_what_came_out() {
        let conditions =
            Conditions { drop_one_in: 7, duplicate_one_in: 7, ..Conditions::default() };
        let mut lane = lane(conditions);
        for _ in 0..1000 {
            lane.handle_packet(Duration::ZERO, &[0; 10]);
        }
        let came_out = out(&mut lane, SECOND).len() as u64;
        let Counts { packets, bytes, dropped, duplicated, .. } = lane.counts();
        assert_eq!((packets, bytes), (came_out, 10 * came_out));
        assert_eq!(packets, 1000 - dropped + duplicated);
        assert!(dropped > 0 && duplicated > 0);
    }
}
