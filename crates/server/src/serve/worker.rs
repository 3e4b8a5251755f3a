//! One thread: its listeners, its connections, its end.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sluicegate::{Listener, Reactor, SendContext, Socket, Spawner, Worker};
use sluicegate_http::{Endpoints, Handler, Limits, Service, serve_between};

use super::balance::{Balance, Counted};
use super::shutdown::Shutdown;
use crate::log::tell;

/// How long open connections may take to finish after SIGTERM. Shorter than
/// the 90 s after which systemd kills.
const DRAIN: Duration = Duration::from_secs(30);

/// Pause after the kernel had no descriptor or memory for a connection. It
/// stays in the queue meanwhile.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How often a handler may let go of what is no longer used.
const TEND: Duration = Duration::from_secs(5);

/// Connections accepted in a row before the others have their turn.
const BATCH: usize = 64;

/// Files take no request bodies: who sends one, of whatever size, is to learn
/// that the method is not allowed, and not that the body is too large.
fn limits() -> Limits {
    Limits { body: u64::MAX, ..Limits::default() }
}

/// What a worker starts with.
pub(super) struct Start<F> {
    /// Which worker it is.
    pub(super) number: usize,
    pub(super) balance: Arc<Balance>,
    pub(super) listeners: Vec<Arc<OwnedFd>>,
    pub(super) shutdown: Arc<Shutdown>,
    pub(super) context: Arc<SendContext>,
    pub(super) handler: F,
}

/// What the tasks of a worker share.
struct Shared<H> {
    reactor: Reactor,
    spawner: Spawner,
    service: Rc<Service<H>>,
    context: Arc<SendContext>,
    shutdown: Arc<Shutdown>,
    number: usize,
    balance: Arc<Balance>,
    /// Tasks that may still bring connections.
    accepting: Rc<Cell<usize>>,
}

impl<F> Start<F> {
    /// Serves until the shutdown, and then until the last connection is done
    /// or the time for it is over.
    pub(super) fn run<H>(self) -> io::Result<()>
    where
        H: Handler + 'static,
        F: Fn() -> io::Result<H>,
    {
        let worker = Worker::new()?;
        let shared = Rc::new(Shared {
            reactor: worker.reactor().clone(),
            spawner: worker.spawner().clone(),
            service: Rc::new(Service::new((self.handler)()?, limits())),
            context: self.context,
            shutdown: self.shutdown,
            number: self.number,
            balance: self.balance,
            accepting: Rc::default(),
        });
        for socket in self.listeners {
            let listener = Listener::new(socket, shared.reactor.clone())?;
            let shared = Rc::clone(&shared);
            let accepting = Accepting::new(&shared.accepting);
            let accept_all = async move {
                shared.accept_all(listener).await;
                drop(accepting);
            };
            worker.spawner().spawn(accept_all).detach();
        }
        let accepting = Accepting::new(&shared.accepting);
        let inbox = Rc::clone(&shared);
        let take_handed = async move {
            inbox.take_handed().await;
            drop(accepting);
        };
        worker.spawner().spawn(take_handed).detach();
        let tended = Rc::clone(&shared);
        let tend = async move {
            loop {
                tended.reactor.sleep(TEND).await;
                tended.service.handler().tend();
            }
        };
        worker.spawner().spawn(tend).detach();
        worker.run(async move {
            shared.shutdown.begun().await;
            shared.drain().await;
        })
    }
}

/// Counts a task that may bring connections, for as long as it lives.
struct Accepting(Rc<Cell<usize>>);

impl Accepting {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Accepting(Rc::clone(count))
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}

impl<H: Handler + 'static> Shared<H> {
    /// Accepts until the shutdown, and then what is already in the queue: a
    /// connection that the kernel has answered is not to be reset.
    async fn accept_all(&self, listener: Listener<Reactor>) {
        let mut complained = false;
        let mut last_look = false;
        for turn in 1_usize.. {
            let accepted = {
                let mut accept = pin!(listener.accept());
                poll_fn(|cx| match accept.as_mut().poll(cx) {
                    Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
                    Poll::Pending => self.shutdown.poll_begun(cx).map(|()| None),
                })
                .await
            };
            match accepted {
                // The event of what is queued may not have been fetched yet: the
                // queue itself is looked at once more.
                None if !last_look => {
                    last_look = true;
                    self.reactor.wake_readers();
                }
                None => break,
                Some(Ok((fd, _))) => {
                    if let Some((fd, counted)) = self.balance.place(self.number, fd) {
                        self.start(fd, counted);
                    }
                }
                Some(Err(error)) => {
                    if !std::mem::replace(&mut complained, true) {
                        tell(format_args!("cannot accept: {error} (this is said once)"));
                    }
                    self.reactor.sleep(EXHAUSTED).await;
                }
            }
            if turn % BATCH == 0 {
                sluicegate::yield_now().await;
            }
        }
    }

    /// Serves the connections that other workers hand to this one.
    async fn take_handed(&self) {
        loop {
            let handed = poll_fn(|cx| {
                let handed = self.balance.poll_handed(self.number, cx);
                if handed.is_ready() {
                    return handed.map(Some);
                }
                self.shutdown.poll_begun(cx).map(|()| None)
            })
            .await;
            let is_last = handed.is_none();
            for (fd, counted) in handed.unwrap_or_else(|| self.balance.close(self.number)) {
                self.start(fd, counted);
            }
            if is_last {
                return;
            }
        }
    }

    fn start(&self, fd: OwnedFd, counted: Counted) {
        match Socket::with_context(fd, &self.reactor, Arc::clone(&self.context)) {
            Ok(socket) => {
                let serving = serve_between(socket, Endpoints::default(), Rc::clone(&self.service));
                let serving = async move {
                    serving.await;
                    drop(counted);
                };
                self.spawner.spawn(serving).detach();
            }
            // The peer is gone already, or the kernel is out of memory for one
            // more watch: the connection closes.
            Err(error) => tell(format_args!("a connection was dropped: {error}")),
        }
    }

    async fn drain(&self) {
        const LOOK: Duration = Duration::from_millis(5);
        self.service.drain();
        let end = Instant::now() + DRAIN;
        let open = || self.balance.open(self.number);
        while (self.accepting.get() > 0 || open() > 0) && Instant::now() < end {
            // Idle connections look around, find the drain, and close.
            self.reactor.wake_readers();
            self.reactor.sleep(LOOK).await;
        }
        if open() > 0 {
            tell(format_args!("{} connections were cut at the end", open()));
        }
    }
}
