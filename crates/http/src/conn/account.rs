//! What is to be told of the request that is being answered.

use std::time::{Duration, Instant};

use sluicegate::{Position, Readiness, Socket, WayBytes};

use crate::Request;
use crate::handler::{Answered, Failure, Handler, Observe};

/// The account of one request, where the handler observes; else it stays closed
/// and costs nothing but its place.
#[derive(Debug, Default)]
pub(super) struct Account {
    observe: Observe,
    /// A request has begun of which nobody was told yet.
    open: bool,
    /// Its head could be read.
    readable: bool,
    head_only: bool,
    /// The handler did not answer at once.
    pub(super) waited: bool,
    requests: u32,
    /// Time of day, since the epoch, when the head was complete.
    time: Duration,
    began: Option<Instant>,
    /// When the request before it was done with.
    before: Option<Instant>,
    handled: Duration,
    accepted: Option<Duration>,
    acked: Option<Duration>,
    answer: Option<Answer>,
    /// What was sent of it.
    pub(super) ways: WayBytes,
}

/// An answer that was begun.
#[derive(Clone, Copy, Debug)]
struct Answer {
    status: u16,
    /// Where it begins in the socket's stream.
    start: Position,
    /// Bytes of its head.
    head: u64,
    /// Bytes of content that its head announces.
    announced: Option<u64>,
}

impl Account {
    /// Nothing is known of the connection's requests.
    pub(super) fn reset(&mut self) {
        // Whatever else is in it, `begin` forgets before anybody looks.
        (self.open, self.before) = (false, None);
    }

    /// Begins the account of a request whose head was complete at `now`, or a
    /// little earlier, if anybody observes it.
    pub(super) fn begin(
        &mut self,
        observe: Observe,
        readable: bool,
        head_only: bool,
        now: Instant,
        requests: u32,
    ) {
        if observe == Observe::Nothing {
            (self.observe, self.open) = (observe, false);
            return;
        }
        // `now` is the reactor's, as old as its turn: of a pipelined request
        // only what came after the one before it counts.
        let began = self.before.map_or(now, |before| before.max(now));
        *self = Account {
            observe,
            open: true,
            readable,
            head_only,
            requests,
            time: sluicegate::unix_time(),
            began: Some(began),
            before: self.before,
            ..Account::default()
        };
    }

    /// Whether somebody is to be told of a request.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Whether the acknowledgement is to be told too.
    pub(super) fn wants_acks(&self) -> bool {
        self.open && self.observe == Observe::Acked
    }

    /// The time that has passed since the request began.
    fn passed(&mut self) -> Duration {
        let now = Instant::now();
        self.before = Some(now);
        self.began.map_or(Duration::ZERO, |began| now.saturating_duration_since(began))
    }

    /// The handler has answered. One that did so at once has taken no time that would be
    /// worth another look at the clock, unless it has talked to somebody whose answer is
    /// relayed.
    pub(super) fn handle_handled(&mut self, is_relayed: bool) {
        if self.open && (self.waited || is_relayed) {
            self.handled = self.passed();
        }
    }

    /// An answer begins at `start`.
    pub(super) fn handle_answer(
        &mut self,
        status: u16,
        start: Position,
        head: usize,
        announced: Option<u64>,
    ) {
        if self.open {
            self.answer = Some(Answer { status, start, head: head as u64, announced });
            self.ways = WayBytes::default();
        }
    }

    /// The kernel has accepted all of the answer.
    pub(super) fn handle_accepted(&mut self) {
        if self.open {
            self.accepted = Some(self.passed());
        }
    }

    /// The client's TCP has acknowledged all of it, or never will.
    pub(super) fn handle_acked(&mut self, all: bool) {
        self.acked = all.then(|| self.passed());
    }

    /// Tells `handler` of the request, once.
    pub(super) fn conclude<R: Readiness, H: Handler>(
        &mut self,
        handler: &H,
        socket: &mut Socket<R>,
        request: &Request,
        failure: Option<&Failure>,
    ) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        let end = socket.accepted_position();
        let until = |position: Position| match &self.answer {
            Some(answer) => position.since(answer.start),
            None => 0,
        };
        let sent = until(end);
        let acked = match self.observe {
            Observe::Acked if self.acked.is_some() => Some(sent),
            // A connection that is gone tells no more than it did.
            Observe::Acked => socket.progress().ok().map(|progress| until(progress.acked)),
            _ => None,
        };
        let head_bytes = sent.min(self.answer.map_or(0, |answer| answer.head));
        let accepted = self.accepted.unwrap_or_else(|| self.passed());
        handler.answered(&Answered {
            head: self.readable.then_some(&request.head),
            endpoints: request.endpoints,
            status: self.answer.map(|answer| answer.status),
            head_only: self.head_only,
            head_bytes,
            content_bytes: sent - head_bytes,
            announced: self.answer.and_then(|answer| answer.announced),
            ways: if self.answer.is_some() { self.ways } else { WayBytes::default() },
            acked,
            time: self.time,
            handled: self.handled,
            accepted,
            acked_after: self.acked,
            requests: self.requests,
            failure,
            note: request.note.as_deref(),
        });
    }

    /// As [`Account::conclude`], where the connection ends with nobody to say
    /// why: the program ends, or somebody has dropped the task.
    pub(super) fn conclude_cut<R: Readiness, H: Handler>(
        &mut self,
        handler: &H,
        socket: &mut Socket<R>,
        request: &Request,
    ) {
        if !self.open {
            return;
        }
        // What the kernel has accepted as a whole it still delivers.
        let failure = self.accepted.is_none().then_some(Failure::Cut);
        self.conclude(handler, socket, request, failure.as_ref());
    }
}
