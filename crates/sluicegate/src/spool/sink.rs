//! Who takes what a spool gives.

use std::task::{Context, Poll};

use crate::readiness::Readiness;
use crate::ring::{Lease, Ring};
use crate::socket::{AcquireError, Socket};

/// Who takes what a spool gives: it leases partitions, so that acknowledgements
/// of its own connection free them.
pub trait Sink {
    /// A partition of `ring` for the connection of this sink. Pending until one is
    /// free: by what is sent, which whoever waits here sees to, and by what is
    /// acknowledged, of which the task is told.
    fn poll_lease(
        &mut self,
        cx: &mut Context<'_>,
        ring: &Ring,
    ) -> Poll<Result<Lease, AcquireError>>;
}

impl<R: Readiness> Sink for Socket<R> {
    fn poll_lease(
        &mut self,
        cx: &mut Context<'_>,
        ring: &Ring,
    ) -> Poll<Result<Lease, AcquireError>> {
        Socket::poll_lease(self, cx, ring)
    }
}
