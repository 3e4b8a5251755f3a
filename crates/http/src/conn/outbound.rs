//! A response on its way into the socket's queue.

use std::cell::Cell;
use std::future::poll_fn;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use sluicegate::{Position, Readiness, Segment, SendError, Socket, Timer, Way};

use super::account::Account;
use crate::encode::{self, Framing, Persistence};
use crate::handler::Failure;
use crate::prepared::Prepared;
use crate::response::{Body, Fields, Kind};
use crate::{Limits, Method, RequestHead, Response, Version, date};

/// What the response must know of its request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    /// HEAD: the head alone is sent.
    pub(super) head_only: bool,
    /// The client understands chunked: HTTP/1.1.
    pub(super) chunked: bool,
    /// This is the last answer of the connection.
    pub(super) last: bool,
}

impl Asked {
    pub(super) fn by(head: &RequestHead, last: bool) -> Self {
        Asked {
            head_only: head.method() == Method::Head,
            chunked: head.version() == Version::Http11,
            last,
        }
    }

    /// RFC 9112 section 9.3: an HTTP/1.0 client that asked to go on is told so.
    fn persistence(self) -> Persistence {
        match (self.last, self.chunked) {
            (true, _) => Persistence::Close,
            (false, true) => Persistence::Implied,
            (false, false) => Persistence::KeepAlive,
        }
    }
}

/// Content of up to so much memory leaves in one piece with its head: a copy of it costs
/// less than a second segment.
const JOINED: usize = 4 * 1024;

/// More room than this is not kept for the next answer.
const KEPT: usize = 2 * JOINED;

thread_local! {
    /// Room for an answer that leaves in one piece. Of more than a kilobyte, so that to
    /// allocate it anew costs as much as all the rest of writing it.
    static PIECE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Segments that an answer takes which is queued at once: its head and its content.
pub(super) const AT_ONCE: usize = 2;

/// How an answer is delimited.
pub(super) fn framing_of(status: u16, body: &Body, asked: Asked) -> Framing {
    match (encode::has_no_content(status), body.length()) {
        (true, _) => Framing::Absent,
        (false, Some(length)) => Framing::Sized(length),
        (false, None) if asked.chunked => Framing::Chunked,
        // RFC 9112 section 6.1: never chunked to HTTP/1.0.
        (false, None) => Framing::Close,
    }
}

/// A response's way out: the socket, and the deadline of a client that does
/// not read.
pub(super) struct Outbound<'a, R: Readiness> {
    pub(super) socket: &'a mut Socket<R>,
    pub(super) timer: &'a mut R::Timer,
    pub(super) limits: &'a Limits,
    pub(super) account: &'a mut Account,
}

impl<R: Readiness> Outbound<'_, R> {
    /// Queues `response` if that can be done at once, as of nearly all; else
    /// gives it back for [`Outbound::respond`], whose future has room for
    /// everything that may have to be waited for. One from memory is sent at
    /// once, unless something is queued or `follows`, to leave with it.
    pub(super) fn respond_now(
        &mut self,
        asked: Asked,
        response: Response,
        follows: bool,
    ) -> Result<Result<bool, Response>, Failure> {
        if !self.is_apart() || self.socket.room() < AT_ONCE {
            return Ok(Err(response));
        }
        match response.kind {
            Kind::Prepared(prepared, content) => {
                let content = content.filter(|_| !asked.head_only);
                self.queue_prepared(asked, &prepared, follows || content.is_some())?;
                if let Some(content) = content {
                    self.push(content)?;
                }
                Ok(Ok(false))
            }
            Kind::Built {
                status,
                fields,
                body: body @ (Body::Empty | Body::Segment(_) | Body::Copied(_)),
            } => {
                let framing = framing_of(status, &body, asked);
                let mut head = self.head(asked, status, &fields, framing);
                fields.keep();
                let has_content = !asked.head_only && framing != Framing::Absent;
                match body {
                    Body::Copied(copied) if has_content && copied.as_bytes().len() <= JOINED => {
                        head.extend_from_slice(copied.as_bytes());
                        copied.keep();
                        self.send_piece(head, follows)?;
                    }
                    Body::Segment(Segment::Memory(bytes))
                        if has_content && bytes.len() <= JOINED =>
                    {
                        head.extend_from_slice(&bytes);
                        self.send_piece(head, follows)?;
                    }
                    Body::Segment(segment) if has_content => {
                        self.push(Segment::given(head))?;
                        self.push(segment)?;
                    }
                    Body::Copied(copied) if has_content => {
                        self.push(Segment::given(head))?;
                        self.push(copied.into())?;
                    }
                    _ => self.send_piece(head, follows)?,
                }
                Ok(Ok(framing == Framing::Close))
            }
            kind @ (Kind::Built { .. } | Kind::Upgrade { .. }) => Ok(Err(Response { kind })),
        }
    }

    /// Whether an answer that is queued now has an account of its own. An interim
    /// answer is no part of it, nor is the answer before.
    pub(super) fn is_apart(&self) -> bool {
        !self.account.is_open() || self.socket.accepted_position() == self.socket.queued()
    }

    /// Queues `response`; a body that is made while it is sent is sent as well.
    /// Returns whether the connection ends here although it was not to: the
    /// body had no other end.
    pub(super) async fn respond(
        &mut self,
        asked: Asked,
        response: Response,
    ) -> Result<bool, Failure> {
        if !self.is_apart() {
            self.flush().await?;
        }
        self.make_room(AT_ONCE).await?;
        let response = match self.respond_now(asked, response, true)? {
            Ok(closes) => return Ok(closes),
            Err(response) => response,
        };
        // What is left has a body of several parts.
        let Kind::Built { status, fields, body } = response.kind else { return Ok(false) };
        let framing = framing_of(status, &body, asked);
        let head = self.head(asked, status, &fields, framing);
        self.queue(Segment::given(head)).await?;
        if !asked.head_only && framing != Framing::Absent {
            self.queue_body(body, framing).await?;
        }
        Ok(framing == Framing::Close)
    }

    /// Sends an answer that is one piece of memory past the queue, unless something
    /// is to leave with it; what the socket does not take is queued.
    fn send_piece(&mut self, mut piece: Vec<u8>, follows: bool) -> Result<(), Failure> {
        let sent = self.send_now(&piece, follows)?;
        if sent < piece.len() {
            piece.drain(..sent);
            return self.push(Segment::given(piece));
        }
        if piece.capacity() <= KEPT {
            piece.clear();
            // A thread that ends has no place for it.
            let _ = PIECE.try_with(|kept| kept.set(piece));
        }
        Ok(())
    }

    /// Sends memory past the queue; returns how much of it the kernel accepted.
    fn send_now(&mut self, bytes: &[u8], follows: bool) -> Result<usize, Failure> {
        // The kernel reports an acknowledgement to who asks before it sends.
        if follows || self.account.wants_acks() {
            return Ok(0);
        }
        let sent = self.socket.send_now(bytes)?;
        self.account.ways.add(Way::Copy, sent as u64);
        Ok(sent)
    }

    /// The head of an answer that was not composed beforehand.
    pub(super) fn head(
        &mut self,
        asked: Asked,
        status: u16,
        fields: &Fields,
        framing: Framing,
    ) -> Vec<u8> {
        let persistence = match framing {
            Framing::Close => Persistence::Close,
            _ => asked.persistence(),
        };
        // With room for content that leaves in the same piece.
        let joined = match framing {
            Framing::Sized(length) if !asked.head_only => {
                usize::try_from(length).ok().filter(|length| *length <= JOINED)
            }
            _ => None,
        };
        let room = 256 + fields.as_bytes().len() + joined.unwrap_or(0);
        let mut head = PIECE.try_with(Cell::take).unwrap_or_default();
        head.reserve(room);
        let date = date::now();
        encode::head(&mut head, status, &date, fields.as_bytes(), framing, persistence);
        let announced = match framing {
            Framing::Sized(length) => Some(length),
            Framing::Absent | Framing::Chunked | Framing::Close => None,
        };
        self.account.handle_answer(status, self.socket.queued(), head.len(), announced);
        head
    }

    /// Queues the head of an answer that gives the connection away.
    pub(super) fn push_upgrade(&mut self, fields: &Fields, protocol: &[u8]) -> Result<(), Failure> {
        let mut head = Vec::with_capacity(256 + fields.as_bytes().len());
        encode::upgrade(&mut head, &date::now(), fields.as_bytes(), protocol);
        self.account.handle_answer(101, self.socket.queued(), head.len(), None);
        self.push(Segment::given(head))
    }

    fn queue_prepared(
        &mut self,
        asked: Asked,
        prepared: &Prepared,
        follows: bool,
    ) -> Result<(), Failure> {
        let persistence = asked.persistence();
        let mut head_len = prepared.head_len();
        let mut content = if persistence == Persistence::Implied {
            let mut whole = prepared.whole();
            if asked.head_only {
                whole.truncate(head_len);
            }
            whole
        } else {
            let (start, body) = prepared.parts();
            let mut head = start.to_vec();
            encode::finish(&mut head, persistence);
            head_len = head.len();
            if !asked.head_only {
                head.extend_from_slice(&body);
            }
            Bytes::from(head)
        };
        let (start, announced) = (self.socket.queued(), Some(prepared.announced()));
        self.account.handle_answer(prepared.status(), start, head_len, announced);
        let sent = self.send_now(&content, follows)?;
        if sent == content.len() {
            return Ok(());
        }
        content.advance(sent);
        self.push(Segment::Memory(content))
    }

    async fn queue_body(&mut self, body: Body, framing: Framing) -> Result<(), Failure> {
        match body {
            Body::Empty => Ok(()),
            Body::Segment(segment) => self.queue(segment).await,
            Body::Copied(copied) => self.queue(copied.into()).await,
            Body::Segments(segments) => {
                for segment in segments {
                    self.queue(segment).await?;
                }
                Ok(())
            }
            Body::Stream(source) => self.stream(source, framing).await,
            // A refusal may not take the connection's other way, as `relayed` does.
            Body::Relay(_) => Err(Failure::Body("a relay where none may be".into())),
        }
    }

    pub(super) async fn queue(&mut self, segment: Segment) -> Result<(), Failure> {
        self.make_room(1).await?;
        self.push(segment)
    }

    /// Queues a segment for which there is room.
    pub(super) fn push(&mut self, segment: Segment) -> Result<(), Failure> {
        // Nobody here asks a buffer back: held for that it would stay for ever.
        let segment = match segment {
            Segment::Lent(bytes) => Segment::Memory(bytes),
            segment => segment,
        };
        self.socket.queue(segment).map(drop).map_err(|full| Failure::Body(Box::new(full)))
    }

    /// Makes sure that so many segments can be queued.
    pub(super) async fn make_room(&mut self, segments: usize) -> Result<(), Failure> {
        if self.socket.room() < segments { self.flush().await } else { Ok(()) }
    }

    /// What there is to do while an answer, or more of it, is being made: sends
    /// what is queued, and watches for a client that goes away. Ready when
    /// there is nobody left to make it for.
    ///
    /// A FIN alone may be a half-close, and only sending tells: so a client
    /// that sends no more still has `timeouts.send` for its answer to be made. One
    /// that has reset its connection is gone at once.
    pub(super) fn poll_meanwhile(
        &mut self,
        cx: &mut Context<'_>,
        hung_up: &mut bool,
    ) -> Poll<Failure> {
        if let Poll::Ready(Err(error)) = self.poll_send(cx) {
            return Poll::Ready(Failure::Send(error));
        }
        // Who is gone has hung up: most have not, and one look tells.
        if self.socket.poll_hung_up(cx).is_pending() {
            return Poll::Pending;
        }
        if self.socket.poll_gone(cx).is_ready() {
            return Poll::Ready(Failure::Gone);
        }
        if !std::mem::replace(hung_up, true) {
            self.timer.set(Some(self.socket.now() + self.limits.timeouts.send));
        }
        self.timer.poll_expired(cx).map(|()| Failure::Gone)
    }

    /// Sends what is queued, as far as the socket takes it.
    pub(super) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.socket.poll_flush_counted(cx, &mut self.account.ways)
    }

    /// How far the client's TCP has acknowledged.
    pub(super) fn acked(&mut self) -> Result<Position, Failure> {
        let progress = self.socket.progress().map_err(SendError::Connection)?;
        Ok(progress.acked)
    }

    /// Sends what is queued. A client that takes nothing for the time that it
    /// has is given up.
    ///
    /// The kernel has room again only when a third of its buffer is free, which
    /// a slow reader may need minutes for. So it is the acknowledgements that
    /// tell whether the client reads.
    pub(super) async fn flush(&mut self) -> Result<(), Failure> {
        let mut seen = None;
        let mut acked = Position::START;
        poll_fn(|cx| {
            if let Poll::Ready(result) = self.poll_send(cx) {
                return Poll::Ready(result.map_err(Failure::Send));
            }
            let accepted = self.socket.accepted_position();
            let mut moved = seen.replace(accepted) != Some(accepted);
            loop {
                if moved {
                    acked = self.acked()?;
                    self.timer.set(Some(self.socket.now() + self.limits.timeouts.send));
                }
                ready!(self.timer.poll_expired(cx));
                moved = self.acked()? > acked;
                if !moved {
                    return Poll::Ready(Err(Failure::Unread));
                }
            }
        })
        .await
    }
}
