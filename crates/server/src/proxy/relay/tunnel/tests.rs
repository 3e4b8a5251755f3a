//! The machine against a world of its own: two parties that are numbers.

use proptest::prelude::*;

use super::super::TURN;
use super::*;

/// Bytes that each way holds in this world.
const BOUND: u64 = 100;

/// Far more calls than any script needs.
const ENDLESS: u32 = 20_000;

const SIDES: [Side; 2] = [Side::Client, Side::Upstream];

#[derive(Clone, Copy, Debug)]
enum Event {
    Says(Side, u64),
    /// It says no more (FIN).
    Ends(Side),
    /// It takes so much more.
    Takes(Side, u64),
    /// The next that is sent to the upstream, or received of it, fails.
    UpstreamDeaf,
    UpstreamBroken,
    /// So does the next that is received of the client, or is ours.
    Fails(Whose),
    /// Time passes; whether the kernel has collected something.
    Expires(bool),
}

fn side() -> impl Strategy<Value = Side> {
    prop_oneof![Just(Side::Client), Just(Side::Upstream)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (side(), 1..150u64).prop_map(|(side, bytes)| Event::Says(side, bytes)),
        12 => (side(), 1..150u64).prop_map(|(side, bytes)| Event::Takes(side, bytes)),
        4 => side().prop_map(Event::Ends),
        2 => Just(Event::UpstreamDeaf),
        1 => Just(Event::UpstreamBroken),
        1 => prop_oneof![Just(Whose::Client), Just(Whose::Ours)].prop_map(Event::Fails),
        2 => any::<bool>().prop_map(Event::Expires),
    ]
}

/// One party.
#[derive(Debug, Default)]
struct Party {
    /// Said and not heard; and that it says no more.
    said: u64,
    has_ended: bool,
    /// All that was heard of it, and its end.
    heard: u64,
    end_is_heard: bool,
    /// Of what the other one has said: what its kernel has accepted, and may accept yet.
    accepted: u64,
    window: u64,
    /// It was told that nothing more comes.
    is_finished: bool,
}

#[derive(Debug)]
struct World {
    tunnel: Tunnel<u8>,
    client: Party,
    upstream: Party,
    is_deaf: bool,
    is_broken: bool,
    fails: Option<Whose>,
    /// Why the upstream is lost: the first that was told.
    lost: Option<u8>,
    grain: u64,
    has_moved: bool,
    rounds: u32,
    is_over: bool,
    /// It ended in order.
    has_ended: bool,
}

impl World {
    fn new(grain: u64) -> Self {
        World {
            tunnel: Tunnel::new(),
            client: Party::default(),
            upstream: Party::default(),
            is_deaf: false,
            is_broken: false,
            fails: None,
            lost: None,
            grain,
            has_moved: false,
            rounds: 0,
            is_over: false,
            has_ended: false,
        }
    }

    fn party(&mut self, side: Side) -> &mut Party {
        match side {
            Side::Client => &mut self.client,
            Side::Upstream => &mut self.upstream,
        }
    }

    /// Heard of the one that is not `side`, and not accepted there.
    fn waiting(&mut self, side: Side) -> u64 {
        self.party(side.other()).heard - self.party(side).accepted
    }

    fn lose(&mut self, why: u8) {
        assert_eq!(self.tunnel.handle_failed(Whose::Upstream, why), Ok(()));
        self.lost.get_or_insert(why);
        self.has_moved = true;
    }

    fn fail(&mut self, whose: Whose) {
        assert_eq!(self.tunnel.handle_failed(whose, 9), Err(9));
        self.is_over = true;
    }

    fn hear(&mut self, side: Side) {
        assert!(!self.party(side).end_is_heard, "it has said its last");
        assert!(side == Side::Upstream || self.lost.is_none(), "nobody would be told");
        if side == Side::Upstream && self.is_broken {
            self.upstream.end_is_heard = true;
            return self.lose(1);
        }
        if let Some(whose) =
            self.fails.filter(|whose| (*whose == Whose::Client) == (side == Side::Client))
        {
            return self.fail(whose);
        }
        let room = BOUND.saturating_sub(self.waiting(side.other()));
        let grain = self.grain;
        let party = self.party(side);
        let bytes = party.said.min(room).min(grain);
        if bytes == 0 && !(party.said == 0 && party.has_ended) {
            return;
        }
        party.said -= bytes;
        party.heard += bytes;
        party.end_is_heard = bytes == 0;
        self.tunnel.handle_heard(side, bytes == 0);
        self.has_moved = true;
    }

    fn tell(&mut self, side: Side) {
        if side == Side::Upstream {
            assert_eq!(self.lost, None, "it can be told nothing");
            if self.is_deaf {
                return self.lose(2);
            }
        }
        let bytes = self.waiting(side).min(self.party(side).window);
        let party = self.party(side);
        party.accepted += bytes;
        party.window -= bytes;
        let total = party.accepted;
        assert_eq!(self.tunnel.handle_accepted(side, total), bytes);
        let is_all = self.waiting(side) == 0;
        self.tunnel.handle_told(side, false, is_all);
        self.has_moved |= bytes > 0;
    }

    fn finish(&mut self, side: Side) {
        assert!(self.party(side.other()).end_is_heard, "more may come");
        assert_eq!(self.waiting(side), 0, "that would come behind the end");
        assert!(side == Side::Client || self.lost.is_none(), "it can be told nothing");
        assert!(!mem::replace(&mut self.party(side).is_finished, true), "it was told so");
        self.has_moved = true;
    }

    /// As far as it goes until something else happens.
    fn turn(&mut self) {
        for _ in 0..ENDLESS {
            if self.is_over {
                assert!(self.tunnel.is_over());
                return;
            }
            assert!(!self.tunnel.is_over());
            match self.tunnel.next() {
                Do::Hear(side) => self.hear(side),
                Do::Tell(side) => self.tell(side),
                Do::Finish(side) => self.finish(side),
                Do::Prolong => {
                    assert!(mem::take(&mut self.has_moved), "nobody has said anything");
                    self.rounds += 1;
                }
                Do::Yield => {
                    assert_eq!(self.rounds, TURN, "others have waited");
                    self.rounds = 0;
                }
                Do::Wait => {
                    assert!(!self.has_moved, "what moves may move on");
                    for side in SIDES {
                        let is_due = self.party(side.other()).end_is_heard
                            && self.waiting(side) == 0
                            && (side == Side::Client || self.lost.is_none());
                        assert!(!is_due || self.party(side).is_finished, "{side:?} waits for it");
                    }
                    self.rounds = 0;
                    return;
                }
                Do::End(why) => {
                    assert!(self.client.is_finished, "who listens is told all, and the end");
                    assert_eq!(self.client.accepted, self.upstream.heard);
                    assert!(self.upstream.is_finished || self.lost.is_some());
                    assert_eq!(why, self.lost, "the first is the cause");
                    (self.is_over, self.has_ended) = (true, true);
                }
            }
            assert!(self.rounds <= TURN);
        }
        panic!("it never waits");
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Says(side, bytes) if !self.party(side).has_ended => {
                self.party(side).said += bytes;
            }
            Event::Says(..) => {}
            Event::Ends(side) => self.party(side).has_ended = true,
            Event::Takes(side, bytes) => {
                let window = &mut self.party(side).window;
                *window = window.saturating_add(bytes);
            }
            Event::UpstreamDeaf => self.is_deaf = true,
            Event::UpstreamBroken => self.is_broken = true,
            Event::Fails(whose) => self.fails = Some(whose),
            Event::Expires(has_gathered) => {
                assert_eq!(self.tunnel.handle_expired(has_gathered), has_gathered);
                (self.is_over, self.has_moved) = (!has_gathered, has_gathered);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn every_tunnel_ends_in_order(
        grain in 1..60u64,
        is_deaf_at_last in any::<bool>(),
        events in prop::collection::vec(event(), 0..24),
    ) {
        let mut world = World::new(grain);
        world.turn();
        for event in events {
            if world.is_over {
                break;
            }
            world.happen(event);
            world.turn();
        }
        // Nothing more can come: both have said their last, and take all.
        world.is_deaf |= is_deaf_at_last;
        let last = SIDES.map(Event::Ends);
        let all = SIDES.map(|side| Event::Takes(side, u64::MAX));
        for event in last.into_iter().chain(all) {
            if !world.is_over {
                world.happen(event);
                world.turn();
            }
        }
        prop_assert!(world.is_over && world.tunnel.is_over(), "it ends");
        if world.has_ended && world.lost.is_none() {
            prop_assert_eq!(world.upstream.accepted, world.client.heard);
            prop_assert!(world.client.is_finished && world.upstream.is_finished);
        }
        for _ in 0..4 {
            prop_assert_eq!(world.tunnel.next(), Do::Wait);
        }
    }
}
