//! Answers that somebody else moves into the client's connection.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod relaying;

use relaying::{Fixture, Say, get};
use sluicegate_http::Fields;

#[test]
fn a_sized_body_goes_through_while_its_head_waits_for_nobody() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    for round in 0..3 {
        client.send(get("/sized"));
        // The upstream has said nothing: the head is there all the same.
        let head = client.head();
        assert_eq!((head.status, head.field("Content-Length")), (200, Some("8")));
        fixture.say("abcd");
        while client.buffered().len() < 4 {
            client.fill();
        }
        fixture.say("efgh");
        fixture.script.say(Say::End);
        while client.buffered().len() < 8 {
            client.fill();
        }
        assert_eq!(client.buffered(), b"abcdefgh");
        client.forget();
        let line = fixture.line();
        assert_eq!((line.status, line.announced), (Some(200), Some(8)));
        assert_eq!((line.content_bytes, line.failure), (8, None));
        assert_eq!(line.note, Some(2 * round), "{line:?}");
        client.send(get("/plain"));
        assert_eq!(client.answer().content, b"plain");
        assert_eq!(fixture.line().note, None, "a note is of one request");
    }
    fixture.all_dropped();
    assert_eq!(fixture.script.state.lock().unwrap().begun, 3);
}

#[test]
fn content_of_unknown_length_is_chunked_and_framing_is_not_counted() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send(get("/chunks"));
    let head = client.head();
    assert_eq!(head.field("Transfer-Encoding"), Some("chunked"));
    assert_eq!(head.field("Content-Length"), None);
    fixture.say("hello");
    fixture.say("");
    fixture.say(&"x".repeat(17));
    fixture.script.wait("22 bytes accepted", |state| state.accepted == 22);
    let mut trailers = Fields::default();
    trailers.add("Sum", "1234").unwrap();
    fixture.script.say(Say::Trailers(trailers));
    let expected =
        format!("5\r\nhello\r\n11\r\n{}\r\n0\r\nSum: 1234\r\n\r\n", "x".repeat(17)).into_bytes();
    while client.buffered().len() < expected.len() {
        client.fill();
    }
    assert_eq!(client.buffered(), expected);
    client.forget();
    assert_eq!(fixture.line().content_bytes, expected.len() as u64);
    // The connection goes on.
    client.send(get("/plain"));
    assert_eq!(client.answer().content, b"plain");
}

#[test]
fn what_a_relay_does_not_flush_itself_is_flushed() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send(get("/lazy"));
    fixture.say("lazy");
    client.head();
    while client.buffered().len() < 9 {
        client.fill();
    }
    assert_eq!(client.buffered(), b"4\r\nlazy\r\n");
    fixture.script.wait("told", |state| state.accepted == 4);
    fixture.script.say(Say::End);
    while client.buffered().len() < 14 {
        client.fill();
    }
    assert!(client.buffered().ends_with(b"0\r\n\r\n"));
}

#[test]
fn an_http10_client_gets_the_bytes_and_the_end_of_the_connection() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send("GET /chunks HTTP/1.0\r\nHost: h\r\nConnection: keep-alive\r\n\r\n");
    fixture.say("first ");
    let head = client.head();
    assert_eq!(head.field("Transfer-Encoding"), None);
    assert_eq!(head.field("Connection"), Some("close"));
    fixture.say("second");
    let mut trailers = Fields::default();
    trailers.add("Sum", "1234").unwrap();
    fixture.script.say(Say::Trailers(trailers));
    assert_eq!(client.rest(), b"first second");
    assert_eq!(fixture.line().failure, None);
}

#[test]
fn answers_without_content_drop_the_relay_unpolled() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send("HEAD /sized HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.head().field("Content-Length"), Some("8"));
    assert_eq!(fixture.line().announced, Some(8));
    client.send("HEAD /chunks HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.head().field("Transfer-Encoding"), Some("chunked"));
    client.send(get("/empty"));
    let head = client.head();
    assert_eq!((head.status, head.field("Content-Length")), (204, None));
    client.send(get("/same"));
    assert_eq!(client.head().status, 304);
    client.send(get("/plain"));
    assert_eq!(client.answer().content, b"plain");
    fixture.all_dropped();
    assert_eq!(fixture.script.state.lock().unwrap().polls, 0);
}

#[test]
fn a_relay_reads_the_request_while_its_answer_goes_out() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send("POST /chunks HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n");
    assert_eq!(client.head().status, 200);
    let upload: Vec<u8> = (0..100_000).map(|at| (at % 251) as u8).collect();
    for (number, part) in upload.chunks(30_000).enumerate() {
        client.send(part);
        let end = (number + 1) * 30_000;
        fixture.script.wait("read", |state| state.read.len() == end.min(100_000));
        // And the other way.
        fixture.say("ab");
        let from = client.buffered().len();
        while client.buffered().len() < from + 7 {
            client.fill();
        }
    }
    assert_eq!(fixture.script.state.lock().unwrap().read, upload);
    fixture.script.say(Say::End);
    while !client.buffered().ends_with(b"0\r\n\r\n") {
        client.fill();
    }
    client.forget();
    // All was read: the connection goes on.
    client.send(get("/plain"));
    assert_eq!(client.answer().content, b"plain");
}

#[test]
fn what_a_relay_leaves_unread_of_a_request_costs_the_connection_if_it_is_much() {
    for (length, goes_on) in [(1000, true), (1_000_000, false)] {
        let fixture = Fixture::new();
        let mut client = fixture.served.connect();
        client.send(format!("POST /sized HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"));
        client.head();
        fixture.say("12345678");
        fixture.script.say(Say::End);
        while client.buffered().len() < 8 {
            client.fill();
        }
        client.forget();
        if goes_on {
            client.send(vec![b'x'; length]);
            client.send(get("/plain"));
            assert_eq!(client.answer().content, b"plain");
        } else {
            assert_eq!(client.rest(), b"");
        }
    }
}

#[test]
fn what_a_relay_has_not_taken_of_a_request_is_nobodys() {
    for (length, closes) in [(1000, false), (1_000_000, true)] {
        let fixture = Fixture::new();
        let mut client = fixture.served.connect();
        client
            .send(format!("POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: {length}\r\n\r\n"));
        let head = client.head();
        assert_eq!(head.field("Connection"), closes.then_some("close"));
        fixture.say("12345678");
        fixture.script.say(Say::End);
        while client.buffered().len() < 8 {
            client.fill();
        }
        if !closes {
            client.send(vec![b'x'; length]);
        }
        assert_eq!(fixture.line().failure, None);
    }
}

#[test]
fn a_client_that_still_waits_for_its_100_gets_none_behind_the_head() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send(
        "POST /sized HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.head().status, 200);
    fixture.say("abcdefgh");
    fixture.script.say(Say::End);
    // Nobody can say where its next request would begin.
    assert_eq!(client.rest(), b"abcdefgh");
    assert!(fixture.script.state.lock().unwrap().read.is_empty());
}

#[test]
fn a_body_begun_by_the_handler_is_read_on_by_its_relay() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send(
        "POST /first HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\
         Expect: 100-continue\r\n\r\n",
    );
    assert_eq!(client.head().status, 100);
    client.send("3\r\nabc\r\n");
    assert_eq!(client.head().status, 200);
    client.send("3\r\ndef\r\n0\r\n\r\n");
    fixture.script.wait("read", |state| state.read == b"abcdef");
    fixture.script.say(Say::End);
    while client.buffered() != b"0\r\n\r\n" {
        client.fill();
    }
    client.forget();
    client.send(get("/plain"));
    assert_eq!(client.answer().content, b"plain");
}

#[test]
fn pipelined_requests_are_relayed_one_after_another() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send([get("/sized"), get("/plain"), get("/sized")].concat());
    for data in ["abcdefgh", "ijklmnop"] {
        client.head();
        assert!(client.buffered().is_empty());
        fixture.say(data);
        fixture.script.say(Say::End);
        while client.buffered().len() < 8 {
            client.fill();
        }
        assert_eq!(&client.buffered()[..8], data.as_bytes());
        client.take(8);
        if data.starts_with('a') {
            assert_eq!(client.answer().content, b"plain");
        }
    }
    fixture.script.wait("three accounts", |_| fixture.lines.lock().unwrap().len() == 3);
    let notes: Vec<_> = fixture.lines.lock().unwrap().iter().map(|line| line.note).collect();
    assert_eq!(notes, [Some(0), None, Some(2)]);
}

#[test]
fn an_interim_answer_from_elsewhere_wakes_the_connection() {
    let fixture = Fixture::new();
    let mut client = fixture.served.connect();
    client.send(get("/elsewhere"));
    std::thread::sleep(std::time::Duration::from_millis(50));
    fixture.script.change(|state| state.read.push(b'!'));
    assert_eq!(client.head().status, 103);
}
