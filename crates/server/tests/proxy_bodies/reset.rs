//! Answers whose connection is reset while the request is still being sent.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::Signal;
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::{corpus, require};

use crate::proxied::PATIENCE;
use crate::proxied::answers::head;
use crate::proxied::client::{Client, Expected};
use crate::proxied::incoming::Broken;
use crate::proxied::program::{PROGRAM, Proxied, Setup};
use crate::proxied::upstream::{Exchange, Next, Upstream};

const SEED: u64 = 71;
/// No more than the program's socket holds while nobody reads it.
const PART: usize = 20_000;

fn wait(go: &Mutex<Receiver<()>>) {
    go.lock().unwrap().recv_timeout(PATIENCE).unwrap();
}

/// Sends so much of a body that only the connection delimits, and is gone before it has read the
/// request: with an end before that (`fin`), or without.
fn part_of_a_body(exchange: &mut Exchange, go: &Mutex<Receiver<()>>) -> std::io::Result<Next> {
    let target = exchange.asked.target().to_owned();
    let mut part = vec![0; PART];
    corpus::fill(SEED, 0, &mut part);
    let answer = head("200 OK", &["X-Framing: none"]);
    // With its head, or behind it.
    if target.starts_with("/head") {
        wait(go);
        exchange.send([answer.as_bytes(), &part].concat())?;
    } else {
        exchange.send(answer)?;
        wait(go);
        exchange.send(part)?;
    }
    if target.ends_with("/fin") {
        exchange.incoming.stream.shutdown(Shutdown::Write)?;
        // A reset throws away what the kernel has not sent yet, and the end may be that.
        sleep(Duration::from_millis(100));
    }
    Ok(Next::Reset)
}

#[test]
fn a_reset_is_no_end_of_a_body_also_where_sending_meets_it_first() {
    let (go, wait) = channel();
    let wait = Arc::new(Mutex::new(wait));
    let upstream = Upstream::new(move |exchange| part_of_a_body(exchange, &wait));
    let setup = Setup::to(&[&upstream]).proxy("body_limit = \"1GiB\", request_body = \"streamed\"");
    let mut proxied = Proxied::start(&setup.pool("ejection = false"));
    for (number, target) in
        ["/head/reset", "/behind/reset", "/head/fin", "/behind/fin"].into_iter().enumerate()
    {
        let mut client = proxied.client();
        client.ask(&format!("POST {target} HTTP/1.1"), &["Content-Length: 500000000"]);
        upstream.wait_until_asked(number + 1);
        // Nobody reads it: what is being sent waits, in all that there is of buffers.
        client.stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
        let block = vec![0; 1 << 20];
        let full = loop {
            if let Err(error) = client.incoming.stream.write_all(&block) {
                break error;
            }
        };
        assert_eq!(full.kind(), ErrorKind::WouldBlock, "{full}");
        // So that answer and reset are there at once when it looks again.
        proxied.child.signal(Signal::STOP).unwrap();
        go.send(()).unwrap();
        upstream.wait_until_open(0);
        proxied.child.signal(Signal::CONT).unwrap();
        let reply = client.reply("POST", Expected::Corpus(SEED, 0));
        if target.ends_with("/fin") {
            let line = proxied.logged(target);
            assert!(line["trouble"].is_null() && line["failure"].is_null(), "{line}");
            assert_eq!(reply.whole(200).length, PART as u64, "{target}");
        } else {
            assert_eq!(reply.status, 200, "{target}");
            reply.cut();
            assert_eq!(proxied.logged(target)["trouble"], "body_broken");
        }
    }
}

/// Reads a request head.
fn read_head(stream: &mut TcpStream) {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
}

/// The same of a request that is nothing but a head, longer than what sockets hold.
#[test]
fn a_reset_is_no_end_of_a_body_also_where_a_long_head_meets_it() {
    require!(Need::Root, Need::NetworkNamespaces);
    const PART: usize = 1000;
    let lab = Lab::veth().unwrap();
    let server = lab.server();
    let listener = server.enter(|| {
        // In memory of a network of its own.
        for name in ["tcp_wmem", "tcp_rmem"] {
            let path = format!("/proc/sys/net/ipv4/{name}");
            std::fs::write(path, "4096 4096 4096").unwrap();
        }
        TcpListener::bind("127.0.0.1:0").unwrap()
    });
    let listener = listener.unwrap();
    let mut setup = Setup::to(&[]).pool("ejection = false").workers(1);
    setup.servers.push(format!("{:?}", listener.local_addr().unwrap().to_string()));
    let listen = (server.address(), 8080).into();
    let mut proxied = Proxied::start_by(&setup, listen, |_| server.command(PROGRAM));
    let (sends, is_sending) = channel();
    let (go, may_go) = channel();
    let (gone, is_gone) = channel();
    let upstream = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        read_head(&mut stream);
        stream.write_all(head("200 OK", &["Content-Length: 0"]).as_bytes()).unwrap();
        // The next one comes on the connection that is there, and is not read.
        stream.peek(&mut [0]).unwrap();
        sends.send(()).unwrap();
        may_go.recv_timeout(PATIENCE).unwrap();
        let mut part = vec![0; PART];
        corpus::fill(SEED, 0, &mut part);
        let answer = head("200 OK", &["X-Framing: none"]);
        stream.write_all(&[answer.as_bytes(), &part].concat()).unwrap();
        // With a reset, since it has not read everything.
        drop(stream);
        gone.send(()).unwrap();
    });
    let mut client = server.enter(|| Client::new(listen)).unwrap();
    client.get("/warm").whole(200);
    let fields: Vec<String> = (0..50).map(|at| format!("X-{at}: {}", "x".repeat(1000))).collect();
    let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
    client.ask("GET /long HTTP/1.1", &fields);
    is_sending.recv_timeout(PATIENCE).unwrap();
    sleep(Duration::from_millis(200));
    // So that answer and reset are there at once when it looks again.
    proxied.child.signal(Signal::STOP).unwrap();
    go.send(()).unwrap();
    is_gone.recv_timeout(PATIENCE).unwrap();
    sleep(Duration::from_millis(100));
    proxied.child.signal(Signal::CONT).unwrap();
    upstream.join().unwrap();
    match client.try_reply("GET", Expected::Corpus(SEED, 0)) {
        Ok(reply) => drop(reply.cut()),
        // Before anything of it was sent.
        Err(broken) => assert!(matches!(broken, Broken::Reset), "{broken:?}"),
    }
    let line = proxied.logged("/long");
    assert_eq!(line["trouble"], "body_broken", "{line}");
    assert_eq!(line["upstream_tries"], 1, "{line}");
    proxied.stop();
}
