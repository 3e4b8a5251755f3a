//! Reverse proxies, each set up alike: one worker, connections to the upstream kept alive where it
//! can, the client's address and name told to the upstream, the client's Host passed on.

mod apache;
mod caddy;
mod floor;
mod h2o;
mod haproxy;
mod lighttpd;
mod nginx;
mod ours;

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::{Place, Started};
use crate::floor::relay::Relay;
use crate::harness::pinned::own_path;

pub(crate) use ours::{Spool, build_lawless, write as write_configuration, write_at};

/// What stands between a client and an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Proxy {
    /// Ours, with a spool of some form.
    Ours(Spool),
    Nginx(Buffering),
    Haproxy(Splicing),
    Lighttpd,
    Apache,
    H2o,
    Caddy,
    /// No proxy at all: a loop that moves bytes.
    Floor(Relay),
}

/// How nginx holds what its client is too slow for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Buffering {
    /// In eight pages of memory, then in a file of up to 1 GiB.
    Default,
    /// `proxy_buffering off`.
    Off,
    /// `proxy_max_temp_file_size 0`.
    NoTempFile,
    /// As `Default`, in eight units of 100 KB (seeds/000, III-B) instead.
    LargeUnits,
    /// As `Default`, on a file system so small that it fills.
    SmallPartition,
}

/// Whether HAProxy splices bodies of answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Splicing {
    /// Its default.
    No,
    /// Where it thinks that it pays (`option splice-auto`): about half of a body over loopback.
    Auto,
    /// All of it (`option splice-response`).
    Always,
}

impl Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ours(spool) => spool.name,
            Self::Nginx(Buffering::Default) => "nginx",
            Self::Nginx(Buffering::Off) => "nginx-unbuffered",
            Self::Nginx(Buffering::NoTempFile) => "nginx-no-temp-file",
            Self::Nginx(Buffering::LargeUnits) => "nginx-100k",
            Self::Nginx(Buffering::SmallPartition) => "nginx-small-partition",
            Self::Haproxy(Splicing::Always) => "haproxy-splice",
            Self::Haproxy(Splicing::Auto) => "haproxy-splice-auto",
            Self::Haproxy(Splicing::No) => "haproxy",
            Self::Lighttpd => "lighttpd",
            Self::Apache => "apache",
            Self::H2o => "h2o",
            Self::Caddy => "caddy",
            Self::Floor(relay) => return relay.fmt(f),
        })
    }
}

impl Proxy {
    /// The program that it needs, other than ours.
    pub(super) fn program(self) -> Option<&'static str> {
        match self {
            Self::Nginx(_) => Some("nginx"),
            Self::Haproxy(_) => Some("haproxy"),
            Self::Lighttpd => Some("lighttpd"),
            Self::Apache => Some("apache2"),
            Self::H2o => Some("h2o"),
            Self::Caddy => Some("caddy"),
            Self::Ours(_) | Self::Floor(_) => None,
        }
    }

    pub(super) fn start(self, on: &Place<'_>) -> Result<Started> {
        let upstream = on.upstream.context("there is no upstream for a proxy")?.address;
        let to = To { on, upstream, spool: &spool_parent(on)? };
        match self {
            Self::Ours(spool) => ours::start(&to, spool),
            Self::Nginx(buffering) => nginx::start(&to, buffering),
            Self::Haproxy(splicing) => haproxy::start(&to, splicing),
            Self::Lighttpd => lighttpd::start(&to),
            Self::Apache => apache::start(&to),
            Self::H2o => h2o::start(&to),
            Self::Caddy => caddy::start(&to),
            Self::Floor(relay) => super::floor::launch(on, &relay.arguments(upstream, to.spool)),
        }
    }

    /// So many pools of two servers, each with a host of its own; `None` if there is no such form
    /// of it here.
    pub(super) fn start_pools(
        self,
        on: &Place<'_>,
        pools: &[[SocketAddr; 2]],
        host: impl Fn(u32) -> String,
    ) -> Option<Result<Started>> {
        match self {
            Self::Ours(_) => Some(ours::start_pools(on, pools, host)),
            Self::Nginx(_) => Some(nginx::start_pools(on, pools, host)),
            Self::Floor(Relay::Messages) => Some(floor::start_pools(on, pools)),
            _ => None,
        }
    }

    /// How it writes its log of requests, and what else its figures depend on.
    pub(crate) fn log_habit(self) -> &'static str {
        match self {
            Self::Nginx(_) => "combined; buffer=64k flush=1s",
            Self::Haproxy(_) => "combined; each line written to standard output, a file",
            Self::Lighttpd => "combined; gathered, as lighttpd does, and written every 4 s",
            Self::H2o => "combined; each line written by itself, there is no other way",
            Self::Apache => {
                "combined; each line written by itself (BufferedLogs is called experimental)"
            }
            Self::Caddy => "JSON, the only form of Caddy 2 without a plugin; each line by itself",
            Self::Ours(_) | Self::Floor(_) => "combined, as configured by access_log",
        }
    }
}

/// Where a proxy runs and where it leads.
#[derive(Debug, Clone, Copy)]
pub(super) struct To<'a> {
    pub(super) on: &'a Place<'a>,
    pub(super) upstream: SocketAddr,
    /// A directory of a file system on a disk, beneath which temporary files go.
    pub(super) spool: &'a Path,
}

impl To<'_> {
    /// A directory of its own for a proxy's files, gone with the guard.
    pub(super) fn directory(&self, name: &str) -> Result<TempDir> {
        let prefix = format!("bench-{name}-");
        Ok(tempfile::Builder::new().prefix(&prefix).tempdir_in(self.spool)?)
    }
}

/// Beside this program, on the file system that builds are made on: `/tmp` may be in memory.
fn spool_parent(on: &Place<'_>) -> Result<PathBuf> {
    if let Some(spool) = on.spool {
        return Ok(spool.to_owned());
    }
    let own = PathBuf::from(own_path()?);
    let target = own.ancestors().nth(2).context("this program is in no target")?;
    Ok(target.to_owned())
}
