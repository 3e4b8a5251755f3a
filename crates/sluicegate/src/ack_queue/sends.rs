//! Which send the acknowledged bytes of a stream belong to.

use std::collections::VecDeque;
use std::os::fd::RawFd;

use crate::position::Position;

/// What a send is called by who waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Tag {
    /// The descriptor of the file that is sent, as the paper has it
    /// (seeds/000, II-B2).
    File(RawFd),
    /// A number of the caller's.
    Number(u64),
}

/// A send's acknowledged part has grown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grown {
    /// Which send.
    pub tag: Tag,
    /// By how many bytes.
    pub grown: u64,
    /// Bytes of it that are acknowledged now.
    pub total: u64,
    /// Bytes that it has.
    pub len: u64,
}

/// The sends of one stream that are not acknowledged whole, in order. Pure.
#[derive(Debug, Default)]
pub(super) struct Sends {
    open: VecDeque<Send>,
    /// Everything before here was told.
    told: Position,
}

#[derive(Debug)]
struct Send {
    tag: Tag,
    start: Position,
    end: Position,
}

impl Sends {
    /// A send called `tag` is the stream from `start` to `end`. One that goes
    /// on where the last one of the same name ended is a send of its own.
    pub(super) fn push(&mut self, tag: Tag, start: Position, end: Position) {
        if end > start {
            self.open.push_back(Send { tag, start, end });
        }
    }

    /// Everything before `acked` is acknowledged: tells `each` send whose part
    /// grew.
    pub(super) fn handle_acked(&mut self, acked: Position, mut each: impl FnMut(Grown)) {
        while let Some(send) = self.open.front() {
            let upto = acked.min(send.end);
            let from = self.told.max(send.start);
            if upto > from {
                each(Grown {
                    tag: send.tag,
                    grown: upto.since(from),
                    total: upto.since(send.start),
                    len: send.end.since(send.start),
                });
            }
            if acked < send.end {
                break;
            }
            self.open.pop_front();
        }
        self.told = self.told.max(acked);
    }

    /// Nothing behind `accepted` will be sent any more.
    pub(super) fn handle_cancelled(&mut self, accepted: Position) {
        for send in &mut self.open {
            send.end = send.end.min(accepted);
        }
        self.open.retain(|send| send.end > send.start);
    }

    /// Whether anything waits for an acknowledgement.
    pub(super) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_byte_is_told_once_and_of_its_own_send(
            lens in prop::collection::vec(0_u64..1000, 1..20),
            steps in prop::collection::vec(0_u64..3000, 0..20),
            base in prop::sample::select(vec![0, (1_u64 << 32) - 500, u64::from(u32::MAX) * 3]),
        ) {
            let mut sends = Sends::default();
            let mut end = Position::new(base);
            for (number, len) in lens.iter().enumerate() {
                let start = end;
                end = start.advanced(*len);
                sends.push(Tag::Number(number as u64), start, end);
            }
            let mut totals = vec![0; lens.len()];
            let mut acked = Position::new(base);
            for step in steps.iter().copied().chain([u64::from(u32::MAX)]) {
                // Now and then an older answer comes late.
                acked = acked.max(end.min(acked.advanced(step)));
                sends.handle_acked(acked, |grown| {
                    let Tag::Number(number) = grown.tag else { panic!("{grown:?}") };
                    let number = usize::try_from(number).unwrap();
                    assert!(grown.grown > 0);
                    totals[number] += grown.grown;
                    assert_eq!((grown.total, grown.len), (totals[number], lens[number]));
                });
                sends.handle_acked(Position::new(base), |grown| panic!("{grown:?}"));
            }
            prop_assert_eq!(totals, lens);
            prop_assert!(sends.is_empty());
        }
    }

    #[test]
    fn what_is_cancelled_is_not_waited_for() {
        let mut sends = Sends::default();
        let [ten, twenty] = [10, 20].map(Position::new);
        sends.push(Tag::Number(1), Position::START, ten);
        sends.push(Tag::Number(2), ten, twenty);
        sends.handle_cancelled(Position::new(4));
        let mut told = Vec::new();
        sends.handle_acked(Position::new(4), |grown| told.push((grown.tag, grown.total)));
        assert_eq!(told, [(Tag::Number(1), 4)]);
        assert!(sends.is_empty());
    }
}
