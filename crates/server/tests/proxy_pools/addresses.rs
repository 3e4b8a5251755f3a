//! Where servers are: sockets of the Unix domain, and names that change what they stand for.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::proxied::answers::{catalogue, text};
use crate::proxied::client::Expected;
use crate::proxied::eventually;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::Upstream;

#[test]
fn a_server_is_a_socket_of_the_unix_domain() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::unix(&directory.path().join("app.sock"), catalogue);
    for spool in ["pipes = true", "pipes = false", "pipes = false, memory_ring = true"] {
        let proxied =
            Proxied::start(&Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}")));
        for kind in ["sized", "chunked", "close"] {
            let mut client = proxied.client();
            client.ask(&format!("GET /{kind}/1/5000000 HTTP/1.1"), &[]);
            let reply = client.reply("GET", Expected::Corpus(1, 0)).whole(200);
            assert_eq!(reply.length, 5_000_000);
        }
        let mut client = proxied.client();
        client.ask("POST /text HTTP/1.1", &["Content-Length: 5"]);
        client.send("hello");
        client.reply("POST", Expected::Any).whole(200);
    }
    // `url` is a pool by itself.
    let routes = format!(
        "[[site.route]]\npath = \"/by-url\"\nproxy = {{ url = \"http://{}\" }}\n",
        upstream.name
    );
    let proxied = Proxied::start(&Setup::to(&[&upstream]).routes(&routes));
    proxied.client().get("/by-url").whole(200);
}

/// A name server with one address, which may change, and a time to live of a second. RFC 1035.
fn name_server(last: &Arc<AtomicU8>, asked: &Arc<AtomicUsize>) -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let (last, asked) = (Arc::clone(last), Arc::clone(asked));
    // It ends with the test's process.
    std::thread::spawn(move || {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query) {
            asked.fetch_add(1, Ordering::SeqCst);
            // What is no question has no answer.
            let names = query.get(12..length).unwrap_or_default();
            let Some(end) = names.iter().position(|byte| *byte == 0) else { continue };
            let Some(question) = names.get(..end + 5) else { continue };
            let is_a = question[end + 1..end + 3] == [0, 1];
            let mut answer = query[..2].to_vec();
            // A response, recursion available; one question, one answer or none.
            answer.extend([0x81, 0x80, 0, 1, 0, is_a.into(), 0, 0, 0, 0]);
            answer.extend(question);
            if is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4]);
                answer.extend([127, 0, 0, last.load(Ordering::SeqCst)]);
            }
            let _ = socket.send_to(&answer, from);
        }
    });
    address
}

/// Listeners at two addresses of this host that have the same port.
fn at_one_port() -> (TcpListener, TcpListener) {
    let mut tries = 0;
    loop {
        let here = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = here.local_addr().unwrap().port();
        // The kernel has chosen it for the first alone: somebody may have it at the second.
        match TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), port)) {
            Ok(there) => return (here, there),
            Err(error) => assert!(tries < 100, "{error}"),
        }
        tries += 1;
    }
}

#[test]
fn a_name_is_asked_for_again_when_its_time_is_over() {
    let (here, there) = at_one_port();
    let port = here.local_addr().unwrap().port();
    let here = Upstream::at(here, |exchange| text(exchange, "here"));
    let there = Upstream::at(there, |exchange| text(exchange, "there"));
    let (last, asked) = (Arc::new(AtomicU8::new(1)), Arc::new(AtomicUsize::new(0)));
    let resolver = name_server(&last, &asked);
    let mut setup = Setup::to(&[]).pool(&format!("resolver = \"{resolver}\"")).workers(1);
    setup.servers = vec![format!("\"app.example.test:{port}\"")];
    let proxied = Proxied::start(&setup.proxy("host = \"upstream\""));
    let mut number = 0;
    let mut ask = || {
        number += 1;
        sleep(Duration::from_millis(50));
        let reply = proxied.client().get(&format!("/{number}"));
        if reply.status == 200 { reply.text().to_owned() } else { format!("{}", reply.status) }
    };
    eventually("it is found", || ask() == "here");
    let name = format!("app.example.test:{port}");
    assert_eq!(here.asked()[0].head.field("Host"), Some(&*name));
    last.store(2, Ordering::SeqCst);
    eventually("it has moved", || ask() == "there");
    // What was idle there is not kept for ever, and nothing is asked for with each request.
    let (queries, begin) = (asked.load(Ordering::SeqCst), Instant::now());
    (0..40).for_each(|_| assert_eq!(ask(), "there"));
    let more = asked.load(Ordering::SeqCst) - queries;
    // Two kinds of addresses, as often as their time ends: a second, and the machine may be slow.
    let times = begin.elapsed().as_secs() as usize + 2;
    assert!(more <= 2 * times, "{more} queries for 40 requests, at most {times} times two");
    assert!(!there.asked().is_empty());
}
