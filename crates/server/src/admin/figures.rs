//! All figures of one moment, from which every page is made.
//!
//! Names and units are those of `/status.json`, which programs read: what is
//! called so once keeps its name.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;
use sluicegate::lingering;

use super::process::Process;
use super::sources::Sources;
use super::upstreams::{self, Pool, Relays, Spool};
use crate::files::Totals;
use crate::observe::Ended;

/// One moment. Each count is exact; two of them may be a moment apart.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Figures {
    pub(super) version: &'static str,
    /// Unix time.
    pub(super) started_seconds: u64,
    pub(super) uptime_seconds: u64,
    pub(super) draining: bool,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) connections: Connections,
    pub(super) workers: Vec<Worker>,
    pub(super) responses: Responses,
    pub(super) sent: Sent,
    pub(super) ended_early: BTreeMap<&'static str, u64>,
    pub(super) file_cache: FileCache,
    pub(super) pools: Vec<Pool>,
    pub(super) relayed: Relays,
    pub(super) spool: Spool,
    pub(super) configuration: Option<Configuration>,
    pub(super) reloads: Reloads,
    pub(super) process: Taken,
    pub(super) pipes: Pipes,
    pub(super) lingering: Lingering,
    pub(super) log_lines_lost: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Connections {
    pub(super) accepted: u64,
    pub(super) open: u64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Worker {
    pub(super) connections_open: u64,
    pub(super) responses: u64,
}

/// Answers by the first digit of their status.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Responses {
    pub(super) total: u64,
    #[serde(rename = "1xx")]
    pub(super) informational: u64,
    #[serde(rename = "2xx")]
    pub(super) successful: u64,
    #[serde(rename = "3xx")]
    pub(super) redirected: u64,
    #[serde(rename = "4xx")]
    pub(super) refused: u64,
    #[serde(rename = "5xx")]
    pub(super) failed: u64,
}

impl Responses {
    /// By name, in the order of their digits.
    pub(super) fn classes(&self) -> [(&'static str, u64); 5] {
        let Responses { informational, successful, redirected, refused, failed, .. } = *self;
        [
            ("1xx", informational),
            ("2xx", successful),
            ("3xx", redirected),
            ("4xx", refused),
            ("5xx", failed),
        ]
    }
}

/// Bytes that sockets have accepted, by the way that they went.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Sent {
    pub(super) total_bytes: u64,
    pub(super) copied_bytes: u64,
    pub(super) sendfile_bytes: u64,
    pub(super) spliced_bytes: u64,
    pub(super) zerocopy_bytes: u64,
    /// Those by zerocopy that the kernel copied after all.
    pub(super) zerocopy_copied_bytes: u64,
}

impl Sent {
    /// By name. Every byte is in one of them.
    pub(super) fn ways(&self) -> [(&'static str, u64); 4] {
        [
            ("copied", self.copied_bytes),
            ("sendfile", self.sendfile_bytes),
            ("spliced", self.spliced_bytes),
            ("zerocopy", self.zerocopy_bytes),
        ]
    }
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct FileCache {
    pub(super) found_in_memory: u64,
    pub(super) found_open: u64,
    pub(super) opened: u64,
    /// Those of `opened` of which something else was kept.
    pub(super) changed: u64,
    /// 0 to 1; none before the first lookup.
    pub(super) hit_share: Option<f64>,
    /// These three are as of a few seconds ago.
    pub(super) files_in_memory: u64,
    pub(super) memory_bytes: u64,
    pub(super) files_open: u64,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Configuration {
    pub(super) file: String,
    pub(super) generation: u64,
    /// Unix time.
    pub(super) loaded_seconds: u64,
    /// The last reload, if that was refused.
    pub(super) refused: Option<Refused>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Refused {
    /// Unix time.
    pub(super) at_seconds: u64,
    pub(super) why: String,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Reloads {
    pub(super) done: u64,
    pub(super) refused: u64,
}

/// What the process takes of the host; none is what cannot be told.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Taken {
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) descriptors_open: Option<u64>,
    pub(super) descriptors_max: Option<u64>,
    pub(super) cpu_seconds: f64,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Pipes {
    pub(super) in_use: u64,
    pub(super) made: u64,
    pub(super) max: u64,
}

/// Closed connections whose memory the kernel may still read.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Lingering {
    pub(super) sockets: u64,
    pub(super) bytes: u64,
    pub(super) quarantined_bytes: u64,
}

impl Figures {
    /// As they are now.
    pub(super) fn read(sources: &Sources, process: &Process) -> Self {
        let stats = &*sources.stats;
        let started_seconds = unix(stats.started);
        let count = |atomic: &std::sync::atomic::AtomicU64| {
            atomic.load(std::sync::atomic::Ordering::Relaxed)
        };
        let linger = lingering();
        let ended = Ended::ALL.iter().map(|&how| (how.name(), stats.ended(how)));
        let workers = stats
            .workers()
            .iter()
            .map(|worker| Worker { connections_open: worker.open(), responses: worker.answers() });
        Figures {
            version: env!("CARGO_PKG_VERSION"),
            started_seconds,
            // A clock that was set back makes it young, not negative.
            uptime_seconds: unix(SystemTime::now()).saturating_sub(started_seconds),
            draining: (sources.draining)(),
            listen: (sources.listen)(),
            connections: Connections { accepted: stats.accepted(), open: stats.open() },
            workers: workers.collect(),
            responses: responses(|class| stats.answers(class)),
            sent: sent(stats.context.counters.ways()),
            ended_early: ended.collect(),
            file_cache: file_cache(&(sources.files)()),
            pools: upstreams::pools((sources.pools)()),
            relayed: upstreams::relays(stats.relayed()),
            spool: upstreams::spool((sources.spools)()),
            configuration: (sources.configuration)().map(configuration),
            reloads: Reloads {
                done: count(&stats.reloads),
                refused: count(&stats.reloads_refused),
            },
            process: taken(process),
            pipes: pipes(stats.context.pipes.pipes()),
            lingering: Lingering {
                sockets: linger.sockets,
                bytes: linger.bytes,
                quarantined_bytes: linger.quarantined,
            },
            log_lines_lost: count(&stats.log_lost),
        }
    }
}

fn responses(class: impl Fn(usize) -> u64) -> Responses {
    let [informational, successful, redirected, refused, failed] = [1, 2, 3, 4, 5].map(class);
    // Their sum, so that shares of it never exceed it.
    let total = informational + successful + redirected + refused + failed;
    Responses { total, informational, successful, redirected, refused, failed }
}

fn sent(ways: sluicegate::WayBytes) -> Sent {
    Sent {
        total_bytes: ways.total(),
        copied_bytes: ways.copied,
        sendfile_bytes: ways.sendfile,
        spliced_bytes: ways.spliced,
        zerocopy_bytes: ways.zerocopy,
        zerocopy_copied_bytes: ways.zerocopy_copied,
    }
}

fn file_cache(caches: &Totals) -> FileCache {
    let hits = caches.memory.saturating_add(caches.open);
    FileCache {
        found_in_memory: caches.memory,
        found_open: caches.open,
        opened: caches.opened,
        changed: caches.changed,
        hit_share: share(hits, hits.saturating_add(caches.opened)),
        files_in_memory: caches.kept_files,
        memory_bytes: caches.kept_bytes,
        files_open: caches.kept_open,
    }
}

fn configuration(from: super::Configuration) -> Configuration {
    Configuration {
        file: from.path.display().to_string(),
        generation: from.generation,
        loaded_seconds: unix(from.loaded),
        refused: from
            .refused
            .map(|refused| Refused { at_seconds: unix(refused.at), why: refused.why }),
    }
}

fn taken(process: &Process) -> Taken {
    let taken = process.taken();
    Taken {
        resident_bytes: taken.resident_bytes,
        virtual_bytes: taken.virtual_bytes,
        threads: taken.threads,
        descriptors_open: taken.descriptors,
        descriptors_max: taken.descriptor_limit,
        cpu_seconds: taken.cpu.as_secs_f64(),
    }
}

fn pipes(pipes: sluicegate::Pipes) -> Pipes {
    Pipes { in_use: pipes.lent as u64, made: pipes.made as u64, max: pipes.limit as u64 }
}

/// A part of a whole, 0 to 1; none of nothing.
pub(super) fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| (part as f64 / whole as f64).clamp(0.0, 1.0))
}

/// Seconds since the epoch; a clock before it shows the epoch.
pub(super) fn unix(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
