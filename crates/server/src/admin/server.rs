//! The thread, from its first connection to its last.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Poll;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use sluicegate::{Listener, PipePool, Reactor, SendContext, Socket, Spawner, Worker, os};
use sluicegate_http::{Endpoints, Limits, Service, Timeouts, serve_between};

use super::answer::Admin;
use super::history::EVERY;
use super::sources::Sources;
use super::spare::Spare;
use crate::log::tell;
use crate::serve::Shutdown;

/// Connections at a time; those who look are few, and one more is closed.
const CONNECTIONS: usize = 256;

/// Pause after the kernel had no descriptor or memory for a connection.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How long an answer under way may take at the end.
const END: Duration = Duration::from_secs(1);

/// How long a request may be on its way at the end, before idle connections are
/// closed.
const GRACE: Duration = Duration::from_millis(100);

/// The admin server. It ends when this is dropped, which waits until it is
/// over: a second at most.
#[derive(Debug)]
pub(crate) struct Running {
    stop: Arc<Shutdown>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.begin();
        if let Some(thread) = self.thread.take() {
            // The panic hook has told of one that panicked.
            let _ = thread.join();
        }
    }
}

/// Serves the figures on `listener`, which listens already, until the handle
/// is dropped.
///
/// # Errors
/// No thread, no descriptors.
pub(crate) fn start(listener: Arc<OwnedFd>, sources: Sources) -> Result<Running> {
    let stop = Arc::new(Shutdown::default());
    let (started, is_started) = mpsc::channel();
    let stopped = Arc::clone(&stop);
    let thread = std::thread::Builder::new()
        .name("admin".into())
        .spawn(move || {
            let worker = match prepare(listener, sources, &stopped) {
                Ok(worker) => worker,
                Err(error) => {
                    let _ = started.send(Err(error));
                    return;
                }
            };
            let _ = started.send(Ok(()));
            let (worker, shared) = worker;
            if let Err(error) = worker.run(async move { shared.until(&stopped).await }) {
                tell(format_args!("the admin server failed: {error}"));
            }
        })
        .context("cannot start the admin server's thread")?;
    let running = Running { stop, thread: Some(thread) };
    is_started
        .recv()
        .unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
        .context("cannot start the admin server")?;
    Ok(running)
}

/// What its tasks share.
struct Shared {
    reactor: Reactor,
    spawner: Spawner,
    service: Rc<Service<Admin>>,
    /// Its own: what operators fetch is not counted with what is served.
    context: Arc<SendContext>,
    open: Rc<Cell<usize>>,
    /// Connections may still come.
    is_accepting: Cell<bool>,
    spare: Rc<Spare>,
}

/// Those who look are near, and send small requests.
fn limits() -> Limits {
    let timeouts = Timeouts {
        head: Duration::from_secs(10),
        send: Duration::from_secs(10),
        ..Timeouts::default()
    };
    Limits { timeouts, ..Limits::default() }
}

fn prepare(
    listener: Arc<OwnedFd>,
    sources: Sources,
    stop: &Arc<Shutdown>,
) -> io::Result<(Worker, Rc<Shared>)> {
    let worker = Worker::new()?;
    let context = SendContext { pipes: PipePool::new(0), ..SendContext::default() };
    let shared = Rc::new(Shared {
        reactor: worker.reactor().clone(),
        spawner: worker.spawner().clone(),
        service: Rc::new(Service::new(Admin::new(sources), limits())),
        context: Arc::new(context),
        open: Rc::default(),
        is_accepting: Cell::new(true),
        spare: Rc::new(Spare::new()),
    });
    let listener = Listener::new(listener, shared.reactor.clone())?;
    let (accepting, stop) = (Rc::clone(&shared), Arc::clone(stop));
    let accept = async move { accepting.accept_all(&listener, &stop).await };
    worker.spawner().spawn(accept).detach();
    let sampled = Rc::clone(&shared);
    worker.spawner().spawn(async move { sampled.sample().await }).detach();
    Ok((worker, shared))
}

impl Shared {
    /// Accepts until the end, and then what is already in the queue: what has
    /// woken this process before wakes no other one that listens here.
    async fn accept_all(&self, listener: &Listener<Reactor>, stop: &Shutdown) {
        loop {
            let accepted = {
                let mut accept = pin!(listener.accept());
                poll_fn(|cx| match stop.poll_begun(cx) {
                    Poll::Ready(()) => Poll::Ready(None),
                    Poll::Pending => accept.as_mut().poll(cx).map(Some),
                })
                .await
            };
            match accepted {
                None => break,
                Some(Ok((fd, peer))) => self.serve(fd, peer),
                // It is accepted with a descriptor of ours.
                Some(Err(error)) if os::is_out_of_descriptors(&error) && self.spare.let_go() => {}
                // It stays in the queue.
                Some(Err(_)) => self.reactor.sleep(EXHAUSTED).await,
            }
            sluicegate::yield_now().await;
        }
        listener.unwatch();
        // No more than that may wait, or it would be no end.
        for _ in 0..CONNECTIONS {
            match listener.accept_now() {
                Ok(Some((fd, peer))) => self.serve(fd, peer),
                Err(error) if os::is_out_of_descriptors(&error) && self.spare.let_go() => {}
                Ok(None) | Err(_) => break,
            }
        }
        self.is_accepting.set(false);
    }

    /// Serves a connection, unless there are too many.
    fn serve(&self, fd: OwnedFd, peer: Option<SocketAddr>) {
        if self.open.get() >= CONNECTIONS {
            return;
        }
        // Without memory for one more watch it closes.
        let Ok(socket) = Socket::with_context(fd, &self.reactor, Arc::clone(&self.context)) else {
            return;
        };
        let endpoints = Endpoints { peer, ..Endpoints::default() };
        let serving = serve_between(socket, endpoints, Rc::clone(&self.service));
        let (open, spare) = (Rc::clone(&self.open), Rc::clone(&self.spare));
        open.set(open.get() + 1);
        let counted = Counted(open);
        let serving = async move {
            serving.await;
            drop(counted);
            spare.refill();
        };
        self.spawner.start(serving);
    }

    /// Has a sample taken every second.
    async fn sample(&self) {
        let mut next = Instant::now();
        loop {
            self.service.handler().sample(Instant::now());
            self.spare.refill();
            // Turns that were missed are not made up for.
            next = (next + EVERY).max(Instant::now());
            self.reactor.sleep(next.saturating_duration_since(Instant::now())).await;
        }
    }

    /// Until the end has begun, and answers that are under way are out.
    async fn until(&self, stop: &Shutdown) {
        const LOOK: Duration = Duration::from_millis(5);
        stop.begun().await;
        self.service.drain();
        let (idle, end) = (Instant::now() + GRACE, Instant::now() + END);
        while (self.is_accepting.get() || self.open.get() > 0) && Instant::now() < end {
            if Instant::now() >= idle {
                self.service.close_idle();
                self.reactor.wake_readers();
            }
            self.reactor.sleep(LOOK).await;
        }
    }
}

/// Counts a connection for as long as it lives, also where its task panics.
struct Counted(Rc<Cell<usize>>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.set(self.0.get() - 1);
    }
}
