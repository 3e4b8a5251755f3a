//! When an upstream had its bodies off its hands.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::harness::clock::monotonic_ns;

/// Bodies from this length on are told of one by one.
const LARGE: u64 = 1 << 20;

/// So many are told of at most: the newest.
const TOLD: usize = 4096;

/// One body, in nanoseconds of [`monotonic_ns`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Handed {
    pub(crate) path: String,
    pub(crate) length: u64,
    /// The request was there.
    pub(crate) began: u64,
    /// The kernel had accepted the last byte; `None`: the connection ended before.
    pub(crate) ended: Option<u64>,
    /// Bytes that were accepted.
    pub(crate) sent: u64,
}

impl Handed {
    /// Seconds that the body was on the upstream's hands.
    pub(crate) fn held_s(&self) -> Option<f64> {
        Some((self.ended? - self.began) as f64 / 1e9)
    }
}

/// What an upstream has done since it was told to forget.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Requests that came.
    pub(crate) requests: u64,
    /// Connections that were accepted.
    pub(crate) connections: u64,
    /// Bodies that were cut off by the other end.
    pub(crate) cut: u64,
    /// Large bodies that have ended, in the order in which they did.
    pub(crate) bodies: Vec<Handed>,
    /// Large bodies that are under way.
    pub(crate) under_way: BTreeMap<u64, Handed>,
    next: u64,
}

impl Account {
    /// A body begins; the number stands for it, if it is told of.
    pub(super) fn begin(&mut self, path: &str, length: u64) -> Option<u64> {
        self.requests += 1;
        if length < LARGE {
            return None;
        }
        let began = monotonic_ns();
        self.next += 1;
        let handed = Handed { path: path.to_owned(), length, began, ended: None, sent: 0 };
        self.under_way.insert(self.next, handed);
        Some(self.next)
    }

    /// So many bytes were accepted in all; `None`: the connection is gone.
    pub(super) fn end(&mut self, number: Option<u64>, sent: u64, is_whole: bool) {
        self.cut += u64::from(!is_whole);
        let Some(mut handed) = number.and_then(|number| self.under_way.remove(&number)) else {
            return;
        };
        handed.sent = sent;
        handed.ended = is_whole.then(monotonic_ns);
        if self.bodies.len() == TOLD {
            self.bodies.remove(0);
        }
        self.bodies.push(handed);
    }

    /// Begins anew; bodies under way stay.
    pub(super) fn forget(&mut self) {
        let under_way = std::mem::take(&mut self.under_way);
        *self = Self { under_way, next: self.next, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_bodies_are_told_of_when_they_end_and_small_ones_are_counted() {
        let mut account = Account::default();
        assert_eq!(account.begin("/small", 1024), None);
        let whole = account.begin("/large", LARGE);
        let cut = account.begin("/large", LARGE);
        account.end(whole, LARGE, true);
        account.end(cut, 7, false);
        assert_eq!((account.requests, account.cut), (3, 1));
        assert!(account.bodies[0].held_s().unwrap() >= 0.0);
        assert_eq!((account.bodies[1].held_s(), account.bodies[1].sent), (None, 7));
        account.begin("/large", LARGE);
        account.forget();
        assert_eq!((account.bodies.len(), account.under_way.len()), (0, 1));
        let json = serde_json::to_string(&account).unwrap();
        assert_eq!(serde_json::from_str::<Account>(&json).unwrap(), account);
    }
}
