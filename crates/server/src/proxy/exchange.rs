//! One request on one connection, until the answer's head is there.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use sluicegate::{Readiness, Registration, Segment, Socket, Timer};
use sluicegate_http::client::ResponseHead;
use sluicegate_http::client::forward::request_head;
use sluicegate_http::{Interim, Limits};

use super::arriving::Arriving;
use super::content::Content;
use super::held::Held;
use super::note::Note;
use super::retry::Failed;
use super::scratch::{INPUT, Lent, Scratch};
use super::trouble::Trouble;
use super::upload::{Upload, broken};
use super::{Asked, Proxy, Shared};
use crate::gateway::Upstream;

/// A request's body of up to so many bytes leaves together with its head.
const SHORT: usize = 16 * 1024;

/// One request on its way to a server.
pub(super) struct Exchange<'a, 'r> {
    pub(super) proxy: &'a Proxy,
    pub(super) shared: &'a Shared,
    pub(super) note: &'a Arc<Note>,
    pub(super) asked: &'a mut Asked<'r>,
    pub(super) content: &'a mut Content,
}

/// An answer of which the head is there.
pub(super) struct Begun {
    pub(super) held: Held,
    /// The head, and what was received behind it.
    pub(super) scratch: Lent,
    /// Bytes of the head.
    pub(super) length: usize,
    pub(super) request: Request,
}

/// How far a request has gone when its answer comes.
#[derive(Debug)]
pub(super) enum Request {
    Sent,
    /// It goes on while the answer comes, with a deadline of its own: each way has one.
    Going(Box<Upload>, <Registration as Readiness>::Timer),
    /// The upstream did not want all of it: its connection can be used no more.
    Dropped,
    /// As it went the connection was found broken, of which receiving tells no more: the
    /// kernel says it once, and behind what came before there is then an end like any other.
    Broken(io::Error),
}

impl Request {
    /// Sending the rest of it has failed.
    pub(super) fn failed(error: io::Error) -> Self {
        match error.kind() {
            // The upstream's end had come before its reset (tcp_reset() in CLOSE_WAIT).
            io::ErrorKind::BrokenPipe => Request::Dropped,
            _ => Request::Broken(error),
        }
    }
}

impl Exchange<'_, '_> {
    /// Sends the request, and receives the head of its answer.
    pub(super) async fn run(
        &mut self,
        upstream: Upstream,
        since: Instant,
    ) -> Result<Begun, Failed> {
        let before = upstream.socket.accepted_position();
        let mut held = Held::new(upstream, since);
        held.tell_to(Arc::clone(self.note));
        let mut scratch = self.shared.scratches.take();
        let mut arriving = Arriving::default();
        let talked = match held.get() {
            Some(upstream) => self.talk(upstream, &mut scratch, &mut arriving).await,
            None => Err(Trouble::Closed),
        };
        let trouble = match talked {
            Ok((length, request)) => return Ok(Begun { held, scratch, length, request }),
            Err(trouble) => trouble,
        };
        // What came before an answer went on to the client, who is not to have it twice.
        let has_answered = !scratch.input.is_empty() || arriving.interims > 0;
        Err(Failed::of(trouble, &mut held, before, has_answered))
    }

    async fn talk(
        &mut self,
        upstream: &mut Upstream,
        scratch: &mut Scratch,
        arriving: &mut Arriving,
    ) -> Result<(usize, Request), Trouble> {
        let (proxy, asked) = (self.proxy, &mut *self.asked);
        let Scratch { out, input, head, timer } = scratch;
        let onward = asked.onward(upstream.authority(), self.content.framing);
        request_head(out, asked.head, &proxy.rules, &onward).map_err(Trouble::Refused)?;
        let is_short = self.content.is_short(SHORT);
        let mut body_bytes = 0;
        if is_short {
            for bytes in &self.content.held {
                out.extend_from_slice(bytes);
                body_bytes += bytes.len() as u64;
            }
        }
        let socket = &mut upstream.socket;
        let timer = timer.get_or_insert_with(|| socket.timer());
        if input.capacity() == 0 {
            input.reserve_exact(INPUT);
        }
        let sent = socket.send_now(out).map_err(|error| Trouble::Broken(broken(error)))?;
        let limits = &proxy.limits;
        let mut wire =
            Wire { socket, timer, input, head, arriving, limits, interim: asked.interim };
        if sent < out.len() || !is_short {
            let rest = Bytes::copy_from_slice(out.get(sent..).unwrap_or_default());
            if let Some(early) = Box::pin(self.upload(&mut wire, rest, is_short)).await? {
                return Ok(early);
            }
        }
        if body_bytes > 0 {
            self.note.change(|told| told.request_bytes += body_bytes);
        }
        wire.timer.set(Some(wire.socket.now() + proxy.rule.head_timeout));
        let length = poll_fn(|cx| match wire.poll_head(cx) {
            Poll::Ready(came) => Poll::Ready(came),
            Poll::Pending => wire.timer.poll_expired(cx).map(|()| Err(Trouble::HeadTimeout)),
        })
        .await?;
        wire.timer.set(None);
        Ok((length, Request::Sent))
    }

    /// Sends `rest`, which is of the head, and the body, unless that `is_short` and in `rest`
    /// too. `Some` when the answer came before that was done.
    async fn upload(
        &mut self,
        wire: &mut Wire<'_>,
        rest: Bytes,
        is_short: bool,
    ) -> Result<Option<(usize, Request)>, Trouble> {
        if !rest.is_empty() {
            let queued = wire.socket.queue(Segment::given(rest));
            queued.map_err(|full| Trouble::Ours(io::Error::other(full)))?;
        }
        let proxy = self.proxy;
        let content = if is_short { Content::default() } else { std::mem::take(self.content) };
        let spool =
            content.streams.then(|| self.shared.spool(&proxy.moving, wire.socket.context()));
        let body = std::mem::take(self.asked.body);
        let mut upload = Box::new(Upload::new(content, body, spool));
        let mut failed = None;
        let early = poll_fn(|cx| {
            let patience = proxy.rule.read_timeout;
            match upload.poll(cx, wire.socket, wire.timer, patience) {
                Poll::Ready(Ok(())) => return Poll::Ready(Ok(None)),
                // Who takes no more of a request may have said why.
                Poll::Ready(Err(Trouble::Broken(error))) => {
                    let Poll::Ready(Ok(length)) = wire.poll_head(cx) else {
                        return Poll::Ready(Err(Trouble::Broken(error)));
                    };
                    failed = Some(Request::failed(error));
                    return Poll::Ready(Ok(Some(length)));
                }
                Poll::Ready(Err(trouble)) => return Poll::Ready(Err(trouble)),
                Poll::Pending => {}
            }
            let headed = wire.poll_head(cx);
            if let Poll::Ready(Err(_)) = &headed {
                upload.take_back(cx);
            }
            headed.map_ok(Some)
        })
        .await;
        self.note.change(|told| told.request_bytes += upload.sent);
        match early {
            // Whoever has answered well may want the rest; who refuses it, or closes, does not.
            Ok(Some(length))
                if failed.is_none()
                    && (200..300).contains(&wire.head.status())
                    && wire.head.keep_alive() =>
            {
                wire.timer.set(None);
                Ok(Some((length, Request::Going(upload, wire.socket.timer()))))
            }
            Ok(Some(length)) => Ok(Some((length, failed.unwrap_or(Request::Dropped)))),
            // Without an answer it may be tried once more, also when all of it was sent.
            Ok(None) | Err(_) => {
                let (content, body) = upload.into_parts();
                *self.asked.body = body;
                if !is_short {
                    *self.content = content;
                }
                early.map(|_| None)
            }
        }
    }
}

/// One connection while a request goes and an answer comes.
struct Wire<'a> {
    socket: &'a mut Socket<Registration>,
    timer: &'a mut <Registration as Readiness>::Timer,
    input: &'a mut Vec<u8>,
    head: &'a mut ResponseHead,
    arriving: &'a mut Arriving,
    limits: &'a Limits,
    interim: &'a Interim,
}

impl Wire<'_> {
    /// Ready when the head of the answer is there.
    fn poll_head(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Trouble>> {
        let Wire { socket, input, head, arriving, limits, interim, .. } = self;
        arriving.poll(cx, socket, input, head, limits, interim)
    }
}
