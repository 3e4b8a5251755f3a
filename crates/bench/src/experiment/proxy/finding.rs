//! What a part has found out.

use anyhow::Result;

use super::trip::{Trip, Trips};
use crate::harness::plot::{self, Bar};
use crate::harness::report::{Table, Target, spread};
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::Spread;
use crate::peer::Peer;

/// Report, targets and plots of a part.
#[derive(Debug, Default)]
pub(super) struct Finding {
    pub(super) report: String,
    pub(super) targets: Vec<Target>,
    plots: Vec<Plot>,
}

#[derive(Debug)]
struct Plot {
    file: String,
    title: String,
    unit: String,
    bars: Vec<Bar>,
}

impl Finding {
    pub(super) fn add(&mut self, table: &Table) {
        self.report += &format!("{table}\n");
    }

    /// Takes over what another one found out.
    pub(super) fn join(&mut self, other: Self) {
        self.report += &other.report;
        self.targets.extend(other.targets);
        self.plots.extend(other.plots);
    }

    pub(super) fn say(&mut self, line: &str) {
        self.report += &format!("{line}\n");
    }

    pub(super) fn bars(&mut self, file: &str, title: &str, unit: &str, bars: Vec<Bar>) {
        let [file, title, unit] = [file, title, unit].map(str::to_owned);
        self.plots.push(Plot { file, title, unit, bars });
    }

    /// The bars of some figure of each cell.
    pub(super) fn bars_of(
        &mut self,
        (file, title, unit): (&str, &str, &str),
        cells: &[Trips],
        figure: impl Fn(&Trip) -> f64,
    ) {
        let bars = cells.iter().flat_map(|cell| {
            let bar = |&peer: &Peer| {
                let spread = cell.spread(peer, &figure)?;
                Some(Bar { group: cell.plan.name.clone(), name: peer.to_string(), spread })
            };
            cell.plan.peers.iter().filter_map(bar).collect::<Vec<_>>()
        });
        let bars = bars.collect();
        self.bars(file, title, unit, bars);
    }

    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        self.plots.iter().try_for_each(|Plot { file, title, unit, bars }| {
            plot::bars(&run.path().join(file), title, unit, bars)
        })
    }
}

const MIB: f64 = (1 << 20) as f64;

/// MiB, in a table.
pub(super) fn mib(bytes: Option<f64>) -> String {
    bytes.map_or_else(|| "—".to_owned(), |bytes| format!("{:.1}", bytes / MIB))
}

/// A figure of some digits, in a table.
pub(super) fn figure(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "—".to_owned(), |figure| format!("{figure:.digits$}"))
}

/// The table that most parts show: cost, time, memory, disk, and when the upstream was let go.
pub(super) fn table(title: &str, cell: &Trips) -> Table {
    let title =
        format!("{title}, over {}; median (min–max) of {}", cell.network, cell.rounds_in_words());
    let columns = [
        "",
        "core s/GiB",
        "own threads",
        "download s",
        "first ms",
        "let go s",
        "held MiB",
        "in pipes",
        "on disk MiB",
        "written MiB",
    ];
    let mut table = Table::new(title, &columns);
    for &peer in &cell.plan.peers {
        let first = |trip: &Trip| trip.load.downloads.first().map_or(0.0, |of| of.first_ms);
        let ours = |text: String| if peer.is_ours() { text } else { "—".to_owned() };
        table.row(vec![
            peer.to_string(),
            spread(cell.spread(peer, |trip| trip.load.core_by_gib()), 3),
            figure(cell.median(peer, |trip| trip.load.threads_by_gib()), 3),
            spread(cell.spread(peer, Trip::took_s), 2),
            figure(cell.median(peer, first), 1),
            figure(cell.median(peer, |trip| trip.held_s().unwrap_or(f64::NAN)), 2),
            mib(cell.most(peer, |trip| trip.watched.held() as f64)),
            ours(mib(cell.most(peer, |trip| trip.watched.in_pipes as f64))),
            mib(cell.most(peer, |trip| trip.watched.on_disk as f64)),
            mib(cell.median(peer, |trip| trip.watched.written as f64)),
        ]);
    }
    if let Some(seconds) = cell.link_s() {
        let mut row = vec![String::new(); 4];
        let costs: Vec<f64> = cell.links.iter().map(|link| link.core_by_gib()).collect();
        row[0] = "the link itself".to_owned();
        row[1] = spread(Spread::of(&costs), 3);
        row[3] = format!("{seconds:.2}");
        table.row(row);
    }
    table
}
