//! What two parties say to each other after an upgrade.
//!
//! Each way has a spool of its own, and ends by itself: who says nothing more (FIN) is
//! still told what the other says, as with any TCP connection. So is a client whose
//! upstream is gone: what that has said last, it has said before. A tunnel in which neither
//! has said anything for an hour is taken for forgotten, and cut; who wants to keep one
//! open says something now and then, as WebSocket's pings do.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use sluicegate::{Position, Room, Spool, Timer};
use sluicegate_http::Fields;
use sluicegate_http::relay::{Downstream, RelayError};

use super::held::Held;
use super::incoming::failure;
use super::local::{Drive, Local, push_to};
use super::note::Note;
use super::relay::Whose;
use super::relay::tunnel::{self as relay, Do, Side};
use super::scratch::{INPUT, Lent};
use super::trouble::Trouble;
use super::upload::broken;
use super::{Proxy, Shared};

/// How long both may be silent, unless `read_timeout` is more. Much longer than between two reads of
/// a body: there silence is a fault, here it is what most connections do most of the time.
const SILENCE: Duration = Duration::from_secs(if cfg!(test) { 1 } else { 3600 });

/// Both ways between a client and an upstream.
pub(super) type Tunnel = Local<Ends>;

impl Tunnel {
    /// `scratch` has the head of the 101, of `length` bytes, and what the upstream has
    /// said behind it.
    pub(super) fn new(
        proxy: &Proxy,
        shared: &Shared,
        mut held: Held,
        mut scratch: Lent,
        length: usize,
        note: &Arc<Note>,
    ) -> Result<Self, Trouble> {
        let Some(upstream) = held.get() else { return Err(Trouble::Closed) };
        let context = Arc::clone(upstream.socket.context());
        let start = upstream.socket.queued();
        let patience = proxy.rule.read_timeout.max(SILENCE);
        // Also where nobody ever says a word.
        let timer = scratch.timer.get_or_insert_with(|| upstream.socket.timer());
        timer.set(upstream.socket.now().checked_add(patience));
        let mut down = shared.spool(&proxy.moving, &context);
        if scratch.input.len() > length {
            down.push(Bytes::from(std::mem::take(&mut scratch.input)).slice(length..));
        }
        let ends = Ends {
            held,
            relay: relay::Tunnel::new(),
            down,
            up: shared.spool(&proxy.moving, &context),
            start,
            scratch,
            note: Arc::clone(note),
            patience,
        };
        // Of what two parties say nobody knows how long it is.
        Ok(Local::of(None, ends))
    }
}

#[derive(Debug)]
pub(super) struct Ends {
    held: Held,
    /// What is done next.
    relay: relay::Tunnel<Trouble>,
    /// To the client, and to the upstream.
    down: Spool,
    up: Spool,
    /// Where the upstream's stream was when the tunnel began.
    start: Position,
    scratch: Lent,
    note: Arc<Note>,
    patience: Duration,
}

impl Drive for Ends {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        loop {
            match self.relay.next() {
                Do::Hear(side) => {
                    let heard = match side {
                        Side::Client => self.poll_client(cx, client),
                        Side::Upstream => self.poll_upstream(cx, client),
                    };
                    match heard {
                        Poll::Ready(Ok(count)) => self.relay.handle_heard(side, count == 0),
                        Poll::Ready(Err(trouble)) => self.handle_failed(trouble)?,
                        Poll::Pending => {}
                    }
                }
                Do::Tell(Side::Client) => self.tell_client(cx, client)?,
                Do::Tell(Side::Upstream) => {
                    self.tell_upstream(cx).or_else(|trouble| self.handle_failed(trouble))?;
                }
                // Where that cannot be said any more, the next look tells why.
                Do::Finish(Side::Client) => {
                    let _ = client.finish();
                }
                Do::Finish(Side::Upstream) => {
                    let _ = self.held.get().map(|upstream| upstream.socket.shutdown());
                }
                Do::Prolong => self.prolong(),
                Do::Wait => {
                    let has_gathered = ready!(self.poll_silence(cx));
                    if !self.relay.handle_expired(has_gathered) {
                        self.cut(&Trouble::ReadTimeout);
                        return Poll::Ready(Err(Trouble::ReadTimeout.into()));
                    }
                }
                Do::Yield => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Do::End(why) => {
                    why.iter().for_each(|trouble| self.note.fail(trouble));
                    self.held.let_go(false);
                    return Poll::Ready(Ok(None));
                }
            }
        }
    }
}

impl Ends {
    /// Receives what the upstream says: how many bytes, 0 when it says no more.
    fn poll_upstream(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<usize, Trouble>> {
        let Some(upstream) = self.held.get() else { return Poll::Ready(Err(Trouble::Closed)) };
        self.down.poll_fill(cx, &mut upstream.socket, client, u64::MAX).map_err(failure)
    }

    /// Receives what the client says: how many bytes, 0 when it says no more.
    fn poll_client(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<usize, Trouble>> {
        let mut room = self.up.room();
        if let Room::Pipe(pipe, length) = room {
            match client.poll_fill(cx, &pipe, length) {
                Poll::Ready(Ok(count)) => {
                    self.up.handle_filled(pipe, count);
                    return Poll::Ready(Ok(count));
                }
                // It has said something before the pipe was there, or cannot be spliced now.
                Poll::Ready(Err(error)) if is_refusal(&error) => {
                    room = Room::Memory(length);
                }
                // The pipe has no room: what leaves it makes some.
                Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.up.handle_full(&pipe);
                    return Poll::Pending;
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Trouble::ClientGone)),
                // Pipes are for those who say something: it goes back.
                Poll::Pending => return Poll::Pending,
            }
        }
        let Room::Memory(length) = room else { return Poll::Pending };
        let mut buffer = Vec::with_capacity(length.clamp(1, INPUT));
        let received = ready!(client.poll_receive(cx, &mut buffer));
        if let Ok(1..) = received {
            self.up.push(Bytes::from(buffer));
        }
        Poll::Ready(received.map_err(|_| Trouble::ClientGone))
    }

    fn tell_client(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Result<(), RelayError> {
        let has_queued = push_to(client, &mut self.down)?;
        let flushed = client.poll_flush(cx).map_err(|error| {
            self.cut(&Trouble::ClientGone);
            RelayError::Client(error)
        })?;
        let accepted = self.relay.handle_accepted(Side::Client, client.accepted());
        self.down.handle_accepted(accepted);
        let is_all = flushed.is_ready() && self.down.held() == 0;
        self.relay.handle_told(Side::Client, has_queued, is_all);
        Ok(())
    }

    fn tell_upstream(&mut self, cx: &mut Context<'_>) -> Result<(), Trouble> {
        let Some(upstream) = self.held.get() else { return Err(Trouble::Closed) };
        let socket = &mut upstream.socket;
        let mut has_queued = false;
        while socket.room() > 0
            && let Some(segment) = self.up.segment()
        {
            socket.queue(segment).map_err(|full| Trouble::Ours(io::Error::other(full)))?;
            has_queued = true;
        }
        let flushed = socket.poll_flush(cx);
        let flushed = flushed.map_err(|error| Trouble::BodyBroken(broken(error)))?;
        let accepted = socket.accepted_position().since(self.start);
        self.up.handle_accepted(self.relay.handle_accepted(Side::Upstream, accepted));
        let is_all = flushed.is_ready() && self.up.held() == 0;
        self.relay.handle_told(Side::Upstream, has_queued, is_all);
        Ok(())
    }

    /// The time that both may be silent begins.
    fn prolong(&mut self) {
        if let (Some(timer), Some(upstream)) = (&mut self.scratch.timer, self.held.get()) {
            timer.set(upstream.socket.now().checked_add(self.patience));
        }
    }

    /// Ready when that is over. Whether what the upstream has said was only collected, and is
    /// to be taken now.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        if let Some(timer) = &mut self.scratch.timer {
            ready!(timer.poll_expired(cx));
        }
        Poll::Ready(self.held.get().is_some_and(|upstream| upstream.socket.stop_gathering()))
    }

    /// What was done last has failed.
    fn handle_failed(&mut self, trouble: Trouble) -> Result<(), RelayError> {
        let whose = match &trouble {
            Trouble::ClientGone => Whose::Client,
            trouble if trouble.is_upstreams() => Whose::Upstream,
            _ => Whose::Ours,
        };
        self.relay.handle_failed(whose, trouble).map_err(|trouble| {
            self.cut(&trouble);
            RelayError::from(trouble)
        })
    }

    fn cut(&mut self, trouble: &Trouble) {
        self.relay.cut();
        self.note.fail(trouble);
    }
}

fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind as Error;
    matches!(error.kind(), Error::InvalidInput | Error::Unsupported | Error::PermissionDenied)
}

impl Drop for Ends {
    fn drop(&mut self) {
        let (mut bytes, up) = (self.down.bytes(), self.relay.told_upstream());
        self.note.change(|told| {
            std::mem::swap(&mut told.spool, &mut bytes);
            told.request_bytes += up;
        });
        if !self.relay.is_over() {
            self.note.fail(&Trouble::ClientGone);
        }
    }
}

#[cfg(test)]
mod tests;
