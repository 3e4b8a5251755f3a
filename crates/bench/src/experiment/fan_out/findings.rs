//! What was measured, and what it says: tables, targets, plots.

use std::fmt::Write;

use anyhow::Result;

use super::stalled::{Held, WAYS};
use crate::experiment::ring_cost::window::{Figure, Window, Windows};
use crate::floor::fan_out::{RING, Spread};
use crate::harness::interval::Interval;
use crate::harness::plot::{self, Axes, Bar, Line};
use crate::harness::report::{Table, Target, verdicts};
use crate::harness::run_dir::RunDir;
use crate::harness::statistics;

const MIB: f64 = 1_048_576.0;

/// What the kernel may hold for each reader that does not read, beside the ring.
const EACH: f64 = 32.0 * 1024.0;

/// So many sockets of one region.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) sockets: usize,
    /// Of all ways, in the order of [`Spread::ALL`].
    pub(super) windows: Windows,
}

fn place(way: Spread) -> usize {
    Spread::ALL.into_iter().position(|found| found == way).unwrap_or(Spread::ALL.len())
}

impl Cell {
    fn against(&self, one: Spread, other: Spread) -> Option<Interval> {
        self.windows.against(place(one), place(other), Window::core)
    }
}

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    /// From the fewest sockets to the most.
    pub(super) cells: Vec<Cell>,
    pub(super) held: Vec<Held>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

/// Bytes that are held in a round.
type Of = fn(&Held) -> f64;

impl Findings {
    /// From how many sockets on one way costs no more than another, at every larger number too.
    fn crossover(&self, one: Spread, other: Spread) -> Option<usize> {
        let wins = |cell: &&Cell| cell.against(one, other).is_some_and(|of| of.median <= 1.0);
        self.cells.iter().rev().take_while(wins).last().map(|cell| cell.sockets)
    }

    fn median(&self, way: Spread, figure: Of) -> Option<f64> {
        let figures: Vec<f64> =
            self.held.iter().filter(|held| held.way == way).map(figure).collect();
        statistics::Spread::of(&figures).map(|of| of.median)
    }

    /// CPU to the largest crowd beside copying, and memory for one that does not read.
    pub(super) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        if let Some(cell) = self.cells.last() {
            for other in [Spread::Copy, Spread::OursCopy] {
                let interval = cell.against(Spread::Ours, other);
                let shown = interval.map_or_else(String::new, |of| format!(" {}", of.show()));
                targets.push(Target {
                    name: format!(
                        "core s/GiB to {} sockets: ours / {other}{shown}, median",
                        cell.sockets
                    ),
                    bound: 1.0,
                    value: interval.map(|of| of.median),
                });
            }
        }
        let readers = self.held.first().map_or(0, |held| held.readers);
        let held = |what: &str, bound, value| Target {
            name: format!("{readers} readers that do not read, ours: {what}"),
            bound,
            value,
        };
        targets.push(held(
            "MiB of the kernel's memory, the ring included",
            (RING as f64 + EACH * readers as f64) / MIB,
            self.median(Spread::Ours, |held| held.all() as f64 / MIB),
        ));
        let share = |held: &Held| held.pages as f64 / held.tcp_mem[1].max(1) as f64;
        // Below where the kernel begins to press its sockets.
        targets.push(held(
            "TCP's account / tcp_mem, second bound",
            1.0,
            self.median(Spread::Ours, share),
        ));
        targets
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}", self.costs());
        let _ = writeln!(text, "{}", self.compared());
        let pairs = [(Spread::Reference, Spread::Copy), (Spread::OursReference, Spread::OursCopy)];
        for (one, other) in pairs {
            let from = self.crossover(one, other);
            let from = from.map_or_else(|| "nowhere".to_owned(), |from| format!("from {from}"));
            let _ = writeln!(text, "{one} costs no more than {other} {from} sockets on");
        }
        let _ = writeln!(text, "\n{}", self.stalled());
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    fn costs(&self) -> Table {
        let title = "One region to so many sockets over lo: core s/GiB delivered (own thread)";
        let mut columns = vec!["sockets".to_owned()];
        columns.extend(Spread::ALL.map(|way| way.to_string()));
        columns.push("rounds".to_owned());
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let mut table = Table::new(title, &columns);
        for cell in &self.cells {
            let mut row = vec![cell.sockets.to_string()];
            row.extend(Spread::ALL.map(|way| {
                let of = |figure: Figure| {
                    let median = cell.windows.median(place(way), figure);
                    median.map_or_else(|| "—".to_owned(), |of| format!("{of:.3}"))
                };
                format!("{} ({})", of(Window::core), of(Window::threads))
            }));
            row.push(cell.windows.verdict());
            table.row(row);
        }
        table
    }

    fn compared(&self) -> Table {
        let pairs = [
            (Spread::Reference, Spread::Copy),
            (Spread::OursReference, Spread::OursCopy),
            (Spread::OursCopy, Spread::Copy),
            (Spread::OursReference, Spread::Reference),
            (Spread::Ours, Spread::Copy),
        ];
        let mut columns = vec!["sockets".to_owned()];
        columns.extend(pairs.map(|(one, other)| format!("{one} / {other}")));
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let title = "Core time by core time, within rounds [95 % interval]";
        let mut table = Table::new(title, &columns);
        for cell in &self.cells {
            let mut row = vec![cell.sockets.to_string()];
            row.extend(pairs.map(|(one, other)| {
                cell.against(one, other).map_or_else(|| "—".to_owned(), Interval::show)
            }));
            table.row(row);
        }
        table
    }

    fn stalled(&self) -> Table {
        let of = self.held.first();
        let (readers, bounds) = of.map_or((0, [0; 3]), |held| (held.readers, held.tcp_mem));
        let title = format!(
            "{readers} readers that do not read, {} MiB to each: medians, above what the same \
             connections had before. tcp_mem: {} {} {} pages",
            RING >> 20,
            bounds[0],
            bounds[1],
            bounds[2],
        );
        let columns = [
            "",
            "slab MiB",
            "kernel in all MiB",
            "ring MiB",
            "all KiB/reader",
            "TCP's account MiB",
            "its pages",
            "copied MiB",
            "referred to MiB",
        ];
        let mut table = Table::new(title, &columns);
        for way in WAYS {
            let show = |figure: Of, digits: usize| {
                let median = self.median(way, figure);
                median.map_or_else(|| "—".to_owned(), |of| format!("{of:.digits$}"))
            };
            table.row(vec![
                way.to_string(),
                show(|held| held.slab as f64 / MIB, 1),
                show(|held| held.kernel as f64 / MIB, 1),
                show(|held| held.shared as f64 / MIB, 1),
                show(|held| held.all() as f64 / 1024.0 / held.readers as f64, 1),
                show(|held| held.tcp as f64 / MIB, 0),
                show(|held| held.pages as f64, 0),
                show(|held| held.account.bytes_copied as f64 / MIB, 0),
                show(|held| held.account.bytes_sendfile as f64 / MIB, 0),
            ]);
        }
        table
    }

    /// Costs by how many sockets there are, and what is held.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        let line = |(colour, way): (usize, Spread)| {
            let point = |cell: &Cell| {
                Some((cell.sockets as u64, cell.windows.median(place(way), Window::core)?))
            };
            let is_second = matches!(way, Spread::OursCopy | Spread::OursReference);
            let points = self.cells.iter().filter_map(point).collect();
            Line { name: way.to_string(), colour, is_second, points }
        };
        let lines: Vec<Line> = Spread::ALL.into_iter().enumerate().map(line).collect();
        let label = |sockets: u64| sockets.to_string();
        let axes = Axes { below: "sockets of one region", label, ..Axes::sizes("s/GiB") };
        let title = "One region to many sockets over lo: the server's core, by GiB delivered";
        plot::lines_over(&run.path().join("cost.svg"), title, axes, &lines)?;
        let bar = |way: Spread| {
            let all = self.held.iter().filter(|held| held.way == way);
            let figures: Vec<f64> = all.map(|held| held.all() as f64 / MIB).collect();
            let spread = statistics::Spread::of(&figures)?;
            Some(Bar { group: "kernel and ring".to_owned(), name: way.to_string(), spread })
        };
        let bars: Vec<Bar> = WAYS.into_iter().filter_map(bar).collect();
        let title = "What is held for readers that do not read";
        plot::bars(&run.path().join("stalled.svg"), title, "MiB", &bars)
    }
}

const NOTES: &str = "\
copy: a bare loop of send to each socket; reference: one of sendfile, whose pages are replaced before they are written
again; ours: a region of the library's ring that is queued to one socket after the other, each of which is flushed:
copied to all (ours-copy), by reference to all (ours-reference), and as the ring chooses (ours: the first few sockets
have copies). The ring is 1 MiB in 64 KiB, and is written anew for every partition (a template that stays in the caches,
with a number in every page), which is in the figures. The readers are one thread on the other core, which compares the
number of every page, and of one in 64 templates every byte; a wrong one voids the run. A window begins and ends with
nothing under way, on connections on which the ring was gone through once before. The core's time is counted in steps of
10 ms. Ratios are made within rounds; an interval covers the true median in 95 of 100 runs (of fewer than six rounds it
is all that was seen).
Readers that do not read: each socket was given room for all of it (SO_SNDBUFFORCE, no bound on unsent bytes). When all
was accepted the ring was written anew, the memory looked at, and then read: what had been sent was what arrived. kernel
in all: what is neither free (/proc/meminfo, and the lists of each processor in /proc/zoneinfo) nor a program's nor of
the page cache, slab included, so also pages that
were replaced and are still referred to; ring: Shmem; all: the ring, and the kernel in all or, where that is more, slab
and what was copied (somebody else gave memory back meanwhile). TCP's account (mem of /proc/net/sockstat) counts references
as it counts copies; its pages are those of the whole machine, beside tcp_mem.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::ring_cost::window::tests::windows;
    use crate::floor::ring::Account;

    fn held(way: Spread, mib: i64) -> Held {
        let account = Account::default();
        Held {
            way,
            readers: 1000,
            tcp: 1 << 30,
            slab: 9 << 20,
            kernel: mib << 20,
            shared: 1 << 20,
            pages: 100_000,
            tcp_mem: [100_000, 150_000, 200_000],
            account,
        }
    }

    /// Costs in the order of [`Spread::ALL`].
    fn findings(ours: f64, mib: i64) -> Findings {
        let cell = |sockets, costs: [f64; 5]| Cell { sockets, windows: windows(&costs, 6) };
        Findings {
            cells: vec![
                cell(1, [0.2, 0.4, 0.2, 0.4, 0.2]),
                cell(8, [0.2, 0.2, 0.2, 0.21, 0.2]),
                cell(1000, [0.2, 0.1, 0.2, 0.11, ours]),
            ],
            held: vec![held(Spread::Copy, 1000), held(Spread::Ours, mib)],
            skipped: vec!["nothing".to_owned()],
        }
    }

    #[test]
    fn ours_must_cost_no_more_than_copying_and_hold_little() {
        let (met, missed) = (findings(0.15, 25).targets(), findings(0.25, 40).targets());
        assert!(met.iter().all(|target| !target.is_missed()), "{met:?}");
        assert!(missed[..3].iter().all(Target::is_missed), "{missed:?}");
        assert_eq!(met[3].value, Some(100.0 / 150.0));
    }

    #[test]
    fn the_crossover_is_where_no_larger_crowd_costs_more() {
        let findings = findings(0.15, 25);
        assert_eq!(findings.crossover(Spread::Reference, Spread::Copy), Some(8));
        assert_eq!(findings.crossover(Spread::OursReference, Spread::OursCopy), Some(1000));
        let report = findings.report();
        for text in ["from 8 sockets", "0.150 (0.075)", "100000 150000 200000", "26.6"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
