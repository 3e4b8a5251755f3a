//! A request without a body on a connection that is there: nearly every small one.
//!
//! What the other ways may have to wait for has no place here, so that a request takes
//! little memory, and few steps to be woken through.

use std::io;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use sluicegate::{Position, Registration, Segment, Socket, Timer};
use sluicegate_http::Interim;
use sluicegate_http::client::forward::request_head;

use super::arriving::Arriving;
use super::content::Content;
use super::exchange::{Begun, Request};
use super::held::Held;
use super::note::Tale;
use super::retry::Failed;
use super::scratch::{INPUT, Lent, Scratch};
use super::trouble::Trouble;
use super::upload::broken;
use super::{Asked, Proxy, Shared};
use crate::gateway::{Asker, Chosen, Connection, Tried};

/// What the longer way begins with.
pub(super) enum Start {
    /// Nothing.
    Anew,
    /// A server that no connection is there to.
    Chosen(Chosen),
    /// What has become of this one.
    Failed(Failed),
}

/// A request that is sent.
pub(super) struct Quick {
    held: Held,
    /// There while a part of a head is: else nobody has to keep room for an answer, and those
    /// that are under way share what is in the processor's caches.
    scratch: Option<Lent>,
    arriving: Arriving,
    before: Position,
    is_sent: bool,
    /// The answer is waited for.
    waits: bool,
    /// What sending it failed with, where there is an answer all the same.
    failure: Option<io::Error>,
}

/// Queues what the socket has not taken of a request.
#[cold]
fn queue(socket: &mut Socket<Registration>, rest: &[u8]) -> Result<(), Trouble> {
    let queued = socket.queue(Segment::given(Bytes::copy_from_slice(rest)));
    queued.map(drop).map_err(|full| Trouble::Ours(io::Error::other(full)))
}

/// Sends what was queued: whether all of it is sent, and what it failed with.
#[cold]
fn flush(cx: &mut Context<'_>, socket: &mut Socket<Registration>) -> (bool, Option<io::Error>) {
    match socket.poll_flush(cx) {
        Poll::Ready(Ok(())) => (true, None),
        Poll::Ready(Err(error)) => (false, Some(broken(error))),
        Poll::Pending => (false, None),
    }
}

impl Quick {
    /// Sends the request, if there is a connection for it.
    pub(super) fn begin(
        proxy: &Proxy,
        shared: &Shared,
        asked: &Asked<'_>,
        tale: &mut Tale<'_>,
        since: Instant,
    ) -> Result<Self, Start> {
        let content = Content::none(asked.head, asked.body).ok_or(Start::Anew)?;
        let asker = Asker { endpoints: asked.endpoints, path: asked.path.as_bytes() };
        let tried = Tried::default();
        let upstream = shared.upstreams.obtain_now(&proxy.pool, asker, &tried, false);
        let upstream = upstream.map_err(Start::Chosen)?;
        let before = upstream.socket.accepted_position();
        let mut held = Held::new(upstream, since);
        tale.handle_held(&mut held);
        let mut quick = Quick {
            held,
            scratch: None,
            arriving: Arriving::default(),
            before,
            is_sent: false,
            waits: false,
            failure: None,
        };
        match quick.send(proxy, shared, asked, &content) {
            Ok(()) => Ok(quick),
            Err(trouble) => Err(Start::Failed(quick.failed(trouble, tale))),
        }
    }

    fn send(
        &mut self,
        proxy: &Proxy,
        shared: &Shared,
        asked: &Asked<'_>,
        content: &Content,
    ) -> Result<(), Trouble> {
        let Some(upstream) = self.held.get() else { return Err(Trouble::Closed) };
        let (Connection { socket, timer, .. }, authority) = upstream.parts();
        let onward = asked.onward(authority, content.framing);
        self.is_sent = shared.scratches.with_out(|out| {
            request_head(out, asked.head, &proxy.rules, &onward).map_err(Trouble::Refused)?;
            let sent = socket.send_now(out);
            let sent = sent.map_err(|error| Trouble::Broken(broken(error)))?;
            match out.get(sent..) {
                Some(rest) if !rest.is_empty() => queue(socket, rest).map(|()| false),
                _ => Ok(true),
            }
        })?;
        let timer = timer.get_or_insert_with(|| socket.timer());
        timer.set(Some(socket.now() + proxy.rule.head_timeout));
        Ok(())
    }

    /// Ready when the head of the answer is there: how long it is.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        proxy: &Proxy,
        shared: &Shared,
        interim: &Interim,
    ) -> Poll<Result<usize, Trouble>> {
        let Some(upstream) = self.held.get() else {
            return Poll::Ready(Err(Trouble::Closed));
        };
        let Connection { socket, timer, .. } = &mut **upstream;
        let mut failure = None;
        if !self.is_sent {
            (self.is_sent, failure) = flush(cx, socket);
        }
        let mut came = Poll::Pending;
        // Who waits already was woken, nearly always since there is an answer.
        if std::mem::replace(&mut self.waits, true) || socket.poll_readable(cx).is_ready() {
            let mut lent = self.scratch.take().unwrap_or_else(|| shared.scratches.take());
            let Scratch { input, head, .. } = &mut *lent;
            if input.capacity() == 0 {
                input.reserve_exact(INPUT);
            }
            came = self.arriving.poll(cx, socket, input, head, &proxy.limits, interim);
            if came.is_ready() || !input.is_empty() {
                self.scratch = Some(lent);
            }
        }
        match (came, failure) {
            (Poll::Ready(Ok(length)), failure) => {
                self.failure = failure;
                timer.iter_mut().for_each(|timer| timer.set(None));
                Poll::Ready(Ok(length))
            }
            // Who takes no more of a request may have said why; if not, that is why it failed.
            (_, Some(error)) => Poll::Ready(Err(Trouble::Broken(error))),
            (Poll::Ready(Err(trouble)), None) => Poll::Ready(Err(trouble)),
            (Poll::Pending, None) => match timer {
                Some(timer) => timer.poll_expired(cx).map(|()| Err(Trouble::HeadTimeout)),
                None => Poll::Pending,
            },
        }
    }

    /// The head of the answer is there, and has `length` bytes.
    pub(super) fn begun(self, shared: &Shared, length: usize) -> Begun {
        let request = match self.failure {
            Some(error) => Request::failed(error),
            None if self.is_sent => Request::Sent,
            None => Request::Dropped,
        };
        let scratch = self.scratch.unwrap_or_else(|| shared.scratches.take());
        Begun { held: self.held, scratch, length, request }
    }

    #[cold]
    #[inline(never)]
    pub(super) fn failed(mut self, trouble: Trouble, tale: &mut Tale<'_>) -> Failed {
        tale.note_of(&mut self.held);
        let has_answered = self.scratch.is_some_and(|scratch| !scratch.input.is_empty())
            || self.arriving.interims > 0;
        Failed::of(trouble, &mut self.held, self.before, has_answered)
    }
}
