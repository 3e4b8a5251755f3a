//! Acknowledgement events for an event loop of one's own.

mod polled;
mod record;
mod sends;
mod sockets;

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::timer::TimerFd;

use crate::ledger::Progress;
use crate::position::Position;
use crate::pump::SendError;
use crate::queue::QueueError;
use crate::ring::Connection;
use crate::segment::Segment;
use crate::socket::SendContext;
pub use record::EpollRecord;
pub use sends::{Grown, Tag};
pub use sockets::SocketId;
use sockets::{Every, Sockets, Stepped};

/// Who has a socket in an epoll set.
///
/// A report of the kernel raises EPOLLERR, and no set can mask that. So the
/// two do not mix: where our reports and another loop's registration met, that
/// loop would take the socket for a failed one, or spin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// The [`AckQueue`]: acknowledgements wake it, and it tells when the socket
    /// is readable. Register it nowhere else.
    Ours,
    /// Another loop, which says [`AckQueue::handle_writable`] whenever the
    /// socket is: what is queued moves no further without it. A level-triggered
    /// loop drops EPOLLOUT while [`AckQueue::progress`] says that all is
    /// accepted. The kernel is asked for no reports; a timer and SIOCOUTQ take
    /// their place, and all memory is copied.
    Theirs,
}

/// What an [`AckQueue`] has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// Of a send more is acknowledged.
    Acked(SocketId, Grown),
    /// The socket can be received from, or its peer sends no more. Told of
    /// sockets that are [`Watch::Ours`], once for what has come since: receive
    /// until `WouldBlock` or 0.
    Readable(SocketId),
    /// The buffer that was queued with [`Segment::memory`] and ends there can be
    /// had from [`AckQueue::try_released`].
    Released(SocketId, Position),
    /// The connection failed, and nothing more will be told of this socket; or
    /// a file did, and nothing more is sent, though what was accepted before is
    /// still told of. [`AckQueue::remove`] it.
    Failed(SocketId, SendError),
}

impl Event {
    /// The socket that it is about.
    #[must_use]
    pub fn socket(&self) -> SocketId {
        match self {
            Event::Acked(id, _)
            | Event::Readable(id)
            | Event::Released(id, _)
            | Event::Failed(id, _) => *id,
        }
    }
}

/// Sends files and memory on many sockets, and tells which bytes of which send
/// were acknowledged: what the paper's kernel tells through epoll (seeds/000,
/// II-B2), without a runtime.
///
/// Its one descriptor ([`AsFd`]) is readable when [`AckQueue::wait`] has
/// something to do, so it sits in any epoll set, level-triggered or edge-
/// triggered. [`AckQueue::queue`] returns at once, whatever the size and the
/// state of the socket; the bytes move in `wait`.
///
/// How far the peer is, `SIOCOUTQ` decides; reports of the kernel only wake. So
/// one that is lost costs up to a fifth of a second of delay, and nothing else.
#[derive(Debug)]
pub struct AckQueue {
    sockets: Sockets,
    epoll: Epoll,
    timer: TimerFd,
    /// When the timer will ring; `None` when it is not set.
    armed: Option<Instant>,
    room: Events,
    events: VecDeque<Event>,
}

/// Key of the timer, which no socket has.
const TIMER: u64 = u64::MAX;

/// Events taken from the kernel at once.
const EVENTS: usize = 256;

/// A report is asked for after so many bytes, and at the end of what is queued;
/// on a stream that is so fast that reports come within 5 ms of each other,
/// after more.
const EVERY: u64 = 1024 * 1024;

impl AckQueue {
    /// An empty queue.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Self::with_context(Arc::new(SendContext::default()))
    }

    /// As [`AckQueue::new`], sending with a shared `context`.
    ///
    /// # Errors
    /// As [`AckQueue::new`].
    pub fn with_context(context: Arc<SendContext>) -> io::Result<Self> {
        let (epoll, timer) = (Epoll::new()?, TimerFd::new()?);
        epoll.add(timer.as_fd(), TIMER, Interest::Read)?;
        Ok(AckQueue {
            sockets: Sockets::new(context, Every::ByTime(EVERY)),
            epoll,
            timer,
            armed: None,
            room: Events::with_capacity(EVENTS),
            events: VecDeque::new(),
        })
    }

    /// Asks for a report after every `bytes`, whatever that costs, instead of
    /// after a MiB or, on a fast stream, some milliseconds: for who reuses a
    /// ring by the partition, say. At least 64 KiB are useful, since
    /// that is what the kernel makes of a `sendfile`. For sends from now on.
    pub fn report_every(&mut self, bytes: u64) {
        self.sockets.report_every(bytes);
    }

    /// Takes over a connected TCP socket, and makes it non-blocking. Bytes that
    /// are under way on it already are nobody's here.
    ///
    /// # Errors
    /// As `epoll_ctl(2)`; `EOPNOTSUPP` when it is not TCP.
    pub fn add(&mut self, socket: impl Into<OwnedFd>, watch: Watch) -> io::Result<SocketId> {
        let id = self.sockets.add(socket.into(), watch)?;
        if watch == Watch::Ours {
            let fd = self.sockets.fd(id)?;
            if let Err(error) = self.epoll.add(fd, id.pack(), Interest::Both) {
                self.sockets.remove(id);
                return Err(error);
            }
        }
        Ok(id)
    }

    /// Queues a segment, to be called `tag` in events, and returns at once. An
    /// empty one makes no event. Returns where in the socket's stream it ends.
    ///
    /// # Errors
    /// [`QueueError`], as an error of kind `WouldBlock` where the queue is full and
    /// `InvalidInput` where the region is another connection's: nothing was queued.
    /// `NotFound` for a socket that was removed.
    pub fn queue(
        &mut self,
        id: SocketId,
        segment: impl Into<Segment>,
        tag: Tag,
    ) -> io::Result<Position> {
        let segment = segment.into();
        let refused = |error: QueueError| match error {
            QueueError::Full { .. } => io::Error::new(io::ErrorKind::WouldBlock, error),
            QueueError::OtherConnection => io::Error::new(io::ErrorKind::InvalidInput, error),
        };
        let end = self.sockets.queue(id, segment, tag)?.map_err(refused)?;
        self.set_timer(Some(Instant::now()))?;
        Ok(end)
    }

    /// Queues a range of a file, called by the file's descriptor as the paper
    /// has it. Offsets in bytes.
    ///
    /// # Errors
    /// As [`AckQueue::queue`].
    pub fn queue_file(
        &mut self,
        id: SocketId,
        file: &Arc<File>,
        range: Range<u64>,
    ) -> io::Result<Position> {
        let tag = Tag::File(file.as_raw_fd());
        self.queue(id, Segment::file(file, range), tag)
    }

    /// Makes a send call of the caller's own on the socket, accounts for what
    /// it returns, and waits for its acknowledgement: for a program that has
    /// its `sendfile` already, and wants to know when the bytes have arrived.
    /// Returns what the call returned. It must not send with MSG_ZEROCOPY: the
    /// kernel numbers such calls by the socket, and the release of one of the
    /// caller's would be taken for one of ours.
    ///
    /// # Errors
    /// What the call returns; `InvalidInput` while something is queued on this
    /// socket; `NotFound` for one that was removed.
    pub fn send_with(
        &mut self,
        id: SocketId,
        tag: Tag,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let sent = self.sockets.send_with(id, tag, call)?;
        self.set_timer(self.sockets.next_look())?;
        Ok(sent)
    }

    /// Another loop says that a socket that is [`Watch::Theirs`] is writable.
    ///
    /// # Errors
    /// `NotFound` for a socket that was removed.
    pub fn handle_writable(&mut self, id: SocketId) -> io::Result<()> {
        self.sockets.handle_writable(id)?;
        self.set_timer(Some(Instant::now()))
    }

    /// Appends events to `events`: waits for the first until `timeout` is over
    /// (`None`: for ever), and returns how many came. Sends meanwhile what is
    /// queued.
    ///
    /// # Errors
    /// `EINTR` when a signal handler ran.
    pub fn wait(
        &mut self,
        events: &mut Vec<Event>,
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        self.fill(timeout)?;
        let count = self.events.len();
        for event in &self.events {
            if let Event::Readable(id) = event {
                self.sockets.handle_told(*id);
            }
        }
        events.extend(self.events.drain(..));
        Ok(count)
    }

    /// As [`AckQueue::wait`], in the paper's form: acknowledgements by the
    /// descriptor of their file, other events by that of their socket (and
    /// without what a form of 64 bits has no room for, such as why it failed).
    /// What finds no room comes with the next call. Returns how many records
    /// were filled.
    ///
    /// # Errors
    /// As [`AckQueue::wait`]; `InvalidInput` without room for a record.
    pub fn wait_records(
        &mut self,
        records: &mut [EpollRecord],
        timeout: Option<Duration>,
    ) -> io::Result<usize> {
        if records.is_empty() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        self.fill(timeout)?;
        let mut count = 0;
        while let Some(record) = records.get_mut(count)
            && let Some(event) = self.events.pop_front()
        {
            if let Event::Readable(id) = event {
                self.sockets.handle_told(id);
            }
            let socket = |id| self.sockets.fd(id).map_or(-1, |fd| fd.as_raw_fd());
            *record = match &event {
                Event::Acked(_, grown) => EpollRecord::of(grown),
                Event::Readable(id) => EpollRecord::about(EpollRecord::READABLE, socket(*id)),
                Event::Released(id, _) => EpollRecord::about(EpollRecord::RELEASED, socket(*id)),
                Event::Failed(id, _) => EpollRecord::about(EpollRecord::FAILED, socket(*id)),
            };
            count += 1;
        }
        if !self.events.is_empty() {
            // What is left makes the descriptor readable.
            self.set_timer(Some(Instant::now()))?;
        }
        Ok(count)
    }

    /// Turns until there is an event or the time is over.
    fn fill(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = match deadline {
                _ if !self.events.is_empty() => Some(Duration::ZERO),
                Some(deadline) => Some(deadline.saturating_duration_since(Instant::now())),
                None => timeout,
            };
            self.turn(left)?;
            if !self.events.is_empty() || left.is_some_and(|left| left.is_zero()) {
                return Ok(());
            }
        }
    }

    /// Takes what the kernel has to tell, and what the clock has.
    fn turn(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let count = self.epoll.wait(&mut self.room, timeout)?;
        let mut spent = count >= EVENTS;
        if spent {
            // There may be more than there was room for, of which an outer set
            // that is edge-triggered is told by the timer alone: also if that
            // has rung, and is itself among what found no room.
            self.armed = None;
        }
        for (key, ready) in self.room.iter() {
            if key == TIMER {
                self.armed = None;
                continue;
            }
            let stepped = self.sockets.handle(SocketId::unpack(key), ready, &mut self.events);
            spent |= stepped == Stepped::Spent;
        }
        let now = Instant::now();
        spent |= self.sockets.look(now, &mut self.events) == Stepped::Spent;
        let next = if spent { Some(now) } else { self.sockets.next_look() };
        self.set_timer(next)
    }

    /// Has the timer ring at `at`, or sooner.
    fn set_timer(&mut self, at: Option<Instant>) -> io::Result<()> {
        let Some(at) = at else { return Ok(()) };
        if self.armed.is_some_and(|armed| armed <= at) {
            return Ok(());
        }
        // A timer that is late by a moment costs less than one that rings
        // again and again.
        self.timer.set(Some(at.saturating_duration_since(Instant::now())))?;
        self.armed = Some(at);
        Ok(())
    }

    /// Receives into the spare room of `buffer`; 0 when the peer sends no more.
    /// To be called until `WouldBlock`, after [`Event::Readable`].
    ///
    /// # Errors
    /// `WouldBlock`, `ConnectionReset` and the like; `InvalidInput` when there
    /// is no room; `NotFound` for a socket that was removed.
    pub fn receive(&mut self, id: SocketId, buffer: &mut Vec<u8>) -> io::Result<usize> {
        self.sockets.receive(id, buffer)
    }

    /// How far a socket's stream has come, asked of the kernel now.
    ///
    /// # Errors
    /// As `ioctl(2)`; `NotFound` for a socket that was removed.
    pub fn progress(&mut self, id: SocketId) -> io::Result<Progress> {
        self.sockets.progress(id)
    }

    /// What rings know a socket's connection by ([`crate::Ring::acquire_for`]).
    ///
    /// # Errors
    /// `NotFound` for a socket that was removed.
    pub fn connection(&mut self, id: SocketId) -> io::Result<Connection> {
        self.sockets.connection(id)
    }

    /// The buffer that was queued with [`Segment::memory`] and ends at `end`,
    /// if the kernel refers to it no more.
    ///
    /// # Errors
    /// `NotFound` for a socket that was removed.
    pub fn try_released(&mut self, id: SocketId, end: Position) -> io::Result<Option<Bytes>> {
        self.sockets.try_released(id, end)
    }

    /// Takes back what the kernel has not accepted. Returns where the stream
    /// then ends.
    ///
    /// # Errors
    /// `NotFound` for a socket that was removed.
    pub fn cancel(&mut self, id: SocketId) -> io::Result<Position> {
        self.sockets.cancel(id)
    }

    /// Says that nothing more will be sent, after what was accepted so far.
    ///
    /// # Errors
    /// `NotConnected` once the connection is gone; `NotFound` for a socket that
    /// was removed.
    pub fn shutdown(&mut self, id: SocketId) -> io::Result<()> {
        self.sockets.shutdown(id)
    }

    /// A socket's descriptor.
    ///
    /// # Errors
    /// `NotFound` for a socket that was removed.
    pub fn fd(&self, id: SocketId) -> io::Result<BorrowedFd<'_>> {
        self.sockets.fd(id)
    }

    /// As [`AckQueue::remove`], by a reset: the peer learns that what it has is
    /// not the whole. For one that has failed, or was cut loose.
    pub fn abort(&mut self, id: SocketId) -> bool {
        if let Ok(fd) = self.sockets.fd(id) {
            let _ = self.epoll.delete(fd);
        }
        self.events.retain(|event| event.socket() != id);
        self.sockets.abort(id)
    }

    /// Closes a socket and forgets it. What the kernel has accepted is still
    /// delivered; nothing more is told of it. False when it was removed before.
    pub fn remove(&mut self, id: SocketId) -> bool {
        if let Ok(fd) = self.sockets.fd(id) {
            // Its file may outlive it in the lingering table. One that is
            // theirs is not in the set.
            let _ = self.epoll.delete(fd);
        }
        self.events.retain(|event| event.socket() != id);
        self.sockets.remove(id)
    }
}

impl AsFd for AckQueue {
    /// Readable when [`AckQueue::wait`] has something to do.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
