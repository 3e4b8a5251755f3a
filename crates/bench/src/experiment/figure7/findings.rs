//! What was measured, and what it says: the report, the targets, the plots.

use std::fmt::Write;

use anyhow::Result;

use super::comparison::{Comparison, Figure};
use super::counts::{CallsOfWay, PacketsOfSize};
use super::tables::{called, comparisons, figures, packets};
use super::workload::Series;
use crate::experiment::cell::Cell;
use crate::floor::figure7::Join;
use crate::harness::distance::Apart;
use crate::harness::plot::{self, Line};
use crate::harness::report::{Target, verdicts};
use crate::harness::run_dir::RunDir;

/// What ours may cost by the best of the others: within the noise of a machine like this.
const AT_MOST: f64 = 1.05;

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) networks: Vec<&'static str>,
    pub(super) series: Vec<Series>,
    pub(super) cells: Vec<Cell>,
    pub(super) packets: Vec<PacketsOfSize>,
    pub(super) calls: Vec<CallsOfWay>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

impl Findings {
    /// What was measured of a series over a network, by size.
    fn of<'a>(&'a self, network: &str, series: &'a Series) -> Vec<Comparison<'a>> {
        let comparison = |&size| {
            let name = series.workload(size).name;
            let is_it = |cell: &&Cell| cell.network == network && cell.workload.name == name;
            let cell = self.cells.iter().find(is_it)?;
            Some(Comparison { cell, series, size })
        };
        series.sizes.iter().filter_map(comparison).collect()
    }

    /// Each network and series that was measured.
    fn all(&self) -> impl Iterator<Item = (&'static str, &Series, Vec<Comparison<'_>>)> {
        self.networks.iter().flat_map(move |&network| {
            let of = move |series| (network, series, self.of(network, series));
            self.series.iter().map(of).filter(|(.., sizes)| !sizes.is_empty())
        })
    }

    /// Ours beside the best of the others at every size, and its packets.
    pub(super) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for (network, _, sizes) in self.all() {
            for comparison in sizes {
                let best = comparison.against_best();
                let of = best.map_or_else(|| "the others".into(), |(join, _)| join.to_string());
                let name = &comparison.cell.workload.name;
                targets.push(Target {
                    name: format!("{name} over {network}: ours / {of}"),
                    bound: AT_MOST,
                    value: best.map(|(_, interval)| interval.median),
                });
            }
        }
        let one = self.packets.iter().filter(|packets| packets.least == 1);
        for PacketsOfSize { network, series, size, least, packets } in one {
            let mut all = Join::ALL.into_iter().zip(packets);
            let ours = all.find(|(join, _)| *join == Join::Ours);
            targets.push(Target {
                name: format!("{series} {} over {network}: packets of ours", size.name()),
                bound: *least as f64,
                value: ours.map(|(_, packets)| packets.segments),
            });
        }
        targets
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for (network, series, sizes) in self.all() {
            let title = format!("{} over {network}", series.title);
            let mut table = |what: &str, of: &[(Figure, usize)]| {
                let _ = writeln!(text, "{}", figures(&format!("{title}: {what}"), &sizes, of));
            };
            table(
                "µs/request of the server's core, in parentheses of its thread",
                &[
                    (|load| load.core.busy() * 1e6 / load.requests as f64, 2),
                    (|load| load.server_threads_s * 1e6 / load.requests as f64, 2),
                ],
            );
            table("requests/s", &[(|load| load.requests as f64 / load.window_s, 0)]);
            table(
                "µs until the answer is there, p50 (p99)",
                &[(|load| load.latency_us.p50, 0), (|load| load.latency_us.p99, 0)],
            );
            let _ = writeln!(text, "{}", comparisons(&title, &sizes));
            let is_it = |of: &&PacketsOfSize| of.network == network && of.series == series.name;
            let counts: Vec<&PacketsOfSize> = self.packets.iter().filter(is_it).collect();
            if !counts.is_empty() {
                let _ = writeln!(text, "{}", packets(&title, &counts));
            }
        }
        if !self.calls.is_empty() {
            let _ = writeln!(text, "{}", called(&self.calls));
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// Of each series and network: the rates while the cores were near and while they were far,
    /// and the costs by ours, of all rounds.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        for (network, series, sizes) in self.all() {
            let path =
                |what: &str| run.path().join(format!("{}-{network}-{what}.svg", series.name));
            let title = format!("{} over {network}", series.title);
            for apart in Apart::BOTH {
                let lines = lines(&sizes, |of, join| {
                    of.median(join, apart, |load| load.requests as f64 / load.window_s / 1e3)
                });
                let title = format!("{title}, cores {apart}");
                let path = path(&format!("{apart}-rate"));
                plot::lines(&path, &title, "thousand requests/s", &lines)?;
            }
            let lines = lines(&sizes, |of, join| Some(of.against(join, Join::Ours)?.median));
            plot::lines(&path("by-ours"), &title, "core time by that of ours", &lines)?;
        }
        Ok(())
    }
}

/// A line for each way.
fn lines(
    sizes: &[Comparison<'_>],
    figure: impl Fn(&Comparison<'_>, Join) -> Option<f64>,
) -> Vec<Line> {
    let line = |(colour, join): (usize, Join)| {
        let point = |of: &Comparison<'_>| Some((of.size.content, figure(of, join)?));
        let points = sizes.iter().filter_map(point).collect();
        Line { name: join.to_string(), colour, is_second: join == Join::OursFile, points }
    };
    Join::ALL.into_iter().enumerate().map(line).collect()
}

const NOTES: &str = "\
separate: send of the head, sendfile, send of the tail; cork: the same, corked; writev: one sendmsg
of pieces that are all in memory, the file's content read at start; more: as separate, the head with
MSG_MORE; ours: the library's queue as our server uses it, content of up to 24 KiB, and
of up to 64 KiB where a tail follows, in memory with its head, larger content from the file; ours-file: content of any size from the file. All send the same bytes, without Nagle's algorithm. Cost: busy time of the core that the server alone is
pinned to, by answers; the client has the other core. cores: whether both share a cache, which the
host of a virtual machine changes; every request costs some µs more while they do not. Comparisons
are made within rounds, near and far together; an interval covers the true median in 95 of 100 runs
(order statistics; of fewer than six rounds it is all that was seen). The target judges ours by the
other way beside which it looks worst; ours-file is not judged. Rounds in which a core was moved or
other programs ran for more than 5 % of a window are left out, unless hardly any are left. A segment
carries at most an MSS, 1448 bytes over the veth and 65,483 over the loopback, and is counted as such
also where the stack hands several on in one frame (GSO); frames are what the client's veth received,
bare acknowledgements among them. Every answer's status and length was checked, and its content: of
less than 32 KiB every byte, of longer ones both ends and every 16th answer as a whole.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::figure7::comparison::tests::cell;
    use crate::experiment::figure7::packets::Packets;
    use crate::experiment::figure7::workload::series;

    fn findings(rounds: u64) -> Findings {
        let packets = |segments| Packets { bytes: 1300, segments, most: 2, frames: Some(segments) };
        let series = series(true);
        let packets = PacketsOfSize {
            network: "lo",
            series: series[0].name,
            size: series[0].sizes[0],
            least: 1,
            packets: [2.0, 1.0, 1.0, 1.0, 1.0, 1.0].map(packets).into(),
        };
        Findings {
            networks: vec!["lo"],
            series,
            cells: vec![cell(rounds)],
            packets: vec![packets],
            calls: Vec::new(),
            skipped: vec!["everything over veth: no root".to_owned()],
        }
    }

    #[test]
    fn ours_is_judged_by_the_best_of_the_others_and_by_the_least_packets() {
        let targets = findings(5).targets();
        assert_eq!(targets[0].name, "head 1 KiB over lo: ours / writev");
        assert!(targets[0].is_missed(), "{:?}", targets[0]);
        assert_eq!((targets[1].bound, targets[1].value), (1.0, Some(1.0)));
        assert_eq!(findings(4).targets()[0].value, None);
    }

    #[test]
    fn the_report_shows_costs_packets_and_what_was_skipped() {
        let report = findings(5).report();
        for text in ["12.00 (12.00)", "1.25 [1.25–1.25]", "2 (2.00)", "SKIPPED: every", "MISSED"]
        {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }

    #[test]
    fn a_line_of_a_plot_has_the_sizes_that_were_measured() {
        let findings = findings(5);
        let sizes = findings.of("lo", &findings.series[0]);
        let lines = lines(&sizes, |of, join| Some(of.against(join, Join::Ours)?.median));
        assert_eq!(lines[0].name, "separate");
        assert!((lines[0].points[0].1 - 2.0).abs() < 1e-3 && lines[0].points[0].0 == 1024);
        assert!(findings.of("veth", &findings.series[0]).is_empty());
    }
}
