//! A request's body on its way to the upstream.

use std::collections::VecDeque;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use sluicegate::{Position, Registration, Room, Segment, Socket, Spool, Timer};
use sluicegate_http::{CRLF, Piece, RequestBody, RequestFraming, chunk_head};

use super::content::Content;
use super::trouble::Trouble;

type Upstream = Socket<Registration>;

/// Segments that a piece takes with its framing.
const PER_PIECE: usize = 3;

/// Pieces moved in a row before the other tasks of the thread have their turn.
const TURN: u32 = 64;

/// Content in the socket's queue.
#[derive(Debug)]
struct Part {
    start: Position,
    left: u64,
    /// From the spool, which is to know how far it has gone.
    is_spooled: bool,
}

/// Sends a body on, framed anew: sized, or a chunk for each piece that is there.
#[derive(Debug)]
pub(super) struct Upload {
    content: Content,
    body: RequestBody,
    /// Of what is received before a server is asked, so much is queued.
    held: usize,
    /// For what is passed on as it comes.
    spool: Option<Spool>,
    /// All of it has come.
    has_ended: bool,
    tail_is_queued: bool,
    /// Where content is queued, beside its framing.
    queued: VecDeque<Part>,
    /// Bytes of content that the kernel has accepted.
    pub(super) sent: u64,
    /// How far the upstream had come when its deadline was set.
    seen: Option<Position>,
}

impl Upload {
    /// `spool` for what is still to come, if something is.
    pub(super) fn new(content: Content, body: RequestBody, spool: Option<Spool>) -> Self {
        let has_ended = !content.streams;
        Upload {
            content,
            body,
            held: 0,
            spool,
            has_ended,
            tail_is_queued: false,
            queued: VecDeque::new(),
            sent: 0,
            seen: None,
        }
    }

    /// Whether the upstream has taken all that has come, and more is to come.
    pub(super) fn waits_for_client(&self, to: &Upstream) -> bool {
        !self.has_ended && to.queued() == to.accepted_position()
    }

    /// The client is offered no place any more: what it puts there would be lost with the spool.
    pub(super) fn take_back(&mut self, cx: &mut Context<'_>) {
        if let Poll::Ready(Err(_)) = self.poll_piece(cx, &Room::Full) {
            self.content.is_consumed = true;
        }
    }

    /// What is left of it, where the same request may be sent again.
    pub(super) fn into_parts(self) -> (Content, RequestBody) {
        (self.content, self.body)
    }

    /// Moves what can be moved. Ready when the kernel has accepted all of it.
    /// Waits for the upstream no longer than `patience`; how long the client may
    /// take is the engine's affair.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Upstream,
        timer: &mut impl Timer,
        patience: Duration,
    ) -> Poll<Result<(), Trouble>> {
        for _ in 0..TURN {
            // What came since the last look is in the pipe that was offered then. From here on
            // nothing is put there until one is offered again, which is the last that is done
            // before somebody else has his turn: whatever moves may take pipes away.
            let mut has_moved = self.poll_piece(cx, &Room::Full)?.is_ready();
            self.queue(to)?;
            let flushed = to.poll_flush(cx).map_err(|error| Trouble::Broken(broken(error)))?;
            has_moved |= self.handle_accepted(to);
            if flushed.is_ready() && self.tail_is_queued {
                timer.set(None);
                return Poll::Ready(Ok(()));
            }
            has_moved |= self.poll_offer(cx, to)?.is_ready();
            if has_moved || (flushed.is_ready() && self.has_ended) {
                continue;
            }
            return self.wait(cx, to, timer, patience).map(Err);
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    /// Offers the client a place for its next piece, if there is room for it. Ready when
    /// one was here already, or the end.
    fn poll_offer(&mut self, cx: &mut Context<'_>, to: &Upstream) -> Poll<Result<(), Trouble>> {
        let is_busy = self.held < self.content.held.len() || to.room() < PER_PIECE;
        let Some(spool) = self.spool.as_mut().filter(|_| !is_busy) else { return Poll::Pending };
        let room = spool.room();
        self.poll_piece(cx, &room)
    }

    /// Takes a piece from the client. Ready when there was one, or the end.
    fn poll_piece(&mut self, cx: &mut Context<'_>, room: &Room) -> Poll<Result<(), Trouble>> {
        let Some(spool) = &mut self.spool else { return Poll::Pending };
        let Some(piece) =
            ready!(self.body.poll_piece(cx, room)).map_err(|_| Trouble::ClientBody)?
        else {
            self.has_ended = true;
            spool.expect(Some(0));
            return Poll::Ready(Ok(()));
        };
        self.content.is_consumed = true;
        match piece {
            Piece::Data(bytes) => {
                self.content.take(bytes.len() as u64)?;
                spool.push(bytes);
            }
            Piece::Piped(pipe, bytes) => {
                self.content.take(bytes as u64)?;
                spool.handle_filled(pipe, bytes);
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Queues what is here, as far as there is room.
    fn queue(&mut self, to: &mut Upstream) -> Result<(), Trouble> {
        while to.room() >= PER_PIECE {
            let held = self.content.held.get(self.held).cloned();
            let is_spooled = held.is_none();
            let segment = match held {
                Some(bytes) => {
                    self.held += 1;
                    Some(Segment::given(bytes))
                }
                None => self.spool.as_mut().and_then(Spool::segment),
            };
            let Some(segment) = segment else {
                return if self.has_ended { self.queue_tail(to) } else { Ok(()) };
            };
            let is_chunk = self.content.framing == RequestFraming::Chunked;
            if is_chunk {
                let head = Bytes::copy_from_slice(chunk_head(segment.len()).as_bytes());
                push(to, Segment::given(head))?;
            }
            self.queued.push_back(Part { start: to.queued(), left: segment.len(), is_spooled });
            push(to, segment)?;
            if is_chunk {
                push(to, Segment::given(CRLF))?;
            }
        }
        Ok(())
    }

    fn queue_tail(&mut self, to: &mut Upstream) -> Result<(), Trouble> {
        if std::mem::replace(&mut self.tail_is_queued, true)
            || self.content.framing != RequestFraming::Chunked
        {
            return Ok(());
        }
        // RFC 9112 section 7.1: last-chunk, trailer section, CRLF.
        let mut tail = b"0\r\n".to_vec();
        let trailers = self.content.nominated.trailers(self.body.trailers());
        tail.extend_from_slice(trailers.as_bytes());
        tail.extend_from_slice(CRLF);
        push(to, Segment::given(tail))
    }

    /// Counts what the kernel has accepted; tells whether it was anything.
    fn handle_accepted(&mut self, to: &Upstream) -> bool {
        let accepted = to.accepted_position();
        let (mut bytes, mut spooled) = (0, 0);
        while let Some(part) = self.queued.front_mut()
            && accepted > part.start
        {
            let taken = accepted.since(part.start).min(part.left);
            bytes += taken;
            spooled += if part.is_spooled { taken } else { 0 };
            part.left -= taken;
            part.start = part.start.advanced(taken);
            if part.left > 0 {
                break;
            }
            self.queued.pop_front();
        }
        self.sent += bytes;
        if let Some(spool) = &mut self.spool {
            spool.handle_accepted(spooled);
        }
        bytes > 0
    }

    /// Nothing moves. Ready when it was the upstream that was waited for, for too long.
    fn wait(
        &mut self,
        cx: &mut Context<'_>,
        to: &Upstream,
        timer: &mut impl Timer,
        patience: Duration,
    ) -> Poll<Trouble> {
        let accepted = to.accepted_position();
        if to.queued() == accepted {
            self.seen = None;
            timer.set(None);
            return Poll::Pending;
        }
        if self.seen.replace(accepted) != Some(accepted) {
            timer.set(Some(to.now() + patience));
        }
        timer.poll_expired(cx).map(|()| Trouble::WriteTimeout)
    }
}

fn push(to: &mut Upstream, segment: Segment) -> Result<(), Trouble> {
    match to.queue(segment) {
        Ok(_) => Ok(()),
        // There was room for it.
        Err(full) => Err(Trouble::Ours(std::io::Error::other(full))),
    }
}

/// What the connection failed with.
pub(super) fn broken(error: sluicegate::SendError) -> std::io::Error {
    match error {
        sluicegate::SendError::Connection(error) => error,
        other => std::io::Error::other(other),
    }
}
