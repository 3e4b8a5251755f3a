//! The access log: one line for each request, from the workers to a file.
//!
//! ```text
//! Writer (one a worker) ─ Seat ─ pieces ─┐
//! Writer ─ Seat ─ pieces ────────────────┴─ thread ─ Output ─ write(2), O_APPEND
//! ```
//! A worker renders lines into memory of its own and makes no system call but
//! the one that wakes the thread, once a piece or a fifth of a second. When the
//! file cannot be written, lines wait; beyond a bound they are lost and counted.

mod output;
mod thread;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sluicegate_http::Observe;

use self::output::Output;
use self::thread::Scribe;
use super::stats::Stats;
pub(crate) use super::writer::Writer;
use super::writer::{Seat, empty_piece, is_kept};
use crate::config::{self, LogFormat, LogTo};
use crate::log::tell;

/// Bytes of lines that wait to be written. What is logged beyond is lost.
const BACKLOG: usize = 16 << 20;

/// Empty pieces that are kept.
pub(super) const SPARE: usize = 16;

/// How long anybody waits for the thread, which may wait for a disk or a pipe.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who the file belongs to: user and group.
pub(crate) type Owner = (u32, u32);

/// An access log that is being written.
#[derive(Debug)]
pub(crate) struct AccessLog {
    shared: Arc<Shared>,
    name: String,
    observe: Observe,
    thread: Mutex<Thread>,
}

/// The thread is started when it is first needed, and so as the user that the
/// process is then.
#[derive(Debug)]
enum Thread {
    Waiting(Scribe),
    Running(JoinHandle<()>),
    Over,
}

/// What the workers' ends and the thread share.
#[derive(Debug)]
pub(super) struct Shared {
    format: LogFormat,
    seats: Mutex<Vec<Arc<Seat>>>,
    /// Bytes of pieces that were handed over and are not written.
    waiting: AtomicUsize,
    spare: Mutex<Vec<Vec<u8>>>,
    lost: AtomicU64,
    stats: OnceLock<Arc<Stats>>,
    /// The thread has ended.
    over: AtomicBool,
    desk: Mutex<Desk>,
    bell: Condvar,
}

/// What the thread is to do.
#[derive(Debug, Default)]
struct Desk {
    /// There are lines.
    lines: bool,
    /// There is so much that it is to be written at once.
    hurry: bool,
    orders: Vec<Order>,
    /// Nobody gives orders any more: it ends with the last seat.
    left: bool,
}

/// What somebody waits for.
#[derive(Debug)]
enum Order {
    /// All lines so far are written, or it was tried.
    Flush(Sender<()>),
    /// They are, and the path is open anew.
    Reopen(Sender<std::io::Result<()>>),
    /// They are, and no more come.
    Finish(Sender<bool>),
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(to: &LogTo) -> String {
    match to {
        LogTo::Stdout => "the access log on standard output".to_owned(),
        LogTo::File(path) => format!("the access log {}", path.display()),
    }
}

impl AccessLog {
    /// Makes the file where there is none yet, and gives it to `owner`: for root,
    /// in a directory in which who is to open it may make none.
    ///
    /// # Errors
    /// When it was made and cannot be given away.
    pub(crate) fn create(config: &config::AccessLog, owner: Owner) -> Result<()> {
        let LogTo::File(path) = &config.to else { return Ok(()) };
        output::create(path, owner)
            .with_context(|| format!("cannot give {} to who writes it", name(&config.to)))
    }

    /// Opens the log. Call it as who opens it again after a rotation, so that
    /// what keeps that one from it is told at once.
    ///
    /// # Errors
    /// What keeps it from being opened, for the operator.
    pub(crate) fn open(config: &config::AccessLog) -> Result<Arc<Self>> {
        let name = name(&config.to);
        let output = Output::open(&config.to).map_err(|error| {
            let hint = match error.kind() {
                std::io::ErrorKind::NotFound => "; its directory must exist",
                std::io::ErrorKind::PermissionDenied => {
                    "; the user that runs the server must be allowed to write it"
                }
                _ => "",
            };
            anyhow::anyhow!("cannot open {name}: {error}{hint}")
        })?;
        let shared = Arc::new(Shared {
            format: config.format,
            seats: Mutex::default(),
            waiting: AtomicUsize::new(0),
            spare: Mutex::default(),
            lost: AtomicU64::new(0),
            stats: OnceLock::new(),
            over: AtomicBool::new(false),
            desk: Mutex::default(),
            bell: Condvar::new(),
        });
        let scribe = Scribe::new(Arc::clone(&shared), output, name.clone());
        let observe = if config.acked { Observe::Acked } else { Observe::Accepted };
        let thread = Mutex::new(Thread::Waiting(scribe));
        Ok(Arc::new(AccessLog { shared, name, observe, thread }))
    }

    /// A worker's end.
    pub(crate) fn writer(&self) -> Writer {
        self.start();
        let mut seats = lock(&self.shared.seats);
        let seat = Arc::new(Seat::new(self.shared.over.load(Ordering::Acquire)));
        seats.push(Arc::clone(&seat));
        Writer::new(Arc::clone(&self.shared), seat)
    }

    /// Starts the thread, if that was not done.
    fn start(&self) {
        let mut thread = lock(&self.thread);
        *thread = match std::mem::replace(&mut *thread, Thread::Over) {
            Thread::Waiting(scribe) => {
                let builder = std::thread::Builder::new().name("access-log".into());
                match builder.spawn(|| scribe.run()) {
                    Ok(running) => Thread::Running(running),
                    Err(error) => {
                        self.shared.over.store(true, Ordering::Release);
                        let name = &self.name;
                        tell(format_args!("{name} is not written: no thread for it: {error}"));
                        Thread::Over
                    }
                }
            }
            started => started,
        };
    }

    /// What it must be told.
    pub(crate) fn observes(&self) -> Observe {
        self.observe
    }

    /// Counts lost lines in `stats` too, from now on.
    pub(crate) fn count_lost_in(&self, stats: &Arc<Stats>) {
        // The process has one; who comes first has said it.
        let _ = self.shared.stats.set(Arc::clone(stats));
    }

    /// Lines that were lost.
    #[cfg(test)]
    pub(crate) fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }

    /// Opens the path anew: the file that was there before has all lines that
    /// were logged before, as far as it takes them. Standard output stays.
    ///
    /// # Errors
    /// Where it cannot be opened; the old file is written on.
    pub(crate) fn reopen(&self) -> Result<()> {
        match self.ask(Order::Reopen) {
            Some(result) => result.with_context(|| {
                format!("cannot open {} anew, the old file is written on", self.name)
            }),
            None => bail!("{} is not open anew yet: its disk is slow", self.name),
        }
    }

    /// Writes all lines that were logged so far: before another program takes
    /// over. False where the file does not take them, or not in time.
    pub(crate) fn flush(&self) -> bool {
        self.ask(Order::Flush).is_some() && self.shared.waiting.load(Ordering::Acquire) == 0
    }

    /// Writes all lines that were logged and ends the thread. What is logged
    /// after that is lost. False where lines were left over.
    pub(crate) fn finish(&self) -> bool {
        let written = self.ask(Order::Finish);
        if written.is_some()
            && let Thread::Running(thread) =
                std::mem::replace(&mut *lock(&self.thread), Thread::Over)
        {
            // A panic of it was reported by the hook.
            let _ = thread.join();
        }
        written == Some(true)
    }

    /// Gives an order and waits until it is done; `None` where that takes too long.
    fn ask<T>(&self, order: impl FnOnce(Sender<T>) -> Order) -> Option<T> {
        self.start();
        let (sender, done) = mpsc::channel();
        lock(&self.shared.desk).orders.push(order(sender));
        self.shared.bell.notify_one();
        done.recv_timeout(PATIENCE).ok()
    }
}

impl Drop for AccessLog {
    /// The thread writes what its writers still log, and ends with the last.
    fn drop(&mut self) {
        lock(&self.shared.desk).left = true;
        self.shared.announce(false);
    }
}

impl Shared {
    pub(super) fn format(&self) -> LogFormat {
        self.format
    }

    /// Whether another piece may wait.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) < BACKLOG
    }

    /// So many bytes wait from now on.
    pub(super) fn handed(&self, bytes: usize) {
        self.waiting.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A piece was written, or given up.
    fn done_with(&self, mut piece: Vec<u8>) {
        self.waiting.fetch_sub(piece.len(), Ordering::Release);
        piece.clear();
        let mut spare = lock(&self.spare);
        if spare.len() < SPARE && is_kept(&piece) {
            spare.push(piece);
        }
    }

    pub(super) fn spare_piece(&self) -> Vec<u8> {
        lock(&self.spare).pop().unwrap_or_else(empty_piece)
    }

    /// Tells the thread that there are lines, and whether it is to hurry.
    pub(super) fn announce(&self, hurry: bool) {
        let mut desk = lock(&self.desk);
        let is_news = !desk.lines || (hurry && !desk.hurry);
        desk.lines = true;
        desk.hurry |= hurry;
        drop(desk);
        if is_news {
            self.bell.notify_one();
        }
    }

    /// So many lines are lost.
    pub(super) fn lose(&self, lines: u64) {
        self.lost.fetch_add(lines, Ordering::Relaxed);
        if let Some(stats) = self.stats.get() {
            stats.log_lost.fetch_add(lines, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
