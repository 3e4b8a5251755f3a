//! A request's body while its handler asks for it.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use sluicegate::{Readiness, Segment, Socket, Timer};

use super::inbound::Inbound;
use super::outbound::Outbound;
use crate::Offence;
use crate::body::{BodyError, Mailbox, Part, Want};
use crate::interim::Interim;

/// The interim answer that makes the client send its body. RFC 9110 section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// Bytes of content that have to lie ahead for it to be received past the buffer of heads.
const DIRECT: usize = 16 * 1024;

/// Bytes that are received so at a time.
const BUFFER: usize = 64 * 1024;

/// What a look at the socket brought.
enum Taken {
    /// Content that went past the buffer of heads.
    Part(Part),
    /// Something in that buffer.
    Received,
    /// The client sends no more.
    End,
}

/// A request body on its way to the handler.
pub(super) struct Upload {
    pub(super) mailbox: Arc<Mailbox>,
    /// The deadline of the read under way is set.
    timed: bool,
    /// What is received into; empty between two parts.
    buffer: Vec<u8>,
    pub(super) failed: Option<BodyError>,
}

impl Drop for Upload {
    /// Whoever still holds the body is told that no more comes.
    fn drop(&mut self) {
        self.mailbox.close();
    }
}

impl Upload {
    /// Nothing of it was asked for yet.
    pub(super) fn new(mailbox: Arc<Mailbox>) -> Self {
        Upload { mailbox, timed: false, buffer: Vec::new(), failed: None }
    }

    /// Leaves the next part of the body in the mailbox, if somebody waits for it
    /// there. `None`: nobody does; pending: it has not come.
    pub(super) fn poll_serve<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut Inbound,
        outbound: &mut Outbound<'_, R>,
        interim: &Interim,
    ) -> Poll<Option<()>> {
        if self.failed.is_some() {
            return Poll::Ready(None);
        }
        let Some(want) = self.mailbox.wanted(cx) else {
            // It is not asked for: what it takes to come counts from the next time on.
            self.timed = false;
            return Poll::Ready(None);
        };
        let part = ready!(self.poll_part(cx, &want, inbound, outbound, interim));
        self.mailbox.put(part.unwrap_or_else(|error| {
            self.failed = Some(error);
            Part::Failed(error)
        }));
        Poll::Ready(Some(()))
    }

    /// The next part of the body, received where it is not there yet.
    fn poll_part<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        want: &Want,
        inbound: &mut Inbound,
        outbound: &mut Outbound<'_, R>,
        interim: &Interim,
    ) -> Poll<Result<Part, BodyError>> {
        loop {
            if let Some(part) = inbound.next_part(outbound.limits, want.bytes)? {
                return Poll::Ready(Ok(part));
            }
            if interim.take_wait() && outbound.socket.queue(Segment::given(CONTINUE)).is_err() {
                return Poll::Ready(Err(BodyError::Gone));
            }
            // Sends the interim answer, and the answers to pipelined requests
            // that the client may want to see first.
            if let Poll::Ready(Err(_)) = outbound.poll_send(cx) {
                return Poll::Ready(Err(BodyError::Gone));
            }
            let Outbound { socket, timer, limits, .. } = outbound;
            match self.poll_take(cx, want, inbound, socket) {
                Poll::Ready(Ok(Taken::Part(part))) => {
                    self.timed = false;
                    return Poll::Ready(Ok(part));
                }
                Poll::Ready(Ok(Taken::Received)) => self.timed = false,
                Poll::Ready(Ok(Taken::End) | Err(_)) => {
                    return Poll::Ready(Err(BodyError::Gone));
                }
                Poll::Pending => {
                    if !std::mem::replace(&mut self.timed, true) {
                        timer.set(Some(socket.now() + limits.timeouts.body));
                    }
                    ready!(timer.poll_expired(cx));
                    return Poll::Ready(Err(Offence::BodyTimeout.into()));
                }
            }
        }
    }

    /// Receives: where nothing but content lies ahead, past `inbound`.
    fn poll_take<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        want: &Want,
        inbound: &mut Inbound,
        socket: &mut Socket<R>,
    ) -> Poll<io::Result<Taken>> {
        let ahead = usize::try_from(inbound.ahead()).unwrap_or(usize::MAX).min(want.bytes);
        if want.splices && ahead > 0 {
            if socket.poll_readable(cx).is_pending() {
                // Pipes are for those whose bytes move.
                self.mailbox.let_go_of_pipe();
                return Poll::Pending;
            }
            let another = || socket.context().pipes.take().map(Arc::new);
            if let Some(pipe) = want.pipe.clone().or_else(another) {
                let spliced = socket.poll_splice(cx, &pipe, ahead);
                if spliced.is_pending() {
                    self.mailbox.let_go_of_pipe();
                }
                match ready!(spliced) {
                    Ok(0) => return Poll::Ready(Ok(Taken::End)),
                    Ok(count) => {
                        inbound.skip(count as u64);
                        return Poll::Ready(Ok(Taken::Part(Part::Piped(pipe, count))));
                    }
                    // No slot is free, or none is to be had: it is received.
                    Err(error) if is_refusal(&error) => {}
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
        }
        if ahead < DIRECT {
            let received = ready!(socket.poll_receive(cx, inbound.room()))?;
            return Poll::Ready(Ok(if received > 0 { Taken::Received } else { Taken::End }));
        }
        self.buffer.reserve_exact(BUFFER);
        let received = ready!(socket.poll_receive_some(cx, &mut self.buffer, ahead))?;
        if received == 0 {
            return Poll::Ready(Ok(Taken::End));
        }
        inbound.skip(received as u64);
        // What is nearly empty would hold much for little.
        let data = if received >= BUFFER / 2 {
            Bytes::from(std::mem::take(&mut self.buffer))
        } else {
            let data = Bytes::copy_from_slice(&self.buffer);
            self.buffer.clear();
            data
        };
        Poll::Ready(Ok(Taken::Part(Part::Data(data))))
    }
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind as Error;
    matches!(
        error.kind(),
        Error::WouldBlock | Error::InvalidInput | Error::Unsupported | Error::PermissionDenied
    )
}
