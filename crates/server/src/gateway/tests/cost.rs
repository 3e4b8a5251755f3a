//! What a request costs that finds an idle connection.

use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use super::*;

/// Takes an idle connection, and gives it back.
fn once(here: &Here, pool: &Arc<Pool>) {
    let mut tried = Tried::default();
    let obtained = pin!(here.obtain_with(pool, &mut tried, false));
    let cx = &mut Context::from_waker(Waker::noop());
    let Poll::Ready(Ok(upstream)) = obtained.poll(cx) else { panic!("it waits") };
    assert!(upstream.reused);
    upstream.succeeded();
    upstream.keep();
}

#[test]
fn nothing_is_allocated_and_a_thousand_pools_cost_little_more_than_one() {
    const ROUNDS: u32 = 20_000;
    run(|here| async move {
        let listeners = [listener(), listener()];
        let pools: Vec<config::Pool> = (0..1000)
            .map(|number| config::Pool {
                name: format!("pool-{number}"),
                requests_per_connection: u32::MAX,
                ..rule(listeners.iter().map(tcp).collect())
            })
            .collect();
        let pools = Pools::open(&pools, None).unwrap();
        // Most of them have no connection of their own, so as not to need thousands
        // of descriptors.
        let asked: Vec<_> =
            (0..100).map(|number| pools.get(&format!("pool-{}", number * 10)).unwrap()).collect();
        for pool in &asked {
            let two = [here.obtain(pool).await.unwrap(), here.obtain(pool).await.unwrap()];
            two.into_iter().for_each(Upstream::keep);
            once(&here, pool);
        }
        let measure = |pools: &[Arc<Pool>]| {
            let begin = Instant::now();
            let allocations = allocation_counter::measure(|| {
                for round in 0..ROUNDS {
                    once(&here, &pools[round as usize % pools.len()]);
                }
            });
            assert_eq!(allocations.count_total, 0);
            begin.elapsed() / ROUNDS
        };
        let (one, many) = (measure(&asked[..1]), measure(&asked));
        println!("obtain and keep: {one:?} with one pool, {many:?} with many");
        // Far off on a loaded machine, and still no system call.
        assert!(one < Duration::from_micros(50) && many < Duration::from_micros(50));
        let figures = asked[0].figures();
        assert!(figures.servers.iter().all(|server| server.active == 0));
    });
}
