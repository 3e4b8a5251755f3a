//! A TCP socket that is queued to, not written to; or, towards a server of the
//! same host, one of the Unix domain.

mod close;
mod connect;
mod context;
mod foreign;
mod kernel;
mod peek;
mod pending;
mod progress;
mod receive;
mod regions;
mod relayed;

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use sluicegate_sys::socket;

use crate::counters::WayBytes;
use crate::limits::Filling;
use crate::locality::{Locality, Locator};
use crate::position::Position;
use crate::pump::{Pumped, SendError, pump};
use crate::queue::{Gate, QueueError, SEGMENTS};
use crate::readiness::{Readiness, Source};
use crate::ring::{Alarm, Connection};
use crate::segment::Segment;
use crate::strategy::{Strategy, Way};
pub use connect::Target;
pub use context::SendContext;
use kernel::{Kernel, References, Reports};
use pending::Pending;
pub use progress::AckWait;
pub use regions::AcquireError;
use relayed::LeaseWait;

/// Segments that the spare queue of a socket with rings may have room for.
const SPARE_OF_RINGS: usize = 256;

/// Bytes that one turn sends at most before other tasks have theirs.
const BUDGET: u64 = 4 * 1024 * 1024;

/// A TCP socket with a send queue.
///
/// Queueing returns at once, whatever the size and the state of the socket.
/// The bytes move while somebody awaits: [`Socket::flush`],
/// [`Socket::accepted`], [`Socket::acked`], [`Socket::released`]. Every segment
/// is owned by the queue, so dropping one of those futures loses and frees
/// nothing; the next goes on where it stopped. Dropping the socket closes it:
/// what the kernel accepted is still delivered, the rest is not; memory that
/// the kernel still refers to stays until it is released ([`crate::lingering`]).
#[derive(Debug)]
pub struct Socket<R: Readiness> {
    // Dropped before the descriptor, as `Source::watch` asks.
    readiness: R,
    /// There until the socket is dropped.
    fd: Option<OwnedFd>,
    /// The handshake was seen to be over.
    is_established: bool,
    /// Not of the Unix domain, whose sockets have no acknowledgements, and take
    /// nothing by reference.
    is_tcp: bool,
    /// What comes is collected before the task is woken.
    gathers: bool,
    /// How often something was there to be received and not wanted since a receive last
    /// found nothing; `receive::QUIET`: what comes wakes nobody until one does.
    unwanted: u8,
    context: Arc<SendContext>,
    /// Where the stream stands while nothing is queued.
    position: Position,
    /// There only while something is queued or lent, so that an idle socket is
    /// small.
    pending: Option<Box<Pending>>,
    /// There once something out of the ordinary was asked of the socket.
    learned: Option<Box<Learned<R::Timer>>>,
}

/// What a socket keeps for its whole life, when more than sending is asked of it.
#[derive(Debug)]
struct Learned<T> {
    locator: Locator,
    /// Calls by reference so far: the kernel's number of the next.
    calls: u32,
    references: References,
    reports: Reports,
    /// We have said that nothing more is sent.
    is_shut: bool,
    /// What rings know it by.
    connection: Option<Connection>,
    /// Rings when a region is taken from it.
    alarm: Option<Arc<Alarm>>,
    /// The next memory is to ask where the peer is.
    asks: bool,
    /// What it needed when it had last sent everything, if it sends from rings.
    spare: Option<Box<Pending>>,
    /// When to look for a partition again.
    lease: Option<LeaseWait<T>>,
}

impl<T> Learned<T> {
    fn new(locator: Locator) -> Self {
        Learned {
            locator,
            calls: 0,
            references: References::default(),
            reports: Reports::default(),
            is_shut: false,
            connection: None,
            alarm: None,
            asks: false,
            spare: None,
            lease: None,
        }
    }

    /// Of a socket that has no error queue to speak of, whose peer is on this host.
    fn of_unix() -> Self {
        Learned {
            references: References::Refused,
            reports: Reports::Refused,
            ..Learned::new(Locator::new(Some(Locality::Local)))
        }
    }
}

impl<R: Readiness> Socket<R> {
    /// Takes over a connected TCP socket and watches it with `source`: makes
    /// it non-blocking and switches Nagle's algorithm off, because the queue
    /// itself knows what belongs together. Time stamps that its former owner
    /// asked for (SO_TIMESTAMPING) end when acknowledgements are awaited.
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
        context.limits.apply(fd.as_fd())?;
        let readiness = source.watch(fd.as_fd())?;
        Ok(Socket {
            readiness,
            fd: Some(fd),
            is_established: false,
            is_tcp: true,
            gathers: false,
            unwanted: 0,
            context,
            position: Position::START,
            pending: None,
            learned: None,
        })
    }

    /// Queues a segment and returns the position at which it ends, at once.
    ///
    /// # Errors
    /// [`QueueError`]: nothing was queued.
    pub fn queue(&mut self, segment: impl Into<Segment>) -> Result<Position, QueueError> {
        self.queue_segment(segment.into())
    }

    /// Sends memory past the queue, where nothing is queued, nothing out of the
    /// ordinary was asked of the socket, and so little memory would be copied
    /// anyway. Returns how many bytes the kernel accepted; what is left, which
    /// may be all, is to be queued. A small answer of the server takes a seventh less
    /// of our own instructions so.
    ///
    /// # Errors
    /// [`SendError::Connection`]; the connection is then of no further use.
    pub fn send_now(&mut self, bytes: &[u8]) -> Result<usize, SendError> {
        let is_copied = self.context.strategy.for_memory(bytes.len() as u64) == Way::Copy;
        if self.pending.is_some() || self.learned.is_some() || !is_copied || bytes.is_empty() {
            return Ok(0);
        }
        match socket::send(self.fd(), bytes, false) {
            // As `pump` has it: asking again would never end.
            Ok(0) => Err(SendError::Connection(io::ErrorKind::WriteZero.into())),
            Ok(count) => {
                self.position = self.position.advanced(count as u64);
                self.context.counters.add(WayBytes { copied: count as u64, ..WayBytes::default() });
                Ok(count)
            }
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted
                ) =>
            {
                Ok(0)
            }
            Err(error) => Err(SendError::Connection(error)),
        }
    }

    fn queue_segment(&mut self, segment: Segment) -> Result<Position, QueueError> {
        if let Segment::Region(region) = segment {
            return self.queue_region(&region);
        }
        let mut way = self.way_of(&segment);
        let holds = self.pending.as_ref().map_or(0, |pending| pending.buffers.len());
        let held = match &segment {
            Segment::Lent(_) if holds >= SEGMENTS => {
                return Err(QueueError::Full { limit: SEGMENTS });
            }
            Segment::Lent(bytes) => Some((bytes.clone(), true)),
            // One that nobody asks back is rather copied than refused.
            Segment::Memory(_) if holds >= SEGMENTS => {
                way = Way::Copy;
                None
            }
            Segment::Memory(bytes) if way == Way::Zerocopy => Some((bytes.clone(), false)),
            _ => None,
        };
        let position = self.position;
        let calls = self.learned.as_ref().map_or(0, |learned| learned.calls);
        let learned = &mut self.learned;
        let pending = self.pending.get_or_insert_with(|| {
            let own = learned.as_mut().and_then(|learned| learned.spare.take());
            Pending::at(position, calls, own)
        });
        let Strategy { forced, join_up_to, .. } = self.context.strategy;
        if forced.is_none() && !segment.is_empty() && pending.queue.room() > 0 {
            pending.queue.announce_more(join_up_to);
        }
        let start = pending.queue.end();
        let end = pending.queue.push(segment, way)?;
        if let Some((bytes, comes_back)) = held {
            pending.buffers.hold(start, end, bytes, comes_back);
        }
        Ok(end)
    }

    fn way_of(&mut self, segment: &Segment) -> Way {
        let strategy = &self.context.strategy;
        match segment {
            // They choose for themselves.
            Segment::Region(_) | Segment::Piped(_) => Way::Copy,
            Segment::File(range) if range.copied => Way::Copy,
            Segment::File(range) => strategy.for_file(range.len()),
            Segment::Memory(bytes) | Segment::Lent(bytes) => {
                let way = strategy.for_memory(bytes.len() as u64);
                let is_forced = strategy.forced == Some(Way::Zerocopy);
                if !bytes.is_empty() && self.is_to_ask() {
                    return Way::Zerocopy;
                }
                if bytes.is_empty()
                    || way == Way::Copy
                    || (self.locality() == Locality::Local && !is_forced)
                {
                    return Way::Copy;
                }
                // A look at the peer's address, once.
                self.learn();
                way
            }
        }
    }

    /// Where the peer is, as far as it is known. It is learned when memory is
    /// sent that would go by reference.
    #[must_use]
    pub fn locality(&self) -> Locality {
        self.learned.as_ref().map_or(Locality::Unknown, |learned| learned.locator.locality())
    }

    fn learn(&mut self) -> &mut Learned<R::Timer> {
        let (rule, fd, is_tcp) = (&self.context.locality, &self.fd, self.is_tcp);
        self.learned.get_or_insert_with(|| {
            if !is_tcp {
                return Box::new(Learned::of_unix());
            }
            let asks = rule.forced.is_some() || !rule.trusted_remote.is_empty();
            let peer =
                asks.then(|| fd.as_ref().and_then(|fd| socket::peer_address(fd.as_fd()).ok()));
            let peer = peer.flatten().flatten().map(|address| address.ip());
            Box::new(Learned::new(Locator::new(rule.of(peer))))
        })
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match &self.fd {
            Some(fd) => fd.as_fd(),
            None => unreachable!("the descriptor is taken when the socket is dropped, and last"),
        }
    }

    /// Where the stream ends that was queued so far.
    #[must_use]
    pub fn queued(&self) -> Position {
        self.pending.as_ref().map_or(self.position, |pending| pending.queue.end())
    }

    /// Whether nothing is queued, and no buffer waits to be given back: a flush would find
    /// nothing to do.
    #[inline]
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.pending.is_none()
    }

    /// Sends what is queued, as far as the socket takes it. Ready when all of
    /// it was accepted.
    ///
    /// # Errors
    /// [`SendError`]; the connection is then of no further use.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        self.poll_flush_counted(cx, &mut WayBytes::default())
    }

    /// As [`Socket::poll_flush`]; adds what it sends to `sent`, by way. What
    /// went by reference and was copied after all is only told later, and not
    /// here.
    ///
    /// # Errors
    /// As [`Socket::poll_flush`]; what was sent before is in `sent`.
    pub fn poll_flush_counted(
        &mut self,
        cx: &mut Context<'_>,
        sent: &mut WayBytes,
    ) -> Poll<Result<(), SendError>> {
        loop {
            self.take_reports();
            match &self.pending {
                None => return Poll::Ready(Ok(())),
                Some(pending) if pending.queue.is_empty() => {
                    self.settle();
                    return Poll::Ready(Ok(()));
                }
                Some(_) => {}
            }
            let alarm = self.learned.as_ref().and_then(|learned| learned.alarm.as_ref());
            if alarm.is_some_and(|alarm| alarm.is_cut()) {
                return Poll::Ready(Err(SendError::CutLoose));
            }
            let Poll::Ready(edge) = self.readiness.poll_writable(cx) else {
                if let Some(alarm) = alarm {
                    alarm.set(cx.waker());
                }
                return Poll::Pending;
            };
            self.handle_room();
            match self.turn(sent)? {
                Pumped::Drained => {}
                Pumped::Blocked => {
                    self.readiness.clear_writable(edge);
                    if let Some(pending) = &mut self.pending {
                        pending.filling.handle_full(Instant::now());
                    }
                }
                Pumped::Spent => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
    }

    /// The socket has room again, if it was full: bounds what it may hold by how
    /// long that took.
    fn handle_room(&mut self) {
        let (Some(pending), Some(bounds)) = (&mut self.pending, &self.context.unsent) else {
            return;
        };
        if !self.is_tcp {
            return;
        }
        if let Some(bytes) = pending.filling.handle_room(bounds)
            && let Some(fd) = &self.fd
        {
            let bytes = bytes.min(self.context.limits.unsent.unwrap_or(u32::MAX));
            // Without the bound it holds what the kernel allows.
            let _ = socket::set_unsent_limit(fd.as_fd(), bytes);
        }
    }

    /// Sends as much as one turn may, and adds it to `sent`.
    fn turn(&mut self, sent: &mut WayBytes) -> Result<Pumped, SendError> {
        let (Some(pending), Some(fd)) = (&mut self.pending, &self.fd) else {
            return Ok(Pumped::Drained);
        };
        let Pending { queue, ledger, pipe, buffers, report, regions, .. } = &mut **pending;
        let (before, first_call) = (ledger.ways(), ledger.next_call());
        let (mut reports, mut references) = Default::default();
        if let Some(learned) = &self.learned {
            let is_forced = self.context.strategy.forced == Some(Way::Zerocopy);
            let gate = if is_forced { Gate::Open } else { learned.locator.gate() };
            queue.set_gate(gate);
            // What this turn sends is to be within the answer.
            queue.set_acks(learned.locator.acks(queue.accepted().advanced(BUDGET)));
            (reports, references) = (learned.reports, learned.references);
        }
        let pipes = &self.context.pipes;
        let position = queue.accepted();
        let mut kernel =
            Kernel { fd: fd.as_fd(), pipe, pipes, position, report, reports, references };
        let result = pump(queue, ledger, &mut kernel, BUDGET);
        (reports, references) = (kernel.reports, kernel.references);
        if let Some(learned) = &mut self.learned {
            (learned.reports, learned.references) = (reports, references);
            learned.calls = ledger.next_call();
            if learned.calls != first_call {
                learned.locator.handle_call(first_call);
            }
        }
        let ways = ledger.ways().since(&before);
        self.context.counters.add(ways);
        sent.add_all(&ways);
        // Pipes are few: an empty one serves another meanwhile.
        if let Ok(Pumped::Blocked) = &result {
            if pipe.as_ref().is_some_and(|pipe| pipe.contained() == 0) {
                *pipe = None;
            }
            relayed::give_way(queue, pipes);
        }
        buffers.sweep(ledger);
        while let Some(sent) = queue.poll_sent_region() {
            regions.push(sent, ledger);
        }
        result
    }

    /// Nothing is to be sent any more: keep the position, give the rest back.
    fn settle(&mut self) {
        if let Some(pending) = &mut self.pending {
            self.position = pending.queue.accepted();
            pending.pipe = None;
            if pending.is_over()
                && let Some(pending) = self.pending.take()
            {
                match &mut self.learned {
                    Some(learned)
                        if learned.connection.is_some()
                            && pending.queue.capacity() <= SPARE_OF_RINGS =>
                    {
                        learned.spare = Some(pending);
                    }
                    _ => pending.keep(),
                }
            }
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
        poll_fn(|cx| match self.poll_flush(cx) {
            // A failure behind it is told to who waits for that.
            _ if self.accepted_position() >= end => Poll::Ready(Ok(())),
            flushed => flushed,
        })
        .await
    }

    /// Segments that can still be queued, also of memory that comes back.
    #[must_use]
    pub fn room(&self) -> usize {
        self.pending.as_ref().map_or(SEGMENTS, |pending| {
            pending.queue.room().min(SEGMENTS.saturating_sub(pending.buffers.len()))
        })
    }

    /// Where the last byte that the kernel accepted ends.
    #[must_use]
    pub fn accepted_position(&self) -> Position {
        self.pending.as_ref().map_or(self.position, |pending| pending.queue.accepted())
    }

    /// Takes back what is queued and not accepted. Returns where the stream
    /// then ends. Bytes that already were in a pipe are gone with it. Buffers
    /// that were lent can be had from [`Socket::released`] as before.
    pub fn cancel(&mut self) -> Position {
        if let Some(pending) = &mut self.pending {
            let accepted = pending.queue.cancel();
            pending.buffers.handle_cancelled(accepted);
            while let Some(sent) = pending.queue.poll_sent_region() {
                pending.regions.push(sent, &pending.ledger);
            }
            pending.buffers.sweep(&pending.ledger);
            pending.filling = Filling::default();
            if let Some(alarm) = self.learned.as_ref().and_then(|learned| learned.alarm.as_ref()) {
                alarm.clear();
            }
            // Its bytes are no part of the stream: it serves nobody else.
            if pending.pipe.as_ref().is_some_and(|pipe| pipe.contained() > 0) {
                pending.pipe = None;
            }
            self.settle();
        }
        self.position
    }

    /// Says that nothing more will be sent, after what was accepted so far.
    ///
    /// # Errors
    /// `NotConnected` once the connection is gone.
    pub fn shutdown(&mut self) -> io::Result<()> {
        self.learn().is_shut = true;
        socket::shutdown_write(self.fd())
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
        socket::peer_address(self.fd())
    }

    /// What this socket sends with.
    #[must_use]
    pub fn context(&self) -> &Arc<SendContext> {
        &self.context
    }
}

/// For options and questions. What is sent on it by others moves the stream
/// without the socket's knowledge, and a call with MSG_ZEROCOPY of theirs takes
/// a number that the kernel would have given to one of ours, whose memory then
/// comes back before it is free.
impl<R: Readiness> AsFd for Socket<R> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd()
    }
}
