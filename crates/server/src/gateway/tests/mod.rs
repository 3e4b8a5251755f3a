//! Pools with real servers on this host.

mod balance;
mod connections;
mod cost;
mod health;
mod limits;
mod pools;

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::{Reactor, Spawner, Worker};
use sluicegate_http::Endpoints;

use super::*;
use crate::config::{Address, Balance, Ejection};

/// A slow machine is not to fail a test.
const PATIENCE: Duration = Duration::from_secs(60);

/// A pool of servers as most tests want it.
fn rule(servers: Vec<config::Server>) -> config::Pool {
    config::Pool {
        name: "app".to_owned(),
        servers,
        balance: Balance::RoundRobin,
        keep_alive: 4,
        idle: PATIENCE,
        requests_per_connection: 1000,
        connect: PATIENCE,
        queue: 0,
        queue_timeout: PATIENCE,
        health: None,
        ejection: Ejection { failures: 0, pause: PATIENCE, slow_start: Duration::ZERO },
        proxy_protocol: None,
        resolver: None,
        line: 1,
    }
}

fn server(address: Address) -> config::Server {
    config::Server { address, weight: 1, max_connections: None, backup: false }
}

fn tcp(listener: &TcpListener) -> config::Server {
    server(Address::Tcp(listener.local_addr().unwrap()))
}

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn pool_of(rule: &config::Pool) -> Arc<Pool> {
    let pools = Pools::open(std::slice::from_ref(rule), None).unwrap();
    pools.get(&rule.name).unwrap()
}

/// One worker's connections, on this thread.
struct Here {
    upstreams: Upstreams,
    reactor: Reactor,
}

impl Here {
    /// A connection for a client at 192.0.2.1.
    async fn obtain(&self, pool: &Arc<Pool>) -> Result<Upstream, ObtainError> {
        self.obtain_with(pool, &mut Tried::default(), false).await
    }

    async fn obtain_with(
        &self,
        pool: &Arc<Pool>,
        tried: &mut Tried,
        fresh: bool,
    ) -> Result<Upstream, ObtainError> {
        let peer: Option<SocketAddr> = "192.0.2.1:4000".parse().ok();
        let endpoints = Endpoints { peer, local: "192.0.2.2:80".parse().ok(), balanced: None };
        let asker = Asker { endpoints: &endpoints, path: b"/" };
        self.upstreams.obtain(pool, asker, tried, fresh).await
    }

    /// Waits until `done` is, looking again and again.
    async fn until(&self, done: impl Fn() -> bool) {
        let begin = std::time::Instant::now();
        while !done() {
            assert!(begin.elapsed() < PATIENCE, "it never came");
            self.reactor.sleep(Duration::from_millis(2)).await;
        }
    }
}

fn run<F: Future + 'static>(test: impl FnOnce(Rc<Here>) -> F) {
    run_with(|here, _| test(here));
}

/// As [`run`], with what starts other tasks of the same worker.
fn run_with<F: Future + 'static>(test: impl FnOnce(Rc<Here>, Spawner) -> F) {
    let worker = Worker::new().unwrap();
    let (reactor, spawner) = (worker.reactor().clone(), worker.spawner().clone());
    let upstreams = Upstreams::new(reactor.clone(), Arc::default());
    let here = Rc::new(Here { upstreams, reactor });
    worker.run(test(here, spawner)).unwrap();
}

/// Of a pool's servers, in order.
fn active(pool: &Pool) -> Vec<u32> {
    pool.figures().servers.iter().map(|server| server.active).collect()
}
