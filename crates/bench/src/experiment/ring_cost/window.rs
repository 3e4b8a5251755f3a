//! What an order cost, and rounds of such windows.

use std::time::Instant;

use anyhow::Result;
use serde::Serialize;

use super::sender::{Readers, Sender};
use crate::experiment::contents::GIB;
use crate::experiment::session::SERVER_CPU;
use crate::floor::ring::Account;
use crate::harness::cpu::{CoreTime, others_time, thread_time};
use crate::harness::distance::round_trip;
use crate::harness::interval::Interval;
use crate::harness::round::{self, Fault, Rounds};
use crate::harness::statistics::{Spread, ratios};

/// So many rounds must be as they should be for the others to be left out.
const ENOUGH: usize = 5;

/// What one order cost, from its sending until everything was received and the sender had every
/// proof: nothing was under way before or after.
#[derive(Debug, Clone, Serialize)]
pub(in crate::experiment) struct Window {
    pub(in crate::experiment) window_s: f64,
    /// Received, by all readers together.
    pub(in crate::experiment) bytes: u64,
    /// Of these in pages that are not what belongs at their place.
    pub(in crate::experiment) wrong: u64,
    /// The server's core.
    pub(in crate::experiment) core: CoreTime,
    /// The sender's own threads, in seconds.
    pub(in crate::experiment) threads_s: f64,
    /// All other programs of the machine, in seconds.
    pub(in crate::experiment) others_s: f64,
    pub(in crate::experiment) distances_ns: [f64; 2],
    pub(in crate::experiment) account: Account,
}

/// A figure of a window.
pub(in crate::experiment) type Figure = fn(&Window) -> f64;

impl Window {
    /// Orders so many partitions of this length, and reads them.
    pub(in crate::experiment) fn of(
        sender: &mut Sender,
        readers: &mut Readers,
        partitions: u64,
        length: usize,
    ) -> Result<Self> {
        let nearby = round_trip(SERVER_CPU)?;
        let wrong = readers.wrong();
        let apart = [std::process::id(), sender.pid()];
        let others = others_time(&apart)?;
        let (core, threads) = (CoreTime::read(SERVER_CPU)?, thread_time(sender.pid())?);
        let start = Instant::now();
        readers.order(partitions)?;
        let bytes = readers.receive(partitions * length as u64)?;
        let account = sender.account()?;
        let core = CoreTime::read(SERVER_CPU)? - core;
        let window_s = start.elapsed().as_secs_f64();
        Ok(Self {
            window_s,
            bytes,
            wrong: readers.wrong() - wrong,
            core,
            threads_s: thread_time(sender.pid())? - threads,
            others_s: others_time(&apart)? - others,
            // Nobody asks the sender any more.
            distances_ns: [nearby, round_trip(SERVER_CPU)?],
            account,
        })
    }

    fn gib(&self) -> f64 {
        self.bytes as f64 / GIB.length as f64
    }

    /// Busy seconds of the server's core for each GiB that was received.
    pub(in crate::experiment) fn core(&self) -> f64 {
        self.core.busy() / self.gib()
    }

    /// Seconds of the sender's own threads for each GiB.
    pub(in crate::experiment) fn threads(&self) -> f64 {
        self.threads_s / self.gib()
    }

    /// GiB in a second.
    pub(in crate::experiment) fn rate(&self) -> f64 {
        self.gib() / self.window_s
    }
}

impl round::Window for Window {
    fn noise(&self) -> f64 {
        self.others_s / self.window_s
    }

    fn distances(&self) -> [f64; 2] {
        self.distances_ns
    }

    fn slices(&self) -> &[u64] {
        // A stream comes in bursts, whose parts say nothing of the machine.
        &[]
    }
}

/// Rounds with a window of each way, in the order of the ways.
#[derive(Debug, Default)]
pub(in crate::experiment) struct Windows {
    rounds: Vec<Vec<Window>>,
    /// What is wrong with each round.
    faults: Vec<Option<Fault>>,
}

impl Windows {
    pub(in crate::experiment) fn push(&mut self, round: Vec<Window>, fault: Option<Fault>) {
        self.rounds.push(round);
        self.faults.push(fault);
    }

    /// Rounds that there are, and those of them that are as they should be.
    pub(in crate::experiment) fn count(&self) -> (usize, usize) {
        let good = self.faults.iter().filter(|fault| fault.is_none()).count();
        (self.rounds.len(), good)
    }

    pub(in crate::experiment) fn want_more(&self, rounds: Rounds) -> bool {
        let (tried, good) = self.count();
        rounds.want_more(tried, good)
    }

    /// Where hardly any round is as it should be, all count, and the report says so.
    fn counts_all(&self) -> bool {
        self.count().1 < ENOUGH
    }

    pub(in crate::experiment) fn figures(&self, way: usize, figure: Figure) -> Vec<f64> {
        let all = self.counts_all();
        let rounds = self.rounds.iter().zip(&self.faults);
        let counted = rounds.filter(|(_, fault)| all || fault.is_none());
        counted.filter_map(|(round, _)| round.get(way)).map(figure).collect()
    }

    pub(in crate::experiment) fn spread(&self, way: usize, figure: Figure) -> Option<Spread> {
        Spread::of(&self.figures(way, figure))
    }

    pub(in crate::experiment) fn median(&self, way: usize, figure: Figure) -> Option<f64> {
        self.spread(way, figure).map(|of| of.median)
    }

    /// One way by another, compared within rounds.
    pub(in crate::experiment) fn against(
        &self,
        one: usize,
        other: usize,
        figure: Figure,
    ) -> Option<Interval> {
        Interval::of(&ratios(&self.figures(one, figure), &self.figures(other, figure)))
    }

    /// All windows of a way, those that do not count among them.
    pub(in crate::experiment) fn all(&self, way: usize) -> impl Iterator<Item = &Window> {
        self.rounds.iter().filter_map(move |round| round.get(way))
    }

    /// How many rounds count, and whether that is because too few were good.
    pub(in crate::experiment) fn verdict(&self) -> String {
        match (self.counts_all(), self.count()) {
            (false, (_, good)) => good.to_string(),
            (true, (all, good)) if good == all => all.to_string(),
            (true, (all, _)) => format!("{all} UNSTEADY"),
        }
    }
}

#[cfg(test)]
pub(in crate::experiment) mod tests {
    use super::*;

    /// A window of a GiB with so many seconds of the server's core.
    pub(in crate::experiment) fn window(seconds: f64) -> Window {
        Window {
            window_s: 1.0,
            bytes: GIB.length,
            wrong: 0,
            core: CoreTime { system: seconds, ..CoreTime::default() },
            threads_s: seconds / 2.0,
            others_s: 0.0,
            distances_ns: [100.0; 2],
            account: Account::default(),
        }
    }

    /// So many equal rounds with these costs of the ways.
    pub(in crate::experiment) fn windows(costs: &[f64], rounds: usize) -> Windows {
        let mut windows = Windows::default();
        for _ in 0..rounds {
            windows.push(costs.iter().map(|&cost| window(cost)).collect(), None);
        }
        windows
    }

    #[test]
    fn ways_are_compared_within_rounds_that_are_as_they_should_be() {
        let mut of = windows(&[0.2, 0.1], 5);
        of.push(vec![window(9.0), window(0.1)], Some(Fault::Noisy));
        assert_eq!((of.verdict().as_str(), of.median(0, Window::core)), ("5", Some(0.2)));
        assert_eq!(of.against(0, 1, Window::core).map(|of| of.high), Some(2.0));
        let mut few = windows(&[0.2, 0.1], 2);
        few.push(vec![window(9.0), window(0.1)], Some(Fault::Noisy));
        assert_eq!((few.verdict().as_str(), few.figures(0, Window::core).len()), ("3 UNSTEADY", 3));
    }
}
