//! A client's connection in the hands of who moves the body into it.

use std::collections::VecDeque;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use sluicegate::{
    AcquireError, Lease, Pipe, Position, Readiness, Ring, Segment, SendError, Sink, Timer,
};

use super::inbound::Inbound;
use super::outbound::Outbound;
use super::streamed::last_chunk;
use super::upload::Upload;
use crate::chunked::{CRLF, chunk_head};
use crate::handler::Failure;
use crate::interim::Interim;
use crate::relay::{Downstream, RelayError};
use crate::response::Fields;

/// Segments of one piece of content, with what frames it.
const FRAMED: usize = 3;

/// How content becomes what is sent.
#[derive(Debug)]
pub(super) enum Form {
    /// As it is; so much is still to come.
    Sized { left: u64 },
    /// As chunks: the content of those that were not accepted whole, and how much was
    /// accepted of the others.
    Chunked { runs: VecDeque<Run>, accepted: u64 },
    /// As it is, until the end of the connection.
    Close,
    /// As it is, after an upgrade.
    Raw,
}

/// Where the content of a chunk lies.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    start: Position,
    len: u64,
}

/// What is waited for with a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Watch {
    Nothing,
    /// The client's acknowledgement of more than `acked`, once as much as `accepted` was
    /// handed to its kernel.
    Stall {
        accepted: Position,
        acked: Position,
    },
    /// More to send than this to a client that sends no more itself.
    Silence {
        accepted: Position,
    },
}

/// See [`Downstream`].
pub(super) struct Onward<'a, R: Readiness> {
    outbound: Outbound<'a, R>,
    inbound: &'a mut Inbound,
    form: Form,
    /// Where the content begins.
    start: Position,
    watch: Watch,
    /// A partition is waited for that the client's acknowledgements would free.
    leases: bool,
    /// [`Downstream::finish`] was called.
    is_finished: bool,
    /// The relay has flushed in this turn, after it had pushed.
    has_flushed: bool,
    /// What has ended the relay, whatever it says itself.
    failure: Option<Failure>,
}

impl<'a, R: Readiness> Onward<'a, R> {
    /// The head is queued already.
    pub(super) fn new(outbound: Outbound<'a, R>, inbound: &'a mut Inbound, form: Form) -> Self {
        let start = outbound.socket.queued();
        Onward {
            outbound,
            inbound,
            form,
            start,
            watch: Watch::Nothing,
            leases: false,
            is_finished: false,
            has_flushed: false,
            failure: None,
        }
    }

    /// What ended the relay, of which `error` is its own word.
    pub(super) fn failure(&mut self, error: RelayError) -> Failure {
        match (self.failure.take(), error) {
            (Some(failure), _) => failure,
            (None, RelayError::Client(error)) => Failure::Send(error),
            (None, error) => Failure::Relay(error),
        }
    }

    /// The relay's next turn begins.
    pub(super) fn begin_turn(&mut self) {
        (self.has_flushed, self.leases) = (false, false);
        let sent = self.outbound.socket.accepted_position();
        if let Form::Chunked { runs, accepted } = &mut self.form {
            while let Some(run) = runs.pop_front_if(|run| sent.since(run.start) >= run.len) {
                *accepted += run.len;
            }
        }
    }

    /// The relay has called itself ready: queues what ends the body.
    pub(super) fn end(&mut self, trailers: Option<&Fields>) -> Result<(), Failure> {
        if let Some(failure) = self.failure.take() {
            return Err(failure);
        }
        match self.form {
            Form::Sized { left: 1.. } => Err(ours("the body is shorter than it was announced")),
            // There is room: see `room`.
            Form::Chunked { .. } => self.outbound.push(last_chunk(trailers)),
            _ => Ok(()),
        }
    }

    /// After a turn of the relay that brought it no further: sends what it has left
    /// queued, and looks for a client that is gone. Ready with what ends the relay.
    pub(super) fn poll_after(&mut self, cx: &mut Context<'_>) -> Poll<Failure> {
        if !self.has_flushed && self.failure.is_none() {
            let before = self.outbound.socket.accepted_position();
            // What is wrong is noted.
            let _ = self.poll_flush(cx);
            if self.outbound.socket.accepted_position() != before {
                // The relay may wait for that.
                cx.waker().wake_by_ref();
            }
        }
        if let Some(failure) = self.failure.take() {
            return Poll::Ready(failure);
        }
        let Outbound { socket, timer, limits, .. } = &mut self.outbound;
        if socket.poll_gone(cx).is_ready() {
            return Poll::Ready(Failure::Gone);
        }
        if socket.accepted_position() != socket.queued() || self.leases {
            return Poll::Pending;
        }
        // Nobody waits for the client.
        if !matches!(self.watch, Watch::Silence { .. }) {
            self.watch = Watch::Nothing;
        }
        if matches!(self.form, Form::Raw) || socket.poll_hung_up(cx).is_pending() {
            return Poll::Pending;
        }
        let silence = Watch::Silence { accepted: socket.accepted_position() };
        if std::mem::replace(&mut self.watch, silence) != silence {
            timer.set(Some(socket.now() + limits.timeouts.send));
        }
        timer.poll_expired(cx).map(|()| Failure::Gone)
    }

    /// The client has not taken everything: ready when it has acknowledged nothing for
    /// the time that it has. See [`Outbound::flush`].
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        let Outbound { socket, timer, limits, .. } = &mut self.outbound;
        let now = socket.accepted_position();
        let (mut moved, mut seen) = match self.watch {
            Watch::Stall { accepted, acked } => (accepted != now, acked),
            _ => (true, Position::START),
        };
        loop {
            if moved {
                seen = socket.progress().map_err(SendError::Connection)?.acked;
                self.watch = Watch::Stall { accepted: now, acked: seen };
                timer.set(Some(socket.now() + limits.timeouts.send));
            }
            ready!(timer.poll_expired(cx));
            moved = socket.progress().map_err(SendError::Connection)?.acked > seen;
            if !moved {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Notes what ended the relay, and tells it what it can make of it.
    fn fail(&mut self, failure: Failure, error: io::ErrorKind) -> SendError {
        self.failure.get_or_insert(failure);
        SendError::Connection(error.into())
    }

    /// As [`Onward::poll_stalled`]; an error when the client's time is over.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<SendError> {
        match self.poll_stalled(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(())) => Poll::Ready(self.fail(Failure::Unread, io::ErrorKind::TimedOut)),
            Poll::Ready(Err(error)) => Poll::Ready(error),
        }
    }

    /// The upload's end of the same connection.
    pub(super) fn poll_upload(
        &mut self,
        cx: &mut Context<'_>,
        upload: &mut Upload,
        timer: &mut R::Timer,
    ) -> Poll<Option<()>> {
        let Outbound { socket, limits, account, .. } = &mut self.outbound;
        let mut outbound = Outbound { socket, timer, limits, account };
        // The answer has begun: nothing goes before it any more.
        upload.poll_serve(cx, self.inbound, &mut outbound, &Interim::default())
    }

    fn push_content(&mut self, content: Segment) -> Result<(), RelayError> {
        let len = content.len();
        if self.room() == 0 {
            return Err(refused("there is no room for a segment"));
        }
        match &mut self.form {
            Form::Sized { left } => {
                *left = left
                    .checked_sub(len)
                    .ok_or_else(|| refused("the body is longer than it was announced"))?;
            }
            Form::Chunked { .. } => return self.push_chunk(content),
            Form::Close | Form::Raw => {}
        }
        self.queue(content)
    }

    fn push_chunk(&mut self, content: Segment) -> Result<(), RelayError> {
        let len = content.len();
        self.queue(Segment::Memory(Bytes::copy_from_slice(chunk_head(len).as_bytes())))?;
        let start = self.outbound.socket.queued();
        self.queue(content)?;
        if let Form::Chunked { runs, .. } = &mut self.form {
            runs.push_back(Run { start, len });
        }
        self.queue(Segment::given(CRLF))
    }

    fn queue(&mut self, segment: Segment) -> Result<(), RelayError> {
        self.outbound.push(segment).map_err(|failure| match failure {
            Failure::Body(error) => RelayError::Ours(error),
            failure => RelayError::Ours(failure.into()),
        })
    }
}

fn refused(why: &str) -> RelayError {
    RelayError::Ours(why.into())
}

fn ours(why: &str) -> Failure {
    Failure::Relay(refused(why))
}

impl<R: Readiness> Sink for Onward<'_, R> {
    fn poll_lease(
        &mut self,
        cx: &mut Context<'_>,
        ring: &Ring,
    ) -> Poll<Result<Lease, AcquireError>> {
        let leased = self.outbound.socket.poll_lease(cx, ring);
        self.leases = leased.is_pending();
        if self.leases
            && let Poll::Ready(error) = self.poll_patience(cx)
        {
            return Poll::Ready(Err(error.into()));
        }
        leased
    }
}

impl<R: Readiness> Downstream for Onward<'_, R> {
    fn push(&mut self, content: Segment) -> Result<(), RelayError> {
        // An empty chunk would be the last one.
        if content.is_empty() {
            return Ok(());
        }
        self.has_flushed = false;
        let pushed = self.push_content(content);
        if let Err(error) = &pushed {
            self.failure.get_or_insert_with(|| ours(&error.to_string()));
        }
        pushed
    }

    fn room(&self) -> usize {
        let room = self.outbound.socket.room();
        match self.form {
            // One is for the last chunk.
            Form::Chunked { .. } => room.saturating_sub(1) / FRAMED,
            _ => room,
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.has_flushed = true;
        match self.outbound.poll_send(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => self.poll_patience(cx).map(Err),
        }
    }

    fn accepted(&self) -> u64 {
        let sent = self.outbound.socket.accepted_position();
        match &self.form {
            Form::Chunked { runs, accepted } => {
                let started = runs.iter().take_while(|run| run.start < sent);
                started.fold(*accepted, |sum, run| sum + run.len.min(sent.since(run.start)))
            }
            _ => sent.since(self.start),
        }
    }

    fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        if !matches!(self.form, Form::Raw) {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        }
        match self.inbound.take_raw(buffer) {
            0 => self.outbound.socket.poll_receive(cx, buffer),
            count => Poll::Ready(Ok(count)),
        }
    }

    fn poll_fill(
        &mut self,
        cx: &mut Context<'_>,
        pipe: &Pipe,
        len: usize,
    ) -> Poll<io::Result<usize>> {
        if !matches!(self.form, Form::Raw) || !self.inbound.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::Unsupported.into()));
        }
        self.outbound.socket.poll_splice(cx, pipe, len)
    }

    fn finish(&mut self) -> io::Result<()> {
        if !matches!(self.form, Form::Raw) {
            return Err(io::ErrorKind::Unsupported.into());
        }
        if std::mem::replace(&mut self.is_finished, true) {
            return Ok(());
        }
        self.outbound.socket.shutdown()
    }
}
