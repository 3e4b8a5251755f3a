//! The sockets of an [`super::AckQueue`].

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use slab::Slab;
use sluicegate_sys::epoll::Ready;
use sluicegate_sys::{socket, tcp_info};

use super::polled::Polled;
use super::sends::{Sends, Tag};
use super::{Event, Watch};
use crate::ledger::Progress;
use crate::position::Position;
use crate::pump::SendError;
use crate::queue::QueueError;
use crate::readiness::Source;
use crate::ring::Connection;
use crate::segment::Segment;
use crate::socket::{SendContext, Socket};

/// A socket of an [`super::AckQueue`]. It is never another's, also after it was
/// removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SocketId {
    index: u32,
    generation: u32,
}

impl SocketId {
    pub(super) fn pack(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.index)
    }

    #[allow(clippy::cast_possible_truncation)] // Both halves are cut out on purpose.
    pub(super) fn unpack(key: u64) -> Self {
        SocketId { index: key as u32, generation: (key >> 32) as u32 }
    }
}

/// How a socket's step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stepped {
    /// It has to wait.
    Waits,
    /// It could go on at once; others have their turn first.
    Spent,
}

/// How often a socket is looked at without an event, first and last: where
/// reports wake, for the case that one is lost.
const OURS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(200));

/// Where nothing wakes. The last one is for sockets on which nothing moves.
const THEIRS: (Duration, Duration) = (Duration::from_micros(200), Duration::from_millis(50));

/// Reports of a stream that come closer together than this tell more than is
/// worth their price, about 25 µs each at full speed (bench `tracking`): the
/// next is asked for after twice as many bytes. At 200 a second that is half a
/// per cent of a core.
const TOO_CLOSE: Duration = Duration::from_millis(5);

/// Further apart than this, after half as many, down to [`super::EVERY`].
const TOO_FAR: Duration = Duration::from_millis(20);

/// Bytes after which a report is asked for at last.
const AT_LAST: u64 = 64 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct Sockets {
    context: Arc<SendContext>,
    every: Every,
    slots: Slab<Slot>,
    generation: u32,
    /// When which socket is to be looked at.
    looks: BTreeSet<(Instant, u32)>,
    again: Arc<Again>,
    waker: Waker,
}

/// After how many bytes a report is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Every {
    /// So many, on any stream.
    Bytes(u64),
    /// So many at least, more on a fast stream.
    ByTime(u64),
}

impl Every {
    fn least(self) -> u64 {
        match self {
            Every::Bytes(bytes) | Every::ByTime(bytes) => bytes.max(1),
        }
    }
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    socket: Socket<Polled>,
    polled: Polled,
    sends: Sends,
    watch: Watch,
    look: Option<Instant>,
    pause: Duration,
    acked: Position,
    /// After how many bytes the next report is asked for.
    every: u64,
    /// When the acknowledged part grew last.
    grew: Instant,
    has_failed: bool,
    /// An event that says so waits to be handed over.
    is_readable_told: bool,
}

/// Set when a socket's turn was over before its work was.
#[derive(Debug, Default)]
struct Again(AtomicBool);

impl Wake for Again {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Gives a socket readiness that is looked at.
#[derive(Clone)]
struct Hand(Polled);

impl Source for Hand {
    type Readiness = Polled;

    fn watch(&self, _: BorrowedFd<'_>) -> io::Result<Polled> {
        Ok(self.0.clone())
    }

    fn watch_listener(&self, _: BorrowedFd<'_>) -> io::Result<Polled> {
        Ok(self.0.clone())
    }
}

fn not_found() -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, "this socket was removed")
}

impl Sockets {
    pub(super) fn new(context: Arc<SendContext>, every: Every) -> Self {
        let again = Arc::new(Again::default());
        let waker = Waker::from(Arc::clone(&again));
        let (slots, generation, looks) = Default::default();
        Sockets { context, every, slots, generation, looks, again, waker }
    }

    pub(super) fn report_every(&mut self, bytes: u64) {
        self.every = Every::Bytes(bytes);
    }

    pub(super) fn add(&mut self, fd: OwnedFd, watch: Watch) -> io::Result<SocketId> {
        socket::set_nonblocking(fd.as_fd())?;
        let polled = Polled::new();
        let mut socket =
            Socket::with_context(fd, &Hand(polled.clone()), Arc::clone(&self.context))?;
        if watch == Watch::Theirs {
            socket.keep_error_queue_empty();
        }
        self.generation = self.generation.wrapping_add(1);
        let index = self.slots.insert(Slot {
            generation: self.generation,
            socket,
            polled,
            sends: Sends::default(),
            watch,
            look: None,
            pause: watch.pauses().0,
            acked: Position::START,
            every: self.every.least(),
            grew: Instant::now(),
            has_failed: false,
            is_readable_told: false,
        });
        // Fewer sockets than descriptors, of which there are fewer than 2³¹.
        let index = u32::try_from(index).map_err(|_| io::ErrorKind::OutOfMemory)?;
        Ok(SocketId { index, generation: self.generation })
    }

    fn slot(&self, id: SocketId) -> io::Result<&Slot> {
        let slot = self.slots.get(id.index as usize);
        slot.filter(|slot| slot.generation == id.generation).ok_or_else(not_found)
    }

    fn slot_mut(&mut self, id: SocketId) -> io::Result<&mut Slot> {
        let slot = self.slots.get_mut(id.index as usize);
        slot.filter(|slot| slot.generation == id.generation).ok_or_else(not_found)
    }

    pub(super) fn fd(&self, id: SocketId) -> io::Result<BorrowedFd<'_>> {
        Ok(self.slot(id)?.socket.as_fd())
    }

    pub(super) fn remove(&mut self, id: SocketId) -> bool {
        if self.slot(id).is_err() {
            return false;
        }
        self.look_at(id, None);
        self.slots.try_remove(id.index as usize).is_some()
    }

    pub(super) fn abort(&mut self, id: SocketId) -> bool {
        if self.slot(id).is_err() {
            return false;
        }
        self.look_at(id, None);
        let slot = self.slots.try_remove(id.index as usize);
        slot.map(|slot| slot.socket.abort()).is_some()
    }

    /// Has the socket looked at then.
    fn look_at(&mut self, id: SocketId, at: Option<Instant>) {
        let Some(slot) = self.slots.get_mut(id.index as usize) else { return };
        if let Some(old) = std::mem::replace(&mut slot.look, at) {
            self.looks.remove(&(old, id.index));
        }
        if let Some(at) = at {
            self.looks.insert((at, id.index));
        }
    }

    pub(super) fn queue(
        &mut self,
        id: SocketId,
        segment: Segment,
        tag: Tag,
    ) -> io::Result<Result<Position, QueueError>> {
        let slot = self.slot_mut(id)?;
        if slot.has_failed {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "this socket has failed"));
        }
        let start = slot.socket.queued();
        let queued = slot.socket.queue(segment);
        if let Ok(end) = queued {
            slot.sends.push(tag, start, end);
            self.look_at(id, Some(Instant::now()));
        }
        Ok(queued)
    }

    pub(super) fn send_with(
        &mut self,
        id: SocketId,
        tag: Tag,
        call: impl FnOnce(BorrowedFd<'_>) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let slot = self.slot_mut(id)?;
        let (start, end) = slot.socket.foreign_call(slot.watch == Watch::Ours, call)?;
        slot.sends.push(tag, start, end);
        slot.pause = slot.watch.pauses().0;
        let at = Instant::now() + slot.pause;
        if slot.look.is_none_or(|look| look > at) {
            self.look_at(id, Some(at));
        }
        Ok(usize::try_from(end.since(start)).unwrap_or(usize::MAX))
    }

    pub(super) fn handle_writable(&mut self, id: SocketId) -> io::Result<()> {
        let slot = self.slot_mut(id)?;
        slot.polled.handle_writable();
        slot.pause = slot.watch.pauses().0;
        self.look_at(id, Some(Instant::now()));
        Ok(())
    }

    /// An event of the kernel.
    pub(super) fn handle(
        &mut self,
        id: SocketId,
        ready: Ready,
        events: &mut VecDeque<Event>,
    ) -> Stepped {
        // It may have been removed since.
        let Ok(slot) = self.slot_mut(id) else { return Stepped::Waits };
        // After the end of the peer's stream nothing follows that could be
        // received, but every event still says so.
        let had_ended = slot.polled.is_hung_up();
        slot.polled.handle(ready);
        let is_told = slot.is_readable_told;
        if !had_ended && !is_told && (ready.readable() || ready.hung_up()) {
            slot.is_readable_told = true;
            events.push_back(Event::Readable(id));
        }
        self.step(id, Instant::now(), events)
    }

    /// The event that says that this socket is readable was handed over: the
    /// next one is another, also for who receives by the descriptor itself.
    pub(super) fn handle_told(&mut self, id: SocketId) {
        if let Ok(slot) = self.slot_mut(id) {
            slot.is_readable_told = false;
        }
    }

    /// When the next socket is to be looked at.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// Looks at all sockets whose time has come.
    pub(super) fn look(&mut self, now: Instant, events: &mut VecDeque<Event>) -> Stepped {
        let mut stepped = Stepped::Waits;
        let due: Vec<u32> =
            self.looks.iter().take_while(|(at, _)| *at <= now).map(|(_, index)| *index).collect();
        for index in due {
            let Some(slot) = self.slots.get(index as usize) else { continue };
            let id = SocketId { index, generation: slot.generation };
            if self.step(id, now, events) == Stepped::Spent {
                stepped = Stepped::Spent;
            }
        }
        stepped
    }

    /// Sends what can be sent, tells what was acknowledged, and says when to
    /// look again.
    fn step(&mut self, id: SocketId, now: Instant, events: &mut VecDeque<Event>) -> Stepped {
        let (every, again, waker) = (self.every, Arc::clone(&self.again), self.waker.clone());
        let Ok(slot) = self.slot_mut(id) else { return Stepped::Waits };
        let mut stepped = Stepped::Waits;
        let sent = if slot.has_failed { Ok(()) } else { slot.send(every, &waker) };
        let is_file = matches!(sent, Err(SendError::File(_)));
        if sent.is_err() {
            // It sends no more, but what was accepted may still arrive.
            let accepted = slot.socket.cancel();
            slot.sends.handle_cancelled(accepted);
        }
        // What has arrived until now is told also where nothing more will.
        let told = slot.tell(id, every, now, events);
        let is_over = told.is_err() || (sent.is_err() && !is_file);
        if let Err(error) = sent.and(told)
            && !std::mem::replace(&mut slot.has_failed, true)
        {
            events.push_back(Event::Failed(id, error));
        }
        if is_over {
            slot.sends = Sends::default();
        }
        if again.0.swap(false, Ordering::Relaxed) {
            stepped = Stepped::Spent;
        }
        let waits = !slot.sends.is_empty() || (!is_over && slot.socket.has_regions());
        let next = match stepped {
            Stepped::Spent => Some(now),
            Stepped::Waits => waits.then(|| now + slot.pause),
        };
        self.look_at(id, next);
        stepped
    }

    pub(super) fn receive(&mut self, id: SocketId, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let mut cx = Context::from_waker(Waker::noop());
        let slot = self.slot_mut(id)?;
        if slot.watch == Watch::Theirs {
            // No event of theirs comes here: always worth a try.
            slot.polled.handle_readable();
        }
        match slot.socket.poll_receive(&mut cx, buffer) {
            Poll::Ready(result) => result,
            Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    pub(super) fn connection(&mut self, id: SocketId) -> io::Result<Connection> {
        Ok(self.slot_mut(id)?.socket.connection())
    }

    pub(super) fn progress(&mut self, id: SocketId) -> io::Result<Progress> {
        self.slot_mut(id)?.socket.progress()
    }

    pub(super) fn try_released(
        &mut self,
        id: SocketId,
        end: Position,
    ) -> io::Result<Option<Bytes>> {
        Ok(self.slot_mut(id)?.socket.try_released(end))
    }

    pub(super) fn cancel(&mut self, id: SocketId) -> io::Result<Position> {
        let slot = self.slot_mut(id)?;
        let accepted = slot.socket.cancel();
        slot.sends.handle_cancelled(accepted);
        Ok(accepted)
    }

    pub(super) fn shutdown(&mut self, id: SocketId) -> io::Result<()> {
        self.slot_mut(id)?.socket.shutdown()
    }
}

impl Watch {
    fn pauses(self) -> (Duration, Duration) {
        match self {
            Watch::Ours => OURS,
            Watch::Theirs => THEIRS,
        }
    }
}

impl Slot {
    /// Sends as much as one turn may.
    fn send(&mut self, every: Every, waker: &Waker) -> Result<(), SendError> {
        let (accepted, queued) = (self.socket.accepted_position(), self.socket.queued());
        if self.watch == Watch::Ours && queued > accepted {
            let every = match every {
                Every::Bytes(bytes) => bytes.max(1),
                Every::ByTime(_) => self.every,
            };
            let at = accepted.advanced(every).min(queued);
            self.socket.continue_reports(at, every, queued);
        }
        match self.socket.poll_flush(&mut Context::from_waker(waker)) {
            Poll::Ready(result) => result,
            Poll::Pending => Ok(()),
        }
    }

    /// Tells what was acknowledged since.
    fn tell(
        &mut self,
        id: SocketId,
        every: Every,
        now: Instant,
        events: &mut VecDeque<Event>,
    ) -> Result<(), SendError> {
        self.socket.take_reports();
        self.socket.tell_free(|end| events.push_back(Event::Released(id, end)));
        if self.sends.is_empty() && !self.socket.has_regions() {
            return Ok(());
        }
        // A connection that is gone never acknowledges: its count stays. Asked
        // before the count, since it may go after it has acknowledged all.
        let is_gone = (self.polled.is_hung_up() || self.watch == Watch::Theirs)
            && tcp_info::tcp_info(self.socket.as_fd()).is_ok_and(|info| info.closed);
        let progress = self.socket.progress().map_err(SendError::Connection)?;
        self.sends.handle_acked(progress.acked, |grown| events.push_back(Event::Acked(id, grown)));
        if progress.acked > self.acked {
            self.acked = progress.acked;
            self.pause = self.watch.pauses().0;
            let since = now.saturating_duration_since(std::mem::replace(&mut self.grew, now));
            if since < TOO_CLOSE {
                self.every = self.every.saturating_mul(2).min(AT_LAST);
            } else if since > TOO_FAR {
                self.every = (self.every / 2).max(every.least());
            }
        } else {
            self.pause = (self.pause * 2).min(self.watch.pauses().1);
        }
        if is_gone && (!self.sends.is_empty() || self.socket.has_regions()) {
            return Err(SendError::Connection(io::ErrorKind::ConnectionReset.into()));
        }
        Ok(())
    }
}
