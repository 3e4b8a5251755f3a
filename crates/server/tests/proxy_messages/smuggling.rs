//! No pair of messages makes a third: what comes from a client that tries is refused, or is one
//! request for everybody.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::time::Duration;

use crate::proxied::answers::text;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::Upstream;

/// Heads of requests, without Host, whose bodies two readers could end in different places.
const FRAMINGS: [&str; 18] = [
    "Content-Length: 6\r\nTransfer-Encoding: chunked",
    "Transfer-Encoding: chunked\r\nContent-Length: 6",
    "Content-Length: 6\r\nContent-Length: 0",
    "Content-Length: 0\r\nContent-Length: 6",
    "Content-Length: +6",
    "Content-Length: 6, 6",
    "Content-Length: 0x6",
    "Content-Length : 6",
    "Content-Length:\x0b6",
    "Transfer-Encoding: xchunked",
    "Transfer-Encoding: chunked, identity",
    "Transfer-Encoding: identity, chunked",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
    "Transfer-Encoding : chunked",
    "Transfer-Encoding:\x0bchunked",
    "Transfer-Encoding: \"chunked\"",
    "X: y\nTransfer-Encoding: chunked",
    "Transfer_Encoding: chunked\r\nContent-Length: 0",
];

/// What each of them has behind its head: an end of chunks, and a request that is to be nobody's.
const BODY: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: site.test\r\nX: ";

#[test]
fn no_framing_of_a_client_makes_a_request_of_a_body() {
    let upstream = Upstream::new(|exchange| {
        let target = exchange.asked.target().to_owned();
        text(exchange, &target)
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).workers(1));
    for (number, framing) in FRAMINGS.iter().enumerate() {
        for method in ["GET", "POST"] {
            let mut client = proxied.client();
            let head =
                format!("{method} /{number} HTTP/1.1\r\nHost: site.test\r\n{framing}\r\n\r\n");
            // Refused in the midst of it, a client may find the connection closed.
            let _ = client.incoming.stream.write_all((head + BODY).as_bytes());
            let _ = client.stream().shutdown(Shutdown::Write);
            let mut answer = Vec::new();
            let _ = client.incoming.stream.read_to_end(&mut answer);
            // On what may be the same connection of the upstream.
            let next = format!("/next/{number}/{method}");
            assert_eq!(proxied.client().get(&next).whole(200).text(), next);
        }
    }
    for asked in upstream.asked() {
        // A request for it would be its own on the client's connection, and never part of another.
        if asked.target() == "/smuggled" {
            panic!("{asked:#?}");
        }
        assert!(asked.head.all("Transfer-Encoding").len() <= 1, "{}", asked.head.raw);
    }
}

#[test]
fn no_chunk_of_a_client_makes_a_request_of_a_body() {
    const CHUNKS: [&str; 9] = [
        "0\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        "5;a=b\nGET /smuggled\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "-1\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5 \r\nhelloGET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n0\r\n\r\n",
    ];
    let upstream = Upstream::new(|exchange| {
        if exchange.receive_content().is_err() {
            return Ok(crate::proxied::upstream::Next::Close);
        }
        text(exchange, "got it")
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).workers(1));
    for (number, chunks) in CHUNKS.iter().enumerate() {
        let mut client = proxied.client();
        client.ask(&format!("POST /{number} HTTP/1.1"), &["Transfer-Encoding: chunked"]);
        let _ = client.incoming.stream.write_all(chunks.as_bytes());
        let _ = client.stream().shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = client.incoming.stream.read_to_end(&mut answer);
        proxied.client().get("/next").whole(200);
    }
    assert_eq!(upstream.count(|asked| asked.target() == "/smuggled"), 0);
    let whole = upstream.count(|asked| asked.method() == "POST" && asked.is_whole);
    assert_eq!(whole, 0, "none of these bodies is one");
}

#[test]
fn answers_go_to_who_asked_however_requests_are_bundled() {
    let upstream = Upstream::new(|exchange| {
        let target = exchange.asked.target().to_owned();
        if target.contains("slow") {
            std::thread::sleep(Duration::from_millis(20));
        }
        text(exchange, &target)
    });
    let proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    let mut all = String::new();
    for number in 0..20 {
        let slow = if number % 3 == 0 { "slow" } else { "fast" };
        all += &format!("GET /{slow}/{number} HTTP/1.1\r\nHost: site.test\r\n\r\n");
        all += &format!(
            "POST /{number} HTTP/1.1\r\nHost: site.test\r\nContent-Length: 5\r\n\r\nGET /"
        );
    }
    client.send(all);
    for number in 0..20 {
        let slow = if number % 3 == 0 { "slow" } else { "fast" };
        for (method, target) in
            [("GET", format!("/{slow}/{number}")), ("POST", format!("/{number}"))]
        {
            let reply = client.reply(method, crate::proxied::client::Expected::Any).whole(200);
            assert_eq!(reply.text(), target);
        }
    }
    assert_eq!(upstream.asked().len(), 40);
    assert!(upstream.repeated().is_empty(), "{:?}", upstream.repeated());
}
