//! One proxy with its upstream and its reader.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Result;

use super::reader::Progress;
use super::sockets::queues;
use crate::experiment::proxy::watch::{Admin, Look, Metrics, look, sum, written};
use crate::harness::cpu::thread_time;
use crate::harness::memory::Memory;
use crate::harness::network::Side;
use crate::peer::Running;
use crate::upstream::Upstream;

const MIB: f64 = (1 << 20) as f64;

/// A proxy that is watched.
pub(super) struct Lane {
    name: String,
    proxy: Running,
    upstream: Upstream,
    admin: Option<Admin>,
    progress: Arc<Progress>,
    threads_s: f64,
    written: u64,
    /// What was seen last, and at most.
    seen: Look,
    metrics: Metrics,
    accepted: u64,
    acked: u64,
    memory: u64,
}

/// What it came to.
pub(super) struct End {
    /// Seconds of the proxy's threads for each GiB.
    pub(super) cpu: f64,
    pub(super) written: u64,
    pub(super) memory: u64,
    /// Seconds that the upstream had the body on its hands.
    pub(super) held_s: Option<f64>,
}

impl Lane {
    pub(super) fn start(proxy: Running, upstream: Upstream) -> Result<Self> {
        let pid = proxy.child.pid();
        Ok(Self {
            name: proxy.peer.to_string(),
            admin: Admin::of(proxy.directory()),
            progress: Arc::default(),
            threads_s: thread_time(pid)?,
            written: written(pid)?,
            seen: Look::default(),
            metrics: Metrics::new(),
            accepted: 0,
            acked: 0,
            memory: 0,
            proxy,
            upstream,
        })
    }

    pub(super) fn name(&self) -> String {
        format!("through {}", self.name)
    }

    pub(super) fn name_str(&self) -> &str {
        &self.name
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.proxy.address
    }

    pub(super) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    pub(super) fn blame(&self) -> String {
        format!("{} failed; it says:\n{}", self.name, self.proxy.child.output())
    }

    /// Looks at all there is to be seen.
    pub(super) fn look(&mut self) -> Result<()> {
        let pid = self.proxy.child.pid();
        let directory = self.proxy.directory();
        self.seen = look(pid, directory.as_deref(), self.admin.is_some())?;
        let own = u64::try_from(Memory::read(pid)?.anonymous).unwrap_or(0);
        self.memory = self.memory.max(own + self.seen.in_pipes + self.seen.in_memory);
        if let Some(admin) = &self.admin {
            self.metrics = admin.ask(Side::Here)?;
        }
        // What the reader has, what its kernel has, and what the proxy's has not been told of.
        let received = self.progress.received();
        let [unacked, unread] = queues(self.proxy.address.port())?;
        self.acked = self.acked.max(received + unread);
        self.accepted = self.accepted.max(self.acked + unacked);
        Ok(())
    }

    /// What is drawn.
    pub(super) fn line(&self, seconds: f64) -> String {
        let mib = |bytes: u64| bytes as f64 / MIB;
        let mut line = format!(
            "{seconds:5.1} s  {:<10}  read {:5.0}  acked {:5.0}  accepted {:5.0} MiB  ",
            self.name,
            mib(self.progress.received()),
            mib(self.acked),
            mib(self.accepted),
        );
        let on_disk = mib(self.seen.on_disk);
        if self.admin.is_none() {
            line += &format!("temporary file {on_disk:5.0} MiB");
            return line;
        }
        let held = sum(&self.metrics, "sluicegate_spool_held_bytes", &[]) / MIB;
        line += &format!("spool {held:4.1}  disk {on_disk:.0} MiB");
        let paths = ["spliced", "ring", "disk", "copied"].map(|path| {
            let label = format!("\"{path}\"");
            (path, sum(&self.metrics, "sluicegate_relayed_bytes_total", &[&label]) / MIB)
        });
        if paths.iter().any(|(_, bytes)| *bytes > 0.0) {
            for (path, bytes) in paths {
                line += &format!("  {path} {bytes:.0}");
            }
        } else {
            for way in ["spliced", "sendfile", "copied"] {
                let label = format!("\"{way}\"");
                let bytes = sum(&self.metrics, "sluicegate_sent_bytes_total", &[&label]) / MIB;
                line += &format!("  {way} {bytes:.0}");
            }
        }
        line
    }

    /// What it came to, of a body of so many bytes.
    pub(super) fn end(&self, size: u64) -> Result<End> {
        let pid = self.proxy.child.pid();
        let account = self.upstream.account(Side::Here)?;
        Ok(End {
            cpu: (thread_time(pid)? - self.threads_s) / (size as f64 / f64::from(1 << 30)),
            written: written(pid)?.saturating_sub(self.written),
            memory: self.memory,
            held_s: account.bodies.last().and_then(|body| body.held_s()),
        })
    }
}
