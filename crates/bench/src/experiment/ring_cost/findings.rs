//! What was measured, and what it says: tables, targets, plots.

use std::fmt::Write;

use anyhow::Result;

use super::Shape;
use super::window::{Window, Windows};
use crate::floor::ring_cost::Reuse;
use crate::harness::interval::Interval;
use crate::harness::plot::{self, Bar};
use crate::harness::report::{Table, Target, spread, verdicts};
use crate::harness::run_dir::RunDir;

/// What ours may cost by the best way that is right on that wire.
const AT_MOST: f64 = 1.1;

/// Whether the bytes leave this network's server as a copy, so that an acknowledgement is a proof.
pub(super) fn copies(network: &str) -> bool {
    ["wire", "wire50", "far50"].contains(&network)
}

/// One shape over one network.
#[derive(Debug)]
pub(super) struct Cell {
    pub(super) network: &'static str,
    pub(super) shape: Shape,
    /// Of all ways, in the order of [`Reuse::ALL`].
    pub(super) windows: Windows,
}

fn place(way: Reuse) -> usize {
    Reuse::ALL.into_iter().position(|found| found == way).unwrap_or(Reuse::ALL.len())
}

impl Cell {
    fn is_safe(&self, way: Reuse) -> bool {
        way != Reuse::Acked || copies(self.network)
    }

    /// Ours by another way, compared within rounds.
    fn against(&self, way: Reuse) -> Option<Interval> {
        self.windows.against(place(Reuse::Ours), place(way), Window::core)
    }

    /// The bare way that costs least of those that are right here.
    fn best(&self) -> Option<Reuse> {
        let ways = Reuse::ALL.into_iter();
        let safe = ways.filter(|&way| way != Reuse::Ours && self.is_safe(way));
        let medians =
            safe.filter_map(|way| Some((way, self.windows.median(place(way), Window::core)?)));
        medians.min_by(|(_, a), (_, b)| a.total_cmp(b)).map(|(way, _)| way)
    }

    fn target(&self) -> Target {
        let beside = self.best().and_then(|best| Some((best, self.against(best)?)));
        let shown = beside
            .map_or_else(|| "the best".to_owned(), |(best, of)| format!("{best} {}", of.show()));
        Target {
            name: format!(
                "core s/GiB through {} over {}: ours / {shown}, median",
                self.shape.name, self.network
            ),
            bound: AT_MOST,
            value: beside.map(|(_, of)| of.median),
        }
    }

    fn table(&self) -> Table {
        let title = format!(
            "{} over {}: median (min–max) of {} rounds",
            self.shape.name,
            self.network,
            self.windows.verdict()
        );
        let columns =
            ["", "core s/GiB", "own thread", "GiB/s", "ours by it [95 %]", "wrong", "safe here"];
        let mut table = Table::new(title, &columns);
        for way in Reuse::ALL {
            let of = |figure| self.windows.spread(place(way), figure);
            let bytes: u64 = self.windows.all(place(way)).map(|window| window.bytes).sum();
            let wrong: u64 = self.windows.all(place(way)).map(|window| window.wrong).sum();
            table.row(vec![
                way.to_string(),
                spread(of(Window::core), 3),
                of(Window::threads).map_or_else(String::new, |of| format!("{:.3}", of.median)),
                of(Window::rate).map_or_else(String::new, |of| format!("{:.2}", of.median)),
                self.against(way).map_or_else(|| "—".to_owned(), Interval::show),
                format!("{:.3} %", 100.0 * wrong as f64 / bytes.max(1) as f64),
                if self.is_safe(way) { "yes" } else { "NO" }.to_owned(),
            ]);
        }
        table
    }

    /// Parts of a hundred of the partitions of ours by their proof, and of the bytes by their way.
    fn account(&self) -> Vec<String> {
        let mut sums = [0_u64; 8];
        for window in self.windows.all(place(Reuse::Ours)) {
            let of = &window.account;
            let proofs = [of.copied, of.released, of.acked, of.replaced];
            let bytes = [of.bytes_copied, of.bytes_sendfile, of.bytes_zerocopy, window.bytes];
            sums.iter_mut().zip(proofs.into_iter().chain(bytes)).for_each(|(sum, of)| *sum += of);
        }
        let [copied, released, acked, replaced, by_copy, by_sendfile, by_zerocopy, bytes] = sums;
        let partitions = copied + released + acked + replaced;
        let share = |of: u64, all: u64| format!("{:.2}", 100.0 * of as f64 / all.max(1) as f64);
        let mut row = vec![self.network.to_owned(), self.shape.name.to_owned()];
        row.extend([copied, released, acked, replaced].map(|of| share(of, partitions)));
        row.extend([by_copy, by_sendfile, by_zerocopy].map(|of| share(of, bytes)));
        row
    }
}

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) cells: Vec<Cell>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

impl Findings {
    /// Ours beside the best way that is right, for each ring over each network.
    pub(super) fn targets(&self) -> Vec<Target> {
        self.cells.iter().map(Cell::target).collect()
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for cell in &self.cells {
            let _ = writeln!(text, "{}", cell.table());
        }
        let columns = [
            "",
            "ring",
            "copied",
            "released",
            "acked",
            "replaced",
            "by send",
            "by sendfile",
            "by MSG_ZEROCOPY",
        ];
        let title = "Ours, in %: partitions by the proof that freed them, bytes by way";
        let mut table = Table::new(title, &columns);
        self.cells.iter().for_each(|cell| table.row(cell.account()));
        let _ = writeln!(text, "{table}");
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// What each way cost, for each network.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        let mut networks: Vec<&str> = self.cells.iter().map(|cell| cell.network).collect();
        networks.dedup();
        for network in networks {
            let cells = self.cells.iter().filter(|cell| cell.network == network);
            let bar = |cell: &Cell, way: Reuse| {
                let mark = if cell.is_safe(way) { "" } else { " (unsafe)" };
                Some(Bar {
                    group: cell.shape.name.to_owned(),
                    name: format!("{way}{mark}"),
                    spread: cell.windows.spread(place(way), Window::core)?,
                })
            };
            let bars: Vec<Bar> = cells
                .flat_map(|cell| Reuse::ALL.into_iter().filter_map(move |way| bar(cell, way)))
                .collect();
            let path = run.path().join(format!("{network}.svg"));
            let title = format!("One stream through a ring over {network}: the server's core");
            plot::bars(&path, &title, "s/GiB", &bars)?;
        }
        Ok(())
    }
}

const NOTES: &str = "\
copy: send, and the partition is free; zerocopy: MSG_ZEROCOPY, free when the kernel reports it (over these wires it
copies after all, at the sender's or the receiver's end: NO CREDIT for it here); replaced: sendfile, and fresh pages
before the next write; acked: sendfile, and written again in place when SIOCOUTQ says that all is acknowledged. These
four are bare loops of blocking calls; ours is Socket::acquire, Socket::queue and Socket::flush in a Worker, told on
the wire alone that the peer is on another host. Every partition is written anew (a template of 64 KiB that stays in
the caches, with a number in every page), which is in the figures: by pwrite where the pages are fresh, else through
the mapping. wrong: pages that arrived with another number than their place's, of all windows; every byte is compared
before the rounds, and of one in 64 templates in them. acked is NOT SAFE over lo and veth, where the peer's queue holds
the pages themselves; there it is shown and not compared with. Each way has one connection, on which the ring was gone
through three times before the first window; a window begins and ends with nothing under way. The core's time is counted
in steps of 10 ms. Ratios are made within rounds; an interval covers the true median in 95 of 100 runs (of fewer than six
rounds it is all that was seen).
";

#[cfg(test)]
mod tests {
    use super::super::SHAPES;
    use super::super::window::tests::windows;
    use super::*;

    /// In the order of [`Reuse::ALL`].
    fn findings(network: &'static str, costs: [f64; 5]) -> Findings {
        let cell = Cell { network, shape: SHAPES[0], windows: windows(&costs, 6) };
        Findings { cells: vec![cell], skipped: vec!["everything over veth: no root".to_owned()] }
    }

    #[test]
    fn ours_is_judged_by_the_best_way_that_is_right_on_that_wire() {
        let costs = [0.2, 0.3, 0.4, 0.1, 0.21];
        let (shares, copies) = (findings("lo", costs).targets(), findings("wire", costs).targets());
        assert!(shares[0].name.contains("ours / copy 1.05") && !shares[0].is_missed());
        assert!(copies[0].name.contains("ours / acked 2.10") && copies[0].is_missed());
    }

    #[test]
    fn the_report_shows_costs_and_which_way_is_not_safe() {
        let report = findings("veth", [0.2, 0.3, 0.4, 0.1, 0.21]).report();
        for text in ["0.210 (0.210–0.210)", "NO\n", "SKIPPED: everything", "1.05"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
