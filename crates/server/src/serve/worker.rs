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
use sluicegate_http::{Handler, Limits, Service, serve};

use super::shutdown::Shutdown;
use crate::log::tell;

/// How long open connections may take to finish after SIGTERM. Shorter than
/// the 90 s after which systemd kills.
const DRAIN: Duration = Duration::from_secs(30);

/// Pause after the kernel had no descriptor or memory for a connection. It
/// stays in the queue meanwhile.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// Connections accepted in a row before the others have their turn.
const BATCH: usize = 64;

/// What a worker starts with.
pub(super) struct Start<F> {
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
    /// Open connections.
    open: Rc<Cell<usize>>,
    /// Listeners that still accept.
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
            service: Rc::new(Service::new((self.handler)()?, Limits::default())),
            context: self.context,
            shutdown: self.shutdown,
            open: Rc::default(),
            accepting: Rc::default(),
        });
        for socket in self.listeners {
            let listener = Listener::new(socket, shared.reactor.clone())?;
            let shared = Rc::clone(&shared);
            let accepting = Counted::new(&shared.accepting);
            let accept_all = async move {
                shared.accept_all(listener).await;
                drop(accepting);
            };
            worker.spawner().spawn(accept_all).detach();
        }
        worker.run(async move {
            shared.shutdown.begun().await;
            shared.drain().await;
        })
    }
}

/// Counts a connection, or a listener that accepts, for as long as it lives.
struct Counted(Rc<Cell<usize>>);

impl Counted {
    fn new(count: &Rc<Cell<usize>>) -> Self {
        count.set(count.get() + 1);
        Counted(Rc::clone(count))
    }
}

impl Drop for Counted {
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
                    let context = Arc::clone(&self.context);
                    match Socket::with_context(fd, &self.reactor, context) {
                        Ok(socket) => self.start(socket),
                        // The peer is gone already, or the kernel is out of
                        // memory for one more watch: the connection closes.
                        Err(error) => tell(format_args!("a connection was dropped: {error}")),
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

    fn start(&self, socket: Socket<sluicegate::Registration>) {
        let open = Counted::new(&self.open);
        let serving = serve(socket, Rc::clone(&self.service));
        self.spawner
            .spawn(async move {
                serving.await;
                drop(open);
            })
            .detach();
    }

    async fn drain(&self) {
        const LOOK: Duration = Duration::from_millis(5);
        self.service.drain();
        let end = Instant::now() + DRAIN;
        while (self.accepting.get() > 0 || self.open.get() > 0) && Instant::now() < end {
            // Idle connections look around, find the drain, and close.
            self.reactor.wake_readers();
            self.reactor.sleep(LOOK).await;
        }
        if self.open.get() > 0 {
            tell(format_args!("{} connections were cut at the end", self.open.get()));
        }
    }
}
