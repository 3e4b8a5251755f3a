//! Waiting for the acknowledgement of an answer, for who observes it.

use std::future::poll_fn;
use std::task::{Context, Poll};

use sluicegate::{AckWait, Readiness, SendError, Timer};

use super::exchange::Exchange;
use super::inbound::Inbound;
use crate::handler::{Failure, Handler};

/// Receives in a row of what is thrown away before the other tasks of the
/// thread have their turn.
const TURN: usize = 64;

/// What has come from the client meanwhile.
enum Came {
    Nothing,
    /// The next request, or a part of it.
    Request,
    /// It sends no more. It may still be reading.
    End,
}

impl<R: Readiness, H: Handler> Exchange<'_, R, H> {
    /// Waits until the client's TCP has acknowledged the answer, the next
    /// request comes, or nothing is acknowledged for the time that a client
    /// has. Where the answer was the `last`, the client learns before that
    /// nothing follows, and what it sends is thrown away.
    pub(super) async fn await_acks(
        &mut self,
        inbound: &mut Inbound,
        mut acks: AckWait<R>,
        last: bool,
    ) -> Result<(), Failure> {
        if !last && !inbound.is_empty() {
            return Ok(());
        }
        if last && self.socket.shutdown().is_err() {
            return Ok(());
        }
        let patience = self.service.limits.timeouts.send;
        let mut seen = None;
        let mut ended = false;
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(result) = self.socket.poll_acked(cx, &mut acks) {
                    self.account.handle_acked(result.is_ok());
                    return Poll::Ready(result.map_err(Failure::Send));
                }
                match self.poll_came(cx, inbound, last, &mut ended) {
                    Ok(Came::Request) => return Poll::Ready(Ok(())),
                    Ok(Came::End) => continue,
                    Ok(Came::Nothing) => {}
                    Err(failure) => return Poll::Ready(Err(failure)),
                }
                if seen.is_some() && self.timer.poll_expired(cx).is_pending() {
                    return Poll::Pending;
                }
                let progress = self.socket.progress().map_err(SendError::Connection)?;
                if seen.replace(progress.acked).is_some_and(|seen| progress.acked <= seen) {
                    return Poll::Ready(Ok(()));
                }
                self.timer.set(Some(self.socket.now() + patience));
            }
        })
        .await
    }

    /// Receives what the client has sent.
    fn poll_came(
        &mut self,
        cx: &mut Context<'_>,
        inbound: &mut Inbound,
        last: bool,
        ended: &mut bool,
    ) -> Result<Came, Failure> {
        for _ in 0..TURN {
            if *ended {
                return Ok(Came::Nothing);
            }
            match self.socket.poll_receive(cx, inbound.room()) {
                Poll::Pending => return Ok(Came::Nothing),
                Poll::Ready(Err(error)) => return Err(Failure::Receive(error)),
                Poll::Ready(Ok(0)) => {
                    *ended = true;
                    return Ok(Came::End);
                }
                Poll::Ready(Ok(_)) if last => {
                    inbound.reset();
                }
                Poll::Ready(Ok(_)) => return Ok(Came::Request),
            }
        }
        cx.waker().wake_by_ref();
        Ok(Came::Nothing)
    }
}
