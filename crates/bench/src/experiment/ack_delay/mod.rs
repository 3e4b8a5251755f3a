//! How long after a peer's acknowledgement the sender is told (docs/paper.md, P37, P40, P45): by
//! epoll, by signal, by polling; beside `poll(2)`, and a loop that asks without a pause. Over each
//! wire, and with many idle sockets beside the one that is waited for.

mod findings;
mod probe;
mod sink;
mod ways;

use std::thread;

use anyhow::{Result, anyhow};
use clap::Args;
use serde::Serialize;

use self::findings::{DelayCell, Findings};
use self::sink::Sink;
use self::ways::Way;
use super::options::{Networks, Outcome};
use super::session::{CLIENT_CPU, Effort, SERVER_CPU, Session};
use crate::client::Latency;
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::round::order;

const NETWORKS: [&str; 5] = ["lo", "veth", "veth50", "wire", "far50"];

/// Those over which many idle sockets are made.
const WITH_MANY: [&str; 2] = ["lo", "veth"];

/// How many sockets stand beside the one that is waited for.
const IDLE: [usize; 3] = [1, 64, 1000];

/// Messages whose delays do not count: connections warm up, and windows open.
const WARM_UP: u64 = 20;

#[derive(Debug, Args)]
pub(crate) struct AckDelay {
    /// Three wires, few messages: under a minute.
    #[arg(long)]
    quick: bool,
    #[command(flatten)]
    networks: Networks,
    #[command(flatten)]
    outcome: Outcome,
}

/// A line of `rounds.jsonl`.
#[derive(Debug, Serialize)]
struct Line<'a> {
    network: &'a str,
    way: String,
    idle: usize,
    round: usize,
    messages: u64,
    /// Those of which the kernel left no time.
    untimed: u64,
    cpu_us: f64,
    delay_us: Latency,
    /// All of them: nanoseconds, in steps of a thousandth, and how many.
    delays: Vec<(u64, u64)>,
}

impl AckDelay {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        // Everything happens in this program: there is no server to build.
        let mut session = Session::open("ack-delay", self.outcome.out(), Effort::NONE, false)?;
        sluicegate_sys::limits::raise_descriptors()?;
        let usual: &[&str] = if self.quick { &["lo", "veth", "far50"] } else { &NETWORKS };
        let wanted = self.networks.or(usual);
        let networks = session.networks(&wanted);
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for network in &networks {
            part(network)?;
            alone.extend(self.measure(&mut session, network, &Way::ALL, 0)?);
            if !WITH_MANY.contains(&network.name()) || (self.quick && network.name() != "lo") {
                continue;
            }
            for idle in IDLE {
                beside.extend(self.measure(&mut session, network, &Way::WITH_MANY, idle)?);
            }
        }

        let Session { run, machine, skipped, .. } = session;
        let networks = networks.iter().map(Network::name).collect();
        let findings = Findings { networks, alone, beside, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }

    /// Interleaved rounds of these ways.
    fn measure(
        &self,
        session: &mut Session,
        network: &Network,
        ways: &[Way],
        idle: usize,
    ) -> Result<Vec<DelayCell>> {
        let (rounds, messages) = match (self.quick, network.name() == "far50") {
            (true, true) => (2, 50),
            (true, false) => (2, 200),
            (false, true) => (5, 200),
            (false, false) => (9, 400),
        };
        let cell = |&way: &Way| DelayCell::new(network.name(), way, idle);
        let mut cells = ways.iter().map(cell).collect::<Result<Vec<_>>>()?;
        for round in 0..rounds {
            let mut line = format!("{} {idle} idle, round {}:", network.name(), round + 1);
            for index in order(round, ways.len()) {
                interrupt::check()?;
                let way = ways[index];
                let delays = delays(network, way, idle, messages)?;
                let of = Latency::of(&delays.nanoseconds);
                line += &format!("  {way} {:.1} ({:.0})", of.p50, of.p99);
                let steps = delays.nanoseconds.iter_recorded();
                session.run.record(&Line {
                    network: network.name(),
                    way: way.to_string(),
                    idle,
                    round,
                    messages,
                    untimed: delays.untimed,
                    cpu_us: delays.cpu_us,
                    delay_us: of,
                    delays: steps
                        .map(|step| (step.value_iterated_to(), step.count_at_value()))
                        .collect(),
                })?;
                cells[index].add(&delays)?;
            }
            session.run.progress(&format!("{line} µs (p99)"));
        }
        Ok(cells)
    }
}

/// Has each side of a lab receive on its own core, as two machines do. Otherwise the peer of a veth
/// acknowledges within the very call that sends, and nobody has to be told.
fn part(network: &Network) -> Result<()> {
    if let Network::Lab(_, lab) = network {
        lab.server().receive_on(SERVER_CPU)?;
        lab.client().receive_on(CLIENT_CPU)?;
    }
    Ok(())
}

/// One way, on connections of its own and on the server's core.
fn delays(network: &Network, way: Way, idle: usize, messages: u64) -> Result<probe::Delays> {
    let sink = Sink::start(network, Some(CLIENT_CPU))?;
    let others = sink.connect(network, idle)?;
    let socket = sink.connect(network, 1)?.remove(0);
    let measured = thread::scope(|scope| {
        // A thread of its own: signals, and the processor, are a thread's.
        let thread = scope.spawn(|| {
            sluicegate_sys::affinity::pin_to(SERVER_CPU)?;
            let mut waiting = way.begin(socket, others)?;
            probe::measure(waiting.as_mut(), messages, WARM_UP)
        });
        thread.join()
    });
    measured.map_err(|_| anyhow!("{way} over {} panicked", network.name()))?
}
