//! Counts of what was relayed from upstreams.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use sluicegate::SpoolBytes;

use crate::proxy::{PROOFS, Told};

/// Milliseconds that divide how long upstreams were held: from those that are
/// beside us to those whose clients are on phones.
pub(crate) const HELD_BOUNDS: [u64; 15] =
    [1, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 30_000, 60_000, 300_000];

/// What may go wrong, by name (`Trouble::name`), so that each is shown before it
/// has happened. The last stands for those that nobody has put here.
pub(crate) const TROUBLES: [&str; 22] = [
    "accel",
    "bad_answer",
    "bad_chunks",
    "body_broken",
    "body_too_large",
    "broken",
    "busy",
    "client_body",
    "client_gone",
    "closed",
    "connect",
    "connect_timeout",
    "exhausted",
    "head_timeout",
    "no_server",
    "ours",
    "read_timeout",
    "refused",
    "truncated",
    "unresolved",
    "write_timeout",
    "other",
];

/// One worker's counts, which others read.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct RelayStats {
    requests: AtomicU64,
    request_bytes: AtomicU64,
    spliced: AtomicU64,
    ring: AtomicU64,
    disk: AtomicU64,
    copied: AtomicU64,
    proofs: [AtomicU64; PROOFS.len()],
    /// By the first bound that is not exceeded; the last of those beyond all.
    held: [AtomicU64; HELD_BOUNDS.len() + 1],
    held_ms: AtomicU64,
    troubles: [AtomicU64; TROUBLES.len()],
    disk_failures: AtomicU64,
}

impl RelayStats {
    /// A request is over.
    pub(crate) fn add(&self, told: &Told) {
        // Most are zero, and a look costs less than an addition. Its worker alone writes it:
        // no lock of the bus.
        let add = |count: &AtomicU64, more: u64| {
            if more > 0 {
                count.store(count.load(Ordering::Relaxed) + more, Ordering::Relaxed);
            }
        };
        add(&self.requests, 1);
        add(&self.request_bytes, told.request_bytes);
        let SpoolBytes { spliced, ring, disk, copied } = told.spool;
        add(&self.spliced, spliced);
        add(&self.ring, ring);
        add(&self.disk, disk);
        add(&self.copied, copied);
        for (count, more) in self.proofs.iter().zip(told.proofs) {
            add(count, more);
        }
        if let Some(held) = told.held_ms {
            let at = HELD_BOUNDS.partition_point(|bound| *bound < held);
            add(&self.held[at], 1);
            add(&self.held_ms, held);
        }
        add(&self.disk_failures, told.lost_disk.into());
        if let Some(name) = told.trouble {
            let at = TROUBLES.iter().position(|trouble| *trouble == name);
            add(&self.troubles[at.unwrap_or(TROUBLES.len() - 1)], 1);
        }
    }
}

/// The counts of all workers together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Relayed {
    /// Requests that were for upstreams.
    pub(crate) requests: u64,
    /// Bytes of their bodies that went there.
    pub(crate) request_bytes: u64,
    /// Bytes of content by the path that they took.
    pub(crate) bytes: SpoolBytes,
    /// Partitions of rings that were written again, by [`PROOFS`].
    pub(crate) proofs: [u64; PROOFS.len()],
    /// How often an upstream was held no longer than each of [`HELD_BOUNDS`].
    pub(crate) held_within: [u64; HELD_BOUNDS.len()],
    /// How often it was held, and how long in all.
    pub(crate) held: u64,
    pub(crate) held_ms: u64,
    pub(crate) troubles: BTreeMap<&'static str, u64>,
    /// Answers for which there was no disk, or which lost it.
    pub(crate) disk_failures: u64,
}

impl Relayed {
    pub(super) fn of<'a>(workers: impl IntoIterator<Item = &'a RelayStats>) -> Self {
        let mut all = Relayed::default();
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        for worker in workers {
            all.requests += get(&worker.requests);
            all.request_bytes += get(&worker.request_bytes);
            all.bytes.spliced += get(&worker.spliced);
            all.bytes.ring += get(&worker.ring);
            all.bytes.disk += get(&worker.disk);
            all.bytes.copied += get(&worker.copied);
            for (sum, count) in all.proofs.iter_mut().zip(&worker.proofs) {
                *sum += get(count);
            }
            all.disk_failures += get(&worker.disk_failures);
            all.held_ms += get(&worker.held_ms);
            let mut held = 0;
            for (within, count) in all.held_within.iter_mut().zip(&worker.held) {
                held += get(count);
                *within += held;
            }
            all.held += worker.held.iter().map(get).sum::<u64>();
            for (name, count) in TROUBLES.iter().zip(&worker.troubles) {
                *all.troubles.entry(name).or_default() += get(count);
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_what_became_of_them() {
        let [one, other] = [RelayStats::default(), RelayStats::default()];
        let spool = SpoolBytes { spliced: 4, ring: 3, disk: 2, copied: 1 };
        let proofs = [0, 0, 5, 1];
        one.add(&Told { spool, proofs, held_ms: Some(10), request_bytes: 7, ..Told::default() });
        one.add(&Told { held_ms: Some(11), trouble: Some("truncated"), ..Told::default() });
        one.add(&Told { lost_disk: true, ..Told::default() });
        other.add(&Told { spool, proofs, held_ms: Some(9_999_999), ..Told::default() });
        other.add(&Told { trouble: Some("never heard of"), ..Told::default() });
        let all = Relayed::of([&one, &other]);
        assert_eq!((all.requests, all.request_bytes, all.disk_failures), (5, 7, 1));
        assert_eq!(all.bytes, SpoolBytes { spliced: 8, ring: 6, disk: 4, copied: 2 });
        assert_eq!(all.proofs, [0, 0, 10, 2]);
        let within: Vec<u64> = HELD_BOUNDS
            .iter()
            .zip(all.held_within)
            .filter_map(|(bound, count)| [5, 10, 25, 300_000].contains(bound).then_some(count))
            .collect();
        assert_eq!(within, [0, 1, 2, 2]);
        assert_eq!((all.held, all.held_ms), (3, 10_000_020));
        assert_eq!((all.troubles["truncated"], all.troubles["other"]), (1, 1));
        assert_eq!((all.troubles["busy"], all.troubles.len()), (0, TROUBLES.len()));
    }

    #[test]
    fn every_trouble_has_its_place() {
        // The names that `Trouble::name` and `ObtainError::name` give.
        let sources = [include_str!("../proxy/trouble.rs"), include_str!("../gateway/error.rs")];
        let given = sources.iter().flat_map(|source| {
            let (_, rest) = source.split_once("fn name(").unwrap();
            let (body, _) = rest.split_once("\n    }\n").unwrap();
            body.split('"').skip(1).step_by(2)
        });
        let mut names: Vec<&str> = given.chain(["other"]).collect();
        names.sort_unstable();
        let mut known = TROUBLES.to_vec();
        known.sort_unstable();
        assert_eq!(known, names);
    }

    #[test]
    fn nothing_relayed_is_shown_with_its_names() {
        let none = Relayed::of([&RelayStats::default()]);
        assert_eq!(none.troubles.len(), TROUBLES.len());
        assert_eq!((none.requests, none.held), (0, 0));
    }
}
