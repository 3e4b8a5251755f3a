//! What came of it: the figures, their bounds, and the log.

use std::collections::HashMap;
use std::time::Duration;

use super::crowd::Seen;
use super::honest::Told;
use super::site::Metrics;
use super::watch::Taken;
use super::{REASONS, Soak};

/// What the program takes with no connection: its code, two workers' stacks and
/// pools, three small files in memory, and lines of the log that wait for its
/// thread (16 MiB at most). 6 MiB are seen.
const RESIDENT_ALONE: u64 = 32 << 20;

/// What one connection may take of the process: its entry in the reactor, its
/// task, its timer, and while it has a request under way the boxed exchange.
/// 1.5 KiB are seen, most of them idle.
const RESIDENT_EACH: u64 = 3 << 10;

/// Bytes of one connection that its socket holds and its peer has not, and as
/// many that the peer's has and nobody reads: the bound of what is unsent, a
/// receive window, and what splice had in its pipe. 90 to 280 KiB are seen.
const UNSENT_EACH: u64 = 1 << 20;

const PAGE: u64 = 4096;

fn quantile(times: &[Duration], part: f64) -> Duration {
    let at = ((times.len() as f64 * part) as usize).min(times.len().saturating_sub(1));
    times.get(at).copied().unwrap_or_default()
}

const MIB: f64 = (1 << 20) as f64;

impl Soak<'_> {
    pub(super) fn print(&self, told: &[Told], most: Taken, after: Taken, seen: Seen) {
        let mut times: Vec<_> = told.iter().flat_map(|told| told.times.iter().copied()).collect();
        times.sort_unstable();
        let large = told.iter().flat_map(|told| told.large.iter().copied());
        let asked: u64 = told.iter().map(|told| told.asked).sum();
        let connections: u64 = told.iter().map(|told| told.connections).sum();
        let anew: u64 = told.iter().map(|told| told.asked_anew).sum();
        let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / MIB);
        let pages = |pages: u64| format!("{pages} pages ({})", mib(pages * PAGE));
        let before = self.before;
        println!("connections open      {} at most, of {} descriptors", self.open, self.limit);
        println!(
            "turned away           {} (could not connect: {})",
            seen.turned_away, seen.refused
        );
        println!("let go by the server  {}", seen.let_go);
        println!("half-closed           {} whole, {} not", seen.whole, seen.short);
        println!("ended early           {:?}", self.ended);
        let (reloads, refused) = (self.site.reloads, self.site.refused);
        println!("reloads               {reloads}, and {refused} refused");
        println!("log rotations         {}", self.site.rotations());
        println!("upgrades              {}", self.site.upgrades);
        println!("drains                {:.1?}", self.drains);
        println!("honest requests       {asked} on {connections} connections, {anew} asked anew");
        let (half, most_of) = (quantile(&times, 0.5), quantile(&times, 0.99));
        let longest = times.last().copied().unwrap_or_default();
        println!("honest latency        p50 {half:.1?}, p99 {most_of:.1?}, max {longest:.1?}");
        println!("  of 16 MiB           max {:.1?}", large.max().unwrap_or_default());
        for (name, taken) in [("before", before), ("most", most), ("after", after)] {
            println!(
                "{name:<7} descriptors {}, resident {}, threads {}, ends of pipes {}, unsent {}, \
                 kernel's TCP memory {}",
                taken.descriptors,
                mib(taken.resident),
                taken.threads,
                taken.pipes,
                mib(taken.unsent),
                pages(taken.pages),
            );
        }
    }

    /// Everything is bounded, and nobody honest was harmed.
    pub(super) fn check(&self, told: &[Told], most: Taken, after: Taken, metrics: &Metrics) {
        let mut times: Vec<_> = told.iter().flat_map(|told| told.times.iter().copied()).collect();
        times.sort_unstable();
        assert!(quantile(&times, 0.99) < Duration::from_secs(2), "slow for honest clients");
        for reason in ["offence", "unread", "exhausted"] {
            assert!(self.ended[reason] > 0, "{reason}: {:?}", self.ended);
        }
        assert!(self.ended["gone"] + self.ended["network"] > 0, "{:?}", self.ended);
        assert_eq!(self.ended["ours"], 0, "no file changes");
        assert!(REASONS.iter().all(|reason| self.ended.contains_key(reason)));
        // Only the end of a process may close a kept connection without a word.
        let anew: u64 = told.iter().map(|told| told.asked_anew).sum();
        assert!(anew <= told.len() as u64 * self.site.upgrades as u64, "{anew} asked anew");
        let honest: u64 = told.iter().map(|told| told.asked).sum();
        let (answers, since) = (metrics.answers(), honest - self.earlier);
        // Those that were under way when the figures were read are not in them.
        assert!(answers + told.len() as u64 * 100 >= since, "{answers} answers of {since}");

        let connections = self.limit;
        assert!(most.descriptors <= self.limit);
        let resident = RESIDENT_ALONE + RESIDENT_EACH * connections;
        assert!(most.resident <= resident, "{} bytes resident, of {resident}", most.resident);
        let readers = self.sizes.never + self.sizes.slow + self.sizes.reset;
        let unsent = UNSENT_EACH * readers;
        assert!(most.unsent <= unsent, "{} bytes unsent, of {unsent}", most.unsent);
        // Both ends of a connection are on this machine.
        let pages = self.before.pages + 2 * unsent / PAGE;
        assert!(most.pages <= pages, "{} pages of TCP's memory, of {pages}", most.pages);
        // While the long list of descriptors is read, each pipe may be closed and
        // another made, so that both are in it.
        let pipes = self.before.pipes + 2 * 2 * metrics.get("pipes_max");
        assert!(most.pipes <= pipes, "{} ends of pipes, of {pipes}", most.pipes);
        assert!(most.threads <= self.before.threads + 4, "{} threads", most.threads);
        assert!(after.threads <= self.before.threads + 1, "{} threads", after.threads);
    }

    /// Every honest request is in the logs, once.
    pub(super) fn logged(&self, told: &[Told]) {
        let mut found: HashMap<(usize, u64), u32> = HashMap::new();
        for log in self.site.logs() {
            let text = std::fs::read_to_string(log).unwrap();
            for line in text.lines() {
                assert!(line.starts_with('{') && line.ends_with('}'), "`{line}`");
                let Some((_, rest)) = line.split_once("?honest=") else { continue };
                let (client, number) = rest.split_once('.').unwrap().0.split_once('-').unwrap();
                let id = (client.parse().unwrap(), number.parse().unwrap());
                *found.entry(id).or_default() += 1;
            }
        }
        let asked: u64 = told.iter().map(|told| told.asked).sum();
        for told in told {
            for number in 0..told.asked {
                let lines = found.get(&(told.client, number)).copied().unwrap_or(0);
                assert_eq!(lines, 1, "lines of request {number} of client {}", told.client);
            }
        }
        assert_eq!(found.len() as u64, asked, "no other");
    }
}
