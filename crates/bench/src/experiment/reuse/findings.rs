//! What was measured, and what it says: the report, the targets, the plots.

use std::fmt::Write;

use anyhow::Result;

use super::FAST;
use super::cell::{Figure, ReuseCell, Window};
use super::tables::{compared, cpu, times};
use crate::floor::reuse::Make;
use crate::harness::plot::{self, Axes, Line};
use crate::harness::report::{Target, verdicts};
use crate::harness::run_dir::RunDir;

/// What ours may cost by the better of those ways that give the buffer back.
const CPU_AT_MOST: f64 = 1.05;

/// For how many microseconds our call may hold its caller.
const HELD_AT_MOST: f64 = 10.0;

/// Those of the question after which the buffer is free, wherever the peer is.
const SAFE: [Make; 2] = [Make::Heap, Make::Mapping];

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) networks: Vec<&'static str>,
    pub(super) cells: Vec<ReuseCell>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

const HELD: Figure = Window::held;
const REUSABLE: Figure = Window::reusable;

impl Findings {
    /// The cells of a network, from the smallest size to the largest.
    pub(super) fn of(&self, network: &str) -> impl Iterator<Item = &ReuseCell> {
        self.cells.iter().filter(move |cell| cell.network == network)
    }

    /// Our CPU beside the better safe way where the network leaves it a difference; our call
    /// everywhere.
    pub(super) fn targets(&self) -> Vec<Target> {
        let fast = self.cells.iter().filter(|cell| FAST.contains(&cell.network));
        let mut targets: Vec<Target> = fast.map(cpu_target).collect();
        for &network in &self.networks {
            let held = self
                .of(network)
                .filter_map(|cell| Some((cell.size.name, cell.median(Make::Ours, HELD)?)));
            let worst = held.max_by(|(_, a), (_, b)| a.total_cmp(b));
            let size = worst.map_or("none", |(size, _)| size);
            targets.push(Target {
                name: format!("µs that our call holds its caller, {network}, median of {size}"),
                bound: HELD_AT_MOST,
                value: worst.map(|(_, us)| us),
            });
        }
        targets
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for &network in &self.networks {
            let _ = writeln!(text, "{}", cpu(self, network));
            let _ = writeln!(text, "{}", compared(self, network));
            let held = "for which the calls hold their caller";
            let _ =
                writeln!(text, "{}", times(self, network, held, |of, way| of.median(way, HELD)));
            let reusable = "until the way tells that the buffer may be written to again";
            let of = |of: &ReuseCell, way| of.median(way, REUSABLE);
            let _ = writeln!(text, "{}", times(self, network, reusable, of));
            let acked = "until everything is acknowledged (looked for without a pause)";
            let _ = writeln!(text, "{}", times(self, network, acked, ReuseCell::acked));
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// Of each network: CPU, and when the buffer is free.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        for &network in &self.networks {
            let path = |what: &str| run.path().join(format!("{network}-{what}.svg"));
            let axes = Axes { below: "bytes of an image", label, ..Axes::sizes("s/GiB") };
            let title = format!("Making and sending images, {network}: the server's core");
            let cost = self.lines(network, |cell, way| cell.median(way, Window::core));
            plot::lines_over(&path("cpu"), &title, axes, &cost)?;

            let axes = Axes { unit: "µs after the first call", ..axes }.logarithmic();
            let mut lines = self.lines(network, |cell, way| cell.median(way, REUSABLE));
            lines.retain(|line| !line.points.is_empty());
            let mut line = |name: &str, way: Make, of: fn(&ReuseCell, Make) -> Option<f64>| {
                let found =
                    self.lines(network, of).into_iter().find(|line| line.name == way.to_string());
                lines.extend(found.map(|found| Line {
                    name: name.to_owned(),
                    is_second: true,
                    ..found
                }));
            };
            line("sendfile: acked", Make::Sendfile, ReuseCell::acked);
            line("ours: caller is free", Make::Ours, |cell, way| cell.median(way, HELD));
            let title = format!("When an image's buffer may be written to again, {network}");
            plot::lines_over(&path("reusable"), &title, axes, &lines)?;
        }
        Ok(())
    }

    /// A line for each way.
    fn lines(&self, network: &str, figure: impl Fn(&ReuseCell, Make) -> Option<f64>) -> Vec<Line> {
        let line = |(colour, way): (usize, Make)| {
            let points =
                self.of(network).filter_map(|cell| Some((cell.size.length(), figure(cell, way)?)));
            let is_second = matches!(way, Make::HeapNew | Make::SendfileNew);
            Line { name: way.to_string(), colour, is_second, points: points.collect() }
        };
        Make::ALL.into_iter().enumerate().map(line).collect()
    }
}

/// Missed when the whole interval is above the bound.
fn cpu_target(cell: &ReuseCell) -> Target {
    let beside = SAFE
        .into_iter()
        .filter_map(|other| Some((other, cell.against(Make::Ours, other, Window::core)?)));
    let worst = beside.max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median));
    let shown = worst.map_or_else(
        || "the better one".to_owned(),
        |(other, interval)| format!("{other} {}", interval.show()),
    );
    Target {
        name: format!("CPU of {} over {}: ours / {shown}, lower end", cell.size.name, cell.network),
        bound: CPU_AT_MOST,
        value: worst.map(|(_, interval)| interval.low),
    }
}

/// `1.0 MB`, as the sizes are named.
fn label(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{:.0} KB", bytes as f64 / 1e3),
        _ => format!("{:.1} MB", bytes as f64 / 1e6),
    }
}

const NOTES: &str = "\
heap: write from one heap buffer; mapping: write from one mapping of a memfd; sendfile: sendfile of that memfd;
ours: Segment::memory of one heap buffer, and released; ours-zerocopy: the same with MSG_ZEROCOPY forced. Over lo,
veth and the wires of this lab the kernel copies what is lent to it (SO_EE_CODE_ZEROCOPY_COPIED), so ours-zerocopy
gets NO CREDIT here, and ours, which asks first, copies too. heap-new and sendfile-new take new memory for each
image. Each image is made anew, in the buffer, with the same work (the corpus of another seed), and one connection
asks for one after another; the client checks that it got the image that it asked for. The core's time is counted
in steps of 10 ms: over the networks of 50 MB/s a window has few of them, and the thread's own time is the
figure. sendfile: nothing tells when the buffer is free. That everything is acknowledged is enough where bytes leave
by copy or DMA (wire, wire50); over lo, veth and veth50 it is NOT SAFE: the peer's queue holds the pages themselves
until it reads them. sendfile-new never writes to a page again, so it needs no such moment. The acknowledgement was
looked for in images of their own, which are in no other figure. Ratios are made within rounds; an interval
covers the true median in 95 of 100 runs (of fewer than six rounds it is all that was seen). A target on CPU is missed
when the whole interval is above it.
";

#[cfg(test)]
mod tests {
    use super::super::cell::tests::cell;
    use super::*;

    fn findings(ours: u64) -> Findings {
        Findings {
            networks: vec!["lo"],
            cells: vec![cell(&[[40, 20, 80, ours, 20, 30, 30]; 7])],
            skipped: vec!["everything over veth: no root".to_owned()],
        }
    }

    #[test]
    fn ours_is_judged_by_the_better_way_that_gives_the_buffer_back() {
        let [met, missed] = [40, 30].map(|ours| findings(ours).targets());
        assert!(met[0].name.contains("ours / heap 1.00"), "{met:?}");
        assert!(!met[0].is_missed() && missed[0].is_missed(), "{met:?} {missed:?}");
        assert_eq!(met[1].value, Some(9.0));
    }

    #[test]
    fn the_report_shows_costs_moments_and_what_was_skipped() {
        let report = findings(40).report();
        for text in ["0.025", "0.50 [", "20.0", "70.0", "NOT SAFE", "SKIPPED: every"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }

    #[test]
    fn sizes_are_told_in_decimal_units() {
        assert_eq!((label(10_000).as_str(), label(50_000_000).as_str()), ("10 KB", "50.0 MB"));
    }
}
