//! The tasks of one thread: a slab of futures and a queue of those that are ready.
//!
//! Nothing here is atomic as long as a worker's own thread wakes its tasks: a task is a
//! number, a waker knows whose it is, and what other threads wake waits apart until the
//! worker looks. With a task's state in an atomic word each wake and each run would be
//! two or three locked instructions, which for a small answer was a tenth of our own time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, RawWakerVTable, Wake, Waker};

use slab::Slab;
use sluicegate_sys::wake::Wake as Doorbell;

thread_local! {
    static LOCAL: Local = const { Local::new() };
    /// Apart: what has nothing to drop is a load, whether the thread ends or not.
    static RUNNING: Cell<Running> = const { Cell::new(Running::NOBODY) };
}

/// Numbers workers from 1; 0 is a thread without one.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// The tasks of the worker that lives on this thread.
struct Local {
    /// Its number.
    owner: Cell<u64>,
    generation: Cell<u32>,
    slots: RefCell<Slab<Slot>>,
    ready: RefCell<VecDeque<Key>>,
}

/// Which task: its place, and a generation that tells it from those that had the place before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    index: u32,
    generation: u32,
}

impl Key {
    /// No task's.
    const NONE: Key = Key { index: u32::MAX, generation: 0 };
}

/// The task that is run, and what its waker consists of.
#[derive(Clone, Copy)]
struct Running {
    key: Key,
    data: *const (),
    vtable: Option<&'static RawWakerVTable>,
}

impl Running {
    const NOBODY: Running = Running { key: Key::NONE, data: std::ptr::null(), vtable: None };

    #[inline]
    fn is_of(&self, waker: &Waker) -> bool {
        std::ptr::eq(self.data, waker.data())
            && self.vtable.is_some_and(|vtable| std::ptr::eq(vtable, waker.vtable()))
    }
}

/// Who is to be woken on this thread. A task of its worker is a number: to keep that takes no
/// atomic operation, as a waker's clone and its end do.
#[derive(Debug)]
pub(crate) enum Wakes {
    Task(Key),
    Other(Waker),
}

impl Default for Wakes {
    fn default() -> Self {
        Wakes::NOBODY
    }
}

impl Wakes {
    pub(crate) const NOBODY: Wakes = Wakes::Task(Key::NONE);

    /// The task that `waker` wakes, if that is run now.
    #[inline]
    pub(crate) fn running(waker: &Waker) -> Option<Key> {
        let running = RUNNING.get();
        running.is_of(waker).then_some(running.key)
    }

    #[inline]
    pub(crate) fn is_nobody(&self) -> bool {
        matches!(self, Wakes::Task(Key::NONE))
    }

    #[inline]
    pub(crate) fn wake(self) {
        match self {
            Wakes::Task(key) => wake_task(key),
            Wakes::Other(waker) => waker.wake(),
        }
    }
}

/// Wakes a task of this thread.
#[inline]
pub(crate) fn wake_task(key: Key) {
    if key == Key::NONE {
        return;
    }
    // A thread that ends has no tasks any more.
    let _ = LOCAL.try_with(|local| local.make_ready(key));
}

struct Slot {
    generation: u32,
    /// It is in the queue.
    is_ready: bool,
    /// Out while it is run, and then without it for ever if it was cancelled meanwhile.
    stored: Option<Stored>,
}

struct Stored {
    future: Pin<Box<dyn Future<Output = ()>>>,
    waker: Waker,
}

impl Local {
    const fn new() -> Self {
        Local {
            owner: Cell::new(0),
            generation: Cell::new(0),
            slots: RefCell::new(Slab::new()),
            ready: RefCell::new(VecDeque::new()),
        }
    }

    /// Puts the task into the queue, unless it is there or over.
    #[inline]
    fn make_ready(&self, key: Key) {
        let mut slots = self.slots.borrow_mut();
        if let Some(slot) = slots.get_mut(key.index as usize)
            && slot.generation == key.generation
            && !std::mem::replace(&mut slot.is_ready, true)
        {
            self.ready.borrow_mut().push_back(key);
        }
    }

    /// Runs the task once, if it is still there. One that panics ends alone: the message is
    /// printed by the panic hook, its future is dropped, and the others go on. Nothing of ours
    /// is left half-changed, since nothing is borrowed meanwhile.
    fn run(&self, key: Key) {
        let taken = self.slots.borrow_mut().get_mut(key.index as usize).and_then(|slot| {
            if slot.generation != key.generation {
                return None;
            }
            slot.is_ready = false;
            slot.stored.take()
        });
        let Some(mut stored) = taken else { return };
        let Stored { future, waker } = &mut stored;
        let running = Running { key, data: waker.data(), vtable: Some(waker.vtable()) };
        let before = RUNNING.replace(running);
        let mut cx = Context::from_waker(waker);
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut cx)));
        RUNNING.set(before);
        let is_over = !matches!(polled, Ok(Poll::Pending));
        if !is_over
            && let Some(slot) = self.slots.borrow_mut().get_mut(key.index as usize)
            && slot.generation == key.generation
        {
            slot.stored = Some(stored);
            return;
        }
        self.end(key, stored);
    }

    /// The task is over, or was cancelled while it ran.
    #[cold]
    #[inline(never)]
    fn end(&self, key: Key, stored: Stored) {
        let mut slots = self.slots.borrow_mut();
        if slots.get(key.index as usize).is_some_and(|slot| slot.generation == key.generation) {
            slots.remove(key.index as usize);
        }
        drop(slots);
        let _ = catch_unwind(AssertUnwindSafe(|| drop(stored)));
    }

    fn cancel(&self, key: Key) {
        let mut slots = self.slots.borrow_mut();
        let is_there =
            slots.get(key.index as usize).is_some_and(|slot| slot.generation == key.generation);
        let slot = if is_there { Some(slots.remove(key.index as usize)) } else { None };
        drop(slots);
        drop(slot);
    }
}

/// What other threads know of a worker.
#[derive(Debug)]
struct Remote {
    owner: u64,
    /// Tasks that they woke; `None` once the worker is gone.
    woken: Mutex<Option<Vec<Arc<Bell>>>>,
    /// Whether there may be any: looked at once a turn, without the lock.
    any: AtomicBool,
    doorbell: Arc<Doorbell>,
}

impl Remote {
    fn woken(&self) -> MutexGuard<'_, Option<Vec<Arc<Bell>>>> {
        self.woken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What wakes one task.
#[derive(Debug)]
struct Bell {
    key: Key,
    /// It is among those that other threads woke.
    is_rung: AtomicBool,
    remote: Arc<Remote>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    #[inline]
    fn wake_by_ref(self: &Arc<Self>) {
        // A thread that ends has no tasks any more.
        let is_here = LOCAL.try_with(|local| {
            let is_here = local.owner.get() == self.remote.owner;
            if is_here {
                local.make_ready(self.key);
            }
            is_here
        });
        if is_here != Ok(true) {
            self.ring();
        }
    }
}

impl Bell {
    #[cold]
    fn ring(self: &Arc<Self>) {
        if self.is_rung.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(woken) = &mut *self.remote.woken() {
            woken.push(Arc::clone(self));
        }
        self.remote.any.store(true, Ordering::Release);
        // Fails only when the doorbell is ringing already.
        let _ = self.remote.doorbell.ring();
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
        let result = Rc::new(Outcome { value: RefCell::default(), joining: RefCell::default() });
        let told = Told(Rc::clone(&result));
        let future = Box::pin(future);
        let key = self.begin(Box::pin(async move {
            let value = future.await;
            *told.0.value.borrow_mut() = Some(value);
            drop(told);
        }));
        Task { key, result, is_detached: false }
    }

    /// Starts `future`, which nobody waits for and nobody cancels: a task without a place for
    /// its result.
    pub fn start(&self, future: impl Future<Output = ()> + 'static) {
        self.begin(Box::pin(future));
    }

    /// `None` where the worker is gone.
    fn begin(&self, future: Pin<Box<dyn Future<Output = ()>>>) -> Option<Key> {
        let begun = LOCAL.try_with(|local| {
            if local.owner.get() != self.remote.owner {
                return Err(future);
            }
            let generation = local.generation.get().wrapping_add(1);
            local.generation.set(generation);
            let mut slots = local.slots.borrow_mut();
            let entry = slots.vacant_entry();
            let index = u32::try_from(entry.key()).unwrap_or(u32::MAX);
            let key = Key { index, generation };
            let (is_rung, remote) = (AtomicBool::new(false), Arc::clone(&self.remote));
            let waker = Waker::from(Arc::new(Bell { key, is_rung, remote }));
            let stored = Some(Stored { future, waker });
            entry.insert(Slot { generation, is_ready: true, stored });
            local.ready.borrow_mut().push_back(key);
            Ok(key)
        });
        begun.ok()?.ok()
    }
}

/// What a task has to give.
#[derive(Debug)]
struct Outcome<T> {
    value: RefCell<Option<T>>,
    /// Who waits for it.
    joining: RefCell<Option<Waker>>,
}

/// The task's end of its outcome: dropped, it is over.
struct Told<T>(Rc<Outcome<T>>);

impl<T> Drop for Told<T> {
    fn drop(&mut self) {
        if let Some(joining) = self.0.joining.take() {
            joining.wake();
        }
    }
}

/// A task that was started. Dropped, it is cancelled; awaited, it gives the value of its future.
#[derive(Debug)]
#[must_use = "dropped, the task is cancelled"]
pub struct Task<T> {
    key: Option<Key>,
    result: Rc<Outcome<T>>,
    is_detached: bool,
}

impl<T> Task<T> {
    /// Lets it go on by itself.
    pub fn detach(mut self) {
        self.is_detached = true;
    }

    /// Whether it has ended, with a value or without.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        // The task itself has the other end.
        Rc::strong_count(&self.result) == 1
    }
}

impl<T> Unpin for Task<T> {}

impl<T> Future for Task<T> {
    type Output = T;

    /// # Panics
    /// Where the task has panicked, or its worker is gone.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = self.result.value.take() {
            return Poll::Ready(value);
        }
        assert!(!self.is_finished(), "the task has no value: it panicked, or was awaited before");
        *self.result.joining.borrow_mut() = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        if let (Some(key), false) = (self.key, self.is_detached) {
            let _ = LOCAL.try_with(|local| local.cancel(key));
        }
    }
}

/// The tasks of a worker, as the worker itself has them.
#[derive(Debug)]
pub(crate) struct Executor {
    spawner: Spawner,
}

impl Executor {
    /// That of this thread, which `doorbell` wakes. `None` where there is one already.
    pub(crate) fn new(doorbell: Arc<Doorbell>) -> Option<Self> {
        let owner = LOCAL.with(|local| {
            (local.owner.get() == 0).then(|| {
                local.owner.set(NEXT.fetch_add(1, Ordering::Relaxed));
                local.owner.get()
            })
        })?;
        let (woken, any) = (Mutex::new(Some(Vec::new())), AtomicBool::new(false));
        let remote = Arc::new(Remote { owner, woken, any, doorbell });
        Some(Executor { spawner: Spawner { remote, _local: std::marker::PhantomData } })
    }

    pub(crate) fn spawner(&self) -> &Spawner {
        &self.spawner
    }

    /// Whether a task is ready.
    pub(crate) fn is_busy(&self) -> bool {
        LOCAL.with(|local| !local.ready.borrow().is_empty())
    }

    /// Runs each task that is ready now once. What they make ready runs the next time, so that
    /// no task starves the sockets.
    pub(crate) fn run_ready(&self) {
        LOCAL.with(|local| {
            let ready = local.ready.borrow().len();
            for _ in 0..ready {
                let Some(key) = local.ready.borrow_mut().pop_front() else { return };
                local.run(key);
            }
        });
    }

    /// Makes ready what other threads have woken.
    #[inline]
    pub(crate) fn take_remote(&self) {
        let remote = &*self.spawner.remote;
        if remote.any.load(Ordering::Acquire) {
            Self::take_woken(remote);
        }
    }

    #[cold]
    fn take_woken(remote: &Remote) {
        // Before the look: what is pushed after it sets this again.
        remote.any.store(false, Ordering::Relaxed);
        let woken = remote.woken().as_mut().map(std::mem::take).unwrap_or_default();
        for bell in woken {
            // Before the task looks around: who wakes it after that rings again.
            bell.is_rung.store(false, Ordering::Release);
            LOCAL.with(|local| local.make_ready(bell.key));
        }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        // Bells hold this, and it held bells.
        *self.spawner.remote.woken() = None;
        // Dropping a task may start others: until nothing is left.
        let _ = LOCAL.try_with(|local| {
            loop {
                let slots = std::mem::take(&mut *local.slots.borrow_mut());
                if slots.is_empty() {
                    break;
                }
                drop(slots);
            }
            local.ready.borrow_mut().clear();
            local.owner.set(0);
        });
    }
}

// Each connection has room for several.
const _: () = assert!(size_of::<Wakes>() == size_of::<Waker>());
