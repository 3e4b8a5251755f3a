//! Upstreams: pools of servers, their health, and connections to them. What FastCGI
//! and the proxy have in common; nothing here knows what is said on a connection.

mod auxiliary;
mod balance;
mod connect;
mod ejection;
mod error;
mod hash;
mod health;
mod idle;
mod obtain;
mod pool;
pub(crate) mod proxy_protocol;
mod queue;
mod resolve;
mod server;

use std::collections::HashMap;
use std::sync::Arc;

use self::auxiliary::Auxiliary;
use crate::config;

pub(crate) use self::error::ObtainError;
pub(crate) use self::idle::Connection;
pub(crate) use self::obtain::{Asker, Chosen, Tried, Upstream, Upstreams};
pub(crate) use self::pool::Pool;

/// All pools of a configuration, as all workers know them.
#[derive(Debug)]
pub(crate) struct Pools {
    /// As the configuration has them.
    pools: Vec<Arc<Pool>>,
    by_name: HashMap<String, usize>,
}

impl Pools {
    /// What the configuration says. Of pools that were there before and are the
    /// same, counts and health go on; of others, those of servers that both have.
    /// Checks and resolution run on a thread of their own, which ends with the last
    /// pool that needs it. Where others were there before, they stay what is served
    /// until these [take over](Pools::take_over): a reload may still be refused.
    pub(crate) fn open(
        pools: &[config::Pool],
        before: Option<&Pools>,
    ) -> anyhow::Result<Arc<Self>> {
        let is_first = before.is_none();
        let before = before.map(|before| before.pools.as_slice()).unwrap_or_default();
        let auxiliary = match before.iter().find_map(|pool| pool.auxiliary()) {
            Some(auxiliary) => Some(Arc::clone(auxiliary)),
            None if pools.iter().any(Pool::is_looked_after) => Some(Auxiliary::start()?),
            None => None,
        };
        let before: HashMap<&str, &Arc<Pool>> =
            before.iter().map(|pool| (pool.rule.name.as_str(), pool)).collect();
        let open = |rule: &config::Pool| match before.get(rule.name.as_str()) {
            Some(before) if is_same(&before.rule, rule) => Arc::clone(before),
            before => Pool::open(rule, before.map(|before| &***before), auxiliary.as_ref()),
        };
        let pools: Vec<_> = pools.iter().map(open).collect();
        let by_name = pools.iter().enumerate().map(|(at, pool)| (pool.rule.name.clone(), at));
        let pools = Pools { by_name: by_name.collect(), pools };
        if is_first {
            pools.pools.iter().for_each(Pool::start);
        }
        Ok(Arc::new(pools))
    }

    /// These are served from now on. A pool that is replaced lives on with its last
    /// request, but says nothing more of servers that the new one has, too.
    pub(crate) fn take_over(&self, before: &Pools) {
        let is_in = |pools: &Pools, pool: &Arc<Pool>| {
            pools.pools.iter().any(|other| Arc::ptr_eq(other, pool))
        };
        before.pools.iter().filter(|pool| !is_in(self, pool)).for_each(|pool| pool.end());
        self.pools.iter().filter(|pool| !is_in(before, pool)).for_each(Pool::start);
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Pool>> {
        self.by_name.get(name).and_then(|&at| self.pools.get(at)).cloned()
    }

    /// For metrics and the status page.
    pub(crate) fn figures(&self) -> Vec<PoolFigures> {
        self.pools.iter().map(|pool| pool.figures()).collect()
    }
}

/// Whether two say the same, wherever in the file.
fn is_same(one: &config::Pool, other: &config::Pool) -> bool {
    one.line == other.line && one == other
        || *one == config::Pool { line: one.line, ..other.clone() }
}

/// One moment of a pool.
#[derive(Clone, Debug)]
pub(crate) struct PoolFigures {
    pub(crate) name: String,
    pub(crate) servers: Vec<ServerFigures>,
    pub(crate) queue: QueueFigures,
}

/// Requests that find all servers of a pool at their limits.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QueueFigures {
    /// That wait now.
    pub(crate) waiting: u64,
    /// That had to wait.
    pub(crate) queued: u64,
    /// That could not even wait, since too many did.
    pub(crate) refused: u64,
    /// That waited for too long.
    pub(crate) timed_out: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct ServerFigures {
    pub(crate) address: String,
    pub(crate) is_up: bool,
    pub(crate) is_ejected: bool,
    /// Requests under way.
    pub(crate) active: u32,
    pub(crate) requests: u64,
    pub(crate) failures: u64,
    /// Connections made, and requests that went over one that was there.
    pub(crate) connects: u64,
    pub(crate) reuses: u64,
}

#[cfg(test)]
mod tests;
