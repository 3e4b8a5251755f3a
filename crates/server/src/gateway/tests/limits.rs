//! Limits, and the row of those that wait.

use std::cell::{Cell, RefCell};
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn limited(servers: &[&TcpListener], most: u32, queue: usize) -> config::Pool {
    let server =
        |listener: &&TcpListener| config::Server { max_connections: Some(most), ..tcp(listener) };
    config::Pool { queue, ..rule(servers.iter().map(server).collect()) }
}

#[test]
fn who_waits_is_served_in_order_and_nobody_passes() {
    run_with(|here, spawner| async move {
        let listener = listener();
        let pool = pool_of(&limited(&[&listener], 1, 3));
        let first = here.obtain(&pool).await.unwrap();
        let order = Rc::new(RefCell::new(Vec::new()));
        let mut tasks = Vec::new();
        for number in 0..3 {
            let (of_task, asked) = (Rc::clone(&here), Arc::clone(&pool));
            let order = Rc::clone(&order);
            tasks.push(spawner.spawn(async move {
                let upstream = of_task.obtain(&asked).await.unwrap();
                order.borrow_mut().push(number);
                of_task.reactor.sleep(Duration::from_millis(1)).await;
                upstream.keep();
            }));
            // One after another, in this order.
            here.until(|| pool.queue.waiting() == number + 1).await;
        }
        // The row is full.
        let error = here.obtain(&pool).await.unwrap_err();
        assert!(matches!(error, ObtainError::Busy(_)) && error.status() == 503);
        assert!(!error.may_retry());
        // One goes: nobody else is kept from their turn.
        drop(tasks.remove(1));
        here.until(|| pool.queue.waiting() == 2).await;
        first.keep();
        here.until(|| order.borrow().len() == 2).await;
        assert_eq!(*order.borrow(), [0, 2]);
        for task in tasks {
            task.await;
        }
        assert_eq!((active(&pool), pool.queue.waiting()), (vec![0], 0));
    });
}

#[test]
fn who_waits_too_long_is_told_and_leaves_nothing() {
    run(|here| async move {
        let listener = listener();
        let mut rule = limited(&[&listener], 2, 8);
        rule.queue_timeout = Duration::from_millis(50);
        let pool = pool_of(&rule);
        let held = [here.obtain(&pool).await.unwrap(), here.obtain(&pool).await.unwrap()];
        let error = here.obtain(&pool).await.unwrap_err();
        assert!(matches!(error, ObtainError::Busy(_)));
        assert_eq!((active(&pool), pool.queue.waiting()), (vec![2], 0));
        drop(held);
        assert_eq!(active(&pool), [0]);
        drop(here.obtain(&pool).await.unwrap());
    });
}

#[test]
fn a_server_that_was_given_to_who_has_gone_meanwhile_is_free_again() {
    run_with(|here, spawner| async move {
        let listener = listener();
        let pool = pool_of(&limited(&[&listener], 1, 8));
        let first = here.obtain(&pool).await.unwrap();
        let was_served = Rc::new(Cell::new(false));
        let waits = {
            let (here, pool, was_served) =
                (Rc::clone(&here), Arc::clone(&pool), Rc::clone(&was_served));
            spawner.spawn(async move {
                let _upstream = here.obtain(&pool).await;
                was_served.set(true);
            })
        };
        here.until(|| pool.queue.waiting() == 1).await;
        // It is given the server, and goes before it runs.
        drop(first);
        assert_eq!((active(&pool), pool.queue.waiting()), (vec![1], 0));
        drop(waits);
        here.until(|| active(&pool) == [0]).await;
        assert!(!was_served.get());
    });
}

/// Four threads, each a worker, ask for more than there is room for.
#[test]
fn all_workers_together_stay_within_the_limit_and_every_request_is_served() {
    const THREADS: usize = 4;
    const EACH: usize = 64;
    let (one, other) = (listener(), listener());
    let pool = pool_of(&limited(&[&one, &other], 2, THREADS * EACH));
    let (most, served) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let begin = Arc::new(Barrier::new(THREADS));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (pool, begin) = (Arc::clone(&pool), Arc::clone(&begin));
            let (most, served) = (Arc::clone(&most), Arc::clone(&served));
            std::thread::spawn(move || {
                run_with(|here, spawner| async move {
                    begin.wait();
                    let tasks: Vec<_> = (0..EACH)
                        .map(|number| {
                            let (here, pool) = (Rc::clone(&here), Arc::clone(&pool));
                            let (most, served) = (Arc::clone(&most), Arc::clone(&served));
                            spawner.spawn(async move {
                                let upstream = here.obtain(&pool).await.unwrap();
                                let active = active(&pool).into_iter().max().unwrap();
                                most.fetch_max(active, Ordering::SeqCst);
                                if number % 3 == 0 {
                                    here.reactor.sleep(Duration::from_millis(1)).await;
                                }
                                served.fetch_add(1, Ordering::SeqCst);
                                if number % 5 == 0 { drop(upstream) } else { upstream.keep() }
                            })
                        })
                        .collect();
                    for task in tasks {
                        task.await;
                    }
                });
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(served.load(Ordering::SeqCst) as usize, THREADS * EACH);
    assert_eq!(most.load(Ordering::SeqCst), 2);
    assert_eq!((active(&pool), pool.queue.waiting()), (vec![0, 0], 0));
    let figures = pool.figures();
    let requests: u64 = figures.servers.iter().map(|server| server.requests).sum();
    let ways: u64 = figures.servers.iter().map(|server| server.connects + server.reuses).sum();
    assert_eq!((requests, ways), ((THREADS * EACH) as u64, (THREADS * EACH) as u64));
}

#[test]
fn who_waits_for_a_pool_that_was_replaced_keeps_nobody_from_the_new_one() {
    run_with(|here, spawner| async move {
        let (one, other) = (listener(), listener());
        let before = Pools::open(&[limited(&[&one], 1, 2)], None).unwrap();
        let old = before.get("app").unwrap();
        let held = here.obtain(&old).await.unwrap();
        let wait = || {
            let (here, old) = (Rc::clone(&here), Arc::clone(&old));
            spawner.spawn(async move { here.obtain(&old).await.map(|got| got.server().to_owned()) })
        };
        let waiting = [wait(), wait()];
        here.until(|| old.queue.waiting() == 2).await;
        let after = Pools::open(&[limited(&[&one, &other], 1, 1)], Some(&before)).unwrap();
        after.take_over(&before);
        let new = after.get("app").unwrap();
        // At once, with room at a server that the others do not know.
        let got = here.obtain(&new).await.unwrap();
        assert_eq!(got.server(), other.local_addr().unwrap().to_string());
        assert_eq!(new.queue.waiting(), 2);
        // Nobody else has room; who waits is served in turn, whichever pool it asks.
        let late = {
            let (here, new) = (Rc::clone(&here), Arc::clone(&new));
            spawner.spawn(async move { here.obtain(&new).await.map(|got| got.server().to_owned()) })
        };
        here.until(|| new.queue.waiting() == 3).await;
        assert!(matches!(here.obtain(&new).await.unwrap_err(), ObtainError::Busy(_)));
        drop(held);
        for task in waiting {
            assert_eq!(task.await.unwrap(), one.local_addr().unwrap().to_string());
        }
        late.await.unwrap();
        drop(got);
        assert_eq!((active(&new), new.queue.waiting()), (vec![0, 0], 0));
    });
}

#[test]
fn who_has_nobody_left_to_ask_does_not_wait() {
    run_with(|here, spawner| async move {
        let listener = listener();
        let pool = pool_of(&limited(&[&listener], 1, 8));
        let mut tried = Tried::default();
        let held = here.obtain_with(&pool, &mut tried, false).await.unwrap();
        let waiting = {
            let (here, pool) = (Rc::clone(&here), Arc::clone(&pool));
            spawner.spawn(async move { here.obtain(&pool).await.map(drop) })
        };
        here.until(|| pool.queue.waiting() == 1).await;
        // One that has tried all there are.
        let error = here.obtain_with(&pool, &mut tried, false).await.unwrap_err();
        assert!(matches!(error, ObtainError::NoServer(_)), "{error}");
        // All of them are gone: that is told who waits, too.
        pool.members().all[0].server.set_up(false, 1);
        let error = here.obtain(&pool).await.unwrap_err();
        assert!(matches!(error, ObtainError::NoServer(_)), "{error}");
        let error = waiting.await.unwrap_err();
        assert!(matches!(error, ObtainError::NoServer(_)), "{error}");
        drop(held);
        assert_eq!((active(&pool), pool.queue.waiting()), (vec![0], 0));
    });
}

#[test]
fn what_was_waited_for_is_closed_when_it_was_idle_for_long_enough() {
    let worker = Worker::new().unwrap();
    let (reactor, spawner) = (worker.reactor().clone(), worker.spawner().clone());
    let here = || {
        let upstreams = Upstreams::new(reactor.clone(), Arc::default());
        Rc::new(Here { upstreams, reactor: reactor.clone() })
    };
    // As two workers are.
    let (one, other) = (here(), here());
    worker
        .run(async move {
            let listener = listener();
            let idle = Duration::from_millis(20);
            let pool = pool_of(&config::Pool { idle, ..limited(&[&listener], 1, 8) });
            let held = one.obtain(&pool).await.unwrap();
            // The first that this worker asks of the pool is to wait.
            let waiting = {
                let (first, second) = (Rc::clone(&other), Rc::clone(&other));
                let (pool, same) = (Arc::clone(&pool), Arc::clone(&pool));
                let first = spawner.spawn(async move { first.obtain(&pool).await.unwrap().keep() });
                one.until(|| same.queue.waiting() == 1).await;
                let second =
                    spawner.spawn(async move { second.obtain(&same).await.unwrap().keep() });
                [first, second]
            };
            one.until(|| pool.queue.waiting() == 2).await;
            drop(held);
            for task in waiting {
                task.await;
            }
            assert_eq!(other.upstreams.idle(), 1);
            other.reactor.sleep(2 * idle).await;
            other.upstreams.tend();
            assert_eq!(other.upstreams.idle(), 0);
        })
        .unwrap();
}
