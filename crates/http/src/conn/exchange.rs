//! Request after request, as long as the client has sent any.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use sluicegate::{AckWait, Readiness, Socket, Timer};

use super::account::Account;
use super::inbound::Inbound;
use super::outbound::{Asked, Outbound};
use super::upload::Upload;
use super::{Ending, Service, give_back, take_scratch};
use crate::body::{BodyError, Mailbox, Part, RequestBody};
use crate::handler::{Failure, Handler};
use crate::{
    Endpoints, Method, Offence, Request, RequestFraming, Response, expects_continue, keep_alive,
};

/// Bytes of an unread body that are thrown away to keep the connection. A
/// larger rest costs more than a new connection does.
const DISCARD: u64 = 64 * 1024;

/// Queued bytes beyond which an answer is sent before the next pipelined
/// request is looked at.
const PIPELINED: u64 = 64 * 1024;

/// Requests answered in a row before the other tasks of the thread have their turn.
const TURN: u32 = 64;

/// Memory of an active connection, kept from one to the next.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    inbound: Inbound,
    request: Request,
    account: Account,
}

impl Scratch {
    /// Forgets the connection; false where it is not worth keeping.
    pub(super) fn reset(&mut self) -> bool {
        self.request.body = RequestBody::default();
        self.account.reset();
        self.inbound.reset()
    }
}

/// Answers what the client has sent, and returns when it has sent no more.
pub(super) async fn run<R: Readiness, H: Handler>(
    socket: &mut Socket<R>,
    endpoints: Endpoints,
    service: &Service<H>,
    timer: &mut R::Timer,
    served: &mut u32,
) -> Result<Ending, Failure> {
    let mut scratch = take_scratch();
    scratch.request.endpoints = endpoints;
    let mut active = Active { socket, service, scratch: &mut scratch };
    let Scratch { inbound, request, account } = &mut *active.scratch;
    let exchange = Exchange { socket: &mut *active.socket, service, timer, served, account };
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
    served: &'a mut u32,
    pub(super) account: &'a mut Account,
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
            let more = match inbound.next_head(&mut request.head, &self.service.limits) {
                Ok(more) => more,
                Err(offence) => return Box::pin(self.refuse_head(inbound, offence)).await,
            };
            if !more {
                self.outbound().flush().await?;
                match self.receive_head(inbound, request).await {
                    Ok(Head::Complete) => {}
                    Ok(Head::Nothing) => return Ok(Ending::Idle),
                    Ok(Head::End) => return Ok(Ending::Close),
                    Err(Failure::Offence(offence)) => {
                        return Box::pin(self.refuse_head(inbound, offence)).await;
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
                self.outbound().flush().await?;
                return Ok(Ending::Idle);
            }
        }
        // The range above has no end that a connection reaches.
        Ok(Ending::Close)
    }

    fn outbound(&mut self) -> Outbound<'_, R> {
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
        self.account.begin(observe, true, head_only, self.socket.now(), *self.served);
        let checked = RequestFraming::of(&request.head).and_then(|framing| {
            framing.check(limits.body)?;
            Ok((framing, expects_continue(&request.head)? && framing.has_body()))
        });
        let (framing, expects) = match checked {
            Ok(checked) => checked,
            Err(offence) => {
                return Box::pin(self.refuse(inbound, offence, head_only)).await.map(Some);
            }
        };
        inbound.begin_body(framing);
        let mut upload = None;
        let response = if request.head.method() == Method::Connect {
            // RFC 9110 section 9.3.6: a tunnel. This engine has none, and a
            // handler's 2xx would be taken for one.
            self.service.handler.refuse(501)
        } else if framing.has_body() {
            let mailbox = Arc::new(Mailbox::default());
            request.body = RequestBody::new(framing, Arc::clone(&mailbox));
            // RFC 9110 section 10.1.1: no interim answer once part of the body is here.
            let waits = expects && inbound.is_empty();
            upload = Some(Upload::new(mailbox, waits));
            self.handle(inbound, request, upload.as_mut()).await?
        } else {
            request.body = RequestBody::default();
            self.handle(inbound, request, None).await?
        };
        self.account.handle_handled();
        let waits = upload.as_ref().is_some_and(|upload| upload.waits);
        match upload.as_ref().and_then(|upload| upload.failed) {
            Some(BodyError::Offence(offence)) => {
                return Box::pin(self.refuse(inbound, offence, head_only)).await.map(Some);
            }
            Some(_) => {
                self.conclude(request, Some(&Failure::Gone));
                return Ok(Some(Ending::Close));
            }
            None => {}
        }
        if let Err(offence) = inbound.discard_body(limits) {
            return Box::pin(self.refuse(inbound, offence, head_only)).await.map(Some);
        }
        drop(upload);
        // A client that still waits for its interim answer may or may not send
        // the body: nobody can say where its next request begins.
        let unread = !inbound.body_is_done()
            && (waits || inbound.body_left().is_none_or(|left| left > DISCARD));
        let last = unread
            || !keep_alive(&request.head)
            || *self.served >= limits.requests_per_connection
            || self.service.is_draining();
        let asked = Asked::by(&request.head, last);
        self.service.handler.answering(response.status());
        // A pipelined request behind this one: their answers leave together.
        let follows = !inbound.is_empty();
        let closes = match self.outbound().respond_now(asked, response, follows)? {
            Ok(closes) => closes,
            Err(response) => Box::pin(self.outbound().respond(asked, response)).await?,
        };
        let last = closes || last;
        let is_whole = inbound.body_is_done();
        if !last && !self.account.is_open() {
            return match is_whole {
                true => Ok(None),
                false => Box::pin(self.discard_rest(inbound)).await,
            };
        }
        let acks = self.flush().await?;
        let ending = match (last, is_whole) {
            (true, _) => Some(Ending::Linger),
            (false, true) => None,
            (false, false) => Box::pin(self.discard_rest(inbound)).await?,
        };
        if let Some(acks) = acks {
            Box::pin(self.await_acks(inbound, acks, last)).await?;
        }
        self.conclude(request, None);
        Ok(ending)
    }

    /// Sends the answer. Returns the wait for its acknowledgement, if somebody
    /// wants to be told of it.
    async fn flush(&mut self) -> Result<Option<AckWait<R>>, Failure> {
        let end = self.socket.queued();
        let acks = self.account.wants_acks().then(|| self.socket.ack_wait(end));
        self.outbound().flush().await?;
        self.account.handle_accepted();
        Ok(acks)
    }

    /// Tells the observer of the request.
    fn conclude(&mut self, request: &Request, failure: Option<&Failure>) {
        self.account.conclude(&self.service.handler, self.socket, request, failure);
    }

    /// Runs the handler, and receives the body as it asks for it. What was
    /// answered before is sent meanwhile.
    async fn handle(
        &mut self,
        inbound: &mut Inbound,
        request: &mut Request,
        mut upload: Option<&mut Upload>,
    ) -> Result<Response, Failure> {
        let service = self.service;
        let mut handling = pin!(service.handler.handle(request));
        let mut outbound = self.outbound();
        let mut hung_up = false;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(response) = handling.as_mut().poll(cx) {
                    return Poll::Ready(Ok(response));
                }
                outbound.account.waited = true;
                let wanted = upload
                    .as_mut()
                    .filter(|upload| upload.failed.is_none() && upload.mailbox.is_wanted(cx));
                let Some(upload) = wanted else {
                    return outbound.poll_meanwhile(cx, &mut hung_up).map(Err);
                };
                let part = ready!(upload.poll_part(cx, inbound, &mut outbound));
                upload.mailbox.put(part.unwrap_or_else(|error| {
                    upload.failed = Some(error);
                    Part::Failed(error)
                }));
            }
        })
        .await
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

    /// Answers an offence, after which nobody can say where the next message
    /// begins: the connection ends.
    async fn refuse(
        &mut self,
        inbound: &mut Inbound,
        offence: Offence,
        head_only: bool,
    ) -> Result<Ending, Failure> {
        let asked = Asked { head_only, chunked: true, last: true };
        let page = self.service.handler.refuse(offence.status());
        self.service.handler.answering(page.status());
        self.outbound().respond(asked, page).await?;
        if let Some(acks) = self.flush().await? {
            // Whatever ends the wait, the request was refused.
            let _ = self.await_acks(inbound, acks, true).await;
        }
        Err(offence.into())
    }

    /// As [`Exchange::refuse`], where not even the head can be read.
    async fn refuse_head(
        &mut self,
        inbound: &mut Inbound,
        offence: Offence,
    ) -> Result<Ending, Failure> {
        let requests = self.served.saturating_add(1);
        let observe = self.service.handler.observes();
        self.account.begin(observe, false, false, self.socket.now(), requests);
        self.refuse(inbound, offence, false).await
    }
}
