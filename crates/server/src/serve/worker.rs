//! One thread: its listeners, its connections, its end.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, mpsc};
use std::task::Poll;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use sluicegate::{Listener, Reactor, Registration, Socket, Spawner, Worker, os};
use sluicegate_http::{Endpoints, Handler, Limits, Service, serve_between};

use super::balance::{Accepted, Balance, Counted};
use super::bound::{Bound, contains};
use super::generation::{Generation, Latest, Newest, Shared};
use super::introduced::{Stranger, introduced};
use super::reserve::{Reserve, Turned};
use super::shutdown::Shutdown;
use super::{Subject, canonical};
use crate::log::tell;
use crate::observe::{Ended, Stats};

/// Pause after the kernel had no descriptor or memory for a connection. It
/// stays in the queue meanwhile.
const EXHAUSTED: Duration = Duration::from_millis(100);

/// How often a handler may let go of what is no longer used.
const TEND: Duration = Duration::from_secs(5);

/// Connections accepted in a row before the others have their turn.
const BATCH: usize = 64;

/// What the workers and the thread that starts them have in common.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) stats: Arc<Stats>,
    pub(super) balance: Arc<Balance>,
    pub(super) shutdown: Shutdown,
    pub(super) reserve: Reserve,
    /// How the end goes; set before the shutdown begins.
    pub(super) drain: AtomicU64,
    pub(super) grace: AtomicU64,
    /// Connections that were cut at the end.
    pub(super) cut: AtomicUsize,
    /// How often each worker has shown that it lives.
    pub(super) beats: Vec<AtomicU64>,
    /// How often it is to.
    pub(super) beat: Option<Duration>,
}

/// What a worker starts with.
pub(super) struct Start<S> {
    /// Which worker it is.
    pub(super) number: usize,
    pub(super) common: Arc<Common>,
    pub(super) newest: Arc<Newest<S>>,
    /// Hears that it watches all of its listeners.
    pub(super) ready: mpsc::Sender<()>,
}

/// What the tasks of a worker share.
struct Here<S: Subject> {
    reactor: Reactor,
    spawner: Spawner,
    common: Arc<Common>,
    number: usize,
    latest: Rc<Latest<S>>,
    /// For new connections.
    service: RefCell<Rc<Service<Shared<S>>>>,
    limits: RefCell<Limits>,
    /// All that connections may have.
    services: RefCell<Vec<Weak<Service<Shared<S>>>>>,
    listening: RefCell<Vec<Arc<Bound>>>,
    /// Whether the subject wants to know our address where a listener has many.
    needs_local: Cell<bool>,
    /// Whose connections begin by telling whose they are.
    introducers: RefCell<Vec<IpNet>>,
    /// Tasks that may still bring connections.
    accepting: Rc<Cell<usize>>,
}

impl<S: Subject> Start<S> {
    /// Serves until the shutdown, and then until the last connection is done
    /// or the time for it is over.
    pub(super) fn run(self) -> io::Result<()> {
        let worker = Worker::new()?;
        let first = self.newest.get();
        let stats = Arc::clone(&self.common.stats);
        let latest = Latest::new(
            Arc::clone(&self.newest),
            &first,
            self.number,
            stats,
            worker.reactor().clone(),
        )?;
        let service = Rc::new(Service::new(Shared(Rc::clone(&latest)), first.limits.clone()));
        let here = Rc::new(Here {
            reactor: worker.reactor().clone(),
            spawner: worker.spawner().clone(),
            common: self.common,
            number: self.number,
            latest,
            services: RefCell::new(vec![Rc::downgrade(&service)]),
            service: RefCell::new(service),
            limits: RefCell::new(first.limits.clone()),
            listening: RefCell::default(),
            needs_local: Cell::new(false),
            introducers: RefCell::default(),
            accepting: Rc::default(),
        });
        here.take_up(&first)?;
        let seen = first.number;
        // Listeners that are gone must not stay open by it.
        drop(first);
        let accepting = Accepting::new(&here.accepting);
        let inbox = Rc::clone(&here);
        let take_handed = async move {
            inbox.take_handed().await;
            drop(accepting);
        };
        worker.spawner().spawn(take_handed).detach();
        worker.spawner().spawn(Rc::clone(&here).tend()).detach();
        worker.spawner().spawn(Rc::clone(&here).follow(self.newest, seen)).detach();
        if let Some(beat) = here.common.beat {
            worker.spawner().spawn(Rc::clone(&here).beat(beat)).detach();
        }
        // Whoever started us may have given up.
        let _ = self.ready.send(());
        drop(self.ready);
        worker.run(async move {
            here.common.shutdown.begun().await;
            here.drain().await;
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

impl<S: Subject> Here<S> {
    /// Listens where this generation does, and serves new connections within
    /// its limits. The listeners that are gone end by themselves.
    fn take_up(self: &Rc<Self>, generation: &Generation<S>) -> io::Result<()> {
        self.needs_local.set(generation.subject.needs_local());
        self.introducers.replace(generation.subject.introducers().to_vec());
        let mut first_error = Ok(());
        let before = self.listening.take();
        for bound in &generation.bound {
            if contains(&before, bound) {
                continue;
            }
            match Listener::new(Arc::clone(&bound.socket), self.reactor.clone()) {
                Ok(listener) => self.listen(Arc::clone(bound), listener),
                Err(error) => first_error = first_error.and(Err(error)),
            }
        }
        self.listening.replace(generation.bound.clone());
        if *self.limits.borrow() != generation.limits {
            let handler = Shared(Rc::clone(&self.latest));
            let service = Rc::new(Service::new(handler, generation.limits.clone()));
            let mut services = self.services.borrow_mut();
            services.retain(|service| service.strong_count() > 0);
            services.push(Rc::downgrade(&service));
            self.service.replace(service);
            self.limits.replace(generation.limits.clone());
        }
        first_error
    }

    fn listen(self: &Rc<Self>, bound: Arc<Bound>, listener: Listener<Reactor>) {
        let here = Rc::clone(self);
        let accepting = Accepting::new(&self.accepting);
        let accept_all = async move {
            here.accept_all(&bound, &listener).await;
            drop((listener, bound, accepting));
        };
        self.spawner.start(accept_all);
    }

    /// Takes up each new generation.
    async fn follow(self: Rc<Self>, newest: Arc<Newest<S>>, mut seen: u64) {
        loop {
            let next = poll_fn(|cx| {
                if self.common.shutdown.poll_begun(cx).is_ready() {
                    return Poll::Ready(None);
                }
                newest.poll_after(seen, cx).map(Some)
            })
            .await;
            let Some(next) = next else { return };
            seen = next.number;
            self.latest.prepare();
            if let Err(error) = self.take_up(&next) {
                tell(format_args!("worker {} cannot watch a listener: {error}", self.number));
            }
        }
    }

    async fn tend(self: Rc<Self>) {
        loop {
            self.reactor.sleep(TEND).await;
            let service = Rc::clone(&self.service.borrow());
            service.handler().tend();
        }
    }

    async fn beat(self: Rc<Self>, every: Duration) {
        loop {
            self.common.beats[self.number].fetch_add(1, Ordering::Relaxed);
            self.reactor.sleep(every).await;
        }
    }

    /// Accepts until the listener's end, and then what is already in its
    /// queue: a connection that the kernel has answered is not to be reset.
    async fn accept_all(&self, bound: &Bound, listener: &Listener<Reactor>) {
        for turn in 1_usize.. {
            // While there is always another connection, or never a descriptor
            // for one, nothing below waits, and so nothing below sees the end.
            if bound.end.has_begun() {
                break;
            }
            let accepted = {
                let mut accept = pin!(listener.accept());
                poll_fn(|cx| match accept.as_mut().poll(cx) {
                    Poll::Ready(accepted) => Poll::Ready(Some(accepted)),
                    Poll::Pending => bound.end.poll_begun(cx).map(|()| None),
                })
                .await
            };
            match accepted {
                None => break,
                Some(Ok((socket, peer))) => self.accepted(socket, peer, bound),
                Some(Err(error)) => {
                    // Also when nobody waits: without a descriptor accept(2)
                    // does not look at the queue, and so never says that it is
                    // empty; this would be tried again and again.
                    if self.exhausted(&error, listener) != Turned::Away {
                        self.reactor.sleep(EXHAUSTED).await;
                    }
                }
            }
            if turn % BATCH == 0 {
                sluicegate::yield_now().await;
            }
        }
        // The order matters: what comes after this wakes another process, if
        // one listens here; what came before may have woken nobody but us.
        listener.unwatch();
        let mut tries = 0;
        for turn in 1_usize.. {
            match listener.accept_now() {
                Ok(Some((socket, peer))) => self.accepted(socket, peer, bound),
                Ok(None) => return,
                Err(error) => match self.exhausted(&error, listener) {
                    Turned::Away => {}
                    Turned::Nobody => return,
                    Turned::Not => {
                        tries += 1;
                        if tries > LAST_TRIES {
                            return;
                        }
                        self.reactor.sleep(EXHAUSTED).await;
                    }
                },
            }
            if turn % BATCH == 0 {
                sluicegate::yield_now().await;
            }
        }
    }

    fn accepted(&self, socket: std::os::fd::OwnedFd, peer: Option<SocketAddr>, bound: &Bound) {
        let Some(socket) = self.common.reserve.admit(socket) else {
            self.common.stats.worker(self.number).ended(Ended::Exhausted);
            return;
        };
        let local = if !bound.address.ip().is_unspecified() {
            Some(bound.address)
        } else if self.needs_local.get() {
            os::local_address(&socket).ok().flatten()
        } else {
            None
        };
        let endpoints =
            Endpoints { peer: peer.map(canonical), local: local.map(canonical), balanced: None };
        let accepted = Accepted { socket, endpoints };
        if let Some((accepted, counted)) = self.common.balance.place(self.number, accepted) {
            self.start(accepted, counted);
        }
    }

    /// The kernel has nothing left for one more connection.
    fn exhausted(&self, error: &io::Error, listener: &Listener<Reactor>) -> Turned {
        self.common.reserve.say(error);
        if !os::is_out_of_descriptors(error) {
            return Turned::Not;
        }
        let turned = self.common.reserve.turn_away(listener);
        if turned == Turned::Away {
            self.common.stats.worker(self.number).ended(Ended::Exhausted);
        }
        turned
    }

    /// Serves the connections that other workers hand to this one.
    async fn take_handed(&self) {
        loop {
            let handed = poll_fn(|cx| {
                let handed = self.common.balance.poll_handed(self.number, cx);
                if handed.is_ready() {
                    return handed.map(Some);
                }
                self.common.shutdown.poll_begun(cx).map(|()| None)
            })
            .await;
            let is_last = handed.is_none();
            for (accepted, counted) in
                handed.unwrap_or_else(|| self.common.balance.close(self.number))
            {
                self.start(accepted, counted);
            }
            if is_last {
                return;
            }
        }
    }

    fn start(&self, accepted: Accepted, counted: Counted) {
        let Accepted { socket, endpoints } = accepted;
        let context = Arc::clone(&self.common.stats.context);
        match Socket::with_context(socket, &self.reactor, context) {
            Ok(socket) => {
                let service = Rc::clone(&self.service.borrow());
                if self.is_introduced(&endpoints) {
                    self.start_introduced(socket, endpoints, service, counted);
                    return;
                }
                let serving = serve_between(socket, endpoints, service);
                let serving = async move {
                    serving.await;
                    drop(counted);
                };
                self.spawner.start(serving);
            }
            // The peer is gone already, or the kernel is out of memory for one
            // more watch: the connection closes.
            Err(error) => {
                self.common.stats.worker(self.number).ended(Ended::Exhausted);
                self.common.reserve.say(&error);
            }
        }
    }

    fn is_introduced(&self, endpoints: &Endpoints) -> bool {
        let introducers = self.introducers.borrow();
        let by = |peer: SocketAddr| introducers.iter().any(|net| net.contains(&peer.ip()));
        !introducers.is_empty() && endpoints.peer.is_some_and(by)
    }

    /// Serves a connection once it has told whose it is.
    fn start_introduced(
        &self,
        mut socket: Socket<Registration>,
        own: Endpoints,
        service: Rc<Service<Shared<S>>>,
        counted: Counted,
    ) {
        let (common, number) = (Arc::clone(&self.common), self.number);
        let patience = self.limits.borrow().timeouts.head;
        let serving = async move {
            match introduced(&mut socket, own, patience, &common.shutdown).await {
                Ok(endpoints) => serve_between(socket, endpoints, service).await,
                Err(Stranger::Silent) => {}
                Err(_) => common.stats.worker(number).ended(Ended::Stranger),
            }
            drop(counted);
        };
        self.spawner.start(serving);
    }

    async fn drain(&self) {
        const LOOK: Duration = Duration::from_millis(5);
        self.listening.take();
        let services = || {
            let services = self.services.borrow();
            services.iter().filter_map(Weak::upgrade).collect::<Vec<_>>()
        };
        services().iter().for_each(|service| service.drain());
        let millis = |value: &AtomicU64| Duration::from_millis(value.load(Ordering::Acquire));
        let begin = Instant::now();
        let (grace, drain) = (millis(&self.common.grace), millis(&self.common.drain));
        let open = || self.common.balance.open(self.number);
        while (self.accepting.get() > 0 || open() > 0) && begin.elapsed() < drain {
            // Idle connections look around, find the end, and close; not before, since one
            // that has only just been accepted looks around at once.
            if begin.elapsed() >= grace {
                services().iter().for_each(|service| service.close_idle());
                self.reactor.wake_readers();
            }
            self.reactor.sleep(LOOK).await;
        }
        self.common.cut.fetch_add(open(), Ordering::Relaxed);
    }
}

/// How often the last connections of a queue are tried for when the kernel has
/// nothing left for them: their clients are reset then.
const LAST_TRIES: usize = 20;
