//! What two parties say to each other, both ways at a time.
//!
//! One round, again and again while something moves:
//! ```text
//!  Hear(Upstream) ► Tell(Client) ► Finish(Client) ►
//!  Hear(Client) ► Tell(Upstream) ► Finish(Upstream) ─┬──► End
//!                                                    ├──► Prolong ─► (Yield)
//!                                                    └──► Wait: nobody speaks
//! ```
//! Each way ends by itself. An upstream that is gone has said what it has said: that is
//! passed on, and what the client says is not. Without its client a tunnel is cut.

use std::mem;

use super::{Accepted, Turn, Whose};

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Side {
    Client,
    Upstream,
}

/// What is to be done next.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Do<E> {
    /// Receive what it says ([`Tunnel::handle_heard`], [`Tunnel::handle_failed`]).
    Hear(Side),
    /// Queue what the other one has said, and flush ([`Tunnel::handle_accepted`],
    /// [`Tunnel::handle_told`], [`Tunnel::handle_failed`]).
    Tell(Side),
    /// Tell it that nothing more comes.
    Finish(Side),
    /// Somebody has spoken, or listened: the silence begins anew.
    Prolong,
    /// Nobody speaks: it waits until somebody does, or for too long
    /// ([`Tunnel::handle_expired`]).
    Wait,
    /// Something moves still, but others are to have their turn.
    Yield,
    /// Both are done; why the upstream was, where it failed.
    End(Option<E>),
}

/// One way.
#[derive(Debug, Default)]
struct Way {
    accepted: Accepted,
    /// Who speaks has said that it says no more.
    has_ended: bool,
    /// All that was said is accepted by the kernel of who listens.
    is_told: bool,
    /// Who listens was told that nothing more comes.
    is_finished: bool,
}

impl Way {
    /// Whether who listens is to be told that nothing more comes; once.
    fn is_to_finish(&mut self) -> bool {
        self.has_ended && self.is_told && !mem::replace(&mut self.is_finished, true)
    }
}

/// Where the next round goes on.
#[derive(Clone, Copy, Debug)]
enum Step {
    Hear(Side),
    Tell(Side),
    Finish(Side),
    Look,
    Turn,
    Over,
}

/// What a tunnel does next. `E` is why an upstream fails.
#[derive(Debug)]
pub(in super::super) struct Tunnel<E> {
    step: Step,
    /// To the client.
    down: Way,
    /// To the upstream.
    up: Way,
    /// The upstream can be told nothing more, and why.
    lost: Option<E>,
    has_moved: bool,
    turn: Turn,
}

impl<E> Tunnel<E> {
    pub(in super::super) fn new() -> Self {
        Tunnel {
            step: Step::Hear(Side::Upstream),
            down: Way::default(),
            up: Way::default(),
            lost: None,
            has_moved: false,
            turn: Turn::default(),
        }
    }

    pub(in super::super) fn next(&mut self) -> Do<E> {
        loop {
            match self.step {
                Step::Hear(side) => {
                    self.step = Step::Tell(side.other());
                    if !self.way_from(side).has_ended && !self.is_vain(side.other()) {
                        return Do::Hear(side);
                    }
                }
                Step::Tell(side) => {
                    self.step = Step::Finish(side);
                    if !self.is_vain(side) {
                        return Do::Tell(side);
                    }
                }
                Step::Finish(side) => {
                    self.step = match side {
                        Side::Client => Step::Hear(Side::Client),
                        Side::Upstream => Step::Look,
                    };
                    if !self.is_vain(side) && self.way_to(side).is_to_finish() {
                        self.has_moved = true;
                        return Do::Finish(side);
                    }
                }
                Step::Look
                    if self.down.is_finished && (self.up.is_finished || self.lost.is_some()) =>
                {
                    self.step = Step::Over;
                    return Do::End(self.lost.take());
                }
                Step::Look if mem::take(&mut self.has_moved) => {
                    self.step = Step::Turn;
                    return Do::Prolong;
                }
                Step::Look => {
                    self.step = Step::Hear(Side::Upstream);
                    self.turn.end();
                    return Do::Wait;
                }
                Step::Turn => {
                    self.step = Step::Hear(Side::Upstream);
                    if !self.turn.goes_on() {
                        return Do::Yield;
                    }
                }
                // Nobody asks.
                Step::Over => return Do::Wait,
            }
        }
    }

    /// `side` has said something, or that it says no more.
    pub(in super::super) fn handle_heard(&mut self, side: Side, is_end: bool) {
        self.has_moved = true;
        self.way_from(side).has_ended = is_end;
    }

    /// The kernel of `side` has accepted so many bytes in all. How many more that is.
    pub(in super::super) fn handle_accepted(&mut self, side: Side, bytes: u64) -> u64 {
        let more = self.way_to(side).accepted.advance(bytes);
        self.has_moved |= more > 0;
        more
    }

    /// Whether anything was queued for `side`, and whether all that was is accepted, with
    /// nothing left to be queued.
    pub(in super::super) fn handle_told(&mut self, side: Side, has_queued: bool, is_all: bool) {
        self.has_moved |= has_queued;
        self.way_to(side).is_told = is_all;
    }

    /// What was done last has failed.
    ///
    /// # Errors
    /// The same, where it cuts the tunnel: whatever is not the upstream's.
    pub(in super::super) fn handle_failed(&mut self, whose: Whose, why: E) -> Result<(), E> {
        if whose != Whose::Upstream {
            self.step = Step::Over;
            return Err(why);
        }
        if let Step::Tell(Side::Client) = self.step {
            // It was to be heard, and says nothing more.
            self.down.has_ended = true;
        }
        self.has_moved = true;
        self.lost.get_or_insert(why);
        Ok(())
    }

    /// Nobody has spoken for too long, unless the upstream `has_gathered` what is now taken.
    /// Whether it goes on.
    pub(in super::super) fn handle_expired(&mut self, has_gathered: bool) -> bool {
        self.step = if has_gathered { Step::Look } else { Step::Over };
        self.has_moved = has_gathered;
        has_gathered
    }

    /// It goes no further.
    pub(in super::super) fn cut(&mut self) {
        self.step = Step::Over;
    }

    /// Whether it ended in order, or somebody has said why not.
    pub(in super::super) fn is_over(&self) -> bool {
        matches!(self.step, Step::Over)
    }

    /// Bytes that the upstream's kernel has accepted.
    pub(in super::super) fn told_upstream(&self) -> u64 {
        self.up.accepted.bytes
    }

    /// Whether there is nobody to tell anything.
    fn is_vain(&self, side: Side) -> bool {
        side == Side::Upstream && self.lost.is_some()
    }

    fn way_to(&mut self, side: Side) -> &mut Way {
        match side {
            Side::Client => &mut self.down,
            Side::Upstream => &mut self.up,
        }
    }

    fn way_from(&mut self, side: Side) -> &mut Way {
        self.way_to(side.other())
    }
}

impl Side {
    fn other(self) -> Self {
        match self {
            Side::Client => Side::Upstream,
            Side::Upstream => Side::Client,
        }
    }
}

#[cfg(test)]
mod tests;
