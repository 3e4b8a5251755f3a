//! Each way in which a request comes to nothing has its name in the log, and is counted by it.

use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketAddrUnix, SocketType};

use crate::proxied::answers::{head, text};
use crate::proxied::client::{Client, Expected};
use crate::proxied::eventually;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Exchange, Next, Upstream};

/// Fails each request as its target says.
fn failing(exchange: &mut Exchange) -> std::io::Result<Next> {
    let part = head("200 OK", &["Content-Length: 100"]) + "a part";
    let (answer, next) = match exchange.asked.target().trim_start_matches('/') {
        "closed" => (String::new(), Next::Close),
        "broken" => (String::new(), Next::Reset),
        "truncated" => (part, Next::Close),
        "body_broken" => (part, Next::Reset),
        "bad_answer" => ("HTTP/1.1 200 OK\r\nno field\r\n\r\n".to_owned(), Next::Close),
        "bad_chunks" => {
            (head("200 OK", &["Transfer-Encoding: chunked"]) + "nought\r\n", Next::Close)
        }
        "accel" => (head("200 OK", &["X-Accel-Redirect: /none", "Content-Length: 0"]), Next::Keep),
        // Of what its client has not said well, the answer would come too early.
        "head_timeout" | "client_body" => {
            exchange.wait_for_end();
            (String::new(), Next::Close)
        }
        "read_timeout" | "client_gone" => {
            exchange.send(part)?;
            exchange.wait_for_end();
            (String::new(), Next::Close)
        }
        _ => return text(exchange, "well"),
    };
    exchange.send(answer)?;
    if next == Next::Reset {
        // What was sent is read before.
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(next)
}

/// A socket whose queue is full: nobody can connect to it, and nobody is told that it were gone.
fn full(path: &std::path::Path) -> (rustix::fd::OwnedFd, Vec<UnixStream>) {
    let socket = rustix::net::socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap();
    rustix::net::bind(&socket, &SocketAddrUnix::new(path).unwrap()).unwrap();
    rustix::net::listen(&socket, 0).unwrap();
    (socket, vec![UnixStream::connect(path).unwrap()])
}

/// Sends a request that comes to nothing: the status of its answer, if there is one.
fn ask(client: &mut Client, name: &str) -> Option<u16> {
    // Nobody is asked twice for what is not idempotent; and this one nobody is asked for at all.
    let method = if name == "refused" { "TRACE" } else { "POST" };
    let line = format!("{method} /{name} HTTP/1.1");
    match name {
        "body_too_large" => client.ask(&line, &["Content-Length: 2000000"]),
        "client_body" => {
            client.ask(&line, &["Transfer-Encoding: chunked", "Expect: 100-continue"]);
            // It is read on the way to an upstream, and no longer with the head.
            client.incoming.head().unwrap().unwrap();
            client.send("nought\r\n");
        }
        "refused" => client.ask(&line, &[]),
        _ => client.ask(&line, &["Content-Length: 0"]),
    }
    if name == "client_gone" {
        client.incoming.head().unwrap().unwrap();
        return None;
    }
    let reply = client.try_reply("POST", Expected::Any).ok()?;
    assert!(reply.status >= 400 || reply.broken.is_some(), "{name}: {reply:?}");
    Some(reply.status)
}

#[test]
fn every_trouble_is_in_the_log_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("full");
    let _full = full(&path);
    let gone = directory.path().join("gone");
    drop(UnixListener::bind(&gone).unwrap());
    let upstream = Upstream::new(failing);
    // A resolver that is not there.
    let resolver = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let pool = |name: &str, lines: String| format!("[pool.{name}]\nconnect = \"300ms\"\n{lines}\n");
    let top = [
        pool("full", format!("servers = [\"unix:{}\"]", path.display())),
        pool("gone", format!("servers = [\"unix:{}\"]", gone.display())),
        pool("unknown", format!("servers = [\"app.test:80\"]\nresolver = \"{resolver}\"")),
    ]
    .concat();
    let route = |path: &str, pool: &str, keys: &str| {
        format!("[[site.route]]\npath = \"{path}\"\nproxy = {{ pool = \"{pool}\"{keys} }}\n")
    };
    let routes = [
        route("/connect", "gone", ""),
        route("/connect_timeout", "full", ""),
        route("/unresolved", "unknown", ""),
        route("/accel", "app", ", accel = true"),
        route("/head_timeout", "app", ", head_timeout = \"200ms\""),
        route("/read_timeout", "app", ", read_timeout = \"200ms\""),
        route("/body_too_large", "app", ", body_limit = \"1MiB\""),
    ]
    .concat();
    let setup = Setup::to(&[&upstream]).pool("ejection = false").top(&top).routes(&routes);
    let proxied = Proxied::start(&setup);
    let all: [(&str, &[Option<u16>]); 16] = [
        ("closed", &[Some(502)]),
        ("broken", &[Some(502)]),
        ("truncated", &[Some(200), None]),
        ("body_broken", &[Some(200), None]),
        ("bad_answer", &[Some(502)]),
        ("bad_chunks", &[Some(502), Some(200)]),
        ("accel", &[Some(502)]),
        ("head_timeout", &[Some(504)]),
        ("read_timeout", &[Some(200)]),
        ("client_gone", &[None]),
        ("connect", &[Some(502)]),
        ("connect_timeout", &[Some(504)]),
        ("unresolved", &[Some(502)]),
        ("refused", &[Some(405)]),
        ("body_too_large", &[Some(413)]),
        ("client_body", &[Some(400)]),
    ];
    for (name, statuses) in all {
        let mut client = proxied.client();
        let status = ask(&mut client, name);
        assert!(statuses.contains(&status), "{name}: {status:?}");
        // That it says nothing more would be no reason to go.
        client.reset();
        let line = proxied.logged(&format!("/{name}"));
        assert_eq!(line["trouble"], name, "{line}");
    }
    // The counts are written with the lines, by the workers.
    for (name, _) in all {
        let count = format!("relay_troubles_total{{trouble=\"{name}\"}}");
        eventually(name, || proxied.metrics().sum(&count) == 1);
    }
    proxied.client().get("/well").whole(200);
    assert_eq!(proxied.metrics().sum("relay_troubles_total"), all.len() as u64);
}
