//! What clients ask for in this experiment, of whom, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::client::{Check, Load};
use crate::experiment::contents::{Contents, GIB, KIB};
use crate::floor::Way;
use crate::harness::round::Rounds;
use crate::peer::Peer;

/// How long and how often is measured.
///
/// Windows are short, and rounds many, so that a round is over before the host moves a core
/// again; `/proc/stat` counts in steps of 10 ms, whose error the median of rounds evens out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) rounds: Rounds,
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
}

impl Effort {
    pub(super) const QUICK: Self = Self {
        rounds: Rounds { wanted: 7, at_most: 12 },
        warm_up: Duration::from_millis(80),
        window: Duration::from_millis(500),
    };
    pub(super) const FULL: Self = Self {
        rounds: Rounds { wanted: 15, at_most: 30 },
        warm_up: Duration::from_millis(200),
        window: Duration::from_millis(1000),
    };
}

/// By what a cost is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Unit {
    Request,
    Gib,
}

impl Unit {
    /// The unit of a cost.
    pub(super) fn of_cost(self) -> &'static str {
        match self {
            Self::Request => "µs/request",
            Self::Gib => "s/GiB",
        }
    }

    /// The unit of a rate.
    pub(super) fn of_rate(self) -> &'static str {
        match self {
            Self::Request => "requests/s",
            Self::Gib => "GiB/s",
        }
    }

    /// Digits behind the point that mean something, of a cost and of a rate.
    pub(super) fn digits(self) -> (usize, usize) {
        match self {
            Self::Request => (2, 0),
            Self::Gib => (4, 2),
        }
    }

    /// So many seconds of work, for each request or GiB of the window.
    fn cost(self, seconds: f64, load: &Load) -> f64 {
        match self {
            Self::Request => seconds * 1e6 / load.requests as f64,
            Self::Gib => seconds / gib(load),
        }
    }

    /// What the server's core paid.
    pub(super) fn core_cost(self, load: &Load) -> f64 {
        self.cost(load.core.busy(), load)
    }

    /// What the server's own threads paid.
    pub(super) fn threads_cost(self, load: &Load) -> f64 {
        self.cost(load.server_threads_s, load)
    }

    pub(super) fn rate(self, load: &Load) -> f64 {
        match self {
            Self::Request => load.requests as f64 / load.window_s,
            Self::Gib => gib(load) / load.window_s,
        }
    }
}

fn gib(load: &Load) -> f64 {
    load.bytes as f64 / f64::from(1 << 30)
}

/// What clients ask for, and who is asked.
#[derive(Debug, Clone)]
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) contents: Contents,
    pub(super) connections: usize,
    /// What is compared within the windows.
    pub(super) check: Check,
    pub(super) unit: Unit,
    pub(super) peers: Vec<Peer>,
}

/// All of them, in the order in which they are measured.
pub(super) fn workloads(quick: bool) -> Vec<Workload> {
    let mut small = vec![Peer::Sluicegate, Peer::Nginx, Peer::Floor(Way::Epoll)];
    if !quick {
        small.insert(2, Peer::NginxCached);
    }
    let mut large =
        vec![Peer::Sluicegate, Peer::Nginx, Peer::Floor(Way::Sendfile), Peer::Floor(Way::Splice)];
    if !quick {
        large.extend([Way::SendfileCork, Way::SpliceCork].map(Peer::Floor));
    }
    let download = |name, connections| Workload {
        name,
        contents: GIB,
        connections,
        check: Check::Sampled,
        unit: Unit::Gib,
        peers: large.clone(),
    };
    let mut workloads = vec![
        Workload {
            name: "1KiB-64",
            contents: KIB,
            connections: 64,
            check: Check::Whole,
            unit: Unit::Request,
            peers: small,
        },
        download("1GiB-1", 1),
    ];
    if !quick {
        workloads.push(download("1GiB-8", 8));
    }
    workloads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Latency;
    use crate::harness::cpu::CoreTime;

    #[test]
    fn costs_are_busy_seconds_by_what_was_delivered() {
        let load = Load {
            window_s: 2.0,
            requests: 100_000,
            bytes: 8 << 30,
            slices: Vec::new(),
            core: CoreTime { user: 0.2, system: 0.5, softirq: 0.1, ..CoreTime::default() },
            server_threads_s: 0.4,
            others_s: 0.0,
            distances_ns: [420.0, 430.0],
            latency_us: Latency::default(),
        };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(Unit::Request.core_cost(&load), 8.0));
        assert!(near(Unit::Request.threads_cost(&load), 4.0));
        assert!(near(Unit::Gib.core_cost(&load), 0.1));
        assert!(near(Unit::Gib.rate(&load), 4.0));
    }
}
