//! A run that is under way: servers are started, asked in rounds, and what they cost is kept.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cell::Cell;
use super::contents::Contents;
use super::logs::Logs;
use super::record::Record;
use super::workload::Workload;
use crate::client::{Check, Load, Resource};
use crate::harness::interrupt;
use crate::harness::machine::{Machine, version};
use crate::harness::network::{Network, Side};
use crate::harness::pinned::{answer_of, own_path, pinned};
use crate::harness::round::{Rounds, fault, order};
use crate::harness::run_dir::RunDir;
use crate::peer::{self, Peer, Place, Running};
use crate::upstream::Upstream;

/// The core of the server, and the one of everybody else.
pub(super) const SERVER_CPU: usize = 0;
pub(super) const CLIENT_CPU: usize = 1;

/// A client that has not finished by then is stuck.
pub(super) const CLIENT_LIMIT: Duration = Duration::from_secs(120);

/// How long and how often is measured.
///
/// Windows are short, and rounds many, so that a round is over before the host moves a core
/// again; `/proc/stat` counts in steps of 10 ms, whose error the median of rounds evens out.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) rounds: Rounds,
    pub(super) warm_up: Duration,
    pub(super) window: Duration,
}

/// A run that is under way.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) run: RunDir,
    pub(super) machine: Machine,
    root: PathBuf,
    effort: Effort,
    pub(super) cells: Vec<Cell>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
    /// What proxies stand in front of.
    pub(super) upstream: Option<Upstream>,
}

impl Session {
    /// Builds our own server if it `is_wanted`, and makes the directory of the run.
    pub(super) fn open(
        experiment: &str,
        out: Option<&Path>,
        effort: Effort,
        is_wanted: bool,
    ) -> Result<Self> {
        let mut machine = Machine::look();
        if is_wanted {
            peer::build().context("there is no sluicegate to measure; see --only")?;
            machine.sluicegate = version(&peer::sluicegate_path()?.to_string_lossy(), "--version");
        }
        sluicegate_sys::affinity::pin_to(CLIENT_CPU)
            .context("server and client need a core each: there is no second one")?;
        let run = RunDir::create(out, experiment, &machine)?;
        let (cells, skipped) = Default::default();
        Ok(Self { run, machine, root: PathBuf::new(), effort, cells, skipped, upstream: None })
    }

    /// From now on servers serve this directory.
    pub(super) fn serve(&mut self, root: PathBuf) {
        self.root = root;
    }

    /// How long and how often is measured from now on.
    pub(super) fn make(&mut self, effort: Effort) {
        self.effort = effort;
    }

    /// The directory that servers serve.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn skip(&mut self, what: String) {
        self.run.progress(&format!("SKIPPED: {what}"));
        self.skipped.push(what);
    }

    /// The networks that are wanted and can be had; without a wish, `lo` and `veth`.
    pub(super) fn networks(&mut self, wanted: &[String]) -> Vec<Network> {
        let wanted: Vec<&str> = if wanted.is_empty() {
            vec!["lo", "veth"]
        } else {
            wanted.iter().map(String::as_str).collect()
        };
        let mut networks = Vec::new();
        for name in wanted {
            match Network::by_name(name) {
                Ok(network) => networks.push(network),
                Err(error) => self.skip(format!("everything over {name}: {error:#}")),
            }
        }
        networks
    }

    /// Starts a server at the server's side of a network.
    pub(super) fn start(
        &self,
        network: &Network,
        peer: Peer,
        contents: Contents,
    ) -> Result<Running> {
        self.start_at(network.server(), peer, contents)
    }

    /// Starts a server on a side of a network.
    pub(super) fn start_at(
        &self,
        side: Side<'_>,
        peer: Peer,
        contents: Contents,
    ) -> Result<Running> {
        peer.start(&self.place(side, None), contents.name)
    }

    /// Where servers run, on a side of a network.
    pub(super) fn place<'a>(&'a self, side: Side<'a>, log: Option<&'a Path>) -> Place<'a> {
        let upstream = self.upstream.as_ref().map(Upstream::origin);
        Place { side, cpu: SERVER_CPU, root: &self.root, log, upstream, spool: None }
    }

    /// All rounds of one workload. The servers stay up throughout: one that nobody asks costs
    /// nothing.
    pub(super) fn measure(&mut self, network: &Network, workload: &Workload) -> Result<()> {
        let mut servers = Vec::new();
        let count = if workload.logs { workload.peers.len() } else { 0 };
        let mut logs = Logs::beside(&self.root, count)?;
        for (index, &peer) in workload.peers.iter().enumerate() {
            interrupt::check()?;
            let place = self.place(network.server(), logs.path(index));
            servers.push(peer.start(&place, workload.contents.name)?);
        }
        let name = &workload.name;
        for (index, server) in servers.iter().enumerate() {
            self.run.progress(&format!("{} {name} {}: checking", network.name(), server.peer));
            let requests = workload.files.unwrap_or(1).to_string();
            let whole = ["--connections", "1", "--check", "whole", "--requests", &requests];
            let checked =
                answer_of::<Load>(load_of(network, server, workload, &whole)?, CLIENT_LIMIT);
            logs.expect(index, &checked.with_context(|| void(server))?);
        }
        let (mut rounds, mut faults) = (Vec::new(), Vec::new());
        let mut good = 0;
        while self.effort.rounds.want_more(rounds.len(), good) {
            let windows = self.round(network, workload, &servers, rounds.len())?;
            for (index, load) in windows.iter().enumerate() {
                logs.expect(index, load);
            }
            logs.look()?;
            let fault = fault(&windows);
            good += usize::from(fault.is_none());
            faults.push(fault);
            rounds.push(windows);
        }
        let starving = servers.iter().enumerate().filter_map(|(index, server)| {
            let starved = rounds.iter().filter(|windows| windows[index].starved > 0).count();
            (2 * starved > rounds.len()).then_some((server.peer, starved))
        });
        let starving: Vec<(Peer, usize)> = starving.collect();
        let (network, workload) = (network.name(), workload.clone());
        let mut cell = Cell { network, workload, rounds, faults };
        for (peer, starved) in starving {
            let (name, all) = (&cell.workload.name, cell.rounds.len());
            self.skip(format!(
                "{peer} in {name} over {network} is VOID: in {starved} of {all} windows some \
                 connections got nothing"
            ));
            cell.leave_out(peer);
        }
        for (server, fault) in servers.iter().zip(logs.faults()?) {
            if let Some(fault) = fault {
                let name = &cell.workload.name;
                self.skip(format!("{} in {name} over {network} is VOID: {fault}", server.peer));
                cell.leave_out(server.peer);
            }
        }
        self.cells.push(cell);
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
                workload: workload.name.clone(),
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
}

impl Effort {
    /// Of a session whose experiment has plans of its own.
    pub(super) const NONE: Self = Self {
        rounds: Rounds { wanted: 0, at_most: 0 },
        warm_up: Duration::ZERO,
        window: Duration::ZERO,
    };

    fn load(&self, network: &Network, server: &Running, workload: &Workload) -> Result<Load> {
        let check = match workload.check {
            Check::Whole => "whole",
            Check::Edges => "edges",
            Check::Sampled => "sampled",
        };
        let connections = workload.connections.to_string();
        let [warm_up, window] =
            [self.warm_up, self.window].map(|time| time.as_millis().to_string());
        let plan = ["--connections", &connections, "--check", check];
        let times = ["--warm-up", &warm_up, "--window", &window];
        answer_of(load_of(network, server, workload, &[plan, times].concat())?, CLIENT_LIMIT)
    }
}

/// A client that asks in a closed loop.
pub(super) fn load_of(
    network: &Network,
    server: &Running,
    workload: &Workload,
    plan: &[&str],
) -> Result<Command> {
    let mut command = client_of(network, server, workload, "load", plan)?;
    command.args(["--server-cpu", &SERVER_CPU.to_string()]);
    if server.origin.is_some_and(|origin| origin.spins) {
        command.arg("--yields");
    }
    Ok(command)
}

/// A client process at the client's side of a network.
pub(super) fn client_of(
    network: &Network,
    server: &Running,
    workload: &Workload,
    kind: &str,
    plan: &[&str],
) -> Result<Command> {
    let mut command = asking(network, &workload.resource(server), kind, plan)?;
    command.args(["--server-pid", &server.child.pid().to_string()]);
    if let Some(origin) = server.origin {
        command.args(["--apart", &origin.pid.to_string()]);
    }
    Ok(command)
}

/// A client process that asks for something of its own.
pub(super) fn asking(
    network: &Network,
    resource: &Resource,
    kind: &str,
    plan: &[&str],
) -> Result<Command> {
    let mut command = pinned(network.client(), CLIENT_CPU, &own_path()?)?;
    command.args(["client", kind]).args(resource.arguments()).args(plan);
    Ok(command)
}

/// What to say when a server has failed.
pub(super) fn void(server: &Running) -> String {
    format!("the run is void: {} failed; it says:\n{}", server.peer, server.child.output())
}
