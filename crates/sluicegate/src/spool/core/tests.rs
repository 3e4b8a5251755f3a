//! The core against a world in which every place refuses at random, and an oracle:
//! the numbers of the bytes, in order.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use proptest::prelude::*;

use super::*;

/// Slots of a pipe of this world.
const SLOTS: usize = 16;

/// A place of this world: the bytes from `start` on, of which `handed` were given.
#[derive(Debug)]
struct Place {
    start: u64,
    handed: u64,
    /// Fragments in a pipe's slots.
    slots: Rc<RefCell<VecDeque<u64>>>,
}

/// What happens next in this world.
#[derive(Clone, Debug)]
enum Step {
    /// The source gets so many bytes, in fragments of so many.
    Source(u64, u64),
    /// The sink can take so many bytes.
    Sink(u64),
    /// So many pipes are to be had, of which the last four are for those that move.
    Pipes(usize),
    Crowd(Crowd),
    /// So many bytes are free of the ring and of the disk.
    Rings(u64, u64),
    /// So many bytes the budget has.
    Budget(u64),
    NoDisk,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..3_000_000u64, prop_oneof![Just(1u64), 1..3_000u64, Just(40_000u64)])
            .prop_map(|(bytes, fragment)| Step::Source(bytes.min(fragment * 500), fragment)),
        4 => (0..2_000_000u64).prop_map(Step::Sink),
        1 => (0..9usize).prop_map(Step::Pipes),
        1 => (any::<bool>(), any::<bool>(), 1..20usize)
            .prop_map(|(is_dense, is_slow, share)| Step::Crowd(Crowd { is_dense, is_slow, share })),
        1 => (0..300_000u64, 0..300_000u64).prop_map(|(ring, disk)| Step::Rings(ring, disk)),
        1 => prop_oneof![Just(0u64), 0..100_000u64, Just(u64::MAX)].prop_map(Step::Budget),
        1 => Just(Step::NoDisk),
    ]
}

#[derive(Debug)]
struct World {
    core: Core<Place>,
    bounds: Bounds,
    has_ring: bool,
    /// Fragments that were received, and how many bytes came in all.
    source: VecDeque<u64>,
    came: u64,
    /// Number of the next byte of the source, of the next to be given, and of the
    /// next to be accepted.
    filled: u64,
    given: u64,
    accepted: u64,
    /// Given and not accepted, with the slots of the pipe that they are in.
    sink: VecDeque<(u64, Rc<RefCell<VecDeque<u64>>>)>,
    pipes: usize,
    crowd: Crowd,
    ring_free: u64,
    disk_free: u64,
    budget: u64,
    is_hung_up: bool,
    /// The task is woken when something is received.
    is_waiting: bool,
}

/// Takes at most `len` bytes from fragments; each taken piece.
fn take(from: &mut VecDeque<u64>, len: u64, slots: usize) -> Vec<u64> {
    let (mut left, mut taken) = (len, Vec::new());
    while left > 0
        && taken.len() < slots
        && let Some(front) = from.front_mut()
    {
        let part = left.min(*front);
        *front -= part;
        left -= part;
        taken.push(part);
        if *front == 0 {
            from.pop_front();
        }
    }
    taken
}

impl World {
    fn new(bounds: Bounds, has_ring: bool, known: Option<u64>) -> Self {
        let mut core = Core::new(bounds);
        core.expect(known);
        World {
            core,
            bounds,
            has_ring,
            source: VecDeque::new(),
            came: 0,
            filled: 0,
            given: 0,
            accepted: 0,
            sink: VecDeque::new(),
            pipes: 8,
            crowd: Crowd::default(),
            ring_free: u64::MAX,
            disk_free: u64::MAX,
            budget: u64::MAX,
            is_hung_up: false,
            is_waiting: false,
        }
    }

    /// Puts bytes at the end of the open stretch of this tier, or into a new one.
    fn put(&mut self, tier: Tier, bytes: u64) {
        let is_same = self.core.open().is_some_and(|last| last.tier == tier);
        if is_same {
            self.core.handle_filled(bytes);
        } else {
            let place = Place { start: self.filled, handed: 0, slots: Rc::default() };
            self.core.handle_new(tier, place, bytes, true);
        }
        self.filled += bytes;
    }

    /// One try to fill, as the spool has it: whether something came. Without, the task
    /// waits for the source, or for the sink.
    fn fill(&mut self) -> bool {
        loop {
            if self.is_waiting {
                self.core.handle_source_empty();
                return false;
            }
            let wants = self.core.poll_wants(self.crowd);
            if wants.nothing() {
                return false;
            }
            if wants.loose > 0 && self.core.takes_pipes() {
                let slots = match self.core.open() {
                    Some(last) if last.tier == Tier::Pipe && last.held() < ROUND => {
                        Some(Rc::clone(&last.holder.slots))
                    }
                    _ => None,
                };
                let kept = if self.core.held() == 0 { 0 } else { 4 };
                if slots.is_some() || self.pipes > kept {
                    let is_new = slots.is_none();
                    let slots = slots.unwrap_or_default();
                    let inside: u64 = slots.borrow().iter().sum();
                    let len = wants.loose.min(ROUND - inside.min(ROUND)).min(self.granted(wants));
                    if len > 0 {
                        let room = SLOTS - slots.borrow().len();
                        let taken = take(&mut self.source, len, room);
                        let count: u64 = taken.iter().sum();
                        if count > 0 {
                            slots.borrow_mut().extend(taken);
                            if is_new {
                                self.pipes -= 1;
                                let place = Place { start: self.filled, handed: 0, slots };
                                self.core.handle_new(Tier::Pipe, place, count, true);
                                self.filled += count;
                            } else {
                                self.put(Tier::Pipe, count);
                            }
                            return true;
                        }
                        if inside > 0 && (self.is_hung_up || !self.source.is_empty()) {
                            self.core.handle_full();
                        } else {
                            self.is_waiting = true;
                        }
                        continue;
                    }
                }
            }
            let ring = wants.ring.min(self.ring_free);
            let disk = wants.disk.min(self.disk_free);
            let (tier, len) = if self.has_ring && ring > 0 {
                (Tier::Ring, ring)
            } else if wants.loose > 0 && self.granted(wants) > 0 {
                (Tier::Memory, wants.loose.min(self.granted(wants)))
            } else if disk > 0 {
                (Tier::Disk, disk)
            } else {
                return false;
            };
            let count: u64 = take(&mut self.source, len.min(256 * 1024), usize::MAX).iter().sum();
            if count == 0 {
                self.is_waiting = true;
                continue;
            }
            match tier {
                Tier::Ring => self.ring_free -= count,
                Tier::Disk => self.disk_free -= count,
                _ => {}
            }
            self.put(tier, count);
            if count.is_multiple_of(3) {
                self.core.close();
            }
            return true;
        }
    }

    /// What the budget gives, as `Spool::reserved` has it.
    fn granted(&self, wants: Wants) -> u64 {
        let least = LEAST.saturating_sub(self.core.loose());
        self.budget.max(least).min(wants.loose)
    }

    /// Queues at the sink what can be had.
    fn give(&mut self) -> bool {
        let mut moved = false;
        while let Some((stretch, bytes)) = self.core.poll_given() {
            let place = &mut stretch.holder;
            assert_eq!(place.start + place.handed, self.given, "out of order");
            place.handed += bytes;
            self.given += bytes;
            self.sink.push_back((bytes, Rc::clone(&place.slots)));
            moved = true;
        }
        moved
    }

    /// The sink takes at most `room` bytes. Returns how many.
    fn flush(&mut self, room: u64) -> u64 {
        let mut left = room;
        while left > 0
            && let Some((bytes, slots)) = self.sink.front_mut()
        {
            let taken = left.min(*bytes);
            take(&mut slots.borrow_mut(), taken, usize::MAX);
            *bytes -= taken;
            left -= taken;
            if *bytes == 0 {
                self.sink.pop_front();
            }
        }
        let accepted = room - left;
        self.accepted += accepted;
        let mut freed = 0;
        let pipes = &mut self.pipes;
        let count = self.core.handle_accepted(accepted, |place: Place| {
            freed += 1;
            assert!(place.handed > 0);
            *pipes = (*pipes + 1).min(8);
        });
        assert!(count <= accepted);
        accepted
    }

    /// Goes on as long as anything moves. The sink takes at most `room` bytes.
    fn turn(&mut self, mut room: u64) {
        for round in 0.. {
            assert!(round < 200_000, "hot: {self:?}");
            let mut moved = false;
            while self.fill() {
                moved = true;
                self.check();
            }
            moved |= self.give();
            let accepted = self.flush(room);
            room -= accepted;
            self.check();
            if !moved && accepted == 0 {
                break;
            }
        }
        // Whoever waits is woken: by what is received, or by what the sink takes, or
        // by a partition that becomes free.
        let waits_for_ring = self.ring_free == 0 || self.disk_free == 0;
        assert!(
            self.is_waiting || !self.sink.is_empty() || waits_for_ring,
            "nobody wakes it: {self:?}"
        );
    }

    fn check(&mut self) {
        assert_eq!(self.core.held(), self.filled - self.accepted);
        let Bounds { memory, disk, .. } = self.bounds;
        let most = if memory == 0 { ROUND } else { memory.max(LEAST) };
        assert!(self.core.loose() <= most, "{} of {most}", self.core.loose());
        assert!(self.core.disk <= disk);
        assert!(self.core.in_ring <= self.core.ring);
    }

    fn step(&mut self, step: &Step) {
        let mut room = 0;
        match *step {
            Step::Source(bytes, fragment) => {
                let bytes = bytes.min(self.core.left.map_or(u64::MAX, |_| self.to_come()));
                let mut left = bytes;
                while left > 0 {
                    let part = left.min(fragment);
                    self.source.push_back(part);
                    left -= part;
                }
                self.came += bytes;
                self.is_waiting &= bytes == 0;
            }
            Step::Sink(bytes) => room = bytes,
            Step::Pipes(pipes) => self.pipes = pipes,
            Step::Crowd(crowd) => self.crowd = crowd,
            Step::Rings(ring, disk) => (self.ring_free, self.disk_free) = (ring, disk),
            Step::Budget(bytes) => self.budget = bytes,
            Step::NoDisk => {
                self.core.handle_no_disk();
            }
        }
        self.turn(room);
    }

    /// Bytes that the source is to get, if their number is known.
    fn to_come(&self) -> u64 {
        let received: u64 = self.source.iter().sum();
        self.core.left.map_or(0, |left| left.saturating_sub(received))
    }

    /// The source ends, and the sink takes all, a little at a time.
    fn end(&mut self) {
        self.is_hung_up = true;
        (self.ring_free, self.disk_free) = (u64::MAX, u64::MAX);
        for _ in 0..1_000_000 {
            self.turn(100_000);
            if self.source.is_empty() && self.sink.is_empty() && self.core.held() == 0 {
                break;
            }
        }
        assert_eq!((self.accepted, self.filled), (self.came, self.came), "{self:?}");
        assert_eq!((self.core.loose, self.core.in_ring, self.core.disk), (0, 0, 0));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn bytes_stay_in_order_within_bounds_and_move(
        memory in prop_oneof![Just(0u64), 1..200_000u64, Just(4u64 << 20)],
        disk in prop_oneof![Just(0u64), 10_000..4_000_000u64],
        pipes: bool,
        has_ring: bool,
        known in proptest::option::of(0..20_000_000u64),
        steps in proptest::collection::vec(step(), 1..60),
    ) {
        let mut world = World::new(Bounds { memory, disk, pipes }, has_ring, known);
        if has_ring {
            world.core.handle_ring(memory / 2);
        }
        for step in &steps {
            world.step(step);
        }
        world.end();
    }
}

fn bounds(memory: u64, disk: u64) -> Bounds {
    Bounds { memory, disk, pipes: true }
}

fn filled(core: &mut Core<()>, bytes: u64) {
    match core.open() {
        Some(_) => core.handle_filled(bytes),
        None => core.handle_new(Tier::Pipe, (), bytes, true),
    }
}

#[test]
fn it_fills_ahead_where_that_frees_the_source() {
    let wants = |left, held| {
        let mut core = Core::new(bounds(16 << 20, 4 << 20));
        filled(&mut core, held);
        core.handle_accepted(0, |()| ());
        core.expect(left);
        let wants = core.poll_wants(Crowd::default());
        (wants.loose > 0, wants.disk > 0)
    };
    assert_eq!(wants(None, 5 << 20), (true, true), "unknown: up to the bound");
    assert_eq!(wants(Some(15 << 20), 5 << 20), (true, true), "it fits");
    assert_eq!(wants(Some(16 << 20), 5 << 20), (false, false), "it does not");
    assert_eq!(wants(Some(16 << 20), 1 << 19), (true, true));
    assert_eq!(wants(Some(1 << 30), 1 << 19), (true, false), "the pipe is the path");
    assert_eq!(wants(None, 16 << 20), (false, true), "first memory, then disk");
}

#[test]
fn the_sink_is_looked_at_after_each_round() {
    let mut core = Core::new(bounds(16 << 20, 0));
    filled(&mut core, ROUND);
    assert!(core.poll_wants(Crowd::default()).nothing());
    core.poll_given().unwrap();
    assert_eq!(core.handle_accepted(10, |()| ()), 10);
    assert_eq!(core.poll_wants(Crowd::default()).loose, ROUND);
}

#[test]
fn a_source_of_bursts_may_fill_more_and_more() {
    let mut core = Core::new(bounds(64 << 20, 0));
    core.expect(Some(1 << 40));
    let burst = |core: &mut Core<()>| {
        let mut all = 0;
        while let wants = core.poll_wants(Crowd::default())
            && !wants.nothing()
        {
            filled(core, wants.loose);
            all += wants.loose;
            core.handle_accepted(0, |()| ());
        }
        core.poll_given();
        core.handle_accepted(all, |()| ());
        core.handle_source_empty();
        all
    };
    assert_eq!([burst(&mut core), burst(&mut core)], [1 << 20, 8 << 20]);
    assert_eq!([burst(&mut core), burst(&mut core)], [64 << 20, 64 << 20]);
    // A sink that keeps pace sees nothing of it.
    let mut core = Core::new(bounds(64 << 20, 0));
    core.expect(Some(1 << 40));
    filled(&mut core, 1000);
    core.poll_given();
    core.handle_accepted(1000, |()| ());
    core.handle_source_empty();
    assert_eq!(core.poll_wants(Crowd::default()).loose, 1 << 20);
}

#[test]
fn fragments_of_a_few_bytes_are_copied_for_a_while() {
    let mut core = Core::new(bounds(16 << 20, 0));
    filled(&mut core, 256);
    core.handle_full();
    assert!(core.open().is_none() && !core.takes_pipes());
    core.handle_new(Tier::Memory, (), COPIED, false);
    assert!(core.takes_pipes());
}

#[test]
fn a_full_pipe_is_tried_again_after_each_drain() {
    let mut core = Core::new(bounds(16 << 20, 0));
    filled(&mut core, 500_000);
    core.handle_full();
    core.poll_given();
    core.handle_accepted(0, |()| ());
    assert!(core.open().is_none() && core.takes_pipes());
    core.handle_accepted(1, |()| ());
    assert!(core.open().is_some_and(|last| last.held() == 499_999));
}

#[test]
fn in_a_crowd_a_sink_gets_what_it_takes_at_a_time_unless_it_is_slow() {
    let mut core = Core::new(bounds(16 << 20, 0));
    let dense = Crowd { is_dense: true, ..Crowd::default() };
    assert_eq!(core.poll_wants(dense).loose, 2 * LEAST);
    filled(&mut core, 2 * LEAST);
    core.poll_given();
    core.handle_accepted(1000, |()| ());
    assert!(core.poll_wants(dense).nothing(), "it has to take that first");
    assert!(core.poll_wants(Crowd { is_slow: true, ..dense }).loose > 0);
    core.handle_accepted(2 * LEAST - 1000, |()| ());
    assert!(core.poll_wants(dense).loose > 2 * LEAST, "it has taken all");
}

#[test]
fn what_is_collected_is_given_when_nothing_else_is_left() {
    let mut core = Core::new(bounds(16 << 20, 0));
    core.handle_new(Tier::Memory, (), 10, true);
    assert_eq!(core.poll_given().map(|(_, bytes)| bytes), Some(10));
    core.handle_new(Tier::Memory, (), 20, true);
    core.handle_filled(5);
    assert!(core.poll_given().is_none(), "the sink has something");
    core.handle_accepted(10, |()| ());
    assert_eq!(core.poll_given().map(|(_, bytes)| bytes), Some(25));
    core.handle_new(Tier::Disk, (), 7, true);
    assert!(core.poll_given().is_none());
    core.expect(Some(0));
    assert_eq!(core.poll_given().map(|(_, bytes)| bytes), Some(7), "nothing follows");
}

#[test]
fn what_comes_is_collected_where_the_sink_has_enough_and_as_much_is_still_to_come() {
    let mut core = Core::new(Bounds { memory: 64 * ROUND, disk: 0, pipes: true });
    core.handle_new(Tier::Pipe, (), ROUND - 1, true);
    assert!(!core.is_ahead(u64::MAX), "the sink will soon have nothing");
    core.handle_filled(1);
    assert!(core.is_ahead(u64::MAX));
    assert!(core.is_ahead(2 * ROUND) && !core.is_ahead(2 * ROUND - 1));
    core.expect(Some(2 * ROUND));
    assert!(core.is_ahead(u64::MAX));
    core.handle_filled(1);
    assert!(!core.is_ahead(u64::MAX), "its end would be waited for");
    core.expect(None);
    let _ = core.poll_given();
    core.handle_accepted(2, drop);
    assert!(!core.is_ahead(u64::MAX));
}

#[test]
fn pipes_behind_what_is_on_a_disk_are_let_go_of_from_the_first_on() {
    let mut core = Core::new(bounds(64 * ROUND, 64 * ROUND));
    let tiers = [Tier::Disk, Tier::Disk, Tier::Pipe, Tier::Disk, Tier::Pipe, Tier::Pipe];
    for (at, tier) in tiers.into_iter().enumerate() {
        core.handle_new(tier, at, 10, false);
    }
    let emptied = |core: &mut Core<usize>, which: &[usize]| {
        let mut asked = Vec::new();
        core.let_go(|at| {
            asked.push(*at);
            which.contains(at)
        });
        (asked, core.pipes())
    };
    assert_eq!(emptied(&mut core, &[2]), (vec![], 3), "nothing was given");
    while core.poll_given().is_some() {}
    assert_eq!(emptied(&mut core, &[]), (vec![2], 3));
    core.handle_accepted(10, |at| assert_eq!(at, 0));
    assert_eq!(emptied(&mut core, &[2, 5]), (vec![2, 4], 2), "the second is not empty");
    core.handle_accepted(25, |at| assert!([1, 2].contains(&at)));
    assert_eq!(emptied(&mut core, &[4]), (vec![4, 5], 1));
    core.handle_new(Tier::Pipe, 6, 10, false);
    assert_eq!(emptied(&mut core, &[6]), (vec![5], 2));
    core.handle_accepted(20, |_| ());
    assert_eq!(emptied(&mut core, &[5, 6]), (vec![5], 1), "the last was not given");
}
