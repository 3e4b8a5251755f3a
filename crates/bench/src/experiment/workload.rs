//! What clients ask for, of whom, and by what a cost is divided.

use serde::{Deserialize, Serialize};

use super::contents::Contents;
use crate::client::{Check, Load, Resource};
use crate::peer::{Peer, Running};

/// By what a cost is divided.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Unit {
    Request,
    Gib,
}

impl Unit {
    /// The unit of a cost.
    pub(crate) fn of_cost(self) -> &'static str {
        match self {
            Self::Request => "µs/request",
            Self::Gib => "s/GiB",
        }
    }

    /// The unit of a rate.
    pub(crate) fn of_rate(self) -> &'static str {
        match self {
            Self::Request => "requests/s",
            Self::Gib => "GiB/s",
        }
    }

    /// Digits behind the point that mean something, of a cost and of a rate.
    pub(crate) fn digits(self) -> (usize, usize) {
        match self {
            Self::Request => (2, 0),
            Self::Gib => (4, 2),
        }
    }

    /// What costs are of.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Gib => "GiB",
        }
    }

    /// So much of something, for each request or GiB of the window.
    pub(crate) fn by(self, count: f64, load: &Load) -> f64 {
        match self {
            Self::Request => count / load.requests as f64,
            Self::Gib => count / gib(load),
        }
    }

    /// So many seconds of work, for each request or GiB of the window.
    fn cost(self, seconds: f64, load: &Load) -> f64 {
        match self {
            Self::Request => self.by(seconds * 1e6, load),
            Self::Gib => self.by(seconds, load),
        }
    }

    /// What the server's core paid.
    pub(crate) fn core_cost(self, load: &Load) -> f64 {
        self.cost(load.core.busy(), load)
    }

    /// What the server's own threads paid.
    pub(crate) fn threads_cost(self, load: &Load) -> f64 {
        self.cost(load.server_threads_s, load)
    }

    pub(crate) fn rate(self, load: &Load) -> f64 {
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
pub(crate) struct Workload {
    pub(crate) name: String,
    /// The file, or one of a set.
    pub(crate) contents: Contents,
    /// Files of that length that are asked for in turn, instead of one.
    pub(crate) files: Option<u32>,
    pub(crate) connections: usize,
    /// What is compared within the windows.
    pub(crate) check: Check,
    pub(crate) unit: Unit,
    pub(crate) peers: Vec<Peer>,
    /// Each server writes a line for each request.
    pub(crate) logs: bool,
}

impl Workload {
    /// What a client asks for, in words.
    pub(crate) fn asked_for(&self) -> String {
        match self.files {
            Some(files) => format!("{files} files like {} in turn", self.contents.name),
            None => self.contents.name.to_owned(),
        }
    }

    /// What a client is to ask this server for.
    pub(crate) fn resource(&self, server: &Running) -> Resource {
        let Contents { name, length, seed } = self.contents;
        let path = match self.files {
            Some(_) => format!("/{}", self.contents.set()),
            None => format!("/{name}"),
        };
        Resource { address: server.address, path, length, seed, files: self.files, sites: None }
    }
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
            switches: 0,
            asked: 0,
            answered: 0,
            starved: 0,
        };
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(Unit::Request.core_cost(&load), 8.0));
        assert!(near(Unit::Request.threads_cost(&load), 4.0));
        assert!(near(Unit::Gib.core_cost(&load), 0.1));
        assert!(near(Unit::Gib.rate(&load), 4.0));
    }
}
