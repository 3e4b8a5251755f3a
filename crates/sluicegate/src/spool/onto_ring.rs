//! How bytes come into the rings of a spool.

use std::io::{self, Write};
use std::task::{Context, Poll};

use bytes::{Buf, Bytes};

use super::core::{Tier, Wants};
use super::fill::{Filled, count_of, fits};
use super::holder::{Holder, give_back, take_buffer};
use super::{Sink, Spool, rings};
use crate::readiness::Readiness;
use crate::ring::{Lease, Ring, RingError};
use crate::socket::{AcquireError, Socket};

impl Spool {
    /// Whether there is a ring of memory, after one was made if that is wanted.
    pub(super) fn has_ring(&mut self, wants: Wants) -> bool {
        if self.ring.is_none() && wants.loose > 0 && self.options.memory_ring && !self.has_no_ring {
            let unit = self.options.unit;
            let wanted = rings::size(self.core.poll_ring(), unit);
            let granted = self.share.take(wanted);
            let size = rings::size(granted, unit);
            self.share.give_back(granted - size);
            match rings::in_memory(size, unit, self.share.charge(size)) {
                Ok(ring) if size > 0 => {
                    self.ring = Some(ring);
                    self.core.handle_ring(size);
                }
                // There is always copying.
                _ => self.has_no_ring = wanted > 0 && size > 0,
            }
        }
        self.ring.is_some() && (wants.ring > 0 || wants.loose > 0)
    }

    /// `None` when no partition is free.
    pub(super) fn fill_ring<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket<R>,
        sink: &mut dyn Sink,
        limit: u64,
    ) -> Option<Filled> {
        let open = match self.core.open() {
            Some(last) if last.tier == Tier::Ring => {
                let at = fits(last.filled());
                match &mut last.holder {
                    Holder::Lease(lease) => Some((lease, at)),
                    _ => None,
                }
            }
            _ => None,
        };
        let (received, is_full);
        if let Some((lease, at)) = open {
            let end = lease.len().min(at.saturating_add(fits(limit)));
            received = from.poll_receive_into(cx, &mut lease[at..end]);
            is_full = at + fits(count_of(&received)) == lease.len();
            self.core.handle_filled(count_of(&received));
        } else {
            let mut lease = match lease(cx, self.ring.as_ref()?, sink) {
                Leased::Lease(lease) => lease,
                Leased::Busy => return None,
                Leased::Never(_) => {
                    self.give_up_ring();
                    return Some(Filled::Refused);
                }
            };
            let end = lease.len().min(fits(limit));
            received = from.poll_receive_into(cx, &mut lease[..end]);
            is_full = fits(count_of(&received)) == lease.len();
            if let count @ 1.. = count_of(&received) {
                self.core.handle_new(Tier::Ring, Holder::Lease(lease), count, true);
            }
        }
        if is_full {
            self.core.close();
        }
        self.bytes.add(Tier::Ring, count_of(&received));
        Some(received.into())
    }

    /// No partition of the ring of memory can be used again: what comes is copied.
    fn give_up_ring(&mut self) {
        self.core.handle_ring(0);
        (self.ring, self.has_no_ring) = (None, true);
    }

    /// Whether there is a ring on disk, after one was made.
    pub(super) fn has_disk(&mut self) -> bool {
        if self.disk.is_none() {
            let unit = self.options.unit;
            let size = rings::size(self.core.poll_disk(), unit);
            let charge = self.share.charge_disk(size);
            match rings::on_disk(&self.options.directory, size, unit, charge) {
                Ok(ring) => self.disk = Some(ring),
                Err(error) => {
                    if size > 0 {
                        self.trouble = Some(io::Error::other(error));
                    }
                    self.core.handle_no_disk();
                }
            }
        }
        self.disk.is_some()
    }

    /// Nothing is lost by a disk that fails: what was received is in memory, and
    /// stays there. `None` when no partition is free.
    pub(super) fn fill_disk<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket<R>,
        sink: &mut dyn Sink,
        limit: u64,
    ) -> Option<Filled> {
        let open = match self.core.open() {
            Some(last) if last.tier == Tier::Disk => match &mut last.holder {
                Holder::Lease(lease) => Some(lease),
                _ => None,
            },
            _ => None,
        };
        let mut fresh = match (open, self.leased.take()) {
            (Some(_), _) => None,
            (None, Some(lease)) => Some(lease),
            (None, None) => match lease(cx, self.disk.as_ref()?, sink) {
                Leased::Lease(lease) => Some(lease),
                Leased::Busy => return None,
                Leased::Never(error) => {
                    self.handle_trouble(io::Error::other(error));
                    return Some(Filled::Refused);
                }
            },
        };
        let target = match (&mut fresh, self.core.open().map(|last| &mut last.holder)) {
            (Some(lease), _) | (None, Some(Holder::Lease(lease))) => lease,
            _ => return None,
        };
        let room = target.room();
        let mut buffer = take_buffer(limit.min(room as u64));
        let received = from.poll_receive_some(cx, &mut buffer, fits(limit).min(room));
        let count = count_of(&received);
        if count == 0 {
            give_back(Holder::Buffer(buffer));
            return Some(received.into());
        }
        // Not through the mapping: there a failure would end the process.
        if let Err(error) = target.write_all(&buffer) {
            self.handle_trouble(error);
            self.share.take_anyway(count);
            self.core.handle_new(Tier::Memory, Holder::Buffer(buffer), count, false);
            self.bytes.add(Tier::Memory, count);
            return Some(received.into());
        }
        give_back(Holder::Buffer(buffer));
        match fresh {
            Some(lease) => self.core.handle_new(Tier::Disk, Holder::Lease(lease), count, true),
            None => self.core.handle_filled(count),
        }
        if count == room as u64 {
            self.core.close();
        }
        self.bytes.add(Tier::Disk, count);
        Some(received.into())
    }

    pub(super) fn handle_trouble(&mut self, error: io::Error) {
        self.core.close();
        self.core.handle_no_disk();
        self.trouble = Some(error);
    }

    /// Writes the first of `bytes` to the partition on disk that there is, if there
    /// is one, and leaves the others.
    pub(super) fn push_to_disk(&mut self, bytes: &mut Bytes) {
        let mut fresh = self.leased.take();
        let target = match (&mut fresh, self.core.open()) {
            (Some(lease), _) => lease,
            (None, Some(last)) if last.tier == Tier::Disk => match &mut last.holder {
                Holder::Lease(lease) => lease,
                _ => return,
            },
            _ => return,
        };
        let count = bytes.len().min(target.room());
        if let Err(error) = target.write_all(&bytes[..count]) {
            return self.handle_trouble(error);
        }
        bytes.advance(count);
        let is_full = target.room() == 0;
        match fresh {
            Some(lease) => {
                self.core.handle_new(Tier::Disk, Holder::Lease(lease), count as u64, true);
            }
            None => self.core.handle_filled(count as u64),
        }
        if is_full {
            self.core.close();
        }
        self.bytes.add(Tier::Disk, count as u64);
    }
}

/// What became of a partition for the sink.
pub(super) enum Leased {
    Lease(Lease),
    /// None is free, or the sink fails, which is told by who sends to it.
    Busy,
    /// None will be: the kernel may read them all for ever.
    Never(RingError),
}

pub(super) fn lease(cx: &mut Context<'_>, ring: &Ring, sink: &mut dyn Sink) -> Leased {
    match sink.poll_lease(cx, ring) {
        Poll::Ready(Ok(lease)) => Leased::Lease(lease),
        Poll::Ready(Err(AcquireError::Ring(error))) => Leased::Never(error),
        Poll::Ready(Err(AcquireError::Send(_))) | Poll::Pending => Leased::Busy,
    }
}
