//! Pools of servers, as the whole process knows them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use sluicegate::Target;

use super::auxiliary::Auxiliary;
use super::balance::{Ask, Choice, Member, Members, Now};
use super::obtain::{Asker, Tried};
use super::queue::Queue;
use super::server::{Active, Server, authority, authority_of_address, authority_of_path, millis};
use super::{PoolFigures, ServerFigures, hash};
use crate::config::{self, Address, Balance};

/// Tells pools apart, also from those that are gone.
static NEXT: AtomicU64 = AtomicU64::new(1);

/// What a weight is multiplied by before the addresses of a name share it: their
/// number divides it, mostly.
const SHARES: u64 = 840;

/// One pool.
#[derive(Debug)]
pub(crate) struct Pool {
    pub(super) id: u64,
    pub(super) rule: Arc<config::Pool>,
    state: Mutex<State>,
    /// Counts the changes of the members: all that a request looks at.
    version: AtomicU64,
    turn: AtomicU64,
    pub(super) queue: Arc<Queue>,
    /// Looks after it, if anybody has to.
    auxiliary: Option<Arc<Auxiliary>>,
}

#[derive(Debug)]
struct State {
    members: Arc<Members>,
    /// Of servers that are named.
    names: BTreeMap<String, Name>,
    /// Who waits for the first address.
    waiting: Vec<Waker>,
    /// Another one has taken its place.
    has_ended: bool,
}

/// What is known of a name.
#[derive(Clone, Debug, Default)]
struct Name {
    /// The last that it had.
    addresses: Vec<IpAddr>,
    /// Why it has none; there only if it never had any.
    error: Option<String>,
}

impl Pool {
    /// What `rule` says. Servers that `before` has too are the same, and names keep
    /// their addresses until they are asked again.
    pub(super) fn open(
        rule: &config::Pool,
        before: Option<&Pool>,
        auxiliary: Option<&Arc<Auxiliary>>,
    ) -> Arc<Self> {
        let queue = before.map(|before| Arc::clone(&before.queue)).unwrap_or_default();
        let (known, names_before) = match before.map(Pool::lock) {
            Some(state) => (state.members.servers(), state.names.clone()),
            None => Default::default(),
        };
        let name = |server: &config::Server| match &server.address {
            Address::Name { host, .. } => {
                Some((host.clone(), names_before.get(host).cloned().unwrap_or_default()))
            }
            _ => None,
        };
        let names = rule.servers.iter().filter_map(name).collect();
        let members = Arc::new(Members::new(members(rule, &names, &known), rule.balance));
        let auxiliary = auxiliary.filter(|_| Pool::is_looked_after(rule)).cloned();
        Arc::new(Pool {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            state: Mutex::new(State { members, names, waiting: Vec::new(), has_ended: false }),
            rule: Arc::new(rule.clone()),
            version: AtomicU64::new(1),
            turn: AtomicU64::new(0),
            queue,
            auxiliary,
        })
    }

    /// It is what is asked from now on.
    pub(super) fn start(self: &Arc<Self>) {
        if self.rule.health.is_none() {
            // Nobody would ever find out that they live.
            self.members().all.iter().for_each(|member| member.server.set_up(true, 1));
        }
        if let Some(auxiliary) = &self.auxiliary {
            auxiliary.add(self);
        }
    }

    /// Another one has taken its place.
    pub(super) fn end(&self) {
        self.lock().has_ended = true;
        if let Some(auxiliary) = &self.auxiliary {
            auxiliary.look();
        }
    }

    pub(super) fn has_ended(&self) -> bool {
        self.lock().has_ended
    }

    /// What a check of this pool's has found out of a server, unless that is for another pool to
    /// say by now.
    pub(super) fn found(&self, server: &Server, is_up: bool, now: u64) {
        let state = self.lock();
        if !state.has_ended {
            server.set_up(is_up, now);
        }
    }

    /// Whether it has servers to check, or names to ask.
    pub(super) fn is_looked_after(rule: &config::Pool) -> bool {
        rule.health.is_some() || has_names(rule)
    }

    pub(super) fn auxiliary(&self) -> Option<&Arc<Auxiliary>> {
        self.auxiliary.as_ref()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn members(&self) -> Arc<Members> {
        Arc::clone(&self.lock().members)
    }

    /// With it, what [`Pool::members`] is the newest of.
    pub(super) fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// Whether some of its servers are named.
    pub(super) fn has_names(&self) -> bool {
        has_names(&self.rule)
    }

    /// The names of its servers.
    pub(super) fn names(&self) -> Vec<String> {
        self.lock().names.keys().cloned().collect()
    }

    /// The DNS, or a file, has said what `name` stands for, or why that is not known.
    /// True when other servers are asked from now on.
    pub(super) fn resolved(&self, name: &str, found: Result<Vec<IpAddr>, String>) -> bool {
        let mut state = self.lock();
        let State { members: all, names, waiting, .. } = &mut *state;
        let Some(known) = names.get_mut(name) else { return false };
        let mut is_new = false;
        match found {
            Ok(addresses) => {
                is_new = known.addresses != addresses;
                *known = Name { addresses, error: None };
            }
            // The last ones are better than none.
            Err(_) if !known.addresses.is_empty() => {}
            Err(error) => known.error = Some(error),
        }
        if is_new {
            let members = members(&self.rule, names, &all.servers());
            *all = Arc::new(Members::new(members, self.rule.balance));
            self.version.fetch_add(1, Ordering::Release);
        }
        let waiting = std::mem::take(waiting);
        drop(state);
        for waker in waiting {
            waker.wake();
        }
        if is_new {
            self.queue.room();
        }
        is_new
    }

    /// Ready once it is known of a name, or of all, what they stand for: with why one
    /// is not, if none is.
    pub(super) fn poll_names(&self, cx: &mut Context<'_>) -> Poll<Option<(String, String)>> {
        let mut state = self.lock();
        if state.names.values().any(|name| !name.addresses.is_empty()) {
            return Poll::Ready(None);
        }
        let is_open = |name: &Name| name.error.is_none();
        if state.names.values().any(is_open) {
            if !state.waiting.iter().any(|waker| waker.will_wake(cx.waker())) {
                state.waiting.push(cx.waker().clone());
            }
            return Poll::Pending;
        }
        let first = state.names.iter().next();
        Poll::Ready(
            first.map(|(name, known)| (name.clone(), known.error.clone().unwrap_or_default())),
        )
    }

    /// What the balance goes by.
    pub(super) fn key(&self, asker: Asker<'_>) -> u64 {
        match self.rule.balance {
            Balance::RoundRobin | Balance::LeastConnections => 0,
            Balance::HashClient => hash::of_client(asker.endpoints.peer.map(|peer| peer.ip())),
            Balance::HashPath => hash::of(asker.path),
        }
    }

    /// Chooses one of `members`, and counts the request there.
    pub(super) fn choose(&self, members: &Members, key: u64, tried: &Tried, now: Now) -> Choice {
        members.choose(&Ask { key, tried, now, ejection: &self.rule.ejection, turn: &self.turn })
    }

    /// As [`Pool::choose`], of the newest members.
    pub(super) fn begin(
        self: &Arc<Self>,
        key: u64,
        tried: &Tried,
        now: u64,
    ) -> Result<Active, Choice> {
        let members = self.members();
        match self.choose(&members, key, tried, Now::Millis(now)) {
            Choice::Member(index) => Ok(Active {
                pool: Arc::clone(self),
                server: Arc::clone(&members.all[index].server),
            }),
            other => Err(other),
        }
    }

    /// Connections of it serve one request after another, of whoever asks.
    pub(super) fn keeps(rule: &config::Pool) -> bool {
        rule.keep_alive > 0 && rule.proxy_protocol.is_none()
    }

    pub(super) fn figures(&self) -> PoolFigures {
        let now = millis(std::time::Instant::now());
        let figures = |member: &Member| {
            let server = &member.server;
            let reuses = server.reuses();
            ServerFigures {
                address: server.name.to_string(),
                is_up: server.is_up(),
                is_ejected: server.conduct.is_ejected(now),
                active: server.active(),
                requests: reuses + server.fresh.load(Ordering::Relaxed),
                failures: server.conduct.failures.load(Ordering::Relaxed),
                connects: server.connects.load(Ordering::Relaxed),
                reuses,
            }
        };
        let servers = self.members().all.iter().map(figures).collect();
        let queue = self.queue.figures();
        PoolFigures { name: self.rule.name.clone(), servers, queue }
    }
}

fn has_names(rule: &config::Pool) -> bool {
    rule.servers.iter().any(|server| matches!(server.address, Address::Name { .. }))
}

impl Drop for Pool {
    fn drop(&mut self) {
        if let Some(auxiliary) = &self.auxiliary {
            auxiliary.look();
        }
    }
}

/// The servers of a pool, where names stand for what is known of them.
fn members(
    rule: &config::Pool,
    names: &BTreeMap<String, Name>,
    known: &[Arc<Server>],
) -> Vec<Member> {
    let mut all: Vec<Member> = Vec::new();
    for said in &rule.servers {
        let targets = match &said.address {
            Address::Tcp(address) => {
                vec![(Target::Tcp(*address), authority_of_address(*address))]
            }
            Address::Unix(path) => vec![(Target::Unix(path.clone()), authority_of_path(path))],
            Address::Name { host, port } => {
                let addresses =
                    names.get(host).map(|name| name.addresses.as_slice()).unwrap_or_default();
                let target = |&ip| Target::Tcp(SocketAddr::new(ip, *port));
                addresses
                    .iter()
                    .map(|ip| (target(ip), authority(host.trim_end_matches('.'), *port)))
                    .collect()
            }
        };
        let weight = (u64::from(said.weight) * SHARES / (targets.len() as u64).max(1)).max(1);
        for (target, authority) in targets {
            let is_same =
                |server: &&Arc<Server>| server.target == target && server.authority == authority;
            // Named twice it is two, as far as that goes.
            let is_free =
                |server: &&Arc<Server>| all.iter().all(|other| other.server.id != server.id);
            let server = known.iter().filter(is_same).find(is_free).cloned();
            let server = server.unwrap_or_else(|| Server::new(target, authority));
            let (limit, backup) = (said.max_connections, said.backup);
            all.push(Member { server, weight, limit, backup });
        }
    }
    all
}
