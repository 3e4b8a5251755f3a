//! Downloads of one file after another by one client, which a peer makes: what Figures 2 and 3 of
//! the paper have in common. Servers are compared within interleaved rounds, as everywhere.

mod ask;
mod cell;
mod site;
pub(super) mod sizes;

use std::time::Duration;

use anyhow::{Context, Result};

pub(super) use self::ask::ask;
pub(super) use self::cell::{DownloadCell, Window};
pub(super) use self::site::Site;
use super::contents::Contents;
use super::session::{SERVER_CPU, Session, void};
use crate::client::Check;
use crate::floor::figure3::{REPORT, Report};
use crate::harness::cpu::{CoreTime, others_time, thread_time};
use crate::harness::distance::round_trip;
use crate::harness::interrupt;
use crate::harness::round::{Rounds, fault, order};
use crate::peer::{Peer, Running};
use crate::peer_host::Download;

#[cfg(test)]
pub(super) use self::cell::tests;

/// Below this length every byte of every body is compared; above, that takes longer than sending.
const LONG: u64 = 32 << 10;

/// From this length on waiting for the socket costs less than asking it without end.
const DOWNLOAD: u64 = 1 << 20;

/// What is measured, how often, and for how long.
#[derive(Debug)]
pub(super) struct Plan<'a> {
    pub(super) contents: Contents,
    pub(super) servers: &'a [Peer],
    pub(super) rounds: Rounds,
    /// One download at least, whatever it takes.
    pub(super) window: Duration,
    /// Downloads before each window, on its connection.
    pub(super) warm_up: u32,
    /// Whether servers are asked for an account after each window.
    pub(super) reports: bool,
}

/// The accounts at one moment.
struct Accounts {
    core: CoreTime,
    threads: f64,
    others: f64,
}

impl Plan<'_> {
    /// All rounds; `after` is called with each server when they are over.
    pub(super) fn measure(
        &self,
        session: &mut Session,
        site: &mut Site,
        mut after: impl FnMut(&mut Session, &mut Site, &Running) -> Result<()>,
    ) -> Result<DownloadCell> {
        let (network, size) = (site.name(), self.contents.label());
        let mut servers = Vec::new();
        for &peer in self.servers {
            interrupt::check()?;
            servers.push(session.start_at(site.server(), peer, self.contents)?);
        }
        for server in &servers {
            session.run.progress(&format!("{network} {size} {}: checking", server.peer));
            let check =
                if self.contents.length <= 64 << 20 { Check::Whole } else { Check::Sampled };
            let order = Download { check, ..self.order(server, site, Duration::ZERO, 0) };
            site.control.download(&order, || Ok(())).with_context(|| void(server))?;
            if self.reports {
                report(site, server)?;
            }
        }
        let (mut rounds, mut faults) = (Vec::new(), Vec::new());
        let mut good = 0;
        while self.rounds.want_more(rounds.len(), good) {
            let windows = self.round(session, site, &servers, rounds.len())?;
            let fault = fault(&windows);
            good += usize::from(fault.is_none());
            faults.push(fault);
            rounds.push(windows);
        }
        for server in &servers {
            after(session, site, server).with_context(|| void(server))?;
        }
        let servers = self.servers.to_vec();
        Ok(DownloadCell { network, contents: self.contents, servers, rounds, faults })
    }

    /// One window of each server.
    fn round(
        &self,
        session: &mut Session,
        site: &mut Site,
        servers: &[Running],
        round: usize,
    ) -> Result<Vec<Window>> {
        let mut windows = vec![None; servers.len()];
        for index in order(round, servers.len()) {
            interrupt::check()?;
            let server = &servers[index];
            let window = self.window(site, server).with_context(|| void(server))?;
            windows[index] = Some(window);
        }
        let windows: Vec<Window> = windows.into_iter().flatten().collect();
        let fault = fault(&windows).map(|fault| fault.to_string());
        let label = self.contents.label();
        let mut line = format!("{} {label} round {}:", site.name(), round + 1);
        for (server, window) in servers.iter().zip(&windows) {
            let (took, cost) = (window.downloaded.whole_us.p50, window.core_us());
            line += &format!("  {} {took:.0} ({cost:.0})", server.peer);
            session.run.record(&cell::Record {
                kind: "download",
                network: site.name(),
                length: self.contents.length,
                server: server.peer.to_string(),
                round,
                fault: fault.clone(),
                window,
            })?;
        }
        let fault = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
        session.run.progress(&format!("{line} µs (of the core){fault}"));
        Ok(windows)
    }

    fn window(&self, site: &mut Site, server: &Running) -> Result<Window> {
        let before = distance(site);
        let pid = server.child.pid();
        let apart: Vec<u32> =
            [Some(std::process::id()), Some(pid), site.peer_pid()].into_iter().flatten().collect();
        let look = || {
            let core = CoreTime::read(SERVER_CPU)?;
            Ok(Accounts { core, threads: thread_time(pid)?, others: others_time(&apart)? })
        };
        let order = self.order(server, site, self.window, self.warm_up);
        let (start, mut downloaded, end) = site.control.download(&order, look)?;
        if !site.is_here() {
            // Another host has another clock.
            downloaded.since_handed_us = None;
        }
        Ok(Window {
            downloaded,
            core: end.core - start.core,
            server_threads_s: end.threads - start.threads,
            others_s: end.others - start.others,
            distances_ns: [before, distance(site)],
            report: if self.reports { Some(report(site, server)?) } else { None },
        })
    }

    fn order(&self, server: &Running, site: &Site, window: Duration, warm_up: u32) -> Download {
        let Contents { name, length, seed } = self.contents;
        Download {
            address: server.address,
            path: format!("/{name}"),
            length,
            seed,
            check: match length {
                0..LONG => Check::Whole,
                LONG..DOWNLOAD => Check::Edges,
                _ => Check::Sampled,
            },
            warm_up,
            for_ms: u64::try_from(window.as_millis()).unwrap_or(0),
            spins: site.has_own_core() && length < DOWNLOAD,
        }
    }
}

/// Nanoseconds to the server's core and back; of a peer's on another host nothing is known. Where
/// other programs do not let the server's core answer, the round is one with a moved core.
fn distance(site: &Site) -> f64 {
    const NEVER: f64 = 1e9;
    if site.is_here() { round_trip(SERVER_CPU).unwrap_or(NEVER) } else { 0.0 }
}

fn report(site: &Site, server: &Running) -> Result<Report> {
    ask(site.server(), server.address, REPORT)
}
