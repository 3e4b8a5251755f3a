//! A worker's own reactor: one thread, one epoll set, no locks.

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::wake::Wake;

use super::timers::Timers;
use super::{DOORBELL, ERROR, EVENTS, GONE, HUNG_UP, Key as SlotKey, READABLE, State, WRITABLE};
use crate::executor::{Key, Wakes, wake_task};
use crate::readiness::{Edge, Readiness, Source, Timer};

/// Watches descriptors for the tasks of one thread.
#[derive(Clone, Debug)]
pub struct Reactor {
    inner: Rc<Inner>,
}

#[derive(Debug)]
struct Inner {
    epoll: Epoll,
    doorbell: Arc<Wake>,
    slots: RefCell<Slab<Slot>>,
    timers: RefCell<Timers>,
    generation: Cell<u32>,
    /// The time of this turn: read once, good enough for deadlines.
    now: Cell<Instant>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    state: State,
    reader: Waiting,
    writer: Waiting,
}

/// The task that waits, or the last that did: it is most often the next as well, and to
/// clone and drop a waker for each wait takes atomic operations.
#[derive(Debug, Default)]
struct Waiting {
    who: Wakes,
    /// A waker that waited before: a connection that is kept for whoever needs it next has one
    /// of its own for as long as nobody does.
    before: Option<Waker>,
    /// It is to be woken, once.
    waits: bool,
}

impl Waiting {
    /// The task of `cx` waits from now on. A waker that is to be dropped is given back, to be
    /// dropped where dropping may run other code.
    #[inline]
    fn wait(&mut self, cx: &Context<'_>) -> Option<Waker> {
        self.waits = true;
        let running = Wakes::running(cx.waker());
        match (running, &self.who) {
            (Some(key), Wakes::Task(_)) => {
                self.who = Wakes::Task(key);
                None
            }
            (None, Wakes::Other(waker)) if waker.will_wake(cx.waker()) => None,
            _ => self.change(running, cx.waker()),
        }
    }

    /// As [`Waiting::wait`], where it is a waker now and was none, or the other way round.
    #[inline(never)]
    fn change(&mut self, running: Option<Key>, waker: &Waker) -> Option<Waker> {
        let who = match (running, self.before.take()) {
            (Some(key), before) => {
                self.before = before;
                Wakes::Task(key)
            }
            (None, Some(before)) if before.will_wake(waker) => Wakes::Other(before),
            (None, before) => {
                self.before = before;
                Wakes::Other(waker.clone())
            }
        };
        match std::mem::replace(&mut self.who, who) {
            Wakes::Other(last) => self.before.replace(last),
            Wakes::Task(_) => None,
        }
    }

    /// Who is to be woken, if anybody is; where that is a waker `Waiting::put_back` follows.
    #[inline]
    fn take_waiting(&mut self) -> Wakes {
        match (std::mem::take(&mut self.waits), &self.who) {
            (false, _) => Wakes::NOBODY,
            (true, Wakes::Task(key)) => Wakes::Task(*key),
            (true, Wakes::Other(_)) => std::mem::take(&mut self.who),
        }
    }

    /// Keeps a waker that was woken, unless there is a new one.
    fn put_back(&mut self, woken: Waker) -> Option<Waker> {
        if self.who.is_nobody() {
            self.who = Wakes::Other(woken);
            return None;
        }
        Some(woken)
    }
}

/// Room for one turn's events and the wakers that they touch, kept from turn
/// to turn.
#[derive(Debug)]
pub(crate) struct Turn {
    events: Events,
    woken: Vec<Wakes>,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Turn { events: Events::with_capacity(EVENTS), woken: Vec::new() }
    }
}

impl Inner {
    /// Wakes whoever has a deadline that is over.
    #[cold]
    fn expire(&self, woken: &mut Vec<Wakes>) {
        self.timers.borrow_mut().expire(self.now.get(), woken);
        for wakes in woken.drain(..) {
            wakes.wake();
        }
    }

    /// Wakes by a waker that was taken out of a slot, and keeps it if the slot is still there.
    #[cold]
    #[inline(never)]
    fn wake(&self, key: SlotKey, woken: Waker, place: impl Fn(&mut Slot) -> &mut Waiting) {
        woken.wake_by_ref();
        let dropped = match self.slots.borrow_mut().get_mut(key.index as usize) {
            Some(slot) if slot.generation == key.generation => place(slot).put_back(woken),
            _ => Some(woken),
        };
        drop(dropped);
    }
}

impl Reactor {
    /// A reactor with an empty set.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        let epoll = Epoll::new()?;
        let doorbell = Arc::new(Wake::new()?);
        epoll.add(doorbell.as_fd(), DOORBELL, Interest::Read)?;
        Ok(Reactor {
            inner: Rc::new(Inner {
                epoll,
                doorbell,
                slots: RefCell::default(),
                timers: RefCell::default(),
                generation: Cell::new(0),
                now: Cell::new(Instant::now()),
            }),
        })
    }

    /// What ends a wait of this reactor from another thread.
    pub(crate) fn doorbell(&self) -> Arc<Wake> {
        Arc::clone(&self.inner.doorbell)
    }

    /// The time at which this turn began.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.inner.now.get()
    }

    /// It is now.
    pub(crate) fn look_at_clock(&self) {
        self.inner.now.set(Instant::now());
    }

    /// A timer that is not set.
    #[must_use]
    pub fn timer(&self) -> LocalTimer {
        let index = self.inner.timers.borrow_mut().insert();
        LocalTimer { inner: Rc::clone(&self.inner), index }
    }

    /// Completes once `duration` has passed.
    pub async fn sleep(&self, duration: Duration) {
        let mut timer = self.timer();
        timer.set(Instant::now().checked_add(duration));
        std::future::poll_fn(|cx| timer.poll_expired(cx)).await;
    }

    /// Wakes every task that waits for a descriptor to become readable, to try
    /// to read and to look at what has changed around it.
    pub fn wake_readers(&self) {
        let mut readers: Vec<Wakes> = Vec::new();
        for (_, slot) in self.inner.slots.borrow_mut().iter_mut() {
            slot.state = slot.state.tried_again();
            let reader = slot.reader.take_waiting();
            if !reader.is_nobody() {
                readers.push(reader);
            }
        }
        for reader in readers {
            reader.wake();
        }
    }

    /// Takes what is ready and wakes who waits for it. Waits for the first
    /// event, deadline or ring of the doorbell, unless `busy`.
    pub(crate) fn turn(&self, turn: &mut Turn, busy: bool) -> io::Result<()> {
        let inner = &*self.inner;
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            // By the time at which the turn before this one began, as nearly all deadlines are
            // set: what it took they come later. A look at the clock is a tenth of a turn.
            let next = inner.timers.borrow().next();
            next.map(|at| at.saturating_duration_since(inner.now.get()))
        };
        match inner.epoll.wait(&mut turn.events, timeout) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                // The next wait goes by this, however often it is interrupted.
                self.look_at_clock();
                return Ok(());
            }
            Err(error) => return Err(error),
        }
        self.look_at_clock();
        for (packed, ready) in turn.events.iter() {
            if packed == DOORBELL {
                inner.doorbell.quiet();
                continue;
            }
            let key = SlotKey::unpack(packed);
            // A waker may run code that comes back here, so none is called or
            // dropped while the slots are borrowed: taken out, woken, put back.
            let (reader, writer) = {
                let mut slots = inner.slots.borrow_mut();
                let Some(slot) = slots.get_mut(key.index as usize) else {
                    continue;
                };
                if slot.generation != key.generation {
                    continue;
                }
                slot.state = slot.state.after(ready);
                let wakes = |way| ready.error() || slot.state.has(way);
                let (wakes_reader, wakes_writer) = (wakes(READABLE), wakes(WRITABLE));
                let wakes = |waiting: &mut Waiting, is_so| match is_so {
                    true => waiting.take_waiting(),
                    false => Wakes::NOBODY,
                };
                (wakes(&mut slot.reader, wakes_reader), wakes(&mut slot.writer, wakes_writer))
            };
            match reader {
                Wakes::Task(task) => wake_task(task),
                Wakes::Other(waker) => inner.wake(key, waker, |slot| &mut slot.reader),
            }
            match writer {
                Wakes::Task(task) => wake_task(task),
                Wakes::Other(waker) => inner.wake(key, waker, |slot| &mut slot.writer),
            }
        }
        let is_due = inner.timers.borrow().next().is_some_and(|at| at <= inner.now.get());
        if is_due {
            inner.expire(&mut turn.woken);
        }
        Ok(())
    }

    fn watch_with(
        &self,
        fd: BorrowedFd<'_>,
        interest: Interest,
        state: State,
    ) -> io::Result<Registration> {
        let generation = self.inner.generation.get().wrapping_add(1);
        self.inner.generation.set(generation);
        let index = self.inner.slots.borrow_mut().insert(Slot {
            generation,
            state,
            reader: Waiting::default(),
            writer: Waiting::default(),
        });
        let registration = Registration { inner: Rc::clone(&self.inner), index: index_of(index) };
        let key = SlotKey { index: registration.index, generation };
        self.inner.epoll.add(fd, key.pack(), interest)?;
        Ok(registration)
    }
}

/// Slab indices stay below the number of open descriptors, which the kernel
/// bounds by 2³¹.
fn index_of(index: usize) -> u32 {
    u32::try_from(index).unwrap_or(u32::MAX)
}

impl Source for Reactor {
    type Readiness = Registration;

    fn watch(&self, fd: BorrowedFd<'_>) -> io::Result<Registration> {
        self.watch_with(fd, Interest::Both, State::NEW)
    }

    fn watch_listener(&self, fd: BorrowedFd<'_>) -> io::Result<Registration> {
        self.watch_with(fd, Interest::SharedListener, State::NEW)
    }
}

/// One descriptor that a [`Reactor`] watches. Ends with it.
#[derive(Debug)]
pub struct Registration {
    inner: Rc<Inner>,
    index: u32,
}

impl Registration {
    fn poll(&self, cx: &mut Context<'_>, way: u16) -> Poll<Edge> {
        let replaced;
        {
            let mut slots = self.inner.slots.borrow_mut();
            let Some(slot) = slots.get_mut(self.index as usize) else {
                return Poll::Pending;
            };
            if slot.state.has(way) {
                return Poll::Ready(slot.state.edge());
            }
            let waiting = if way == READABLE { &mut slot.reader } else { &mut slot.writer };
            replaced = waiting.wait(cx);
        }
        drop(replaced);
        Poll::Pending
    }

    /// As [`Registration::poll`], for what is never cleared; waits as a reader.
    fn poll_end(&self, cx: &mut Context<'_>, what: u16) -> Poll<()> {
        let replaced;
        {
            let mut slots = self.inner.slots.borrow_mut();
            let Some(slot) = slots.get_mut(self.index as usize) else { return Poll::Pending };
            if slot.state.has(what) {
                return Poll::Ready(());
            }
            replaced = slot.reader.wait(cx);
        }
        drop(replaced);
        Poll::Pending
    }

    fn clear(&self, edge: Edge, way: u16) {
        if let Some(slot) = self.inner.slots.borrow_mut().get_mut(self.index as usize) {
            slot.state = slot.state.cleared(way, edge);
        }
    }
}

impl Readiness for Registration {
    type Timer = LocalTimer;

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<Edge> {
        self.poll(cx, READABLE)
    }

    fn is_readable(&self) -> bool {
        let slots = self.inner.slots.borrow();
        slots.get(self.index as usize).is_some_and(|slot| slot.state.has(READABLE))
    }

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Edge> {
        self.poll(cx, WRITABLE)
    }

    fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_end(cx, HUNG_UP)
    }

    fn poll_gone(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_end(cx, GONE)
    }

    fn error(&self) -> Option<Edge> {
        let slots = self.inner.slots.borrow();
        let state = slots.get(self.index as usize)?.state;
        state.has(ERROR).then(|| state.edge())
    }

    fn wait_as_writer(&self, cx: &mut Context<'_>) {
        let replaced = match self.inner.slots.borrow_mut().get_mut(self.index as usize) {
            Some(slot) => slot.writer.wait(cx),
            None => None,
        };
        drop(replaced);
    }

    fn clear_error(&self, edge: Edge) {
        self.clear(edge, ERROR);
    }

    fn tell_input(&self, fd: BorrowedFd<'_>, told: bool) -> bool {
        let slots = self.inner.slots.borrow();
        let Some(slot) = slots.get(self.index as usize) else { return false };
        let key = SlotKey { index: self.index, generation: slot.generation };
        self.inner.epoll.modify(fd, key.pack(), Interest::of_socket(told)).is_ok()
    }

    fn unwatch(&self, fd: BorrowedFd<'_>) {
        // It is watched, so this cannot fail.
        let _ = self.inner.epoll.delete(fd);
    }

    fn clear_readable(&self, edge: Edge) {
        self.clear(edge, READABLE);
    }

    fn clear_writable(&self, edge: Edge) {
        self.clear(edge, WRITABLE);
    }

    fn timer(&self) -> LocalTimer {
        Reactor { inner: Rc::clone(&self.inner) }.timer()
    }

    fn now(&self) -> Instant {
        self.inner.now.get()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        // The kernel forgets a descriptor when it is closed, which follows at
        // once; an event that is already on its way finds the slot gone or of
        // another generation. The slot's wakers are dropped after the borrow.
        let slot = self.inner.slots.borrow_mut().try_remove(self.index as usize);
        drop(slot);
    }
}

/// A deadline of a worker's task.
#[derive(Debug)]
pub struct LocalTimer {
    inner: Rc<Inner>,
    index: usize,
}

impl Timer for LocalTimer {
    fn set(&mut self, deadline: Option<Instant>) {
        self.inner.timers.borrow_mut().set(self.index, deadline);
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = self.inner.now.get();
        let (expired, replaced) = self.inner.timers.borrow_mut().poll(self.index, now, cx.waker());
        drop(replaced);
        if expired { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Drop for LocalTimer {
    fn drop(&mut self) {
        let waker = self.inner.timers.borrow_mut().remove(self.index);
        drop(waker);
    }
}

impl AsFd for Reactor {
    /// The epoll set: readable when something is ready, so that a reactor can
    /// sit inside another loop.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inner.epoll.as_fd()
    }
}
