//! What is asked of whom in this experiment.

use std::time::Duration;

use crate::client::Check;
use crate::experiment::contents::{Contents, GIB, HUNDRED_KIB, KIB, TEN_KIB};
use crate::experiment::session::Effort;
use crate::experiment::workload::{Unit, Workload};
use crate::floor::Way;
use crate::harness::round::Rounds;
use crate::peer::Peer;

/// All of a quick run within two minutes.
pub(super) const QUICK: Effort = Effort {
    rounds: Rounds { wanted: 6, at_most: 8 },
    warm_up: Duration::from_millis(50),
    window: Duration::from_millis(250),
};

/// All of a full run within 35 minutes, also where many rounds do not count.
pub(super) const FULL: Effort = Effort {
    rounds: Rounds { wanted: 15, at_most: 20 },
    warm_up: Duration::from_millis(60),
    window: Duration::from_millis(350),
};

/// Ours and everybody else.
const SERVERS: [Peer; 6] =
    [Peer::Sluicegate, Peer::Nginx, Peer::NginxCopy, Peer::NginxCached, Peer::Lighttpd, Peer::H2o];

/// All of them, in the order in which they are measured.
pub(super) fn workloads(quick: bool) -> Vec<Workload> {
    if quick {
        let rivals = [Peer::Sluicegate, Peer::Nginx, Peer::Lighttpd, Peer::H2o];
        let floors = |ways: &[Way]| ways.iter().copied().map(Peer::Floor).collect::<Vec<_>>();
        let first = |ways| [vec![Peer::Sluicegate, Peer::Nginx], floors(ways)].concat();
        return vec![
            workload(KIB, 64, first(&[Way::Epoll])),
            workload(TEN_KIB, 64, rivals.to_vec()),
            workload(HUNDRED_KIB, 64, rivals.to_vec()),
            workload(GIB, 1, first(&[Way::Sendfile, Way::Splice])),
        ];
    }
    let mut workloads = Vec::new();
    let small: [(Contents, &[Way]); 3] = [
        (KIB, &[Way::Epoll]),
        (TEN_KIB, &[Way::Epoll, Way::Sendfile]),
        (HUNDRED_KIB, &[Way::Epoll, Way::Sendfile, Way::Splice]),
    ];
    let large: &[Way] = &[Way::Sendfile, Way::Splice, Way::SendfileCork, Way::SpliceCork];
    let everybody = |ways: &[Way]| {
        SERVERS.into_iter().chain(ways.iter().copied().map(Peer::Floor)).collect::<Vec<_>>()
    };
    for (contents, floors) in small {
        for connections in [64, 8, 1] {
            workloads.push(workload(contents, connections, everybody(floors)));
        }
    }
    workloads.push(workload(GIB, 1, everybody(large)));
    // h2o serves one download after another: some of eight get nothing in a whole window.
    let mut in_turn = everybody(large);
    in_turn.retain(|&peer| peer != Peer::H2o);
    workloads.push(workload(GIB, 8, in_turn));
    workloads
}

/// 1 KiB, of which calls and memory are counted.
pub(super) fn small(connections: usize) -> Workload {
    workload(KIB, connections, Vec::new())
}

fn workload(contents: Contents, connections: usize, peers: Vec<Peer>) -> Workload {
    let (check, unit) = match contents {
        KIB => (Check::Whole, Unit::Request),
        GIB => (Check::Sampled, Unit::Gib),
        _ => (Check::Edges, Unit::Request),
    };
    let name = format!("{}-{connections}", contents.label());
    Workload { name, contents, files: None, connections, check, unit, peers }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_quick_run_is_a_part_of_a_full_one() {
        let full = workloads(false);
        for quick in workloads(true) {
            let same = full.iter().find(|workload| workload.name == quick.name).unwrap();
            assert!(quick.peers.iter().all(|peer| same.peers.contains(peer)), "{}", quick.name);
        }
    }

    #[test]
    fn workloads_have_names_of_their_own() {
        let workloads = workloads(false);
        let names: BTreeSet<&str> = workloads.iter().map(|workload| &*workload.name).collect();
        assert_eq!(names.len(), workloads.len());
        assert!(names.contains("100KiB-8") && names.contains("1GiB-1"));
    }
}
