//! Request after request, as long as the client has sent any.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sluicegate::{AckWait, Readiness, Socket, Timer};

use super::account::Account;
use super::apart::Apart;
use super::inbound::Inbound;
use super::outbound::{Asked, Outbound};
use super::upload::Upload;
use super::{Ending, Service, give_back, take_scratch};
use crate::body::{BodyError, Mailbox, RequestBody};
use crate::handler::{Failure, Handler, Observe};
use crate::interim::Interim;
use crate::{
    Endpoints, Method, Offence, Request, RequestFraming, Version, expects_continue, keep_alive,
};

/// Bytes of an unread body that are thrown away to keep the connection. A
/// larger rest costs more than a new connection does.
const DISCARD: u64 = 64 * 1024;

/// Queued bytes beyond which an answer is sent before the next pipelined
/// request is looked at.
const PIPELINED: u64 = 64 * 1024;

/// Whether so much is left of a body that nobody reads that the connection is better
/// closed. A client that still waits for its interim answer (`waits`) may or may not
/// send the body: nobody can say where its next request begins.
pub(super) fn is_unread(inbound: &Inbound, waits: bool) -> bool {
    !inbound.body_is_done() && (waits || inbound.body_left().is_none_or(|left| left > DISCARD))
}

/// Requests answered in a row before the other tasks of the thread have their turn.
const TURN: u32 = 64;

/// Memory of an active connection, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    inbound: Inbound,
    request: Request,
    account: Account,
    interim: Interim,
}

impl Scratch {
    /// Forgets the connection; false where it is not worth keeping.
    pub(super) fn reset(&mut self) -> bool {
        self.request.body.clear();
        self.request.note = None;
        self.account.reset();
        self.inbound.reset()
    }
}

/// How long a connection stays active when all is answered. The next request of a busy one
/// comes before that, and finds the memory of the active part in place: to free and allocate
/// it for each takes an allocator's long way where many are active at a time.
const STAY: Duration = Duration::from_millis(100);

/// At most so long nobody looks whether a ring of an idle connection may go.
const LOOK: Duration = Duration::from_secs(1);

/// Answers what the client has sent, and returns when it has sent no more for a moment.
pub(super) async fn run<R: Readiness, H: Handler>(
    socket: &mut Socket<R>,
    endpoints: Endpoints,
    service: &Service<H>,
    timer: &mut R::Timer,
    served: &mut u32,
) -> Result<Ending, Failure> {
    // A part of the time to be idle that nobody notices.
    let stays = service.limits.timeouts.idle >= 20 * STAY;
    loop {
        let result = run_once(socket, endpoints, service, timer, served).await;
        if !stays || !matches!(result, Ok(Ending::Idle)) || service.is_draining() {
            return result;
        }
        // Most connections that have asked once ask no more for a while; but rings are looked at.
        if *served < 2 && socket.try_settle().unwrap_or(true) {
            return result;
        }
        if !has_more(socket, service, timer).await {
            return result;
        }
    }
}

/// Waits for a moment, or until what an answer has left of rings may go: they are large, and
/// only who asks the kernel learns that the client has what was in them.
async fn has_more<R: Readiness, H: Handler>(
    socket: &mut Socket<R>,
    service: &Service<H>,
    timer: &mut R::Timer,
) -> bool {
    let mut pause = STAY;
    let begin = socket.now();
    loop {
        timer.set(Some(socket.now() + pause));
        let has_more = poll_fn(|cx| {
            if socket.poll_readable(cx).is_ready() {
                return Poll::Ready(true);
            }
            if service.is_draining() {
                return Poll::Ready(false);
            }
            timer.poll_expired(cx).map(|()| false)
        })
        .await;
        let waited = || socket.now().saturating_duration_since(begin);
        if has_more || service.is_draining() || waited() >= service.limits.timeouts.send {
            return has_more;
        }
        if socket.try_settle().unwrap_or(true) {
            return false;
        }
        pause = (2 * pause).min(LOOK);
    }
}

/// Answers what the client has sent, with scratch memory for so long.
async fn run_once<R: Readiness, H: Handler>(
    socket: &mut Socket<R>,
    endpoints: Endpoints,
    service: &Service<H>,
    timer: &mut R::Timer,
    served: &mut u32,
) -> Result<Ending, Failure> {
    let mut scratch = take_scratch();
    scratch.request.endpoints = endpoints;
    let mut active = Active { socket, service, scratch: &mut scratch };
    let Scratch { inbound, request, account, interim } = &mut *active.scratch;
    let socket = &mut *active.socket;
    let exchange = Exchange { socket, service, timer, served, account, interim };
    let result = exchange.run(inbound, request).await;
    if let Err(failure) = &result {
        active.conclude(failure);
        service.handler.failed(failure);
    }
    drop(active);
    give_back(scratch);
    result
}

/// Sees to it that an observer is told of a request whatever ends it.
struct Active<'a, R: Readiness, H: Handler> {
    socket: &'a mut Socket<R>,
    service: &'a Service<H>,
    scratch: &'a mut Scratch,
}

impl<R: Readiness, H: Handler> Active<'_, R, H> {
    fn conclude(&mut self, failure: &Failure) {
        let Scratch { request, account, .. } = &mut *self.scratch;
        account.conclude(&self.service.handler, self.socket, request, Some(failure));
    }
}

impl<R: Readiness, H: Handler> Drop for Active<'_, R, H> {
    fn drop(&mut self) {
        let Scratch { request, account, .. } = &mut *self.scratch;
        account.conclude_cut(&self.service.handler, self.socket, request);
    }
}

pub(super) struct Exchange<'a, R: Readiness, H> {
    pub(super) socket: &'a mut Socket<R>,
    pub(super) service: &'a Service<H>,
    pub(super) timer: &'a mut R::Timer,
    pub(super) served: &'a mut u32,
    pub(super) account: &'a mut Account,
    pub(super) interim: &'a mut Interim,
}

/// What a wait for a head brought.
enum Head {
    Complete,
    /// Nothing was sent after all.
    Nothing,
    /// The client sends no more.
    End,
}

impl<R: Readiness, H: Handler> Exchange<'_, R, H> {
    async fn run(
        mut self,
        inbound: &mut Inbound,
        request: &mut Request,
    ) -> Result<Ending, Failure> {
        for turn in 1_u32.. {
            if turn % TURN == 0 {
                self.outbound().flush().await?;
                sluicegate::yield_now().await;
            }
            request.note = None;
            let more = !inbound.is_empty()
                && match inbound.next_head(&mut request.head, &self.service.limits) {
                    Ok(more) => more,
                    Err(offence) => return Apart::new(self.refuse_head(inbound, offence)).await,
                };
            if !more {
                self.flush_queued().await?;
                match self.receive_head(inbound, request).await {
                    Ok(Head::Complete) => {}
                    Ok(Head::Nothing) => return Ok(Ending::Idle),
                    Ok(Head::End) => return Ok(Ending::Close),
                    Err(Failure::Offence(offence)) => {
                        return Apart::new(self.refuse_head(inbound, offence)).await;
                    }
                    Err(failure) => return Err(failure),
                }
            }
            if let Some(ending) = self.answer(inbound, request).await? {
                return Ok(ending);
            }
            if self.socket.queued().since(self.socket.accepted_position()) > PIPELINED {
                self.outbound().flush().await?;
            }
            if inbound.is_empty() {
                self.flush_queued().await?;
                return Ok(Ending::Idle);
            }
        }
        // The range above has no end that a connection reaches.
        Ok(Ending::Close)
    }

    /// Sends what is queued, if anything is: of most answers nothing.
    #[inline]
    async fn flush_queued(&mut self) -> Result<(), Failure> {
        if self.socket.is_clear() { Ok(()) } else { self.outbound().flush().await }
    }

    pub(super) fn outbound(&mut self) -> Outbound<'_, R> {
        Outbound {
            socket: self.socket,
            timer: self.timer,
            limits: &self.service.limits,
            account: self.account,
        }
    }

    /// Receives until a head is complete.
    async fn receive_head(
        &mut self,
        inbound: &mut Inbound,
        request: &mut Request,
    ) -> Result<Head, Failure> {
        let limits = &self.service.limits;
        let mut timed = false;
        loop {
            let received = poll_fn(|cx| {
                if let Poll::Ready(result) = self.socket.poll_receive(cx, inbound.room()) {
                    return Poll::Ready(result.map(Some).map_err(Failure::Receive));
                }
                if inbound.is_empty() {
                    return Poll::Ready(Ok(None));
                }
                if !std::mem::replace(&mut timed, true) {
                    self.timer.set(Some(self.socket.now() + limits.timeouts.head));
                }
                self.timer.poll_expired(cx).map(|()| Err(Offence::HeadTimeout.into()))
            })
            .await?;
            match received {
                None => return Ok(Head::Nothing),
                // Between two requests, or within a head that nobody can
                // answer any more: either way there is nothing to say.
                Some(0) => return Ok(Head::End),
                Some(_) => {
                    if inbound.next_head(&mut request.head, limits)? {
                        return Ok(Head::Complete);
                    }
                }
            }
        }
    }

    /// Answers one request. `Some` when it was the connection's last.
    async fn answer(
        &mut self,
        inbound: &mut Inbound,
        request: &mut Request,
    ) -> Result<Option<Ending>, Failure> {
        let limits = &self.service.limits;
        *self.served = self.served.saturating_add(1);
        let head_only = request.head.method() == Method::Head;
        let observe = self.service.handler.observes();
        request.is_observed = observe != Observe::Nothing;
        self.account.begin(observe, true, head_only, self.socket.now(), *self.served);
        let checked = RequestFraming::of(&request.head).and_then(|framing| {
            framing.check(limits.body)?;
            Ok((framing, expects_continue(&request.head)? && framing.has_body()))
        });
        let (framing, expects) = match checked {
            Ok(checked) => checked,
            Err(offence) => {
                return Apart::new(self.refuse(inbound, offence, head_only)).await.map(Some);
            }
        };
        inbound.begin_body(framing);
        // RFC 9110 section 10.1.1: no interim answer once part of the body is here.
        let waits = expects && inbound.is_empty();
        let is_http11 = request.head.version() == Version::Http11;
        // What is sent by it from here on until the handler has answered is taken.
        self.interim.begin(&mut request.interim, is_http11, waits);
        let mut upload = None;
        let response = if request.head.method() == Method::Connect {
            // RFC 9110 section 9.3.6: a tunnel. This engine has none, and a
            // handler's 2xx would be taken for one.
            self.service.handler.refuse(501)
        } else if framing.has_body() {
            let mailbox = Arc::new(Mailbox::default());
            request.body = RequestBody::new(framing, Arc::clone(&mailbox));
            upload = Some(Upload::new(mailbox));
            self.handle(inbound, request, upload.as_mut()).await?
        } else {
            request.body.clear();
            self.handle(inbound, request, None).await?
        };
        self.account.handle_handled(response.is_relayed());
        let waits = upload.is_some() && self.interim.waits();
        match upload.as_ref().and_then(|upload| upload.failed) {
            Some(BodyError::Offence(offence)) => {
                return Apart::new(self.refuse(inbound, offence, head_only)).await.map(Some);
            }
            Some(_) => {
                self.conclude(request, Some(&Failure::Gone));
                return Ok(Some(Ending::Close));
            }
            None => {}
        }
        if response.is_relayed() {
            return Apart::new(self.relayed(inbound, request, upload, waits, response)).await;
        }
        if let Err(offence) = inbound.discard_body(limits) {
            return Apart::new(self.refuse(inbound, offence, head_only)).await.map(Some);
        }
        drop(upload);
        let last = is_unread(inbound, waits) || self.is_last(request);
        let asked = Asked::by(&request.head, last);
        self.service.handler.answering(response.status());
        // A pipelined request behind this one: their answers leave together.
        let follows = !inbound.is_empty();
        let closes = match self.outbound().respond_now(asked, response, follows)? {
            Ok(closes) => closes,
            Err(response) => Apart::new(self.outbound().respond(asked, response)).await?,
        };
        let last = closes || last;
        let is_whole = inbound.body_is_done();
        if !last && !self.account.is_open() {
            return match is_whole {
                true => Ok(None),
                false => Apart::new(self.discard_rest(inbound)).await,
            };
        }
        self.settle(inbound, request, last).await
    }

    /// Whether the answer to `request` is the connection's last, whatever becomes of
    /// the request's body.
    pub(super) fn is_last(&self, request: &Request) -> bool {
        !keep_alive(&request.head)
            || *self.served >= self.service.limits.requests_per_connection
            || self.service.is_draining()
    }

    /// Sends what is queued of the answer, and tells the observer of it. `Some` when it
    /// was the connection's `last`.
    pub(super) async fn settle(
        &mut self,
        inbound: &mut Inbound,
        request: &Request,
        last: bool,
    ) -> Result<Option<Ending>, Failure> {
        let is_whole = inbound.body_is_done();
        let acks = self.flush().await?;
        let ending = match (last, is_whole) {
            (true, _) => Some(Ending::Linger),
            (false, true) => None,
            (false, false) => Apart::new(self.discard_rest(inbound)).await?,
        };
        if let Some(acks) = acks {
            Apart::new(self.await_acks(inbound, acks, last)).await?;
        }
        self.conclude(request, None);
        Ok(ending)
    }

    /// Sends the answer. Returns the wait for its acknowledgement, if somebody
    /// wants to be told of it.
    pub(super) async fn flush(&mut self) -> Result<Option<AckWait<R>>, Failure> {
        let end = self.socket.queued();
        let acks = self.account.wants_acks().then(|| self.socket.ack_wait(end));
        self.outbound().flush().await?;
        self.account.handle_accepted();
        Ok(acks)
    }

    /// Tells the observer of the request.
    pub(super) fn conclude(&mut self, request: &Request, failure: Option<&Failure>) {
        self.account.conclude(&self.service.handler, self.socket, request, failure);
    }

    /// Throws away the short rest of a body that the handler did not read.
    async fn discard_rest(&mut self, inbound: &mut Inbound) -> Result<Option<Ending>, Failure> {
        if inbound.body_is_done() {
            return Ok(None);
        }
        // The client may wait for the answer before it sends the rest.
        self.outbound().flush().await?;
        let limits = &self.service.limits;
        while !inbound.body_is_done() {
            self.timer.set(Some(self.socket.now() + limits.timeouts.body));
            let received = poll_fn(|cx| {
                if let Poll::Ready(result) = self.socket.poll_receive(cx, inbound.room()) {
                    return Poll::Ready(result.map_err(Failure::Receive));
                }
                self.timer.poll_expired(cx).map(|()| Ok(0))
            })
            .await?;
            if received == 0 {
                return Ok(Some(Ending::Close));
            }
            // The answer is out: an offence in the rest can only close.
            if let Err(offence) = inbound.discard_body(limits) {
                return Err(offence.into());
            }
        }
        Ok(None)
    }
}
