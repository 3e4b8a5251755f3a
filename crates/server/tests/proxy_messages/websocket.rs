//! A WebSocket through the proxy by a client that is nobody's of ours: a browser's. What it is
//! served by is written after RFC 6455, with nothing but the standard library.

use std::io::{self, Read};

use sluicegate_testkit::browser::{self, Desk};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::proxied::answers::{head, text};
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Exchange, Next, Upstream};

const TEXT: u8 = 1;
const BINARY: u8 = 2;
const CLOSE: u8 = 8;
const PING: u8 = 9;
const PONG: u8 = 10;

/// RFC 3174: the digest of what is short.
fn sha1(message: &[u8]) -> [u8; 20] {
    let mut state = [0x6745_2301_u32, 0xefcd_ab89, 0x98ba_dcfe, 0x1032_5476, 0xc3d2_e1f0];
    let mut padded = message.to_vec();
    padded.push(0x80);
    padded.resize((padded.len() + 8).next_multiple_of(64) - 8, 0);
    padded.extend((message.len() as u64 * 8).to_be_bytes());
    for block in padded.chunks(64) {
        let mut words: Vec<u32> =
            block.chunks(4).map(|word| u32::from_be_bytes(word.try_into().unwrap())).collect();
        for at in 16..80 {
            let mixed = words[at - 3] ^ words[at - 8] ^ words[at - 14] ^ words[at - 16];
            words.push(mixed.rotate_left(1));
        }
        let [mut a, mut b, mut c, mut d, mut e] = state;
        for (at, word) in words.iter().enumerate() {
            let (mixed, constant) = match at / 20 {
                0 => ((b & c) | (!b & d), 0x5a82_7999),
                1 => (b ^ c ^ d, 0x6ed9_eba1),
                2 => ((b & c) | (b & d) | (c & d), 0x8f1b_bcdc),
                _ => (b ^ c ^ d, 0xca62_c1d6),
            };
            let next =
                [mixed, e, *word, constant].into_iter().fold(a.rotate_left(5), u32::wrapping_add);
            (e, d, c, b, a) = (d, c, b.rotate_left(30), a, next);
        }
        for (word, more) in state.iter_mut().zip([a, b, c, d, e]) {
            *word = word.wrapping_add(more);
        }
    }
    let mut digest = [0; 20];
    for (bytes, word) in digest.chunks_mut(4).zip(state) {
        bytes.copy_from_slice(&word.to_be_bytes());
    }
    digest
}

fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let mut group = [0; 4];
        group[1..=three.len()].copy_from_slice(three);
        let group = u32::from_be_bytes(group);
        for letter in 0..4 {
            let index = (group >> (18 - 6 * letter)) & 63;
            text.push(if letter > three.len() { '=' } else { LETTERS[index as usize].into() });
        }
    }
    text
}

/// Section 4.2.2 of RFC 6455.
fn accept(exchange: &mut Exchange) -> io::Result<()> {
    let asked = &exchange.asked.head;
    let key = asked.field("Sec-WebSocket-Key").expect("a key");
    let digest = sha1(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11").as_bytes());
    let accept = format!("Sec-WebSocket-Accept: {}", base64(&digest));
    assert_eq!(asked.field("Sec-WebSocket-Version"), Some("13"), "{}", asked.raw);
    assert_eq!(asked.field("Sec-WebSocket-Protocol"), Some("echo.test"), "{}", asked.raw);
    assert!(asked.field("Origin").is_some_and(|origin| origin.starts_with("http://127.0.0.1:")));
    let protocol = "Sec-WebSocket-Protocol: echo.test";
    let lines = ["Connection: Upgrade", "Upgrade: websocket", &accept, protocol];
    exchange.send(head("101 Switching Protocols", &lines))
}

/// Section 5.2: a frame of a server's, unmasked.
fn send(exchange: &mut Exchange, is_last: bool, kind: u8, data: &[u8]) -> io::Result<()> {
    let mut frame = vec![if is_last { 0x80 } else { 0 } | kind];
    match data.len() {
        length @ ..=125 => frame.push(length as u8),
        length @ ..=65_535 => {
            frame.push(126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(data);
    exchange.send(frame)
}

/// A message of the client's, whose frames must be masked; what it is, and its data.
fn receive(stream: &mut impl Read) -> io::Result<(u8, Vec<u8>)> {
    let (mut kind, mut message) = (None, Vec::new());
    loop {
        let mut start = [0; 2];
        stream.read_exact(&mut start)?;
        assert_eq!(start[0] & 0x70, 0, "no extension was agreed on");
        assert_eq!(start[1] & 0x80, 0x80, "a client's frames are masked");
        let mut bytes = [0; 8];
        let extended = match start[1] & 0x7f {
            126 => 2,
            127 => 8,
            length => {
                bytes[7] = length;
                0
            }
        };
        stream.read_exact(&mut bytes[8 - extended..])?;
        let mut mask = [0; 4];
        stream.read_exact(&mut mask)?;
        let mut data = vec![0; u64::from_be_bytes(bytes) as usize];
        stream.read_exact(&mut data)?;
        data.iter_mut().zip(mask.iter().cycle()).for_each(|(byte, mask)| *byte ^= mask);
        match start[0] & 0x0f {
            // More of a message that was begun.
            0 => assert!(kind.is_some(), "it continues nothing"),
            control @ 8.. => {
                assert_eq!(start[0] & 0x80, 0x80, "no part of a control frame");
                return Ok((control, data));
            }
            other => assert!(kind.replace(other).is_none(), "a message within another"),
        }
        message.extend(data);
        if start[0] & 0x80 != 0 {
            return Ok((kind.unwrap(), message));
        }
    }
}

/// Greets, echoes, and takes part in the close handshake (section 5.5.1), or begins it.
fn converse(exchange: &mut Exchange) -> io::Result<Next> {
    accept(exchange)?;
    send(exchange, true, TEXT, b"welcome")?;
    send(exchange, true, PING, b"are you there")?;
    let (mut was_answered, mut closes) = (false, false);
    loop {
        let (kind, data) = receive(&mut exchange.incoming.stream)?;
        match kind {
            PONG => {
                assert_eq!(data, b"are you there");
                was_answered = true;
            }
            CLOSE => {
                assert!(was_answered, "a ping has an answer before the end");
                if !closes {
                    send(exchange, true, CLOSE, &data)?;
                }
                // The server is the first to close.
                return Ok(Next::Close);
            }
            TEXT if data == b"close, please" => {
                let reason = [4_002_u16.to_be_bytes().as_slice(), b"as you wish"].concat();
                send(exchange, true, CLOSE, &reason)?;
                closes = true;
            }
            // In two frames.
            TEXT | BINARY => {
                let (first, second) = data.split_at(data.len() / 3);
                send(exchange, false, kind, first)?;
                send(exchange, true, 0, second)?;
            }
            other => panic!("a message of kind {other}"),
        }
    }
}

const SCRIPT: &str = r#"
    const open = async path => {
        const socket = new WebSocket(`ws://${location.host}${path}`, "echo.test");
        socket.binaryType = "arraybuffer";
        const came = [], waiting = [];
        socket.onmessage = ({ data }) => waiting.length ? waiting.shift()(data) : came.push(data);
        const next = () => new Promise(got => came.length ? got(came.shift()) : waiting.push(got));
        const ended = new Promise(end => socket.onclose = ({ code, reason, wasClean }) =>
            end(`${code} ${reason} ${wasClean}`));
        const opened = await new Promise(done => {
            socket.onopen = () => done(true);
            socket.onerror = () => done(false);
        });
        return { socket, next, ended, opened };
    };
    const bytes = length => Uint8Array.from({ length }, (_, at) => at * 7 + (at >> 8));
    const same = (one, other) => one.length === other.length && one.every((byte, at) => byte === other[at]);
    tell(async () => {
        const { socket, next, ended, opened } = await open("/ws");
        await report(`opened ${opened} ${socket.protocol} [${socket.extensions}] ${await next()}`);
        for (const length of [0, 1, 125, 126, 65535, 65536, 70000, 3000000]) {
            const text = "wörter ".repeat(length / 7 + 1).slice(0, length);
            socket.send(text);
            const echoed = await next() === text;
            const data = bytes(length);
            socket.send(data);
            await report(`${length} ${echoed} ${same(new Uint8Array(await next()), data)}`);
        }
        // Many at a time: both directions flow, and order is kept.
        for (let number = 0; number < 40; number++) socket.send(bytes(100000 + number));
        let right = 0;
        for (let number = 0; number < 40; number++) {
            right += same(new Uint8Array(await next()), bytes(100000 + number));
        }
        await report(`together ${right}`);
        socket.close(4001, "through");
        await report(`closed ${await ended}`);

        const other = await open("/ws");
        await other.next();
        other.socket.send("close, please");
        await report(`closed ${await other.ended}`);

        const refused = await open("/refused");
        await report(`opened ${refused.opened} ${await refused.ended}`);
        await report(await (await fetch("/plain")).text());
    });
"#;

#[test]
fn a_browsers_web_socket_goes_through() {
    require!(Need::Program(browser::PROGRAM));
    let desk = Desk::open().unwrap();
    let page = format!(
        "<!DOCTYPE html><meta charset=utf-8><title>socket</title><script>{}{SCRIPT}</script>",
        desk.script()
    );
    let upstream = Upstream::new(move |exchange| match exchange.asked.target() {
        "/ws" => converse(exchange),
        "/page" => {
            let length = format!("Content-Length: {}", page.len());
            exchange.send(head("200 OK", &["Content-Type: text/html", &length]) + &page)?;
            Ok(Next::Keep)
        }
        "/refused" => {
            exchange.send(head("403 Forbidden", &["Content-Length: 2"]) + "no")?;
            Ok(Next::Keep)
        }
        _ => text(exchange, "plain"),
    });
    for spool in ["pipes = true", "pipes = false"] {
        let setup = Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}"));
        let proxied = Proxied::start(&setup);
        let reports = desk.visit(&proxied.url("/page"), (800, 600)).unwrap();
        upstream.check();
        assert_eq!(
            reports,
            [
                "opened true echo.test [] welcome",
                "0 true true",
                "1 true true",
                "125 true true",
                "126 true true",
                "65535 true true",
                "65536 true true",
                "70000 true true",
                "3000000 true true",
                "together 40",
                "closed 4001 through true",
                "closed 4002 as you wish true",
                "opened false 1006  false",
                "plain",
            ],
            "{spool}"
        );
        upstream.eventually("both have ended", || {
            let ended = |line: &&serde_json::Value| line["target"] == "/ws";
            proxied.log().iter().filter(ended).count() == 2
        });
        for line in proxied.log().iter().filter(|line| line["target"] == "/ws") {
            assert_eq!(
                (&line["status"], &line["failure"]),
                (&101.into(), &serde_json::Value::Null)
            );
        }
        proxied.stop();
        upstream.wait_until_open(0);
    }
}

#[test]
fn the_digest_is_the_one_of_the_examples() {
    // RFC 6455 section 1.3.
    let key = b"dGhlIHNhbXBsZSBub25jZQ==258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    assert_eq!(base64(&sha1(key)), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(base64(b"a"), "YQ==");
}
