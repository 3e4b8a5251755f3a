//! A relay of the thread that made it.

use std::fmt::Debug;
use std::task::{Context, Poll};

use fragile::Fragile;
use sluicegate::Spool;
use sluicegate_http::Fields;
use sluicegate_http::relay::{Downstream, Relay, RelayError};

use super::trouble::Trouble;

/// What a [`Local`] does.
pub(super) trait Drive: Debug {
    /// As [`Relay::poll_relay`].
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>>;
}

/// Queues what `spool` has at the client, as far as there is room: whether that was anything.
pub(super) fn push_to(client: &mut dyn Downstream, spool: &mut Spool) -> Result<bool, RelayError> {
    let mut has_queued = false;
    while client.room() > 0
        && let Some(segment) = spool.segment()
    {
        client.push(segment)?;
        has_queued = true;
    }
    Ok(has_queued)
}

/// A relay that is `Send`, as the engine wants it, though its sockets and timers are of the
/// thread that they were made on.
#[derive(Debug)]
pub(super) struct Local<D> {
    length: Option<u64>,
    driven: Fragile<D>,
}

impl<D> Local<D> {
    /// `length`: bytes of the whole body, if they are known.
    pub(super) fn of(length: Option<u64>, driven: D) -> Self {
        Local { length, driven: Fragile::new(driven) }
    }
}

impl<D: Drive> Relay for Local<D> {
    fn length(&self) -> Option<u64> {
        self.length
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        match self.driven.try_get_mut() {
            Ok(driven) => driven.poll(cx, client),
            Err(error) => Poll::Ready(Err(RelayError::Ours(Box::new(error)))),
        }
    }
}

impl From<Trouble> for RelayError {
    fn from(trouble: Trouble) -> Self {
        match trouble.is_upstreams() {
            true => RelayError::Upstream(Box::new(trouble)),
            false => RelayError::Ours(Box::new(trouble)),
        }
    }
}
