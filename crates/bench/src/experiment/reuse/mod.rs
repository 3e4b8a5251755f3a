//! The question of seeds/002 (docs/paper.md, Q1–Q14): images of 10 KB to 50 MB, made in memory and
//! sent. What do the three ways and ours cost, and when may the buffer be written to again?
//!
//! Each server makes every image anew, with the same work; the client checks that the image is the
//! one that it asked for and not the one that was in the buffer before.

mod cell;
mod findings;
mod sizes;
mod tables;

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use self::cell::{ReuseCell, Window};
use self::findings::Findings;
use self::sizes::{SIZES, Size};
use super::downloads::ask;
use super::options::{Networks, Outcome};
use super::session::{CLIENT_LIMIT, Effort, Session, load_of, void};
use crate::client::{Check, Load};
use crate::floor::reuse::{Made, Make, REPORT};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::round::{Rounds, fault, order};
use crate::peer::Running;

/// Those where CPU is compared, and those of 50 MB/s, where time is.
const FAST: [&str; 3] = ["lo", "veth", "wire"];
const NETWORKS: [&str; 4] = ["lo", "veth", "veth50", "wire50"];

/// Between two clients of a window.
const WARM_UP: &str = "60";

#[derive(Debug, Args)]
pub(crate) struct Reuse {
    /// Three sizes over two networks, one over a slow one, few rounds: under two minutes.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    outcome: Outcome,
}

/// How much is measured of a size over a network.
#[derive(Debug, Clone, Copy)]
struct Plan {
    rounds: Rounds,
    /// Rounds in which acknowledgements are looked for.
    looked_for: usize,
    /// Of a window; over a slow network it ends after a number of images instead.
    window: Duration,
    is_slow: bool,
    /// The client shares its core with the relay of a wire, and has to wait like any other.
    waits: bool,
}

/// A line of `rounds.jsonl`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
enum Line<'a> {
    Window {
        network: &'a str,
        size: &'a str,
        way: String,
        round: usize,
        /// Why the round does not count.
        fault: Option<String>,
        #[serde(flatten)]
        window: &'a Window,
    },
    /// Images whose acknowledgement was looked for.
    LookedFor { network: &'a str, size: &'a str, way: String, round: usize, made: &'a Made },
}

impl Reuse {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        // Every way is a loop of this program: there is no server to build, and no file.
        let mut session = Session::open("reuse", self.outcome.out(), Effort::NONE, false)?;
        let usual: &[&str] = if self.quick { &["lo", "veth", "wire50"] } else { &NETWORKS };
        let wanted = self.networks.or(usual);
        let networks = session.networks(&wanted);
        let mut cells = Vec::new();
        for network in &networks {
            let plan = self.plan(network);
            for size in self.sizes(plan.is_slow) {
                cells.push(plan.measure(&mut session, network, size)?);
            }
        }

        let Session { run, machine, skipped, .. } = session;
        let networks = networks.iter().map(Network::name).collect();
        let findings = Findings { networks, cells, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }

    fn sizes(&self, is_slow: bool) -> Vec<Size> {
        let wanted: &[&str] = match (self.quick, is_slow) {
            (true, true) => &["10 MB"],
            (true, false) => &["10 KB", "1 MB", "10 MB"],
            (false, _) => return SIZES.to_vec(),
        };
        SIZES.into_iter().filter(|size| wanted.contains(&size.name)).collect()
    }

    fn plan(&self, network: &Network) -> Plan {
        let is_slow = !FAST.contains(&network.name());
        // A core's time is counted in steps of 10 ms: a window has tens of them.
        let (wanted, at_most, looked_for, window) = match (self.quick, is_slow) {
            (true, true) => (2, 2, 1, 0),
            (true, false) => (3, 4, 1, 200),
            (false, true) => (5, 6, 2, 0),
            (false, false) => (15, 18, 4, 300),
        };
        let window = Duration::from_millis(window);
        let waits = ["wire", "wire50", "far50"].contains(&network.name());
        let rounds = Rounds { wanted, at_most };
        Plan { rounds, looked_for, window, is_slow, waits }
    }
}

impl Plan {
    /// All rounds of one size.
    fn measure(&self, session: &mut Session, network: &Network, size: Size) -> Result<ReuseCell> {
        let workload = size.workload(false);
        let mut servers = Vec::new();
        for &peer in &workload.peers {
            interrupt::check()?;
            servers.push(session.start(network, peer, workload.contents)?);
        }
        for server in &servers {
            session.run.progress(&format!(
                "{} {} {}: checking",
                network.name(),
                size.name,
                server.peer
            ));
            // Two: the second image is made where the first was.
            let load = self.load(network, server, size, false, Some((2, Check::Whole)))?;
            report(network, server).with_context(|| void(server))?;
            drop(load);
        }
        let mut cell = ReuseCell::new(network.name(), size);
        let mut good = 0;
        while self.rounds.want_more(cell.rounds.len(), good) {
            let round = cell.rounds.len();
            let windows = self.round(session, network, size, &servers, round)?;
            let fault = fault(&windows);
            good += usize::from(fault.is_none());
            cell.rounds.push(windows);
            cell.faults.push(fault);
            if round < self.looked_for {
                let looked_for = self.look_for(session, network, size, &servers, round)?;
                cell.looked_for.push(looked_for);
            }
        }
        Ok(cell)
    }

    /// One window of each way.
    fn round(
        &self,
        session: &mut Session,
        network: &Network,
        size: Size,
        servers: &[Running],
        round: usize,
    ) -> Result<Vec<Window>> {
        let mut windows = vec![None; servers.len()];
        for index in order(round, servers.len()) {
            interrupt::check()?;
            let server = &servers[index];
            let load = self.load(network, server, size, false, None)?;
            let made = report(network, server).with_context(|| void(server))?;
            windows[index] = Some(Window { load, made });
        }
        let windows: Vec<Window> = windows.into_iter().flatten().collect();
        let fault = fault(&windows).map(|fault| fault.to_string());
        let mut line = format!("{} {} round {}:", network.name(), size.name, round + 1);
        for (way, window) in Make::ALL.iter().zip(&windows) {
            line += &format!("  {way} {:.3}", window.core());
            session.run.record(&Line::Window {
                network: network.name(),
                size: size.name,
                way: way.to_string(),
                round,
                fault: fault.clone(),
                window,
            })?;
        }
        let fault = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
        session.run.progress(&format!("{line} s/GiB{fault}"));
        Ok(windows)
    }

    /// A few images of each way whose acknowledgement is looked for.
    fn look_for(
        &self,
        session: &mut Session,
        network: &Network,
        size: Size,
        servers: &[Running],
        round: usize,
    ) -> Result<Vec<Made>> {
        let images = size.looked_for[usize::from(self.is_slow)];
        let mut all = Vec::new();
        for (way, server) in Make::ALL.iter().zip(servers) {
            interrupt::check()?;
            let check = size.workload(true).check;
            self.load(network, server, size, true, Some((images, check)))?;
            let made = report(network, server).with_context(|| void(server))?;
            session.run.record(&Line::LookedFor {
                network: network.name(),
                size: size.name,
                way: way.to_string(),
                round,
                made: &made,
            })?;
            all.push(made);
        }
        Ok(all)
    }

    /// A client's window: of a number of images, or as long as it is to be.
    fn load(
        &self,
        network: &Network,
        server: &Running,
        size: Size,
        timed: bool,
        images: Option<(u64, Check)>,
    ) -> Result<Load> {
        let workload = size.workload(timed);
        let check = match images.map_or(workload.check, |(_, check)| check) {
            Check::Whole => "whole",
            Check::Edges => "edges",
            Check::Sampled => "sampled",
        };
        let mut plan = vec!["--connections", "1", "--check", check];
        let (requests, window);
        match images.map(|(images, _)| images).or(self.is_slow.then_some(size.slow)) {
            Some(images) => {
                requests = images.to_string();
                plan.extend(["--requests", &requests]);
            }
            None => {
                window = self.window.as_millis().to_string();
                plan.extend(["--warm-up", WARM_UP, "--window", &window]);
            }
        }
        if self.waits {
            plan.push("--waits");
        }
        let load = answer_of(load_of(network, server, &workload, &plan)?, CLIENT_LIMIT);
        load.with_context(|| void(server))
    }
}

fn report(network: &Network, server: &Running) -> Result<Made> {
    ask(network.server(), server.address, REPORT)
}
