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
use super::{DOORBELL, ERROR, EVENTS, HUNG_UP, Key, READABLE, State, WRITABLE};
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
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Room for one turn's events and the wakers that they touch, kept from turn
/// to turn.
#[derive(Debug)]
pub(crate) struct Turn {
    events: Events,
    woken: Vec<Waker>,
}

impl Turn {
    pub(crate) fn new() -> Self {
        Turn { events: Events::with_capacity(EVENTS), woken: Vec::new() }
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
        let mut readers: Vec<Waker> = Vec::new();
        for (_, slot) in self.inner.slots.borrow_mut().iter_mut() {
            slot.state = slot.state.tried_again();
            readers.extend(slot.reader.take());
        }
        for reader in readers {
            reader.wake();
        }
    }

    /// Takes every waker that anybody has left here. They hold the tasks that
    /// hold this reactor, so without this a worker that is dropped would keep
    /// them all.
    pub(crate) fn forget_wakers(&self) -> Vec<Waker> {
        let mut wakers = self.inner.timers.borrow_mut().forget_wakers();
        for (_, slot) in self.inner.slots.borrow_mut().iter_mut() {
            wakers.extend(slot.reader.take());
            wakers.extend(slot.writer.take());
        }
        wakers
    }

    /// Takes what is ready and wakes who waits for it. Waits for the first
    /// event, deadline or ring of the doorbell, unless `busy`.
    pub(crate) fn turn(&self, turn: &mut Turn, busy: bool) -> io::Result<()> {
        let inner = &*self.inner;
        let timeout = if busy {
            Some(Duration::ZERO)
        } else {
            let next = inner.timers.borrow().next();
            next.map(|at| at.saturating_duration_since(Instant::now()))
        };
        match inner.epoll.wait(&mut turn.events, timeout) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(error),
        }
        inner.now.set(Instant::now());
        for (packed, ready) in turn.events.iter() {
            if packed == DOORBELL {
                inner.doorbell.quiet();
                continue;
            }
            let key = Key::unpack(packed);
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
                let reader = wakes_reader.then(|| slot.reader.take()).flatten();
                let writer = wakes_writer.then(|| slot.writer.take()).flatten();
                (reader, writer)
            };
            for waker in [reader, writer].into_iter().flatten() {
                waker.wake();
            }
        }
        inner.timers.borrow_mut().expire(inner.now.get(), &mut turn.woken);
        for waker in turn.woken.drain(..) {
            waker.wake();
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
            reader: None,
            writer: None,
        });
        let registration = Registration { inner: Rc::clone(&self.inner), index: index_of(index) };
        let key = Key { index: registration.index, generation };
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
            if waiting.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                return Poll::Pending;
            }
            replaced = waiting.replace(cx.waker().clone());
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

    fn poll_writable(&self, cx: &mut Context<'_>) -> Poll<Edge> {
        self.poll(cx, WRITABLE)
    }

    fn poll_hung_up(&self, cx: &mut Context<'_>) -> Poll<()> {
        let replaced;
        {
            let mut slots = self.inner.slots.borrow_mut();
            let Some(slot) = slots.get_mut(self.index as usize) else { return Poll::Pending };
            if slot.state.has(HUNG_UP) {
                return Poll::Ready(());
            }
            replaced = slot.reader.replace(cx.waker().clone());
        }
        drop(replaced);
        Poll::Pending
    }

    fn error(&self) -> Option<Edge> {
        let slots = self.inner.slots.borrow();
        let state = slots.get(self.index as usize)?.state;
        state.has(ERROR).then(|| state.edge())
    }

    fn wait_as_writer(&self, cx: &mut Context<'_>) {
        let replaced = match self.inner.slots.borrow_mut().get_mut(self.index as usize) {
            Some(slot) => slot.writer.replace(cx.waker().clone()),
            None => None,
        };
        drop(replaced);
    }

    fn clear_error(&self, edge: Edge) {
        self.clear(edge, ERROR);
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
