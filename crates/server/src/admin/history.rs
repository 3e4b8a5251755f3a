//! Rates, from what was counted a while ago.
//!
//! Pure: no clock. Counts are read while others count, so one sample's need not
//! fit together to the last unit, and a difference is never negative.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;

/// Samples that are kept: those of a minute, one at its beginning, and some
/// more, since a loaded host has them come late but never early.
const KEPT: usize = 64;

/// The pause between two samples.
pub(super) const EVERY: Duration = Duration::from_secs(1);

/// The longest time that is looked back.
pub(super) const WINDOW: Duration = Duration::from_secs(60);

/// The counts of one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) at: Instant,
    pub(super) requests: u64,
    pub(super) bytes: u64,
    pub(super) accepted: u64,
    /// Not a count: open connections at that moment.
    pub(super) open: u64,
    pub(super) cpu: Duration,
}

/// What there was in each second, on an average over some time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Rates {
    /// The time over which they are taken: shorter than asked for while the
    /// program is young, a little longer on a loaded host.
    pub(super) over_seconds: f64,
    pub(super) requests_per_second: f64,
    pub(super) bytes_per_second: f64,
    pub(super) connections_per_second: f64,
    /// Processors that were busy with us: 1.0 is all of one.
    pub(super) cpu: f64,
}

/// One point of the last minute.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// How long it is over.
    pub(super) seconds_ago: f64,
    /// Connections that were open then.
    pub(super) connections_open: u64,
    /// Of the time since the point before.
    #[serde(flatten)]
    pub(super) rates: Rates,
}

/// The samples of the last minute.
#[derive(Debug, Default)]
pub(super) struct History {
    samples: VecDeque<Sample>,
}

impl History {
    /// The next sample. One that is no later than the last is left out.
    pub(super) fn push(&mut self, sample: Sample) {
        if self.samples.back().is_some_and(|last| last.at >= sample.at) {
            return;
        }
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    /// Rates over about the last `window`; `None` before there are two samples.
    pub(super) fn rates(&self, window: Duration) -> Option<Rates> {
        let last = self.samples.back()?;
        // Samples may come a little early against one that came late.
        let least = window.saturating_sub(EVERY / 2);
        let old_enough = |sample: &&Sample| last.at.duration_since(sample.at) >= least;
        let first = self.samples.iter().rev().find(old_enough).or(self.samples.front())?;
        between(first, last)
    }

    /// The last minute, oldest first, as seen at `now`.
    pub(super) fn points(&self, now: Instant) -> Vec<Point> {
        let pairs = self.samples.iter().zip(self.samples.iter().skip(1));
        let point = |(first, last): (&Sample, &Sample)| {
            let ago = now.saturating_duration_since(last.at);
            (ago < WINDOW).then_some(())?;
            Some(Point {
                seconds_ago: ago.as_secs_f64(),
                connections_open: last.open,
                rates: between(first, last)?,
            })
        };
        pairs.filter_map(point).collect()
    }
}

fn between(first: &Sample, last: &Sample) -> Option<Rates> {
    let over_seconds = last.at.saturating_duration_since(first.at).as_secs_f64();
    if over_seconds <= 0.0 {
        return None;
    }
    let rate =
        |count: fn(&Sample) -> u64| count(last).saturating_sub(count(first)) as f64 / over_seconds;
    Some(Rates {
        over_seconds,
        requests_per_second: rate(|sample| sample.requests),
        bytes_per_second: rate(|sample| sample.bytes),
        connections_per_second: rate(|sample| sample.accepted),
        cpu: last.cpu.saturating_sub(first.cpu).as_secs_f64() / over_seconds,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(start: Instant, millis: u64, requests: u64) -> Sample {
        Sample {
            at: start + Duration::from_millis(millis),
            requests,
            bytes: requests * 100,
            accepted: requests / 10,
            open: requests % 7,
            cpu: Duration::from_micros(requests * 10),
        }
    }

    fn seconds(history: &History, seconds: u64) -> Option<(f64, f64)> {
        let rates = history.rates(Duration::from_secs(seconds))?;
        Some((rates.over_seconds, rates.requests_per_second))
    }

    #[test]
    fn rates_are_those_of_their_window() {
        let start = Instant::now();
        let mut history = History::default();
        assert_eq!(seconds(&history, 1), None);
        // 10 a second for 50 s, then 1,000 a second.
        let mut requests = 0;
        history.push(sample(start, 0, 0));
        assert_eq!(seconds(&history, 1), None, "one sample is no difference");
        for second in 1..=200_u64 {
            requests += if second > 195 { 1000 } else { 10 };
            history.push(sample(start, second * 1000, requests));
        }
        assert_eq!(seconds(&history, 1), Some((1.0, 1000.0)));
        assert_eq!(seconds(&history, 10), Some((10.0, 505.0)));
        assert_eq!(seconds(&history, 60), Some((60.0, 92.5)));
        let rates = history.rates(EVERY).unwrap();
        assert_eq!((rates.bytes_per_second, rates.connections_per_second), (100_000.0, 100.0));
        assert!((rates.cpu - 0.01).abs() < 1e-9);
        assert_eq!(history.samples.len(), KEPT);
        let points = history.points(start + Duration::from_millis(200_500));
        assert_eq!(points.len(), 60);
        assert_eq!((points[0].seconds_ago, points[59].seconds_ago), (59.5, 0.5));
        assert_eq!(points[59].rates.requests_per_second, 1000.0);
        assert_eq!(points[0].rates.requests_per_second, 10.0);
    }

    #[test]
    fn a_young_program_has_rates_over_what_there_is() {
        let start = Instant::now();
        let mut history = History::default();
        for second in 0..=3 {
            history.push(sample(start, second * 1000, second * 20));
        }
        assert_eq!(seconds(&history, 60), Some((3.0, 20.0)));
        assert_eq!(seconds(&history, 1), Some((1.0, 20.0)));
    }

    #[test]
    fn samples_that_come_late_or_twice_make_no_wrong_rate() {
        let start = Instant::now();
        let mut history = History::default();
        history.push(sample(start, 0, 0));
        // A host that had other things to do for four seconds.
        history.push(sample(start, 5000, 500));
        history.push(sample(start, 5000, 600));
        history.push(sample(start, 4000, 700));
        assert_eq!(seconds(&history, 1), Some((5.0, 100.0)));
        // The next one is back in time, so it comes less than a second after.
        history.push(sample(start, 5800, 580));
        assert_eq!(seconds(&history, 1), Some((0.8, 100.0)));
        // Counts that went back, which they cannot, are no rate.
        history.push(sample(start, 7000, 0));
        assert_eq!(seconds(&history, 1), Some((1.2, 0.0)));
    }
}
