//! An answer's body on its way from the upstream to the client.

use std::io;
use std::mem;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use sluicegate::{Readiness, Registration, RingCounters, SendError, Spool, Timer};
use sluicegate_http::relay::{Downstream, Relay, RelayError};
use sluicegate_http::{Fields, Limits};

use super::disk::tell_of_disk;
use super::exchange::Request;
use super::held::Held;
use super::incoming::{Incoming, Next, failure};
use super::local::{Drive, Local, push_to};
use super::note::Note;
use super::relay::Whose;
use super::relay::body::{Body, Content, Cut, Deadline, Do, Rest};
use super::scratch::{INPUT, Lent};
use super::trouble::Trouble;
use super::upload::Upload;
use crate::config;

/// Content up to so much is copied out of the memory that it was received into.
const COPIED: usize = 4 * 1024;

/// Of an answer to HEAD there is no body; this is how long it would be.
#[derive(Debug)]
pub(super) struct Announced(pub(super) Option<u64>);

impl Relay for Announced {
    fn length(&self) -> Option<u64> {
        self.0
    }

    fn poll_relay(
        &mut self,
        _: &mut Context<'_>,
        _: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        Poll::Ready(Ok(None))
    }
}

/// A body that is relayed.
pub(super) type Fetch = Local<Moving>;

/// A body between two sockets.
#[derive(Debug)]
pub(super) struct Moving {
    pub(super) held: Held,
    pub(super) incoming: Incoming,
    pub(super) spool: Spool,
    pub(super) scratch: Lent,
    /// What is done next.
    pub(super) relay: Body<io::Error>,
    /// What still goes of the request.
    pub(super) upload: Option<Going>,
    pub(super) rule: Arc<config::Proxy>,
    pub(super) limits: Limits,
    pub(super) note: Arc<Note>,
}

/// A request that goes on while its answer comes.
pub(super) type Going = (Box<Upload>, <Registration as Readiness>::Timer);

impl Request {
    /// How far it has gone, and what still goes of it.
    pub(super) fn into_rest(self) -> (Rest<io::Error>, Option<Going>) {
        match self {
            Request::Sent => (Rest::Sent, None),
            Request::Going(upload, timer) => (Rest::Going, Some((upload, timer))),
            Request::Dropped => (Rest::Dropped, None),
            Request::Broken(error) => (Rest::Broken(error), None),
        }
    }
}

impl Incoming {
    /// What is known of its end.
    pub(super) fn content(&self) -> Content {
        match self.is_done() {
            true => Content::Whole { is_clean: self.is_clean() },
            false => Content::Coming,
        }
    }
}

impl Drive for Moving {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        loop {
            match self.relay.next() {
                Do::Send => self.poll_request(cx),
                Do::Take => {
                    if let Poll::Ready(Err(trouble)) = self.poll_take(cx, client) {
                        return Poll::Ready(Err(self.fail(trouble)));
                    }
                }
                Do::LetGo { keep } => {
                    self.spool.expect(Some(0));
                    self.held.let_go(keep);
                }
                Do::Pass => self.pass(cx, client)?,
                Do::Wait { upstream } => {
                    return self.wait(cx, upstream).map(|trouble| Err(self.fail(trouble)));
                }
                Do::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Do::Finish => return Poll::Ready(Ok(self.incoming.trailers())),
            }
        }
    }
}

impl Moving {
    /// Receives what has come.
    fn poll_take(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<(), Trouble>> {
        let next = self.incoming.next();
        let Some(upstream) = self.held.get() else { return Poll::Pending };
        let received = match next {
            Next::Nothing => return Poll::Pending,
            Next::Content(limit) => {
                let filled = self.spool.poll_fill(cx, &mut upstream.socket, client, limit);
                filled.map_ok(|count| {
                    self.incoming.skip(count as u64);
                    count
                })
            }
            Next::Mixed => {
                let room = match usize::try_from(self.spool.poll_wanted(cx, client)) {
                    Ok(0) => return Poll::Pending,
                    wanted => wanted.map_or(INPUT, |wanted| wanted.min(INPUT)),
                };
                let input = &mut self.scratch.input;
                input.clear();
                // Not as little as there is room for: it serves for what comes later, too.
                if input.capacity() < INPUT {
                    *input = Vec::with_capacity(INPUT);
                }
                upstream.socket.poll_receive_some(cx, input, room)
            }
        };
        let count = match received {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(received) => received.map_err(failure)?,
        };
        if count == 0 {
            self.upload = None;
            let ended = self.relay.handle_end(self.incoming.end().is_ok());
            return Poll::Ready(ended.map_err(|cut| match cut {
                Cut::Truncated => Trouble::Truncated,
                Cut::Broken(error) => Trouble::BodyBroken(error),
            }));
        }
        if next == Next::Mixed {
            self.push(0)?;
        }
        self.relay.handle_taken(self.incoming.content());
        Poll::Ready(Ok(()))
    }

    /// Puts what was received into the spool, from `start` on.
    pub(super) fn push(&mut self, start: usize) -> Result<(), Trouble> {
        let content = self.incoming.take(&mut self.scratch.input, start, &self.limits)?;
        self.put(content);
        Ok(())
    }

    /// Puts content into the spool.
    pub(super) fn put(&mut self, content: Range<usize>) {
        let input = &mut self.scratch.input;
        match content.len() {
            0 => {}
            1..=COPIED => {
                let bytes = input.get(content).unwrap_or_default();
                self.spool.push(Bytes::copy_from_slice(bytes));
            }
            _ => self.spool.push(Bytes::from(mem::take(input)).slice(content)),
        }
    }

    /// Queues for the client what is here, and flushes.
    fn pass(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Result<(), RelayError> {
        if let Some(error) = self.spool.take_trouble() {
            tell_of_disk(&self.rule.spool.directory, &error);
            self.note.change(|told| told.lost_disk = true);
        }
        let queued = push_to(client, &mut self.spool);
        let has_queued = queued.inspect_err(|_| {
            self.relay.cut(Whose::Ours);
        })?;
        let flushed = client.poll_flush(cx).map_err(|error| self.lose(error))?;
        self.spool.handle_accepted(self.relay.handle_accepted(client.accepted()));
        self.relay.handle_passed(has_queued, flushed.is_ready() && self.spool.held() == 0);
        Ok(())
    }

    /// What is left of the request goes while the answer comes.
    fn poll_request(&mut self, cx: &mut Context<'_>) {
        let Some((upload, timer)) = &mut self.upload else { return };
        let Some(upstream) = self.held.get() else { return };
        let before = upload.sent;
        let polled = upload.poll(cx, &mut upstream.socket, timer, self.rule.read_timeout);
        let sent = upload.sent - before;
        if sent > 0 {
            self.note.change(|told| told.request_bytes += sent);
        }
        if let Poll::Ready(result) = polled {
            self.upload = None;
            self.relay.handle_request(match result {
                Err(Trouble::Broken(error)) => Request::failed(error).into_rest().0.broke(),
                _ => None,
            });
        }
    }

    /// Nothing moves. Ready when it was the upstream that was waited for, for too long;
    /// how long a client may take is the engine's affair.
    fn wait(&mut self, cx: &mut Context<'_>, is_for_upstream: bool) -> Poll<Trouble> {
        let Some(upstream) = self.held.get().filter(|_| is_for_upstream) else {
            return Poll::Pending;
        };
        let socket = &mut upstream.socket;
        // Not every way here has needed one before.
        let timer = self.scratch.timer.get_or_insert_with(|| socket.timer());
        let has_room = self.spool.wanted() > 0;
        // Who answers a request as it comes may wait for more of it.
        let owes_request =
            self.upload.as_ref().is_some_and(|(upload, _)| upload.waits_for_client(socket));
        match self.relay.poll_deadline(has_room, owes_request) {
            Deadline::Off => {
                timer.set(None);
                return Poll::Pending;
            }
            Deadline::Starts => timer.set(Some(socket.now() + self.rule.read_timeout)),
            Deadline::Runs => {}
        }
        loop {
            ready!(timer.poll_expired(cx));
            if self.relay.handle_expired(socket.stop_gathering()) {
                return Poll::Ready(Trouble::ReadTimeout);
            }
            timer.set(Some(socket.now() + self.rule.read_timeout));
        }
    }

    fn fail(&mut self, trouble: Trouble) -> RelayError {
        self.note.fail(&trouble);
        let whose = if trouble.is_upstreams() { Whose::Upstream } else { Whose::Ours };
        if self.relay.cut(whose)
            && let Some(upstream) = self.held.get()
        {
            upstream.failed();
        }
        trouble.into()
    }

    fn lose(&mut self, error: SendError) -> RelayError {
        self.relay.cut(Whose::Client);
        self.note.fail(&Trouble::of_sending(&error));
        RelayError::Client(error)
    }
}

impl Drop for Moving {
    fn drop(&mut self) {
        let bytes = self.spool.bytes();
        let RingCounters { copied, released, acked, replaced, .. } = self.spool.counters();
        self.note.change(|told| {
            told.spool = bytes;
            told.proofs = [copied, released, acked, replaced];
        });
        if !self.relay.is_over() {
            self.note.fail(&Trouble::ClientGone);
        }
    }
}
