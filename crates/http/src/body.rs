//! The body of a request, as its handler reads it.
//!
//! The connection's task reads from the socket only while the handler waits
//! for bytes, so a handler that is slow slows its client down and nothing
//! piles up in between.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use sluicegate::{LentPipe, Room};
use thiserror::Error;

use crate::{Offence, RequestFraming};

/// Why a body cannot be read to its end. The connection ends with it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BodyError {
    /// The client broke a rule or a limit; the engine answers with the
    /// offence's status, whatever the handler returns.
    #[error("in the request body: {0}")]
    Offence(#[from] Offence),
    /// The client went away before the body was complete, or the body was kept
    /// for longer than its request: it can be read until `handle` returns, and on
    /// by a [`crate::Relay`] that it was moved into.
    #[error("the rest of the request body is gone")]
    Gone,
    /// [`RequestBody::collect`] was told to take less than the body has.
    #[error("the request body is longer than {limit} bytes")]
    TooLarge {
        /// Bytes that it was told to take at most.
        limit: usize,
    },
}

/// What [`RequestBody::poll_piece`] brought.
#[derive(Clone, Debug)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// So many bytes went into this pipe: the one that was offered, or one like it.
    Piped(Arc<LentPipe>, usize),
}

/// One field of a trailer section: name and value.
pub type Trailer = (String, Bytes);

/// The body of one request.
#[derive(Debug)]
pub struct RequestBody {
    framing: RequestFraming,
    mailbox: Option<Arc<Mailbox>>,
    trailers: Vec<Trailer>,
}

impl Default for RequestBody {
    /// No body.
    fn default() -> Self {
        RequestBody { framing: RequestFraming::None, mailbox: None, trailers: Vec::new() }
    }
}

impl RequestBody {
    pub(crate) fn new(framing: RequestFraming, mailbox: Arc<Mailbox>) -> Self {
        RequestBody { framing, mailbox: Some(mailbox), trailers: Vec::new() }
    }

    /// No body from now on.
    #[inline]
    pub(crate) fn clear(&mut self) {
        if self.mailbox.is_some() || !self.trailers.is_empty() || self.framing.has_body() {
            *self = RequestBody::default();
        }
    }

    /// How the body is delimited; tells its length in bytes where the client did.
    #[must_use]
    pub fn framing(&self) -> RequestFraming {
        self.framing
    }

    /// The next bytes of the body, never empty; `None` once it is complete.
    ///
    /// # Errors
    /// [`BodyError`]; every later call returns `None`.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, BodyError> {
        // Of memory alone: nothing goes into a pipe, and no bound is near.
        while let Some(piece) = poll_fn(|cx| self.poll_part(cx, Some(&Want::ANY))).await? {
            if let Piece::Data(bytes) = piece {
                return Ok(Some(bytes));
            }
        }
        Ok(None)
    }

    /// The next bytes of the body: into the pipe of `room`, where there is one and
    /// the client's bytes have not been received yet, else as memory, and then
    /// perhaps more than the pipe had room for; never none. `None` once it is
    /// complete. Pending while `room` is full, too: whoever makes room polls again.
    ///
    /// A call that is pending leaves its `room` as an offer, until the next call. What
    /// was put into an offered pipe meanwhile is told by that next call, whatever
    /// room it names: so whoever moves a pipe's bytes asks with [`Room::Full`] first,
    /// which takes the offer back. [`RequestBody::chunk`] must not come in between.
    ///
    /// An offered pipe with nothing in it is not held while the client says nothing:
    /// what comes then goes into another one.
    ///
    /// # Errors
    /// As [`RequestBody::chunk`].
    pub fn poll_piece(
        &mut self,
        cx: &mut Context<'_>,
        room: &Room,
    ) -> Poll<Result<Option<Piece>, BodyError>> {
        let want = match room {
            Room::Pipe(pipe, bytes) if *bytes > 0 => {
                Some(Want { pipe: Some(Arc::clone(pipe)), splices: true, bytes: *bytes })
            }
            Room::Memory(bytes) if *bytes > 0 => {
                Some(Want { pipe: None, splices: false, bytes: *bytes })
            }
            _ => None,
        };
        self.poll_part(cx, want.as_ref())
    }

    fn poll_part(
        &mut self,
        cx: &mut Context<'_>,
        want: Option<&Want>,
    ) -> Poll<Result<Option<Piece>, BodyError>> {
        let Some(mailbox) = &self.mailbox else {
            return Poll::Ready(Ok(None));
        };
        let part = ready!(mailbox.poll_take(cx, want));
        if !matches!(part, Part::Data(_) | Part::Piped(..)) {
            self.mailbox = None;
        }
        Poll::Ready(match part {
            Part::Data(bytes) => Ok(Some(Piece::Data(bytes))),
            Part::Piped(pipe, count) => Ok(Some(Piece::Piped(pipe, count))),
            Part::End(trailers) => {
                self.trailers = trailers;
                Ok(None)
            }
            Part::Failed(error) => Err(error),
        })
    }

    /// Whether there is none, or it was read to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.mailbox.is_none()
    }

    /// All of the body, if it has at most `limit` bytes.
    ///
    /// # Errors
    /// As [`RequestBody::chunk`], and [`BodyError::TooLarge`].
    pub async fn collect(&mut self, limit: usize) -> Result<Bytes, BodyError> {
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if chunk.len() > limit - all.len() {
                return Err(BodyError::TooLarge { limit });
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// The trailer fields, once the body is complete. RFC 9112 section 7.1.2.
    #[must_use]
    pub fn trailers(&self) -> &[Trailer] {
        &self.trailers
    }
}

/// What the connection hands to the handler.
#[derive(Debug)]
pub(crate) enum Part {
    Data(Bytes),
    /// So many bytes went into the pipe.
    Piped(Arc<LentPipe>, usize),
    End(Vec<Trailer>),
    Failed(BodyError),
}

/// What the handler has room for.
#[derive(Clone, Debug)]
pub(crate) struct Want {
    /// Where bytes go that were not received yet.
    pub(crate) pipe: Option<Arc<LentPipe>>,
    /// They go into a pipe, also where none is held for them.
    pub(crate) splices: bool,
    /// So many at most.
    pub(crate) bytes: usize,
}

impl Want {
    const ANY: Want = Want { pipe: None, splices: false, bytes: usize::MAX };
}

/// Where the connection's task leaves one part at a time for the handler,
/// which may live in the same task or in another.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    part: Option<Part>,
    /// Nobody will put another part: the request is answered, or its
    /// connection is gone.
    closed: bool,
    /// The handler waits; where to find it.
    reader: Option<Waker>,
    /// And what for.
    want: Option<Want>,
    /// Where to find the connection's task.
    connection: Option<Waker>,
}

impl Mailbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Without a `want` it only takes what is there.
    fn poll_take(&self, cx: &mut Context<'_>, want: Option<&Want>) -> Poll<Part> {
        let mut state = self.state();
        if let Some(part) = state.part.take() {
            return Poll::Ready(part);
        }
        if state.closed {
            return Poll::Ready(Part::Failed(BodyError::Gone));
        }
        if !state.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            state.reader = Some(cx.waker().clone());
        }
        state.want = want.cloned();
        let connection = if want.is_some() { state.connection.take() } else { None };
        drop(state);
        // A handler in the connection's own task needs no wake: that task
        // looks at the mailbox before it sleeps.
        if let Some(connection) = connection
            && !connection.will_wake(cx.waker())
        {
            connection.wake();
        }
        Poll::Pending
    }

    /// What the handler waits for, if it waits for a part. If not, the
    /// connection's task is woken when it does.
    pub(crate) fn wanted(&self, cx: &mut Context<'_>) -> Option<Want> {
        let mut state = self.state();
        if state.reader.is_some() && state.part.is_none() && state.want.is_some() {
            return state.want.clone();
        }
        state.connection = Some(cx.waker().clone());
        None
    }

    /// Nothing has come: an offered pipe with nothing in it goes back to those who need it.
    pub(crate) fn let_go_of_pipe(&self) {
        let mut state = self.state();
        let Some(want) = &mut state.want else { return };
        let pipe = want.pipe.take_if(|pipe| pipe.contained() == 0);
        drop(state);
        drop(pipe);
    }

    /// Nobody will put another part.
    pub(crate) fn close(&self) {
        let mut state = self.state();
        state.closed = true;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Leaves a part for the handler and wakes it.
    pub(crate) fn put(&self, part: Part) {
        let mut state = self.state();
        state.part = Some(part);
        state.want = None;
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
