//! A body on its way from an upstream to a client.
//!
//! One round, again and again while something moves:
//! ```text
//!  Send ──► Take ──► LetGo ──► Pass ──┬──► Finish
//!   ▲ of the  ▲ unless   once all is   ├──► Wait: nothing has moved
//!   │ request │ all is   here          └──► Yield: others have their turn
//!   └─────────┴ here ──────────────────┘
//! ```
//! Whoever fails cuts it: the client is never to take a part for the whole.

use std::mem;

use super::{Accepted, Turn, Whose};

/// What is to be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Do {
    /// Send what is left of the request, as far as it goes ([`Body::handle_request`]).
    Send,
    /// Receive what there is room for ([`Body::handle_taken`], [`Body::handle_end`]).
    Take,
    /// All is here: the upstream waits for the client no longer. Whether its connection may
    /// have another request.
    LetGo { keep: bool },
    /// Queue for the client what is here, and flush ([`Body::handle_accepted`],
    /// [`Body::handle_passed`]).
    Pass,
    /// Nothing moves. Unless it is for the client alone, the deadline is to be looked at
    /// ([`Body::poll_deadline`]).
    Wait { upstream: bool },
    /// Something moves still, but others are to have their turn.
    Yield,
    /// The client's kernel has accepted all of it.
    Finish,
}

/// What is known of a body's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Content {
    /// More is to come.
    Coming,
    /// All is here. `is_clean`: what comes next on the connection is another answer.
    Whole { is_clean: bool },
}

/// How far the request has gone.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Rest<E> {
    Sent,
    /// It goes on while the answer comes.
    Going,
    /// Not all of it was sent, or not before the answer came.
    Dropped,
    /// As it went the connection was found broken, of which receiving tells no more.
    Broken(E),
}

impl<E> Rest<E> {
    /// What its connection was found broken with, if it was.
    pub(in super::super) fn broke(self) -> Option<E> {
        match self {
            Rest::Broken(error) => Some(error),
            Rest::Sent | Rest::Going | Rest::Dropped => None,
        }
    }
}

/// Why what is here of a body is not all of it.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Cut<E> {
    /// More was announced.
    Truncated,
    /// The end was one of a connection that had broken.
    Broken(E),
}

/// What the upstream's deadline is to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Deadline {
    /// None: not the upstream is waited for.
    Off,
    /// From now on.
    Starts,
    /// The one that was set.
    Runs,
}

/// Where the next round goes on.
#[derive(Clone, Copy, Debug)]
enum Step {
    Send,
    Take,
    LetGo,
    Pass,
    Look,
    Finished,
    Cut,
}

/// What a relay of a body does next. `E` is what a connection breaks with.
#[derive(Debug)]
pub(in super::super) struct Body<E> {
    step: Step,
    rest: Rest<E>,
    /// The upstream keeps its connection open after this answer.
    may_be_kept: bool,
    content: Content,
    /// It is not let go of.
    has_upstream: bool,
    accepted: Accepted,
    /// All that was queued is accepted, and nothing else is here.
    is_passed: bool,
    has_moved: bool,
    /// The upstream's deadline runs.
    is_timed: bool,
    turn: Turn,
}

impl<E> Body<E> {
    /// Behind the head of an answer, with which `content` may have come.
    pub(in super::super) fn new(rest: Rest<E>, may_be_kept: bool, content: Content) -> Self {
        Body {
            step: Step::Send,
            rest,
            may_be_kept,
            content,
            has_upstream: true,
            accepted: Accepted::default(),
            is_passed: false,
            has_moved: false,
            is_timed: false,
            turn: Turn::default(),
        }
    }

    pub(in super::super) fn next(&mut self) -> Do {
        loop {
            match self.step {
                Step::Send => {
                    self.step = Step::Take;
                    self.has_moved = false;
                    if self.has_upstream && matches!(self.rest, Rest::Going) {
                        return Do::Send;
                    }
                }
                Step::Take => {
                    self.step = Step::LetGo;
                    if self.content == Content::Coming {
                        return Do::Take;
                    }
                }
                Step::LetGo => {
                    self.step = Step::Pass;
                    if let Content::Whole { is_clean } = self.content
                        && mem::replace(&mut self.has_upstream, false)
                    {
                        let is_sent = matches!(self.rest, Rest::Sent);
                        return Do::LetGo { keep: self.may_be_kept && is_sent && is_clean };
                    }
                }
                Step::Pass => {
                    self.step = Step::Look;
                    return Do::Pass;
                }
                Step::Look if self.is_passed && self.content != Content::Coming => {
                    self.step = Step::Finished;
                }
                Step::Look => {
                    self.step = Step::Send;
                    if !self.has_moved {
                        self.turn.end();
                        return Do::Wait { upstream: self.has_upstream };
                    }
                    if !self.turn.goes_on() {
                        return Do::Yield;
                    }
                }
                Step::Finished => return Do::Finish,
                // Nobody asks.
                Step::Cut => return Do::Wait { upstream: false },
            }
        }
    }

    /// Nothing more is sent of the request: all went, the upstream did not want it, or it
    /// `broke`. Whatever became of it, the answer came first: another has no place behind it.
    pub(in super::super) fn handle_request(&mut self, broke: Option<E>) {
        self.rest = broke.map_or(Rest::Dropped, Rest::Broken);
    }

    /// Something came, and is here; what is known since.
    pub(in super::super) fn handle_taken(&mut self, content: Content) {
        self.content = content;
        self.has_moved = true;
        self.is_timed = false;
    }

    /// The upstream sends no more; whether that is how this body ends.
    ///
    /// # Errors
    /// [`Cut`].
    pub(in super::super) fn handle_end(&mut self, is_its_end: bool) -> Result<(), Cut<E>> {
        match mem::replace(&mut self.rest, Rest::Dropped) {
            // RFC 9112 section 8: then no end of the connection is the body's.
            Rest::Broken(error) => Err(Cut::Broken(error)),
            _ if !is_its_end => Err(Cut::Truncated),
            _ => {
                self.handle_taken(Content::Whole { is_clean: false });
                Ok(())
            }
        }
    }

    /// The client's kernel has accepted so many bytes in all. How many more that is.
    pub(in super::super) fn handle_accepted(&mut self, bytes: u64) -> u64 {
        let more = self.accepted.advance(bytes);
        self.has_moved |= more > 0;
        more
    }

    /// Whether anything was queued, and whether all that was is accepted, with nothing left
    /// to be queued.
    pub(in super::super) fn handle_passed(&mut self, has_queued: bool, is_all: bool) {
        self.has_moved |= has_queued;
        self.is_passed = is_all;
    }

    /// What the deadline is to be while nothing moves. `has_room`: what would come is wanted.
    /// `owes_request`: the upstream has all of the request that the client has sent, and may
    /// wait for more of it before it goes on.
    pub(in super::super) fn poll_deadline(
        &mut self,
        has_room: bool,
        owes_request: bool,
    ) -> Deadline {
        let is_awaited = self.has_upstream && has_room && !owes_request;
        match (mem::replace(&mut self.is_timed, is_awaited), is_awaited) {
            (_, false) => Deadline::Off,
            (false, true) => Deadline::Starts,
            (true, true) => Deadline::Runs,
        }
    }

    /// The deadline has passed: whether the upstream was silent. Where `has_gathered`, it was
    /// not, and what it has sent is taken now; then its deadline starts again.
    pub(in super::super) fn handle_expired(&mut self, has_gathered: bool) -> bool {
        !has_gathered
    }

    /// It goes no further. Whether that speaks against the server that was asked.
    pub(in super::super) fn cut(&mut self, whose: Whose) -> bool {
        self.step = Step::Cut;
        whose == Whose::Upstream && self.has_upstream
    }

    /// Whether it ended as it should, or somebody has said why not.
    pub(in super::super) fn is_over(&self) -> bool {
        matches!(self.step, Step::Finished | Step::Cut)
    }
}

#[cfg(test)]
mod tests;
