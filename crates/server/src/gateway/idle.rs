//! Connections of a worker that wait for their next request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use sluicegate::{LocalTimer, Registration, Socket};

use super::server::Server;

/// A server as one worker has it: its idle connections.
#[derive(Debug)]
pub(super) struct LocalServer {
    pub(super) server: Arc<Server>,
    /// Requests that had a connection of this worker's.
    reuses: Arc<AtomicU64>,
    /// The newest last: that is used next, so that those too many grow old.
    #[expect(clippy::vec_box, reason = "moved in and out as a pointer")]
    idle: RefCell<Vec<Box<Connection>>>,
    /// Woken by any of them: its server has said something, or is gone.
    alarm: Waker,
    number: u64,
    /// No pool has it any more.
    is_retired: Cell<bool>,
}

/// A connection to a server. Boxed by whoever has it: from request to request it goes
/// through many hands.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Socket<Registration>,
    /// Moves from request to request, which is a store; a timer for each would be more.
    pub(crate) timer: Option<LocalTimer>,
    /// When it was last idle.
    since: Instant,
    /// That it has served.
    pub(super) requests: u32,
}

impl Connection {
    pub(super) fn new(socket: Socket<Registration>) -> Box<Self> {
        let since = socket.now();
        Box::new(Connection { socket, timer: None, since, requests: 0 })
    }
}

thread_local! {
    /// The servers of this thread by their alarms.
    static HERE: RefCell<HashMap<u64, Weak<LocalServer>>> = RefCell::default();
}

/// Numbers alarms.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Rung by the reactor of the thread that has the connections, in the middle of its
/// turn: whatever is heard on an idle connection ends it at once.
struct Alarm(u64);

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // On another thread, or one that ends, there is nothing to do.
        let find = |here: &RefCell<HashMap<u64, Weak<LocalServer>>>| {
            here.try_borrow().ok().and_then(|here| here.get(&self.0)?.upgrade())
        };
        if let Ok(Some(local)) = HERE.try_with(find) {
            local.sweep(None);
        }
    }
}

impl LocalServer {
    pub(super) fn new(server: Arc<Server>) -> Rc<Self> {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let reuses = server.begin_reuses();
        let local = Rc::new(LocalServer {
            server,
            reuses,
            idle: RefCell::default(),
            alarm: Waker::from(Arc::new(Alarm(number))),
            number,
            is_retired: Cell::new(false),
        });
        let weak = Rc::downgrade(&local);
        let _ = HERE.try_with(|here| here.borrow_mut().insert(number, weak));
        local
    }

    /// The newest idle connection that is still good.
    pub(super) fn take(&self, now: Instant, idle: Duration) -> Option<Box<Connection>> {
        loop {
            let one = self.idle.borrow_mut().pop()?;
            let is_young = one.since.checked_add(idle).is_none_or(|end| now < end);
            if is_young && !one.socket.is_readable() {
                // Nobody else writes it: no lock of the bus.
                self.reuses.store(self.reuses.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
                return Some(one);
            }
        }
    }

    /// Keeps a connection on which nothing is under way.
    pub(super) fn keep(&self, mut one: Box<Connection>, limit: usize) {
        // What was not sent of the last request would be in front of the next.
        let is_sent =
            one.socket.is_clear() || one.socket.queued() == one.socket.accepted_position();
        if !is_sent || self.is_retired.get() || !self.is_proved_silent(&mut one.socket) {
            return;
        }
        one.since = one.socket.now();
        let mut idle = self.idle.borrow_mut();
        idle.push(one);
        let oldest = (idle.len() > limit).then(|| idle.remove(0));
        drop(idle);
        drop(oldest);
    }

    /// Whether nothing was heard on it since it was last found empty; from now on
    /// that rings the alarm. Asks the kernel nothing.
    fn is_silent(&self, socket: &mut Socket<Registration>) -> bool {
        socket.poll_readable(&mut Context::from_waker(&self.alarm)).is_pending()
    }

    /// As `is_silent`; asks where it is not known: a read that got as much as it
    /// wanted does not tell whether there is more.
    fn is_proved_silent(&self, socket: &mut Socket<Registration>) -> bool {
        self.is_silent(socket) || self.is_empty(socket)
    }

    #[cold]
    fn is_empty(&self, socket: &mut Socket<Registration>) -> bool {
        let cx = &mut Context::from_waker(&self.alarm);
        let mut heard = Vec::with_capacity(1);
        matches!(socket.poll_receive(cx, &mut heard), Poll::Pending)
    }

    /// Closes those on which something was heard, and those that are idle since
    /// before `until`.
    pub(super) fn sweep(&self, until: Option<Instant>) {
        let Ok(mut idle) = self.idle.try_borrow_mut() else { return };
        let is_over = |one: &mut Box<Connection>| {
            until.is_some_and(|until| one.since < until) || !self.is_silent(&mut one.socket)
        };
        let over: Vec<_> = idle.extract_if(.., is_over).collect();
        drop(idle);
        drop(over);
    }

    /// Its pool has it no more: what is idle is closed, and nothing is kept.
    pub(super) fn retire(&self) {
        self.is_retired.set(true);
        let idle = self.idle.take();
        drop(idle);
    }

    #[cfg(test)]
    pub(super) fn idle(&self) -> usize {
        self.idle.borrow().len()
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.server.end_reuses(&self.reuses);
        let _ = HERE.try_with(|here| here.borrow_mut().remove(&self.number));
    }
}
