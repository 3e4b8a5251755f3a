//! The end of a socket.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Instant;

use sluicegate_sys::socket;

use super::{Pending, Socket};
use crate::linger::{Dropped, linger};
use crate::readiness::Readiness;

impl<R: Readiness> Socket<R> {
    /// Closes by a reset: the peer learns that what it has is not the whole.
    pub fn abort(mut self) {
        self.close(true);
    }

    /// Makes the close that comes when this is dropped a reset, as [`Socket::abort`] does it.
    ///
    /// # Errors
    /// As `setsockopt(2)`: the connection is gone already.
    pub fn reset_when_dropped(&self) -> io::Result<()> {
        socket::reset_on_close(self.fd())
    }

    /// Before the descriptor is closed: what the kernel still refers to goes to
    /// the lingering table, with the descriptor.
    fn close(&mut self, abort: bool) {
        if self.fd.is_none() {
            return;
        }
        self.take_reports();
        self.cancel();
        if abort {
            // Where the option is refused the connection is gone already.
            let _ = socket::reset_on_close(self.fd());
        }
        let Some(pending) = self.pending.take() else { return };
        let Pending { ledger, buffers, regions, .. } = *pending;
        let regions = regions.into_reported();
        if ledger.has_references()
            && let Some(fd) = self.fd.take()
        {
            // The descriptor outlives what watches it.
            self.readiness.unwatch(fd.as_fd());
            let buffers = buffers.into_referenced(&ledger);
            let deadline = Instant::now() + self.context.linger;
            let context = Arc::clone(&self.context);
            linger(Dropped { fd, context, ledger, buffers, regions, deadline, abort });
        }
    }
}

impl<R: Readiness> Drop for Socket<R> {
    fn drop(&mut self) {
        self.close(false);
    }
}
