//! What was measured, and what it says: the report, the targets, the plots.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::tables::{called, cpu, first, held};
use super::{BLOCKING, OURS, POLLING, WAYS};
use crate::client::Latency;
use crate::experiment::downloads::{DownloadCell, Window};
use crate::floor::figure3::Calls;
use crate::harness::plot::{self, Axes, Line, size_label};
use crate::harness::report::{Target, verdicts};
use crate::harness::run_dir::RunDir;
use crate::peer::Peer;

/// What our call may take, in microseconds: in the middle, and one in a hundred.
const MEDIAN: f64 = 2.0;
const P99: f64 = 10.0;

/// What ours may cost until all is acknowledged, by the better of the others.
const CPU_AT_MOST: f64 = 1.0;

/// How long our call takes for a file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Called {
    pub(super) network: &'static str,
    pub(super) length: u64,
    pub(super) calls: Calls,
}

/// An interval that is wider says nothing.
const TELLING: f64 = 0.3;

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) networks: Vec<&'static str>,
    pub(super) cells: Vec<DownloadCell>,
    pub(super) called: Vec<Called>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

/// A figure of a window.
pub(super) type Figure = fn(&Window) -> f64;

/// Within the calls that hand over.
pub(super) const HELD: Figure =
    |window| window.report.as_ref().map_or(0.0, |report| report.held_us.p50);
/// Until the first byte arrived.
pub(super) const FIRST: Figure =
    |window| window.downloaded.since_handed_us.map_or(0.0, |since| since.p50);
/// Of the core, until all is acknowledged.
pub(super) const CPU: Figure = Window::core_us;

impl Findings {
    /// The cells of a network, from the smallest size to the largest.
    pub(super) fn of(&self, network: &str) -> impl Iterator<Item = &DownloadCell> {
        self.cells.iter().filter(move |cell| cell.network == network)
    }

    /// Our calls for files over a network.
    pub(super) fn called(&self, network: &str) -> impl Iterator<Item = &Called> {
        self.called.iter().filter(move |called| called.network == network)
    }

    /// Our call at the size at which it took longest, and its CPU beside the better of the others.
    pub(super) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for &network in &self.networks {
            let idle = |called: &Called| Some(called.calls.idle_us);
            let stuffed = |called: &Called| called.calls.stuffed_us;
            targets.extend(self.call_targets(network, "an idle", idle));
            targets.extend(self.call_targets(network, "a stuffed", stuffed));
            targets.extend(self.of(network).map(cpu_target));
        }
        targets
    }

    fn call_targets(
        &self,
        network: &str,
        socket: &str,
        of: impl Fn(&Called) -> Option<Latency>,
    ) -> [Target; 2] {
        [("median", MEDIAN), ("p99", P99)].map(|(what, bound)| {
            let figure = |of: Latency| if what == "median" { of.p50 } else { of.p99 };
            let found = self
                .called(network)
                .filter_map(|called| Some((called.length, figure(of(called)?))));
            let worst = found.max_by(|(_, a), (_, b)| a.total_cmp(b));
            let size = worst.map_or_else(|| "none".to_owned(), |(length, _)| size_label(length));
            Target {
                name: format!("µs of our call on {socket} socket, {network}, {what} of {size}"),
                bound,
                value: worst.map(|(_, us)| us),
            }
        })
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for &network in &self.networks {
            let _ = writeln!(text, "{}", held(self, network));
            if let Some(table) = called(self, network) {
                let _ = writeln!(text, "{table}");
            }
            let _ = writeln!(text, "{}", first(self, network));
            let _ = writeln!(text, "{}", cpu(self, network));
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// Of each network: how long callers were held, when the first byte arrived, and CPU.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        for &network in &self.networks {
            let path = |what: &str| run.path().join(format!("{network}-{what}.svg"));
            let mut lines = self.lines(network, HELD);
            let accepted = |window: &Window| {
                window.report.as_ref().map_or(0.0, |report| report.accepted_us.p50)
            };
            let points = self
                .of(network)
                .filter_map(|cell| Some((cell.contents.length, cell.median(POLLING, accepted)?)));
            lines.push(Line {
                name: "polling, until accepted".to_owned(),
                colour: 1,
                is_second: true,
                points: points.collect(),
            });
            lines.push(self.call_line("ours, on a stuffed socket", network, |calls| {
                calls.stuffed_us.map(|of| of.p50)
            }));
            let axes = Axes::sizes("µs that the caller is held").logarithmic();
            let title = format!("Handing a file over, {network}");
            plot::lines_over(&path("held"), &title, axes, &lines)?;

            let mut lines = self.lines(network, FIRST);
            for line in &mut lines {
                line.points.retain(|&(_, us)| us > 0.0);
            }
            let title = format!("First byte after the hand-over began, {network}");
            plot::lines(&path("first-byte"), &title, "µs", &lines)?;

            let ratios = WAYS.into_iter().enumerate().map(|(colour, way)| {
                let point = |cell: &DownloadCell| {
                    Some((cell.contents.length, cell.against(way, BLOCKING, CPU)?.median))
                };
                let points = self.of(network).filter_map(point).collect();
                Line { name: way.to_string(), colour, is_second: false, points }
            });
            let title = format!("CPU until all is acknowledged, by that of blocking, {network}");
            plot::lines(&path("cpu"), &title, "ratio", &ratios.collect::<Vec<_>>())?;
        }
        Ok(())
    }

    /// A line for each way.
    fn lines(&self, network: &str, figure: Figure) -> Vec<Line> {
        let line = |(colour, way): (usize, Peer)| {
            let point =
                |cell: &DownloadCell| Some((cell.contents.length, cell.median(way, figure)?));
            let points = self.of(network).filter_map(point).collect();
            Line { name: way.to_string(), colour, is_second: false, points }
        };
        WAYS.into_iter().enumerate().map(line).collect()
    }

    fn call_line(&self, name: &str, network: &str, figure: impl Fn(&Calls) -> Option<f64>) -> Line {
        let point = |called: &Called| Some((called.length, figure(&called.calls)?));
        let points = self.called(network).filter_map(point).collect();
        Line { name: name.to_owned(), colour: 2, is_second: true, points }
    }
}

/// Missed when the whole interval is above the bound: what cannot be told from the better one is
/// no worse. An interval so wide that nothing could be told is no measurement.
fn cpu_target(cell: &DownloadCell) -> Target {
    let best = cell.against_best(OURS, &[BLOCKING, POLLING], CPU);
    let (of, shown) = best.map_or_else(
        || ("the better one".to_owned(), String::new()),
        |(peer, interval)| (peer.to_string(), format!(" {}", interval.show())),
    );
    let size = size_label(cell.contents.length);
    let network = cell.network;
    Target {
        name: format!("CPU of {size} over {network}: ours / {of}{shown}, lower end"),
        bound: CPU_AT_MOST,
        value: best
            .filter(|(_, interval)| interval.high - interval.low <= TELLING)
            .map(|(_, interval)| interval.low),
    }
}

const NOTES: &str = "\
blocking: sendfile on a blocking socket, and what was not acknowledged when it returned; polling: on a non-blocking one, with poll whenever it is full; ours:
the file queued on a socket of the library, whose reactor sends it. Each sends a head before the file, in which
it tells when it begins. The caller is held within the calls; one that polls is busy with the transfer until all
is accepted, though it could do other things between its calls. One sendfile moves 2 GiB less 4 KiB at most, so
4 GiB are three calls. Our call alone is timed besides, many times: on an idle socket each call is taken back
before the next, on a stuffed one, whose peer reads nothing, the queue grows to 500. A client asks again as
soon as it has everything, and its request acknowledges everything; servers check that (SIOCOUTQ = 0). So the
busy time of the server's core in a window, by the transfers, is the cost until all is acknowledged; it is
counted in steps of 10 ms, and the thread's own time, to the nanosecond, stands beside it. A window has as many
transfers as it has time for, one after another, and one at least. All files are real, and were read before:
they are in the page cache. The client of files below 1 MiB asks its socket without end. Ratios are made within rounds; an interval covers the true median in 95 of
100 runs (of fewer than six rounds it is all that was seen). A target on CPU is missed when the whole interval
is above it, and not measured when the interval is wider than 0.3. Every answer's status and length was checked, and its content as by figure2.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::downloads::tests::cell;
    use crate::floor::figure3::Report;

    fn findings() -> Findings {
        let rounds: [&[f64]; 7] = [&[10.0, 20.0, 9.0]; 7];
        let mut small = cell(1 << 10, &WAYS, &rounds);
        for window in small.rounds.iter_mut().flatten() {
            let held_us = Latency { p50: 3.0, p99: 4.0, ..Latency::default() };
            window.report = Some(Report {
                transfers: 2,
                calls: 4,
                held_us,
                accepted_us: Latency::default(),
                unacked: 96 << 10,
            });
            window.downloaded.since_handed_us = Some(Latency { p50: 17.0, ..Latency::default() });
        }
        let large: [&[f64]; 7] = [&[10.0, 20.0, 11.0]; 7];
        let called = |length, p50| Called {
            network: "lo",
            length,
            calls: Calls {
                repetitions: 20_000,
                idle_us: Latency { p50, p99: 5.0, ..Latency::default() },
                stuffed_us: None,
            },
        };
        Findings {
            networks: vec!["lo"],
            cells: vec![small, cell(4 << 30, &WAYS, &large)],
            called: vec![called(1 << 10, 0.2), called(4 << 30, 2.5)],
            skipped: vec!["everything over veth: no root".to_owned()],
        }
    }

    #[test]
    fn our_call_is_judged_at_its_worst_size_and_its_cpu_by_the_better_of_the_others() {
        let targets = findings().targets();
        assert_eq!(targets[0].name, "µs of our call on an idle socket, lo, median of 4 GiB");
        assert!(targets[0].is_missed() && !targets[1].is_missed(), "{targets:?}");
        assert_eq!(targets[2].value, None);
        assert!(targets[4].name.contains("ours / blocking 0.90 [0.90–0.90]"), "{targets:?}");
        assert!(!targets[4].is_missed() && targets[5].is_missed(), "{targets:?}");
    }

    #[test]
    fn the_report_shows_calls_first_bytes_cpu_and_what_was_skipped() {
        let report = findings().report();
        for text in
            ["3.00", "17.00", "96 KiB", "4 GiB", "10.00 (5.00)", "SKIPPED: every", "20000 times"]
        {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
