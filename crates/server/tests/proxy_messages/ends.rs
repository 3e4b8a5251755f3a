//! Ends: clients that go, or say that they are through; upstreams that go, or are silent.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::proxied::answers::{Body, catalogue, head, text};
use crate::proxied::client::{Client, Expected};
use crate::proxied::eventually;
use crate::proxied::gate::Gate;
use crate::proxied::incoming::{Broken, Framing};
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Next, Upstream};

#[test]
fn a_client_that_is_through_gets_its_answer() {
    let upstream = Upstream::new(|exchange| {
        sleep(Duration::from_millis(300));
        catalogue(exchange)
    });
    let proxied = Proxied::new(&upstream);
    for kind in ["sized", "chunked", "close"] {
        let mut client = proxied.client();
        client.ask(&format!("GET /{kind}/1/3000000 HTTP/1.1"), &[]);
        client.finish();
        let reply = client.reply("GET", Expected::Corpus(1, 0)).whole(200);
        assert_eq!(reply.length, 3_000_000);
        client.assert_ended();
    }
}

/// An upstream that is silent until it is let go, and tells how.
fn silent(before: &'static str) -> Upstream {
    Upstream::new(move |exchange| {
        exchange.send(before)?;
        exchange.wait_for_end();
        Ok(Next::Close)
    })
}

#[test]
fn an_upstream_is_let_go_at_once_when_its_client_resets() {
    for before in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\nsome",
        "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nsome",
    ] {
        let upstream = silent(before);
        let proxied = Proxied::new(&upstream);
        let mut client = proxied.client();
        client.ask("GET /silent HTTP/1.1", &[]);
        upstream.wait_until_asked(1);
        if !before.is_empty() {
            assert_eq!(client.incoming.head().unwrap().unwrap().line, "HTTP/1.1 200 OK");
        }
        let begin = Instant::now();
        client.reset();
        upstream.wait_until_open(0);
        // The program's own patience is a minute.
        assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", begin.elapsed());
        let line = proxied.logged("/silent");
        assert!(line["trouble"].is_string() || line["failure"].is_string(), "{line}");
    }
}

#[test]
fn an_upstream_in_full_flow_is_let_go_when_its_client_resets() {
    let upstream = Upstream::new(catalogue);
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy("spool = { memory = \"1MiB\" }"));
    for kind in ["sized", "chunked", "close"] {
        let mut client = Client::narrow(proxied.address);
        client.ask(&format!("GET /{kind}/1/500000000 HTTP/1.1"), &[]);
        client.incoming.exactly(200_000).unwrap();
        client.reset();
        upstream.wait_until_open(0);
    }
}

#[test]
fn an_upstream_that_is_silent_is_given_up() {
    let upstream = silent("");
    let setup = Setup::to(&[&upstream]).pool("ejection = false");
    let proxied = Proxied::start(&setup.proxy("head_timeout = \"300ms\", retries = 0"));
    proxied.client().get("/").whole(504);
    upstream.wait_until_open(0);
    assert_eq!(proxied.logged("/")["trouble"], "head_timeout");

    let upstream = silent("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome");
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy("read_timeout = \"300ms\""));
    proxied.client().get("/").cut();
    upstream.wait_until_open(0);
    assert_eq!(proxied.logged("/")["trouble"], "read_timeout");
}

#[test]
fn each_of_many_silent_upstreams_is_given_up() {
    let gate = Gate::default();
    let waits = gate.clone();
    let upstream = Upstream::new(move |exchange| match exchange.asked.target() {
        "/stalled/0" | "/stalled/1" => {
            exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome")?;
            exchange.wait_for_end();
            Ok(Next::Close)
        }
        "/waits" => {
            waits.pass();
            text(exchange, "fine")
        }
        _ => text(exchange, "fine"),
    });
    let setup = Setup::to(&[&upstream]).workers(1).proxy("read_timeout = \"300ms\"");
    let proxied = Proxied::start(&setup);
    let mut clients = [proxied.client(), proxied.client()];
    clients[0].get("/first").whole(200);
    // A second connection, while what the first request has left is free for its request: of
    // the next two, which find both, one has to make anew what it needs.
    clients[0].ask("GET /waits HTTP/1.1", &[]);
    upstream.wait_until_asked(2);
    clients[1].get("/second").whole(200);
    gate.open();
    clients[0].reply("GET", Expected::Any).whole(200);
    for (number, client) in clients.iter_mut().enumerate() {
        client.ask(&format!("GET /stalled/{number} HTTP/1.1"), &[]);
    }
    for (number, client) in clients.iter_mut().enumerate() {
        client.reply("GET", Expected::Any).cut();
        let line = proxied.logged(&format!("/stalled/{number}"));
        assert_eq!(line["trouble"], "read_timeout");
    }
    assert_eq!(upstream.connections(), 2);
}

#[test]
fn an_upstream_that_is_slow_is_not_given_up() {
    let upstream = Upstream::new(|exchange| {
        let bytes = head("200 OK", &["Content-Length: 1000", "X-Slow: very"]);
        for byte in bytes.as_bytes().chunks(8) {
            exchange.send(byte)?;
            sleep(Duration::from_millis(20));
        }
        let body = Body::sized(2, 1_000);
        let mut content = vec![0; 1_000];
        sluicegate_testkit::corpus::fill(body.seed, 0, &mut content);
        for piece in content.chunks(50) {
            exchange.send(piece)?;
            sleep(Duration::from_millis(200));
        }
        Ok(Next::Keep)
    });
    // Longer in all than either is for one piece.
    let keys = "head_timeout = \"10s\", read_timeout = \"3s\"";
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(keys));
    let mut client = proxied.client();
    client.ask("GET / HTTP/1.1", &[]);
    let reply = client.reply("GET", Expected::Corpus(2, 0)).whole(200);
    assert_eq!((reply.length, reply.field("X-Slow")), (1_000, Some("very")));
}

#[test]
fn an_upstream_that_sends_while_its_client_stalls_does_not_run_out_of_time() {
    let upstream = Upstream::new(catalogue);
    let keys = "read_timeout = \"500ms\", spool = { memory = \"0\" }";
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(keys));
    let mut client = Client::narrow(proxied.address);
    client.ask("GET /sized/3/100000000 HTTP/1.1", &[]);
    // It is the client that nothing goes on for.
    sleep(Duration::from_millis(2_000));
    let reply = client.reply("GET", Expected::Corpus(3, 0)).whole(200);
    assert_eq!(reply.length, 100_000_000);
}

#[test]
fn what_is_collected_for_a_client_that_stalls_is_no_silence() {
    const LENGTH: u64 = 64 << 20;
    let upstream = Upstream::new(|exchange| {
        let length = format!("Content-Length: {LENGTH}");
        exchange.send(head("200 OK", &[&length]).as_bytes())?;
        let mut content = vec![0; usize::try_from(LENGTH).unwrap_or(0)];
        sluicegate_testkit::corpus::fill(5, 0, &mut content);
        let (much, rest) = content.split_at(32 << 20);
        exchange.send(much)?;
        // A little now and then: less in all than what is collected before it is taken.
        let (drops, rest) = rest.split_at(20_000);
        for drop in drops.chunks(1_000) {
            sleep(Duration::from_millis(100));
            exchange.send(drop)?;
        }
        exchange.send(rest)?;
        Ok(Next::Keep)
    });
    let keys = "read_timeout = \"600ms\", spool = { memory = \"64MiB\" }";
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(keys));
    let mut client = Client::narrow(proxied.address);
    client.ask("GET / HTTP/1.1", &[]);
    sleep(Duration::from_millis(3_000));
    let reply = client.reply("GET", Expected::Corpus(5, 0)).whole(200);
    assert_eq!(reply.length, LENGTH);
}

#[test]
fn a_connection_that_an_upstream_closes_while_idle_costs_nobody_an_answer() {
    let upstream = Upstream::new(|exchange| {
        let number = exchange.asked.number;
        text(exchange, "fine")?;
        // After a moment, or together with the answer.
        sleep(Duration::from_millis(if number == 1 { 30 } else { 0 }));
        Ok(if number > 0 { Next::Close } else { Next::Keep })
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).workers(1));
    for number in 0..100 {
        proxied.client().get(&format!("/{number}")).whole(200);
        if number % 10 == 0 {
            sleep(Duration::from_millis(50));
        }
    }
    assert_eq!(upstream.asked().len(), 100 + upstream.repeated().len());
}

#[test]
fn clients_that_drain_with_the_program_get_whole_answers() {
    let upstream = Upstream::new(|exchange| {
        let body = Body::new(Framing::Chunked, 4, 2_000_000);
        Body { every: 300_000, pause: Duration::from_millis(100), ..body }.send(exchange)
    });
    let mut proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    client.ask("GET / HTTP/1.1", &[]);
    upstream.wait_until_asked(1);
    proxied.child.terminate().unwrap();
    let reply = client.reply("GET", Expected::Corpus(4, 0)).whole(200);
    assert_eq!(reply.length, 2_000_000);
    drop(client);
    let status = proxied.child.wait_timeout(crate::proxied::PATIENCE).unwrap();
    assert!(status.success(), "{status}");
    eventually("the upstream's connection is closed", || upstream.open() == 0);
}

/// What docs/configuration.md says of a client that is through while its upstream says nothing.
#[test]
fn a_client_that_is_through_has_the_send_timeout_of_an_upstreams_silence() {
    const SEND: Duration = Duration::from_secs(2);
    for before in [
        "",
        "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nsome",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome\r\n",
    ] {
        // By a reset: whatever it works at is for nobody.
        let resets = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&resets);
        let upstream = Upstream::new(move |exchange| {
            exchange.send(before)?;
            if exchange.wait_for_end() {
                counted.fetch_add(1, Ordering::SeqCst);
            }
            Ok(Next::Close)
        });
        let setup = Setup::to(&[&upstream]).top("timeouts = { send = \"2s\" }");
        let proxied = Proxied::start(&setup);
        // Who does not say so waits on.
        let mut patient = proxied.client();
        patient.ask("GET /patient HTTP/1.1", &[]);
        let mut client = proxied.client();
        client.ask("GET /through HTTP/1.1", &[]);
        upstream.wait_until_asked(2);
        if !before.is_empty() {
            assert_eq!(client.incoming.head().unwrap().unwrap().line, "HTTP/1.1 200 OK");
        }
        let begin = Instant::now();
        client.finish();
        upstream.wait_until_open(1);
        let took = begin.elapsed();
        // Not before, and never as late as where nothing is known of the client: after a minute.
        assert!(took >= SEND - Duration::from_millis(100), "{took:?}");
        assert!(took < SEND + Duration::from_secs(20), "{took:?}");
        assert_eq!(resets.load(Ordering::SeqCst), 1, "the upstream sees it cancelled");
        // The client's connection is reset, so that nobody takes a part for the whole.
        let end = loop {
            match client.incoming.receive() {
                Ok(true) => {}
                end => break end,
            }
        };
        assert!(matches!(end, Err(Broken::Reset)), "{end:?}");
        let line = proxied.logged("/through");
        assert_eq!((&line["trouble"], &line["failure"]), (&"client_gone".into(), &"gone".into()));
        assert_eq!(proxied.metrics().sum("upstream_active_requests"), 1);
        assert_eq!(upstream.open(), 1, "the patient one's");
        patient.reset();
        upstream.wait_until_open(0);
        assert_eq!(upstream.count(|asked| asked.target() == "/through"), 1, "asked once");
        proxied.stop();
    }
}
