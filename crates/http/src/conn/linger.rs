//! Closing so that the client gets the last answer.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use sluicegate::{Readiness, Socket, Timer};

/// Silence that ends the wait: a client that has stopped sending has read the
/// answer or never will.
const SILENCE: Duration = Duration::from_secs(2);

/// End of the wait for a client that goes on sending what nobody reads.
const WHOLE: Duration = Duration::from_secs(10);

/// Room for what is thrown away at a time.
const ROOM: usize = 16 * 1024;

/// Says that nothing more comes, then throws away what the client still
/// sends until it closes.
///
/// RFC 9112 section 9.6: closing at once while the client is sending makes
/// the kernel reset the connection, and the reset can erase the answer from
/// the client's receive buffer before it is read.
pub(super) async fn linger<R: Readiness>(socket: &mut Socket<R>, timer: &mut R::Timer) {
    if socket.shutdown().is_err() {
        return;
    }
    let end = socket.now() + WHOLE;
    let mut rest = Vec::with_capacity(ROOM);
    loop {
        timer.set(Some(end.min(socket.now() + SILENCE)));
        let received = poll_fn(|cx| {
            rest.clear();
            if let Poll::Ready(result) = socket.poll_receive(cx, &mut rest) {
                return Poll::Ready(result.unwrap_or(0));
            }
            timer.poll_expired(cx).map(|()| 0)
        })
        .await;
        if received == 0 || socket.now() >= end {
            return;
        }
    }
}
