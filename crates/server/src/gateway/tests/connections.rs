//! Connections that are made, kept, used again, and let go.

use std::io::{Read, Write};
use std::os::unix::net::UnixListener;

use super::*;

/// Says `request`, and has `stream` answer with as many bytes.
async fn exchange(upstream: &mut Upstream, mut stream: impl Read + Write, request: &[u8]) {
    assert_eq!(upstream.socket.send_now(request).unwrap(), request.len());
    let mut received = vec![0; request.len()];
    stream.read_exact(&mut received).unwrap();
    assert_eq!(received, request);
    stream.write_all(&received).unwrap();
    let mut answer = Vec::with_capacity(1024);
    while answer.len() < request.len() {
        assert!(upstream.socket.receive(&mut answer).await.unwrap() > 0);
    }
    upstream.succeeded();
}

#[test]
fn a_kept_connection_serves_the_next_request() {
    run(|here| async move {
        let listener = listener();
        let pool = pool_of(&rule(vec![tcp(&listener)]));
        let mut upstream = here.obtain(&pool).await.unwrap();
        assert!(!upstream.reused);
        assert_eq!(upstream.server(), listener.local_addr().unwrap().to_string());
        assert_eq!(upstream.authority(), listener.local_addr().unwrap().to_string());
        assert_eq!(active(&pool), [1]);
        let (stream, _) = listener.accept().unwrap();
        exchange(&mut upstream, &stream, b"one").await;
        upstream.keep();
        assert_eq!(active(&pool), [0]);

        let mut upstream = here.obtain(&pool).await.unwrap();
        assert!(upstream.reused);
        exchange(&mut upstream, &stream, b"two").await;
        // What is not kept is closed.
        drop(upstream);
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
        assert!(!here.obtain(&pool).await.unwrap().reused);
        let figures = &pool.figures().servers[0];
        assert_eq!((figures.requests, figures.connects, figures.reuses), (3, 2, 1));
        assert_eq!(figures.active, 0);
    });
}

#[test]
fn unix_sockets_serve_as_well() {
    run(|here| async move {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        let pool = pool_of(&rule(vec![server(Address::Unix(path.clone()))]));
        let mut upstream = here.obtain(&pool).await.unwrap();
        assert_eq!(upstream.server(), format!("unix:{}", path.display()));
        assert_eq!(upstream.authority(), "localhost");
        let (stream, _) = listener.accept().unwrap();
        exchange(&mut upstream, &stream, b"one").await;
        upstream.keep();
        let mut upstream = here.obtain(&pool).await.unwrap();
        assert!(upstream.reused);
        exchange(&mut upstream, &stream, b"two").await;
        upstream.keep();
        drop(stream);
        // Heard at once, without a look.
        here.until(|| here.upstreams.idle() == 0).await;
        assert!(!here.obtain(&pool).await.unwrap().reused);
    });
}

#[test]
fn servers_take_turns() {
    run(|here| async move {
        let listeners = [listener(), listener(), listener()];
        let mut servers: Vec<_> = listeners.iter().map(tcp).collect();
        servers[0].weight = 2;
        let pool = pool_of(&rule(servers));
        let mut order = Vec::new();
        for _ in 0..8 {
            order.push(here.obtain(&pool).await.unwrap().server().to_owned());
        }
        let name = |at: usize| listeners[at].local_addr().unwrap().to_string();
        let expected: Vec<_> = [0, 1, 2, 0, 0, 1, 2, 0].into_iter().map(name).collect();
        assert_eq!(order, expected);
        assert_eq!(active(&pool), [0, 0, 0]);
    });
}

#[test]
fn a_server_that_refuses_is_told_apart_and_another_is_tried() {
    run(|here| async move {
        let (deaf, listener) = (listener(), listener());
        let pool = pool_of(&rule(vec![tcp(&deaf), tcp(&listener)]));
        let name = deaf.local_addr().unwrap().to_string();
        drop(deaf);
        let mut tried = Tried::default();
        let error = here.obtain_with(&pool, &mut tried, false).await.unwrap_err();
        assert!(error.may_retry() && error.status() == 502 && error.name() == "connect");
        assert!(error.to_string().starts_with(&format!("{name}: Connection refused")), "{error}");
        let upstream = here.obtain_with(&pool, &mut tried, false).await.unwrap();
        assert_eq!(upstream.server(), listener.local_addr().unwrap().to_string());
        drop(upstream);
        let error = here.obtain_with(&pool, &mut tried, false).await.unwrap_err();
        assert!(matches!(error, ObtainError::NoServer(_)) && error.status() == 503);
        assert_eq!(active(&pool), [0, 0]);
        assert_eq!(pool.figures().servers[0].failures, 1);
    });
}

#[test]
fn what_is_not_as_it_should_be_is_never_used_again() {
    run(|here| async move {
        let listener = listener();
        let mut said = rule(vec![tcp(&listener)]);
        said.requests_per_connection = 3;
        said.keep_alive = 2;
        let pool = pool_of(&said);
        let kept = async |here: &Here| {
            let mut upstream = here.obtain(&pool).await.unwrap();
            assert!(!upstream.reused);
            let (stream, _) = listener.accept().unwrap();
            exchange(&mut upstream, &stream, b"one").await;
            upstream.keep();
            stream
        };
        // More than the answer was said already.
        let mut upstream = here.obtain(&pool).await.unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        exchange(&mut upstream, &stream, b"one").await;
        stream.write_all(b"HTTP/1.1 408 Late\r\n\r\n").unwrap();
        let mut peeked = Vec::with_capacity(1);
        std::future::poll_fn(|cx| upstream.socket.poll_peek(cx, &mut peeked, 0)).await.unwrap();
        upstream.keep();
        assert_eq!(here.upstreams.idle(), 0);
        // It is said while the connection is idle.
        let mut stream = kept(&here).await;
        assert_eq!(here.upstreams.idle(), 1);
        stream.write_all(b"HTTP/1.1 408 Late\r\n\r\n").unwrap();
        here.until(|| here.upstreams.idle() == 0).await;
        // The server closes it, or is gone.
        drop(kept(&here).await);
        here.until(|| here.upstreams.idle() == 0).await;
        let stream = kept(&here).await;
        rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO)).unwrap();
        drop(stream);
        here.until(|| here.upstreams.idle() == 0).await;
        // Some of the request was not sent.
        let mut upstream = here.obtain(&pool).await.unwrap();
        let _stream = listener.accept().unwrap();
        upstream.socket.queue(b"late".to_vec()).unwrap();
        upstream.keep();
        assert_eq!(here.upstreams.idle(), 0);
        // It has had as many requests as it may.
        let stream = kept(&here).await;
        for _ in 1..3 {
            let mut upstream = here.obtain(&pool).await.unwrap();
            assert!(upstream.reused);
            exchange(&mut upstream, &stream, b"two").await;
            upstream.keep();
        }
        assert_eq!(here.upstreams.idle(), 0);
        assert_eq!((&stream).read(&mut [0]).unwrap(), 0);
        // There are as many as there may be: the oldest goes.
        let mut upstreams = Vec::new();
        let mut streams = Vec::new();
        for _ in 0..4 {
            upstreams.push(here.obtain(&pool).await.unwrap());
            streams.push(listener.accept().unwrap().0);
        }
        for (upstream, stream) in upstreams.iter_mut().zip(&streams) {
            exchange(upstream, stream, b"one").await;
        }
        upstreams.into_iter().for_each(Upstream::keep);
        assert_eq!(here.upstreams.idle(), 2);
        for closed in &mut streams[..2] {
            assert_eq!(closed.read(&mut [0]).unwrap(), 0);
        }
        // The newest is used first.
        let mut upstream = here.obtain(&pool).await.unwrap();
        exchange(&mut upstream, &streams[3], b"two").await;
        drop(upstream);
        assert_eq!(active(&pool), [0]);
    });
}

#[test]
fn an_answer_that_fills_the_buffer_is_no_reason_to_close() {
    run(|here| async move {
        let listener = listener();
        let pool = pool_of(&rule(vec![tcp(&listener)]));
        let mut upstream = here.obtain(&pool).await.unwrap();
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(&[b'a'; 64]).unwrap();
        let mut answer = Vec::new();
        while answer.len() < 64 {
            let mut exact = Vec::with_capacity(64 - answer.len());
            upstream.socket.receive(&mut exact).await.unwrap();
            answer.append(&mut exact);
        }
        upstream.keep();
        assert!(here.obtain(&pool).await.unwrap().reused);
    });
}

#[test]
fn idle_connections_grow_old() {
    run(|here| async move {
        let listener = listener();
        let said = config::Pool { idle: Duration::from_millis(30), ..rule(vec![tcp(&listener)]) };
        let pool = pool_of(&said);
        here.obtain(&pool).await.unwrap().keep();
        here.obtain(&pool).await.unwrap().keep();
        assert_eq!(here.upstreams.idle(), 1);
        here.reactor.sleep(Duration::from_millis(60)).await;
        assert!(!here.obtain(&pool).await.unwrap().reused);
        here.obtain(&pool).await.unwrap().keep();
        assert_eq!(here.upstreams.idle(), 1);
        here.reactor.sleep(Duration::from_millis(60)).await;
        here.upstreams.tend();
        assert_eq!(here.upstreams.idle(), 0);
    });
}

#[test]
fn a_connection_that_is_never_made_is_given_up() {
    use rustix::net::{AddressFamily, SocketType, bind, listen, socket};
    run(|here| async move {
        // Its queue is full, so it drops what comes.
        let deaf = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&deaf, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        listen(&deaf, 0).unwrap();
        let address: SocketAddr = rustix::net::getsockname(&deaf).unwrap().try_into().unwrap();
        let _first = std::net::TcpStream::connect(address).unwrap();
        let mut said = rule(vec![server(Address::Tcp(address))]);
        said.connect = Duration::from_millis(50);
        let pool = pool_of(&said);
        let error = here.obtain(&pool).await.unwrap_err();
        assert_eq!((error.status(), error.name()), (504, "connect_timeout"));
        assert!(error.may_retry() && !error.is_ours());
        assert_eq!((active(&pool), pool.figures().servers[0].failures), (vec![0], 1));
    });
}

#[test]
fn a_unix_server_that_is_busy_is_waited_for() {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, accept, bind, listen, socket};
    run(|here| async move {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("busy");
        let busy = socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
        bind(&busy, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        listen(&busy, 0).unwrap();
        let full: Vec<_> = (0..16)
            .map_while(|_| {
                let socket = sluicegate_sys::connect::unix_stream().unwrap();
                let is_there =
                    sluicegate_sys::connect::connect_unix(std::os::fd::AsFd::as_fd(&socket), &path);
                is_there.unwrap().then_some(socket)
            })
            .collect();
        assert!(full.len() < 16);
        let later = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(100));
            (0..full.len() + 1).map(|_| accept(&busy).unwrap()).collect::<Vec<_>>()
        });
        let pool = pool_of(&rule(vec![server(Address::Unix(path))]));
        let upstream = here.obtain(&pool).await.unwrap();
        drop((upstream, later.join().unwrap()));
        assert_eq!(pool.figures().servers[0].failures, 0);
    });
}
