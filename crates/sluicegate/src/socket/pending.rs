//! What a socket needs while it has something to send, or to wait for.

use std::cell::Cell;

use super::kernel::Report;
use super::regions::Regions;
use crate::buffers::Buffers;
use crate::ledger::Ledger;
use crate::limits::Filling;
use crate::pipes::LentPipe;
use crate::position::Position;
use crate::queue::SendQueue;

#[derive(Debug)]
pub(super) struct Pending {
    pub(super) queue: SendQueue,
    pub(super) ledger: Ledger,
    pub(super) pipe: Option<LentPipe>,
    pub(super) buffers: Buffers,
    /// Whose acknowledgement is to wake somebody.
    pub(super) report: Option<Report>,
    pub(super) filling: Filling,
    /// Regions that were accepted and are not proven.
    pub(super) regions: Regions,
}

thread_local! {
    /// What the last socket of this thread that had sent everything needed: most
    /// answers are sent whole before the next one is queued, and two
    /// allocations are a fifth of what a small one costs outside the kernel.
    static SPARE: Cell<Option<Box<Pending>>> = const { Cell::new(None) };
}

/// Segments that a spare queue may have room for: one that was longer is freed.
const SPARE_ROOM: usize = 16;

impl Pending {
    /// What a socket needs whose stream stands at `position`, after so many
    /// `calls` by reference.
    pub(super) fn at(position: Position, calls: u32, own: Option<Box<Self>>) -> Box<Self> {
        // A thread that is ending has none left.
        let spare = own.or_else(|| SPARE.try_with(Cell::take).ok().flatten());
        let ledger = Ledger::after_calls(position, calls);
        let Some(mut pending) = spare else {
            let queue = SendQueue::new(position);
            let buffers = Buffers::default();
            let (pipe, report, filling, regions) = Default::default();
            return Box::new(Pending { queue, ledger, pipe, buffers, report, filling, regions });
        };
        pending.queue.restart(position);
        pending.ledger = ledger;
        (pending.report, pending.filling) = Default::default();
        pending
    }

    /// Whether nothing is to be sent, and nothing to be waited for.
    pub(super) fn is_over(&self) -> bool {
        self.queue.is_empty()
            && self.buffers.len() == 0
            && self.regions.is_empty()
            && !self.ledger.has_references()
    }

    /// Keeps it for the next socket.
    pub(super) fn keep(self: Box<Self>) {
        if self.is_over() && self.queue.capacity() <= SPARE_ROOM {
            let _ = SPARE.try_with(|spare| spare.set(Some(self)));
        }
    }
}
