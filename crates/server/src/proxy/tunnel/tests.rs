use std::future::poll_fn;
use std::net::TcpListener;

use sluicegate::{AcquireError, Lease, Pipe, Ring, Segment, SendError, Sink, SpoolBudget, Worker};
use sluicegate_http::relay::Relay;

use super::*;
use crate::config;
use crate::gateway::{Asker, Pools, Tried, Upstreams};

/// A client that takes nothing and says nothing.
struct Mute;

impl Sink for Mute {
    fn poll_lease(&mut self, _: &mut Context<'_>, _: &Ring) -> Poll<Result<Lease, AcquireError>> {
        Poll::Pending
    }
}

impl Downstream for Mute {
    fn push(&mut self, _: Segment) -> Result<(), RelayError> {
        unreachable!("there is no room")
    }

    fn room(&self) -> usize {
        0
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<Result<(), SendError>> {
        Poll::Ready(Ok(()))
    }

    fn accepted(&self) -> u64 {
        0
    }

    fn poll_receive(&mut self, _: &mut Context<'_>, _: &mut Vec<u8>) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn poll_fill(&mut self, _: &mut Context<'_>, _: &Pipe, _: usize) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn finish(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn one_in_which_nobody_ever_speaks_is_cut_as_well() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.toml");
    let address = listener.local_addr().unwrap();
    let text = format!(
        "listen = [\"127.0.0.1:0\"]\n[pool.app]\nservers = [\"{address}\"]\n\
         [[site]]\n[[site.route]]\npath = \"/\"\n\
         proxy = {{ pool = \"app\", read_timeout = \"100ms\" }}\n"
    );
    std::fs::write(&path, text).unwrap();
    let config = config::load(&path).unwrap();
    let config::Action::Proxy(rule) = &config.sites[0].routes[0].action else { panic!() };
    let pool = Pools::open(&config.pools, None).unwrap().get("app").unwrap();
    let worker = Worker::new().unwrap();
    let reactor = worker.reactor().clone();
    let upstreams = Upstreams::new(reactor.clone(), Arc::default());
    let shared = Shared::new(upstreams, SpoolBudget::new(1 << 20), Arc::default());
    let proxy = Proxy::new(Arc::clone(rule), Arc::clone(&pool));
    let ended = worker.run(async move {
        let endpoints = sluicegate_http::Endpoints::default();
        let asker = Asker { endpoints: &endpoints, path: b"/" };
        let tried = &mut Tried::default();
        let upstream = shared.upstreams.obtain(&pool, asker, tried, false).await.unwrap();
        let note = Arc::new(Note::default());
        let held = Held::new(upstream, shared.upstreams.now());
        let scratch = shared.scratches.take();
        let mut tunnel = Tunnel::new(&proxy, &shared, held, scratch, 0, &note).unwrap();
        // A test that waits in vain is to fail, too.
        let mut late = std::pin::pin!(reactor.sleep(Duration::from_secs(60)));
        poll_fn(|cx| match tunnel.poll_relay(cx, &mut Mute) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending => late.as_mut().poll(cx).map(|()| None),
        })
        .await
        .map(|ended| (ended.is_err(), note.get().trouble))
    });
    assert_eq!(ended.unwrap(), Some((true, Some("read_timeout"))));
}
