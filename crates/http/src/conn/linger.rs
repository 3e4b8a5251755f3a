//! Closing so that the client gets the last answer.

use std::future::poll_fn;
use std::task::Poll;
use std::time::{Duration, Instant};

use sluicegate::{Position, Readiness, Socket, Timer};

/// Silence that ends the wait once the client's TCP has everything: a client
/// that has stopped sending has read the answer or never will.
const SILENCE: Duration = Duration::from_secs(2);

/// End of the wait for a client that goes on sending what nobody reads, once
/// its TCP has everything.
const WHOLE: Duration = Duration::from_secs(10);

/// Room for what is thrown away at a time.
const ROOM: usize = 16 * 1024;

/// Receives in a row before the other tasks of the thread have their turn.
const TURN: usize = 64;

/// Says that nothing more comes, then throws away what the client still sends
/// until it closes. `patience`: how long the client may acknowledge nothing of
/// what it has not acknowledged yet.
///
/// RFC 9112 section 9.6: closing while the client is sending, or has sent what
/// was not read, makes the kernel reset the connection, and the reset can erase
/// the answer from the client's receive buffer before it is read.
pub(super) async fn linger<R: Readiness>(
    socket: &mut Socket<R>,
    timer: &mut R::Timer,
    patience: Duration,
) {
    if socket.shutdown().is_err() {
        return;
    }
    let mut rest = Vec::with_capacity(ROOM);
    let mut acked = Position::START;
    // Read afresh: while receives come without a wait, the reactor's stands.
    let start = Instant::now();
    let mut moved = start;
    for turn in 1.. {
        timer.set(Some(Instant::now() + SILENCE));
        let received = poll_fn(|cx| {
            rest.clear();
            if let Poll::Ready(result) = socket.poll_receive(cx, &mut rest) {
                return Poll::Ready(Some(result.unwrap_or(0)));
            }
            timer.poll_expired(cx).map(|()| None)
        })
        .await;
        if received == Some(0) {
            return;
        }
        let Ok(progress) = socket.progress() else { return };
        let now = Instant::now();
        if progress.acked > acked {
            (acked, moved) = (progress.acked, now);
        }
        let over = if progress.acked < progress.accepted {
            now - moved > patience
        } else {
            received.is_none() || now - start > WHOLE
        };
        if over {
            return;
        }
        if turn % TURN == 0 {
            sluicegate::yield_now().await;
        }
    }
}
