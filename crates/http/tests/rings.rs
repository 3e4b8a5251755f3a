//! What is left of rings when a connection is idle.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{PATIENCE, Served};
use sluicegate::{Locality, LocalityRule, Ring, SendContext};
use sluicegate_http::{
    Body, Downstream, Fields, Handler, Limits, Relay, RelayError, Request, Response,
};

const PART: usize = 256 * 1024;

/// Answers from one partition.
struct FromRing(Ring);

struct Part(Ring);

impl Handler for FromRing {
    async fn handle(&self, _: &mut Request) -> Response {
        Response::new(200).with_body(Body::Relay(Box::new(Part(self.0.clone()))))
    }
}

impl Relay for Part {
    fn length(&self) -> Option<u64> {
        Some(PART as u64)
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        let Poll::Ready(leased) = client.poll_lease(cx, &self.0) else { return Poll::Pending };
        let mut lease = leased.map_err(|error| RelayError::Ours(error.into()))?;
        lease.fill(b'x');
        client.push(lease.publish(PART).into())?;
        Poll::Ready(Ok(None))
    }
}

#[test]
fn a_partition_that_the_client_has_is_free_though_nothing_else_is_sent() {
    let ring = Ring::builder().size(2 * PART).partitions(2).build().unwrap();
    let seen = ring.clone();
    // As if it were on another host: its acknowledgement alone proves anything.
    let locality = LocalityRule { forced: Some(Locality::Remote), ..LocalityRule::default() };
    let context = SendContext { locality, ..SendContext::default() };
    let served = Served::with_context(Limits::default(), context, move || FromRing(ring));
    let mut client = served.connect();
    for number in 1..=3 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        client.head();
        while client.buffered().len() < PART {
            // Late enough that the server has long turned to something else.
            std::thread::sleep(Duration::from_millis(20));
            assert!(client.fill() > 0);
        }
        client.forget();
        let end = Instant::now() + PATIENCE;
        while seen.free() < 2 {
            assert!(Instant::now() < end, "{number}: {:?}", seen.counters());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}
