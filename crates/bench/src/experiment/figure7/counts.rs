//! What is counted rather than measured: packets and system calls of an answer.

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::packets::{Packets, mss};
use super::workload::{COUNTED, SIZES, Series, Size};
use crate::client::Load;
use crate::experiment::session::{CLIENT_LIMIT, Session, load_of, void};
use crate::floor::figure7::Join;
use crate::harness::calls::{self, Calls};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;

/// Requests of which the system calls are counted, one after another on one connection.
const TRACED: &str = "2000";

/// A line of `rounds.jsonl`, beside those of the windows.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Record {
    Packets { network: String, workload: String, server: String, packets: Packets },
    Calls { workload: String, server: String, requests: u64, calls: Calls },
}

/// Packets of all ways for one size.
#[derive(Debug)]
pub(super) struct PacketsOfSize {
    pub(super) network: &'static str,
    /// The name of the series.
    pub(super) series: &'static str,
    pub(super) size: Size,
    /// The least that can carry the answer.
    pub(super) least: u64,
    /// In the order of [`Join::ALL`].
    pub(super) packets: Vec<Packets>,
}

/// System calls of one way.
#[derive(Debug)]
pub(super) struct CallsOfWay {
    pub(super) size: Size,
    pub(super) join: Join,
    pub(super) requests: u64,
    pub(super) calls: Calls,
}

/// Asks a server of each way.
pub(super) fn packets(
    session: &mut Session,
    network: &Network,
    series: &Series,
    size: Size,
) -> Result<PacketsOfSize> {
    let mut all = Vec::new();
    let workload = series.workload(size);
    for join in Join::ALL {
        interrupt::check()?;
        let server = session.start(network, series.peer(join), workload.contents)?;
        let packets = Packets::count(network, server.address, workload.contents);
        let packets = packets.with_context(|| void(&server))?;
        session.run.record(&Record::Packets {
            network: network.name().to_owned(),
            workload: workload.name.clone(),
            server: server.peer.to_string(),
            packets: packets.clone(),
        })?;
        all.push(packets);
    }
    let least = all.first().map_or(0, |packets| packets.least(mss(network)));
    let (network, series) = (network.name(), series.name);
    Ok(PacketsOfSize { network, series, size, least, packets: all })
}

/// System calls for each request, over loopback. A server is started for each count, because
/// the count ends with it.
pub(super) fn calls(session: &mut Session, series: &Series) -> Result<Vec<CallsOfWay>> {
    let mut counts = Vec::new();
    if !calls::can_count() {
        session.skip("system calls: there is no strace".to_owned());
        return Ok(counts);
    }
    let network = Network::Loopback;
    for size in SIZES.into_iter().filter(|size| COUNTED.contains(&size.content)) {
        let workload = series.workload(size);
        for join in Join::ALL {
            interrupt::check()?;
            let server = session.start(&network, series.peer(join), workload.contents)?;
            session.run.progress(&format!("{join}: counting calls for {}", size.name()));
            let plan = ["--connections", "1", "--check", "whole", "--requests", TRACED];
            let client = load_of(&network, &server, &workload, &plan)?;
            let mut requests = 0;
            let counted = calls::count(server.child, || {
                requests = answer_of::<Load>(client, CLIENT_LIMIT)?.requests;
                Ok(())
            });
            let calls = counted.with_context(|| format!("cannot count calls of {join}"))?;
            session.run.record(&Record::Calls {
                workload: workload.name.clone(),
                server: join.to_string(),
                requests,
                calls: calls.clone(),
            })?;
            counts.push(CallsOfWay { size, join, requests, calls });
        }
    }
    Ok(counts)
}

impl CallsOfWay {
    /// For each request.
    pub(super) fn total(&self) -> f64 {
        self.calls.values().sum::<u64>() as f64 / self.requests as f64
    }

    /// Those that matter, the most frequent first.
    pub(super) fn breakdown(&self) -> String {
        let each = |count: u64| count as f64 / self.requests as f64;
        let mut parts: Vec<(&String, f64)> =
            self.calls.iter().map(|(name, &count)| (name, each(count))).collect();
        parts.retain(|(_, each)| *each >= 0.01);
        parts.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let parts: Vec<String> =
            parts.iter().map(|(name, each)| format!("{name} {each:.2}")).collect();
        parts.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_told_by_request_and_rare_ones_left_out() {
        let calls = [("sendto", 2000), ("recvfrom", 2100), ("brk", 3)];
        let calls = calls.map(|(name, count)| (name.to_owned(), count)).into();
        let of = CallsOfWay { size: SIZES[0], join: Join::More, requests: 2000, calls };
        assert_eq!(of.breakdown(), "recvfrom 1.05, sendto 1.00");
        assert!((of.total() - 2.0515).abs() < 1e-9);
    }

    #[test]
    fn a_record_survives_the_round_trip_through_json() {
        let packets = Packets { bytes: 1300, segments: 1.0, most: 2, frames: None };
        let (network, workload, server) = ("lo".into(), "head 1 KiB".into(), "more".into());
        let record = Record::Packets { network, workload, server, packets };
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains(r#""kind":"packets""#));
        assert!(matches!(serde_json::from_str(&json).unwrap(), Record::Packets { .. }));
    }
}
