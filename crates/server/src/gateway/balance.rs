//! Which server is asked: servers of a pool in two tiers, each with a plan that is
//! made once and then only read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::ejection::{FULL, Share};
use super::hash;
use super::obtain::Tried;
use super::server::{Server, millis};
use crate::config::{self, Balance};

/// Turns of a schedule at most: beyond that weights are rounded.
const TURNS: u64 = 16 * 1024;

/// Points that a server of average weight has on a ring: shares are then even to
/// about a twelfth.
const POINTS: u64 = 160;

/// A server as its pool has it.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) server: Arc<Server>,
    /// Against those of the others; addresses of one name share theirs.
    pub(super) weight: u64,
    pub(super) limit: Option<u32>,
    pub(super) backup: bool,
}

/// The servers of a pool at one time.
#[derive(Debug)]
pub(super) struct Members {
    pub(super) all: Vec<Member>,
    primaries: Tier,
    backups: Tier,
}

/// Indices of members, and how one of them is found.
#[derive(Debug)]
struct Tier {
    members: Vec<u32>,
    plan: Plan,
}

#[derive(Debug)]
enum Plan {
    /// Whose turn it is, one after another.
    Turns(Vec<u32>),
    Least,
    /// Points in order, and whose they are.
    Ring(Vec<(u64, u32)>),
}

/// What one request asks for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ask<'a> {
    /// What a hash goes by.
    pub(super) key: u64,
    pub(super) tried: &'a Tried,
    pub(super) now: Now,
    pub(super) ejection: &'a config::Ejection,
    /// Counts turns, of all workers.
    pub(super) turn: &'a AtomicU64,
}

/// When it is: a server that was never left alone does not ask.
#[derive(Clone, Copy, Debug)]
pub(super) enum Now {
    At(Instant),
    /// [`super::server::millis`].
    Millis(u64),
}

impl Now {
    #[inline]
    pub(super) fn millis(self) -> u64 {
        match self {
            Now::At(now) => millis(now),
            Now::Millis(now) => now,
        }
    }
}

/// What comes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This member; the request is counted there.
    Member(usize),
    /// All that could be asked are at their limit.
    Busy,
    /// Nobody can be asked.
    Nobody,
}

/// Why a member is not asked.
enum Not {
    Possible,
    Full,
}

impl Members {
    pub(super) fn new(all: Vec<Member>, balance: Balance) -> Self {
        let tier = |backup| {
            let of_tier = |&index: &u32| all[index as usize].backup == backup;
            let count = u32::try_from(all.len()).unwrap_or(u32::MAX);
            let members: Vec<u32> = (0..count).filter(of_tier).collect();
            let plan = Plan::new(balance, &members, &all);
            Tier { members, plan }
        };
        let (primaries, backups) = (tier(false), tier(true));
        Members { all, primaries, backups }
    }

    pub(super) fn servers(&self) -> Vec<Arc<Server>> {
        self.all.iter().map(|member| Arc::clone(&member.server)).collect()
    }

    /// Chooses a server and counts the request there.
    pub(super) fn choose(&self, ask: &Ask<'_>) -> Choice {
        let mut is_busy = false;
        // Who is left alone is asked when there is nobody else.
        for spares_ejected in [true, false] {
            for tier in [&self.primaries, &self.backups] {
                match self.choose_in(tier, ask, spares_ejected) {
                    Choice::Busy => is_busy = true,
                    Choice::Nobody => {}
                    chosen @ Choice::Member(_) => return chosen,
                }
            }
            if is_busy {
                return Choice::Busy;
            }
        }
        Choice::Nobody
    }

    fn choose_in(&self, tier: &Tier, ask: &Ask<'_>, spares_ejected: bool) -> Choice {
        if tier.members.is_empty() {
            return Choice::Nobody;
        }
        let try_one = |index: u32, luck: u64| self.try_one(index, ask, spares_ejected, luck);
        match &tier.plan {
            // Nobody else would have the turn, so nobody counts it.
            Plan::Turns(turns) if turns.len() == 1 => match try_one(turns[0], 0) {
                Ok(()) => Choice::Member(turns[0] as usize),
                Err(Not::Full) => Choice::Busy,
                Err(Not::Possible) => Choice::Nobody,
            },
            Plan::Turns(turns) => {
                // Who cannot be asked loses the turn, so that all others get it
                // in turn. Past the bound somebody with a rare turn is looked for.
                for _ in 0..2 * tier.members.len().min(64) {
                    let turn = ask.turn.fetch_add(1, Ordering::Relaxed);
                    let at = usize::try_from(turn % turns.len() as u64).unwrap_or(0);
                    if try_one(turns[at], hash::mixed(turn)).is_ok() {
                        return Choice::Member(turns[at] as usize);
                    }
                }
                self.draw(tier, ask, spares_ejected)
            }
            Plan::Least => self.least(tier, ask, spares_ejected),
            Plan::Ring(points) => {
                let luck = hash::mixed(ask.turn.fetch_add(1, Ordering::Relaxed));
                let first = points.partition_point(|point| point.0 < ask.key);
                let (before, from) = points.split_at(first);
                let chosen = from.iter().chain(before).find(|at| try_one(at.1, luck).is_ok());
                match chosen {
                    Some(&(_, index)) => Choice::Member(index as usize),
                    // Those with a part of their share may have had no luck.
                    None => self.draw(tier, ask, spares_ejected),
                }
            }
        }
    }

    /// Counts the request at a member, if that can be asked. One that has only a
    /// part of its share needs `luck`.
    #[inline]
    fn try_one(
        &self,
        index: u32,
        ask: &Ask<'_>,
        spares_ejected: bool,
        luck: u64,
    ) -> Result<(), Not> {
        let member = &self.all[index as usize];
        let share = member.share(ask, spares_ejected);
        if share == 0 || luck % u64::from(FULL) >= u64::from(share) {
            return Err(Not::Possible);
        }
        if member.server.begin(member.limit) { Ok(()) } else { Err(Not::Full) }
    }

    /// Any of those that can be asked, as often as its weight says.
    fn draw(&self, tier: &Tier, ask: &Ask<'_>, spares_ejected: bool) -> Choice {
        let of = |&index: &u32| {
            let member = &self.all[index as usize];
            member.weight * u64::from(member.share(ask, spares_ejected))
        };
        let sum: u64 = tier.members.iter().map(of).sum();
        if sum == 0 {
            return Choice::Nobody;
        }
        let mut drawn = hash::mixed(ask.turn.fetch_add(1, Ordering::Relaxed)) % sum;
        let first = tier.members.iter().position(|index| {
            let before = drawn;
            drawn = drawn.saturating_sub(of(index));
            before < of(index)
        });
        let (before, from) = tier.members.split_at(first.unwrap_or(0));
        let mut is_busy = false;
        for index in from.iter().chain(before) {
            if of(index) == 0 {
                continue;
            }
            match self.try_one(*index, ask, spares_ejected, 0) {
                Ok(()) => return Choice::Member(*index as usize),
                Err(Not::Full) => is_busy = true,
                Err(Not::Possible) => {}
            }
        }
        if is_busy { Choice::Busy } else { Choice::Nobody }
    }

    /// The one with the fewest requests for its weight and share.
    fn least(&self, tier: &Tier, ask: &Ask<'_>, spares_ejected: bool) -> Choice {
        // Equals take turns.
        let turn = ask.turn.fetch_add(1, Ordering::Relaxed);
        let start = usize::try_from(turn % tier.members.len() as u64).unwrap_or(0);
        let (before, from) = tier.members.split_at(start);
        let mut is_busy = false;
        // Somebody else may take the room between the look and the try.
        for _ in 0..4 {
            let mut best: Option<(u32, u64, u64)> = None;
            is_busy = false;
            for &index in from.iter().chain(before) {
                let member = &self.all[index as usize];
                let weight = member.weight * u64::from(member.share(ask, spares_ejected));
                if weight == 0 {
                    continue;
                }
                let active = member.server.active();
                if member.limit.is_some_and(|limit| active >= limit) {
                    is_busy = true;
                    continue;
                }
                let load = u64::from(active) + 1;
                // load / weight < best load / best weight
                if best.is_none_or(|(_, other, other_weight)| {
                    u128::from(load) * u128::from(other_weight)
                        < u128::from(other) * u128::from(weight)
                }) {
                    best = Some((index, load, weight));
                }
            }
            let Some((index, ..)) = best else { break };
            let member = &self.all[index as usize];
            if member.server.begin(member.limit) {
                return Choice::Member(index as usize);
            }
            is_busy = true;
        }
        if is_busy { Choice::Busy } else { Choice::Nobody }
    }
}

impl Member {
    /// Of [`FULL`]; 0 where it is not to be asked.
    #[inline]
    fn share(&self, ask: &Ask<'_>, spares_ejected: bool) -> u32 {
        if !self.server.is_up() || ask.tried.has(self.server.id) {
            return 0;
        }
        match self.server.share(ask.now, ask.ejection) {
            Share::Of(share) => share,
            Share::Ejected if spares_ejected => 0,
            Share::Ejected => FULL,
        }
    }
}

impl Plan {
    fn new(balance: Balance, members: &[u32], all: &[Member]) -> Plan {
        let weights: Vec<u64> = members.iter().map(|&index| all[index as usize].weight).collect();
        match balance {
            Balance::RoundRobin => {
                let turns = turns(&weights);
                Plan::Turns(turns.into_iter().map(|at| members[at]).collect())
            }
            Balance::LeastConnections => Plan::Least,
            Balance::HashClient | Balance::HashPath => {
                let name = |&index: &u32| all[index as usize].server.name.as_ref();
                let names: Vec<&str> = members.iter().map(name).collect();
                let points = points(&names, &weights);
                Plan::Ring(points.into_iter().map(|(at, whose)| (at, members[whose])).collect())
            }
        }
    }
}

/// Whose turn it is, so that each has turns by its weight, spread as evenly as can
/// be: the one furthest behind its share is next (the smooth weighted round robin
/// of nginx). Indices of `weights`.
fn turns(weights: &[u64]) -> Vec<usize> {
    let divisor = weights.iter().copied().fold(0, greatest_common_divisor).max(1);
    let sum: u64 = weights.iter().map(|weight| weight / divisor).sum();
    let turns_of = |&weight: &u64| {
        let weight = weight / divisor;
        if sum <= TURNS { weight } else { (weight * TURNS / sum).max(1) }
    };
    let weights: Vec<i64> =
        weights.iter().map(turns_of).map(|turns| i64::try_from(turns).unwrap_or(1)).collect();
    let sum: i64 = weights.iter().sum();
    let mut ahead = vec![0_i64; weights.len()];
    let mut turns = Vec::new();
    for _ in 0..sum {
        let mut next = 0;
        for (index, weight) in weights.iter().enumerate() {
            ahead[index] += weight;
            if ahead[index] > ahead[next] {
                next = index;
            }
        }
        ahead[next] -= sum;
        turns.push(next);
    }
    turns
}

fn greatest_common_divisor(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// A ring with points by weight. A server's points come from its name alone, so
/// that it has them whoever else is there.
fn points(names: &[&str], weights: &[u64]) -> Vec<(u64, usize)> {
    let sum: u64 = weights.iter().sum();
    let mut points = Vec::new();
    let mut seen: HashMap<&str, u64> = HashMap::new();
    for (index, (name, weight)) in names.iter().zip(weights).enumerate() {
        let count = (POINTS * weight * weights.len() as u64 / sum.max(1)).max(1);
        // One address may be there by two names: each has points of its own.
        let again = seen.entry(*name).and_modify(|count| *count += 1).or_default();
        let own =
            hash::of(name.as_bytes()).wrapping_add(hash::mixed(*again) * u64::from(*again > 0));
        points.extend((0..count).map(|number| (hash::mixed(own ^ hash::mixed(number)), index)));
    }
    points.sort_unstable();
    points
}
