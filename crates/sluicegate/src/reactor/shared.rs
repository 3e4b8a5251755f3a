//! A reactor inside tokio, for sockets that move between threads.
//!
//! tokio's own `TcpStream` cannot serve here: it reads EPOLLERR, which an entry
//! on the error queue raises, as "closed for writing" for ever. So the sockets
//! sit in an epoll set of ours, whose descriptor tokio watches.

use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use slab::Slab;
use sluicegate_sys::epoll::{Epoll, Events, Interest, Ready};
use sluicegate_sys::nested::NestedEpoll;

use super::{ERROR, EVENTS, GONE, HUNG_UP, Key, READABLE, State, WRITABLE};
use crate::readiness::{Edge, Readiness, Source, Timer};

/// Watches descriptors for tasks on any thread of a tokio runtime.
#[derive(Clone, Debug)]
pub struct SharedReactor {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    epoll: Arc<Epoll>,
    slots: Mutex<Slab<Arc<Slot>>>,
    generation: AtomicU32,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    waiting: Mutex<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    state: State,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that runs under these locks can leave the value half-changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl SharedReactor {
    /// A reactor whose events are taken by a task on the current runtime. The
    /// task ends when the last clone and the last socket are gone.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    ///
    /// # Panics
    /// Outside a tokio runtime with its I/O driver enabled, as everything of
    /// tokio's that needs one.
    pub fn new() -> io::Result<Self> {
        let epoll = Arc::new(Epoll::new()?);
        let inner = Arc::new(Inner {
            epoll: Arc::clone(&epoll),
            slots: Mutex::default(),
            generation: AtomicU32::new(0),
        });
        let nested = NestedEpoll::new(epoll)?;
        tokio::spawn(drive(nested, Arc::downgrade(&inner)));
        Ok(SharedReactor { inner })
    }

    /// Wakes every task that waits for a descriptor to become readable, to try
    /// to read and to look at what has changed around it.
    pub fn wake_readers(&self) {
        let slots: Vec<Arc<Slot>> =
            lock(&self.inner.slots).iter().map(|(_, slot)| Arc::clone(slot)).collect();
        for slot in slots {
            let reader = {
                let mut waiting = lock(&slot.waiting);
                waiting.state = waiting.state.tried_again();
                waiting.reader.take()
            };
            if let Some(reader) = reader {
                reader.wake();
            }
        }
    }

    fn watch_with(&self, fd: BorrowedFd<'_>, interest: Interest) -> io::Result<SharedRegistration> {
        let generation = self.inner.generation.fetch_add(1, Ordering::Relaxed);
        let slot = Arc::new(Slot {
            generation,
            waiting: Mutex::new(Waiting { state: State::NEW, reader: None, writer: None }),
        });
        let index = lock(&self.inner.slots).insert(Arc::clone(&slot));
        let index = u32::try_from(index).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let registration = SharedRegistration { reactor: self.clone(), slot, index };
        self.inner.epoll.add(fd, Key { index, generation }.pack(), interest)?;
        Ok(registration)
    }
}

/// Takes events for as long as anybody holds the reactor.
async fn drive(nested: NestedEpoll, inner: Weak<Inner>) {
    /// How often the task looks whether anybody is left to serve.
    const LOOK: Duration = Duration::from_secs(1);
    loop {
        let ready = tokio::time::timeout(LOOK, nested.ready()).await;
        let Some(inner) = inner.upgrade() else { return };
        match ready {
            Ok(Ok(())) => inner.take(&nested),
            // The runtime is shutting down: no task of it will run again.
            Ok(Err(_)) => return,
            Err(_) => {}
        }
    }
}

impl Inner {
    fn take(&self, nested: &NestedEpoll) {
        let mut events = Events::with_capacity(EVENTS);
        // An error leaves tokio's readiness as it is, so the next turn asks again.
        if nested.take(&mut events).is_ok() {
            for (packed, ready) in events.iter() {
                self.handle_event(Key::unpack(packed), ready);
            }
        }
    }

    fn handle_event(&self, key: Key, ready: Ready) {
        let Some(slot) = lock(&self.slots).get(key.index as usize).cloned() else {
            return;
        };
        if slot.generation != key.generation {
            return;
        }
        let (reader, writer) = {
            let mut waiting = lock(&slot.waiting);
            waiting.state = waiting.state.after(ready);
            let wakes = |way| ready.error() || waiting.state.has(way);
            let (wakes_reader, wakes_writer) = (wakes(READABLE), wakes(WRITABLE));
            let reader = wakes_reader.then(|| waiting.reader.take()).flatten();
            let writer = wakes_writer.then(|| waiting.writer.take()).flatten();
            (reader, writer)
        };
        for waker in [reader, writer].into_iter().flatten() {
            waker.wake();
        }
    }
}

impl Source for SharedReactor {
    type Readiness = SharedRegistration;

    fn watch(&self, fd: BorrowedFd<'_>) -> io::Result<SharedRegistration> {
        self.watch_with(fd, Interest::Both)
    }

    fn watch_listener(&self, fd: BorrowedFd<'_>) -> io::Result<SharedRegistration> {
        self.watch_with(fd, Interest::SharedListener)
    }
}

/// One descriptor that a [`SharedReactor`] watches. Ends with it.
#[derive(Debug)]
pub struct SharedRegistration {
    reactor: SharedReactor,
    slot: Arc<Slot>,
    index: u32,
}

impl SharedRegistration {
    fn poll(&self, cx: &mut Context<'_>, way: u16) -> Poll<Edge> {
        let mut waiting = lock(&self.slot.waiting);
        if waiting.state.has(way) {
            return Poll::Ready(waiting.state.edge());
        }
        let place = if way == READABLE { &mut waiting.reader } else { &mut waiting.writer };
        if place.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            return Poll::Pending;
        }
        let replaced = place.replace(cx.waker().clone());
        drop(waiting);
        drop(replaced);
        Poll::Pending
    }

    /// As [`SharedRegistration::poll`], for what is never cleared; waits as a reader.
    fn poll_end(&self, cx: &mut Context<'_>, what: u16) -> Poll<()> {
        let mut waiting = lock(&self.slot.waiting);
        if waiting.state.has(what) {
            return Poll::Ready(());
        }
        let replaced = waiting.reader.replace(cx.waker().clone());
        drop(waiting);
        drop(replaced);
        Poll::Pending
    }

    fn clear(&self, edge: Edge, way: u16) {
        let mut waiting = lock(&self.slot.waiting);
        waiting.state = waiting.state.cleared(way, edge);
    }
}

impl Readiness for SharedRegistration {
    type Timer = SharedTimer;

    fn poll_readable(&self, cx: &mut Context<'_>) -> Poll<Edge> {
        self.poll(cx, READABLE)
    }

    fn is_readable(&self) -> bool {
        lock(&self.slot.waiting).state.has(READABLE)
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
        let state = lock(&self.slot.waiting).state;
        state.has(ERROR).then(|| state.edge())
    }

    fn wait_as_writer(&self, cx: &mut Context<'_>) {
        let mut waiting = lock(&self.slot.waiting);
        // What came since the caller looked would wake nobody.
        if waiting.state.has(ERROR) {
            cx.waker().wake_by_ref();
            return;
        }
        let replaced = waiting.writer.replace(cx.waker().clone());
        drop(waiting);
        drop(replaced);
    }

    fn clear_error(&self, edge: Edge) {
        self.clear(edge, ERROR);
    }

    fn tell_input(&self, fd: BorrowedFd<'_>, told: bool) -> bool {
        let key = Key { index: self.index, generation: self.slot.generation };
        self.reactor.inner.epoll.modify(fd, key.pack(), Interest::of_socket(told)).is_ok()
    }

    fn unwatch(&self, fd: BorrowedFd<'_>) {
        // It is watched, so this cannot fail.
        let _ = self.reactor.inner.epoll.delete(fd);
    }

    fn clear_readable(&self, edge: Edge) {
        self.clear(edge, READABLE);
    }

    fn clear_writable(&self, edge: Edge) {
        self.clear(edge, WRITABLE);
    }

    fn timer(&self) -> SharedTimer {
        SharedTimer::default()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

impl Drop for SharedRegistration {
    fn drop(&mut self) {
        let slot = lock(&self.reactor.inner.slots).try_remove(self.index as usize);
        drop(slot);
    }
}

/// A deadline on tokio's clock.
#[derive(Debug, Default)]
pub struct SharedTimer {
    deadline: Option<Instant>,
    /// Made at the first wait; moved, not remade, when the deadline moves.
    sleep: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Timer for SharedTimer {
    fn set(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(deadline) = self.deadline else {
            return Poll::Pending;
        };
        let deadline = tokio::time::Instant::from_std(deadline);
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
        if sleep.deadline() != deadline {
            sleep.as_mut().reset(deadline);
        }
        sleep.as_mut().poll(cx)
    }
}
