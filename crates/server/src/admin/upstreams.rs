//! Figures of upstreams and of what is relayed from them; names and units are
//! those of `/status.json`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::sources::Spools;
use crate::gateway::{PoolFigures, QueueFigures, ServerFigures};
use crate::observe::{HELD_BOUNDS, Relayed};
use crate::proxy::PROOFS;

/// What was relayed since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Relays {
    pub(super) requests: u64,
    /// Bytes of requests' bodies.
    pub(super) request_bytes: u64,
    /// Bytes of answers' content, by the path that they took.
    pub(super) spliced_bytes: u64,
    pub(super) ring_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) copied_bytes: u64,
    /// Partitions of rings that were written again, by the proof that allowed it.
    pub(super) partitions: BTreeMap<&'static str, u64>,
    pub(super) upstream_held: Held,
    pub(super) troubles: BTreeMap<&'static str, u64>,
    /// Answers that had no disk, or lost it, and went on through memory.
    pub(super) disk_failures: u64,
}

impl Relays {
    /// By name. Every byte is in one of them.
    pub(super) fn paths(&self) -> [(&'static str, u64); 4] {
        [
            ("spliced", self.spliced_bytes),
            ("ring", self.ring_bytes),
            ("disk", self.disk_bytes),
            ("copied", self.copied_bytes),
        ]
    }
}

/// How long upstreams were held, from a request to the moment in which its
/// upstream was let go.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Held {
    pub(super) count: u64,
    pub(super) sum_ms: u64,
    /// How often no longer than so many milliseconds.
    pub(super) within_ms: Vec<(u64, u64)>,
}

/// A pool of servers.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Pool {
    pub(super) name: String,
    pub(super) servers: Vec<Server>,
    pub(super) queue: Queue,
}

/// Requests that find all servers of a pool at their limits.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Queue {
    /// That wait now.
    pub(super) waiting: u64,
    /// That had to wait.
    pub(super) queued: u64,
    /// That found the queue full.
    pub(super) refused: u64,
    /// That waited for too long.
    pub(super) timed_out: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Server {
    pub(super) address: String,
    /// What health checks say of it.
    pub(super) up: bool,
    /// It is left alone, since it failed requests.
    pub(super) ejected: bool,
    /// Requests under way.
    pub(super) active: u32,
    pub(super) requests: u64,
    pub(super) failures: u64,
    /// Connections made, and requests that went over one that was there.
    pub(super) connects: u64,
    pub(super) reuses: u64,
}

impl Server {
    /// What is known by two names is one server at one address, and told once.
    fn add(&mut self, other: &Server) {
        self.up |= other.up;
        self.ejected &= other.ejected;
        self.active += other.active;
        self.requests += other.requests;
        self.failures += other.failures;
        self.connects += other.connects;
        self.reuses += other.reuses;
    }
}

/// What waits between upstreams and clients.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Spool {
    pub(super) held_bytes: u64,
    pub(super) disk_bytes: u64,
    pub(super) budget_bytes: u64,
}

pub(super) fn relays(relayed: Relayed) -> Relays {
    let within = HELD_BOUNDS.into_iter().zip(relayed.held_within);
    Relays {
        requests: relayed.requests,
        request_bytes: relayed.request_bytes,
        spliced_bytes: relayed.bytes.spliced,
        ring_bytes: relayed.bytes.ring,
        disk_bytes: relayed.bytes.disk,
        copied_bytes: relayed.bytes.copied,
        partitions: PROOFS.into_iter().zip(relayed.proofs).collect(),
        upstream_held: Held {
            count: relayed.held,
            sum_ms: relayed.held_ms,
            within_ms: within.collect(),
        },
        troubles: relayed.troubles,
        disk_failures: relayed.disk_failures,
    }
}

pub(super) fn pools(pools: Vec<PoolFigures>) -> Vec<Pool> {
    let server = |server: ServerFigures| Server {
        address: server.address,
        up: server.is_up,
        ejected: server.is_ejected,
        active: server.active,
        requests: server.requests,
        failures: server.failures,
        connects: server.connects,
        reuses: server.reuses,
    };
    let pool = |pool: PoolFigures| {
        let mut servers: Vec<Server> = Vec::new();
        for one in pool.servers.into_iter().map(server) {
            match servers.iter_mut().find(|other| other.address == one.address) {
                Some(other) => other.add(&one),
                None => servers.push(one),
            }
        }
        Pool { name: pool.name, servers, queue: queue(pool.queue) }
    };
    pools.into_iter().map(pool).collect()
}

fn queue(queue: QueueFigures) -> Queue {
    let QueueFigures { waiting, queued, refused, timed_out } = queue;
    Queue { waiting, queued, refused, timed_out }
}

pub(super) fn spool(spools: Spools) -> Spool {
    Spool { held_bytes: spools.held, disk_bytes: spools.on_disk, budget_bytes: spools.budget }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_by_two_names_is_told_once() {
        let of = |address: &str, is_up, requests| ServerFigures {
            address: address.to_owned(),
            is_up,
            is_ejected: !is_up,
            active: 1,
            requests,
            failures: 2,
            connects: 3,
            reuses: 4,
        };
        let servers = vec![of("a:1", false, 10), of("b:1", true, 20), of("a:1", true, 30)];
        let queue = QueueFigures { waiting: 0, queued: 0, refused: 0, timed_out: 0 };
        let told = pools(vec![PoolFigures { name: "app".to_owned(), servers, queue }]);
        let [a, b] = &told[0].servers[..] else { panic!("{told:?}") };
        assert_eq!((&*a.address, a.up, a.ejected, a.active), ("a:1", true, false, 2));
        assert_eq!((a.requests, a.failures, a.connects, a.reuses), (40, 4, 6, 8));
        assert_eq!((&*b.address, b.requests), ("b:1", 20));
    }
}
