//! How bytes come into a spool.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::core::{Crowd, LEAST, ROUND, Tier, Wants};
use super::holder::{Holder, give_back, take_buffer};
use super::{Sink, Spool};
use crate::pipes::LentPipe;
use crate::readiness::Readiness;
use crate::socket::Socket;

/// How a try to put bytes into one place ended.
pub(super) enum Filled {
    Done(usize),
    /// The source had nothing, and wakes the task.
    Empty,
    /// Another place is to be tried.
    Refused,
    Failed(io::Error),
}

impl From<Poll<io::Result<usize>>> for Filled {
    fn from(received: Poll<io::Result<usize>>) -> Self {
        match received {
            Poll::Ready(Ok(count)) => Filled::Done(count),
            Poll::Ready(Err(error)) => Filled::Failed(error),
            Poll::Pending => Filled::Empty,
        }
    }
}

pub(super) fn fits(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

impl Spool {
    /// Moves at most `limit` bytes, which is not 0, from `from` into the spool. 0:
    /// it sends no more. Pending while there is nothing to receive, or no room:
    /// `from`, the sink, or [`Spool::handle_accepted`] has the task go on. While the
    /// sink has enough to do, what comes from `from` is collected: see
    /// [`Socket::stop_gathering`].
    ///
    /// # Errors
    /// As `splice(2)` and `recv(2)` on `from`. A failure of the sink is told by who
    /// sends to it, a failure of the disk by [`Spool::take_trouble`]: the source
    /// waits then.
    pub fn poll_fill<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket<R>,
        sink: &mut dyn Sink,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        self.now = Some(from.now());
        self.is_stuck = false;
        let filled = self.poll_filled(cx, from, sink, limit);
        if filled.is_ready() || !self.is_short {
            self.share.leave();
        }
        filled
    }

    fn poll_filled<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket<R>,
        sink: &mut dyn Sink,
        limit: u64,
    ) -> Poll<io::Result<usize>> {
        loop {
            self.is_short = false;
            // Nothing is taken for a source that has nothing.
            if from.poll_readable(cx).is_pending() {
                self.core.handle_source_empty();
                from.set_gathers(self.core.is_ahead(limit));
                return Poll::Pending;
            }
            let wants = self.wants();
            if wants.nothing() {
                self.is_stuck = true;
                from.handle_unwanted();
                return Poll::Pending;
            }
            match self.fill(cx, from, sink, wants, limit) {
                Some(Filled::Done(0)) => {
                    self.core.expect(Some(0));
                    return Poll::Ready(Ok(0));
                }
                Some(Filled::Done(count)) => {
                    // Nothing more of this may come, and what is behind it is awaited.
                    if !self.core.is_ahead(limit - (count as u64).min(limit)) {
                        from.set_gathers(false);
                    }
                    return Poll::Ready(Ok(count));
                }
                Some(Filled::Failed(error)) => return Poll::Ready(Err(error)),
                Some(Filled::Empty | Filled::Refused) => {}
                // What others give back is looked for anew.
                None if self.is_short && self.share.wait(cx) => {}
                None => {
                    self.is_stuck = true;
                    from.handle_unwanted();
                    return Poll::Pending;
                }
            }
        }
    }

    pub(super) fn wants(&mut self) -> Wants {
        if !self.core.takes_pipes() {
            return self.core.poll_wants(Crowd::default());
        }
        let pool = &self.context.pipes;
        let (is_dense, is_slow, share) = (pool.is_scarce(), self.pace.is_slow(), pool.share());
        self.core.poll_wants(Crowd { is_dense, is_slow, share })
    }

    /// Puts bytes into the first place that takes them; `None` when there is none.
    fn fill<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket<R>,
        sink: &mut dyn Sink,
        wants: Wants,
        limit: u64,
    ) -> Option<Filled> {
        if wants.loose > 0
            && let Some(pipe) = self.pipe()
        {
            let filled = self.reserved(wants.loose.min(limit), |spool, granted| {
                spool.fill_pipe(cx, from, pipe, granted)
            });
            if filled.is_some() {
                return filled;
            }
        }
        if self.has_ring(wants)
            && let Some(filled) = self.fill_ring(cx, from, sink, limit)
        {
            return Some(filled);
        }
        if wants.loose > 0 {
            let filled = self.reserved(wants.loose.min(limit), |spool, granted| {
                spool.fill_buffer(cx, from, granted)
            });
            if filled.is_some() {
                return filled;
            }
        }
        match wants.disk > 0 {
            true if self.has_disk() => self.fill_disk(cx, from, sink, wants.disk.min(limit)),
            // Memory takes now what was not for it.
            true => Some(Filled::Refused),
            false => None,
        }
    }

    /// Fills with as much of `bytes` as the budget has; `None` if it has nothing.
    /// What keeps a body moving is to be had always.
    fn reserved(
        &mut self,
        bytes: u64,
        fill: impl FnOnce(&mut Self, u64) -> Filled,
    ) -> Option<Filled> {
        let mut granted = self.share.take(bytes);
        let least = LEAST.saturating_sub(self.core.loose()).min(bytes);
        if granted < least {
            self.share.take_anyway(least - granted);
            granted = least;
        }
        if granted == 0 {
            self.is_short = true;
            return None;
        }
        let before = self.core.loose();
        let filled = fill(self, granted);
        self.share.give_back(granted - (self.core.loose() - before));
        Some(filled)
    }

    /// The pipe that the next bytes go into, and whether it is a new one; `None`
    /// where they go elsewhere.
    pub(super) fn pipe(&mut self) -> Option<(Arc<LentPipe>, bool)> {
        if !self.core.takes_pipes() {
            return None;
        }
        if let Some(last) = self.core.open()
            && let Holder::Pipe(pipe) = &last.holder
            && (pipe.contained() as u64) < ROUND
        {
            return Some((Arc::clone(pipe), false));
        }
        let pool = &self.context.pipes;
        let pipe = match self.core.pipes() {
            _ if self.core.held() == 0 => pool.take(),
            pipes if pipes < pool.share() => pool.take_to_wait(),
            _ => None,
        };
        Some((Arc::new(pipe?), true))
    }

    fn fill_pipe<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket<R>,
        (pipe, is_new): (Arc<LentPipe>, bool),
        granted: u64,
    ) -> Filled {
        let len = granted.min(ROUND - (pipe.contained() as u64).min(ROUND));
        match from.poll_splice(cx, &pipe, fits(len)) {
            Poll::Ready(Ok(count)) if count > 0 => {
                self.handle_piped(pipe, is_new, count as u64);
                Filled::Done(count)
            }
            Poll::Ready(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                self.core.handle_full();
                Filled::Refused
            }
            Poll::Ready(Err(error)) if is_refusal(&error) => {
                self.core.handle_no_pipes();
                Filled::Refused
            }
            other => other.into(),
        }
    }

    pub(super) fn handle_piped(&mut self, pipe: Arc<LentPipe>, is_new: bool, count: u64) {
        if is_new {
            self.core.handle_new(Tier::Pipe, Holder::Pipe(pipe), count, true);
        } else {
            self.core.handle_filled(count);
        }
        self.bytes.add(Tier::Pipe, count);
    }

    fn fill_buffer<R: Readiness>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket<R>,
        granted: u64,
    ) -> Filled {
        let open = match self.core.open() {
            Some(last) => match &mut last.holder {
                // One in which small pieces were collected may be full.
                Holder::Buffer(buffer) if buffer.len() < buffer.capacity() => Some(buffer),
                _ => None,
            },
            None => None,
        };
        let (received, is_full);
        if let Some(buffer) = open {
            received = from.poll_receive_some(cx, buffer, fits(granted));
            is_full = buffer.len() == buffer.capacity();
            self.core.handle_filled(count_of(&received));
        } else {
            let mut buffer = take_buffer(granted);
            received = from.poll_receive_some(cx, &mut buffer, fits(granted));
            is_full = buffer.len() == buffer.capacity();
            match count_of(&received) {
                0 => give_back(Holder::Buffer(buffer)),
                count => self.core.handle_new(Tier::Memory, Holder::Buffer(buffer), count, true),
            }
        }
        if is_full {
            self.core.close();
        }
        self.bytes.add(Tier::Memory, count_of(&received));
        received.into()
    }
}

pub(super) fn count_of(received: &Poll<io::Result<usize>>) -> u64 {
    match received {
        Poll::Ready(Ok(count)) => *count as u64,
        _ => 0,
    }
}

/// The way does not exist for this socket, or is forbidden here.
fn is_refusal(error: &io::Error) -> bool {
    use io::ErrorKind as Error;
    matches!(error.kind(), Error::InvalidInput | Error::Unsupported | Error::PermissionDenied)
}
