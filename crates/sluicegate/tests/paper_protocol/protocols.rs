//! The three protocols: none, the paper's, and ours.

use crate::model::{Memory, Protocol, Version};

/// Without any knowledge of acknowledgements: writer and sender go around the
/// ring, each at its own pace.
#[derive(Clone, Copy)]
pub(crate) struct Blind {
    pub(crate) laps: Version,
}

impl Protocol for Blind {
    type Cell = Version;

    fn start(self) -> Version {
        0
    }

    fn take(self, cell: &mut Version, wanted: Version) -> bool {
        *cell = wanted;
        true
    }

    fn publish(self, _: &mut Version) {}

    fn revert(self, cell: &mut Version, before: Version) {
        *cell = before;
    }

    fn send(self, _: &mut Version, memory: Memory, _: u8) -> Option<Version> {
        (memory.lap <= self.laps).then_some(memory.lap)
    }

    fn acknowledge(self, _: &mut Version) {}

    fn version(self, cell: &Version) -> Version {
        *cell
    }

    fn is_over(self, _: &Version) -> bool {
        true
    }
}

/// How "version number is not less than the version number of previously sent
/// partition" is read.
#[derive(Clone, Copy)]
pub(crate) enum Reading {
    /// As it is written.
    NotLess,
    /// "Not sent" taken strictly: greater than that of the one sent before.
    Greater,
    /// Greater than what this sender sent from this very partition.
    GreaterHere,
}

/// Section II-C: a version and one bit.
#[derive(Clone, Copy)]
pub(crate) struct Paper {
    /// Ack at the start: the text says false, the table shows true.
    pub(crate) starts_acked: bool,
    pub(crate) reading: Reading,
}

#[derive(Clone, Copy)]
pub(crate) struct PaperCell {
    version: Version,
    ack: bool,
}

impl Protocol for Paper {
    type Cell = PaperCell;

    fn start(self) -> PaperCell {
        PaperCell { version: 0, ack: self.starts_acked }
    }

    fn take(self, cell: &mut PaperCell, wanted: Version) -> bool {
        let may = cell.ack && wanted > cell.version;
        if may {
            *cell = PaperCell { version: cell.version + 1, ack: false };
        }
        may
    }

    // The paper has no such step: it has entered the new version already.
    fn publish(self, _: &mut PaperCell) {}

    fn revert(self, cell: &mut PaperCell, before: PaperCell) {
        *cell = before;
    }

    // Nor is there anything that a sender changes.
    fn send(self, cell: &mut PaperCell, memory: Memory, _: u8) -> Option<Version> {
        let new = match self.reading {
            Reading::NotLess => cell.version >= memory.previous,
            Reading::Greater => cell.version > memory.previous,
            Reading::GreaterHere => cell.version > memory.here,
        };
        (!cell.ack && new).then_some(cell.version)
    }

    fn acknowledge(self, cell: &mut PaperCell) {
        cell.ack = true;
    }

    fn version(self, cell: &PaperCell) -> Version {
        cell.version
    }

    fn is_over(self, cell: &PaperCell) -> bool {
        cell.ack
    }
}

/// A version and a state: what the ring of this crate does.
#[derive(Clone, Copy, Default)]
pub(crate) struct Ours {
    /// Whether senders copy out of the ring, as to a peer on this host.
    pub(crate) copies: bool,
    pub(crate) slip: Option<Slip>,
}

/// A rule left out, to see that its absence is found.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Slip {
    /// The writer takes what is sent and not yet acknowledged.
    TakesSent,
    /// The sender does not enter that it has sent.
    StaysNew,
    /// What is being filled is called new at once.
    NewUnfilled,
    /// A write that failed leaves a new version.
    RevertsToNew,
    /// The first acknowledgement frees what went to several.
    FirstFrees,
}

#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum State {
    Free,
    Filling,
    New,
    /// So many have not acknowledged it.
    Sent(u8),
}

#[derive(Clone, Copy)]
pub(crate) struct OurCell {
    version: Version,
    state: State,
}

impl Ours {
    fn slips(self, slip: Slip) -> bool {
        self.slip == Some(slip)
    }
}

impl Protocol for Ours {
    type Cell = OurCell;

    fn start(self) -> OurCell {
        OurCell { version: 0, state: State::Free }
    }

    fn take(self, cell: &mut OurCell, wanted: Version) -> bool {
        let may = match cell.state {
            State::Free => wanted > cell.version,
            State::Sent(_) => self.slips(Slip::TakesSent) && wanted > cell.version,
            State::Filling | State::New => false,
        };
        if may {
            let state = if self.slips(Slip::NewUnfilled) { State::New } else { State::Filling };
            *cell = OurCell { version: cell.version + 1, state };
        }
        may
    }

    fn publish(self, cell: &mut OurCell) {
        if cell.state == State::Filling {
            cell.state = State::New;
        }
    }

    fn revert(self, cell: &mut OurCell, before: OurCell) {
        *cell = before;
        if self.slips(Slip::RevertsToNew) {
            *cell = OurCell { version: before.version + 1, state: State::New };
        }
    }

    fn send(self, cell: &mut OurCell, _: Memory, recipients: u8) -> Option<Version> {
        if cell.state != State::New {
            return None;
        }
        if self.copies {
            cell.state = State::Free;
        } else if !self.slips(Slip::StaysNew) {
            cell.state = State::Sent(recipients);
        }
        Some(cell.version)
    }

    fn acknowledge(self, cell: &mut OurCell) {
        cell.state = match cell.state {
            State::Sent(left) if left > 1 && !self.slips(Slip::FirstFrees) => State::Sent(left - 1),
            State::Sent(_) => State::Free,
            // Without the third state nothing else is left to be meant.
            State::New if self.slips(Slip::StaysNew) => State::Free,
            state => state,
        };
    }

    fn version(self, cell: &OurCell) -> Version {
        cell.version
    }

    fn is_over(self, cell: &OurCell) -> bool {
        cell.state == State::Free
    }

    fn copies(self) -> bool {
        self.copies
    }
}
