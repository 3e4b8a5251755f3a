//! What was measured, and what it says: the report, the targets, the plots.

use std::fmt::Write;

use anyhow::Result;
use hdrhistogram::Histogram;

use super::IDLE;
use super::probe::Delays;
use super::ways::Way;
use crate::client::Latency;
use crate::harness::plot::{self, Axes, Line};
use crate::harness::report::{Table, Target, spread, verdicts};
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::Spread;

/// Microseconds after which half of the events of epoll are there.
const MEDIAN: f64 = 100.0;

/// What a thousand idle sockets may cost whoever waits by epoll, beside one.
const FLAT: f64 = 1.5;

/// The tails that are drawn: one delay in so many is longer.
const TAILS: u32 = 9;

/// One way over one network, with so many idle sockets beside it.
#[derive(Debug)]
pub(super) struct DelayCell {
    pub(super) network: &'static str,
    pub(super) way: Way,
    pub(super) idle: usize,
    /// Of all rounds.
    nanoseconds: Histogram<u64>,
    /// Microseconds, of each round.
    medians: Vec<f64>,
    cpu_us: Vec<f64>,
    untimed: u64,
}

impl DelayCell {
    pub(super) fn new(network: &'static str, way: Way, idle: usize) -> Result<Self> {
        let (medians, cpu_us) = Default::default();
        let nanoseconds = Histogram::new(3)?;
        Ok(Self { network, way, idle, nanoseconds, medians, cpu_us, untimed: 0 })
    }

    pub(super) fn add(&mut self, delays: &Delays) -> Result<()> {
        self.nanoseconds.add(&delays.nanoseconds)?;
        self.medians.push(Latency::of(&delays.nanoseconds).p50);
        self.cpu_us.push(delays.cpu_us);
        self.untimed += delays.untimed;
        Ok(())
    }

    /// The median of the rounds' medians.
    fn median(&self) -> Option<f64> {
        Spread::of(&self.medians).map(|of| of.median)
    }

    fn cpu(&self) -> Option<f64> {
        Spread::of(&self.cpu_us).map(|of| of.median)
    }
}

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) networks: Vec<&'static str>,
    /// Without idle sockets.
    pub(super) alone: Vec<DelayCell>,
    pub(super) beside: Vec<DelayCell>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

impl Findings {
    /// Epoll's median over each network, and what idle sockets change of it.
    pub(super) fn targets(&self) -> Vec<Target> {
        let epoll = self.alone.iter().filter(|cell| cell.way == Way::Epoll);
        let mut targets: Vec<Target> = epoll
            .map(|cell| Target {
                name: format!("µs from the acknowledgement to epoll's event, {}", cell.network),
                bound: MEDIAN,
                value: cell.median(),
            })
            .collect();
        let [few, .., many] = IDLE;
        for &network in &self.networks {
            let find = |idle| {
                let mut cells = self.beside.iter();
                cells
                    .find(|cell| (cell.network, cell.way, cell.idle) == (network, Way::Epoll, idle))
            };
            let (Some(few), Some(many)) = (find(few), find(many)) else { continue };
            let ratio = |of: fn(&DelayCell) -> Option<f64>| Some(of(many)? / of(few)?);
            let figures: [(&str, Option<f64>); 2] =
                [("delay", ratio(DelayCell::median)), ("CPU of a message", ratio(DelayCell::cpu))];
            targets.extend(figures.map(|(what, value)| Target {
                name: format!(
                    "epoll's {what} with {} idle sockets / {}, {network}",
                    many.idle, few.idle
                ),
                bound: FLAT,
                value,
            }));
        }
        targets
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        let title =
            "From the kernel's stamp of the acknowledgement to the caller's knowledge, in µs";
        let _ = writeln!(text, "{}", table(title, &self.alone));
        if !self.beside.is_empty() {
            let title = "The same with idle sockets watched beside";
            let _ = writeln!(text, "{}", table(title, &self.beside));
        }
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// Of each network the distribution; of those with idle sockets, the delay by their number.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        for &network in &self.networks {
            let cells = self.alone.iter().filter(|cell| cell.network == network);
            let lines: Vec<Line> = cells
                .map(|cell| {
                    let figure = |tail: u32| {
                        let longer = 1_u64 << tail;
                        let ns = cell.nanoseconds.value_at_quantile(1.0 - 1.0 / longer as f64);
                        (longer, ns as f64 / 1e3)
                    };
                    line(cell.way, (1..=TAILS).map(figure).collect())
                })
                .collect();
            let axes = Axes {
                below: "one delay in so many is longer",
                label: |longer| longer.to_string(),
                unit: "µs",
                is_logarithmic: true,
            };
            let path = run.path().join(format!("{network}-delay.svg"));
            let title = format!("From the acknowledgement to its event, {network}");
            plot::lines_over(&path, &title, axes, &lines)?;

            let axes = Axes { below: "idle sockets beside", ..axes };
            let by = |figure: fn(&DelayCell) -> Option<f64>| -> Vec<Line> {
                let of = |way: Way| {
                    let mut cells: Vec<&DelayCell> = self.beside.iter().collect();
                    cells.retain(|cell| cell.network == network && cell.way == way);
                    let point = |cell: &DelayCell| Some((cell.idle as u64, figure(cell)?));
                    line(way, cells.into_iter().filter_map(point).collect())
                };
                Way::WITH_MANY.map(of).into()
            };
            let path = run.path().join(format!("{network}-idle-delay.svg"));
            let title = format!("Median delay by idle sockets, {network}");
            plot::lines_over(&path, &title, axes, &by(DelayCell::median))?;
            let path = run.path().join(format!("{network}-idle-cpu.svg"));
            let title = format!("CPU of the waiting thread for a message, {network}");
            plot::lines_over(&path, &title, axes, &by(DelayCell::cpu))?;
        }
        Ok(())
    }
}

/// The line of a way, in its colour.
fn line(way: Way, points: Vec<(u64, f64)>) -> Line {
    let colour = Way::ALL.into_iter().position(|found| found == way).unwrap_or(0);
    Line { name: way.to_string(), colour, is_second: way == Way::Asking, points }
}

fn table(title: &str, cells: &[DelayCell]) -> Table {
    let columns = [
        "",
        "way",
        "idle",
        "median of rounds",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "max",
        "messages",
        "untimed",
        "CPU µs/message",
    ];
    let mut table = Table::new(title, &columns);
    for cell in cells {
        let Latency { p50, p90, p99, p999, max } = Latency::of(&cell.nanoseconds);
        let mut row = vec![cell.network.to_owned(), cell.way.to_string(), cell.idle.to_string()];
        row.push(spread(Spread::of(&cell.medians), 1));
        row.extend([p50, p90, p99, p999, max].map(|us| format!("{us:.1}")));
        row.extend([cell.nanoseconds.len(), cell.untimed].map(|count| count.to_string()));
        row.push(spread(Spread::of(&cell.cpu_us), 1));
        table.row(row);
    }
    table
}

const NOTES: &str = "\
epoll: an AckQueue (Watch::Ours) whose descriptor is in an epoll set of the caller's; signal: a real-time signal, by
the calls that AckSignals::wait makes; polling: an AckQueue (Watch::Theirs), a timer and SIOCOUTQ; poll: poll(2) of
all sockets; asking: SIOCOUTQ without a pause, which nothing can be sooner than. One message of 32 KiB is under way
at a time; the waiting thread has a core of its own and sleeps (asking does not). Over lo the peer acknowledges
within the call that sends, so nobody sleeps there; over the others each side receives on its own core. The kernel
stamps each acknowledgement when it processes it (SOF_TIMESTAMPING_TX_ACK), on the clock that is read when the caller
has been told; with epoll and signal, reading the stamp (one recvmsg) counts in the delay. The CPU time of a message
is the thread's own, its sending included. far50 is 5 ms long each way: its sender has slept for 10 ms.
";

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(way: Way, idle: usize, us: u64, cpu_us: f64) -> DelayCell {
        let mut cell = DelayCell::new("lo", way, idle).unwrap();
        let mut nanoseconds = Histogram::new(3).unwrap();
        nanoseconds.record_n(us * 1000, 99).unwrap();
        nanoseconds.record(us * 100_000).unwrap();
        for _ in 0..3 {
            let nanoseconds = nanoseconds.clone();
            cell.add(&Delays { nanoseconds, untimed: 1, cpu_us }).unwrap();
        }
        cell
    }

    fn findings(us: u64, cpu_us: f64) -> Findings {
        Findings {
            networks: vec!["lo"],
            alone: vec![cell(Way::Epoll, 0, us, 5.0), cell(Way::Polling, 0, 300, 5.0)],
            beside: vec![cell(Way::Epoll, 1, 20, 5.0), cell(Way::Epoll, 1000, 22, cpu_us)],
            skipped: vec!["everything over veth: no root".to_owned()],
        }
    }

    #[test]
    fn epoll_is_to_be_soon_and_flat() {
        let missed = |us, cpu_us| -> Vec<bool> {
            findings(us, cpu_us).targets().iter().map(Target::is_missed).collect()
        };
        assert_eq!(missed(40, 6.0), [false, false, false]);
        assert_eq!(missed(140, 9.0), [true, false, true]);
    }

    #[test]
    fn the_report_shows_the_distribution_and_what_was_skipped() {
        let report = findings(40, 6.0).report();
        for text in ["40.0 (40.0–40.0)", "polling", "300", "1000", "SKIPPED: every"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
