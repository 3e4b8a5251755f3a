//! What answers requests.

use std::future::Future;

use sluicegate::SendError;
use thiserror::Error;

use crate::response::BodyFailure;
use crate::{Offence, Request, Response};

/// Answers requests, one call each.
///
/// A plain async trait over the engine's own types. The future need not be
/// `Send` on a worker of ours; where `serve` is spawned on a runtime that moves
/// tasks between threads, the compiler asks for it there.
pub trait Handler {
    /// Answers one request.
    fn handle(&self, request: &mut Request) -> impl Future<Output = Response>;

    /// The answer to a request that the engine refuses by itself, since nobody
    /// can read it or it is beyond a limit: a page with `status`.
    fn refuse(&self, status: u16) -> Response {
        Response::status_page(status)
    }

    /// Called now and then by whoever runs the service, to let go of what is no
    /// longer used. Does nothing unless it is overridden.
    fn tend(&self) {}

    /// Told of what ended a connection before its time. Does nothing unless
    /// it is overridden; to log or count.
    fn failed(&self, failure: &Failure) {
        let _ = failure;
    }
}

/// What ended a connection before its time, and whose doing it was.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum Failure {
    /// The client broke a rule, a limit or a deadline.
    #[error("the client's request: {0}")]
    Offence(#[from] Offence),
    /// The client took nothing of the response for too long.
    #[error("the client takes nothing of the response")]
    Unread,
    /// The client stopped sending, and its answer was not ready in the time
    /// that it then had ([`crate::Timeouts::send`]): it is taken for gone.
    #[error("the client is gone; its answer was not ready in time")]
    Gone,
    /// Receiving failed: the client or the network.
    #[error("receiving: {0}")]
    Receive(std::io::Error),
    /// Sending failed; the error tells whether by the client or by our file.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The body's source failed, or did not keep the length that it named: ours.
    #[error("the response's body: {0}")]
    Body(BodyFailure),
}
