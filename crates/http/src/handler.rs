//! What answers requests.

use std::any::Any;
use std::future::Future;
use std::time::Duration;

use sluicegate::{SendError, WayBytes};
use thiserror::Error;

use crate::relay::RelayError;
use crate::response::BodyFailure;
use crate::{Endpoints, Offence, Request, RequestHead, Response};

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

    /// Told of the status of every answer that is begun, those of
    /// [`Handler::refuse`] among them. Does nothing unless it is overridden.
    fn answering(&self, status: u16) {
        let _ = status;
    }

    /// What [`Handler::answered`] is to be told. Asked once for each request.
    fn observes(&self) -> Observe {
        Observe::Nothing
    }

    /// Told once of every request that got an answer, was refused, or was cut,
    /// if [`Handler::observes`] asks for it. Does nothing unless it is overridden.
    ///
    /// So that all figures are of this answer alone, an answer is then sent
    /// before the next pipelined request is looked at.
    fn answered(&self, answered: &Answered<'_>) {
        let _ = answered;
    }
}

/// What a handler is to be told of the requests that were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Observe {
    /// Nothing: pipelined answers may share a send.
    #[default]
    Nothing,
    /// Each one, when the kernel has accepted its answer.
    Accepted,
    /// Each one, when the client's TCP has acknowledged its answer, or the next
    /// request has come, or the connection is over, or nothing was acknowledged
    /// for [`crate::Timeouts::send`]. The next answer does not wait for it; the
    /// last of a connection is followed by the end of the stream as ever. Costs
    /// a report of the kernel for each answer ([`sluicegate::Socket::acked`]).
    Acked,
}

/// What became of one request.
#[derive(Clone, Copy, Debug)]
pub struct Answered<'a> {
    /// Its head; `None` where it could not be read.
    pub head: Option<&'a RequestHead>,
    /// The connection that it came by.
    pub endpoints: Endpoints,
    /// The status of its answer; `None` where it ended before there was one.
    pub status: Option<u16>,
    /// It was a HEAD: the answer has no content, whatever it announces.
    pub head_only: bool,
    /// Bytes of the answer's head that the kernel accepted.
    pub head_bytes: u64,
    /// Bytes of what follows the head that the kernel accepted: the content,
    /// with its framing where that is chunked.
    pub content_bytes: u64,
    /// Bytes of content that the head announces (Content-Length); `None` where
    /// the length was not known, and where an answer has none (204, 304).
    pub announced: Option<u64>,
    /// The accepted bytes by the way that they went.
    pub ways: WayBytes,
    /// Bytes of the answer, head and content, that the client's TCP has
    /// acknowledged: where that was asked for ([`Observe::Acked`]), and the
    /// kernel could tell. The TCP may be a load balancer's.
    pub acked: Option<u64>,
    /// When the head was complete: time since the Unix epoch, as exact as a
    /// timer tick (1 to 10 ms).
    pub time: Duration,
    /// From then on until the handler had answered: zero where it did so without
    /// waiting for anything, and the body is not relayed ([`crate::Relay`]).
    pub handled: Duration,
    /// Until the kernel had accepted all of the answer, or it was clear that it
    /// would not. Counts from the turn of the worker's loop in which the head
    /// was complete, as its deadlines do.
    pub accepted: Duration,
    /// Until all of it was acknowledged; `None` where it was not, or nobody asked.
    pub acked_after: Option<Duration>,
    /// Requests on this connection so far, with this one.
    pub requests: u32,
    /// What ended the connection in the middle of it.
    pub failure: Option<&'a Failure>,
    /// What the handler left in [`Request::note`].
    pub note: Option<&'a (dyn Any + Send + Sync)>,
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
    /// The client has reset its connection before its answer was complete; or it
    /// stopped sending, and its answer, or more of it, was not ready in the time
    /// that it then had ([`crate::Timeouts::send`]): it is taken for gone.
    #[error("the client is gone before its answer was complete")]
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
    /// The client broke a rule, a limit or a deadline in a body that was relayed while its
    /// answer had begun.
    #[error("the client's request, whose answer had begun: {0}")]
    Upload(Offence),
    /// What the answer was relayed from failed, or we did while we relayed it.
    #[error(transparent)]
    Relay(RelayError),
    /// The server ended first. Only [`Handler::answered`] is told of it.
    #[error("the server ended first")]
    Cut,
}

impl Failure {
    /// A stable snake_case name for logs and metrics; an offence's own
    /// ([`Offence::name`]).
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Failure::Offence(offence) | Failure::Upload(offence) => offence.name(),
            Failure::Unread => "unread",
            Failure::Gone => "gone",
            Failure::Receive(_) => "receive",
            Failure::Send(SendError::File(_)) => "file",
            Failure::Send(SendError::Connection(_)) => "send",
            Failure::Send(SendError::CutLoose) => "cut_loose",
            Failure::Body(_) => "body",
            Failure::Relay(RelayError::Upstream(_)) => "upstream",
            Failure::Relay(RelayError::Client(_)) => "send",
            Failure::Relay(_) => "relay",
            Failure::Cut => "cut",
        }
    }
}
