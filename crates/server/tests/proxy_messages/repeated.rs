//! Bodies of requests that are tried again: whole, or not at all.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::proxied::answers::text;
use crate::proxied::client::{Client, Expected};
use crate::proxied::incoming::Incoming;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Exchange, Next, Stream, Upstream};

/// Closes the connection once all of the request has come.
fn receive_and_close(exchange: &mut Exchange) -> io::Result<Next> {
    let _ = exchange.receive_content();
    Ok(Next::Close)
}

fn say_length(exchange: &mut Exchange) -> io::Result<Next> {
    let _ = exchange.receive_content();
    let length = exchange.asked.content.len();
    text(exchange, &format!("good {length}"))
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

fn put(client: &mut Client, target: &str, framing: &str, content: &[u8]) -> u16 {
    let fields: &[&str] = match framing {
        "chunked" => &["Transfer-Encoding: chunked", "Trailer: X-Sum"],
        _ => &[&format!("Content-Length: {}", content.len())],
    };
    client.ask(&format!("PUT {target} HTTP/1.1"), fields);
    if framing == "chunked" {
        client.send(format!("{:x}\r\n", content.len()));
        client.send(content);
        client.send("\r\n0\r\nX-Sum: 1\r\n\r\n");
    } else {
        client.send(content);
    }
    client.reply("PUT", Expected::Any).status
}

#[test]
fn a_body_that_is_here_no_more_is_asked_for_once_and_one_that_is_goes_again_whole() {
    for (kept, version) in [(false, ""), (true, ""), (false, "v2"), (true, "v2")] {
        let preface = move |incoming: &mut Incoming<Stream>| {
            if version.is_empty() {
                return Ok(());
            }
            let head = incoming.exactly(16)?;
            let length = u16::from_be_bytes([head[14], head[15]]);
            incoming.exactly(usize::from(length)).map(|_| ())
        };
        let bad = Upstream::after(preface, receive_and_close);
        let good = Upstream::after(preface, say_length);
        let (rule, keys) = match kept {
            true => ("buffered", "request_body = \"buffered\", buffer = \"1MiB\""),
            false => ("streamed", "request_body = \"streamed\""),
        };
        let mut setup = Setup::to(&[&bad, &good]).pool("ejection = false").proxy(keys).workers(1);
        if !version.is_empty() {
            setup = setup.pool(&format!("proxy_protocol = {version:?}"));
        }
        let proxied = Proxied::start(&setup);
        for (length, framing) in [(5, "sized"), (300_000, "sized"), (5, "chunked")] {
            let content = content(length);
            // Whose turn it is, is the balance's affair: both come first.
            for number in 0..4 {
                let case = format!("/{rule}/{framing}/{length}/{number}");
                let status = put(&mut proxied.client(), &case, framing, &content);
                let mut asked = bad.asked();
                asked.retain(|asked| asked.target() == case);
                let is_first = !asked.is_empty();
                asked.extend(good.asked().into_iter().filter(|asked| asked.target() == case));
                for asked in &asked {
                    assert!(asked.is_whole && asked.content == content, "{version} {asked:?}");
                    assert_eq!(asked.trailers.len(), usize::from(framing == "chunked"), "{case}");
                }
                let (expected, servers) = match (is_first, kept) {
                    (true, false) => (502, 1),
                    (true, true) => (200, 2),
                    (false, _) => (200, 1),
                };
                assert_eq!((status, asked.len()), (expected, servers), "{version} {case}");
            }
        }
        assert!(bad.asked().len() >= 4, "{}", bad.asked().len());
    }
}

#[test]
fn what_comes_between_two_tries_is_no_less_a_part_of_the_body() {
    // The first server is gone before the body comes, the second one has no room until it has.
    for framing in ["sized", "chunked"] {
        let bad = Upstream::new(|_| Ok(Next::Reset));
        let is_free = Arc::new(AtomicBool::new(false));
        let until = Arc::clone(&is_free);
        let good = Upstream::new(move |exchange| {
            if exchange.asked.target() == "/long" {
                while !until.load(Ordering::SeqCst) {
                    if exchange.is_stopped() {
                        return Err(ErrorKind::Interrupted.into());
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
            say_length(exchange)
        });
        let mut setup = Setup::to(&[&bad]).pool("ejection = false\nqueue = 8").workers(1);
        setup.servers.push(format!("{{ address = {:?}, max_connections = 1 }}", good.name));
        let proxied = Proxied::start(&setup);
        // Turn and turn about: who asks for `/long` is at the second server in the end.
        let mut long = proxied.client();
        long.ask("GET /long HTTP/1.1", &[]);
        good.wait_until_asked(1);
        let mut client = proxied.client();
        let content = content(100_000);
        let field = match framing {
            "sized" => "Content-Length: 100000",
            _ => "Transfer-Encoding: chunked",
        };
        let asked = bad.asked().len();
        client.ask("PUT /put HTTP/1.1", &[field]);
        bad.wait_until_asked(asked + 1);
        thread::sleep(Duration::from_millis(50));
        if framing == "chunked" {
            client.send("186a0\r\n");
        }
        client.send(&content);
        if framing == "chunked" {
            client.send("\r\n0\r\n\r\n");
        }
        thread::sleep(Duration::from_millis(50));
        is_free.store(true, Ordering::SeqCst);
        long.reply("GET", Expected::Any).whole(200);
        let reply = client.reply("PUT", Expected::Any).whole(200);
        assert_eq!(reply.text(), "good 100000");
        assert!(good.one("/put").content == content, "{framing}");
    }
}
