//! A thread that serves connections: a reactor and a local executor, no
//! scheduler between an event and the task that waits for it.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::rc::Rc;

use crate::executor::{Executor, Spawner};
use crate::reactor::local::{Reactor, Turn};

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
    // Dropped first: the tasks hold the reactor.
    executor: Executor,
    reactor: Reactor,
}

impl Worker {
    /// The worker of this thread.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`; `AlreadyExists` when the thread has one.
    pub fn new() -> io::Result<Self> {
        let reactor = Reactor::new()?;
        let executor = Executor::new(reactor.doorbell());
        let executor = executor.ok_or(io::ErrorKind::AlreadyExists)?;
        Ok(Worker { executor, reactor })
    }

    /// What watches this worker's descriptors.
    #[must_use]
    pub fn reactor(&self) -> &Reactor {
        &self.reactor
    }

    /// What starts tasks on this worker.
    #[must_use]
    pub fn spawner(&self) -> &Spawner {
        self.executor.spawner()
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
        let main = async move { output.set(Some(future.await)) };
        let task = self.executor.spawner().spawn(main);
        let mut turn = Turn::new();
        // The last turn may have been long ago.
        self.reactor.look_at_clock();
        loop {
            self.executor.run_ready();
            if let Some(value) = result.take() {
                return Ok(value);
            }
            // Over without a value: it panicked, and was reported by the hook.
            assert!(!task.is_finished(), "the worker's main task panicked");
            self.reactor.turn(&mut turn, self.executor.is_busy())?;
            self.executor.take_remote();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::sync::{Arc, Mutex};
    use std::task::{Poll, Waker};
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
    fn a_task_that_is_dropped_is_cancelled_also_by_itself() {
        let worker = Worker::new().unwrap();
        let held = Rc::new(());
        let waits = Rc::clone(&held);
        let waiting = worker.spawner().spawn(async move {
            std::future::pending::<()>().await;
            drop(waits);
        });
        let own = Rc::new(RefCell::new(None));
        let (mine, runs) = (Rc::clone(&own), Rc::clone(&held));
        *own.borrow_mut() = Some(worker.spawner().spawn(async move {
            drop(mine.take());
            yield_now().await;
            drop((runs, mine));
            unreachable!("it has dropped its own task");
        }));
        worker.run(yield_now()).unwrap();
        assert_eq!(Rc::strong_count(&held), 2);
        assert!(own.borrow().is_none() && !waiting.is_finished());
        drop(waiting);
        assert_eq!(Rc::strong_count(&held), 1);
    }

    #[test]
    fn a_waker_that_outlives_its_task_wakes_nobody_else() {
        let worker = Worker::new().unwrap();
        let (kept, runs) = (Rc::new(RefCell::new(None::<Waker>)), Rc::new(Cell::new(0)));
        let keep = Rc::clone(&kept);
        worker.spawner().start(std::future::poll_fn(move |cx| {
            *keep.borrow_mut() = Some(cx.waker().clone());
            Poll::Ready(())
        }));
        worker.run(yield_now()).unwrap();
        let count = Rc::clone(&runs);
        worker.spawner().start(std::future::poll_fn(move |_| {
            count.set(count.get() + 1);
            Poll::Pending
        }));
        worker.run(yield_now()).unwrap();
        let stale = kept.take().unwrap();
        stale.wake_by_ref();
        worker.run(yield_now()).unwrap();
        std::thread::spawn(move || stale.wake()).join().unwrap();
        worker.run(yield_now()).unwrap();
        assert_eq!(runs.get(), 1);
    }

    #[test]
    fn a_waker_that_is_not_the_tasks_own_is_the_one_that_is_woken() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        use std::task::{Context, Wake};

        use crate::readiness::Timer;

        struct Count(AtomicUsize);
        impl Wake for Count {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::Relaxed);
            }
        }

        let worker = Worker::new().unwrap();
        let (reactor, count) = (worker.reactor().clone(), Arc::new(Count(AtomicUsize::new(0))));
        let woken = Arc::clone(&count);
        let sleeps = async move {
            let mut timer = reactor.timer();
            timer.set(Instant::now().checked_add(Duration::from_millis(5)));
            // First the task itself waits, then somebody in it with a waker of his own.
            std::future::poll_fn(|cx| {
                assert!(timer.poll_expired(cx).is_pending());
                let waker = Waker::from(Arc::clone(&woken));
                assert!(timer.poll_expired(&mut Context::from_waker(&waker)).is_pending());
                Poll::Ready(())
            })
            .await;
            reactor.sleep(Duration::from_millis(20)).await;
        };
        worker.run(sleeps).unwrap();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_other_threads_wake_again_and_again_runs_each_time() {
        let worker = Worker::new().unwrap();
        for _ in 0..500 {
            let (sender, receiver) = async_oneshot();
            let thread = std::thread::spawn(sender);
            worker.run(receiver).unwrap();
            thread.join().unwrap();
        }
    }

    #[test]
    fn a_task_gives_its_value_to_who_waits_for_it() {
        let worker = Worker::new().unwrap();
        let reactor = worker.reactor().clone();
        let task = worker.spawner().spawn(async move {
            reactor.sleep(Duration::from_millis(5)).await;
            7
        });
        assert_eq!(worker.run(task).unwrap(), 7);
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
        let shared: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
        let set = Arc::clone(&shared);
        let wait = std::future::poll_fn(move |cx| {
            let mut shared = shared.lock().unwrap();
            if shared.0 {
                return Poll::Ready(());
            }
            shared.1 = Some(cx.waker().clone());
            Poll::Pending
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
