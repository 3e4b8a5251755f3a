//! Answers without content, parts of content, trailers, and what comes before an answer.

use std::thread::sleep;
use std::time::Duration;

use sluicegate_testkit::corpus;

use crate::proxied::answers::{Body, head, text};
use crate::proxied::client::Expected;
use crate::proxied::incoming::Framing;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Asked, Next, Upstream};

#[test]
fn answers_without_content_are_passed_on_whatever_they_announce() {
    let upstream = Upstream::new(|exchange| {
        let answer = match (exchange.asked.method(), exchange.asked.target()) {
            ("HEAD", "/chunked") => head("200 OK", &["Transfer-Encoding: chunked"]),
            ("HEAD", "/none") => head("200 OK", &[]),
            ("HEAD", _) => head("200 OK", &["Content-Length: 123456"]),
            (_, "/204") => head("204 No Content", &["X: y"]),
            (_, "/304") => head("304 Not Modified", &["Content-Length: 123456", "ETag: \"e\""]),
            (_, "/304-chunked") => head("304 Not Modified", &["Transfer-Encoding: chunked"]),
            (_, "/205") => head("205 Reset Content", &["Content-Length: 0"]),
            _ => return text(exchange, "more"),
        };
        exchange.send(answer)?;
        Ok(Next::Keep)
    });
    let proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    for (method, target, status, length) in [
        ("HEAD", "/sized", 200, Some("123456")),
        ("HEAD", "/chunked", 200, None),
        ("HEAD", "/none", 200, None),
        ("GET", "/204", 204, None),
        ("GET", "/304", 304, Some("123456")),
        ("GET", "/304-chunked", 304, None),
        ("GET", "/205", 205, Some("0")),
    ] {
        client.ask(&format!("{method} {target} HTTP/1.1"), &[]);
        let reply = client.reply(method, Expected::Any).whole(status);
        // RFC 9110 section 8.6: it may be left out of a 304, and must be true where it is there.
        if let Some(told) = reply.field("Content-Length") {
            assert_eq!(Some(told), length, "{}", reply.head.raw);
        } else {
            assert!(length.is_none() || status == 304, "{}", reply.head.raw);
        }
        assert_eq!(client.get("/more").whole(200).text(), "more");
    }
    assert_eq!(upstream.connections(), 1, "each of them left its connection as it should be");
}

#[test]
fn ranges_and_conditions_are_the_upstreams() {
    let upstream = Upstream::new(|exchange| {
        let asked = &exchange.asked.head;
        if asked.field("If-None-Match") == Some("\"v\"") {
            exchange.send(head("304 Not Modified", &["ETag: \"v\""]))?;
        } else if asked.field("Range") == Some("bytes=100-199") {
            let lines =
                ["Content-Length: 100", "Content-Range: bytes 100-199/100000", "ETag: \"v\""];
            let mut part = vec![0; 100];
            corpus::fill(3, 100, &mut part);
            exchange.send(head("206 Partial Content", &lines))?;
            exchange.send(part)?;
        } else {
            return Body::sized(3, 100_000).send(exchange);
        }
        Ok(Next::Keep)
    });
    let proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    client.ask("GET / HTTP/1.1", &["Range: bytes=100-199", "If-Range: \"v\""]);
    let reply = client.reply("GET", Expected::Corpus(3, 100)).whole(206);
    assert_eq!(reply.field("Content-Range"), Some("bytes 100-199/100000"));
    client.ask("GET / HTTP/1.1", &["If-None-Match: \"v\""]);
    let reply = client.reply("GET", Expected::Any).whole(304);
    assert_eq!(reply.field("ETag"), Some("\"v\""));
    // A range that an upstream knows nothing of is nobody else's to cut out.
    client.ask("GET / HTTP/1.1", &["Range: bytes=5-6"]);
    let reply = client.reply("GET", Expected::Corpus(3, 0)).whole(200);
    assert_eq!(reply.length, 100_000);
}

#[test]
fn trailers_come_behind_the_last_chunk() {
    let upstream = Upstream::new(|exchange| {
        let lines = ["Transfer-Encoding: chunked", "Trailer: X-Digest"];
        exchange.send(head("200 OK", &lines) + "5\r\nhello\r\n0\r\n")?;
        sleep(Duration::from_millis(30));
        exchange.send("X-Digest: abc\r\nContent-Length: 7\r\nConnection: close\r\n\r\n")?;
        Ok(Next::Keep)
    });
    let proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    client.ask("GET / HTTP/1.1", &["TE: trailers"]);
    // What may not be in a trailer section is left out.
    let reply = client.reply("GET", Expected::Any).whole(200);
    assert_eq!((reply.framing, &*reply.content), (Some(Framing::Chunked), &b"hello"[..]));
    assert_eq!(reply.trailers, [("X-Digest".to_owned(), "abc".to_owned())]);

    let upstream = Upstream::new(|exchange| {
        let lines = ["Transfer-Encoding: chunked", "Trailer: X-Digest", "Connection: x-hop"];
        exchange.send(head("200 OK", &lines))?;
        exchange.send("5\r\nhello\r\n0\r\nX-Digest: abc\r\nX-Hop: 1\r\nX-Time: 5\r\n\r\n")?;
        Ok(Next::Keep)
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).workers(1));
    for version in ["HTTP/1.1", "HTTP/1.0"] {
        let mut client = proxied.client();
        client.ask(&format!("GET / {version}"), &["TE: trailers", "Connection: TE"]);
        let reply = client.reply("GET", Expected::Any).whole(200);
        assert_eq!(reply.content, b"hello");
        let names = reply.trailers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let names: Vec<(&str, &str)> = names.collect();
        if version == "HTTP/1.1" {
            assert_eq!(reply.framing, Some(Framing::Chunked), "{}", reply.head.raw);
            assert_eq!(names, [("X-Digest", "abc"), ("X-Time", "5")]);
        } else {
            // Who knows of no chunks knows of no trailers.
            assert_eq!(reply.framing, Some(Framing::Close), "{}", reply.head.raw);
            assert_eq!(reply.field("X-Digest"), None);
        }
    }
    assert_eq!(upstream.connections(), 1);
}

#[test]
fn what_comes_before_an_answer_is_passed_on_to_who_knows_of_it() {
    let upstream = Upstream::new(|exchange| {
        exchange.send(head("103 Early Hints", &["Link: </a.css>; rel=preload"]))?;
        sleep(Duration::from_millis(30));
        exchange.send(head("102 Processing", &[]))?;
        // One that nobody has asked for.
        exchange.send(head("100 Continue", &[]))?;
        text(exchange, "then")
    });
    let proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    client.ask("GET / HTTP/1.1", &[]);
    let reply = client.reply("GET", Expected::Any).whole(200);
    assert_eq!(reply.text(), "then");
    let statuses: Vec<&str> = reply.interim.iter().map(|head| &head.line[9..12]).collect();
    assert!(statuses.contains(&"103") && !statuses.contains(&"100"), "{statuses:?}");
    assert_eq!(reply.interim[0].field("Link"), Some("</a.css>; rel=preload"));
    client.assert_usable("/");
    // RFC 9110 section 15.2: never to a client of HTTP/1.0.
    let mut old = proxied.client();
    old.ask("GET / HTTP/1.0", &[]);
    let reply = old.reply("GET", Expected::Any).whole(200);
    assert!(reply.interim.is_empty(), "{:?}", reply.interim);
    assert_eq!(reply.text(), "then");
}

#[test]
fn an_answer_that_nobody_can_read_is_a_bad_gateway() {
    const BAD: [&str; 10] = [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\n folded: 5\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ];
    let upstream = Upstream::new(|exchange| {
        let Some(number) = exchange.asked.query("bad") else { return text(exchange, "good") };
        exchange.send(BAD[number.parse::<usize>().unwrap()])?;
        Ok(Next::Keep)
    });
    let setup = Setup::to(&[&upstream]).pool("ejection = false");
    let proxied = Proxied::start(&setup);
    let mut client = proxied.client();
    for number in 0..BAD.len() {
        let target = format!("/?bad={number}");
        client.ask(&format!("GET {target} HTTP/1.1"), &[]);
        client.reply("GET", Expected::Any).whole(502);
        assert!(proxied.logged(&target)["trouble"].is_string(), "{}", proxied.logged(&target));
        client.assert_usable("/good");
    }
    // None of those connections was used again.
    let bad = upstream.asked().into_iter().filter(|asked| asked.query("bad").is_some());
    for bad in bad {
        let is_later =
            |other: &Asked| (other.connection, other.number) > (bad.connection, bad.number);
        let after = |other: &Asked| other.connection == bad.connection && is_later(other);
        assert_eq!(upstream.count(after), 0, "after {}", bad.target());
    }
}
