//! Figure 7 of the case study on `sendfile` (docs/paper.md, R12–R20): one file, asked for at full
//! speed over persistent connections, by its size; head, file and tail joined in several ways.

mod comparison;
mod counts;
mod findings;
mod packets;
mod tables;
mod workload;

use anyhow::Result;
use clap::Args;

use self::findings::Findings;
use self::workload::{FULL, QUICK, Series, series};
use super::contents::{self, Contents};
use super::options::Outcome;
use super::session::Session;
use crate::harness::network::Network;

#[derive(Debug, Args)]
pub(crate) struct Figure7 {
    /// A few sizes, short windows, no system calls: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Measure over these networks alone.
    #[arg(long, value_delimiter = ',', value_parser = ["lo", "veth"])]
    network: Vec<String>,
    #[command(flatten)]
    outcome: Outcome,
}

impl Figure7 {
    /// Measures and reports; returns whether the outcome is acceptable.
    pub(crate) fn run(&self) -> Result<bool> {
        let effort = if self.quick { QUICK } else { FULL };
        // Every way is a loop of this program: there is no server to build.
        let mut session = Session::open("figure7", self.outcome.out(), effort, false)?;
        let all = series(self.quick);
        let files: Vec<Contents> = all.iter().flat_map(Series::files).collect();
        session.serve(contents::prepare(&files)?);
        let networks = session.networks(&self.network);
        let mut packets = Vec::new();
        for network in &networks {
            for series in &all {
                for &size in &series.sizes {
                    packets.push(counts::packets(&mut session, network, series, size)?);
                    session.measure(network, &series.workload(size))?;
                }
            }
        }
        let calls = if self.quick { Vec::new() } else { counts::calls(&mut session, &all[0])? };

        let Session { run, machine, cells, skipped, .. } = session;
        let networks = networks.iter().map(Network::name).collect();
        let findings = Findings { networks, series: all, cells, packets, calls, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        self.outcome.conclude(&run, &report, &findings.targets(), |run| findings.plot(run))
    }
}
