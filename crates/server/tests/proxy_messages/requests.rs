//! Bodies of requests, on their way to an upstream.

use std::io::{Read, Write};
use std::thread::sleep;
use std::time::Duration;

use sluicegate_testkit::corpus::{self, Source};

use crate::proxied::answers::{head, text};
use crate::proxied::client::{Client, Expected};
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Next, Upstream};

const SEED: u64 = 90;

/// An upstream that receives all of a body and says how long it was.
fn receiving() -> Upstream {
    Upstream::new(|exchange| {
        if exchange.receive_content().is_err() {
            return Ok(Next::Close);
        }
        let length = exchange.asked.content.len();
        text(exchange, &length.to_string())
    })
}

fn content(length: u64) -> Vec<u8> {
    let mut content = Vec::new();
    Source::new(SEED, 0, length).read_to_end(&mut content).unwrap();
    content
}

/// Sends it as chunks of all sizes.
fn send_chunked(client: &mut Client, content: &[u8], trailers: &str) {
    let (mut at, mut size) = (0, 1);
    while at < content.len() {
        let piece = &content[at..content.len().min(at + size)];
        let bytes = [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat();
        client.send(bytes);
        at += piece.len();
        size = size * 3 + 1;
    }
    client.send(format!("0\r\n{trailers}\r\n"));
}

#[test]
fn bodies_of_requests_are_whole_by_each_way() {
    let upstream = receiving();
    for keys in [
        "request_body = \"streamed\"",
        "request_body = \"buffered\"",
        "request_body = \"buffered\", buffer = \"1KiB\"",
        "request_body = \"streamed\", spool = { memory = \"0\" }",
        "request_body = \"streamed\", spool = { pipes = false }",
        "request_body = \"streamed\", spool = { pipes = false, memory_ring = false }",
    ] {
        println!("{keys}");
        let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(keys));
        for length in [0, 1, 1_000, 20_000, 65_536, 300_000, 8_000_000] {
            let content = content(length);
            for is_chunked in [false, true] {
                let target = format!("/{length}/{is_chunked}?{}", proxied.address.port());
                let mut client = proxied.client();
                let line = format!("POST {target} HTTP/1.1");
                if is_chunked {
                    client.ask(&line, &["Transfer-Encoding: chunked"]);
                    send_chunked(&mut client, &content, "");
                } else {
                    client.ask(&line, &[&format!("Content-Length: {length}")]);
                    client.send(&content);
                }
                let reply = client.reply("POST", Expected::Any).whole(200);
                assert_eq!(reply.text(), length.to_string(), "{keys}");
                let asked = upstream.one(&target);
                assert!(asked.is_whole && asked.content == content, "{target} {keys}");
                client.assert_usable("/after");
                let line = proxied.logged(&target);
                if length > 0 {
                    assert_eq!(line["request_bytes"], length, "{line}");
                }
            }
        }
    }
}

#[test]
fn the_trailers_of_a_request_go_on() {
    let upstream = receiving();
    for keys in ["request_body = \"streamed\"", "request_body = \"buffered\""] {
        let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(keys));
        // More than is buffered, what is, and what comes with its head.
        for length in [300_000, 10_000, 10, 0] {
            let target = format!("/{length}/{}", proxied.address.port());
            let mut client = proxied.client();
            let fields =
                ["Transfer-Encoding: chunked", "Trailer: X-Sum, X-Time", "Connection: x-hop"];
            client.ask(&format!("PUT {target} HTTP/1.1"), &fields);
            send_chunked(&mut client, &content(length), "X-Sum: 5\r\nX-Hop: 1\r\nX-Time:  6 \r\n");
            client.reply("PUT", Expected::Any).whole(200);
            let asked = upstream.one(&target);
            assert_eq!(asked.content, content(length), "{keys}");
            let names: Vec<(String, &str)> = asked
                .trailers
                .iter()
                .map(|(name, value)| (name.to_ascii_lowercase(), value.as_str()))
                .collect();
            let expected = [("x-sum".to_owned(), "5"), ("x-time".to_owned(), "6")];
            assert_eq!(names, expected, "{length} {keys}");
            assert_eq!(asked.head.field("Transfer-Encoding"), Some("chunked"));
            // They are never made fields of the head.
            assert_eq!((asked.head.field("X-Sum"), asked.head.field("X-Time")), (None, None));
            client.assert_usable("/after");
        }
    }
}

#[test]
fn who_expects_to_be_told_to_go_on_is() {
    let upstream = receiving();
    for keys in ["request_body = \"streamed\"", "request_body = \"buffered\""] {
        let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(keys));
        let mut client = proxied.client();
        client.ask("POST / HTTP/1.1", &["Content-Length: 5", "Expect: 100-continue"]);
        let interim = client.incoming.head().unwrap().unwrap();
        assert!(interim.line.starts_with("HTTP/1.1 100 "), "{}", interim.raw);
        client.send("hello");
        let reply = client.reply("POST", Expected::Any).whole(200);
        assert_eq!((reply.text(), reply.interim.len()), ("5", 0));
    }
}

#[test]
fn a_body_that_is_too_large_is_refused_before_an_upstream_is_asked() {
    let upstream = receiving();
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy("body_limit = \"1MB\""));
    let mut client = proxied.client();
    client.ask("POST /announced HTTP/1.1", &["Content-Length: 1000001", "Expect: 100-continue"]);
    let reply = client.reply("POST", Expected::Any).whole(413);
    assert!(reply.interim.is_empty(), "nobody is told to go on");
    assert_eq!(upstream.count(|asked| asked.target() == "/announced"), 0);

    // Of chunks it is known when they have come.
    let mut client = proxied.client();
    client.ask("POST /chunked HTTP/1.1", &["Transfer-Encoding: chunked"]);
    let chunk = [b"186a0\r\n".as_slice(), &vec![b'x'; 100_000], b"\r\n"].concat();
    for _ in 0..11 {
        if client.incoming.stream.write_all(&chunk).is_err() {
            break;
        }
    }
    match client.try_reply("POST", Expected::Any) {
        Ok(reply) => assert_eq!(reply.status, 413),
        Err(broken) => assert!(!matches!(broken, crate::proxied::incoming::Broken::Silent)),
    }
    let whole = upstream.count(|asked| asked.target() == "/chunked" && asked.is_whole);
    assert_eq!(whole, 0, "a part is not taken for the whole");
    proxied.client().assert_usable("/alive");
}

#[test]
fn an_answer_before_the_body_was_read_is_passed_on() {
    let upstream = Upstream::new(|exchange| {
        if exchange.asked.target() == "/alive" {
            return text(exchange, "alive");
        }
        exchange
            .send(head("401 Unauthorized", &["Content-Length: 2", "Connection: close"]) + "no")?;
        // It reads on for a moment, as servers do that do not want their answer to be lost.
        sleep(Duration::from_millis(100));
        Ok(Next::Close)
    });
    let proxied = Proxied::new(&upstream);
    for length in [100_000_u64, 50_000_000] {
        let mut client = proxied.client();
        client.ask(&format!("POST /{length} HTTP/1.1"), &[&format!("Content-Length: {length}")]);
        let mut writer = client.stream().try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut block = vec![0; 64 << 10];
                corpus::fill(SEED, 0, &mut block);
                let mut left = length;
                // The server may close while this is being sent.
                while left > 0 && writer.write_all(&block[..left.min(64 << 10) as usize]).is_ok() {
                    left -= left.min(64 << 10);
                }
            });
            let reply = client.reply("POST", Expected::Any).whole(401);
            assert_eq!(reply.text(), "no");
        });
        assert_eq!(upstream.count(|asked| asked.target() == format!("/{length}")), 1);
    }
    proxied.client().assert_usable("/alive");
}

#[test]
fn a_body_that_ends_early_is_never_whole_for_the_upstream() {
    let upstream = receiving();
    for keys in ["request_body = \"streamed\"", "request_body = \"buffered\""] {
        let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(keys));
        let port = proxied.address.port();
        for (number, framing) in
            ["Content-Length: 200000", "Transfer-Encoding: chunked"].into_iter().enumerate()
        {
            for how in ["fin", "reset"] {
                let mut client = proxied.client();
                client.ask(&format!("POST /{number}/{how}/{port} HTTP/1.1"), &[framing]);
                match number {
                    0 => client.send(content(100_000)),
                    _ => {
                        client.send([b"186a0\r\n".as_slice(), &content(100_000), b"\r\n"].concat());
                    }
                }
                sleep(Duration::from_millis(50));
                if how == "fin" {
                    client.finish();
                    if let Ok(reply) = client.try_reply("POST", Expected::Any) {
                        assert!(reply.status >= 400, "{}", reply.head.raw);
                    }
                } else {
                    client.reset();
                }
            }
        }
        proxied.client().assert_usable("/alive");
    }
    assert_eq!(upstream.count(|asked| asked.is_whole && asked.target() != "/alive"), 0);
}
