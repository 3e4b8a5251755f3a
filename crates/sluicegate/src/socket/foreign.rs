//! Bytes that somebody else sends on a socket's descriptor.

use std::io;
use std::os::fd::BorrowedFd;

use sluicegate_sys::errqueue;

use super::Socket;
use super::kernel::{References, Reports};
use crate::locality::{Locality, Locator};
use crate::position::Position;
use crate::readiness::Readiness;

impl<R: Readiness> Socket<R> {
    /// Makes one send call of the caller's on the descriptor and accounts for
    /// what it returns, so that positions stay right. `asks` for a report of
    /// its acknowledgement.
    ///
    /// # Errors
    /// What the call returns; `InvalidInput` while something is queued here,
    /// since that goes first, or the kernel refers to memory of ours.
    pub(crate) fn foreign_call(
        &mut self,
        asks: bool,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<(Position, Position)> {
        if self.queued() != self.accepted_position() || self.referenced() > 0 {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        // The call may be one with MSG_ZEROCOPY, and take the number of one of
        // ours: from now on there is none of ours.
        self.learn().references = References::Refused;
        // Without a report somebody looks, a little later. What the call has
        // sent counts in any case.
        let numbering = if asks { self.numbering() } else { None };
        let report = |on| {
            numbering
                .is_some_and(|numbering| errqueue::report_acks(self.fd(), numbering, on).is_ok())
        };
        let asked = report(true);
        let sent = call(self.fd());
        if asked {
            report(false);
        }
        let start = self.queued();
        let count = sent? as u64;
        self.position = self.position.advanced(count);
        if let Some(pending) = &mut self.pending {
            pending.queue.handle_foreign(count);
            pending.ledger.handle_foreign(count);
        }
        Ok((start, start.advanced(count)))
    }

    fn numbering(&mut self) -> Option<errqueue::Numbering> {
        if let Reports::Untried = self.learn().reports {
            let reports = match errqueue::number_acks(self.fd()) {
                Ok(numbering) => Reports::Numbered(numbering),
                Err(_) => Reports::Refused,
            };
            self.learn().reports = reports;
        }
        match self.learn().reports {
            Reports::Numbered(numbering) => Some(numbering),
            _ => None,
        }
    }

    /// Asks for nothing that makes an entry on the error queue: no reports, no
    /// memory by reference.
    pub(crate) fn keep_error_queue_empty(&mut self) {
        let learned = self.learn();
        learned.reports = Reports::Refused;
        // Also where the strategy forces that way.
        learned.references = References::Refused;
        learned.locator = Locator::new(Some(Locality::Local));
    }
}
