//! Bodies and streams that somebody else moves into a client's connection.

use std::error::Error as StdError;
use std::io;
use std::task::{Context, Poll};

use sluicegate::{Pipe, Segment, SendError, Sink};
use thiserror::Error;

use crate::response::Fields;

/// Why a relay ended before its body did, and whose doing it was. The client's
/// connection is cut, so that nobody takes a part for the whole.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RelayError {
    /// The client: its connection takes no more.
    #[error(transparent)]
    Client(#[from] SendError),
    /// The upstream failed, broke a rule, or ended early.
    #[error("the upstream: {0}")]
    Upstream(Box<dyn StdError + Send + Sync>),
    /// We: a spool that could not be written, a bound that was passed.
    #[error("the relay: {0}")]
    Ours(Box<dyn StdError + Send + Sync>),
}

/// A client's connection, as who answers it by himself sees it. What is queued is
/// content: the engine frames it (a chunk's head only for bytes that are there).
pub trait Downstream: Sink {
    /// Queues content behind what was queued before.
    ///
    /// # Errors
    /// [`RelayError::Ours`] when it is more than was announced, or there is no
    /// room for a segment: see [`Downstream::room`]. The relay is then over, whatever it
    /// makes of that.
    fn push(&mut self, content: Segment) -> Result<(), RelayError>;

    /// Segments for which there is room.
    fn room(&self) -> usize;

    /// Sends what is queued, as far as the client takes it. Ready when all of it
    /// was accepted. The engine's own deadline for clients that acknowledge
    /// nothing is looked at here, and clients that are gone: after an error the
    /// relay is over, whatever it makes of that.
    ///
    /// The deadline ([`crate::Timeouts::send`]) counts only while something is queued
    /// that the client does not take, or a partition is waited for
    /// ([`Sink::poll_lease`]) that its acknowledgements would free. An upstream's
    /// silence never counts against the client.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>>;

    /// Bytes of content that the kernel has accepted so far, framing not counted.
    fn accepted(&self) -> u64;

    /// After an upgrade: receives what the client sends into the spare room of
    /// `buffer`; 0 when it sends no more. What it had sent behind its request
    /// comes first.
    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>>;

    /// As [`Downstream::poll_receive`], into a pipe: at most `len` bytes. `Unsupported`
    /// while bytes wait that were received already; `WouldBlock` (as an error, not
    /// as pending) when the client has something to say and the pipe has no room:
    /// then only a drain of the pipe can tell when to try again.
    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &Pipe,
        len: usize,
    ) -> Poll<io::Result<usize>>;

    /// After an upgrade, and once all was flushed: nothing more will be sent
    /// (half-close). What the client sends can still be received.
    ///
    /// # Errors
    /// `NotConnected` once the connection is gone; `Unsupported` without an
    /// upgrade: the engine ends an answer.
    fn finish(&mut self) -> io::Result<()>;
}

/// Moves a body into a client's connection by itself, as far as both ends go.
/// For what [`crate::response::BodySource`] cannot do: to go on receiving while a
/// slow client takes what was received.
///
/// Dropped as soon as it is over, whoever has ended it: what it holds of an
/// upstream is let go of then, nothing has to be sent first.
///
/// | what happens | what the engine does |
/// |---|---|
/// | HEAD, 204, 304 | the head alone is sent, the relay dropped unpolled |
/// | the client resets its connection, also while nothing is being sent | the relay is dropped at once, [`crate::Failure::Gone`] |
/// | the client sends FIN | nothing: a half-close is legal. Only while nothing is queued it has [`crate::Timeouts::send`], from the last byte that its kernel was handed (or from the FIN, if that is later), for more to come, then it is taken for gone, [`crate::Failure::Gone`] |
/// | the same after an upgrade | [`Downstream::poll_receive`] returns 0; what that means is the relay's to know |
/// | what is queued is not acknowledged for [`crate::Timeouts::send`] | [`crate::Failure::Unread`] |
/// | the request's body, which the relay reads, breaks a rule, a limit or [`crate::Timeouts::body`], and the relay fails | [`crate::Failure::Upload`] |
/// | the relay fails otherwise, or pushes more or less than it announced | [`crate::Failure::Relay`] |
///
/// In all but the first the client's connection is reset, so that nobody takes a
/// part for the whole.
pub trait Relay: Send {
    /// Bytes of the whole body, if they are known: Content-Length is sent then, and
    /// exactly so many bytes must be pushed. Asked once. Means nothing for an upgrade.
    fn length(&self) -> Option<u64>;

    /// Moves what can be moved now. Ready when all of the body was pushed, with its
    /// trailer section, if it has one (sent to HTTP/1.1 clients of a body without a
    /// known length, dropped for others). What is queued then is sent by the engine.
    ///
    /// What was pushed before this returns pending is sent, flushed by the relay or
    /// not; so is the head of the answer, which is queued before the first call
    /// and leaves with the first content if that is pushed by it.
    ///
    /// # Errors
    /// [`RelayError`]: the client's connection is cut.
    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>>;
}
