//! Regions in a send queue.

use bytes::Bytes;

use super::{CALL, Gate, PROBE, Part, QueueError, SendQueue, Transmit};
use crate::position::Position;
use crate::ring::{Held, RegionUse};
use crate::strategy::Way;

/// How a region's bytes are to go, as far as that is known when it is queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RegionWay {
    /// By copies.
    Copied,
    /// By reference to a peer that is remote, until it has acknowledged all, or where
    /// nobody will write to its partition again; else by copies.
    Acked,
    /// By reference, since its pages are replaced before they are written.
    Replaced,
    /// By MSG_ZEROCOPY to a peer that is remote, by copies to any other.
    Released,
}

/// What an acknowledgement is worth now, as a proof for regions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Acks {
    /// Nothing: the peer is not known to be remote.
    #[default]
    Nothing,
    /// It is a proof as soon as a call by reference has asked where the peer is.
    Due,
    /// It is a proof.
    Proof,
}

/// A region that was accepted, or as much of it as will be: the bytes of the
/// stream from `start` to `end`.
#[derive(Debug)]
pub struct SentRegion {
    /// Where it begins.
    pub start: Position,
    /// Where it ends.
    pub end: Position,
    /// What is to be settled. Dropped, it counts as never proven.
    pub used: RegionUse,
}

impl<F> SendQueue<F> {
    /// Says what acknowledgements are worth from now on. Nothing at first.
    pub fn set_acks(&mut self, acks: Acks) {
        self.acks = acks;
    }

    /// Queues the use of a region. Who drives the queue by itself asks for
    /// [`SendQueue::poll_sent_region`] after each call: a use that stays in the
    /// queue keeps its partition.
    ///
    /// # Errors
    /// As [`SendQueue::push`]; the use ends.
    pub fn push_region(&mut self, used: RegionUse, way: RegionWay) -> Result<Position, QueueError> {
        let left = used.left() as u64;
        if left == 0 {
            return Ok(self.end);
        }
        if self.parts.len() >= self.limit {
            return Err(QueueError::Full { limit: self.limit });
        }
        self.parts.push_back(Part::Region { used, way, left });
        self.end = self.end.advanced(left);
        Ok(self.end)
    }

    /// The region at the front, for one call.
    pub fn hold_region(&mut self) -> Option<Held<'_>> {
        match self.parts.front_mut()? {
            Part::Region { used, .. } => Some(used.pin()),
            _ => None,
        }
    }

    /// The region at the front was cut loose; this is what it had not sent.
    pub fn handle_cut_loose(&mut self, rest: Bytes) {
        let Some(front @ Part::Region { .. }) = self.parts.front_mut() else { return };
        let rest = Part::Memory { bytes: rest, way: Way::Copy };
        let Part::Region { used, left, .. } = std::mem::replace(front, rest) else { return };
        drop(used);
        let Some(Part::Memory { bytes, .. }) = self.parts.front_mut() else { return };
        // It has what it had: the stream is as long as was said.
        debug_assert_eq!(bytes.len() as u64, left);
        bytes.truncate(usize::try_from(left).unwrap_or(usize::MAX));
    }

    /// The next region that was accepted and has not been asked for.
    pub fn poll_sent_region(&mut self) -> Option<SentRegion> {
        self.sent.pop_front()
    }

    /// Whether a region is what is sent next.
    pub(crate) fn begins_with_region(&self) -> bool {
        matches!(self.parts.front(), Some(Part::Region { .. }))
    }

    pub(super) fn transmit_region(
        &self,
        used: &RegionUse,
        way: RegionWay,
        left: u64,
    ) -> Transmit<'_, F> {
        let may_ask = self.copy_first == 0;
        let way = match way {
            RegionWay::Acked if used.is_last() => RegionWay::Replaced,
            way => way,
        };
        let (way, most) = match (way, self.acks, self.gate) {
            (RegionWay::Replaced, ..) | (RegionWay::Acked, Acks::Proof, _) => (Way::Sendfile, CALL),
            (RegionWay::Acked, Acks::Due, _) if may_ask => (Way::Zerocopy, PROBE),
            (RegionWay::Acked | RegionWay::Released, _, Gate::Probe) if may_ask => {
                (Way::Zerocopy, PROBE)
            }
            (RegionWay::Released, _, Gate::Open) if may_ask => (Way::Zerocopy, self.references),
            (RegionWay::Acked | RegionWay::Released, ..) if !may_ask => {
                (Way::Copy, self.copy_first)
            }
            _ => (Way::Copy, CALL),
        };
        let len = usize::try_from(left.min(most)).unwrap_or(usize::MAX);
        let more = self.accepted.advanced(len as u64) < self.end;
        Transmit::Region { way, len, more }
    }

    /// A call was accepted: if it was one that asks where the peer is, the next
    /// need not.
    pub(super) fn handle_asked(&mut self) {
        if let Some(Part::Region { used, way, left }) = self.parts.front()
            && let Transmit::Region { way: Way::Zerocopy, .. } =
                self.transmit_region(used, *way, *left)
        {
            // Asked.
            if self.gate == Gate::Probe {
                self.gate = Gate::Closed;
            }
            if self.acks == Acks::Due {
                self.acks = Acks::Proof;
            }
        }
    }

    /// The region at the front is over, at `end`.
    pub(super) fn send_off(&mut self, end: Position) {
        if let Some(Part::Region { used, .. }) = self.parts.pop_front() {
            let start = Position::new(end.get().saturating_sub(used.at() as u64));
            self.sent.push_back(SentRegion { start, end, used });
        }
    }
}
