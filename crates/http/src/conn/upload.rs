//! A request's body while its handler asks for it.

use std::sync::Arc;
use std::task::{Context, Poll, ready};

use sluicegate::{Readiness, Timer};

use super::inbound::Inbound;
use super::outbound::Outbound;
use crate::Offence;
use crate::body::{BodyError, Mailbox, Part};

/// The interim answer that makes the client send its body. RFC 9110 section 15.2.1.
const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// A request body on its way to the handler.
pub(super) struct Upload {
    pub(super) mailbox: Arc<Mailbox>,
    /// The client waits for `100 Continue`.
    pub(super) waits: bool,
    /// The deadline of the read under way is set.
    timed: bool,
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
    pub(super) fn new(mailbox: Arc<Mailbox>, waits: bool) -> Self {
        Upload { mailbox, waits, timed: false, failed: None }
    }

    /// The next part of the body, received where it is not there yet.
    pub(super) fn poll_part<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut Inbound,
        outbound: &mut Outbound<'_, R>,
    ) -> Poll<Result<Part, BodyError>> {
        loop {
            if let Some(part) = inbound.next_part(outbound.limits)? {
                return Poll::Ready(Ok(part));
            }
            if std::mem::take(&mut self.waits) {
                let interim = sluicegate::Segment::given(CONTINUE);
                if outbound.socket.queue(interim).is_err() {
                    return Poll::Ready(Err(BodyError::Gone));
                }
            }
            // Sends the interim answer, and the answers to pipelined requests
            // that the client may want to see first.
            if let Poll::Ready(Err(_)) = outbound.poll_send(cx) {
                return Poll::Ready(Err(BodyError::Gone));
            }
            let Outbound { socket, timer, limits, .. } = outbound;
            match socket.poll_receive(cx, inbound.room()) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Err(BodyError::Gone)),
                Poll::Ready(Ok(_)) => self.timed = false,
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
}
