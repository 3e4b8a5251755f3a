//! From the head of an upstream's answer to our own.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use sluicegate::Segment;
use sluicegate_http::client::forward::{Passed, response_fields, upgrade_asked};
use sluicegate_http::client::{ResponseFraming, ResponseOffence};
use sluicegate_http::{Body, Copied, Method, Response};

use super::exchange::{Begun, Request};
use super::fetch::{Announced, Fetch, Moving};
use super::incoming::Incoming;
use super::note::Tale;
use super::relay::body;
use super::trouble::Trouble;
use super::tunnel::Tunnel;
use super::{Asked, Elsewhere, Outcome, Proxy, Shared};

/// Content up to so much goes on in one piece with its head: the memory that it was received into
/// then serves another answer, since new memory of that size costs more.
const COPIED: usize = 4 * 1024;

/// Of a longer body nothing waits for an acknowledgement that is put off: the kernel sends
/// one for every two full segments.
const SHORT: u64 = 16 * 1024;

/// What is known of a body of which the rest is still to come.
struct Beginning {
    incoming: Incoming,
    /// Where in the input what came with the head is.
    content: Range<usize>,
    may_be_kept: bool,
    is_spooled: bool,
}

impl Proxy {
    /// The answer that goes to the client.
    pub(super) fn respond(
        &self,
        shared: &Shared,
        asked: &mut Asked<'_>,
        begun: Begun,
        tale: &mut Tale<'_>,
    ) -> Result<Outcome, Trouble> {
        let Begun { mut held, mut scratch, length, request } = begun;
        let head = &scratch.head;
        let (method, status) = (asked.head.method(), head.status());
        let framing = ResponseFraming::of(head, method);
        if let Some(upstream) = held.get() {
            // These say that there is nobody behind it, or nobody free.
            match (&framing, status) {
                (Err(_), _) | (_, 502..=504) => upstream.failed(),
                _ => upstream.succeeded(),
            }
        }
        let head_ms = held.age();
        tale.change(|told| {
            told.status = Some(status);
            told.head_ms = Some(head_ms);
        });
        let framing = framing?;
        if framing == ResponseFraming::Upgraded {
            return self.switch(shared, asked, Begun { held, scratch, length, request }, tale);
        }
        // RFC 9110 section 15: what is no status that is known by its class is none.
        if !(200..600).contains(&status) {
            return Err(ResponseOffence::BadStatusLine.into());
        }
        let may_be_kept = head.keep_alive() && matches!(request, Request::Sent);
        let Passed { fields, accel } = response_fields(head);
        let elsewhere = accel
            .redirect
            .filter(|_| self.rule.accel)
            .map(|target| Elsewhere::new(target, head, tale.note_of(&mut held)));
        let mut incoming = Incoming::behind(head, framing);
        let content = incoming.take(&mut scratch.input, length, &self.limits)?;
        let is_whole = incoming.is_done() && incoming.trailers().is_none();
        if is_whole || elsewhere.is_some() {
            // What is not here yet of the body that a file takes the place of, nobody waits for.
            let held_ms = held.let_go_after(may_be_kept && incoming.is_clean(), head_ms);
            tale.handle_let_go(held_ms);
        }
        if let Some(elsewhere) = elsewhere {
            return Ok(Outcome::File(elsewhere));
        }
        let body = if is_whole && method != Method::Head {
            tale.change(|told| told.spool.copied += content.len() as u64);
            match content.len() {
                0 => Body::Empty,
                1..=COPIED => Body::Copied(Copied::within(&mut scratch.input, content)),
                _ => {
                    let input = Bytes::from(std::mem::take(&mut scratch.input));
                    Body::Segment(Segment::given(input.slice(content)))
                }
            }
        } else if method == Method::Head {
            Body::Relay(Box::new(Announced(ResponseFraming::announced(&scratch.head))))
        } else {
            let length = match framing {
                ResponseFraming::Sized(length) => Some(length),
                _ => None,
            };
            // Who makes an answer while it is sent (X-Accel-Buffering) has no more taken ahead than
            // what is moving.
            let is_spooled = accel.buffering != Some(false);
            let begun = Begun { held, scratch, length: content.end, request };
            let begin = Beginning { incoming, content, may_be_kept, is_spooled };
            Body::Relay(Box::new(Fetch::of(length, self.fetch(shared, begun, begin, tale)?)))
        };
        Ok(Outcome::Response(Response::of(status, fields, body)))
    }

    /// The answer to an upgrade that was made.
    #[cold]
    #[inline(never)]
    fn switch(
        &self,
        shared: &Shared,
        asked: &Asked<'_>,
        begun: Begun,
        tale: &mut Tale<'_>,
    ) -> Result<Outcome, Trouble> {
        let Begun { mut held, scratch, length, .. } = begun;
        let to = upgrade_asked(asked.head, &self.rules, asked.body.framing());
        let protocol = scratch.head.switched_to(to)?.to_vec();
        let fields = response_fields(&scratch.head).fields;
        let note = tale.note_of(&mut held);
        let tunnel = Tunnel::new(self, shared, held, scratch, length, note)?;
        let upgrade = Response::upgrade(&protocol, fields, Box::new(tunnel));
        Ok(Outcome::Response(upgrade.map_err(|_| ResponseOffence::UnaskedUpgrade)?))
    }

    /// What moves the rest of a body that did not come whole with its head.
    #[inline(never)]
    fn fetch(
        &self,
        shared: &Shared,
        begun: Begun,
        begin: Beginning,
        tale: &mut Tale<'_>,
    ) -> Result<Moving, Trouble> {
        let Begun { mut held, scratch, request, .. } = begun;
        let Beginning { incoming, content, may_be_kept, is_spooled } = begin;
        let note = Arc::clone(tale.note_of(&mut held));
        let Some(upstream) = held.get() else { return Err(Trouble::Closed) };
        // What is written apart from its head may wait for this.
        if incoming.left().is_none_or(|left| left <= SHORT) {
            upstream.socket.acknowledge_now();
        }
        let options = if is_spooled { &self.rule.spool } else { &self.moving };
        let mut spool = shared.spool(options, upstream.socket.context());
        // What came with the head counts as all that is put in.
        spool.expect(incoming.left().map(|left| left + content.len() as u64));
        let (rest, upload) = request.into_rest();
        let mut moving = Moving {
            relay: body::Body::new(rest, may_be_kept, incoming.content()),
            held,
            incoming,
            spool,
            scratch,
            upload,
            rule: Arc::clone(&self.rule),
            limits: self.limits.clone(),
            note,
        };
        moving.put(content);
        Ok(moving)
    }
}
