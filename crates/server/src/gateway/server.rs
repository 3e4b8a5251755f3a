//! One server, as the whole process knows it: what runs on it, how it has behaved,
//! and whether it may be asked.

use std::cell::Cell;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Instant;

use sluicegate::Target;

use super::balance::Now;
use super::ejection::{Conduct, Share};
use super::pool::Pool;
use crate::config;

/// Numbers servers, so that two are never taken for one another.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// A server of a pool, from one configuration to the next that has it too.
#[derive(Debug)]
pub(crate) struct Server {
    pub(super) id: u64,
    pub(super) target: Target,
    /// For logs: where it is.
    pub(super) name: Arc<str>,
    /// What Host says.
    pub(super) authority: String,
    /// Requests under way, of all workers.
    active: AtomicU32,
    /// Requests for which a new connection was asked for.
    pub(super) fresh: AtomicU64,
    /// Those that had one that was kept.
    reuses: Mutex<Reuses>,
    pub(super) connects: AtomicU64,
    /// What its health checks say; true before the first.
    is_up: AtomicBool,
    pub(super) conduct: Conduct,
}

impl Server {
    pub(super) fn new(target: Target, authority: String) -> Arc<Self> {
        let name = match &target {
            Target::Tcp(address) => address.to_string(),
            Target::Unix(path) => format!("unix:{}", path.display()),
        };
        let name = name.into();
        Arc::new(Server {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            target,
            name,
            authority,
            active: AtomicU32::new(0),
            fresh: AtomicU64::new(0),
            reuses: Mutex::default(),
            connects: AtomicU64::new(0),
            is_up: AtomicBool::new(true),
            conduct: Conduct::default(),
        })
    }

    pub(super) fn is_up(&self) -> bool {
        self.is_up.load(Ordering::Relaxed)
    }

    /// What its checks say from now on. Up again, it gets its share slowly.
    pub(super) fn set_up(&self, is_up: bool, now: u64) {
        let was_up = self.is_up.swap(is_up, Ordering::Relaxed);
        if is_up && !was_up {
            self.conduct.returned(now);
        }
    }

    pub(super) fn active(&self) -> u32 {
        self.active.load(Ordering::Relaxed)
    }

    pub(super) fn share(&self, now: Now, ejection: &config::Ejection) -> Share {
        self.conduct.share(now, ejection)
    }

    /// Counts one more request, if there is room for it.
    pub(super) fn begin(&self, limit: Option<u32>) -> bool {
        // In one order with the count of those that wait: who gives room back looks
        // there after it, and who waits looks here after it.
        let Some(limit) = limit else {
            self.active.fetch_add(1, Ordering::SeqCst);
            return true;
        };
        let more = |active| if active < limit { Some(active + 1) } else { None };
        self.active.fetch_update(Ordering::SeqCst, Ordering::SeqCst, more).is_ok()
    }

    /// One request less.
    #[inline]
    pub(super) fn end(&self) {
        self.active.fetch_sub(1, Ordering::SeqCst);
    }

    fn lock(&self) -> MutexGuard<'_, Reuses> {
        self.reuses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reuses(&self) -> u64 {
        let reuses = self.lock();
        let of_workers = reuses.workers.iter().map(|count| count.load(Ordering::Relaxed));
        reuses.before + of_workers.sum::<u64>()
    }

    /// Where one worker counts them, until [`Server::end_reuses`].
    pub(super) fn begin_reuses(&self) -> Arc<AtomicU64> {
        let count = Arc::default();
        self.lock().workers.push(Arc::clone(&count));
        count
    }

    pub(super) fn end_reuses(&self, count: &Arc<AtomicU64>) {
        let mut reuses = self.lock();
        reuses.workers.retain(|other| !Arc::ptr_eq(other, count));
        reuses.before += count.load(Ordering::Relaxed);
    }
}

/// Requests that had a connection that was kept.
#[derive(Debug, Default)]
struct Reuses {
    /// As each worker counts its own, which nobody else writes.
    workers: Vec<Arc<AtomicU64>>,
    /// Of those that are gone.
    before: u64,
}

/// A request under way, counted until it is dropped; of whatever worker.
#[derive(Debug)]
pub(super) struct Active {
    pub(super) pool: Arc<Pool>,
    pub(super) server: Arc<Server>,
}

impl Drop for Active {
    fn drop(&mut self) {
        self.server.end();
        self.pool.queue.room();
    }
}

/// What a request to `address` says in Host. RFC 9110 section 7.2: the port goes
/// where it is HTTP's own.
pub(super) fn authority(host: &str, port: u16) -> String {
    if port == 80 { host.to_owned() } else { format!("{host}:{port}") }
}

pub(super) fn authority_of_address(address: SocketAddr) -> String {
    match address {
        SocketAddr::V4(v4) => authority(&v4.ip().to_string(), v4.port()),
        SocketAddr::V6(v6) => authority(&format!("[{}]", v6.ip()), v6.port()),
    }
}

/// A path is no host.
pub(super) fn authority_of_path(_path: &Path) -> String {
    "localhost".to_owned()
}

/// Milliseconds since the process first asked, from 1.
pub(super) fn millis(now: Instant) -> u64 {
    thread_local! {
        /// Asked again and again in one turn of a reactor.
        static LAST: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
    }
    match LAST.get() {
        Some((last, millis)) if last == now => millis,
        _ => {
            let millis = since_begin(now);
            LAST.set(Some((now, millis)));
            millis
        }
    }
}

fn since_begin(now: Instant) -> u64 {
    static BEGIN: OnceLock<Instant> = OnceLock::new();
    let begin = *BEGIN.get_or_init(Instant::now);
    u64::try_from(now.saturating_duration_since(begin).as_millis()).unwrap_or(u64::MAX - 1) + 1
}
