//! The thread that looks after pools: it asks servers whether they live, and names
//! for their addresses. One for all pools that need it; it ends with the last.

use std::cell::RefCell;
use std::collections::HashMap;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak, mpsc};
use std::task::{Poll, Waker};

use anyhow::{Context, Result};
use sluicegate::{Reactor, Spawner, Worker};

use super::pool::Pool;
use super::{health, resolve};

/// The thread, for as long as a pool has a hand on it.
#[derive(Debug)]
pub(super) struct Auxiliary(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    new: Vec<Weak<Pool>>,
    /// Something has changed: a pool has come or gone.
    is_rung: bool,
    is_over: bool,
    waker: Option<Waker>,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        state.is_rung = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The pools that are new; `None` at the end.
    async fn changed(&self) -> Option<Vec<Weak<Pool>>> {
        poll_fn(|cx| {
            let mut state = self.lock();
            if state.is_over {
                return Poll::Ready(None);
            }
            if std::mem::take(&mut state.is_rung) {
                return Poll::Ready(Some(std::mem::take(&mut state.new)));
            }
            state.waker = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl Auxiliary {
    /// Starts the thread.
    ///
    /// # Errors
    /// What the host is short of.
    pub(super) fn start() -> Result<Arc<Self>> {
        let shared = Arc::new(Shared::default());
        let own = Arc::clone(&shared);
        let (ready, is_ready) = mpsc::channel();
        let run = move || match Worker::new() {
            Ok(worker) => {
                let _ = ready.send(Ok(()));
                let (reactor, spawner) = (worker.reactor().clone(), worker.spawner().clone());
                // It fails with nothing, while the process is sound.
                let _ = worker.run(look_after(own, reactor, spawner));
            }
            Err(error) => drop(ready.send(Err(error))),
        };
        let started = std::thread::Builder::new().name("upstreams".to_owned()).spawn(run);
        let what = "cannot start the thread that looks after upstreams";
        started.context(what)?;
        let gone = |_| Err(io::ErrorKind::BrokenPipe.into());
        is_ready.recv().unwrap_or_else(gone).context(what)?;
        Ok(Arc::new(Auxiliary(shared)))
    }

    /// Looks after `pool` for as long as it is there.
    pub(super) fn add(&self, pool: &Arc<Pool>) {
        self.0.change(|state| state.new.push(Arc::downgrade(pool)));
    }

    /// A pool is gone, or not served any more.
    pub(super) fn look(&self) {
        self.0.change(|_| ());
    }
}

impl Drop for Auxiliary {
    fn drop(&mut self) {
        self.0.change(|state| state.is_over = true);
    }
}

async fn look_after(shared: Arc<Shared>, reactor: Reactor, spawner: Spawner) {
    let mut watched: Vec<Rc<Watched>> = Vec::new();
    while let Some(new) = shared.changed().await {
        watched.retain(|watched| watched.is_wanted());
        for pool in new {
            let (reactor, spawner) = (reactor.clone(), spawner.clone());
            watched.extend(Watched::begin(pool, reactor, spawner));
        }
    }
}

/// A task that ends when it is dropped.
type Task = Box<dyn std::any::Any>;

/// What is done for one pool.
pub(super) struct Watched {
    pub(super) pool: Weak<Pool>,
    pub(super) reactor: Reactor,
    spawner: Spawner,
    /// One for each name.
    names: RefCell<Vec<Task>>,
    /// One for each server, by its number.
    checks: RefCell<HashMap<u64, Task>>,
}

impl Watched {
    fn begin(weak: Weak<Pool>, reactor: Reactor, spawner: Spawner) -> Option<Rc<Self>> {
        let pool = weak.upgrade()?;
        let (names, checks) = Default::default();
        let watched = Rc::new(Watched { pool: weak, reactor, spawner, names, checks });
        for name in pool.names() {
            let follow = resolve::follow(Rc::downgrade(&watched), name);
            let task = Box::new(watched.spawner.spawn(follow));
            watched.names.borrow_mut().push(task);
        }
        watched.look_at_servers();
        Some(watched)
    }

    /// Whether its pool is there. Of one that another has taken the place of nothing is checked
    /// any more; its last requests may still ask for its names.
    fn is_wanted(&self) -> bool {
        let Some(pool) = self.pool.upgrade() else { return false };
        if pool.has_ended() {
            let checks = self.checks.take();
            drop(checks);
        }
        true
    }

    /// Checks the servers that the pool has now.
    pub(super) fn look_at_servers(&self) {
        let Some(pool) = self.pool.upgrade().filter(|pool| !pool.has_ended()) else { return };
        let Some(health) = &pool.rule.health else { return };
        let members = pool.members();
        let mut checks = self.checks.borrow_mut();
        let is_there = |id: &u64| members.all.iter().any(|member| member.server.id == *id);
        checks.retain(|id, _| is_there(id));
        for member in &members.all {
            checks.entry(member.server.id).or_insert_with(|| {
                let server = Arc::clone(&member.server);
                let check = health::check(
                    self.reactor.clone(),
                    Weak::clone(&self.pool),
                    server,
                    health.clone(),
                );
                Box::new(self.spawner.spawn(check))
            });
        }
    }
}
