//! Pools over reloads, servers that fail, and who looks after them.

use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::Ordering;

use super::super::resolve::tests::{Dns, Says};
use super::*;
use crate::config::ProxyProtocol;

#[test]
fn a_reload_keeps_what_is_known_of_servers_and_their_connections() {
    run(|here| async move {
        let (one, other) = (listener(), listener());
        let said = rule(vec![tcp(&one)]);
        let before = Pools::open(std::slice::from_ref(&said), None).unwrap();
        let pool = before.get("app").unwrap();
        let upstream = here.obtain(&pool).await.unwrap();
        upstream.failed();
        upstream.keep();
        // Somewhere else in the file, it is the same.
        let moved = config::Pool { line: 99, ..said.clone() };
        let same = Pools::open(&[moved], Some(&before)).unwrap();
        assert!(Arc::ptr_eq(&pool, &same.get("app").unwrap()));
        // With another server, the old one is the same.
        let more = config::Pool { servers: vec![tcp(&other), tcp(&one)], ..said.clone() };
        let after = Pools::open(&[more], Some(&same)).unwrap();
        let new = after.get("app").unwrap();
        let figures = new.figures();
        assert_eq!(figures.servers[1].failures, 1);
        assert_eq!((figures.servers[1].requests, figures.servers[1].connects), (1, 1));
        assert_eq!((figures.servers[0].requests, figures.servers[0].connects), (0, 0));
        drop(here.obtain(&new).await.unwrap());
        assert!(here.obtain(&new).await.unwrap().reused);
        // Gone and back, it is another.
        let kept = here.obtain(&new).await.unwrap();
        let held = here.obtain(&new).await.unwrap();
        assert_eq!(held.server(), one.local_addr().unwrap().to_string());
        kept.keep();
        assert_eq!(here.upstreams.idle(), 1);
        let without = Pools::open(&[rule(vec![tcp(&other)])], Some(&after)).unwrap();
        let last = without.get("app").unwrap();
        // The other is the same in all three.
        assert!(here.obtain(&last).await.unwrap().reused);
        drop((pool, before, same, after, new));
        // A request that is under way holds what it began with.
        here.upstreams.tend();
        held.keep();
        here.upstreams.tend();
        assert_eq!(here.upstreams.idle(), 0);
        assert_eq!(last.figures().servers.len(), 1);
        let again = Pools::open(&[said], Some(&without)).unwrap().get("app").unwrap();
        assert_eq!(again.figures().servers[0].failures, 0);
    });
}

#[test]
fn a_server_that_fails_is_left_alone_until_it_answers() {
    run(|here| async move {
        let (one, other) = (listener(), listener());
        let mut said = rule(vec![tcp(&one), tcp(&other)]);
        said.keep_alive = 0;
        said.ejection.failures = 2;
        let pool = pool_of(&said);
        let bad = one.local_addr().unwrap().to_string();
        for _ in 0..4 {
            let upstream = here.obtain(&pool).await.unwrap();
            if upstream.server() == bad { upstream.failed() } else { upstream.succeeded() }
        }
        let ejected = |pool: &Pool| -> Vec<bool> {
            pool.figures().servers.iter().map(|server| server.is_ejected).collect()
        };
        assert_eq!(ejected(&pool), [true, false]);
        for _ in 0..10 {
            let upstream = here.obtain(&pool).await.unwrap();
            assert_ne!(upstream.server(), bad);
            upstream.succeeded();
        }
        for _ in 0..2 {
            here.obtain(&pool).await.unwrap().failed();
        }
        // Now nobody is well: both are asked again, and who answers is well.
        assert_eq!(ejected(&pool), [true, true]);
        let mut asked = std::collections::HashSet::new();
        for _ in 0..10 {
            let upstream = here.obtain(&pool).await.unwrap();
            asked.insert(upstream.server().to_owned());
            if upstream.server() == bad {
                upstream.succeeded();
                break;
            }
        }
        assert!(asked.contains(&bad));
        assert_eq!(ejected(&pool), [false, true]);
        assert_eq!(active(&pool), [0, 0]);
    });
}

#[test]
fn names_are_followed_to_where_they_go() {
    run(|here| async move {
        let one = listener();
        let port = one.local_addr().unwrap().port();
        let Ok(other) = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)) else { return };
        let ip = |listener: &TcpListener| -> IpAddr { listener.local_addr().unwrap().ip() };
        let dns = Dns::start(&[("app.test", Says::Addresses(vec![ip(&one)]))]);
        let host = "app.test".to_owned();
        let mut said = rule(vec![server(Address::Name { host, port })]);
        said.resolver = Some(dns.address);
        let pool = pool_of(&said);
        // The first request waits for the first answer.
        let upstream = here.obtain(&pool).await.unwrap();
        assert_eq!(upstream.server(), one.local_addr().unwrap().to_string());
        assert_eq!(upstream.authority(), format!("app.test:{port}"));
        upstream.keep();
        assert_eq!(here.upstreams.idle(), 1);

        dns.says("app.test", Says::Addresses(vec![ip(&other), ip(&one)]));
        here.until(|| pool.figures().servers.len() == 2).await;
        let mut turns: Vec<_> = Vec::new();
        for _ in 0..4 {
            turns.push(here.obtain(&pool).await.unwrap().server().to_owned());
        }
        turns.sort_unstable();
        turns.dedup();
        assert_eq!(turns.len(), 2);

        dns.says("app.test", Says::Addresses(vec![ip(&other)]));
        here.until(|| pool.figures().servers.len() == 1).await;
        drop(here.obtain(&pool).await.unwrap());
        // Nobody asks who has gone, not even on a connection that was there.
        assert_eq!(here.upstreams.idle(), 0);

        // Better the last than none.
        let asked = dns.asked.load(Ordering::Relaxed);
        dns.says("app.test", Says::Refused);
        here.until(|| dns.asked.load(Ordering::Relaxed) > asked + 4).await;
        let upstream = here.obtain(&pool).await.unwrap();
        assert_eq!(upstream.server(), other.local_addr().unwrap().to_string());
        // Changed otherwise, the pool still knows.
        let after = Pool::open(&config::Pool { keep_alive: 9, ..said }, Some(&pool), None);
        assert_eq!(after.figures().servers.len(), 1);
    });
}

#[test]
fn a_name_that_was_never_resolved_says_so() {
    run(|here| async move {
        let dns = Dns::start(&[]);
        let host = "gone.test".to_owned();
        let mut said = rule(vec![server(Address::Name { host, port: 80 })]);
        said.resolver = Some(dns.address);
        let pool = pool_of(&said);
        let error = here.obtain(&pool).await.unwrap_err();
        let expected = "`gone.test` cannot be resolved: there is no such name";
        assert_eq!((error.to_string(), error.status()), (expected.to_owned(), 502));
        // Later it is.
        dns.says("gone.test", Says::Addresses(vec![Ipv4Addr::LOCALHOST.into()]));
        here.until(|| pool.figures().servers.len() == 1).await;
    });
}

#[test]
fn a_header_of_the_proxy_protocol_goes_first_and_such_connections_are_not_kept() {
    run(|here| async move {
        let listener = listener();
        let mut said = rule(vec![tcp(&listener)]);
        said.proxy_protocol = Some(ProxyProtocol::V1);
        let pool = pool_of(&said);
        let mut upstream = here.obtain(&pool).await.unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        upstream.socket.queue(b"GET /".to_vec()).unwrap();
        upstream.socket.flush().await.unwrap();
        let expected = b"PROXY TCP4 192.0.2.1 192.0.2.2 4000 80\r\nGET /";
        let mut received = vec![0; expected.len()];
        stream.read_exact(&mut received).unwrap();
        assert_eq!(String::from_utf8(received).unwrap().as_bytes(), expected);
        upstream.keep();
        assert_eq!((here.upstreams.idle(), active(&pool)), (0, vec![0]));
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
    });
}
