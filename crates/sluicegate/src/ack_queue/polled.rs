//! Readiness that is looked at, not waited for.

use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use sluicegate_sys::epoll::Ready;

use crate::reactor::{ERROR, GONE, HUNG_UP, READABLE, State, WRITABLE};
use crate::readiness::{Edge, Readiness, Timer};

/// What is known of one descriptor's readiness. It wakes nobody: who is told of
/// an event tries again by itself.
#[derive(Clone, Debug)]
pub(super) struct Polled {
    /// Both holders are of one thread at a time.
    state: Arc<AtomicU16>,
}

impl Polled {
    pub(super) fn new() -> Self {
        Polled { state: Arc::new(AtomicU16::new(State::NEW.bits())) }
    }

    fn state(&self) -> State {
        State::of(self.state.load(Ordering::Relaxed))
    }

    fn set(&self, state: State) {
        self.state.store(state.bits(), Ordering::Relaxed);
    }

    /// An event has come.
    pub(super) fn handle(&self, ready: Ready) {
        self.set(self.state().after(ready));
    }

    /// Somebody else's loop says that it is writable.
    pub(super) fn handle_writable(&self) {
        self.set(self.state().with(WRITABLE));
    }

    /// It may be readable; somebody else's loop knows.
    pub(super) fn handle_readable(&self) {
        self.set(self.state().with(READABLE));
    }

    pub(super) fn is_hung_up(&self) -> bool {
        self.state().has(HUNG_UP)
    }

    fn poll(&self, way: u16) -> Poll<Edge> {
        let state = self.state();
        if state.has(way) { Poll::Ready(state.edge()) } else { Poll::Pending }
    }

    fn clear(&self, edge: Edge, way: u16) {
        self.set(self.state().cleared(way, edge));
    }
}

impl Readiness for Polled {
    type Timer = NoTimer;

    fn poll_readable(&self, _: &mut Context<'_>) -> Poll<Edge> {
        self.poll(READABLE)
    }

    fn is_readable(&self) -> bool {
        self.state().has(READABLE)
    }

    fn poll_writable(&self, _: &mut Context<'_>) -> Poll<Edge> {
        self.poll(WRITABLE)
    }

    fn poll_hung_up(&self, _: &mut Context<'_>) -> Poll<()> {
        self.poll(HUNG_UP).map(drop)
    }

    fn poll_gone(&self, _: &mut Context<'_>) -> Poll<()> {
        self.poll(GONE).map(drop)
    }

    fn error(&self) -> Option<Edge> {
        let state = self.state();
        state.has(ERROR).then(|| state.edge())
    }

    fn wait_as_writer(&self, _: &mut Context<'_>) {}

    fn clear_error(&self, edge: Edge) {
        self.clear(edge, ERROR);
    }

    fn unwatch(&self, _: BorrowedFd<'_>) {
        // The queue does that, whose set it is.
    }

    fn clear_readable(&self, edge: Edge) {
        self.clear(edge, READABLE);
    }

    fn clear_writable(&self, edge: Edge) {
        self.clear(edge, WRITABLE);
    }

    fn timer(&self) -> NoTimer {
        NoTimer
    }

    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The queue has its own clock.
#[derive(Debug)]
pub(super) struct NoTimer;

impl Timer for NoTimer {
    fn set(&mut self, _: Option<Instant>) {}

    fn poll_expired(&mut self, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}
