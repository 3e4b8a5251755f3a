//! What was measured, and what it says: the report, the targets, the plots.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use crate::client::Load;
use crate::experiment::cell::Cell;
use crate::experiment::workload::Unit;
use crate::floor::tracking::Track;
use crate::harness::calls::Calls;
use crate::harness::interval::Interval;
use crate::harness::plot;
use crate::harness::report::{Table, Target, verdicts};
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::ratios;
use crate::peer::Peer;

/// What events every MiB may cost, and take away of the speed.
const AT_MOST: f64 = 1.03;

/// System calls of one file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct CallsOf {
    pub(super) track: String,
    pub(super) bytes: u64,
    /// What was told of an equal file, without strace.
    pub(super) events: u64,
    pub(super) calls: Calls,
}

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) cells: Vec<Cell>,
    pub(super) calls: Vec<CallsOf>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

/// A figure of a window.
type Figure = fn(&Load) -> f64;

/// Of each round that counts: a figure of a way by that of the plain one.
fn against(cell: &Cell, track: Track, figure: Figure) -> Option<Interval> {
    let [one, plain] =
        [track, Track::Plain].map(|track| cell.all_figures(Peer::Tracker(track), figure));
    Interval::of(&ratios(&one?, &plain?))
}

fn core(load: &Load) -> f64 {
    Unit::Gib.core_cost(load)
}

fn threads(load: &Load) -> f64 {
    Unit::Gib.threads_cost(load)
}

/// How long a GiB takes: the speed, the other way round.
fn duration(load: &Load) -> f64 {
    1.0 / Unit::Gib.rate(load)
}

impl Findings {
    /// CPU and time of the tracked stream by those of the plain one.
    pub(super) fn targets(&self) -> Vec<Target> {
        let figures: [(&str, Figure); 2] = [("core s/GiB", core), ("time of a GiB", duration)];
        let target = |cell: &Cell, (what, figure): (&str, Figure)| {
            let interval = against(cell, Track::Tracked, figure);
            let shown = interval.map_or_else(String::new, |of| format!(" {}", digits(of)));
            Target {
                name: format!("{what} over {}: tracked / plain{shown}, median", cell.network),
                bound: AT_MOST,
                value: interval.map(|of| of.median),
            }
        };
        self.cells
            .iter()
            .flat_map(|cell| figures.into_iter().map(move |figure| target(cell, figure)))
            .collect()
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for cell in &self.cells {
            let _ = writeln!(text, "{}", cell.table());
        }
        let title = "By the plain stream, within rounds, near and far together [95 % interval]";
        let mut table =
            Table::new(title, &["", "network", "core", "own thread", "time of a GiB", "rounds"]);
        for cell in &self.cells {
            for track in [Track::AtEnd, Track::Tracked] {
                let mut row = vec![track.to_string(), cell.network.to_owned()];
                row.extend([core, threads, duration].map(|figure: Figure| {
                    against(cell, track, figure).map_or_else(|| "—".to_owned(), digits)
                }));
                row.push(cell.verdict_in_short());
                table.row(row);
            }
        }
        let _ = writeln!(text, "{table}");
        let title = "One GiB over lo: events, and system calls for each MiB (strace -f -c)";
        let mut table = Table::new(title, &["", "events", "calls/MiB", "of which"]);
        for of in &self.calls {
            let each = |count: u64| count as f64 / (of.bytes >> 20).max(1) as f64;
            let mut parts: Vec<(&String, f64)> =
                of.calls.iter().map(|(name, &count)| (name, each(count))).collect();
            parts.retain(|(_, each)| *each >= 0.01);
            parts.sort_by(|(_, a), (_, b)| b.total_cmp(a));
            let parts: Vec<String> =
                parts.iter().map(|(name, each)| format!("{name} {each:.2}")).collect();
            let total = format!("{:.2}", each(of.calls.values().sum()));
            table.row(vec![of.track.clone(), of.events.to_string(), total, parts.join(", ")]);
        }
        let _ = writeln!(text, "{table}");
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// CPU and speed of each way.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        let bars = |figure: Figure| -> Vec<plot::Bar> {
            self.cells.iter().flat_map(|cell| cell.bars(figure)).collect()
        };
        let path = |what: &str| run.path().join(format!("{what}.svg"));
        let title = "One stream at full speed: the server's core";
        plot::bars(&path("cost"), title, "s/GiB", &bars(core))?;
        let title = "One stream at full speed";
        plot::bars(&path("rate"), title, "GiB/s", &bars(|load| Unit::Gib.rate(load)))
    }
}

/// With three digits behind the point: a target of 1.03 is about the third.
fn digits(of: Interval) -> String {
    format!("{:.3} [{:.3}–{:.3}]", of.median, of.low, of.high)
}

const NOTES: &str = "\
plain: Socket::flush in a Worker; at-end: an AckQueue told of the last byte of each file alone; tracked: an AckQueue as
it is, told of each MiB, or of more every 5 ms. All three send the same file of 1 GiB, which is in the page cache, again and again on
one connection, through the same pipes. So at-end beside plain is what the other event loop makes, and tracked
beside at-end is what the events cost. Ratios are made within rounds; an interval covers the true median in 95 of
100 runs (of fewer than six rounds it is all that was seen).
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::cell::tests::cell;

    fn findings(tracked: u64) -> Findings {
        let round = [1000, 995, tracked];
        let rounds: [&[u64]; 6] = [&round; 6];
        let calls = [("splice", 2048), ("recvmsg", 1024), ("brk", 3)];
        let calls = calls.map(|(name, count)| (name.to_owned(), count)).into();
        Findings {
            cells: vec![cell("one stream", &Track::ALL.map(Peer::Tracker), &rounds)],
            calls: vec![CallsOf { track: "tracked".into(), bytes: 1 << 30, events: 1024, calls }],
            skipped: Vec::new(),
        }
    }

    #[test]
    fn the_target_is_on_the_cost_and_on_the_time_of_the_tracked_stream() {
        let [met, missed] = [980, 960].map(|rate| findings(rate).targets());
        assert_eq!(met.len(), 2);
        assert!(met.iter().all(|target| !target.is_missed()), "{met:?}");
        assert!(missed.iter().all(Target::is_missed), "{missed:?}");
        assert!(met[0].name.contains("1.020 [1.020–1.020]"), "{met:?}");
    }

    #[test]
    fn calls_are_told_by_the_mebibyte() {
        let report = findings(980).report();
        for text in ["splice 2.00, recvmsg 1.00", "3.00", "1024"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
