//! Counts of the whole process.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use sluicegate::SendContext;

use super::relays::{RelayStats, Relayed};

/// What the workers count, each for itself, and anybody reads.
#[derive(Debug)]
pub(crate) struct Stats {
    workers: Vec<WorkerStats>,
    /// Each for one worker, which has it to itself but for who looks.
    relays: Vec<Arc<RelayStats>>,
    /// Where sockets count their bytes by way.
    pub(crate) context: Arc<SendContext>,
    pub(crate) started: SystemTime,
    /// Reloads that took place, and those that were refused.
    pub(crate) reloads: AtomicU64,
    pub(crate) reloads_refused: AtomicU64,
    /// Lines of the access log that were lost since it could not be written.
    pub(crate) log_lost: AtomicU64,
}

/// Statuses by their first digit; index 0 is unused.
const CLASSES: usize = 6;

/// One worker's counts, apart from the others' in the processor's caches.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct WorkerStats {
    by_class: [AtomicU64; CLASSES],
    accepted: AtomicU64,
    closed: AtomicU64,
    ended: [AtomicU64; Ended::ALL.len()],
}

/// Why a connection ended before its time, or was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// The client broke a rule, a limit or a deadline.
    Offence,
    /// The client took nothing of its answer for too long.
    Unread,
    /// The client was gone before its answer was ready.
    Gone,
    /// Receiving or sending failed: the client or the network.
    Network,
    /// A file changed or could not be read, or a body's source failed.
    Ours,
    /// An upstream failed or ended in the middle of an answer.
    Upstream,
    /// Nothing was left to serve it with: descriptors, memory.
    Exhausted,
    /// It did not begin with the PROXY header that it was to begin with.
    Stranger,
}

impl Ended {
    pub(crate) const ALL: [Ended; 8] = [
        Ended::Offence,
        Ended::Unread,
        Ended::Gone,
        Ended::Network,
        Ended::Ours,
        Ended::Upstream,
        Ended::Exhausted,
        Ended::Stranger,
    ];

    /// What it means, for people.
    pub(crate) fn meaning(self) -> &'static str {
        match self {
            Ended::Offence => "the client broke a rule, a limit or a deadline",
            Ended::Unread => "the client took nothing of its answer for too long",
            Ended::Gone => "the client was gone before its answer was ready",
            Ended::Network => "receiving or sending failed",
            Ended::Ours => "a file changed or could not be read",
            Ended::Upstream => "an upstream failed in the middle of its answer",
            Ended::Exhausted => "descriptors or memory had run out",
            Ended::Stranger => "it did not begin with a PROXY header",
        }
    }

    /// Its name in metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Ended::Offence => "offence",
            Ended::Unread => "unread",
            Ended::Gone => "gone",
            Ended::Network => "network",
            Ended::Ours => "ours",
            Ended::Upstream => "upstream",
            Ended::Exhausted => "exhausted",
            Ended::Stranger => "proxy_header",
        }
    }
}

impl WorkerStats {
    /// An answer was chosen.
    pub(crate) fn answered(&self, status: u16) {
        let class = usize::from(status / 100).min(CLASSES - 1);
        // Its worker alone writes it: no lock of the bus.
        let count = &self.by_class[class];
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
    }

    /// A connection is served from now on.
    pub(crate) fn accepted(&self) {
        self.accepted.fetch_add(1, Ordering::Relaxed);
    }

    /// A connection is over.
    pub(crate) fn closed(&self) {
        self.closed.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self, how: Ended) {
        self.ended[how as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Connections that it has open.
    pub(crate) fn open(&self) -> u64 {
        // Closed first, as for all of them together.
        let closed = self.closed.load(Ordering::Relaxed);
        self.accepted.load(Ordering::Relaxed).saturating_sub(closed)
    }

    /// Answers that it has chosen.
    pub(crate) fn answers(&self) -> u64 {
        self.by_class.iter().map(|count| count.load(Ordering::Relaxed)).sum()
    }
}

impl Stats {
    pub(crate) fn new(workers: usize, context: Arc<SendContext>) -> Arc<Self> {
        Arc::new(Stats {
            workers: (0..workers).map(|_| WorkerStats::default()).collect(),
            relays: (0..workers).map(|_| Arc::default()).collect(),
            context,
            started: SystemTime::now(),
            reloads: AtomicU64::new(0),
            reloads_refused: AtomicU64::new(0),
            log_lost: AtomicU64::new(0),
        })
    }

    /// All workers' counts, in the order of their numbers.
    pub(crate) fn workers(&self) -> &[WorkerStats] {
        &self.workers
    }

    /// The counts of one worker.
    pub(crate) fn worker(&self, number: usize) -> &WorkerStats {
        &self.workers[number]
    }

    /// Where one worker counts what it relays.
    pub(crate) fn relays(&self, number: usize) -> &Arc<RelayStats> {
        &self.relays[number]
    }

    /// What was relayed by all workers.
    pub(crate) fn relayed(&self) -> Relayed {
        Relayed::of(self.relays.iter().map(|relays| &**relays))
    }

    fn sum(&self, count: impl Fn(&WorkerStats) -> &AtomicU64) -> u64 {
        self.workers.iter().map(|worker| count(worker).load(Ordering::Relaxed)).sum()
    }

    /// Answers whose status begins with the digit `class`.
    pub(crate) fn answers(&self, class: usize) -> u64 {
        self.sum(|worker| &worker.by_class[class])
    }

    /// Connections that were accepted.
    pub(crate) fn accepted(&self) -> u64 {
        self.sum(|worker| &worker.accepted)
    }

    /// Connections that are open.
    pub(crate) fn open(&self) -> u64 {
        // Closed first: a connection that closes in between must not make it negative.
        let closed = self.sum(|worker| &worker.closed);
        self.accepted().saturating_sub(closed)
    }

    /// Connections that ended before their time.
    pub(crate) fn ended(&self, how: Ended) -> u64 {
        self.sum(|worker| &worker.ended[how as usize])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_count_apart_and_together() {
        let stats = Stats::new(2, Arc::default());
        let [one, other] = stats.workers() else { panic!("two workers") };
        one.accepted();
        one.accepted();
        one.closed();
        other.accepted();
        one.answered(200);
        other.answered(404);
        other.answered(999);
        one.ended(Ended::Gone);
        other.ended(Ended::Gone);
        assert_eq!((stats.accepted(), stats.open()), (3, 2));
        assert_eq!((one.open(), other.open()), (1, 1));
        assert_eq!((one.answers(), other.answers()), (1, 2));
        assert_eq!([2, 3, 4, 5].map(|class| stats.answers(class)), [1, 0, 1, 1]);
        assert_eq!((stats.ended(Ended::Gone), stats.ended(Ended::Ours)), (2, 0));
    }

    #[test]
    fn what_closes_while_it_is_counted_is_no_negative_number() {
        let stats = Stats::new(1, Arc::default());
        // Another thread's counts may be seen in any order.
        stats.worker(0).closed();
        assert_eq!((stats.open(), stats.worker(0).open()), (0, 0));
    }
}
