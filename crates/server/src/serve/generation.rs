//! What is served now, as workers learn of a change: each of them makes itself
//! a handler of the newest generation before its next request. Requests that
//! are under way end with the one that they began with.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use sluicegate::Reactor;
use sluicegate_http::{Answered, Failure, Handler, Limits, Observe, Request, Response};

use super::Subject;
use super::bound::Bound;
use crate::log::tell;
use crate::observe::Stats;

/// What is served from one reload to the next.
pub(super) struct Generation<S> {
    /// Counted from 1.
    pub(super) number: u64,
    pub(super) subject: Arc<S>,
    pub(super) bound: Vec<Arc<Bound>>,
    pub(super) limits: Limits,
}

/// Where the newest generation is found.
pub(super) struct Newest<S> {
    /// Its number: all that a request looks at.
    number: AtomicU64,
    inner: Mutex<Inner<S>>,
}

struct Inner<S> {
    newest: Arc<Generation<S>>,
    waiting: Vec<Waker>,
}

impl<S> Newest<S> {
    pub(super) fn new(subject: Arc<S>, bound: Vec<Arc<Bound>>, limits: Limits) -> Arc<Self> {
        let newest = Arc::new(Generation { number: 1, subject, bound, limits });
        let inner = Mutex::new(Inner { newest, waiting: Vec::new() });
        Arc::new(Newest { number: AtomicU64::new(1), inner })
    }

    fn lock(&self) -> MutexGuard<'_, Inner<S>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn get(&self) -> Arc<Generation<S>> {
        Arc::clone(&self.lock().newest)
    }

    /// From now on this is served; returns what was before.
    pub(super) fn replace(
        &self,
        subject: Arc<S>,
        bound: Vec<Arc<Bound>>,
        limits: Limits,
    ) -> Arc<Generation<S>> {
        let mut inner = self.lock();
        let number = inner.newest.number + 1;
        let next = Arc::new(Generation { number, subject, bound, limits });
        let before = std::mem::replace(&mut inner.newest, next);
        self.number.store(number, Ordering::Release);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        for waker in waiting {
            waker.wake();
        }
        before
    }

    /// Nothing more is listened on: who holds the listeners that were is to be
    /// their last user.
    pub(super) fn take_listeners(&self) -> Vec<Arc<Bound>> {
        let mut inner = self.lock();
        let Generation { number, subject, bound, limits } = &*inner.newest;
        let (subject, limits) = (Arc::clone(subject), limits.clone());
        let (number, listeners) = (*number, bound.clone());
        inner.newest = Arc::new(Generation { number, subject, bound: Vec::new(), limits });
        listeners
    }

    /// Ready when there is a newer one than `seen`.
    pub(super) fn poll_after(&self, seen: u64, cx: &mut Context<'_>) -> Poll<Arc<Generation<S>>> {
        let mut inner = self.lock();
        if inner.newest.number != seen {
            return Poll::Ready(Arc::clone(&inner.newest));
        }
        if !inner.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
            inner.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl<S> fmt::Debug for Newest<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Newest").field("number", &self.number).finish_non_exhaustive()
    }
}

/// One worker's handler: always of the newest generation.
pub(super) struct Latest<S: Subject> {
    newest: Arc<Newest<S>>,
    stats: Arc<Stats>,
    worker: usize,
    reactor: Reactor,
    /// The generation that `handler` is meant to be of.
    seen: Cell<u64>,
    handler: RefCell<Rc<S::Handler>>,
    /// The newest one could not be made.
    is_behind: Cell<bool>,
}

impl<S: Subject> Latest<S> {
    pub(super) fn new(
        newest: Arc<Newest<S>>,
        generation: &Generation<S>,
        worker: usize,
        stats: Arc<Stats>,
        reactor: Reactor,
    ) -> io::Result<Rc<Self>> {
        let handler = generation.subject.worker(worker, &stats, &reactor, None)?;
        let handler = RefCell::new(Rc::new(handler));
        let seen = Cell::new(generation.number);
        let is_behind = Cell::new(false);
        Ok(Rc::new(Latest { newest, stats, worker, reactor, seen, handler, is_behind }))
    }

    fn handler(&self) -> Rc<S::Handler> {
        if self.newest.number.load(Ordering::Acquire) != self.seen.get() {
            self.renew();
        }
        Rc::clone(&self.handler.borrow())
    }

    /// Makes a handler of the newest generation; on failure the old one goes on.
    #[cold]
    fn renew(&self) {
        let newest = self.newest.get();
        self.seen.set(newest.number);
        let before = Rc::clone(&self.handler.borrow());
        let made = newest.subject.worker(self.worker, &self.stats, &self.reactor, Some(&before));
        self.is_behind.set(made.is_err());
        match made {
            // Dropped after the borrow: it may be large.
            Ok(handler) => drop(self.handler.replace(Rc::new(handler))),
            Err(error) => tell(format_args!(
                "worker {} goes on with the old configuration for now: {error}",
                self.worker
            )),
        }
    }

    /// Makes the handler before the first request asks for it.
    pub(super) fn prepare(&self) {
        drop(self.handler());
    }
}

/// A worker's handler, for each of its services.
pub(super) struct Shared<S: Subject>(pub(super) Rc<Latest<S>>);

impl<S: Subject> Handler for Shared<S> {
    async fn handle(&self, request: &mut Request) -> Response {
        let handler = self.0.handler();
        handler.handle(request).await
    }

    fn refuse(&self, status: u16) -> Response {
        self.0.handler().refuse(status)
    }

    fn tend(&self) {
        if self.0.is_behind.get() {
            self.0.renew();
        }
        self.0.handler().tend();
    }

    fn failed(&self, failure: &Failure) {
        self.0.handler.borrow().failed(failure);
    }

    fn answering(&self, status: u16) {
        self.0.handler.borrow().answering(status);
    }

    fn observes(&self) -> Observe {
        self.0.handler.borrow().observes()
    }

    fn answered(&self, answered: &Answered<'_>) {
        self.0.handler.borrow().answered(answered);
    }
}
