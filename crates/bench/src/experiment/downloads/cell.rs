//! One file over one network: its rounds, and what they say of each server.

use serde::{Deserialize, Serialize};

use crate::experiment::contents::Contents;
use crate::floor::figure3::Report;
use crate::harness::cpu::CoreTime;
use crate::harness::interval::Interval;
use crate::harness::round::{self, Fault};
use crate::harness::statistics::{Spread, ratios};
use crate::peer::Peer;
use crate::peer_host::Downloaded;

/// So many rounds must be as they should be for the others to be left out.
const ENOUGH: usize = 5;

/// What happened in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in crate::experiment) struct Window {
    #[serde(flatten)]
    pub(in crate::experiment) downloaded: Downloaded,
    /// The server's core.
    pub(in crate::experiment) core: CoreTime,
    /// The server's own threads, in seconds.
    pub(in crate::experiment) server_threads_s: f64,
    /// All other programs of the server's host, in seconds.
    pub(in crate::experiment) others_s: f64,
    /// Round trip between the cores of server and client, before and after, in nanoseconds; zero
    /// where they are not of one host.
    pub(in crate::experiment) distances_ns: [f64; 2],
    /// What the server tells of itself, if it does.
    pub(in crate::experiment) report: Option<Report>,
}

impl Window {
    /// Busy time of the server's core for each download, in microseconds.
    pub(in crate::experiment) fn core_us(&self) -> f64 {
        self.core.busy() * 1e6 / self.downloaded.downloads as f64
    }

    /// Time of the server's threads for each download, in microseconds.
    pub(in crate::experiment) fn threads_us(&self) -> f64 {
        self.server_threads_s * 1e6 / self.downloaded.downloads as f64
    }
}

impl round::Window for Window {
    fn noise(&self) -> f64 {
        self.others_s / self.downloaded.window_s
    }

    fn distances(&self) -> [f64; 2] {
        self.distances_ns
    }

    /// Downloads come in bursts, whose parts say nothing of the machine.
    fn slices(&self) -> &[u64] {
        &[]
    }
}

/// A line of `rounds.jsonl`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::experiment) struct Record<'a> {
    pub(in crate::experiment) kind: &'a str,
    pub(in crate::experiment) network: &'a str,
    pub(in crate::experiment) length: u64,
    pub(in crate::experiment) server: String,
    pub(in crate::experiment) round: usize,
    /// Why the round does not count.
    pub(in crate::experiment) fault: Option<String>,
    #[serde(flatten)]
    pub(in crate::experiment) window: &'a Window,
}

/// One file over one network.
#[derive(Debug)]
pub(in crate::experiment) struct DownloadCell {
    pub(in crate::experiment) network: &'static str,
    pub(in crate::experiment) contents: Contents,
    pub(in crate::experiment) servers: Vec<Peer>,
    /// In each: the windows of all servers, in their order.
    pub(in crate::experiment) rounds: Vec<Vec<Window>>,
    pub(in crate::experiment) faults: Vec<Option<Fault>>,
}

impl DownloadCell {
    /// The figure of a server in each round that counts. Where hardly any round is as it should
    /// be, all count, and the report says so.
    fn figures(&self, server: Peer, figure: impl Fn(&Window) -> f64) -> Option<Vec<f64>> {
        let index = self.servers.iter().position(|&found| found == server)?;
        let all = self.counts_all();
        let counted = self.rounds.iter().zip(&self.faults);
        let counted = counted.filter(|(_, fault)| all || fault.is_none());
        Some(counted.filter_map(|(round, _)| round.get(index)).map(figure).collect())
    }

    fn counts_all(&self) -> bool {
        self.faults.iter().filter(|fault| fault.is_none()).count() < ENOUGH.min(self.faults.len())
    }

    pub(in crate::experiment) fn median(
        &self,
        server: Peer,
        figure: impl Fn(&Window) -> f64,
    ) -> Option<f64> {
        Spread::of(&self.figures(server, figure)?).map(|of| of.median)
    }

    /// One server by another: compared within each round.
    pub(in crate::experiment) fn against(
        &self,
        one: Peer,
        other: Peer,
        figure: impl Fn(&Window) -> f64,
    ) -> Option<Interval> {
        let [one, other] = [self.figures(one, &figure)?, self.figures(other, &figure)?];
        // A tick is 10 ms: of a short window the core may have been busy for none.
        let ratios: Vec<f64> =
            ratios(&one, &other).into_iter().filter(|ratio| ratio.is_finite()).collect();
        Interval::of(&ratios)
    }

    /// Of some others the one that a server looks worst beside, and how.
    pub(in crate::experiment) fn against_best(
        &self,
        one: Peer,
        others: &[Peer],
        figure: impl Fn(&Window) -> f64,
    ) -> Option<(Peer, Interval)> {
        let all =
            others.iter().filter_map(|&other| Some((other, self.against(one, other, &figure)?)));
        all.max_by(|(_, a), (_, b)| a.median.total_cmp(&b.median))
    }

    /// How many rounds count, and whether that is because too few were good.
    pub(in crate::experiment) fn verdict(&self) -> String {
        let good = self.faults.iter().filter(|fault| fault.is_none()).count();
        if self.counts_all() { format!("{} UNSTEADY", self.rounds.len()) } else { good.to_string() }
    }
}

#[cfg(test)]
pub(in crate::experiment) mod tests {
    use super::*;
    use crate::client::Latency;
    use crate::floor::Way;

    /// A window of one download that took so long, at so much CPU time, in microseconds.
    pub(in crate::experiment) fn window(whole_us: f64, core_us: f64) -> Window {
        let whole_us =
            Latency { p50: whole_us, p99: whole_us, max: whole_us, ..Latency::default() };
        Window {
            downloaded: Downloaded {
                window_s: 1.0,
                downloads: 1,
                whole_us,
                first_us: Latency { p50: 10.0, ..Latency::default() },
                since_handed_us: None,
            },
            core: CoreTime { system: core_us / 1e6, ..CoreTime::default() },
            server_threads_s: core_us / 2e6,
            others_s: 0.0,
            distances_ns: [400.0, 420.0],
            report: None,
        }
    }

    /// Rounds in which each server took so long, and its core as long.
    pub(in crate::experiment) fn cell(
        length: u64,
        servers: &[Peer],
        rounds: &[&[f64]],
    ) -> DownloadCell {
        let windows = |round: &&[f64]| round.iter().map(|&us| window(us, us)).collect();
        DownloadCell {
            network: "lo",
            contents: Contents { name: "x.bin", length, seed: 1 },
            servers: servers.to_vec(),
            rounds: rounds.iter().map(windows).collect(),
            faults: vec![None; rounds.len()],
        }
    }

    const SERVERS: [Peer; 3] =
        [Peer::Floor(Way::Epoll), Peer::Floor(Way::Sendfile), Peer::Sluicegate];

    #[test]
    fn servers_are_compared_within_rounds_and_the_best_is_who_one_looks_worst_beside() {
        let cell = cell(1024, &SERVERS, &[&[10.0, 20.0, 11.0], &[30.0, 60.0, 33.0]]);
        let us = |window: &Window| window.downloaded.whole_us.p50;
        let (best, interval) = cell.against_best(SERVERS[2], &SERVERS[..2], us).unwrap();
        assert_eq!(best, SERVERS[0]);
        assert!((interval.median - 1.1).abs() < 1e-9 && interval.high - interval.low < 1e-9);
        assert_eq!(cell.median(SERVERS[0], us), Some(20.0));
        assert!((cell.median(SERVERS[0], Window::core_us).unwrap() - 20.0).abs() < 1e-6);
        assert_eq!(cell.median(Peer::Nginx, us), None);
    }

    #[test]
    fn faulty_rounds_are_left_out_while_enough_are_good() {
        let mut cell = cell(1024, &SERVERS, &[&[1.0; 3][..]; 6]);
        cell.faults[0] = Some(Fault::Noisy);
        assert_eq!(cell.verdict(), "5");
        cell.faults[1] = Some(Fault::Moved);
        assert_eq!(cell.verdict(), "6 UNSTEADY");
        cell.rounds.truncate(1);
        cell.faults = vec![None];
        assert_eq!(cell.verdict(), "1");
    }

    #[test]
    fn a_window_survives_the_round_trip_through_json() {
        let window = window(12.0, 5.0);
        let json = serde_json::to_string(&window).unwrap();
        assert_eq!(serde_json::from_str::<Window>(&json).unwrap(), window);
    }
}
