//! Checks of servers that live, and of those that do not.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicU16, Ordering};

use super::*;
use crate::config::{Health, ProxyProtocol};

/// Answers every request with the status that is set, after its `before` bytes.
fn well(status: &Arc<AtomicU16>, before: &'static [u8]) -> TcpListener {
    let listener = listener();
    let own = listener.try_clone().unwrap();
    let status = Arc::clone(status);
    // Ends with the process.
    std::thread::spawn(move || {
        for stream in own.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = Vec::new();
            let mut buffer = [0; 1024];
            while !request.ends_with(b"\r\n\r\n") {
                match stream.read(&mut buffer) {
                    Ok(0) | Err(_) => break,
                    Ok(count) => request.extend_from_slice(&buffer[..count]),
                }
            }
            let text =
                String::from_utf8_lossy(&request[before.len().min(request.len())..]).into_owned();
            let is_asked = request.starts_with(before)
                && text.starts_with("GET /health HTTP/1.1\r\nHost: ")
                && text.contains("\r\nConnection: close\r\n");
            let status = if is_asked { status.load(Ordering::SeqCst) } else { 400 };
            let head = format!("HTTP/1.1 {status} Well\r\nContent-Length: 2\r\n\r\n");
            let interim = "HTTP/1.1 103 Early Hints\r\n\r\n";
            let _ = stream.write_all(format!("{interim}{head}ok").as_bytes());
            // Kept open, whatever was asked.
            std::mem::forget(stream);
        }
    });
    listener
}

fn checked() -> Health {
    Health {
        path: "/health".to_owned(),
        host: None,
        interval: Duration::from_millis(20),
        timeout: PATIENCE,
        status: (200, 299),
        fails: 2,
        passes: 2,
    }
}

#[test]
fn a_server_that_fails_its_checks_is_not_asked() {
    run(|here| async move {
        let status = Arc::new(AtomicU16::new(500));
        for version in [None, Some(ProxyProtocol::V1)] {
            status.store(500, Ordering::SeqCst);
            let begins: &[u8] = if version.is_some() { b"PROXY UNKNOWN\r\n" } else { b"" };
            let sick = well(&status, begins);
            let fine = well(&Arc::new(AtomicU16::new(204)), begins);
            let mut said = rule(vec![tcp(&sick), tcp(&fine)]);
            (said.health, said.proxy_protocol) = (Some(checked()), version);
            let pool = pool_of(&said);
            // Before the first check it is up.
            let up = |pool: &Pool| pool.figures().servers[0].is_up;
            here.until(|| !up(&pool)).await;
            assert!(pool.figures().servers[1].is_up);
            for _ in 0..4 {
                let upstream = here.obtain(&pool).await.unwrap();
                assert_eq!(upstream.server(), fine.local_addr().unwrap().to_string());
            }
            status.store(200, Ordering::SeqCst);
            here.until(|| up(&pool)).await;
        }
    });
}

#[test]
fn checks_end_with_their_pool_and_a_server_without_them_is_up() {
    run(|here| async move {
        let status = Arc::new(AtomicU16::new(500));
        let sick = well(&status, b"");
        let said = config::Pool { health: Some(checked()), ..rule(vec![tcp(&sick)]) };
        let pools = Pools::open(std::slice::from_ref(&said), None).unwrap();
        let pool = pools.get("app").unwrap();
        here.until(|| !pool.figures().servers[0].is_up).await;
        assert!(matches!(here.obtain(&pool).await.unwrap_err(), ObtainError::NoServer(_)));
        // What may still be refused changes nothing.
        let without = config::Pool { health: None, ..said };
        let after = Pools::open(&[without], Some(&pools)).unwrap();
        let up = || after.get("app").unwrap().figures().servers[0].is_up;
        assert!(!up());
        after.take_over(&pools);
        assert!(up());
        // A request of the old pool's may last: its checks do not.
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            here.reactor.sleep(Duration::from_millis(5)).await;
            assert!(up());
        }
        assert!(pool.figures().servers[0].is_up, "it is the same server");
        let gone = Arc::downgrade(&pool);
        drop((pool, pools));
        here.until(|| gone.strong_count() == 0).await;
    });
}

#[test]
fn whoever_does_not_answer_as_a_server_does_is_down() {
    run(|here| async move {
        let directory = tempfile::tempdir().unwrap();
        let (missing, path) = (directory.path().join("missing"), directory.path().join("socket"));
        let garbage = UnixListener::bind(&path).unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = garbage.accept() {
                let _ = stream.write_all(b"220 mail ready\r\n\r\n");
                let _ = stream.read(&mut [0; 1024]);
            }
        });
        let hasty = listener();
        let own = hasty.try_clone().unwrap();
        std::thread::spawn(move || while own.accept().is_ok() {});
        // It accepts, as the kernel does for it, and never answers.
        let silent = listener();
        let deaf = listener();
        let deaf_address = deaf.local_addr().unwrap();
        drop(deaf);
        let mut said = rule(vec![
            server(Address::Unix(missing)),
            server(Address::Unix(path)),
            tcp(&hasty),
            tcp(&silent),
            server(Address::Tcp(deaf_address)),
        ]);
        said.health = Some(Health { timeout: Duration::from_millis(200), ..checked() });
        let pool = pool_of(&said);
        here.until(|| pool.figures().servers.iter().all(|server| !server.is_up)).await;
        // What clients' requests count is not touched by it.
        assert!(pool.figures().servers.iter().all(|server| server.failures == 0));
        assert!(pool.figures().servers.iter().all(|server| server.connects == 0));
    });
}

#[test]
fn a_server_of_the_unix_domain_is_checked_as_well() {
    run(|here| async move {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let is_well = Arc::new(AtomicU16::new(0));
        let own = Arc::clone(&is_well);
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let mut request = [0; 1024];
                let count = stream.read(&mut request).unwrap_or(0);
                let text = String::from_utf8_lossy(&request[..count]).into_owned();
                assert!(text.contains("\r\nHost: check.test\r\n"), "{text}");
                let head = match own.fetch_add(1, Ordering::SeqCst) {
                    0..5 => &b"HTTP/1.1 503 Not yet\r\n\r\n"[..],
                    _ => b"HTTP/1.0 302 Found\r\nLocation: /\r\n\r\n",
                };
                let _ = stream.write_all(head);
            }
        });
        let mut said = rule(vec![server(Address::Unix(path))]);
        let host = Some("check.test".to_owned());
        said.health = Some(Health { host, status: (200, 399), ..checked() });
        let pool = pool_of(&said);
        here.until(|| !pool.figures().servers[0].is_up).await;
        here.until(|| pool.figures().servers[0].is_up).await;
        assert!(is_well.load(Ordering::SeqCst) >= 7);
    });
}

#[test]
fn only_the_newest_checks_of_a_server_count() {
    run(|here| async move {
        // It is well on one path alone.
        let listener = listener();
        let own = listener.try_clone().unwrap();
        std::thread::spawn(move || {
            while let Ok((mut stream, _)) = own.accept() {
                let mut request = [0; 1024];
                let count = stream.read(&mut request).unwrap_or(0);
                let is_well = request[..count].starts_with(b"GET /well ");
                let head: &[u8] =
                    if is_well { b"HTTP/1.1 200 OK\r\n\r\n" } else { b"HTTP/1.1 404 No\r\n\r\n" };
                let _ = stream.write_all(head);
            }
        });
        let on = |path: &str| {
            let health = Health { path: path.to_owned(), ..checked() };
            config::Pool { health: Some(health), ..rule(vec![tcp(&listener)]) }
        };
        let wrong = Pools::open(&[on("/wrong")], None).unwrap();
        let old = wrong.get("app").unwrap();
        here.until(|| !old.figures().servers[0].is_up).await;
        let right = Pools::open(&[on("/well")], Some(&wrong)).unwrap();
        right.take_over(&wrong);
        let new = right.get("app").unwrap();
        here.until(|| new.figures().servers[0].is_up).await;
        // The old pool is still in use.
        let begin = std::time::Instant::now();
        while begin.elapsed() < Duration::from_millis(300) {
            here.reactor.sleep(Duration::from_millis(5)).await;
            assert!(old.figures().servers[0].is_up);
        }
    });
}
