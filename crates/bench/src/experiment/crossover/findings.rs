//! What each form costs at each size, and where another becomes the better one.

use std::fmt::Write;

use anyhow::Result;
use serde::Serialize;

use super::workloads::FORMS;
use crate::experiment::cell::Cell;
use crate::harness::plot::{self, Line, size_label};
use crate::harness::report::Table;
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::Spread;
use crate::peer::{Form, Peer};

/// The forms that leave the bytes in the page cache.
const FILE_WAYS: [Peer; 2] = [Peer::Made(Form::Sendfile), Peer::Made(Form::Splice)];

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) cells: Vec<Cell>,
    pub(super) skipped: Vec<String>,
}

/// What was the same in all cells of a row of sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) struct Setting {
    network: &'static str,
    connections: usize,
    /// Many files in turn, instead of one.
    is_set: bool,
}

/// Where forms change places, in bytes. `None`: nowhere among the sizes that were measured.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct Crossovers {
    #[serde(flatten)]
    setting: Setting,
    /// Up to this size a file in memory is cheaper than the better of `sendfile` and `splice`.
    memory_up_to: Option<u64>,
    /// Up to this size reading the file for each request is.
    copy_up_to: Option<u64>,
    /// From this size on `splice` is cheaper than `sendfile`.
    splice_from: Option<u64>,
}

/// The last size before which, and at which, all ratios are below 1.
fn up_to(ratios: &[(u64, f64)]) -> Option<u64> {
    ratios.iter().take_while(|(_, ratio)| *ratio < 1.0).last().map(|(size, _)| *size)
}

/// The first size from which on all ratios are below 1.
pub(in crate::experiment) fn from(ratios: &[(u64, f64)]) -> Option<u64> {
    ratios.iter().rev().take_while(|(_, ratio)| *ratio < 1.0).last().map(|(size, _)| *size)
}

/// The median over rounds of one form by another.
fn ratio(cell: &Cell, one: Peer, another: Peer) -> Option<f64> {
    Spread::of(&cell.all_ratios(one, another)?).map(|of| of.median)
}

fn cost(cell: &Cell, form: Peer) -> Option<f64> {
    Spread::of(&cell.all_costs(form)?).map(|of| of.median)
}

fn form_of(peer: Peer) -> &'static str {
    if let Peer::Made(form) = peer { form.name() } else { "" }
}

impl Setting {
    fn of(cell: &Cell) -> Self {
        Self {
            network: cell.network,
            connections: cell.workload.connections,
            is_set: cell.workload.files.is_some(),
        }
    }

    fn name(self) -> String {
        let Self { network, connections, is_set } = self;
        let files = if is_set { "a set of files in turn" } else { "one file" };
        format!("{files} over {network}, {connections} connection(s)")
    }
}

impl Findings {
    /// In the order in which they were measured first.
    fn settings(&self) -> Vec<Setting> {
        let mut settings = Vec::new();
        for setting in self.cells.iter().map(Setting::of) {
            if !settings.contains(&setting) {
                settings.push(setting);
            }
        }
        settings
    }

    /// From the smallest size to the largest.
    fn cells(&self, setting: Setting) -> impl Iterator<Item = &Cell> {
        self.cells.iter().filter(move |cell| Setting::of(cell) == setting)
    }

    fn figures(&self, setting: Setting, figure: impl Fn(&Cell) -> Option<f64>) -> Vec<(u64, f64)> {
        let of = |cell: &Cell| Some((cell.workload.contents.length, figure(cell)?));
        self.cells(setting).filter_map(of).collect()
    }

    pub(super) fn crossovers(&self) -> Vec<Crossovers> {
        let [sendfile, splice] = FILE_WAYS;
        let against_best = |form: Form| {
            move |cell: &Cell| ratio(cell, Peer::Made(form), cell.cheapest(&FILE_WAYS)?)
        };
        let of = |setting| Crossovers {
            setting,
            memory_up_to: up_to(&self.figures(setting, against_best(Form::Memory))),
            copy_up_to: up_to(&self.figures(setting, against_best(Form::Copy))),
            splice_from: from(&self.figures(setting, |cell| ratio(cell, splice, sendfile))),
        };
        self.settings().into_iter().map(of).collect()
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        for setting in self.settings() {
            let _ = writeln!(text, "{}", self.table(setting));
        }
        let columns = ["", "memory up to", "copy up to", "splice from"];
        let mut table =
            Table::new("Crossovers, against sendfile or splice; splice against sendfile", &columns);
        for Crossovers { setting, memory_up_to, copy_up_to, splice_from } in self.crossovers() {
            let size = |size: Option<u64>| size.map_or_else(|| "never".to_owned(), size_label);
            table.row(vec![
                setting.name(),
                size(memory_up_to),
                size(copy_up_to),
                size(splice_from),
            ]);
        }
        let _ = writeln!(text, "{table}");
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        text.push_str(NOTES);
        text
    }

    fn table(&self, setting: Setting) -> Table {
        let mut columns = vec!["".to_owned(), "files".to_owned()];
        columns.extend(FORMS.map(|form| format!("{} µs", form_of(form))));
        let by = |form: &Peer| *form != Peer::Made(Form::Sendfile);
        let others: Vec<Peer> = FORMS.into_iter().filter(by).collect();
        columns.extend(others.iter().map(|&form| format!("{} / sendfile", form_of(form))));
        columns.extend(["busy", "cores", "rounds"].map(str::to_owned));
        let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
        let title = format!("{}: core µs/request, medians", setting.name());
        let mut table = Table::new(title, &columns);
        for cell in self.cells(setting) {
            let figure = |figure: Option<f64>| {
                figure.map_or_else(|| "—".to_owned(), |figure| format!("{figure:.2}"))
            };
            let workload = &cell.workload;
            let mut row =
                vec![size_label(workload.contents.length), workload.files.unwrap_or(1).to_string()];
            row.extend(FORMS.map(|form| figure(cost(cell, form))));
            let sendfile = Peer::Made(Form::Sendfile);
            row.extend(others.iter().map(|&form| figure(ratio(cell, form, sendfile))));
            row.push(figure(cell.least_busy()));
            row.push(cell.cores());
            row.push(cell.verdict_in_short());
            table.row(row);
        }
        table
    }

    /// Every cell with latencies and spreads.
    pub(super) fn details(&self) -> String {
        self.cells.iter().fold(String::new(), |text, cell| text + &cell.table() + "\n")
    }

    /// For each network and number of connections: costs by that of `sendfile`, and by size.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        for first in self.settings().into_iter().filter(|setting| !setting.is_set) {
            let Setting { network, connections, .. } = first;
            let draw =
                |what: &str, title: &str, unit: &str, of: &dyn Fn(&Cell, Peer) -> Option<f64>| {
                    let lines = [false, true].into_iter().flat_map(|is_set| {
                        let setting = Setting { is_set, ..first };
                        FORMS.into_iter().enumerate().map(move |(colour, form)| {
                            let name = form_of(form);
                            let name =
                                if is_set { format!("{name}, set") } else { name.to_owned() };
                            let points = self.figures(setting, |cell| of(cell, form));
                            Line { name, colour, is_second: is_set, points }
                        })
                    });
                    let path = run.path().join(format!("{what}-{network}-{connections}.svg"));
                    let title = format!("{title}, {network}, {connections} connection(s)");
                    plot::lines(&path, &title, unit, &lines.collect::<Vec<_>>())
                };
            let sendfile = Peer::Made(Form::Sendfile);
            draw("ratio", "CPU by that of sendfile", "ratio", &|cell, form| {
                ratio(cell, form, sendfile)
            })?;
            draw("per-kib", "CPU of the server's core", "µs per KiB", &|cell, form| {
                Some(cost(cell, form)? / (cell.workload.contents.length >> 10) as f64)
            })?;
        }
        Ok(())
    }
}

const NOTES: &str = "\
memory: kept with its head, one send; copy: read for each request, one send; sendfile, splice: the
head with MSG_MORE, then the file. The core of our own server alone counts, busy time by answers;
ratios are medians of rounds. Costs of different sizes are those of cores near to each other or
far, as the host had them (see `static`); ratios are made within rounds. One file stays in the processor's caches, from which copying is
cheapest; and the client, which reads every byte, shares the last of them. Files of a set are asked
for in turn, so that what one connection had is gone from the core's own caches when it is read
again: the more of them, and the larger, the nearer this is to a server of many files. busy: the
smallest share of a window that the core worked, over the forms (median); well below 1 the client
was the slower one. From 1 MiB on the client waits for what it downloads, below it asks without
end. Of each body the first and the last KiB were compared, and every byte of each 16th.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::cell::tests::cell;

    #[test]
    fn a_crossover_is_where_the_order_changes_for_good() {
        let ratios = [(4, 0.5), (8, 0.9), (16, 1.1), (32, 0.9), (64, 0.8)];
        assert_eq!(up_to(&ratios), Some(8));
        assert_eq!(from(&ratios), Some(32));
        assert_eq!(up_to(&ratios[2..]), None);
        assert_eq!(from(&ratios[..3]), None);
        assert_eq!(up_to(&ratios[..2]), Some(8));
        assert_eq!(from(&ratios[3..]), Some(32));
    }

    /// Cells of growing sizes, in which the forms answered so many requests.
    fn findings(sizes: &[(u64, [u64; 4])]) -> Findings {
        let of = |&(length, rates): &(u64, [u64; 4])| {
            let mut cell = cell("x", &FORMS, &[&rates, &rates, &rates, &rates, &rates]);
            cell.workload.contents.length = length;
            cell
        };
        Findings { cells: sizes.iter().map(of).collect(), skipped: vec!["veth: no root".into()] }
    }

    #[test]
    fn memory_is_held_against_the_better_way_of_files() {
        let findings = findings(&[
            (8 << 10, [200, 150, 100, 90]),
            (16 << 10, [180, 90, 100, 90]),
            (32 << 10, [110, 80, 100, 120]),
        ]);
        let [found] = &findings.crossovers()[..] else { panic!("one setting") };
        assert_eq!(found.memory_up_to, Some(16 << 10));
        assert_eq!(found.copy_up_to, Some(8 << 10));
        assert_eq!(found.splice_from, Some(32 << 10));
        let report = findings.report();
        for text in ["16 KiB", "one file over lo, 64 connection(s)", "SKIPPED: veth"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
        assert!(findings.details().contains("sluicegate-memory"));
    }
}
