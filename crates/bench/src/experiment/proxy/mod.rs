//! Reverse proxies (seeds/000, III-B; docs/paper.md): what a body and a small answer cost, what is
//! held in memory and on disk for a client that is slow, and when the upstream is let go.

mod backend;
mod bursty;
mod crowd;
mod early;
mod factors;
mod figure4;
mod finding;
mod guest;
mod paper;
mod pools;
mod slow_crowd;
mod streams;
mod targets;
mod tiers;
mod trip;
pub(super) mod watch;

use std::fs;

use anyhow::{Result, ensure};
use clap::Args;
use sluicegate_testkit::process::Child;

use self::finding::Finding;
pub(crate) use self::guest::ProxyGuest;
use super::contents::{self, Contents};
use super::options::Outcome;
use super::session::{Effort, Session};
use crate::floor::relay::Relay;
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::report::{Target, verdicts};
use crate::harness::round::Rounds;
use crate::peer::Peer;
use crate::peer::proxy::{Buffering, Proxy, Splicing, Spool, write_configuration};
use crate::upstream::Kind;

const OURS: Peer = Peer::Proxy(Proxy::Ours(Spool::DEFAULT));
const NGINX: Peer = Peer::Proxy(Proxy::Nginx(Buffering::Default));
const NGINX_UNBUFFERED: Peer = Peer::Proxy(Proxy::Nginx(Buffering::Off));
const NGINX_NO_TEMP_FILE: Peer = Peer::Proxy(Proxy::Nginx(Buffering::NoTempFile));
const NGINX_LARGE_UNITS: Peer = Peer::Proxy(Proxy::Nginx(Buffering::LargeUnits));
const NGINX_SMALL: Peer = Peer::Proxy(Proxy::Nginx(Buffering::SmallPartition));
const HAPROXY_SPLICE: Peer = Peer::Proxy(Proxy::Haproxy(Splicing::Always));
const HAPROXY_AUTO: Peer = Peer::Proxy(Proxy::Haproxy(Splicing::Auto));
const HAPROXY: Peer = Peer::Proxy(Proxy::Haproxy(Splicing::No));
const LIGHTTPD: Peer = Peer::Proxy(Proxy::Lighttpd);
const APACHE: Peer = Peer::Proxy(Proxy::Apache);
const H2O: Peer = Peer::Proxy(Proxy::H2o);
const CADDY: Peer = Peer::Proxy(Proxy::Caddy);
const SPLICE_FLOOR: Peer = Peer::Proxy(Proxy::Floor(Relay::Splice));
const MESSAGE_FLOOR: Peer = Peer::Proxy(Proxy::Floor(Relay::Messages));

/// The slow client's bytes a second: the rate of the slow links.
const SLOW: u64 = 50_000_000;

#[derive(Debug, Args)]
pub(crate) struct ProxyBench {
    /// Small bodies, short windows, few rounds: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Measure these alone: names or families, such as sluicegate,nginx,floor.
    #[arg(long, alias = "peer", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure these parts alone.
    #[arg(long, value_delimiter = ',', value_parser = PARTS)]
    workload: Vec<String>,
    /// So many rounds must count, instead of what each part has.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: Option<u16>,
    /// Of figure4, bodies of these sizes alone, such as 64MiB or 1GiB.
    #[arg(long, value_delimiter = ',')]
    size: Vec<String>,
    #[command(flatten)]
    outcome: Outcome,
}

/// All parts, in the order in which they are measured.
const PARTS: [&str; 12] = [
    "large",
    "small",
    "figure4",
    "paper",
    "factors",
    "bursty",
    "backend",
    "slow-crowd",
    "early",
    "crowd",
    "pools",
    "tiers",
];

/// What every part is told.
#[derive(Debug, Clone, Copy)]
struct Scale<'a> {
    quick: bool,
    rounds: Option<usize>,
    bench: &'a ProxyBench,
    /// Whether the program that is measured knows pools and proxies.
    has_ours: bool,
}

impl Scale<'_> {
    /// One of two, and the user's word before both. A quick run shows that all works rather than how
    /// well: it has no rounds to make up for those that do not count.
    fn rounds(&self, quick: usize, full: usize) -> Rounds {
        match (self.rounds, self.quick) {
            (Some(wanted), _) => Rounds::and_a_third(wanted),
            (None, true) => Rounds { wanted: quick, at_most: quick },
            (None, false) => Rounds::and_a_third(full),
        }
    }

    fn of<T>(&self, quick: T, full: T) -> T {
        if self.quick { quick } else { full }
    }

    /// Those that are wanted and can be had.
    fn peers(&self, session: &mut Session, all: &[Peer]) -> Vec<Peer> {
        let mut peers = all.to_vec();
        peers.retain(|&peer| {
            if !self.bench.wants(peer) {
                return false;
            }
            let lack = match peer.missing() {
                Some(program) => format!("{peer}: there is no {program}"),
                None if peer.is_ours() && !self.has_ours => {
                    format!("{peer}: this sluicegate is no proxy yet")
                }
                None => return true,
            };
            if !session.skipped.contains(&lack) {
                session.skip(lack);
            }
            false
        });
        peers
    }

    /// The first of these networks that can be had.
    fn network(&self, session: &mut Session, names: &[&str]) -> Option<Network> {
        for name in names {
            match Network::by_name(name) {
                Ok(network) => return Some(network),
                Err(error) => session.skip(format!("{name}: {error:#}")),
            }
        }
        None
    }
}

impl ProxyBench {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        ensure!(
            self.size.is_empty() || self.wants_part("figure4"),
            "--size is of figure4, which --workload leaves out"
        );
        let is_wanted = self.wants(OURS);
        let mut session = Session::open("proxy", self.outcome.out(), Effort::NONE, is_wanted)?;
        let has_ours = is_wanted && is_a_proxy(&session)?;
        let rounds = self.rounds.map(usize::from);
        let scale = Scale { quick: self.quick, rounds, bench: self, has_ours };
        let (mut findings, mut is_void) = (Vec::<Finding>::new(), false);
        for part in PARTS.into_iter().filter(|part| self.wants_part(part)) {
            interrupt::check()?;
            session.run.progress(&format!("{part}: preparing"));
            let found = match part {
                "large" => streams::large(&mut session, scale),
                "small" => streams::small(&mut session, scale),
                "figure4" => figure4::measure(&mut session, scale),
                "paper" => paper::measure(&mut session, scale),
                "factors" => factors::measure(&mut session, scale),
                "bursty" => bursty::measure(&mut session, scale),
                "backend" => backend::measure(&mut session, scale),
                "slow-crowd" => slow_crowd::measure(&mut session, scale),
                "early" => early::measure(&mut session, scale),
                "crowd" => crowd::measure(&mut session, scale),
                "pools" => pools::measure(&mut session, scale),
                _ => tiers::measure(&mut session, scale),
            };
            session.upstream = None;
            interrupt::check()?;
            match found {
                Ok(found) => findings.push(found),
                // The others say what they say.
                Err(error) => {
                    session.skip(format!("{part} is VOID: {error:#}"));
                    is_void = true;
                }
            }
        }

        let Session { run, machine, skipped, .. } = session;
        let took = run.elapsed().as_secs_f64() / 60.0;
        let mut report = format!("{}\n{took:.1} minutes\n\n", machine.summary());
        let targets: Vec<Target> = findings.iter().flat_map(|of| of.targets.clone()).collect();
        for finding in &findings {
            report += &finding.report;
            report.push('\n');
        }
        for skipped in &skipped {
            report += &format!("SKIPPED: {skipped}\n");
        }
        report += &format!("{}\n{NOTES}", verdicts(&targets));
        let is_acceptable = self.outcome.conclude(&run, &report, &targets, |run| {
            findings.iter().try_for_each(|finding| finding.plot(run))
        })?;
        Ok(is_acceptable && !is_void)
    }

    fn wants(&self, peer: Peer) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| peer.is_meant_by(only))
    }

    fn wants_part(&self, part: &str) -> bool {
        self.workload.is_empty() || self.workload.iter().any(|wanted| wanted == part)
    }
}

/// Whether the version that is measured takes a configuration with a proxy.
fn is_a_proxy(session: &Session) -> Result<bool> {
    let directory = tempfile::tempdir()?;
    let place = session.place(Network::Loopback.server(), None);
    let upstream = "127.0.0.1:9".parse()?;
    let (address, config) =
        write_configuration(&place, directory.path(), upstream, Spool::DEFAULT)?;
    let mut command = std::process::Command::new(crate::peer::sluicegate_path()?);
    command.arg("run").arg(&config);
    let mut child = Child::spawn(command)?;
    let listens = child.wait_for_port(address, std::time::Duration::from_secs(5));
    if listens.is_err() {
        session.run.progress(&format!("ours is no proxy: {}", child.output().trim()));
    }
    Ok(listens.is_ok())
}

/// Makes the files, and has upstreams serve them.
fn prepare(session: &mut Session, files: &[Contents]) -> Result<()> {
    let root = contents::prepare(files)?;
    // What was written lately is written back before anybody is measured.
    for file in files {
        fs::File::open(root.join(file.name))?.sync_all()?;
    }
    session.serve(root);
    Ok(())
}

/// An upstream that a network's proxies stand in front of, for what is measured in windows.
fn front(session: &mut Session, network: &Network, kind: Kind) -> Result<()> {
    session.front(network, kind)?;
    ensure!(session.upstream.is_some(), "no upstream");
    Ok(())
}

const NOTES: &str = "\
core: the core that the proxy alone is pinned to. Where it is busy throughout (large, small, crowd,
pools), its busy time; elsewhere what it was not idle, which the kernel measures to 10 ms; there the
link by itself, without a proxy, has that core do something too (packets, its throttle), which is
in everybody's figure and left out where it says so. own threads: the time of the proxy's own threads,
to the nanosecond, without what the kernel did for it between them. The upstream and the clients
have the other core, the loopback between upstream and proxy; what they do is not counted. Every
answer's status and length was checked, and of its contents what its part says. held: what the
proxy's process grew by, its files in memory, and (ours) bytes in its pipes, at most, at a look
every 50 ms; not what waits in sockets, which is the kernel's and alike. on disk: temporary files,
named or not, at most at one look. written: pages of files that the process has dirtied
(write_bytes of /proc/PID/io). let go: from the request to the moment at which the upstream's
kernel had the last byte of the last body. lighttpd keeps no connections to upstreams. Over the
loopback ours and the floors send with Reno, as the program does there (docs/kernel.md), the others
with the host's own congestion control; elsewhere all have the host's. The slow networks have the
proxy's core receive what comes to it. haproxy-splice splices every answer (`option
splice-response`); haproxy-splice-auto where HAProxy thinks that it pays.
";
