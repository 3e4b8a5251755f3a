//! What was measured, and what it says: the report, the targets, the plots.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::{OURS, SEND, SENDFILE, SERVE, SERVERS};
use crate::experiment::crossover::findings::from;
use crate::experiment::downloads::{DownloadCell, Window};
use crate::floor::figure7::Ways;
use crate::harness::interval::Interval;
use crate::harness::plot::{self, Axes, Line, size_label};
use crate::harness::report::{Table, Target, verdicts};
use crate::harness::run_dir::RunDir;
use crate::peer::Peer;

/// What a download from ours may take by the better of `send` and `sendfile`.
const AT_MOST: f64 = 1.10;

/// By which ways ours has sent a file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Picked {
    pub(super) network: &'static str,
    pub(super) length: u64,
    pub(super) ways: Ways,
}

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) networks: Vec<&'static str>,
    pub(super) cells: Vec<DownloadCell>,
    pub(super) picked: Vec<Picked>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

/// A figure of a window.
type Figure = fn(&Window) -> f64;

/// From the request to the last byte.
const TIME: Figure = |window| window.downloaded.whole_us.p50;
const CPU: Figure = Window::core_us;

impl Picked {
    /// The way of most bytes, and its share: `sendfile 100 %`. The head, and where the content is
    /// in memory all of it, is copied.
    fn show(&self) -> String {
        let Ways { copied, sendfile, spliced } = self.ways;
        let total = (copied + sendfile + spliced).max(1);
        let ways = [(copied, "copied"), (sendfile, "sendfile"), (spliced, "spliced")];
        let (most, name) = ways.into_iter().max_by_key(|(bytes, _)| *bytes).unwrap_or_default();
        format!("{name} {:.1} %", most as f64 * 100.0 / total as f64)
    }
}

impl Findings {
    /// The cells of a network, from the smallest size to the largest.
    fn of(&self, network: &str) -> impl Iterator<Item = &DownloadCell> {
        self.cells.iter().filter(move |cell| cell.network == network)
    }

    /// From which size on `sendfile` is the better of the two.
    fn crossover(&self, network: &str, figure: Figure) -> Option<u64> {
        let ratio = |cell: &DownloadCell| {
            Some((cell.contents.length, cell.against(SENDFILE, SEND, figure)?.median))
        };
        from(&self.of(network).filter_map(ratio).collect::<Vec<_>>())
    }

    /// Ours beside the better of the two, at every size.
    pub(super) fn targets(&self) -> Vec<Target> {
        let target = |cell: &DownloadCell| {
            let best = cell.against_best(OURS, &[SEND, SENDFILE], TIME);
            let of = best.map_or("the better one", |(peer, _)| name(peer));
            Target {
                name: format!(
                    "{} over {}: download time of ours / {of}",
                    size_label(cell.contents.length),
                    cell.network
                ),
                bound: AT_MOST,
                value: best.map(|(_, interval)| interval.median),
            }
        };
        self.cells.iter().map(target).collect()
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for &network in &self.networks {
            let title = "µs from request to last byte, median of medians (p99)";
            let of: [(Figure, usize); 2] =
                [(TIME, 0), (|window| window.downloaded.whole_us.p99, 0)];
            let _ = writeln!(text, "{}", self.figures(network, title, &of));
            let title = "µs of the server's core for each download (of its threads)";
            let of: [(Figure, usize); 2] = [(CPU, 1), (Window::threads_us, 1)];
            let _ = writeln!(text, "{}", self.figures(network, title, &of));
            let _ = writeln!(text, "{}", self.comparisons(network));
            for (what, figure) in [("download time", TIME), ("CPU of the core", CPU)] {
                let size = self.crossover(network, figure);
                let size = size.map_or_else(
                    || "at no size that was measured".to_owned(),
                    |size| format!("from {} on", size_label(size)),
                );
                let _ = writeln!(text, "{what}: sendfile below send {size}, over {network}");
            }
            text.push('\n');
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    fn figures(&self, network: &str, title: &str, of: &[(Figure, usize); 2]) -> Table {
        let mut columns = vec![""];
        columns.extend(SERVERS.map(|(_, name)| name));
        let mut table = Table::new(format!("Over {network}: {title}"), &columns);
        for cell in self.of(network) {
            let mut row = vec![size_label(cell.contents.length)];
            row.extend(SERVERS.map(|(peer, _)| {
                let figure = |(figure, digits): (Figure, usize)| {
                    let median = cell.median(peer, figure);
                    median.map_or_else(|| "—".to_owned(), |median| format!("{median:.digits$}"))
                };
                format!("{} ({})", figure(of[0]), figure(of[1]))
            }));
            table.row(row);
        }
        table
    }

    fn comparisons(&self, network: &str) -> Table {
        let columns = [
            "",
            "sendfile / send",
            "ours / send",
            "ours / sendfile",
            "serve / ours",
            "CPU: sendfile / send",
            "ours / send",
            "ours / sendfile",
            "our way",
            "rounds",
        ];
        let title = format!("Over {network}: download time and CPU within rounds [95 % interval]");
        let mut table = Table::new(title, &columns);
        for cell in self.of(network) {
            let show = |one: Peer, other: Peer, figure: Figure| {
                let of = cell.against(one, other, figure);
                of.map_or_else(|| "—".to_owned(), Interval::show)
            };
            let length = cell.contents.length;
            let is_it = |of: &&Picked| of.network == network && of.length == length;
            let picked = self.picked.iter().find(is_it);
            table.row(vec![
                size_label(length),
                show(SENDFILE, SEND, TIME),
                show(OURS, SEND, TIME),
                show(OURS, SENDFILE, TIME),
                show(SERVE, OURS, TIME),
                show(SENDFILE, SEND, CPU),
                show(OURS, SEND, CPU),
                show(OURS, SENDFILE, CPU),
                picked.map_or_else(|| "—".to_owned(), Picked::show),
                cell.verdict(),
            ]);
        }
        table
    }

    /// Of each network: download times, and times and CPU by those of `send`, with the size from
    /// which on `sendfile` is below it.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        for &network in &self.networks {
            let path = |what: &str| run.path().join(format!("{network}-{what}.svg"));
            let times = self.lines(network, |cell, peer| Some(cell.median(peer, TIME)? / 1e3));
            let axes = Axes::sizes("ms from request to last byte").logarithmic();
            let title = format!("Download time over {network}");
            plot::lines_over(&path("time"), &title, axes, &marked(times, None))?;
            for (what, unit, figure) in [
                ("time", "download time by that of send", TIME),
                ("cpu", "CPU by that of send", CPU),
            ] {
                let lines = self
                    .lines(network, |cell, peer| Some(cell.against(peer, SEND, figure)?.median));
                let lines = marked(lines, self.crossover(network, figure));
                let title = format!("{unit}, over {network}");
                plot::lines(&path(&format!("{what}-by-send")), &title, "ratio", &lines)?;
            }
        }
        Ok(())
    }

    /// A line for each server.
    fn lines(
        &self,
        network: &str,
        figure: impl Fn(&DownloadCell, Peer) -> Option<f64>,
    ) -> Vec<Line> {
        let line = |(colour, (peer, name)): (usize, (Peer, &str))| {
            let point = |cell: &DownloadCell| Some((cell.contents.length, figure(cell, peer)?));
            let points = self.of(network).filter_map(point).collect();
            Line { name: name.to_owned(), colour, is_second: peer == SERVE, points }
        };
        SERVERS.into_iter().enumerate().map(line).collect()
    }
}

fn name(peer: Peer) -> &'static str {
    SERVERS.into_iter().find(|(found, _)| *found == peer).map_or("", |(_, name)| name)
}

/// The lines, and an upright one at the crossover.
fn marked(mut lines: Vec<Line>, crossover: Option<u64>) -> Vec<Line> {
    if let Some(size) = crossover {
        let figures = lines.iter().flat_map(|line| &line.points).map(|&(_, figure)| figure);
        let top = figures.fold(0.0, f64::max);
        let name = format!("sendfile below send from {}", size_label(size));
        lines.push(Line {
            name,
            colour: 7,
            is_second: true,
            points: vec![(size, 0.0), (size, top)],
        });
    }
    lines
}

const NOTES: &str = "\
send: head and content in memory, one send; sendfile: the head with MSG_MORE, then the file; ours: the
library with its own strategy, in a loop as bare as those two; serve: the program `sluicegate serve`.
One client downloads one file after another on one connection; below 16 MiB the first of each window does
not count. veth50 and wire50 carry 50 MB/s; a wire copies, as a NIC does, and its relay
shares the client's core. Time is the client's, from its request to the last byte, the median of a
window's downloads; a client of less than 1 MiB asks its socket without end, where it has a core to
itself. CPU is the busy time of the core that the server alone is pinned to, in steps of 10 ms: windows
in which downloads wait for the wire have few of them, and the threads' own time, to the nanosecond,
stands beside it. Ratios are made within rounds; an interval covers the true median in 95 of 100 runs (of
fewer than six rounds it is all that was seen). The target judges ours by the one beside which it looks
worst. Rounds in which a core was moved or other programs ran for more than 5 % of a window are left out,
unless hardly any are left. Of every answer status and length were checked, and its content: every byte
of the first one and of those below 32 KiB, both ends of those below 1 MiB and every 16th as a whole, of
larger ones the first, the last and every 64th block of 64 KiB.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::downloads::tests::cell;

    /// Two sizes: `sendfile` slower at the small one, faster at the large one.
    fn findings() -> Findings {
        let servers = SERVERS.map(|(peer, _)| peer);
        let small: [&[f64]; 5] = [&[10.0, 12.0, 10.5, 14.0]; 5];
        let large: [&[f64]; 5] = [&[100.0, 80.0, 90.0, 90.0]; 5];
        Findings {
            networks: vec!["lo"],
            cells: vec![cell(1 << 10, &servers, &small), cell(1 << 20, &servers, &large)],
            picked: vec![Picked {
                network: "lo",
                length: 1 << 20,
                ways: Ways { copied: 1, sendfile: 0, spliced: 999 },
            }],
            skipped: vec!["everything over veth: no root".to_owned()],
        }
    }

    #[test]
    fn ours_is_judged_by_the_better_of_the_two_at_every_size() {
        let targets = findings().targets();
        assert_eq!(targets[0].name, "1 KiB over lo: download time of ours / send");
        assert!(!targets[0].is_missed(), "{:?}", targets[0]);
        assert_eq!(targets[1].name, "1 MiB over lo: download time of ours / sendfile");
        assert!(targets[1].is_missed(), "{:?}", targets[1]);
    }

    #[test]
    fn the_crossover_is_the_size_from_which_on_sendfile_is_faster() {
        assert_eq!(findings().crossover("lo", TIME), Some(1 << 20));
        assert_eq!(findings().crossover("veth", TIME), None);
        let lines = marked(findings().lines("lo", |_, _| Some(2.0)), Some(1 << 20));
        assert_eq!(lines.last().unwrap().points, [(1 << 20, 0.0), (1 << 20, 2.0)]);
    }

    #[test]
    fn the_report_shows_times_ratios_ways_and_what_was_skipped() {
        let report = findings().report();
        for text in [
            "12 (12)",
            "0.80 [0.80–0.80]",
            "spliced 99.9 %",
            "sendfile below send from 1 MiB on, over lo",
            "SKIPPED: every",
            "MISSED",
        ] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
