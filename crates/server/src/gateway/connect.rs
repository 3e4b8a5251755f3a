//! A connection is made, or it is said why not.

use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sluicegate::{Reactor, Registration, SendContext, Socket, Target};

/// Between two tries where the queue of a Unix socket is full, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_millis(1), Duration::from_millis(50));

/// Connects, within `patience`.
///
/// # Errors
/// As [`Socket::connect`] and [`Socket::poll_connected`]; `TimedOut`.
pub(super) async fn connect(
    reactor: &Reactor,
    context: &Arc<SendContext>,
    target: &Target,
    patience: Duration,
) -> io::Result<Socket<Registration>> {
    let deadline = Instant::now().checked_add(patience);
    let mut pause = PAUSES.0;
    let mut socket = loop {
        match Socket::connect(target, reactor, Arc::clone(context)) {
            // It is only busy: nobody else is told that it were gone.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                reactor.sleep(pause).await;
                pause = (pause * 2).min(PAUSES.1);
            }
            connecting => break connecting?,
        }
    };
    // On this host it mostly stands at once: without a timer.
    let mut sleep = None;
    poll_fn(|cx| {
        if let Poll::Ready(connected) = socket.poll_connected(cx) {
            return Poll::Ready(connected);
        }
        let sleep = sleep.get_or_insert_with(|| {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            Box::pin(reactor.sleep(left.unwrap_or(Duration::MAX)))
        });
        sleep.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    })
    .await?;
    Ok(socket)
}

/// What `future` comes to, unless `patience` is over first.
pub(super) async fn within<F: Future>(
    reactor: &Reactor,
    patience: Duration,
    future: F,
) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut sleep = std::pin::pin!(reactor.sleep(patience));
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
    })
    .await
}
