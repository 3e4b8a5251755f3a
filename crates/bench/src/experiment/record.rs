//! What is kept of a run: the lines of `rounds.jsonl`.

use serde::{Deserialize, Serialize};

use super::workload::Unit;
use crate::client::{Churned, IdleMemory, Load};
use crate::harness::calls::Calls;

/// A line of `rounds.jsonl`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub(super) enum Record {
    Load {
        network: String,
        workload: String,
        server: String,
        round: usize,
        /// Why the round does not count.
        fault: Option<String>,
        unit: Unit,
        /// Busy time of the server's core, by `unit`.
        cost: f64,
        load: Box<Load>,
    },
    Calls {
        server: String,
        connections: usize,
        requests: u64,
        calls: Calls,
    },
    Cycles {
        server: String,
        cycles: u64,
        requests: u64,
    },
    Idle {
        server: String,
        memory: IdleMemory,
    },
    /// A configuration of so many sites, read and checked.
    Check {
        by: String,
        sites: u32,
        seconds: Vec<f64>,
    },
    /// Reloads and an upgrade, and what clients saw of them.
    Operation {
        reloads: u32,
        reload_ms: Vec<f64>,
        upgraded: bool,
        saw: Churned,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::cell::tests::load;
    use crate::harness::round::Fault;

    #[test]
    fn a_record_survives_the_round_trip_through_json() {
        let load = load(7);
        let record = Record::Load {
            network: "lo".to_owned(),
            workload: "1KiB-64".to_owned(),
            server: "nginx".to_owned(),
            round: 1,
            fault: Some(Fault::Moved.to_string()),
            unit: Unit::Request,
            cost: 8.5,
            load: Box::new(load),
        };
        let json = serde_json::to_string(&record).unwrap();
        assert!(json.contains(r#""kind":"load""#));
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
    }
}
