//! What was measured, and what it says: the report, the targets, the plots.

use std::fmt::Write;

use anyhow::Result;

use super::{ACKED, BLOCKING, OURS, SERVERS};
use crate::client::Load;
use crate::experiment::cell::Cell;
use crate::harness::interval::Interval;
use crate::harness::plot::{self, Axes, Line};
use crate::harness::report::{Table, Target, verdicts};
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::{Spread, ratios};
use crate::peer::Peer;

/// What all downloads together may take with ours, by what they take with one that waits: within
/// the noise of a machine like this.
const AT_MOST: f64 = 1.05;

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) networks: Vec<&'static str>,
    pub(super) cells: Vec<Cell>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

/// A figure of a window.
type Figure = fn(&Load) -> f64;

/// Millions of bytes in a second, over all connections.
pub(super) fn rate(load: &Load) -> f64 {
    load.bytes as f64 / load.window_s / 1e6
}

/// Milliseconds of a download, waiting for its turn among them.
const MIDDLE: Figure = |load| load.latency_us.p50 / 1e3;
const LATE: Figure = |load| load.latency_us.p99 / 1e3;
/// What a byte of all downloads took.
const TIME: Figure = |load| load.window_s / load.bytes as f64;

impl Findings {
    /// The cells of a network, from the fewest connections to the most.
    fn of(&self, network: &str) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| cell.network == network)
    }

    /// Ours by the one that waits for acknowledgements, at every number of connections.
    pub(super) fn targets(&self) -> Vec<Target> {
        let target = |cell: &Cell| Target {
            name: format!(
                "{} over {}: time of ours / until acked",
                cell.workload.name, cell.network
            ),
            bound: AT_MOST,
            value: against(cell, OURS, ACKED, TIME).map(|of| of.median),
        };
        self.cells.iter().map(target).collect()
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for &network in &self.networks {
            let mut columns = vec!["".to_owned()];
            for what in ["MB/s", "p50 ms", "p99 ms"] {
                columns.extend(SERVERS.map(|(_, name)| format!("{name}, {what}")));
            }
            columns
                .extend(["time: ours / until acked", "ours / until accepted"].map(str::to_owned));
            columns.push("rounds".to_owned());
            let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
            let title = format!("Over {network}: downloads of 1 MiB, one loop, medians of rounds");
            let mut table = Table::new(title, &columns);
            for cell in self.of(network) {
                let mut row = vec![cell.workload.name.clone()];
                for (figure, digits) in [(rate as Figure, 0), (MIDDLE, 2), (LATE, 2)] {
                    row.extend(SERVERS.map(|(peer, _)| {
                        let median = median(cell, peer, figure);
                        median.map_or_else(|| "—".to_owned(), |of| format!("{of:.digits$}"))
                    }));
                }
                row.extend([ACKED, BLOCKING].map(|other| {
                    let of = against(cell, OURS, other, TIME);
                    of.map_or_else(|| "—".to_owned(), Interval::show)
                }));
                row.push(cell.verdict_in_short());
                table.row(row);
            }
            let _ = writeln!(text, "{table}");
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// Of each network: rates, and the latencies of downloads, by connections.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        for &network in &self.networks {
            let draw = |what: &str, unit: &str, is_logarithmic: bool, figure: Figure| {
                let label = |connections: u64| connections.to_string();
                let axes = Axes { below: "connections", label, unit, is_logarithmic };
                let line = |(colour, (peer, name)): (usize, (Peer, &str))| {
                    let point = |cell: &Cell| {
                        Some((cell.workload.connections as u64, median(cell, peer, figure)?))
                    };
                    let points = self.of(network).filter_map(point).collect();
                    Line { name: name.to_owned(), colour, is_second: false, points }
                };
                let lines: Vec<Line> = SERVERS.into_iter().enumerate().map(line).collect();
                let path = run.path().join(format!("{network}-{what}.svg"));
                let title = format!("Downloads of 1 MiB on one loop, {network}");
                plot::lines_over(&path, &title, axes, &lines)
            };
            draw("rate", "MB/s", false, rate)?;
            draw("latency", "ms, median download", true, MIDDLE)?;
            draw("late", "ms, one in a hundred downloads", true, LATE)?;
        }
        Ok(())
    }
}

fn median(cell: &Cell, peer: Peer, figure: Figure) -> Option<f64> {
    Spread::of(&cell.all_figures(peer, figure)?).map(|of| of.median)
}

/// One way by another: compared within each round.
fn against(cell: &Cell, one: Peer, other: Peer, figure: Figure) -> Option<Interval> {
    Interval::of(&ratios(&cell.all_figures(one, figure)?, &cell.all_figures(other, figure)?))
}

const NOTES: &str = "\
until acked: one connection after another is served by a blocking sendfile, and then the socket is asked
(SIOCOUTQ) without a pause until the peer's TCP has acknowledged the last byte: no call of a kernel could return
earlier. until accepted: blocking sendfile alone. ours: the file is queued, and the loop goes on. Each is one
thread on a core of its own, and each connection asks again as soon as it has everything, which acknowledges
everything; a client that said nothing would add up to 40 ms (the delayed acknowledgement) to every wait. A
download's latency is the client's, from its request to the last byte, with its wait for the turn. CPU is no
figure here: who asks without a pause is always busy. Ratios are made within rounds; an interval covers the
true median in 95 of 100 runs (of fewer than six rounds it is all that was seen).
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::ack_blocking::workload;
    use crate::experiment::cell::tests::load;

    fn findings() -> Findings {
        let cell = |connections: usize, rates: [u64; 3]| Cell {
            network: "lo",
            workload: workload(connections),
            rounds: vec![rates.map(load).into(); 5],
            faults: vec![None; 5],
        };
        Findings {
            networks: vec!["lo"],
            cells: vec![cell(1, [125_000, 125_000, 100_000]), cell(64, [1_000, 2_000, 200_000])],
            skipped: vec!["everything over veth: no root".to_owned()],
        }
    }

    #[test]
    fn ours_is_judged_by_the_one_that_waits_at_every_number_of_connections() {
        let targets = findings().targets();
        assert_eq!(targets[0].name, "1 connection(s) over lo: time of ours / until acked");
        assert!((targets[0].value.unwrap() - 1.25).abs() < 1e-9 && targets[0].is_missed());
        assert!((targets[1].value.unwrap() - 0.005).abs() < 1e-9, "{targets:?}");
    }

    #[test]
    fn the_report_shows_rates_and_what_was_skipped() {
        let report = findings().report();
        for text in ["0.01 [0.01–0.01]", "SKIPPED: every", "64 connection(s)", "205"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
