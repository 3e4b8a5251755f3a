//! The servers under measurement, each started alike: on one core, with one worker, on a side of
//! a network, serving a directory.

mod apache;
mod caddy;
mod floor;
mod h2o;
mod lighttpd;
mod nginx;
pub(crate) mod proxy;
mod sluicegate;

use std::fmt::{self, Display};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};
use tempfile::TempDir;

use crate::floor::Way;
use crate::floor::figure3::HandOver;
use crate::floor::figure7::Answerer;
use crate::floor::reuse::Maker;
use crate::floor::tracking::Track;
use crate::harness::network::Side;
use crate::harness::pinned::await_line;

use self::proxy::Proxy;
pub(crate) use sluicegate::{
    Form, build, path as sluicegate_path, preamble, runs_configurations, site,
};

/// How long a server may take to start.
const START: Duration = Duration::from_secs(10);

/// The combined format, as Apache, lighttpd and h2o spell it; nginx knows it by its name.
const COMBINED: &str = r#"%h %l %u %t "%r" %>s %b "%{Referer}i" "%{User-Agent}i""#;

/// A kind of server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Ours.
    Sluicegate,
    /// Ours, made to send in one form whatever the size.
    Made(Form),
    /// nginx as most people run it.
    Nginx,
    /// nginx with `open_file_cache`.
    NginxCached,
    /// nginx without `sendfile`.
    NginxCopy,
    /// nginx without `sendfile`, with `open_file_cache`.
    NginxCopyCached,
    /// nginx as most people run it, which writes each line of its log by itself: its default.
    NginxLine,
    Lighttpd,
    H2o,
    /// Apache with the event module.
    Apache,
    Caddy,
    /// No server at all.
    Floor(Way),
    /// A loop that joins head, file and tail in one way.
    Answerer(Answerer),
    /// A loop that hands a file over in one way.
    HandOver(HandOver),
    /// A loop that makes images and sends them in one way.
    Maker(Maker),
    /// A loop that is told how far its peer is, or is not.
    Tracker(Track),
    /// A reverse proxy.
    Proxy(Proxy),
}

impl Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Answerer(answerer) => return answerer.fmt(f),
            Self::HandOver(way) => return way.fmt(f),
            Self::Maker(maker) => return maker.fmt(f),
            Self::Tracker(track) => return track.fmt(f),
            Self::Proxy(proxy) => return proxy.fmt(f),
            Self::Sluicegate => "sluicegate",
            Self::Made(Form::Memory) => "sluicegate-memory",
            Self::Made(Form::Copy) => "sluicegate-copy",
            Self::Made(Form::Sendfile) => "sluicegate-sendfile",
            Self::Made(Form::Splice) => "sluicegate-splice",
            Self::Nginx => "nginx",
            Self::NginxCached => "nginx-cached",
            Self::NginxCopy => "nginx-copy",
            Self::NginxCopyCached => "nginx-copy-cached",
            Self::NginxLine => "nginx-line",
            Self::Lighttpd => "lighttpd",
            Self::H2o => "h2o",
            Self::Apache => "apache",
            Self::Caddy => "caddy",
            Self::Floor(Way::Epoll) => "floor-epoll",
            Self::Floor(Way::Sendfile) => "floor-sendfile",
            Self::Floor(Way::Splice) => "floor-splice",
            Self::Floor(Way::SendfileCork) => "floor-sendfile-cork",
            Self::Floor(Way::SpliceCork) => "floor-splice-cork",
            Self::Floor(Way::Blocking) => "floor-blocking",
            Self::Floor(Way::BlockingAcked) => "floor-blocking-acked",
        })
    }
}

impl Peer {
    /// Whether a filter like `nginx` or `floor` means this one too.
    pub(crate) fn is_meant_by(self, filter: &str) -> bool {
        let name = self.to_string();
        name.strip_prefix(filter).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
    }

    /// The program that it needs, other than ours.
    fn program(self) -> Option<&'static str> {
        match self {
            Self::Nginx
            | Self::NginxCached
            | Self::NginxCopy
            | Self::NginxCopyCached
            | Self::NginxLine => Some("nginx"),
            Self::Lighttpd => Some("lighttpd"),
            Self::H2o => Some("h2o"),
            Self::Apache => Some("apache2"),
            Self::Caddy => Some("caddy"),
            Self::Sluicegate
            | Self::Made(_)
            | Self::Floor(_)
            | Self::Answerer(_)
            | Self::HandOver(_)
            | Self::Maker(_)
            | Self::Tracker(_) => None,
            Self::Proxy(proxy) => proxy.program(),
        }
    }

    /// Whether it is ours, in whatever form.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Sluicegate | Self::Made(_) | Self::Proxy(Proxy::Ours(_)))
    }

    /// Whether it is no server at all.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::Floor(_) | Self::Proxy(Proxy::Floor(_)))
    }

    /// What is missing to run it, if anything.
    pub(crate) fn missing(self) -> Option<&'static str> {
        self.program().filter(|program| find_program(program).is_none())
    }

    /// Starts it. A floor serves `file` alone, whatever it is asked for.
    pub(crate) fn start(self, on: &Place<'_>, file: &str) -> Result<Running> {
        let (child, address, directory) = match self {
            Self::Sluicegate => sluicegate::start(on, None),
            Self::Made(form) => sluicegate::start(on, Some(form)),
            Self::Nginx => nginx::start(on, nginx::Form::Sendfile),
            Self::NginxCached => nginx::start(on, nginx::Form::Cached),
            Self::NginxCopy => nginx::start(on, nginx::Form::Copy),
            Self::NginxCopyCached => nginx::start(on, nginx::Form::CopyCached),
            Self::NginxLine => nginx::start(on, nginx::Form::Line),
            Self::Lighttpd => lighttpd::start(on),
            Self::H2o => h2o::start(on),
            Self::Apache => apache::start(on),
            Self::Caddy => caddy::start(on),
            Self::Floor(way) => floor::start(on, way, &on.root.join(file)),
            Self::Answerer(answerer) => {
                floor::spawn(on, &answerer.arguments(), &on.root.join(file))
            }
            Self::HandOver(way) => floor::spawn(on, &way.arguments(), &on.root.join(file)),
            Self::Tracker(track) => floor::spawn(on, &track.arguments(), &on.root.join(file)),
            Self::Maker(maker) => floor::launch(on, &maker.arguments()),
            Self::Proxy(proxy) => proxy.start(on),
        }
        .with_context(|| format!("cannot start {self}"))?;
        let origin = on.upstream;
        Ok(Running { peer: self, child, address, origin, directory })
    }

    /// How it writes its log of requests, where it has one to write.
    pub(crate) fn log_habit(self) -> &'static str {
        match self {
            Self::Nginx | Self::NginxCached | Self::NginxCopy | Self::NginxCopyCached => {
                "combined; buffer=64k flush=1s"
            }
            Self::NginxLine => "combined; each line written by itself, nginx's default",
            Self::Lighttpd => "combined; gathered, as lighttpd does, and written every 4 s",
            Self::H2o => "combined; each line written by itself, there is no other way",
            Self::Apache => {
                "combined; each line written by itself (BufferedLogs is called experimental)"
            }
            Self::Caddy => "JSON, the only form of Caddy 2 without a plugin; each line by itself",
            Self::Floor(_) => "combined; gathered, 64 KiB or a second",
            Self::Proxy(proxy) => proxy.log_habit(),
            _ => "combined, as configured by access_log",
        }
    }
}

/// Where a server runs, and what it serves.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) side: Side<'a>,
    pub(crate) cpu: usize,
    pub(crate) root: &'a Path,
    /// Where it writes a line for each request, if it does.
    pub(crate) log: Option<&'a Path>,
    /// What a proxy stands in front of.
    pub(crate) upstream: Option<Origin>,
    /// Where its temporary files go; on the file system of this program if nothing is said.
    pub(crate) spool: Option<&'a Path>,
}

/// What a proxy stands in front of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    /// Its process, which is no noise.
    pub(crate) pid: u32,
    /// It never sleeps, so whoever shares its core must give that up now and then.
    pub(crate) spins: bool,
}

/// A server that accepts connections. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) peer: Peer,
    pub(crate) child: Child,
    pub(crate) address: SocketAddr,
    /// What it stands in front of, if it is a proxy.
    pub(crate) origin: Option<Origin>,
    /// Where it keeps its own files.
    directory: Option<TempDir>,
}

impl Running {
    /// Where it keeps its own files, temporary ones included.
    pub(crate) fn directory(&self) -> Option<PathBuf> {
        self.directory.as_ref().map(|directory| directory.path().to_owned())
    }

    /// Our server, run by a configuration in `directory`.
    pub(crate) fn configured(on: &Place<'_>, address: SocketAddr, config: &Path) -> Result<Self> {
        let child = sluicegate::start_configured(on, address, config)?;
        Ok(Self { peer: Peer::Sluicegate, child, address, origin: on.upstream, directory: None })
    }

    /// A proxy in front of so many pools of two servers, each with a host of its own.
    pub(crate) fn with_pools(
        peer: Peer,
        on: &Place<'_>,
        pools: &[[SocketAddr; 2]],
        host: impl Fn(u32) -> String,
    ) -> Result<Self> {
        let started = match peer {
            Peer::Proxy(proxy) => proxy.start_pools(on, pools, host),
            _ => None,
        };
        let (child, address, directory) = started
            .with_context(|| format!("{peer} has no form with many pools here"))?
            .with_context(|| format!("cannot start {peer}"))?;
        Ok(Self { peer, child, address, origin: on.upstream, directory })
    }
}

type Started = (Child, SocketAddr, Option<TempDir>);

/// For servers that cannot tell which port they got, one is looked for.
pub(crate) fn free_address(on: &Place<'_>) -> Result<SocketAddr> {
    let free = || TcpListener::bind((on.side.address(), 0))?.local_addr();
    on.side.enter(free)?.context("no free port")
}

/// Reads the address out of the line in which a server tells it.
fn await_address(child: &mut Child) -> Result<SocketAddr> {
    let line = await_line(child, START, |line| announced(line).is_some())
        .context("it did not say where it listens")?;
    announced(&line).context("no address")
}

pub(crate) fn announced(line: &str) -> Option<SocketAddr> {
    let address = line.split_once("http://")?.1;
    let end = address.find(|c: char| !(c.is_ascii_hexdigit() || ".:[]".contains(c)));
    address[..end.unwrap_or(address.len())].parse().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A place for the text of a configuration.
    pub(crate) fn place(log: Option<&str>) -> Place<'_> {
        Place {
            side: Side::Here,
            cpu: 0,
            root: Path::new("/r"),
            log: log.map(Path::new),
            upstream: None,
            spool: None,
        }
    }

    #[test]
    fn a_filter_means_a_name_or_a_family() {
        assert!(Peer::Nginx.is_meant_by("nginx"));
        assert!(Peer::NginxCached.is_meant_by("nginx"));
        assert!(!Peer::Nginx.is_meant_by("nginx-cached"));
        assert!(Peer::Made(Form::Copy).is_meant_by("sluicegate"));
        assert!(Peer::Floor(Way::Splice).is_meant_by("floor"));
        assert!(!Peer::Floor(Way::Splice).is_meant_by("flo"));
    }

    #[test]
    fn the_address_is_found_in_the_line_that_tells_it() {
        let address = |line| announced(line).map(|address| address.to_string());
        assert_eq!(address("serving /srv on http://127.0.0.1:8080").unwrap(), "127.0.0.1:8080");
        assert_eq!(address("http://[::1]:80/ is open").unwrap(), "[::1]:80");
        assert_eq!(address("http://10.99.0.1:5000, 1 worker").unwrap(), "10.99.0.1:5000");
        assert_eq!(address("see http://example.org"), None);
        assert_eq!(address("nothing"), None);
    }
}
