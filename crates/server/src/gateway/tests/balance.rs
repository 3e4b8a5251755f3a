//! Whom a balance chooses: properties of turns, of the fewest connections, and of
//! the ring.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::atomic::AtomicU64;

use proptest::prelude::*;
use sluicegate::Target;

use super::super::balance::{Ask, Choice, Member, Members, Now};
use super::super::server::Server;
use super::*;

/// Members with these weights; nobody ever connects to them.
fn members(weights: &[u64], balance: Balance) -> Members {
    numbered(&weights.iter().copied().enumerate().collect::<Vec<_>>(), balance)
}

fn numbered(servers: &[(usize, u64)], balance: Balance) -> Members {
    let member = |&(number, weight): &(usize, u64)| {
        let ip = Ipv4Addr::from(0x0a00_0000 + u32::try_from(number).unwrap());
        let target = Target::Tcp(SocketAddr::new(ip.into(), 80));
        Member { server: Server::new(target, String::new()), weight, limit: None, backup: false }
    };
    Members::new(servers.iter().map(member).collect(), balance)
}

struct Asks {
    members: Members,
    turn: AtomicU64,
    ejection: Ejection,
}

impl Asks {
    fn new(members: Members) -> Self {
        let ejection = Ejection {
            failures: 1,
            pause: Duration::from_secs(10),
            slow_start: Duration::from_secs(10),
        };
        Asks { members, turn: AtomicU64::new(0), ejection }
    }

    fn choose(&self, key: u64, now: u64) -> Option<usize> {
        let tried = Tried::default();
        let now = Now::Millis(now);
        let ask = Ask { key, tried: &tried, now, ejection: &self.ejection, turn: &self.turn };
        match self.members.choose(&ask) {
            Choice::Member(index) => Some(index),
            _ => None,
        }
    }

    fn counts(&self, asks: u64, now: u64) -> Vec<u64> {
        let mut counts = vec![0; self.members.all.len()];
        for key in 0..asks {
            counts[self.choose(hash::mixed(key), now).unwrap()] += 1;
        }
        counts
    }

    fn fail(&self, index: usize, now: u64) {
        assert!(self.members.all[index].server.conduct.failed(now, &self.ejection).is_some());
    }
}

#[test]
fn turns_are_spread_evenly() {
    let asks = Asks::new(members(&[5, 1, 1], Balance::RoundRobin));
    let order: Vec<_> = (0..14).map(|_| asks.choose(0, 1).unwrap()).collect();
    assert_eq!(order, [0, 0, 1, 0, 2, 0, 0, 0, 0, 1, 0, 2, 0, 0]);
}

#[test]
fn the_turns_of_who_is_left_alone_go_to_all_others() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections] {
        let asks = Asks::new(members(&[1, 1, 1, 1], balance));
        asks.fail(1, 1000);
        assert_eq!(asks.counts(300, 1000), [100, 0, 100, 100], "{balance:?}");
        asks.fail(0, 1000);
        asks.fail(2, 1000);
        asks.fail(3, 1000);
        // All are: so all are asked.
        let counts = asks.counts(300, 1000);
        assert!(counts.iter().all(|&count| count >= 50), "{balance:?}: {counts:?}");
    }
}

#[test]
fn who_returns_gets_its_share_little_by_little() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::HashPath] {
        let share = |since: u64| {
            let asks = Asks::new(members(&[1, 1], balance));
            asks.fail(1, 1000);
            let now = 11_000 + since;
            let mut counts = [0_u64; 2];
            for key in 0..4000 {
                counts[asks.choose(hash::mixed(key), now).unwrap()] += 1;
            }
            counts[1]
        };
        let shares = [0, 2_500, 5_000, 10_000].map(share);
        assert!(shares[0] > 0 && shares[0] < 300, "{balance:?}: {shares:?}");
        assert!(shares.windows(2).all(|two| two[0] < two[1]), "{balance:?}: {shares:?}");
        assert!((1700..=2300).contains(&shares[3]), "{balance:?}: {shares:?}");
    }
}

#[test]
fn backups_are_asked_when_no_other_can_be_and_before_who_is_left_alone() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::HashClient] {
        let mut members = members(&[1, 1, 1], balance);
        members.all[2].backup = true;
        let asks = Asks::new(Members::new(members.all, balance));
        assert_eq!(asks.counts(100, 1000)[2], 0);
        asks.fail(0, 1000);
        assert_eq!(asks.counts(100, 1000), [0, 100, 0]);
        asks.fail(1, 1000);
        assert_eq!(asks.counts(100, 1000), [0, 0, 100]);
        asks.members.all[2].server.set_up(false, 1000);
        assert_eq!(asks.counts(100, 1000)[2], 0);
        asks.members.all[0].server.set_up(false, 1000);
        asks.members.all[1].server.set_up(false, 1000);
        assert_eq!(asks.choose(0, 1000), None);
    }
}

#[test]
fn a_pool_of_thousands_with_one_that_lives_still_finds_it() {
    for balance in [Balance::RoundRobin, Balance::LeastConnections, Balance::HashPath] {
        let asks = Asks::new(members(&[3; 2000], balance));
        for (index, member) in asks.members.all.iter().enumerate() {
            member.server.set_up(index == 1234, 1);
        }
        assert!((0..20).all(|key| asks.choose(key, 1) == Some(1234)));
    }
}

proptest! {
    #[test]
    fn each_gets_turns_by_its_weight(weights in proptest::collection::vec(1_u64..20, 1..12)) {
        let asks = Asks::new(members(&weights, Balance::RoundRobin));
        let sum: u64 = weights.iter().sum();
        prop_assert_eq!(asks.counts(3 * sum, 1), weights.iter().map(|w| 3 * w).collect::<Vec<_>>());
        // At no time is anybody more than a turn or so beside its share.
        let asks = Asks::new(members(&weights, Balance::RoundRobin));
        let mut counts = vec![0.0; weights.len()];
        for asked in 1..=sum {
            counts[asks.choose(0, 1).unwrap()] += 1.0;
            for (count, &weight) in counts.iter().zip(&weights) {
                let due = asked as f64 * weight as f64 / sum as f64;
                prop_assert!((count - due).abs() < 2.5, "{} of {}", count, due);
            }
        }
    }

    #[test]
    fn the_one_with_the_fewest_for_its_weight_is_chosen(
        weights in proptest::collection::vec(1_u64..20, 1..12),
        begun in proptest::collection::vec(0_u32..30, 12),
        asks_made in 1_usize..60,
    ) {
        let asks = Asks::new(members(&weights, Balance::LeastConnections));
        let all = &asks.members.all;
        for (member, &begun) in all.iter().zip(&begun) {
            (0..begun).for_each(|_| assert!(member.server.begin(None)));
        }
        for _ in 0..asks_made {
            let before: Vec<u64> = all.iter().map(|member| member.server.active().into()).collect();
            let chosen = asks.choose(0, 1).unwrap();
            for (index, &active) in before.iter().enumerate() {
                let mine = u128::from(before[chosen] + 1) * u128::from(weights[index]);
                let other = u128::from(active + 1) * u128::from(weights[chosen]);
                prop_assert!(mine <= other, "{} was better than {}", index, chosen);
            }
            prop_assert_eq!(u64::from(all[chosen].server.active()), before[chosen] + 1);
        }
    }

    #[test]
    fn a_limit_is_never_passed_and_always_reached(
        limits in proptest::collection::vec(1_u32..8, 1..8),
        balance in prop_oneof![
            Just(Balance::RoundRobin), Just(Balance::LeastConnections), Just(Balance::HashPath)
        ],
    ) {
        let mut members = members(&vec![1; limits.len()], balance);
        for (member, &limit) in members.all.iter_mut().zip(&limits) {
            member.limit = Some(limit);
        }
        let asks = Asks::new(members);
        let sum: u32 = limits.iter().sum();
        for key in 0..sum {
            prop_assert!(asks.choose(hash::mixed(key.into()), 1).is_some());
        }
        let tried = Tried::default();
        let (turn, ejection) = (&asks.turn, &asks.ejection);
        let ask = Ask { key: 0, tried: &tried, now: Now::Millis(1), ejection, turn };
        prop_assert_eq!(asks.members.choose(&ask), Choice::Busy);
        let active: Vec<u32> = asks.members.all.iter().map(|member| member.server.active()).collect();
        prop_assert_eq!(active, limits);
    }

    #[test]
    fn a_ring_moves_only_what_it_must(count in 2_usize..24, gone in 0_usize..24) {
        let gone = gone % count;
        let all: Vec<_> = (0..count).map(|number| (number, 1)).collect();
        let without: Vec<_> = all.iter().copied().filter(|&(number, _)| number != gone).collect();
        let of = |servers: &[(usize, u64)]| {
            let asks = Asks::new(numbered(servers, Balance::HashPath));
            let keys = (0..2000_u64).map(hash::mixed);
            keys.map(|key| (key, servers[asks.choose(key, 1).unwrap()].0)).collect::<HashMap<_, _>>()
        };
        let (before, after) = (of(&all), of(&without));
        let moved = before.iter().filter(|(key, number)| after[*key] != **number);
        // Only those of the one that has gone, and these are about as many as others'.
        let mut count_moved = 0;
        for (_, &number) in moved {
            prop_assert_eq!(number, gone);
            count_moved += 1;
        }
        let due = 2000 / count;
        prop_assert!(count_moved > due / 2 && count_moved < due * 2, "{} of {}", count_moved, due);
    }

    #[test]
    fn a_ring_is_shared_by_weight(weights in proptest::collection::vec(1_u64..6, 2..8)) {
        let asks = Asks::new(members(&weights, Balance::HashClient));
        let counts = asks.counts(4000, 1);
        let sum: u64 = weights.iter().sum();
        for (count, weight) in counts.iter().zip(&weights) {
            let due = 4000 * weight / sum;
            prop_assert!(*count > due / 2 && *count < due * 2, "{:?} of {:?}", counts, weights);
        }
    }
}

#[test]
fn one_address_by_two_names_is_asked_by_both() {
    for balance in [Balance::HashPath, Balance::HashClient, Balance::RoundRobin] {
        let counts = Asks::new(numbered(&[(0, 1), (0, 1), (1, 1)], balance)).counts(3000, 1);
        assert!(counts.iter().all(|count| (500..1500).contains(count)), "{balance:?}: {counts:?}");
    }
    // Who is alone at its address keeps its place.
    let alone = Asks::new(numbered(&[(0, 1), (1, 1)], Balance::HashPath));
    let beside = Asks::new(numbered(&[(0, 1), (1, 1), (1, 1)], Balance::HashPath));
    for key in (0..500).map(hash::mixed) {
        if beside.choose(key, 1) == Some(0) {
            assert_eq!(alone.choose(key, 1), Some(0), "{key}");
        }
    }
}
