//! Static files: what a request of 1 KiB, a GiB, and an idle connection cost.

mod findings;
mod targets;
mod workload;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use self::findings::{CallsPerRequest, Cell, Findings, Record};
use self::workload::{Effort, Workload, workloads};
use super::contents::{self, Contents, GIB, KIB};
use crate::client::{Check, IdleMemory, Load, Resource};
use crate::floor::Way;
use crate::harness::calls;
use crate::harness::interrupt;
use crate::harness::machine::{Machine, version};
use crate::harness::network::Network;
use crate::harness::pinned::{answer_of, own_path, pinned};
use crate::harness::round::{Rounds, fault, order};
use crate::harness::run_dir::RunDir;
use crate::peer::{self, Peer, Place, Running};

/// The core of the server, and the one of everybody else.
const SERVER_CPU: usize = 0;
const CLIENT_CPU: usize = 1;

/// A client that has not finished by then is stuck.
const CLIENT_LIMIT: Duration = Duration::from_secs(120);

const IDLE_CONNECTIONS: usize = 10_000;
/// Descriptors that a process needs beside its connections.
const OTHER_DESCRIPTORS: u64 = 100;

#[derive(Debug, Args)]
pub(crate) struct StaticFiles {
    /// Short windows, no 8 downloads at once, no nginx with a file cache: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Where the results go, instead of `runs/DATE-static`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Measure these servers alone: names or families, such as nginx,floor.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Measure over these networks alone.
    #[arg(long, value_delimiter = ',', value_parser = ["lo", "veth"])]
    network: Vec<String>,
    /// Fail when a target is missed.
    #[arg(long)]
    check: bool,
}

impl StaticFiles {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        for only in &self.only {
            let known = workloads(false).into_iter().flat_map(|workload| workload.peers);
            ensure!(
                known.into_iter().any(|peer| peer.is_meant_by(only)),
                "no server is called {only}"
            );
        }
        let mut machine = Machine::look();
        if self.wants(Peer::Sluicegate) {
            peer::build().context("there is no sluicegate to measure; see --only")?;
            machine.sluicegate = version(&peer::sluicegate_path()?.to_string_lossy(), "--version");
        }
        sluicegate_sys::affinity::pin_to(CLIENT_CPU)
            .context("server and client need a core each: there is no second one")?;

        let run = RunDir::create(self.out.as_deref(), "static", &machine)?;
        run.progress("preparing the files");
        let root = contents::prepare(&[KIB, GIB])?;
        let effort = if self.quick { Effort::QUICK } else { Effort::FULL };
        let mut session = Session { run, root: &root, effort, findings: Findings::default() };
        let workloads = self.chosen(&mut session);
        for network in self.networks(&mut session) {
            for workload in &workloads {
                session.measure(&network, workload)?;
            }
        }
        let small = [Peer::Sluicegate, Peer::Nginx, Peer::Floor(Way::Epoll)];
        let small: Vec<Peer> = small.into_iter().filter(|&peer| self.wants(peer)).collect();
        session.count_calls(&small)?;
        session.weigh_idle(&small)?;

        let Session { run, findings, .. } = session;
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        run.write("summary.txt", &report)?;
        run.write_json("targets.json", &findings.targets())?;
        findings.plot(&run, &workloads)?;
        print!("{report}");
        println!("\nraw data, report and plots: {}", run.path().display());
        run.progress("done");
        Ok(!self.check || !findings.targets().iter().any(|target| target.is_missed()))
    }

    fn wants(&self, peer: Peer) -> bool {
        let named = self.only.is_empty() || self.only.iter().any(|only| peer.is_meant_by(only));
        named && peer.missing().is_none()
    }

    fn chosen(&self, session: &mut Session<'_>) -> Vec<Workload> {
        let mut workloads = workloads(self.quick);
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

    fn networks(&self, session: &mut Session<'_>) -> Vec<Network> {
        let wants = |name: &str| self.network.is_empty() || self.network.iter().any(|n| n == name);
        let mut networks = Vec::new();
        if wants("lo") {
            networks.push(Network::Loopback);
        }
        if wants("veth") {
            match Network::veth() {
                Ok(network) => networks.push(network),
                Err(error) => session.skip(format!("everything over veth: {error:#}")),
            }
        }
        networks
    }
}

/// A run that is under way.
struct Session<'a> {
    run: RunDir,
    root: &'a Path,
    effort: Effort,
    findings: Findings,
}

impl Session<'_> {
    fn skip(&mut self, what: String) {
        self.run.progress(&format!("SKIPPED: {what}"));
        self.findings.skipped.push(what);
    }

    /// Starts a server at the server's side of a network.
    fn start(&self, network: &Network, peer: Peer, contents: Contents) -> Result<Running> {
        let place = Place { side: network.server(), cpu: SERVER_CPU, root: self.root };
        peer.start(&place, contents.name)
    }

    /// All rounds of one workload. The servers stay up throughout: one that nobody asks costs
    /// nothing.
    fn measure(&mut self, network: &Network, workload: &Workload) -> Result<()> {
        let mut servers = Vec::new();
        for &peer in &workload.peers {
            interrupt::check()?;
            servers.push(self.start(network, peer, workload.contents)?);
        }
        let name = workload.name;
        for server in &servers {
            self.run.progress(&format!("{} {name} {}: checking", network.name(), server.peer));
            let whole = ["--connections", "1", "--check", "whole", "--requests", "1"];
            ask(network, server, workload.contents, &whole).with_context(|| void(server))?;
        }
        let (mut rounds, mut faults) = (Vec::new(), Vec::new());
        let Rounds { wanted, at_most } = self.effort.rounds;
        let mut good = 0;
        while good < wanted && rounds.len() < at_most {
            let windows = self.round(network, workload, &servers, rounds.len())?;
            let fault = fault(&windows);
            good += usize::from(fault.is_none());
            faults.push(fault);
            rounds.push(windows);
        }
        let (network, workload) = (network.name(), workload.clone());
        self.findings.cells.push(Cell { network, workload, rounds, faults });
        Ok(())
    }

    /// One window of each server.
    fn round(
        &mut self,
        network: &Network,
        workload: &Workload,
        servers: &[Running],
        round: usize,
    ) -> Result<Vec<Load>> {
        let mut windows = vec![None; servers.len()];
        for index in order(round, servers.len()) {
            interrupt::check()?;
            let server = &servers[index];
            let load = self.effort.load(network, server, workload);
            windows[index] = Some(load.with_context(|| void(server))?);
        }
        let windows: Vec<Load> = windows.into_iter().flatten().collect();

        let fault = fault(&windows).map(|fault| fault.to_string());
        let (unit, digits) = (workload.unit, workload.unit.digits().0);
        let mut line = format!("{} {} round {}:", network.name(), workload.name, round + 1);
        for (server, load) in servers.iter().zip(windows.iter().cloned()) {
            let cost = unit.core_cost(&load);
            line += &format!("  {} {cost:.digits$}", server.peer);
            self.run.record(&Record::Load {
                network: network.name().to_owned(),
                workload: workload.name.to_owned(),
                server: server.peer.to_string(),
                round,
                fault: fault.clone(),
                unit,
                cost,
                load: Box::new(load),
            })?;
        }
        let fault = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
        self.run.progress(&format!("{line} {}{fault}", unit.of_cost()));
        Ok(windows)
    }

    /// System calls for each request, over loopback. A server is started for each count, because
    /// the count ends with it.
    fn count_calls(&mut self, peers: &[Peer]) -> Result<()> {
        if !calls::can_count() {
            self.skip("system calls: there is no strace".to_owned());
            return Ok(());
        }
        for &peer in peers {
            for (connections, requests) in [(64, "20000"), (1, "5000")] {
                interrupt::check()?;
                let network = Network::Loopback;
                let server = self.start(&network, peer, KIB)?;
                self.run.progress(&format!("{peer}: counting calls, {connections} connections"));
                let connected = connections.to_string();
                let plan =
                    ["--connections", &connected, "--check", "whole", "--requests", requests];
                let client = load_of(&network, &server, KIB, &plan)?;
                let mut requests = 0;
                let counted = calls::count(server.child, || {
                    requests = answer_of::<Load>(client, CLIENT_LIMIT)?.requests;
                    Ok(())
                });
                let calls = counted.with_context(|| format!("cannot count calls of {peer}"))?;
                let server = peer.to_string();
                self.run.record(&Record::Calls {
                    server,
                    connections,
                    requests,
                    calls: calls.clone(),
                })?;
                self.findings.calls.push(CallsPerRequest { peer, connections, requests, calls });
            }
        }
        Ok(())
    }

    /// The memory of idle connections, over loopback.
    fn weigh_idle(&mut self, peers: &[Peer]) -> Result<()> {
        let limit = sluicegate_sys::limits::raise_descriptors()?;
        if limit < IDLE_CONNECTIONS as u64 + OTHER_DESCRIPTORS {
            self.skip(format!("idle connections: a process may open {limit} descriptors only"));
            return Ok(());
        }
        for &peer in peers {
            interrupt::check()?;
            let network = Network::Loopback;
            let server = self.start(&network, peer, KIB)?;
            self.run.progress(&format!("{peer}: {IDLE_CONNECTIONS} idle connections"));
            let connections = IDLE_CONNECTIONS.to_string();
            let plan = ["--connections", &connections, "--hold", "1000"];
            let client = client_of(&network, &server, KIB, "idle", &plan)?;
            let memory: IdleMemory =
                answer_of(client, CLIENT_LIMIT).with_context(|| void(&server))?;
            self.run.record(&Record::Idle { server: peer.to_string(), memory: memory.clone() })?;
            self.findings.idle.push((peer, memory));
        }
        Ok(())
    }
}

impl Effort {
    fn load(&self, network: &Network, server: &Running, workload: &Workload) -> Result<Load> {
        let check = match workload.check {
            Check::Whole => "whole",
            Check::Sampled => "sampled",
        };
        let connections = workload.connections.to_string();
        let [warm_up, window] =
            [self.warm_up, self.window].map(|time| time.as_millis().to_string());
        let plan = ["--connections", &connections, "--check", check];
        let times = ["--warm-up", &warm_up, "--window", &window];
        ask(network, server, workload.contents, &[plan, times].concat())
    }
}

fn ask(network: &Network, server: &Running, contents: Contents, plan: &[&str]) -> Result<Load> {
    answer_of(load_of(network, server, contents, plan)?, CLIENT_LIMIT)
}

fn load_of(
    network: &Network,
    server: &Running,
    contents: Contents,
    plan: &[&str],
) -> Result<Command> {
    let mut command = client_of(network, server, contents, "load", plan)?;
    command.args(["--server-cpu", &SERVER_CPU.to_string()]);
    Ok(command)
}

/// A client process at the client's side of a network.
fn client_of(
    network: &Network,
    server: &Running,
    contents: Contents,
    kind: &str,
    plan: &[&str],
) -> Result<Command> {
    let Contents { name, length, seed } = contents;
    let resource = Resource { address: server.address, path: format!("/{name}"), length, seed };
    let mut command = pinned(network.client(), CLIENT_CPU, &own_path()?)?;
    command.args(["client", kind]).args(resource.arguments()).args(plan);
    command.args(["--server-pid", &server.child.pid().to_string()]);
    Ok(command)
}

fn void(server: &Running) -> String {
    format!("the run is void: {} failed; it says:\n{}", server.peer, server.child.output())
}
