//! Static files: what a request of 1, 10 and 100 KiB, a GiB, and an idle connection cost.

mod accounts;
mod findings;
mod targets;
mod workloads;

use anyhow::{Result, ensure};
use clap::Args;

use self::findings::Findings;
use self::workloads::{FULL, QUICK, workloads};
use super::contents::{self, Contents};
use super::options::Outcome;
use super::session::Session;
use super::workload::Workload;
use crate::floor::Way;
use crate::peer::Peer;

#[derive(Debug, Args)]
pub(crate) struct StaticFiles {
    /// Short windows; of small files 64 connections alone, of the GiB one; fewer peers: under two
    /// minutes.
    #[arg(long)]
    quick: bool,
    /// Measure these servers alone: names or families, such as nginx,floor.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure over these networks alone.
    #[arg(long, value_delimiter = ',', value_parser = ["lo", "veth"])]
    network: Vec<String>,
    /// Measure these workloads alone: sizes, or sizes with connections, such as 1GiB,10KiB-64.
    /// Calls and idle connections are counted with 1KiB.
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    #[command(flatten)]
    outcome: Outcome,
}

impl StaticFiles {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        self.check_filters()?;
        let effort = if self.quick { QUICK } else { FULL };
        let is_wanted = self.wants(Peer::Sluicegate);
        let mut session = Session::open("static", self.outcome.out(), effort, is_wanted)?;
        let workloads = self.chosen(&mut session);
        session.run.progress("preparing the files");
        let mut files: Vec<Contents> = vec![contents::KIB];
        files.extend(workloads.iter().map(|workload| workload.contents));
        files.dedup();
        session.serve(contents::prepare(&files)?);
        for network in session.networks(&self.network) {
            for workload in &workloads {
                session.measure(&network, workload)?;
            }
        }
        let calls = accounts::count_calls(&mut session, &self.counted())?;
        let idle = accounts::weigh_idle(&mut session, &self.weighed())?;

        let Session { run, machine, cells, skipped, .. } = session;
        let findings = Findings { cells, calls, idle, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome
            .conclude(&run, &report, &findings.targets(), |run| findings.plot(run, &workloads))
    }

    fn check_filters(&self) -> Result<()> {
        let all = workloads(self.quick);
        for only in &self.only {
            let mut known = all.iter().flat_map(|workload| &workload.peers);
            ensure!(known.any(|peer| peer.is_meant_by(only)), "no server is called {only}");
        }
        for wanted in &self.workload {
            let names: Vec<&str> = all.iter().map(|workload| &*workload.name).collect();
            ensure!(
                names.iter().any(|name| is_meant(name, wanted)),
                "no workload is called {wanted}; there are {}",
                names.join(", ")
            );
        }
        Ok(())
    }

    fn wants(&self, peer: Peer) -> bool {
        let named = self.only.is_empty() || self.only.iter().any(|only| peer.is_meant_by(only));
        named && peer.missing().is_none()
    }

    fn wants_workload(&self, name: &str) -> bool {
        self.workload.is_empty() || self.workload.iter().any(|wanted| is_meant(name, wanted))
    }

    fn chosen(&self, session: &mut Session) -> Vec<Workload> {
        let mut workloads = workloads(self.quick);
        workloads.retain(|workload| self.wants_workload(&workload.name));
        for workload in &mut workloads {
            for peer in &workload.peers {
                if let Some(program) = peer.missing() {
                    session.skip(format!("{peer} in {}: there is no {program}", workload.name));
                }
            }
            workload.peers.retain(|&peer| self.wants(peer));
        }
        workloads
    }

    /// Whose system calls are counted.
    fn counted(&self) -> Vec<Peer> {
        let others: &[Peer] = &[Peer::NginxCopy, Peer::Lighttpd, Peer::H2o];
        [self.weighed(), self.of_small(if self.quick { &[] } else { others })].concat()
    }

    /// Whose idle connections are weighed.
    fn weighed(&self) -> Vec<Peer> {
        self.of_small(&[Peer::Sluicegate, Peer::Nginx, Peer::Floor(Way::Epoll)])
    }

    /// Those that are wanted, as long as 1 KiB is.
    fn of_small(&self, peers: &[Peer]) -> Vec<Peer> {
        let is_wanted = self.workload.is_empty() || self.workload.iter().any(|of| of == "1KiB");
        peers.iter().copied().filter(|&peer| is_wanted && self.wants(peer)).collect()
    }
}

/// Whether a filter like `10KiB` or `10KiB-64` means a workload.
fn is_meant(name: &str, filter: &str) -> bool {
    name.strip_prefix(filter).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_means_a_size_or_a_workload() {
        assert!(is_meant("10KiB-64", "10KiB") && is_meant("10KiB-64", "10KiB-64"));
        assert!(!is_meant("10KiB-64", "1") && !is_meant("100KiB-64", "10KiB"));
        assert!(!is_meant("10KiB-64", "10KiB-6"));
    }
}
