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
    rounds: Rounds { wanted: 5, at_most: 6 },
    warm_up: Duration::from_millis(30),
    window: Duration::from_millis(200),
};

/// All of a full run within 20 minutes, also where many rounds do not count.
pub(super) const FULL: Effort = Effort {
    rounds: Rounds { wanted: 11, at_most: 14 },
    warm_up: Duration::from_millis(60),
    window: Duration::from_millis(300),
};

/// Ours and everybody else.
const SERVERS: [Peer; 8] = [
    Peer::Sluicegate,
    Peer::Nginx,
    Peer::NginxCopy,
    Peer::NginxCached,
    Peer::Lighttpd,
    Peer::H2o,
    Peer::Apache,
    Peer::Caddy,
];

/// What is appended to the name of a workload whose servers write logs.
pub(super) const LOGGED: &str = "-log";

/// All of them, in the order in which they are measured; those whose servers write logs, or the
/// others.
pub(super) fn workloads(quick: bool, logs: bool) -> Vec<Workload> {
    let small: [(Contents, &[Way]); 3] = [
        (KIB, &[Way::Epoll]),
        (TEN_KIB, &[Way::Epoll, Way::Sendfile]),
        (HUNDRED_KIB, &[Way::Epoll, Way::Sendfile]),
    ];
    let mut workloads = Vec::new();
    for (contents, floors) in small {
        // Of the others, one shows the log of everybody.
        if quick && logs && contents != KIB {
            continue;
        }
        let connections: &[usize] = if quick { &[64] } else { &[64, 8, 1] };
        for &connections in connections {
            let mut servers = servers(floors, logs);
            if quick && contents != KIB {
                servers.retain(|peer| !HEAVY.contains(peer));
            }
            workloads.push(workload(contents, connections, servers, logs));
        }
    }
    let mut large = servers(&[Way::Sendfile, Way::Splice], logs);
    // It would keep its one file open, and a GiB takes one look.
    large.retain(|&peer| peer != Peer::NginxCached);
    if quick && logs {
        return workloads;
    }
    if quick {
        large.retain(|peer| matches!(peer, Peer::Sluicegate | Peer::Nginx | Peer::Floor(_)));
        workloads.push(workload(GIB, 1, large, logs));
        return workloads;
    }
    workloads.push(workload(GIB, 1, large.clone(), logs));
    // h2o serves one download after another: some of eight get nothing in a whole window.
    large.retain(|&peer| peer != Peer::H2o);
    workloads.push(workload(GIB, 8, large, logs));
    workloads
}

/// Those that a quick run asks for 1 KiB alone.
const HEAVY: [Peer; 4] = [Peer::NginxCopy, Peer::NginxCached, Peer::Apache, Peer::Caddy];

fn servers(floors: &[Way], logs: bool) -> Vec<Peer> {
    let mut servers: Vec<Peer> =
        SERVERS.into_iter().chain(floors.iter().copied().map(Peer::Floor)).collect();
    if logs {
        // What a cache of files saves is known without a log.
        servers.retain(|&peer| peer != Peer::NginxCached);
        servers.insert(2, Peer::NginxLine);
    }
    servers
}

/// Whether a workload is measured over a network where nobody asked for it by its whole name.
pub(super) fn is_usual(workload: &Workload, network: &str, quick: bool) -> bool {
    let is_large = workload.contents == GIB;
    if is_large {
        // A line for a GiB costs nothing that could be measured.
        return !workload.logs;
    }
    let in_short = network == "lo" || (workload.contents == KIB && !workload.logs);
    workload.connections == 64 && (!quick || in_short)
}

/// 1 KiB, of which calls and memory are counted.
pub(super) fn small(connections: usize) -> Workload {
    workload(KIB, connections, Vec::new(), false)
}

fn workload(contents: Contents, connections: usize, peers: Vec<Peer>, logs: bool) -> Workload {
    let (check, unit) = match contents {
        KIB => (Check::Whole, Unit::Request),
        GIB => (Check::Sampled, Unit::Gib),
        _ => (Check::Edges, Unit::Request),
    };
    let logged = if logs { LOGGED } else { "" };
    let name = format!("{}-{connections}{logged}", contents.label());
    Workload { name, contents, files: None, connections, check, unit, peers, logs }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn a_quick_run_is_a_part_of_a_full_one() {
        for logs in [false, true] {
            let full = workloads(false, logs);
            for quick in workloads(true, logs) {
                let same = full.iter().find(|workload| workload.name == quick.name).unwrap();
                assert!(quick.peers.iter().all(|peer| same.peers.contains(peer)), "{}", quick.name);
            }
        }
    }

    #[test]
    fn workloads_have_names_of_their_own() {
        let workloads = [workloads(false, false), workloads(false, true)].concat();
        let names: BTreeSet<&str> = workloads.iter().map(|workload| &*workload.name).collect();
        assert_eq!(names.len(), workloads.len());
        assert!(names.contains("100KiB-8") && names.contains("1GiB-1"));
        assert!(names.contains("1KiB-64-log"));
    }

    #[test]
    fn the_usual_ones_are_those_of_the_goals() {
        let all = [workloads(false, false), workloads(false, true)].concat();
        let usual = all.iter().filter(|workload| is_usual(workload, "veth", false));
        let names: Vec<&str> = usual.map(|workload| &*workload.name).collect();
        let logged = ["1KiB-64-log", "10KiB-64-log", "100KiB-64-log"];
        let others = ["1KiB-64", "10KiB-64", "100KiB-64", "1GiB-1", "1GiB-8"];
        assert_eq!(names, [&others[..], &logged[..]].concat());
    }
}
