//! A TCP socket that is queued to, not written to.

use std::cell::Cell;
use std::fs::File;
use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use sluicegate_sys::file::Stamp;
use sluicegate_sys::open::path_of;
use sluicegate_sys::splice::Pipe;
use sluicegate_sys::{file, outq, sendfile, socket, tcp_info};

use crate::counters::{Counters, WayBytes};
use crate::ledger::{Ledger, Progress};
use crate::pipes::PipePool;
use crate::position::Position;
use crate::pump::{Pumped, SendError, pump};
use crate::queue::{QueueFull, SEGMENTS, SendQueue};
use crate::readiness::{Readiness, Source, Timer};
use crate::segment::Segment;
use crate::strategy::{Strategy, Way};
use crate::transport::Transport;

/// What a socket sends with; shared by all sockets of a worker, or of a program.
#[derive(Debug)]
pub struct SendContext {
    /// How ways are chosen.
    pub strategy: Strategy,
    /// Bytes by way, of all sockets together.
    pub counters: Counters,
    /// Pipes for splice.
    pub pipes: PipePool,
}

/// Pipes of one context unless it is told otherwise: an unprivileged user gets
/// 64 of 1 MiB in all (`pipe-user-pages-soft`), and workers share that.
const PIPES: usize = 32;

impl Default for SendContext {
    fn default() -> Self {
        SendContext {
            strategy: Strategy::default(),
            counters: Counters::default(),
            pipes: PipePool::new(PIPES),
        }
    }
}

/// Bytes that one turn sends at most before other tasks have theirs.
const BUDGET: u64 = 4 * 1024 * 1024;

/// A TCP socket with a send queue.
///
/// Queueing returns at once, whatever the size and the state of the socket.
/// The bytes move while somebody awaits: [`Socket::flush`],
/// [`Socket::accepted`], [`Socket::acked`]. Every segment is owned by the
/// queue, so dropping one of those futures loses and frees nothing; the next
/// goes on where it stopped. Dropping the socket closes it: what the kernel
/// accepted is still delivered, the rest is not.
#[derive(Debug)]
pub struct Socket<R: Readiness> {
    // Dropped before the descriptor, as `Source::watch` asks.
    readiness: R,
    fd: OwnedFd,
    context: Arc<SendContext>,
    /// Where the stream stands while nothing is queued.
    position: Position,
    /// There only while something is queued, so that an idle socket is small.
    pending: Option<Box<Pending>>,
}

#[derive(Debug)]
struct Pending {
    queue: SendQueue,
    ledger: Ledger,
    pipe: Option<Pipe>,
}

thread_local! {
    /// What the last socket of this thread that had sent everything needed: most
    /// answers are sent whole before the next one is queued, and two
    /// allocations are a fifth of what a small one costs outside the kernel.
    static SPARE: Cell<Option<Box<Pending>>> = const { Cell::new(None) };
}

/// Segments that a spare queue may have room for: one that was longer is freed.
const SPARE_ROOM: usize = 16;

impl Pending {
    fn at(position: Position) -> Box<Self> {
        // A thread that is ending has none left.
        let spare = SPARE.try_with(Cell::take).ok().flatten();
        let Some(mut pending) = spare else {
            let queue = SendQueue::new(position);
            return Box::new(Pending { queue, ledger: Ledger::new(position), pipe: None });
        };
        pending.queue.restart(position);
        pending.ledger = Ledger::new(position);
        pending
    }

    /// Keeps it for the next socket.
    fn keep(self: Box<Self>) {
        if self.queue.is_empty() && self.queue.capacity() <= SPARE_ROOM {
            let _ = SPARE.try_with(|spare| spare.set(Some(self)));
        }
    }
}

impl<R: Readiness> Socket<R> {
    /// Takes over a connected TCP socket and watches it with `source`: makes
    /// it non-blocking and switches Nagle's algorithm off, because the queue
    /// itself knows what belongs together.
    ///
    /// # Errors
    /// As [`Source::watch`], and `EOPNOTSUPP` when it is not TCP.
    pub fn new<S>(stream: impl Into<OwnedFd>, source: &S) -> io::Result<Self>
    where
        S: Source<Readiness = R>,
    {
        let fd = stream.into();
        socket::set_nonblocking(fd.as_fd())?;
        Self::with_context(fd, source, Arc::new(SendContext::default()))
    }

    /// As [`Socket::new`], for a descriptor that is non-blocking already, as
    /// [`crate::Listener::accept`] returns it, sending with a shared `context`.
    ///
    /// # Errors
    /// As [`Socket::new`].
    pub fn with_context<S>(fd: OwnedFd, source: &S, context: Arc<SendContext>) -> io::Result<Self>
    where
        S: Source<Readiness = R>,
    {
        socket::set_nodelay(fd.as_fd())?;
        let readiness = source.watch(fd.as_fd())?;
        Ok(Socket { readiness, fd, context, position: Position::START, pending: None })
    }

    /// Queues a segment and returns the position at which it ends, at once.
    ///
    /// # Errors
    /// [`QueueFull`]: nothing was queued.
    pub fn queue(&mut self, segment: Segment) -> Result<Position, QueueFull> {
        let way = match &segment {
            Segment::Memory(_) => Way::Copy,
            Segment::File(range) if range.copied => Way::Copy,
            Segment::File(range) => self.context.strategy.for_file(range.len()),
        };
        let position = self.position;
        let pending = self.pending.get_or_insert_with(|| Pending::at(position));
        let Strategy { forced, join_up_to, .. } = self.context.strategy;
        if forced.is_none() && !segment.is_empty() && pending.queue.room() > 0 {
            pending.queue.announce_more(join_up_to);
        }
        pending.queue.push(segment, way)
    }

    /// Where the stream ends that was queued so far.
    #[must_use]
    pub fn queued(&self) -> Position {
        self.pending.as_ref().map_or(self.position, |pending| pending.queue.end())
    }

    /// Sends what is queued, as far as the socket takes it. Ready when all of
    /// it was accepted.
    ///
    /// # Errors
    /// [`SendError`]; the connection is then of no further use.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        while let Some(pending) = &mut self.pending {
            let edge = ready!(self.readiness.poll_writable(cx));
            let Pending { queue, ledger, pipe } = &mut **pending;
            let before = ledger.ways();
            let mut kernel = Kernel { fd: self.fd.as_fd(), pipe, pipes: &self.context.pipes };
            let result = pump(queue, ledger, &mut kernel, BUDGET);
            let ways = ledger.ways();
            self.context.counters.add(WayBytes {
                copied: ways.copied - before.copied,
                sendfile: ways.sendfile - before.sendfile,
                spliced: ways.spliced - before.spliced,
            });
            match result? {
                Pumped::Drained => self.settle(),
                Pumped::Blocked => {
                    // Pipes are few: an empty one serves another meanwhile.
                    if pipe.as_ref().is_some_and(|pipe| pipe.contained() == 0)
                        && let Some(pipe) = pipe.take()
                    {
                        self.context.pipes.give_back(pipe);
                    }
                    self.readiness.clear_writable(edge);
                }
                Pumped::Spent => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Nothing is to be sent any more: keep the position, give the rest back.
    fn settle(&mut self) {
        if let Some(mut pending) = self.pending.take() {
            self.position = pending.queue.accepted();
            if let Some(pipe) = pending.pipe.take() {
                self.context.pipes.give_back(pipe);
            }
            pending.keep();
        }
    }

    /// Sends everything that is queued.
    ///
    /// # Errors
    /// As [`Socket::poll_flush`].
    pub async fn flush(&mut self) -> Result<(), SendError> {
        poll_fn(|cx| self.poll_flush(cx)).await
    }

    /// Sends until the kernel has accepted everything before `end`.
    ///
    /// # Errors
    /// As [`Socket::poll_flush`]; `InvalidInput` for a position that was never queued.
    pub async fn accepted(&mut self, end: Position) -> Result<(), SendError> {
        if end > self.queued() {
            return Err(SendError::Connection(io::ErrorKind::InvalidInput.into()));
        }
        poll_fn(|cx| match self.poll_flush(cx)? {
            Poll::Pending if self.accepted_position() < end => Poll::Pending,
            _ => Poll::Ready(Ok(())),
        })
        .await
    }

    /// Segments that can still be queued.
    #[must_use]
    pub fn room(&self) -> usize {
        self.pending.as_ref().map_or(SEGMENTS, |pending| pending.queue.room())
    }

    /// Where the last byte that the kernel accepted ends.
    #[must_use]
    pub fn accepted_position(&self) -> Position {
        self.pending.as_ref().map_or(self.position, |pending| pending.queue.accepted())
    }

    /// Sends until the peer's TCP has acknowledged everything before `end`.
    ///
    /// Asks the kernel (`SIOCOUTQ`) now and then: at first after a fifth of a
    /// millisecond, at last a hundred times a second.
    ///
    /// # Errors
    /// As [`Socket::accepted`]; `ConnectionReset` when the connection ended
    /// before the acknowledgement came.
    pub async fn acked(&mut self, end: Position) -> Result<(), SendError> {
        const FIRST: Duration = Duration::from_micros(200);
        const LAST: Duration = Duration::from_millis(10);
        self.accepted(end).await?;
        let mut timer = None;
        let mut pause = FIRST;
        loop {
            if self.progress().map_err(SendError::Connection)?.acked >= end {
                return Ok(());
            }
            // A connection that is gone never acknowledges: its count stays.
            let info = tcp_info::tcp_info(self.fd.as_fd()).map_err(SendError::Connection)?;
            if info.closed {
                return Err(SendError::Connection(io::ErrorKind::ConnectionReset.into()));
            }
            let timer: &mut R::Timer = timer.get_or_insert_with(|| self.readiness.timer());
            timer.set(Some(Instant::now() + pause));
            poll_fn(|cx| timer.poll_expired(cx)).await;
            pause = (pause * 2).min(LAST);
        }
    }

    /// How far the stream has come, asked of the kernel now.
    ///
    /// # Errors
    /// As `ioctl(2)`.
    pub fn progress(&mut self) -> io::Result<Progress> {
        let unacked = outq::unacknowledged(self.fd.as_fd())?;
        let queued = self.queued();
        let (accepted, acked) = match &mut self.pending {
            Some(pending) => {
                pending.ledger.handle_unacked(unacked);
                (pending.ledger.accepted(), pending.ledger.acked())
            }
            None => {
                let mut ledger = Ledger::new(self.position);
                ledger.handle_unacked(unacked);
                (ledger.accepted(), ledger.acked())
            }
        };
        Ok(Progress { queued, accepted, acked })
    }

    /// Takes back what is queued and not accepted. Returns where the stream
    /// then ends. Bytes that already were in a pipe are gone with it.
    pub fn cancel(&mut self) -> Position {
        if let Some(pending) = &mut self.pending {
            pending.queue.cancel();
            self.settle();
        }
        self.position
    }

    /// Ready when something can be received, or the peer sends no more.
    pub fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.readiness.poll_readable(cx).map(|_| ())
    }

    /// Ready once the peer has said that it sends no more, or the connection is
    /// gone. It may still be reading: only sending tells.
    pub fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.readiness.poll_hung_up(cx)
    }

    /// Receives into the spare room of `buffer`; 0 when the peer sends no more.
    ///
    /// # Errors
    /// `ConnectionReset` and the like; `InvalidInput` when there is no room.
    pub fn poll_receive(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
    ) -> Poll<io::Result<usize>> {
        loop {
            let edge = ready!(self.readiness.poll_readable(cx));
            let room = buffer.capacity() - buffer.len();
            match socket::receive(self.fd.as_fd(), buffer) {
                Ok(count) => {
                    // A short read took all there was: the next byte makes a
                    // new edge, and the call that would find nothing is saved.
                    // Not so the end of the stream, whose edge has passed.
                    if count < room && !edge.hung_up {
                        self.readiness.clear_readable(edge);
                    }
                    return Poll::Ready(Ok(count));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.readiness.clear_readable(edge);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Receives into the spare room of `buffer`, as [`Socket::poll_receive`].
    ///
    /// # Errors
    /// As [`Socket::poll_receive`].
    pub async fn receive(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        poll_fn(|cx| self.poll_receive(cx, buffer)).await
    }

    /// Says that nothing more will be sent, after what was accepted so far.
    ///
    /// # Errors
    /// `NotConnected` once the connection is gone.
    pub fn shutdown(&mut self) -> io::Result<()> {
        socket::shutdown_write(self.fd.as_fd())
    }

    /// Closes by a reset: the peer learns that what it has is not the whole.
    pub fn abort(self) {
        // Where the option is refused the connection is gone already.
        let _ = socket::reset_on_close(self.fd.as_fd());
    }

    /// A timer on the clock of the socket's source.
    #[must_use]
    pub fn timer(&self) -> R::Timer {
        self.readiness.timer()
    }

    /// The time, for deadlines: at most one turn of the socket's source old.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.readiness.now()
    }

    /// The peer's address; `None` when it is no internet address.
    ///
    /// # Errors
    /// `NotConnected` once the connection is gone.
    pub fn peer_address(&self) -> io::Result<Option<SocketAddr>> {
        socket::peer_address(self.fd.as_fd())
    }

    /// What this socket sends with.
    #[must_use]
    pub fn context(&self) -> &Arc<SendContext> {
        &self.context
    }
}

impl<R: Readiness> Drop for Socket<R> {
    fn drop(&mut self) {
        self.cancel();
    }
}

impl<R: Readiness> AsFd for Socket<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The kernel's end of a socket.
struct Kernel<'a> {
    fd: BorrowedFd<'a>,
    pipe: &'a mut Option<Pipe>,
    pipes: &'a PipePool,
}

impl Transport for Kernel<'_> {
    type File = Arc<File>;

    fn send(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        match slices {
            // One slice needs no message header.
            [slice] => socket::send(self.fd, slice, more),
            slices => socket::send_vectored(self.fd, slices, more),
        }
    }

    fn read(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        file::read_at(file.as_fd(), offset, len, buffer)
    }

    fn version(&mut self, file: &Arc<File>) -> io::Result<Stamp> {
        file::stamp(file.as_fd())
    }

    fn name(&self, file: &Arc<File>) -> String {
        path_of(file.as_fd())
            .map_or_else(|_| "the file".to_owned(), |path| format!("`{}`", path.display()))
    }

    fn sendfile(&mut self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<usize> {
        sendfile::sendfile(self.fd, file.as_fd(), offset, len)
    }

    fn fill(&mut self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<usize> {
        if self.pipe.is_none() {
            *self.pipe = self.pipes.take();
        }
        let Some(pipe) = self.pipe else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let len = len.min(pipe.capacity());
        pipe.fill_from_file(file.as_fd(), offset, len)
    }

    fn drain(&mut self, len: usize, more: bool) -> io::Result<usize> {
        let Some(pipe) = self.pipe else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        pipe.drain_to_socket(self.fd, len, more)
    }
}
