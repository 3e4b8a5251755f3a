//! Answers whose body, or whose connection, somebody else moves.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use sluicegate::{Readiness, Segment};

use super::Ending;
use super::exchange::{Exchange, is_unread};
use super::inbound::Inbound;
use super::onward::{Form, Onward};
use super::outbound::{AT_ONCE, Asked, framing_of};
use super::upload::Upload;
use crate::body::BodyError;
use crate::encode::Framing;
use crate::handler::{Failure, Handler};
use crate::relay::Relay;
use crate::response::{Body, Kind};
use crate::{Known, ListMembers, Method, Request, RequestHead, Response, Version};

/// Parts of an upload in a row before the other tasks of the thread have their turn.
const TURN: u32 = 64;

impl<R: Readiness, H: Handler> Exchange<'_, R, H> {
    /// Sends an answer that is relayed, and receives the body of its request as far
    /// as the relay asks for it. `waits`: the client was not told to send that.
    /// `Some` when it was the connection's last.
    pub(super) async fn relayed(
        &mut self,
        inbound: &mut Inbound,
        request: &mut Request,
        upload: Option<Upload>,
        waits: bool,
        mut response: Response,
    ) -> Result<Option<Ending>, Failure> {
        let limits = &self.service.limits;
        // The relay may have taken the body over.
        let mut upload = upload
            .filter(|upload| request.body.is_complete() && Arc::strong_count(&upload.mailbox) > 1);
        if upload.is_none()
            && let Err(offence) = inbound.discard_body(limits)
        {
            let head_only = request.head.method() == Method::Head;
            return self.refuse(inbound, offence, head_only).await.map(Some);
        }
        if !may_upgrade(&response, &request.head, inbound) {
            response = self.service.handler.refuse(500);
        }
        let mut last = (upload.is_none() && is_unread(inbound, waits)) || self.is_last(request);
        let asked = Asked::by(&request.head, last);
        self.service.handler.answering(response.status());
        let mut outbound = self.outbound();
        if !outbound.is_apart() {
            outbound.flush().await?;
        }
        outbound.make_room(AT_ONCE).await?;
        let (relay, form) = match response.kind {
            Kind::Built { status, fields, body: Body::Relay(relay) } => {
                let body = Body::Relay(relay);
                let framing = framing_of(status, &body, asked);
                let head = outbound.head(asked, status, &fields, framing);
                outbound.push(Segment::given(head))?;
                last |= framing == Framing::Close;
                let form = match framing {
                    Framing::Absent => None,
                    Framing::Sized(left) => Some(Form::Sized { left }),
                    Framing::Chunked => Some(Form::Chunked { runs: VecDeque::new(), accepted: 0 }),
                    Framing::Close => Some(Form::Close),
                };
                (body, form.filter(|_| !asked.head_only))
            }
            Kind::Upgrade { protocol, fields, tunnel } => {
                last = true;
                outbound.push_upgrade(&fields, &protocol)?;
                (Body::Relay(tunnel), Some(Form::Raw))
            }
            kind => {
                // What was to be an upgrade is refused.
                last |= outbound.respond(asked, Response { kind }).await?;
                (Body::Empty, None)
            }
        };
        if let (Body::Relay(relay), Some(form)) = (relay, form) {
            self.relay(inbound, relay, form, upload.as_mut()).await?;
        }
        drop(upload);
        if let Err(offence) = inbound.discard_body(limits) {
            // The answer is out: an offence in the rest can only close.
            self.outbound().flush().await?;
            return Err(offence.into());
        }
        last |= is_unread(inbound, waits);
        self.settle(inbound, request, last).await
    }

    /// Has `relay` move what it has, until it is ready.
    async fn relay(
        &mut self,
        inbound: &mut Inbound,
        mut relay: Box<dyn Relay>,
        form: Form,
        mut upload: Option<&mut Upload>,
    ) -> Result<(), Failure> {
        // The client's other way has a deadline of its own.
        let mut timer = upload.is_some().then(|| self.socket.timer());
        let mut onward = Onward::new(self.outbound(), inbound, form);
        let trailers = poll_fn(|cx| {
            for _ in 0..TURN {
                onward.begin_turn();
                match relay.poll_relay(cx, &mut onward) {
                    Poll::Ready(Ok(trailers)) => return Poll::Ready(Ok(trailers)),
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(onward.failure(error))),
                    Poll::Pending => {}
                }
                let served = match (upload.as_mut(), &mut timer) {
                    (Some(upload), Some(timer)) => onward.poll_upload(cx, upload, timer),
                    _ => Poll::Ready(None),
                };
                if served != Poll::Ready(Some(())) {
                    return onward.poll_after(cx).map(Err);
                }
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        let done = trailers.await.and_then(|trailers| onward.end(trailers.as_ref()));
        // What a relay makes of it says less than what it was.
        done.map_err(|failure| match upload.and_then(|upload| upload.failed) {
            Some(BodyError::Offence(offence)) => Failure::Upload(offence),
            Some(_) => Failure::Gone,
            None => failure,
        })
    }
}

/// Whether `response` is no upgrade, or one that the client has asked for.
///
/// RFC 9110 section 7.8: a server MUST NOT switch to a protocol that the client has not
/// indicated, and MUST ignore Upgrade in HTTP/1.0. What follows the request is the new
/// protocol's once all of the request was received.
fn may_upgrade(response: &Response, head: &RequestHead, inbound: &Inbound) -> bool {
    let Kind::Upgrade { protocol, .. } = &response.kind else { return true };
    let is_listed = |wanted: &[u8]| {
        head.members(Known::Upgrade).any(|listed| listed.eq_ignore_ascii_case(wanted))
    };
    head.version() == Version::Http11
        && head.has_token(Known::Connection, "upgrade")
        && inbound.body_is_done()
        && ListMembers::new(protocol).all(is_listed)
}
