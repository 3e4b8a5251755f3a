//! The body of a request, as its handler reads it.
//!
//! The connection's task reads from the socket only while the handler waits
//! for bytes, so a handler that is slow slows its client down and nothing
//! piles up in between.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
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
    /// for longer than its request: it can be read until `handle` returns.
    #[error("the rest of the request body is gone")]
    Gone,
    /// [`RequestBody::collect`] was told to take less than the body has.
    #[error("the request body is longer than {limit} bytes")]
    TooLarge {
        /// Bytes that it was told to take at most.
        limit: usize,
    },
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
        let Some(mailbox) = &self.mailbox else {
            return Ok(None);
        };
        let part = poll_fn(|cx| mailbox.poll_take(cx)).await;
        match part {
            Part::Data(bytes) => Ok(Some(bytes)),
            Part::End(trailers) => {
                self.mailbox = None;
                self.trailers = trailers;
                Ok(None)
            }
            Part::Failed(error) => {
                self.mailbox = None;
                Err(error)
            }
        }
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
    End(Vec<Trailer>),
    Failed(BodyError),
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
    /// Where to find the connection's task.
    connection: Option<Waker>,
}

impl Mailbox {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll_take(&self, cx: &mut Context<'_>) -> Poll<Part> {
        let mut state = self.state();
        if let Some(part) = state.part.take() {
            return Poll::Ready(part);
        }
        if state.closed {
            return Poll::Ready(Part::Failed(BodyError::Gone));
        }
        state.reader = Some(cx.waker().clone());
        let connection = state.connection.take();
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

    /// Whether the handler waits for a part. If not, the connection's task is
    /// woken when it does.
    pub(crate) fn is_wanted(&self, cx: &mut Context<'_>) -> bool {
        let mut state = self.state();
        if state.reader.is_some() && state.part.is_none() {
            return true;
        }
        state.connection = Some(cx.waker().clone());
        false
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
        let reader = state.reader.take();
        drop(state);
        if let Some(reader) = reader {
            reader.wake();
        }
    }
}
