//! A thread that serves connections: a reactor and a local executor, no
//! scheduler between an event and the task that waits for it.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_task::{Runnable, Task};
use sluicegate_sys::wake::Wake;

use crate::reactor::local::{Reactor, Turn};

thread_local! {
    /// The run queue of the worker that lives on this thread, and its number.
    static LOCAL: (Cell<u64>, RefCell<VecDeque<Runnable>>) =
        const { (Cell::new(0), RefCell::new(VecDeque::new())) };
}

/// Numbers workers from 1; 0 is a thread without one.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// Tasks that another thread woke.
#[derive(Debug)]
struct Remote {
    owner: u64,
    runnables: Mutex<Vec<Runnable>>,
    /// Whether there may be any: looked at once a turn, without the lock.
    any: AtomicBool,
    doorbell: Arc<Wake>,
}

impl Remote {
    fn schedule(&self, runnable: Runnable) {
        let runnable = LOCAL.with(|(owner, queue)| {
            if owner.get() == self.owner {
                queue.borrow_mut().push_back(runnable);
                None
            } else {
                Some(runnable)
            }
        });
        if let Some(runnable) = runnable {
            self.runnables.lock().unwrap_or_else(PoisonError::into_inner).push(runnable);
            self.any.store(true, Ordering::Release);
            // Fails only when the doorbell is ringing already.
            let _ = self.doorbell.ring();
        }
    }
}

/// Starts tasks on the worker of this thread.
#[derive(Clone, Debug)]
pub struct Spawner {
    remote: Arc<Remote>,
    /// Ties the spawner to its thread.
    _local: std::marker::PhantomData<Rc<()>>,
}

impl Spawner {
    /// Starts `future`; it runs on this thread alone. Dropping the task
    /// cancels it, [`Task::detach`] lets it go on by itself.
    pub fn spawn<F>(&self, future: F) -> Task<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let remote = Arc::clone(&self.remote);
        let (runnable, task) =
            async_task::spawn_local(future, move |runnable| remote.schedule(runnable));
        runnable.schedule();
        task
    }
}

/// Lets every other task that is ready run first.
pub async fn yield_now() {
    let mut yielded = false;
    std::future::poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return std::task::Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}

/// A reactor and the tasks of one thread.
///
/// One worker per thread. Tasks wake one another without a system call; a
/// waker that another thread uses rings the worker's doorbell.
#[derive(Debug)]
pub struct Worker {
    reactor: Reactor,
    spawner: Spawner,
}

impl Worker {
    /// The worker of this thread.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`; `AlreadyExists` when the thread has one.
    pub fn new() -> io::Result<Self> {
        let reactor = Reactor::new()?;
        let owner = LOCAL.with(|(owner, _)| {
            if owner.get() != 0 {
                return Err(io::Error::from(io::ErrorKind::AlreadyExists));
            }
            owner.set(NEXT.fetch_add(1, Ordering::Relaxed));
            Ok(owner.get())
        })?;
        let remote = Arc::new(Remote {
            owner,
            runnables: Mutex::default(),
            any: AtomicBool::new(false),
            doorbell: reactor.doorbell(),
        });
        Ok(Worker { reactor, spawner: Spawner { remote, _local: std::marker::PhantomData } })
    }

    /// What watches this worker's descriptors.
    #[must_use]
    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// What starts tasks on this worker.
    #[must_use]
    pub fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Runs tasks until `future` completes; the others stay where they are,
    /// and go on at the next call.
    ///
    /// # Errors
    /// What `epoll_wait(2)` reports: nothing, while the process is sound.
    ///
    /// # Panics
    /// When `future` does. Another task that panics ends alone.
    pub fn run<F>(&self, future: F) -> io::Result<F::Output>
    where
        F: Future + 'static,
        F::Output: 'static,
    {
        let result = Rc::new(Cell::new(None));
        let output = Rc::clone(&result);
        let task = self.spawner.spawn(async move { output.set(Some(future.await)) });
        let mut turn = Turn::new();
        loop {
            self.run_ready();
            if let Some(value) = result.take() {
                return Ok(value);
            }
            // Over without a value: it panicked, and was reported by the hook.
            assert!(!task.is_finished(), "the worker's main task panicked");
            let busy = LOCAL.with(|(_, queue)| !queue.borrow().is_empty());
            self.reactor.turn(&mut turn, busy)?;
            self.take_remote();
        }
    }

    /// Runs each task that is ready now once. What they make ready runs after
    /// the next look at the reactor, so that no task starves the sockets.
    fn run_ready(&self) {
        let ready = LOCAL.with(|(_, queue)| queue.borrow().len());
        for _ in 0..ready {
            let Some(runnable) = LOCAL.with(|(_, queue)| queue.borrow_mut().pop_front()) else {
                return;
            };
            // A task that panics ends alone: the message is printed by the
            // panic hook, its future is dropped, and the other connections of
            // the thread go on. Nothing of ours is left half-changed, since
            // the queue is not borrowed here and cells are given back on
            // unwinding.
            let _ = catch_unwind(AssertUnwindSafe(|| runnable.run()));
        }
    }

    fn take_remote(&self) {
        let remote = &*self.spawner.remote;
        if !remote.any.load(Ordering::Acquire) {
            return;
        }
        // Before the look: what is pushed after it sets this again.
        remote.any.store(false, Ordering::Relaxed);
        let mut runnables = remote.runnables.lock().unwrap_or_else(PoisonError::into_inner);
        LOCAL.with(|(_, queue)| queue.borrow_mut().extend(runnables.drain(..)));
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // A task that waits is held by its waker in the reactor, and holds the
        // reactor: take the wakers out. Dropping a task can wake others, which
        // lands in the queue again: until nothing is left.
        loop {
            let wakers = self.reactor.forget_wakers();
            self.take_remote();
            let runnable = LOCAL.with(|(_, queue)| queue.borrow_mut().pop_front());
            if wakers.is_empty() && runnable.is_none() {
                break;
            }
            drop(wakers);
            drop(runnable);
        }
        LOCAL.with(|(owner, _)| owner.set(0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn a_task_woken_from_another_thread_runs_on_its_own() {
        let worker = Worker::new().unwrap();
        let here = std::thread::current().id();
        let (sender, receiver) = async_oneshot();
        std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            sender();
        });
        let seen = worker
            .run(async move {
                receiver.await;
                std::thread::current().id()
            })
            .unwrap();
        assert_eq!(seen, here);
    }

    #[test]
    fn sleeps_end_in_the_order_of_their_deadlines() {
        let worker = Worker::new().unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        for ms in [30_u64, 10, 20] {
            let (reactor, order) = (worker.reactor().clone(), Rc::clone(&order));
            worker
                .spawner()
                .spawn(async move {
                    reactor.sleep(Duration::from_millis(ms)).await;
                    order.borrow_mut().push(ms);
                })
                .detach();
        }
        let start = Instant::now();
        let reactor = worker.reactor().clone();
        worker.run(async move { reactor.sleep(Duration::from_millis(40)).await }).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(40));
        assert_eq!(*order.borrow(), [10, 20, 30]);
    }

    #[test]
    fn a_task_that_panics_ends_alone() {
        let worker = Worker::new().unwrap();
        worker.spawner().spawn(async { panic!("on purpose") }).detach();
        let reactor = worker.reactor().clone();
        worker.run(async move { reactor.sleep(Duration::from_millis(5)).await }).unwrap();
    }

    #[test]
    fn a_dropped_worker_drops_the_tasks_that_wait() {
        let worker = Worker::new().unwrap();
        let held = Rc::new(());
        for (reactor, held) in
            (0..3).map(|_| (worker.reactor().clone(), Rc::clone(&held))).collect::<Vec<_>>()
        {
            let wait = async move {
                reactor.sleep(Duration::from_secs(1000)).await;
                drop(held);
            };
            worker.spawner().spawn(wait).detach();
        }
        worker.run(async {}).unwrap();
        assert_eq!(Rc::strong_count(&held), 4);
        drop(worker);
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[test]
    fn one_thread_has_one_worker() {
        let worker = Worker::new().unwrap();
        assert!(Worker::new().is_err());
        drop(worker);
        assert!(Worker::new().is_ok());
    }

    /// A flag that another thread sets, and a future that waits for it.
    fn async_oneshot() -> (impl FnOnce() + Send, impl Future<Output = ()>) {
        let shared: Arc<Mutex<(bool, Option<std::task::Waker>)>> = Arc::default();
        let set = Arc::clone(&shared);
        let wait = std::future::poll_fn(move |cx| {
            let mut shared = shared.lock().unwrap();
            if shared.0 {
                return std::task::Poll::Ready(());
            }
            shared.1 = Some(cx.waker().clone());
            std::task::Poll::Pending
        });
        let ring = move || {
            let mut shared = set.lock().unwrap();
            shared.0 = true;
            if let Some(waker) = shared.1.take() {
                waker.wake();
            }
        };
        (ring, wait)
    }
}
