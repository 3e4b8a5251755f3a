//! The machine against a world of its own: an upstream, a client and a spool that are
//! numbers, and what they owe each other.

use proptest::prelude::*;

use super::super::TURN;
use super::*;

/// Bytes that the spool of this world holds.
const BOUND: u64 = 100;

/// Far more calls than any script needs.
const ENDLESS: u32 = 20_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// Its length is known at its end, or before.
    Delimited(u64),
    Close,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    /// The upstream has sent so much more.
    Arrives(u64),
    /// It sends no more.
    Ends,
    /// The client takes so much more.
    Takes(u64),
    /// The request is sent, or given up.
    RequestOver,
    /// Its connection is found broken: receiving then tells of an end.
    RequestBreaks,
    /// Whether the upstream has all of the request that the client has sent.
    Owes(bool),
    /// Time passes; whether the kernel has collected something.
    Expires(bool),
    Fails(Whose),
}

#[derive(Clone, Debug)]
struct Script {
    framing: Framing,
    request: Rest<u8>,
    may_be_kept: bool,
    /// Nothing comes behind its end.
    is_honest: bool,
    /// What comes with the head, and what is received at a time.
    first: u64,
    grain: u64,
    events: Vec<Event>,
}

impl Clone for Rest<u8> {
    fn clone(&self) -> Self {
        match self {
            Rest::Sent => Rest::Sent,
            Rest::Going => Rest::Going,
            Rest::Dropped => Rest::Dropped,
            Rest::Broken(error) => Rest::Broken(*error),
        }
    }
}

fn whose() -> impl Strategy<Value = Whose> {
    prop_oneof![Just(Whose::Client), Just(Whose::Upstream), Just(Whose::Ours)]
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => (1..150u64).prop_map(Event::Arrives),
        12 => (1..150u64).prop_map(Event::Takes),
        1 => Just(Event::Ends),
        2 => Just(Event::RequestOver),
        1 => Just(Event::RequestBreaks),
        2 => any::<bool>().prop_map(Event::Owes),
        2 => any::<bool>().prop_map(Event::Expires),
        1 => whose().prop_map(Event::Fails),
    ]
}

fn script() -> impl Strategy<Value = Script> {
    let framing =
        prop_oneof![2 => (0..300u64).prop_map(Framing::Delimited), 1 => Just(Framing::Close)];
    let request = prop_oneof![
        3 => Just(Rest::Sent),
        3 => Just(Rest::Going),
        1 => Just(Rest::Dropped),
        1 => Just(Rest::Broken(1)),
    ];
    let events = prop::collection::vec(event(), 0..24);
    (framing, request, any::<bool>(), any::<bool>(), 0..40u64, 1..60u64, events).prop_map(
        |(framing, request, may_be_kept, is_honest, first, grain, events)| Script {
            framing,
            request,
            may_be_kept,
            is_honest,
            first,
            grain,
            events,
        },
    )
}

#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    Whole,
    Truncated,
    Broken(u8),
    Silent,
    Failed,
}

#[derive(Debug)]
struct World {
    script: Script,
    body: Body<u8>,
    request: Rest<u8>,
    /// What sending the request will tell.
    request_fate: Option<Option<u8>>,
    owes: bool,
    /// Sent by the upstream and not received; and that it sends no more.
    arrived: u64,
    has_ended: bool,
    /// Content that was received, bytes behind it, and that its end was seen.
    taken: u64,
    surplus: u64,
    is_whole: bool,
    /// Content that was queued at the client, what it has accepted, and may accept yet.
    queued: u64,
    accepted: u64,
    window: u64,
    let_go: Option<bool>,
    /// The upstream's deadline.
    is_timed: bool,
    outcome: Option<Outcome>,
    /// What this round has done; whether the last has moved something, until somebody asks.
    has_sent: bool,
    has_moved: bool,
    last: Option<bool>,
    rounds: u32,
}

impl World {
    fn new(script: Script) -> Self {
        let request = script.request.clone();
        let body = Body::new(request.clone(), script.may_be_kept, Content::Coming);
        let mut world = World {
            body,
            request_fate: None,
            owes: false,
            arrived: 0,
            has_ended: matches!(request, Rest::Broken(_)),
            request,
            taken: 0,
            surplus: 0,
            is_whole: false,
            queued: 0,
            accepted: 0,
            window: 0,
            let_go: None,
            is_timed: false,
            outcome: None,
            has_sent: false,
            has_moved: false,
            last: None,
            rounds: 0,
            script,
        };
        let most = if world.script.is_honest { world.missing() } else { u64::MAX };
        world.receive(world.script.first.min(most));
        let (rest, keep) = (world.request.clone(), world.script.may_be_kept);
        world.body = Body::new(rest, keep, world.content());
        world
    }

    fn held(&self) -> u64 {
        self.taken - self.accepted
    }

    fn room(&self) -> u64 {
        BOUND.saturating_sub(self.held())
    }

    /// What the upstream has not sent of it.
    fn missing(&self) -> u64 {
        match self.script.framing {
            Framing::Delimited(length) => length.saturating_sub(self.taken + self.arrived),
            Framing::Close => u64::MAX,
        }
    }

    fn content(&self) -> Content {
        let is_clean = self.surplus == 0 && self.script.framing != Framing::Close;
        if self.is_whole { Content::Whole { is_clean } } else { Content::Coming }
    }

    /// So many bytes are received.
    fn receive(&mut self, bytes: u64) {
        let left = match self.script.framing {
            Framing::Delimited(length) => length - self.taken,
            Framing::Close => u64::MAX,
        };
        self.taken += bytes.min(left);
        self.surplus += bytes.saturating_sub(left);
        self.is_whole |= bytes >= left;
    }

    fn end(&mut self, outcome: Outcome) {
        assert_eq!(self.outcome.replace(outcome), None, "it ends once");
        assert!(self.body.is_over());
    }

    fn cut(&mut self, whose: Whose, outcome: Outcome) {
        let blames = self.body.cut(whose);
        assert_eq!(blames, whose == Whose::Upstream && self.let_go.is_none());
        self.end(outcome);
    }

    fn take(&mut self) {
        assert!(self.let_go.is_none() && !self.is_whole, "there is nothing to take");
        let bytes = self.arrived.min(self.room()).min(self.script.grain);
        if bytes > 0 {
            self.arrived -= bytes;
            self.receive(bytes);
        } else if self.has_ended && self.arrived == 0 && self.room() > 0 {
            let is_its_end = self.script.framing == Framing::Close;
            let due = match (&self.request, is_its_end) {
                (Rest::Broken(error), _) => Err(Cut::Broken(*error)),
                (_, false) => Err(Cut::Truncated),
                (_, true) => Ok(()),
            };
            let ended = self.body.handle_end(is_its_end);
            assert_eq!(ended, due);
            match ended {
                Ok(()) => self.is_whole = true,
                Err(Cut::Truncated) => self.cut(Whose::Upstream, Outcome::Truncated),
                Err(Cut::Broken(error)) => self.cut(Whose::Upstream, Outcome::Broken(error)),
            }
            if self.request == Rest::Going {
                self.request = Rest::Dropped;
            }
            (self.is_timed, self.has_moved) = (false, true);
            return;
        } else {
            return;
        }
        self.body.handle_taken(self.content());
        (self.is_timed, self.has_moved) = (false, true);
    }

    fn pass(&mut self) {
        let goes = self.request == Rest::Going && self.let_go.is_none();
        assert!(self.has_sent || !goes || self.is_whole, "the request goes on in every round");
        assert_eq!(self.is_whole, self.let_go.is_some(), "at once when all is here");
        let has_queued = self.taken > self.queued;
        self.queued = self.taken;
        let bytes = (self.queued - self.accepted).min(self.window);
        self.accepted += bytes;
        self.window -= bytes;
        self.has_moved |= has_queued || bytes > 0;
        assert_eq!(self.body.handle_accepted(self.accepted), bytes);
        self.body.handle_passed(has_queued, self.queued == self.accepted);
        self.rounds += 1;
        self.has_sent = false;
        self.last = Some(mem::take(&mut self.has_moved));
    }

    fn wait(&mut self, upstream: bool) {
        assert_eq!(upstream, self.let_go.is_none());
        if !upstream {
            return self.is_timed = false;
        }
        let owes = self.owes && self.request == Rest::Going;
        let deadline = self.body.poll_deadline(self.room() > 0, owes);
        // It runs only while the upstream is waited for, and from the last that it has sent.
        let is_awaited = !self.is_whole && self.held() < BOUND && !owes;
        assert_eq!(deadline != Deadline::Off, is_awaited);
        assert_eq!(deadline == Deadline::Runs, is_awaited && self.is_timed);
        self.is_timed = is_awaited;
    }

    /// As far as it goes until something else happens.
    fn turn(&mut self) {
        for _ in 0..ENDLESS {
            if self.outcome.is_some() {
                return;
            }
            assert!(!self.body.is_over());
            let next = self.body.next();
            let last = self.last.take();
            match next {
                Do::Wait { .. } => assert_eq!(last, Some(false), "what moves may move on"),
                Do::Yield => assert_eq!((last, self.rounds), (Some(true), TURN)),
                Do::Finish => {}
                _ => assert!(last != Some(false) && self.rounds < TURN, "others have waited"),
            }
            match next {
                Do::Send => {
                    assert_eq!((&self.request, self.let_go), (&Rest::Going, None));
                    self.has_sent = true;
                    if let Some(broke) = self.request_fate.take() {
                        self.body.handle_request(broke);
                        self.request = broke.map_or(Rest::Dropped, Rest::Broken);
                    }
                }
                Do::Take => self.take(),
                Do::LetGo { keep } => {
                    assert!(self.is_whole && self.let_go.is_none(), "once, with all of it");
                    let is_clean = self.content() == Content::Whole { is_clean: true };
                    let was_sent = self.script.request == Rest::Sent;
                    assert_eq!(keep, self.script.may_be_kept && was_sent && is_clean);
                    self.let_go = Some(keep);
                }
                Do::Pass => self.pass(),
                Do::Wait { upstream } => {
                    self.rounds = 0;
                    return self.wait(upstream);
                }
                Do::Yield => self.rounds = 0,
                Do::Finish => {
                    assert!(self.is_whole && self.let_go.is_some(), "a part is no whole");
                    assert_eq!((self.accepted, self.queued), (self.taken, self.taken));
                    if let Framing::Delimited(length) = self.script.framing {
                        assert_eq!(self.accepted, length);
                    }
                    self.end(Outcome::Whole);
                }
            }
        }
        panic!("it never waits");
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Arrives(bytes) if !self.has_ended => {
                let most = if self.script.is_honest { self.missing() } else { u64::MAX };
                self.arrived += bytes.min(most);
            }
            Event::Ends => self.has_ended = true,
            Event::Takes(bytes) => self.window = self.window.saturating_add(bytes),
            Event::RequestOver => {
                self.request_fate.get_or_insert(None);
            }
            Event::RequestBreaks if self.request == Rest::Going && self.request_fate.is_none() => {
                self.request_fate = Some(Some(2));
                self.has_ended = true;
            }
            Event::Owes(owes) => self.owes = owes,
            Event::Expires(has_gathered) if self.is_timed => {
                let is_silent = self.body.handle_expired(has_gathered);
                assert_ne!(is_silent, has_gathered);
                if is_silent {
                    self.cut(Whose::Upstream, Outcome::Silent);
                }
            }
            Event::Fails(whose) => self.cut(whose, Outcome::Failed),
            _ => {}
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn every_body_ends_as_it_should(script in script()) {
        let mut world = World::new(script);
        world.turn();
        for event in world.script.events.clone() {
            if world.outcome.is_some() {
                break;
            }
            world.happen(event);
            if world.outcome.is_none() {
                world.turn();
            }
        }
        // Nothing more can come: the client takes all, the upstream has said its last.
        for event in [Event::RequestOver, Event::Ends, Event::Takes(u64::MAX)] {
            if world.outcome.is_none() {
                world.happen(event);
                world.turn();
            }
        }
        let outcome = world.outcome.take().expect("it ends");
        let is_all = match world.script.framing {
            Framing::Delimited(length) => world.taken == length,
            Framing::Close => world.has_ended && !matches!(world.request, Rest::Broken(_)),
        };
        match outcome {
            Outcome::Whole => prop_assert!(is_all),
            Outcome::Truncated => prop_assert!(!is_all && world.script.framing != Framing::Close),
            Outcome::Broken(_) => prop_assert!(matches!(world.request, Rest::Broken(_))),
            Outcome::Silent | Outcome::Failed => {}
        }
        // Who comes back to what was cut gets nothing out of it.
        if outcome != Outcome::Whole {
            for _ in 0..4 {
                prop_assert_eq!(world.body.next(), Do::Wait { upstream: false });
            }
        }
    }
}
