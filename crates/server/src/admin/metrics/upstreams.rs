//! Metrics of upstreams and of what is relayed from them.

use super::{Exposition, Kind, Labels};
use crate::admin::figures::Figures;
use crate::admin::upstreams::{Queue, Relays, Server};

/// Nothing of it where no upstream is configured.
pub(super) fn write(to: &mut Exposition, figures: &Figures) {
    if figures.pools.is_empty() {
        return;
    }
    servers(to, figures);
    queues(to, figures);
    relays(to, &figures.relayed);
    to.gauge(
        "sluicegate_spool_held_bytes",
        "Bytes in memory between upstreams and clients, pipes included.",
        figures.spool.held_bytes,
    );
    to.gauge(
        "sluicegate_spool_disk_bytes",
        "Bytes of rings on disk between upstreams and clients.",
        figures.spool.disk_bytes,
    );
    to.counter(
        "sluicegate_spool_disk_failures_total",
        "Answers whose ring on disk could not be made or written; they went on through memory.",
        figures.relayed.disk_failures,
    );
    to.gauge(
        "sluicegate_spool_budget_bytes",
        "Bytes that may be in memory between upstreams and clients.",
        figures.spool.budget_bytes,
    );
}

/// A metric's name, its help, and what it is of a server.
type OfServer = (Kind, &'static str, &'static str, fn(&Server) -> u64);

fn servers(to: &mut Exposition, figures: &Figures) {
    let all: [OfServer; 7] = [
        (
            Kind::Gauge,
            "sluicegate_upstream_up",
            "Whether health checks say that the server lives.",
            |server| server.up.into(),
        ),
        (
            Kind::Gauge,
            "sluicegate_upstream_ejected",
            "Whether the server is left alone, since it failed requests.",
            |server| server.ejected.into(),
        ),
        (
            Kind::Gauge,
            "sluicegate_upstream_active_requests",
            "Requests to the server that are under way.",
            |server| server.active.into(),
        ),
        (
            Kind::Counter,
            "sluicegate_upstream_requests_total",
            "Requests that the server was asked.",
            |server| server.requests,
        ),
        (
            Kind::Counter,
            "sluicegate_upstream_failures_total",
            "Requests that the server failed.",
            |server| server.failures,
        ),
        (
            Kind::Counter,
            "sluicegate_upstream_connects_total",
            "Connections that were made to the server.",
            |server| server.connects,
        ),
        (
            Kind::Counter,
            "sluicegate_upstream_reuses_total",
            "Requests that went over a connection that was there.",
            |server| server.reuses,
        ),
    ];
    for (kind, name, help, of) in all {
        let samples = figures.pools.iter().flat_map(|pool| {
            let labels = |server: &Server| -> Labels {
                vec![("pool", pool.name.clone()), ("server", server.address.clone())]
            };
            pool.servers.iter().map(move |server| (labels(server), of(server)))
        });
        to.family(kind, name, help, samples);
    }
}

/// A metric's name, its help, and what it is of a pool's queue.
type OfQueue = (Kind, &'static str, &'static str, fn(&Queue) -> u64);

fn queues(to: &mut Exposition, figures: &Figures) {
    let all: [OfQueue; 4] = [
        (
            Kind::Gauge,
            "sluicegate_upstream_queue_requests",
            "Requests that wait for a server below its limit.",
            |queue| queue.waiting,
        ),
        (
            Kind::Counter,
            "sluicegate_upstream_queue_requests_total",
            "Requests that had to wait for a server below its limit.",
            |queue| queue.queued,
        ),
        (
            Kind::Counter,
            "sluicegate_upstream_queue_refused_total",
            "Requests that were answered with 503, since the queue was full.",
            |queue| queue.refused,
        ),
        (
            Kind::Counter,
            "sluicegate_upstream_queue_timeouts_total",
            "Requests that were answered with 503, since they waited for too long.",
            |queue| queue.timed_out,
        ),
    ];
    for (kind, name, help, of) in all {
        let samples = figures
            .pools
            .iter()
            .map(|pool| -> (Labels, u64) { (vec![("pool", pool.name.clone())], of(&pool.queue)) });
        to.family(kind, name, help, samples);
    }
}

fn relays(to: &mut Exposition, relayed: &Relays) {
    to.counter(
        "sluicegate_relayed_requests_total",
        "Requests that were for upstreams.",
        relayed.requests,
    );
    to.counter(
        "sluicegate_relayed_request_bytes_total",
        "Bytes of requests' bodies that went to upstreams.",
        relayed.request_bytes,
    );
    to.counters(
        "sluicegate_relayed_bytes_total",
        "Bytes of upstreams' content, by the path that they took.",
        "path",
        relayed.paths(),
    );
    to.counters(
        "sluicegate_relayed_partitions_total",
        "Partitions of rings that were written again, by the proof that allowed it.",
        "proof",
        relayed.partitions.iter().map(|(&proof, &count)| (proof, count)),
    );
    let held = &relayed.upstream_held;
    let seconds = |millis: u64| millis as f64 / 1000.0;
    to.histogram(
        "sluicegate_upstream_held_seconds",
        "Time from a request to the moment in which its upstream was let go.",
        held.within_ms.iter().map(|(bound, count)| (seconds(*bound), *count)),
        held.count,
        seconds(held.sum_ms),
    );
    to.counters(
        "sluicegate_relay_troubles_total",
        "Requests that have no whole answer of an upstream, by the reason.",
        "trouble",
        relayed.troubles.iter().map(|(&name, &count)| (name, count)),
    );
}
