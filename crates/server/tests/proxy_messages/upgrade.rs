//! Upgrades: a WebSocket's way through the proxy, with a client and a server of our own.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::thread::sleep;
use std::time::Duration;

use sluicegate::os::probe::unacknowledged;
use sluicegate_testkit::corpus::{self, Verifier};

use crate::proxied::PATIENCE;
use crate::proxied::answers::{head, text};
use crate::proxied::client::{Client, Expected};
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Exchange, Next, Stream, Upstream};

const FIELDS: [&str; 4] = [
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    // RFC 6455 section 1.3 has it for its example, with the answer to it.
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

fn accept(exchange: &mut Exchange) -> io::Result<()> {
    let asked = &exchange.asked.head;
    assert_eq!(asked.field("Upgrade"), Some("websocket"), "{}", asked.raw);
    assert!(asked.field("Connection").unwrap().eq_ignore_ascii_case("upgrade"), "{}", asked.raw);
    let accept = format!("Sec-WebSocket-Accept: {ACCEPT}");
    exchange.send(head(
        "101 Switching Protocols",
        &["Connection: Upgrade", "Upgrade: websocket", &accept],
    ))
}

/// RFC 6455 section 5.2: one frame of binary data, masked as a client's must be.
fn frame(data: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut frame = vec![0x82];
    match data.len() {
        length @ ..=125 => frame.push(masked | length as u8),
        length @ ..=65_535 => {
            frame.push(masked | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(masked | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| frame.extend(mask)).unwrap_or_default();
    frame.extend(data.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    frame
}

/// Reads one frame; `None` at the end of the stream.
fn read_frame(stream: &mut impl Read) -> io::Result<Option<Vec<u8>>> {
    let mut start = [0; 2];
    if stream.read(&mut start[..1])? == 0 {
        return Ok(None);
    }
    stream.read_exact(&mut start[1..])?;
    assert_eq!(start[0], 0x82, "a frame of its own");
    let length = match start[1] & 0x7f {
        126 => {
            let mut bytes = [0; 2];
            stream.read_exact(&mut bytes)?;
            u64::from(u16::from_be_bytes(bytes))
        }
        127 => {
            let mut bytes = [0; 8];
            stream.read_exact(&mut bytes)?;
            u64::from_be_bytes(bytes)
        }
        length => length.into(),
    };
    let mut mask = [0; 4];
    if start[1] & 0x80 != 0 {
        stream.read_exact(&mut mask)?;
    }
    let mut data = vec![0; length as usize];
    stream.read_exact(&mut data)?;
    data.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
    Ok(Some(data))
}

/// Answers each frame by itself, until its peer is through; then one more, and the end.
fn echo(exchange: &mut Exchange) -> io::Result<Next> {
    if exchange.asked.head.field("Upgrade").is_none() {
        return text(exchange, "plain");
    }
    accept(exchange)?;
    assert_eq!(exchange.incoming.buffered(), b"", "nothing comes before the 101");
    while let Some(data) = read_frame(&mut exchange.incoming.stream)? {
        exchange.send(frame(&data, None))?;
    }
    exchange.send(frame(b"goodbye", None))?;
    Ok(Next::Close)
}

fn upgraded(proxied: &Proxied, target: &str, early: &[u8]) -> Client {
    let mut client = proxied.client();
    upgrade(&mut client, target, early);
    client
}

fn upgrade(client: &mut Client, target: &str, early: &[u8]) {
    let mut request = format!("GET {target} HTTP/1.1\r\nHost: site.test\r\n");
    FIELDS.iter().for_each(|field| request += &format!("{field}\r\n"));
    client.send([request.as_bytes(), b"\r\n", early].concat());
    let reply = client.reply("GET", Expected::Any);
    assert_eq!(reply.status, 101, "{}", reply.head.raw);
    assert_eq!(reply.field("Upgrade"), Some("websocket"));
    assert!(reply.field("Connection").unwrap().eq_ignore_ascii_case("upgrade"));
    assert_eq!(reply.field("Sec-WebSocket-Accept"), Some(ACCEPT));
}

/// What was read behind the answer, and then what comes.
fn rest(client: &Client) -> impl Read + use<> {
    let buffered = io::Cursor::new(client.incoming.buffered().to_vec());
    buffered.chain(client.stream().try_clone().unwrap())
}

#[test]
fn frames_go_both_ways_and_an_end_is_one_directions() {
    let upstream = Upstream::new(echo);
    for spool in ["pipes = true", "pipes = false"] {
        let setup = Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}"));
        let proxied = Proxied::start(&setup);
        let mask = Some([1, 2, 3, 4]);
        // What a client sends before it knows is the protocol's, too.
        let mut client = upgraded(&proxied, "/ws", &frame(b"early", mask));
        let mut from = rest(&client);
        assert_eq!(read_frame(&mut from).unwrap().unwrap(), b"early");
        for length in [0, 1, 125, 126, 65_535, 65_536, 2_000_000] {
            let mut data = vec![0; length];
            corpus::fill(6, 0, &mut data);
            client.send(frame(&data, mask));
            assert!(read_frame(&mut from).unwrap().unwrap() == data, "{length}");
            sleep(Duration::from_millis(5));
        }
        client.finish();
        assert_eq!(read_frame(&mut from).unwrap().unwrap(), b"goodbye", "{spool}");
        assert!(read_frame(&mut from).unwrap().is_none());
        let line = proxied.logged("/ws");
        assert_eq!((&line["status"], &line["upstream_status"]), (&101.into(), &101.into()));
        proxied.client().assert_usable("/plain");
        proxied.stop();
    }
}

#[test]
fn both_directions_flow_at_a_time() {
    const LENGTH: u64 = 20_000_000;
    let upstream = Upstream::new(|exchange| {
        accept(exchange)?;
        let Stream::Tcp(stream) = &exchange.incoming.stream else { unreachable!() };
        let mut writer = stream.try_clone()?;
        std::thread::scope(|scope| {
            scope.spawn(move || {
                io::copy(&mut corpus::Source::new(7, 0, LENGTH), &mut writer).unwrap();
                writer.shutdown(std::net::Shutdown::Write).unwrap();
            });
            let mut verifier = Verifier::new(8, 0);
            let copied = io::copy(&mut &*stream, &mut verifier).unwrap();
            assert_eq!(copied, LENGTH);
        });
        Ok(Next::Close)
    });
    let proxied = Proxied::new(&upstream);
    let client = upgraded(&proxied, "/ws", b"");
    let mut from = rest(&client);
    let mut writer = client.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            io::copy(&mut corpus::Source::new(8, 0, LENGTH), &mut writer).unwrap();
            writer.shutdown(std::net::Shutdown::Write).unwrap();
        });
        let mut verifier = Verifier::new(7, 0);
        assert_eq!(io::copy(&mut from, &mut verifier).unwrap(), LENGTH);
    });
    upstream.wait_until_open(0);
}

#[test]
fn a_refused_upgrade_is_an_answer_like_others() {
    let upstream = Upstream::new(|exchange| {
        exchange.send(head("426 Upgrade Required", &["Content-Length: 4"]) + "nope")?;
        Ok(Next::Keep)
    });
    let proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    client.ask("GET /ws HTTP/1.1", &FIELDS);
    assert_eq!(client.reply("GET", Expected::Any).whole(426).text(), "nope");
    // The connection is HTTP's still.
    client.ask("GET /ws HTTP/1.1", &FIELDS);
    client.reply("GET", Expected::Any).whole(426);
}

#[test]
fn nobody_is_upgraded_who_did_not_ask_or_may_not() {
    let upstream = Upstream::new(|exchange| {
        exchange.send(head(
            "101 Switching Protocols",
            &["Connection: Upgrade", "Upgrade: websocket"],
        ))?;
        exchange.send("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nsmuggle")?;
        Ok(Next::Keep)
    });
    let setup = Setup::to(&[&upstream]).pool("ejection = false");
    let proxied = Proxied::start(&setup);
    proxied.client().get("/").whole(502);
    let proxied = Proxied::start(&setup.proxy("upgrade = false"));
    let mut client = proxied.client();
    client.ask("GET /ws HTTP/1.1", &FIELDS);
    client.reply("GET", Expected::Any).whole(502);
    assert!(upstream.asked().iter().all(|asked| asked.head.field("Upgrade").is_none()));
}

#[test]
fn when_either_end_of_an_upgraded_connection_goes_so_does_the_other() {
    let upstream = Upstream::new(|exchange| {
        accept(exchange)?;
        if exchange.asked.target() == "/goes" {
            let mut byte = [0];
            let _ = exchange.incoming.stream.read(&mut byte);
            return Ok(Next::Reset);
        }
        exchange.wait_for_end();
        Ok(Next::Close)
    });
    let proxied = Proxied::new(&upstream);
    let client = upgraded(&proxied, "/stays", b"");
    client.reset();
    upstream.wait_until_open(0);
    let mut client = upgraded(&proxied, "/goes", b"");
    client.incoming.stream.write_all(b"x").unwrap();
    let mut bytes = Vec::new();
    // An end or a reset; it is not left waiting.
    let result = rest(&client).read_to_end(&mut bytes);
    assert!(result.is_ok_and(|count| count == 0) || bytes.is_empty());
    upstream.wait_until_open(0);
}

#[test]
fn what_an_upstream_has_said_last_reaches_a_client_that_still_speaks() {
    const LENGTH: u64 = 300_000;
    for spool in ["pipes = true", "pipes = false"] {
        let upstream = Upstream::new(|exchange| {
            accept(exchange)?;
            let Stream::Tcp(stream) = &exchange.incoming.stream else { unreachable!() };
            // The client has spoken: that is never read, so that closing is a reset.
            stream.peek(&mut [0])?;
            io::copy(&mut corpus::Source::new(9, 0, LENGTH), &mut &*stream)?;
            let begin = std::time::Instant::now();
            while unacknowledged(stream.as_fd())? > 0 && begin.elapsed() < PATIENCE {
                sleep(Duration::from_millis(1));
            }
            Ok(Next::Reset)
        });
        let proxied =
            Proxied::start(&Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}")));
        let mut client = Client::narrow(proxied.address);
        upgrade(&mut client, "/ws", b"ping");
        let mut from = rest(&client);
        upstream.wait_until_open(0);
        // Both ways show that it is gone: one has no reader any more, the other ends.
        for _ in 0..3 {
            client.send("ping");
            sleep(Duration::from_millis(20));
        }
        let mut verifier = Verifier::new(9, 0);
        assert_eq!(io::copy(&mut from, &mut verifier).unwrap(), LENGTH, "{spool}");
        drop(client);
        assert_eq!(proxied.logged("/ws")["trouble"], "body_broken");
    }
}

#[test]
fn a_byte_out_of_band_hides_nothing_behind_it() {
    let upstream = Upstream::new(echo);
    let proxied = Proxied::new(&upstream);
    let mut client = upgraded(&proxied, "/urgent", b"");
    let mut stream = rest(&client);
    for number in 0..5_u8 {
        // The kernel splices nothing past it, and says no more than that nothing is there.
        let sent = rustix::net::send(client.stream(), b"!", rustix::net::SendFlags::OOB);
        assert_eq!(sent, Ok(1));
        client.send(frame(&[number; 1000], Some([1, 2, 3, 4])));
        assert_eq!(read_frame(&mut stream).unwrap().unwrap(), [number; 1000]);
    }
    client.finish();
    assert_eq!(read_frame(&mut stream).unwrap().unwrap(), b"goodbye");
}
