//! Bugs that relaying by splice has had elsewhere, each by its name (HAProxy, lighttpd, nginx,
//! h2o, Pingora).

use std::io;
use std::thread::sleep;
use std::time::{Duration, Instant};

use sluicegate_testkit::corpus;

use crate::proxied::answers::{Body, catalogue, head, text};
use crate::proxied::client::{Client, Expected};
use crate::proxied::eventually;
use crate::proxied::incoming::{Broken, Framing, Pace};
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Exchange, Next, Upstream};

const SEED: u64 = 70;

/// Bursts whose chunks have heads of all lengths, and ends in all places of a page.
const BURSTS: [u64; 15] =
    [1, 15, 16, 17, 255, 256, 4_094, 4_095, 4_096, 4_097, 65_535, 65_536, 65_537, 300_000, 1];

fn in_bursts(exchange: &mut Exchange, framing: Framing) -> io::Result<Next> {
    let line = match framing {
        Framing::Chunked => "Transfer-Encoding: chunked",
        _ => "Connection: close",
    };
    exchange.send(head("200 OK", &[line]))?;
    let mut at = 0;
    for length in BURSTS {
        let mut bytes = vec![0; length as usize];
        corpus::fill(SEED, at, &mut bytes);
        if framing == Framing::Chunked {
            bytes = [format!("{length:x}\r\n").as_bytes(), &bytes, b"\r\n"].concat();
        }
        exchange.send(bytes)?;
        at += length;
        // So that it is passed on by itself.
        sleep(Duration::from_millis(10));
    }
    if framing == Framing::Chunked {
        exchange.send("0\r\n\r\n")?;
        return Ok(Next::Keep);
    }
    Ok(Next::Close)
}

#[test]
fn a_chunks_head_never_overwrites_data() {
    let upstream = Upstream::new(|exchange| match exchange.asked.target() {
        "/close" => in_bursts(exchange, Framing::Close),
        _ => in_bursts(exchange, Framing::Chunked),
    });
    for spool in
        ["pipes = true", "pipes = false, memory_ring = true", "pipes = false, memory_ring = false"]
    {
        let setup = Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}"));
        let proxied = Proxied::start(&setup);
        for target in ["/close", "/chunked"] {
            let mut client = proxied.client();
            client.ask(&format!("GET {target} HTTP/1.1"), &[]);
            let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
            assert_eq!(reply.length, BURSTS.iter().sum::<u64>(), "{target} {spool}");
            assert_eq!(reply.framing, Some(Framing::Chunked));
        }
    }
}

#[test]
fn no_announced_chunk_is_longer_than_its_data() {
    const THERE: usize = 100_000;
    // Its chunk is to have ten times as much, and that never comes.
    let upstream = Upstream::new(|exchange| {
        exchange.send(head("200 OK", &["Transfer-Encoding: chunked"]) + "f4240\r\n")?;
        let mut bytes = vec![0; THERE];
        corpus::fill(SEED, 0, &mut bytes);
        exchange.send(bytes)?;
        exchange.wait_for_end();
        Ok(Next::Close)
    });
    let proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    client.ask("GET / HTTP/1.1", &[]);
    client.incoming.head().unwrap().unwrap();
    let mut content = Vec::new();
    while content.len() < THERE {
        let line = client.incoming.line().unwrap();
        let size = usize::from_str_radix(&line, 16).unwrap();
        assert!(size > 0 && content.len() + size <= THERE, "{line} after {}", content.len());
        content.extend(client.incoming.exactly(size).unwrap());
        assert_eq!(client.incoming.exactly(2).unwrap(), b"\r\n");
    }
    corpus::verify(SEED, 0, &content).unwrap();
    client.reset();
    upstream.wait_until_open(0);
}

#[test]
fn no_pipe_with_bytes_in_it_is_used_again() {
    let upstream = Upstream::new(catalogue);
    let proxied = Proxied::start(&Setup::to(&[&upstream]).workers(1));
    for round in 0..20 {
        // Who goes while pipes are full for him.
        let mut gone = Client::narrow(proxied.address);
        gone.ask(&format!("GET /sized/1/20000000?round={round} HTTP/1.1"), &[]);
        gone.incoming.exactly(100_000).unwrap();
        gone.reset();
        let mut client = proxied.client();
        client.ask(&format!("GET /close/2/2000000?round={round} HTTP/1.1"), &[]);
        let reply = client.reply("GET", Expected::Corpus(2, 0)).whole(200);
        assert_eq!(reply.length, 2_000_000);
    }
    proxied.stop();
}

#[test]
fn no_answer_without_a_body_waits_for_more() {
    let upstream = Upstream::new(|exchange| {
        let answer = match (exchange.asked.method(), exchange.asked.target()) {
            ("HEAD", _) => head("200 OK", &["Content-Length: 1000000"]),
            (_, "/204") => head("204 No Content", &[]),
            (_, "/304") => head("304 Not Modified", &["ETag: \"a\""]),
            (_, "/chunked") => head("200 OK", &["Transfer-Encoding: chunked"]) + "0\r\n\r\n",
            _ => head("200 OK", &["Content-Length: 0"]),
        };
        exchange.send(answer)?;
        Ok(Next::Keep)
    });
    let proxied = Proxied::new(&upstream);
    for (method, target, status) in [
        ("HEAD", "/", 200),
        ("GET", "/204", 204),
        ("GET", "/304", 304),
        ("GET", "/chunked", 200),
        ("GET", "/empty", 200),
    ] {
        let mut client = proxied.client();
        // The kernel keeps what it was told to wait with for 200 ms, each time.
        let times = (0..10).map(|_| {
            let begin = Instant::now();
            client.ask(&format!("{method} {target} HTTP/1.1"), &[]);
            client.reply(method, Expected::Any).whole(status);
            begin.elapsed()
        });
        let least = times.min().unwrap();
        assert!(least < Duration::from_millis(150), "{method} {target}: {least:?}");
    }
}

/// The processor's time of the program in two seconds, in hundredths of a second.
fn ticks_of_two_seconds(proxied: &Proxied) -> u64 {
    let before = proxied.ticks();
    sleep(Duration::from_secs(2));
    proxied.ticks() - before
}

/// A tenth of a processor; a loop would take at least one of them, if the machine has it.
const QUIET: u64 = 20;

#[test]
fn nothing_turns_while_a_client_reads_nothing() {
    let upstream = Upstream::new(catalogue);
    for (spool, kind) in [
        ("memory = \"64MiB\"", "sized"),
        ("memory = \"1MiB\"", "chunked"),
        ("memory = \"0\"", "close"),
        ("memory = \"1MiB\", pipes = false", "sized"),
        ("memory = \"64KiB\", pipes = false, memory_ring = false", "chunked"),
    ] {
        let proxied =
            Proxied::start(&Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}")));
        let mut clients: Vec<Client> = (0..4).map(|_| Client::narrow(proxied.address)).collect();
        for client in &mut clients {
            client.ask(&format!("GET /{kind}/3/200000000 HTTP/1.1"), &[]);
        }
        // It takes in what it may, and then all stands still.
        upstream.wait_until_open(4);
        let mut ticks = proxied.ticks();
        eventually("it is full", || {
            sleep(Duration::from_millis(500));
            let now = proxied.ticks();
            now - std::mem::replace(&mut ticks, now) < QUIET / 4
        });
        // Two of them say besides that they will send nothing more.
        clients[0].finish();
        clients[1].finish();
        let taken = ticks_of_two_seconds(&proxied);
        assert!(taken < QUIET, "{spool}, {kind}: {taken} ticks in two seconds");
        clients.into_iter().for_each(Client::reset);
        upstream.wait_until_open(0);
    }
}

#[test]
fn nothing_turns_while_an_upstream_reads_or_says_nothing() {
    let upstream = Upstream::new(|exchange| {
        if exchange.asked.target() == "/begins" {
            exchange.send(head("200 OK", &["Content-Length: 100"]) + "ten bytes.")?;
        }
        // A request's content is left where it is.
        while !exchange.is_stopped() {
            sleep(Duration::from_millis(20));
        }
        Ok(Next::Reset)
    });
    let setup = Setup::to(&[&upstream]).proxy("body_limit = \"1GiB\", request_body = \"streamed\"");
    let proxied = Proxied::start(&setup);
    let mut clients: Vec<Client> = (0..4).map(|_| proxied.client()).collect();
    clients[0].ask("GET /silent HTTP/1.1", &[]);
    clients[1].ask("GET /begins HTTP/1.1", &[]);
    clients[2].ask("GET /half-closed HTTP/1.1", &[]);
    clients[2].finish();
    clients[3].ask("POST /uploads HTTP/1.1", &["Content-Length: 500000000"]);
    clients[3].stream().set_write_timeout(Some(Duration::from_millis(500))).unwrap();
    let block = vec![0; 1 << 20];
    while io::Write::write_all(&mut clients[3].incoming.stream, &block).is_ok() {}
    upstream.wait_until_asked(4);
    let taken = ticks_of_two_seconds(&proxied);
    assert!(taken < QUIET, "{taken} ticks in two seconds");
    clients.into_iter().for_each(Client::reset);
    drop(upstream);
}

#[test]
fn a_connection_with_bytes_left_on_it_is_used_no_more() {
    const MORE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsmuggle";
    let upstream = Upstream::new(|exchange| {
        let (method, target) =
            (exchange.asked.method().to_owned(), exchange.asked.target().to_owned());
        let answer = match target.as_str() {
            "/behind" => head("200 OK", &["Content-Length: 5"]) + "right" + MORE,
            "/chunked" => {
                head("200 OK", &["Transfer-Encoding: chunked"]) + "5\r\nright\r\n0\r\n\r\n" + MORE
            }
            "/empty" => head("200 OK", &["Content-Length: 0"]) + MORE,
            "/204" => head("204 No Content", &[]) + MORE,
            "/304" => head("304 Not Modified", &["Content-Length: 7"]) + "smuggle",
            _ if method == "HEAD" => head("200 OK", &["Content-Length: 41"]) + MORE,
            _ => return text(exchange, &target),
        };
        exchange.send(answer)?;
        if target == "/later" {
            sleep(Duration::from_millis(50));
        }
        Ok(Next::Keep)
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).workers(1));
    for (method, target, status) in [
        ("GET", "/behind", 200),
        ("GET", "/chunked", 200),
        ("GET", "/empty", 200),
        ("GET", "/204", 204),
        ("GET", "/304", 304),
        ("HEAD", "/head", 200),
    ] {
        for turn in 0..3 {
            let mut client = proxied.client();
            client.ask(&format!("{method} {target} HTTP/1.1"), &[]);
            let reply = client.reply(method, Expected::Any).whole(status);
            assert!(reply.content == b"right" || reply.content.is_empty(), "{reply:?}");
            let next = format!("/next?of={method}-{status}-{}&turn={turn}", &target[1..]);
            assert_eq!(client.get(&next).whole(200).text(), next);
            let asked = upstream.one(&next);
            let others = upstream.asked();
            let same = others.iter().filter(|other| other.connection == asked.connection);
            assert!(
                same.clone().all(|other| !other.target().starts_with(target)),
                "{:#?}",
                same.collect::<Vec<_>>()
            );
        }
    }
}

#[test]
fn a_connection_on_which_something_came_while_it_was_idle_is_used_no_more() {
    let upstream = Upstream::new(|exchange| {
        let target = exchange.asked.target().to_owned();
        text(exchange, &target)?;
        if exchange.asked.number == 0 {
            sleep(Duration::from_millis(100));
            exchange.send("HTTP/1.1 408 Request Timeout\r\nContent-Length: 3\r\n\r\n408")?;
        }
        Ok(Next::Keep)
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).workers(1));
    for number in 0..3 {
        let target = format!("/{number}");
        assert_eq!(proxied.client().get(&target).whole(200).text(), target);
        sleep(Duration::from_millis(400));
    }
    assert_eq!(upstream.connections(), 3);
    assert!(upstream.asked().iter().all(|asked| asked.number == 0));
}

/// Bodies that end before their end, as the client would see them if they were whole.
fn cut_short(exchange: &mut Exchange) -> io::Result<Next> {
    let target = exchange.asked.target().to_owned();
    let [_, kind, how, length, until] = target.split('/').collect::<Vec<_>>()[..] else {
        return text(exchange, &target);
    };
    let (length, until): (u64, u64) = (length.parse().unwrap(), until.parse().unwrap());
    let framing = match kind {
        "sized" => Framing::Sized(length),
        "close" => Framing::Close,
        _ => Framing::Chunked,
    };
    let mut body = Body { until: Some(until), ..Body::new(framing, SEED, length) };
    body.chunk = 10_000;
    body.send(exchange)?;
    if kind == "last" {
        // The last chunk is there, the end of the trailer section is not.
        exchange.send("0\r\n")?;
    }
    if how == "fin" {
        return Ok(Next::Close);
    }
    // What was sent may be thrown away with a reset, so it has a moment to arrive.
    sleep(Duration::from_millis(100));
    Ok(Next::Reset)
}

#[test]
fn a_body_that_was_cut_short_is_never_taken_for_whole() {
    let upstream = Upstream::new(cut_short);
    let proxied = Proxied::start(&Setup::to(&[&upstream]).pool("ejection = false"));
    for (kind, how, length, until) in [
        ("sized", "fin", 1_000, 500),
        ("sized", "fin", 1_000, 0),
        ("sized", "fin", 3_000_000, 2_999_999),
        ("sized", "reset", 3_000_000, 1_500_000),
        ("chunked", "fin", 1_000, 500),
        ("chunked", "fin", 1_000, 0),
        ("chunked", "fin", 1_000_000, 555_555),
        ("chunked", "fin", 1_000_000, 1_000_000),
        ("chunked", "reset", 1_000_000, 999_999),
        ("last", "fin", 1_000, 1_000),
        ("last", "fin", 1_000_000, 1_000_000),
        ("close", "reset", 1_000_000, 500_000),
    ] {
        for version in ["HTTP/1.1", "HTTP/1.0"] {
            let target = format!("/{kind}/{how}/{length}/{until}");
            let mut client = proxied.client();
            client.ask(&format!("GET {target} {version}"), &[&format!("X: {version}")]);
            match client.try_reply("GET", Expected::Corpus(SEED, 0)) {
                Ok(reply) if reply.status == 502 => panic!("502 is no corpus"),
                Ok(reply) => {
                    assert!(reply.length <= until, "{target}");
                    // To who learns of the end by the end, only a reset tells.
                    let by_end = reply.framing == Some(Framing::Close);
                    let reply = reply.cut();
                    assert!(!by_end || matches!(reply.broken, Some(Broken::Reset)), "{target}");
                }
                Err(Broken::Truncated | Broken::Reset) => {}
                Err(broken) => panic!("{target} {version}: {broken:?}"),
            }
        }
    }
    for line in proxied.log() {
        assert!(line["trouble"].is_string() || line["failure"].is_string(), "{line}");
    }
    proxied.client().get("/alive").whole(200);
}

#[test]
fn a_slow_upstream_and_a_slow_client_get_along() {
    let upstream = Upstream::new(|exchange| {
        let body = Body::new(Framing::Chunked, SEED, 600_000);
        let pause = Duration::from_millis(10);
        Body { chunk: 7, every: 20_000, pause, ..body }.send(exchange)
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy("spool = { memory = \"64KiB\" }"));
    let mut client = Client::narrow(proxied.address).paced(Pace::slow(10_000));
    client.ask("GET / HTTP/1.1", &[]);
    let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
    assert_eq!(reply.length, 600_000);
}
