//! Connections to upstreams, as a worker's requests get them and give them back.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt;
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::pin::pin;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use sluicegate::{Reactor, SendContext};
use sluicegate_http::Endpoints;

use super::balance::{Choice, Members, Now};
use super::connect::{connect, within};
use super::error::ObtainError;
use super::hash::ByNumber;
use super::idle::{Connection, LocalServer};
use super::pool::Pool;
use super::proxy_protocol;
use super::queue::Queue;
use super::server::{Active, Server, millis};
use crate::config;
use crate::log::tell;

/// Servers that one request was sent to, or tried to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tried {
    /// Almost always enough.
    first: [u64; 4],
    more: Vec<u64>,
    count: usize,
    /// How long it waited for room at one, if it did.
    pub(crate) waited: Option<Duration>,
}

impl Tried {
    pub(super) fn has(&self, id: u64) -> bool {
        self.count > 0 && (self.first[..self.count.min(4)].contains(&id) || self.more.contains(&id))
    }

    fn add(&mut self, id: u64) {
        match self.first.get_mut(self.count) {
            Some(place) => *place = id,
            None => self.more.push(id),
        }
        self.count += 1;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// What a balance may go by.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker<'a> {
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) path: &'a [u8],
}

/// One worker's connections to upstreams.
#[derive(Clone, Debug)]
pub(crate) struct Upstreams {
    inner: Rc<Inner>,
}

struct Inner {
    reactor: Reactor,
    context: Arc<SendContext>,
    /// By the pool's number.
    pools: RefCell<ByNumber<Rc<LocalPool>>>,
    /// By the server's.
    servers: RefCell<ByNumber<Rc<LocalServer>>>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstreams").finish_non_exhaustive()
    }
}

/// A pool as one worker knows it.
#[derive(Debug)]
struct LocalPool {
    pool: Weak<Pool>,
    /// What a request still needs when it is over.
    rule: Arc<config::Pool>,
    queue: Arc<Queue>,
    version: u64,
    members: Arc<Members>,
    /// In the order of `members`.
    servers: Vec<Rc<LocalServer>>,
}

/// A request under way, counted until it is dropped; as [`Active`], of this worker, which
/// then counts no owners of what it has all the time.
#[derive(Debug)]
struct Lease {
    pool: Rc<LocalPool>,
    local: Rc<LocalServer>,
}

impl Drop for Lease {
    #[inline]
    fn drop(&mut self) {
        self.local.server.end();
        self.pool.queue.room();
    }
}

impl Upstreams {
    pub(crate) fn new(reactor: Reactor, context: Arc<SendContext>) -> Self {
        let (pools, servers) = Default::default();
        Upstreams { inner: Rc::new(Inner { reactor, context, pools, servers }) }
    }

    /// The time, at most one turn of the reactor old.
    pub(crate) fn now(&self) -> Instant {
        self.inner.reactor.now()
    }

    /// A connection to a server of `pool` that is none of `tried`: an idle one, if
    /// there is one and `fresh` is false, or a new one. The server of a new one is
    /// in `tried` then, whatever comes of it; that of an idle one is not.
    ///
    /// # Errors
    /// [`ObtainError`]: nothing was sent.
    pub(crate) async fn obtain(
        &self,
        pool: &Arc<Pool>,
        asker: Asker<'_>,
        tried: &mut Tried,
        fresh: bool,
    ) -> Result<Upstream, ObtainError> {
        match self.obtain_now(pool, asker, tried, fresh) {
            Ok(upstream) => Ok(upstream),
            // What a future of its own costs is small beside what it waits for.
            Err(chosen) => Box::pin(self.obtain_chosen(pool, asker, chosen, tried, fresh)).await,
        }
    }

    /// As [`Upstreams::obtain`], as far as that need not wait; the choice is for
    /// [`Upstreams::obtain_chosen`] then.
    pub(crate) fn obtain_now(
        &self,
        pool: &Arc<Pool>,
        asker: Asker<'_>,
        tried: &Tried,
        fresh: bool,
    ) -> Result<Upstream, Chosen> {
        match self.begin(pool, pool.key(asker), tried) {
            Ok(Begun::Now(lease)) => {
                self.reuse(lease, fresh).map_err(|lease| Chosen(Ok(Begun::Now(lease))))
            }
            begun => Err(Chosen(begun)),
        }
    }

    /// An idle connection to the server that was chosen, if there is one.
    fn reuse(&self, lease: Lease, fresh: bool) -> Result<Upstream, Lease> {
        let rule = &*lease.pool.rule;
        if !fresh
            && Pool::keeps(rule)
            && let Some(connection) = lease.local.take(self.now(), rule.idle)
        {
            return Ok(Upstream { connection, reused: true, lease });
        }
        Err(lease)
    }

    /// Waits for whatever there is to be waited for.
    ///
    /// # Errors
    /// As [`Upstreams::obtain`].
    pub(crate) async fn obtain_chosen(
        &self,
        pool: &Arc<Pool>,
        asker: Asker<'_>,
        chosen: Chosen,
        tried: &mut Tried,
        fresh: bool,
    ) -> Result<Upstream, ObtainError> {
        let begun = match chosen.0 {
            Err(ObtainError::NoServer(_)) if tried.is_empty() && pool.has_names() => {
                self.named(pool).await?;
                self.begin(pool, pool.key(asker), tried)?
            }
            begun => begun?,
        };
        let lease = match begun {
            Begun::Now(lease) => lease,
            Begun::Later(wait) => {
                let begin = Instant::now();
                let given = self.wait(pool, wait).await;
                tried.waited = Some(tried.waited.unwrap_or_default() + begin.elapsed());
                self.lease(pool, &given?)
            }
        };
        // While it was waited for, one may have come back.
        let lease = match self.reuse(lease, fresh) {
            Ok(upstream) => return Ok(upstream),
            Err(lease) => lease,
        };
        let local = &lease.local;
        local.server.fresh.fetch_add(1, Ordering::Relaxed);
        tried.add(local.server.id);
        let Inner { reactor, context, .. } = &*self.inner;
        let target = &local.server.target;
        let mut socket = match connect(reactor, context, target, pool.rule.connect).await {
            Ok(socket) => socket,
            Err(cause) => {
                let error = ObtainError::of_connect(&local.server.name, cause);
                if !error.is_ours() {
                    lease.failed();
                }
                return Err(error);
            }
        };
        local.server.connects.fetch_add(1, Ordering::Relaxed);
        if let Some(version) = pool.rule.proxy_protocol {
            let mut header = Vec::with_capacity(128);
            proxy_protocol::write(&mut header, version, asker.endpoints);
            // It goes with the request. Nothing is in the queue before it.
            let _ = socket.queue(header);
        }
        Ok(Upstream { connection: Connection::new(socket), reused: false, lease })
    }

    /// Chooses a server, or goes to wait for one.
    fn begin(&self, pool: &Arc<Pool>, key: u64, tried: &Tried) -> Result<Begun, ObtainError> {
        let queue = &pool.queue;
        let no_server = || ObtainError::NoServer(pool.rule.name.clone());
        let busy = || ObtainError::Busy(pool.rule.name.clone());
        // Who comes now is behind those that wait already.
        if queue.has_any_of(pool) {
            return queue.wait(pool, key, tried).map(Begun::Later).ok_or_else(busy);
        }
        let local = self.pool(pool);
        let now = Now::At(self.inner.reactor.now());
        match pool.choose(&local.members, key, tried, now) {
            Choice::Member(index) => {
                let server = Rc::clone(&local.servers[index]);
                Ok(Begun::Now(Lease { pool: local, local: server }))
            }
            Choice::Busy => queue.wait(pool, key, tried).map(Begun::Later).ok_or_else(busy),
            Choice::Nobody => Err(no_server()),
        }
    }

    /// Waits until it is known what the names of `pool` stand for.
    async fn named(&self, pool: &Arc<Pool>) -> Result<(), ObtainError> {
        let known = poll_fn(|cx| pool.poll_names(cx));
        let known = within(&self.inner.reactor, pool.rule.connect, known).await;
        let late = || Some((pool.names().join("`, `"), "no answer yet".to_owned()));
        match known.unwrap_or_else(late) {
            None => Ok(()),
            Some((name, cause)) => Err(ObtainError::Unresolved { name, cause }),
        }
    }

    /// Waits for a server's room.
    async fn wait(
        &self,
        pool: &Arc<Pool>,
        wait: super::queue::Wait,
    ) -> Result<Active, ObtainError> {
        // A server may also come back with the time, which nobody is told of.
        const LOOK: Duration = Duration::from_millis(250);
        let deadline = Instant::now().checked_add(pool.rule.queue_timeout);
        loop {
            let left = deadline.map_or(LOOK, |at| at.saturating_duration_since(Instant::now()));
            let mut sleep = pin!(self.inner.reactor.sleep(left.min(LOOK)));
            let given = poll_fn(|cx| match wait.poll(cx) {
                Poll::Ready(active) => Poll::Ready(Some(active)),
                Poll::Pending => sleep.as_mut().poll(cx).map(|()| None),
            })
            .await;
            match given {
                Some(Some(active)) => return Ok(active),
                Some(None) => return Err(ObtainError::NoServer(pool.rule.name.clone())),
                None if left <= LOOK => {
                    pool.queue.handle_timeout();
                    return Err(ObtainError::Busy(pool.rule.name.clone()));
                }
                None => pool.queue.serve(),
            }
        }
    }

    /// The pool as this worker knows it, which is as it is now.
    fn pool(&self, pool: &Arc<Pool>) -> Rc<LocalPool> {
        if let Some(local) = self.inner.pools.borrow().get(&pool.id)
            && local.version == pool.version()
        {
            return Rc::clone(local);
        }
        self.renew(pool)
    }

    #[cold]
    fn renew(&self, pool: &Arc<Pool>) -> Rc<LocalPool> {
        // In this order: members that are newer than their version are renewed
        // once more.
        let (version, members) = (pool.version(), pool.members());
        let servers = members.all.iter().map(|member| self.server(&member.server)).collect();
        let (rule, queue) = (Arc::clone(&pool.rule), Arc::clone(&pool.queue));
        let local =
            LocalPool { pool: Arc::downgrade(pool), rule, queue, version, members, servers };
        let local = Rc::new(local);
        let before = self.inner.pools.borrow_mut().insert(pool.id, Rc::clone(&local));
        if before.is_some() {
            drop(before);
            self.retire();
        }
        local
    }

    fn server(&self, server: &Arc<Server>) -> Rc<LocalServer> {
        let mut servers = self.inner.servers.borrow_mut();
        let local =
            servers.entry(server.id).or_insert_with(|| LocalServer::new(Arc::clone(server)));
        Rc::clone(local)
    }

    /// What was given to who has waited, from now on counted here.
    fn lease(&self, pool: &Arc<Pool>, given: &Active) -> Lease {
        let lease = Lease { pool: self.pool(pool), local: self.local(pool, &given.server) };
        // Before `given` ends: nobody finds room in between.
        lease.local.server.begin(None);
        lease
    }

    /// A server that was chosen for who has waited. One that the pool does not have any more
    /// is nobody else's: nothing of it is kept.
    fn local(&self, pool: &Arc<Pool>, server: &Arc<Server>) -> Rc<LocalServer> {
        let local = self.pool(pool);
        let found = local.servers.iter().find(|local| local.server.id == server.id);
        found.map_or_else(|| LocalServer::new(Arc::clone(server)), Rc::clone)
    }

    /// Lets go of servers that no pool of this worker has.
    fn retire(&self) {
        let used: HashSet<u64> = {
            let pools = self.inner.pools.borrow();
            let servers = pools.values().flat_map(|pool| &pool.servers);
            servers.map(|local| local.server.id).collect()
        };
        let mut gone = Vec::new();
        self.inner.servers.borrow_mut().retain(|id, local| {
            let is_used = used.contains(id);
            if !is_used {
                gone.push(Rc::clone(local));
            }
            is_used
        });
        for local in gone {
            local.retire();
        }
    }

    /// Closes what was idle for too long, and what belongs to pools that are gone.
    /// Called now and then.
    pub(crate) fn tend(&self) {
        let count = self.inner.pools.borrow().len();
        let mut live = Vec::new();
        self.inner.pools.borrow_mut().retain(|_, local| match local.pool.upgrade() {
            Some(pool) => {
                live.push((pool, Rc::clone(local)));
                true
            }
            None => false,
        });
        if live.len() < count {
            self.retire();
        }
        for (pool, local) in live {
            let until = self.inner.reactor.now().checked_sub(pool.rule.idle);
            for server in &local.servers {
                server.sweep(until);
            }
        }
    }
}

#[cfg(test)]
impl Upstream {
    /// The server, as logs have it.
    pub(super) fn server(&self) -> &str {
        &self.lease.local.server.name
    }
}

#[cfg(test)]
impl Upstreams {
    /// Connections that wait.
    pub(super) fn idle(&self) -> usize {
        self.inner.servers.borrow().values().map(|local| local.idle()).sum()
    }
}

/// What was chosen for a request that has to wait.
pub(crate) struct Chosen(Result<Begun, ObtainError>);

enum Begun {
    Now(Lease),
    Later(super::queue::Wait),
}

/// A connection to a server, lent for one request. Dropped, it is closed.
#[derive(Debug)]
pub(crate) struct Upstream {
    connection: Box<Connection>,
    /// It had served a request before: that the server closes it before it answers
    /// says nothing of the server, and one more may be tried ([`Tried`] does not
    /// count it).
    pub(crate) reused: bool,
    lease: Lease,
}

impl Deref for Upstream {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

impl DerefMut for Upstream {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }
}

impl Upstream {
    /// The server, for logs.
    pub(crate) fn name(&self) -> Arc<str> {
        Arc::clone(&self.lease.local.server.name)
    }

    /// What Host says where it is the server's name.
    pub(crate) fn authority(&self) -> &str {
        &self.lease.local.server.authority
    }

    /// The connection, and [`Upstream::authority`].
    pub(crate) fn parts(&mut self) -> (&mut Connection, &str) {
        (&mut self.connection, &self.lease.local.server.authority)
    }

    /// The server has answered: it lives.
    pub(crate) fn succeeded(&self) {
        let conduct = &self.lease.local.server.conduct;
        if !conduct.is_spotless() {
            conduct.succeeded(millis(self.socket.now()));
        }
    }

    /// The server has failed: connection, timeout, broken answer, 5xx that says so.
    pub(crate) fn failed(&self) {
        self.lease.failed();
    }

    /// The answer is complete and nothing is left on the connection: another
    /// request may use it.
    pub(crate) fn keep(self) {
        let Upstream { mut connection, lease, .. } = self;
        let rule = &*lease.pool.rule;
        connection.requests = connection.requests.saturating_add(1);
        if Pool::keeps(rule) && connection.requests < rule.requests_per_connection {
            lease.local.keep(connection, rule.keep_alive);
        }
        // Who waits for the server may now use the connection.
        drop(lease);
    }
}

impl Lease {
    /// The server has failed.
    #[cold]
    fn failed(&self) {
        let rule = &self.pool.rule.ejection;
        let now = millis(Instant::now());
        if let Some(pause) = self.local.server.conduct.failed(now, rule) {
            let (pool, server) = (&self.pool.rule.name, &self.local.server.name);
            tell(format_args!(
                "pool `{pool}`: {server} has failed again and again; it is left alone for {pause:?}"
            ));
        }
    }
}
