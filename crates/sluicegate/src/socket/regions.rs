//! Regions of rings: how they are sent, and the proof that ends their use.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use sluicegate_sys::tcp_info;
use thiserror::Error;

use super::{Learned, Pending, Socket};
use crate::ledger::Ledger;
use crate::locality::Locality;
use crate::position::Position;
use crate::pump::SendError;
use crate::queue::{QueueError, RegionWay, SentRegion};
use crate::readiness::{Readiness, Timer};
use crate::ring::{Connection, Lease, Region, RegionUse, Ring, RingError, Settled, Wait};
use crate::strategy::{Strategy, Way};

/// Why there is no partition for a socket.
#[derive(Debug, Error)]
pub enum AcquireError {
    /// Sending has failed meanwhile.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The ring has none.
    #[error(transparent)]
    Ring(#[from] RingError),
}

/// How often a waiter asks how far the peer is, first and last. A report of the
/// kernel for each partition would cost more than the partition (about 25 µs,
/// bench `tracking`; sending 64 KiB by reference takes 6); a question is 0.2 µs
/// and a turn.
pub(super) const PAUSES: (Duration, Duration) =
    (Duration::from_micros(100), Duration::from_millis(10));

/// Regions that the kernel has accepted by reference, until their proof comes.
#[derive(Debug, Default)]
pub(super) struct Regions {
    sent: VecDeque<SentRegion>,
}

impl Regions {
    pub(super) fn is_empty(&self) -> bool {
        self.sent.is_empty()
    }

    /// A region was accepted, as far as it will be.
    pub(super) fn push(&mut self, sent: SentRegion, ledger: &Ledger) {
        if let Some(sent) = unsettled::<()>(sent, ledger, None) {
            self.sent.push_back(sent);
        }
    }

    /// Settles those that are proven, or never will be.
    pub(super) fn sweep<T>(&mut self, ledger: &Ledger, learned: Option<&Learned<T>>) {
        for _ in 0..self.sent.len() {
            if let Some(sent) = self.sent.pop_front()
                && let Some(sent) = unsettled(sent, ledger, learned)
            {
                self.sent.push_back(sent);
            }
        }
    }

    /// Those of which only the kernel's reports are awaited, which somebody else
    /// may take; the others are given up.
    pub(super) fn into_reported(self) -> Vec<RegionUse> {
        let is_reported = |sent: &SentRegion| !sent.used.ways().sendfile;
        self.sent.into_iter().filter(is_reported).map(|sent| sent.used).collect()
    }
}

/// Settles the use of a region, if what is known suffices; else it comes back.
///
/// In the build that shows the paper's race ([`crate::IS_LAWLESS`]) it suffices that
/// the bytes were accepted.
fn unsettled<T>(
    sent: SentRegion,
    ledger: &Ledger,
    learned: Option<&Learned<T>>,
) -> Option<SentRegion> {
    if cfg!(sluicegate_lawless) {
        sent.used.settle(Settled::Copied);
        return None;
    }
    let ways = sent.used.ways();
    if ways.zerocopy && !ledger.is_released(sent.start, sent.end) {
        return Some(sent);
    }
    let settled = match ways.sendfile {
        false if ways.zerocopy => Settled::Released,
        false if sent.start == sent.end => Settled::Unsent,
        false => Settled::Copied,
        // Its pages are replaced before they are written, or never written again.
        true if !sent.used.is_owned() || sent.used.is_last() => Settled::Unproven,
        true => {
            let Some(learned) = learned else { return Some(sent) };
            let locator = &learned.locator;
            match (locator.locality(), learned.connection) {
                (Locality::Remote, Some(connection)) => {
                    // While the kernel is being asked again where the peer is,
                    // an acknowledgement is none.
                    let is_proof = !locator.is_asked() && !locator.is_due(sent.start);
                    if !is_proof || ledger.acked() < sent.end {
                        return Some(sent);
                    }
                    Settled::Acked(connection)
                }
                _ => Settled::Unproven,
            }
        }
    };
    sent.used.settle(settled);
    None
}

impl<R: Readiness> Socket<R> {
    /// What rings know this connection by ([`Ring::acquire_for`]).
    pub fn connection(&mut self) -> Connection {
        *self.learn().connection.get_or_insert_with(Connection::next)
    }

    /// Asks where the peer is with the next memory that is queued: its first
    /// KiB then goes by reference, and how that ends tells. For the head of an
    /// answer whose body comes from a ring: what follows is copied until the
    /// kernel has answered, which [`Socket::located`] waits for. Nobody is asked
    /// where a way is forced ([`Strategy::forced`]).
    pub fn expect_region(&mut self) {
        self.learn().asks = true;
    }

    /// Whether the memory that is queued now is to ask.
    pub(super) fn is_to_ask(&mut self) -> bool {
        let is_forced = self.context.strategy.forced.is_some();
        let Some(learned) = &mut self.learned else { return false };
        let asks = std::mem::take(&mut learned.asks) && !is_forced;
        asks && learned.locator.locality() == Locality::Unknown && !learned.locator.is_asked()
    }

    pub(super) fn queue_region(&mut self, region: &Region) -> Result<Position, QueueError> {
        let connection = self.connection();
        let can_be_cut = region.can_be_cut();
        let alarm = can_be_cut.then(|| Arc::clone(self.learn().alarm.get_or_insert_default()));
        let other = QueueError::OtherConnection;
        if self.room() == 0 {
            return Err(QueueError::Full { limit: super::SEGMENTS });
        }
        let (used, before) = region.enlist(Some(connection), alarm.as_ref()).ok_or(other)?;
        let way = self.way_of_region(region, used.is_owned(), before);
        let calls = self.learned.as_ref().map_or(0, |learned| learned.calls);
        let position = self.position;
        let learned = &mut self.learned;
        let pending = self.pending.get_or_insert_with(|| {
            let own = learned.as_mut().and_then(|learned| learned.spare.take());
            Pending::at(position, calls, own)
        });
        let Strategy { forced, join_up_to, .. } = self.context.strategy;
        if forced.is_none() && pending.queue.room() > 0 {
            pending.queue.announce_more(join_up_to);
        }
        pending.queue.push_region(used, way)
    }

    fn way_of_region(&self, region: &Region, is_owned: bool, before: usize) -> RegionWay {
        let strategy = &self.context.strategy;
        match strategy.forced {
            Some(Way::Copy) => RegionWay::Copied,
            Some(Way::Zerocopy) => RegionWay::Released,
            Some(_) if region.is_replaceable() && !is_owned => RegionWay::Replaced,
            _ if is_owned => RegionWay::Acked,
            _ if region.fans_out(before) => RegionWay::Replaced,
            _ if region.len() as u64 >= strategy.zerocopy_from => RegionWay::Released,
            _ => RegionWay::Copied,
        }
    }

    /// Settles what is proven of the regions, asking the kernel if that helps.
    pub(crate) fn settle_regions(&mut self) -> io::Result<()> {
        if self.pending.as_ref().is_none_or(|pending| pending.regions.is_empty()) {
            return Ok(());
        }
        self.take_reports();
        self.progress()?;
        if self.pending.as_ref().is_some_and(|pending| pending.is_over()) {
            self.settle();
        }
        Ok(())
    }

    /// Looks which regions that were sent have had their proof, so that their partitions are
    /// free, and rings that nobody else has are gone. Whether that is all of them: no event
    /// tells of the others, so who sends nothing more for now looks again later.
    ///
    /// # Errors
    /// As [`Socket::progress`].
    #[inline(never)]
    pub fn try_settle(&mut self) -> io::Result<bool> {
        self.settle_regions()?;
        Ok(!self.has_regions())
    }

    /// Whether regions are to be sent, or wait for their proof.
    pub(crate) fn has_regions(&self) -> bool {
        self.pending.as_ref().is_some_and(|pending| {
            !pending.regions.is_empty() || pending.queue.begins_with_region()
        })
    }

    /// Leases a partition of `ring` for this connection, as
    /// [`Ring::acquire_for`]; sends meanwhile what is queued, and takes what the
    /// peer has acknowledged.
    ///
    /// # Errors
    /// [`AcquireError`].
    pub async fn acquire(&mut self, ring: &Ring) -> Result<Lease, AcquireError> {
        let connection = self.connection();
        // What was queued leaves while the next piece is made.
        let sent = poll_fn(|cx| Poll::Ready(self.poll_flush(cx))).await;
        if let Poll::Ready(Err(error)) = sent {
            return Err(error.into());
        }
        // Mostly there is one.
        if let Some(lease) = ring.try_acquire(Some(connection))? {
            return Ok(lease);
        }
        let mut wait = pin!(Wait::new(ring, Some(connection)));
        self.drive_until(|_, cx| wait.as_mut().poll(cx).map_err(AcquireError::Ring)).await
    }

    /// Sends until everything queued is accepted and every region has its proof,
    /// so that its partition is free.
    ///
    /// # Errors
    /// As [`Socket::flush`]; `ConnectionReset` when the connection ended before
    /// the proof came.
    pub async fn drive(&mut self) -> Result<(), SendError> {
        self.drive_until(|socket, _| {
            let is_over = socket.queued() == socket.accepted_position() && !socket.has_regions();
            if is_over { Poll::Ready(Ok(())) } else { Poll::Pending }
        })
        .await
    }

    /// Sends and settles until `done` is.
    async fn drive_until<T, E: From<SendError>>(
        &mut self,
        mut done: impl FnMut(&Self, &mut Context<'_>) -> Poll<Result<T, E>>,
    ) -> Result<T, E> {
        let mut timer = self.readiness.timer();
        let mut pause = PAUSES.0;
        timer.set(Some(Instant::now() + pause));
        poll_fn(|cx| {
            loop {
                let flushed = self.poll_flush(cx);
                self.settle_regions().map_err(SendError::Connection)?;
                if let Poll::Ready(result) = done(self, cx) {
                    return Poll::Ready(result);
                }
                if let Poll::Ready(Err(error)) = flushed {
                    return Poll::Ready(Err(error.into()));
                }
                if timer.poll_expired(cx).is_ready() {
                    // A connection that is gone never acknowledges.
                    let is_closed = self.is_tcp
                        && tcp_info::tcp_info(self.fd()).map_err(SendError::Connection)?.closed;
                    if is_closed {
                        // Unless it had acknowledged all before it went.
                        self.settle_regions().map_err(SendError::Connection)?;
                        if let Poll::Ready(result) = done(self, cx) {
                            return Poll::Ready(result);
                        }
                    }
                    if is_closed && self.has_regions() {
                        let reset = io::ErrorKind::ConnectionReset.into();
                        return Poll::Ready(Err(SendError::Connection(reset).into()));
                    }
                    pause = (pause * 2).min(PAUSES.1);
                    timer.set(Some(Instant::now() + pause));
                } else if let Poll::Ready(edge) = self.readiness.poll_error(cx) {
                    self.readiness.clear_error(edge);
                    self.drain_reports().map_err(SendError::Connection)?;
                } else {
                    return Poll::Pending;
                }
            }
        })
        .await
    }

    /// Sends what is queued until the kernel has answered where the peer is, if
    /// it is being asked ([`Socket::expect_region`]). Returns what is known then:
    /// [`Locality::Unknown`] where nobody asked.
    ///
    /// The answer comes also when the connection has ended.
    ///
    /// # Errors
    /// As [`Socket::flush`].
    pub async fn located(&mut self) -> Result<Locality, SendError> {
        poll_fn(|cx| {
            loop {
                let flushed = self.poll_flush(cx);
                let is_asked =
                    self.learned.as_ref().is_some_and(|learned| learned.locator.is_asked());
                match flushed {
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Ready(Ok(())) if !is_asked => return Poll::Ready(Ok(self.locality())),
                    _ if !is_asked && self.locality() != Locality::Unknown => {
                        return Poll::Ready(Ok(self.locality()));
                    }
                    _ => {}
                }
                let Poll::Ready(edge) = self.readiness.poll_error(cx) else {
                    return Poll::Pending;
                };
                self.readiness.clear_error(edge);
                self.drain_reports().map_err(SendError::Connection)?;
            }
        })
        .await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ring::Held;

    /// A region that was sent whole by reference.
    fn sent(ring: &Ring) -> SentRegion {
        let owner = Some(Connection::next());
        let lease = ring.try_acquire(owner).unwrap().unwrap();
        let (mut used, _) = lease.publish(100).enlist(owner, None).unwrap();
        let Held::Pages(pinned) = used.pin() else { panic!("nobody has cut it loose") };
        pinned.accepted(Way::Sendfile, 100);
        SentRegion { start: Position::new(0), end: Position::new(100), used }
    }

    #[test]
    fn what_nobody_writes_over_keeps_no_ring_until_it_is_acknowledged() {
        let ring = Ring::builder().never_replaced().build().unwrap();
        let (free, ledger) = (ring.free(), Ledger::new(Position::new(0)));
        let waiting = unsettled::<()>(sent(&ring), &ledger, None);
        assert!(waiting.is_some() && ring.free() == free - 1);
        let other = sent(&ring);
        ring.retire();
        assert!(unsettled::<()>(other, &ledger, None).is_none());
        assert_eq!(ring.free(), free - 1);
    }
}
