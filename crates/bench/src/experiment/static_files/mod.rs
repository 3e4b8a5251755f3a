//! Static files: what a request of 1, 10 and 100 KiB, a GiB, and an idle connection cost.

mod accounts;
mod findings;
mod operation;
mod sites;
mod targets;
mod workloads;

use anyhow::{Result, ensure};
use clap::{Args, ValueEnum};

use self::findings::Findings;
use self::workloads::{FULL, QUICK, is_usual, workloads};
use super::contents::{self, Contents};
use super::options::Outcome;
use super::session::{Effort, Session};
use super::workload::Workload;
use crate::floor::Way;
use crate::harness::round::Rounds;
use crate::peer::{Peer, runs_configurations};

#[derive(Debug, Args)]
pub(crate) struct StaticFiles {
    /// Short windows, fewer rounds; over veth less of everything: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Measure these servers alone: names or families, such as nginx,floor.
    #[arg(long, alias = "peer", value_delimiter = ',')]
    only: Vec<String>,
    /// Measure over these networks alone.
    #[arg(long, value_delimiter = ',', value_parser = ["lo", "veth"])]
    network: Vec<String>,
    /// Measure these parts alone: sizes, or sizes with connections, such as 1GiB,10KiB-64 (files
    /// of 1, 10 and 100 KiB with 8 and 1 connections when they are named so); `counts` (calls,
    /// cycles), `idle`, `sites`, `operation`.
    #[arg(long, value_delimiter = ',')]
    workload: Vec<String>,
    /// Servers write a log of requests, or none, or first none and then one.
    #[arg(long, value_enum, default_value_t = Logs::Both)]
    logs: Logs,
    /// So many rounds must count of each workload, instead of 11 (quick: 5).
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=99))]
    rounds: Option<u16>,
    #[command(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Logs {
    On,
    Off,
    Both,
}

/// What is measured beside the workloads.
const PARTS: [&str; 4] = ["counts", "idle", "sites", "operation"];

impl StaticFiles {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        self.check_filters()?;
        let effort = self.effort();
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
                if self.measures(workload, network.name()) {
                    session.measure(&network, workload)?;
                }
            }
        }
        let counted = self.counted();
        let calls = accounts::count_calls(&mut session, &counted)?;
        let requests = if self.quick { 50_000 } else { 200_000 };
        let cycles = accounts::count_cycles(&mut session, &counted, requests)?;
        let idle = accounts::weigh_idle(&mut session, &self.weighed())?;
        let (mut sites, mut operation) = Default::default();
        if is_wanted && self.wants_part("sites") {
            let rounds = if self.quick { effort.rounds } else { sites::PAIRS };
            sites = sites::measure(&mut session, Effort { rounds, ..effort })?;
        }
        if is_wanted && self.wants_part("operation") {
            operation = operation::measure(&mut session)?;
        }

        let Session { run, machine, cells, skipped, .. } = session;
        let findings = Findings { cells, calls, cycles, idle, sites, operation, skipped };
        let took = run.elapsed().as_secs_f64() / 60.0;
        let report = format!("{}\n{took:.1} minutes\n\n{}", machine.summary(), findings.report());
        self.outcome
            .conclude(&run, &report, &findings.targets(), |run| findings.plot(run, &workloads))
    }

    fn effort(&self) -> Effort {
        let mut effort = if self.quick { QUICK } else { FULL };
        if let Some(rounds) = self.rounds.map(usize::from) {
            effort.rounds = Rounds::and_a_third(rounds);
        }
        effort
    }

    /// All that can be measured, with logs last.
    fn all(&self) -> Vec<Workload> {
        let logs: &[bool] = match self.logs {
            Logs::Off => &[false],
            Logs::On => &[true],
            Logs::Both => &[false, true],
        };
        logs.iter().flat_map(|&logs| workloads(self.quick, logs)).collect()
    }

    fn check_filters(&self) -> Result<()> {
        let all = self.all();
        for only in &self.only {
            let mut known = all.iter().flat_map(|workload| &workload.peers);
            ensure!(known.any(|peer| peer.is_meant_by(only)), "no server is called {only}");
        }
        for wanted in &self.workload {
            let names: Vec<&str> =
                all.iter().map(|workload| &*workload.name).chain(PARTS).collect();
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

    /// Whether a workload is to be measured over any network: those of every day by any name
    /// of theirs, the others by their whole one.
    fn measures(&self, workload: &Workload, network: &str) -> bool {
        let name = &workload.name;
        let by_name = self.workload.iter().any(|wanted| wanted == name);
        let is_meant =
            self.workload.is_empty() || self.workload.iter().any(|of| is_meant(name, of));
        by_name || is_meant && is_usual(workload, network, self.quick)
    }

    /// Whether what is no workload is wanted.
    fn wants_part(&self, part: &str) -> bool {
        self.workload.is_empty() || self.workload.iter().any(|wanted| wanted == part)
    }

    fn chosen(&self, session: &mut Session) -> Vec<Workload> {
        let mut workloads = self.all();
        workloads.retain(|of| ["lo", "veth"].iter().any(|network| self.measures(of, network)));
        let mut missing: Vec<(Peer, &str)> = Vec::new();
        for workload in &mut workloads {
            for &peer in &workload.peers {
                if let Some(program) = peer.missing()
                    && !missing.contains(&(peer, program))
                {
                    missing.push((peer, program));
                }
            }
            workload.peers.retain(|&peer| self.wants(peer));
            if workload.logs && !runs_configurations() {
                session.skip(format!("sluicegate in {}: it has no log yet", workload.name));
                workload.peers.retain(|&peer| peer != Peer::Sluicegate);
            }
        }
        for (peer, program) in missing {
            session.skip(format!("{peer}: there is no {program}"));
        }
        workloads.retain(|workload| !workload.peers.is_empty());
        workloads
    }

    /// Whose system calls and cycles are counted.
    fn counted(&self) -> Vec<Peer> {
        self.of_part("counts", if self.quick { &[] } else { &[Peer::NginxCopy] })
    }

    /// Whose idle connections are weighed.
    fn weighed(&self) -> Vec<Peer> {
        self.of_part("idle", &[])
    }

    /// Those that a part is about, and more, as far as they are wanted.
    fn of_part(&self, part: &str, more: &[Peer]) -> Vec<Peer> {
        let mut peers = vec![Peer::Sluicegate, Peer::Nginx, Peer::Floor(Way::Epoll)];
        peers.extend(more);
        if !self.quick {
            peers.extend([Peer::Lighttpd, Peer::H2o, Peer::Apache, Peer::Caddy]);
        }
        peers.retain(|&peer| self.wants_part(part) && self.wants(peer));
        peers
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
