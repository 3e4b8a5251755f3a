//! What ends a relay before its time: the upstream, the client, and deadlines.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod relaying;

use std::os::fd::AsFd;
use std::time::Duration;

use common::Client;
use relaying::{Fixture, Say, get};
use sluicegate_http::Timeouts;

fn reset(client: Client) {
    sluicegate_sys::socket::reset_on_close(client.stream.as_fd()).unwrap();
    drop(client);
}

#[test]
fn a_body_that_ends_early_or_goes_on_too_long_is_cut() {
    for (says, length) in [
        (vec![Say::Data(b"abc".to_vec()), Say::Fail], "/sized"),
        (vec![Say::Data(b"abc".to_vec()), Say::Fail], "/chunks"),
        (vec![Say::Data(b"abc".to_vec()), Say::End], "/sized"),
        (vec![Say::Data(b"abc".to_vec()), Say::Data(b"defghi".to_vec()), Say::End], "/sized"),
    ] {
        let fixture = Fixture::new();
        let expected = match says.last() {
            Some(Say::Fail) => "upstream",
            _ => "relay",
        };
        let client = fixture.ask(length);
        for say in says {
            fixture.script.say(say);
        }
        assert!(client.ends_in_a_reset(), "{length}");
        let line = fixture.line();
        assert_eq!(line.failure, Some(expected), "{line:?}");
        fixture.all_dropped();
    }
}

#[test]
fn a_reset_drops_the_relay_and_the_wait_for_an_answer_at_once() {
    for path in ["/sized", "/chunks", "/never"] {
        let fixture = Fixture::new();
        let mut client = fixture.served.connect();
        client.send(get(path));
        fixture.script.wait("begun", |state| state.begun == 1);
        if path != "/never" {
            client.head();
        }
        // Nothing is being sent, and nothing would be for a minute.
        reset(client);
        fixture.all_dropped();
        assert_eq!(fixture.line().failure, Some("gone"), "{path}");
    }
}

#[test]
fn a_client_that_has_sent_its_end_is_served_on_and_given_up_in_silence() {
    let send = Duration::from_secs(2);
    let fixture = Fixture::giving_up_after(send);
    let mut client = fixture.ask("/chunks");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    fixture.say("still here");
    while client.buffered().len() < 15 {
        client.fill();
    }
    assert_eq!(client.buffered(), b"a\r\nstill here\r\n");
    // From here on nothing comes: it has the time of a client that does not read.
    fixture.all_dropped();
    assert_eq!(fixture.line().failure, Some("gone"));
    assert!(client.ends_in_a_reset());
    // One that has not is waited with for as long as the relay likes.
    let mut client = fixture.ask("/sized");
    std::thread::sleep(send + Duration::from_millis(500));
    fixture.say("12345678");
    fixture.script.say(Say::End);
    while client.buffered().len() < 8 {
        client.fill();
    }
    assert_eq!(fixture.line().failure, None);
}

#[test]
fn the_time_of_a_client_that_has_sent_its_end_begins_with_each_piece() {
    let send = Duration::from_secs(2);
    let fixture = Fixture::giving_up_after(send);
    let mut client = fixture.ask("/chunks");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    // Each is accepted at once, so that nothing is ever waited for but the next.
    for _ in 0..5 {
        std::thread::sleep(send / 2);
        fixture.say("still here");
    }
    fixture.script.say(Say::End);
    assert_eq!(fixture.line().failure, None);
    let whole = "a\r\nstill here\r\n".repeat(5) + "0\r\n\r\n";
    while client.buffered().len() < whole.len() {
        client.fill();
    }
    assert_eq!(client.buffered(), whole.as_bytes());
}

#[test]
fn a_reset_ends_the_wait_for_an_upload_and_its_relay() {
    for path in ["/takes", "/chunks"] {
        let fixture = Fixture::new();
        let mut client = fixture.served.connect();
        client.send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc"));
        fixture.script.wait("begun", |state| state.begun == 1);
        reset(client);
        fixture.all_dropped();
        // Seen by what is received, or by what is sent: the head may be.
        let failure = fixture.line().failure;
        assert!(matches!(failure, Some("gone" | "send")), "{path}: {failure:?}");
    }
}

#[test]
fn an_upload_that_stalls_fails_the_relay_that_reads_it() {
    let body = Duration::from_secs(1);
    let fixture = Fixture::with(Timeouts { body, ..Timeouts::default() });
    let mut client = fixture.served.connect();
    client.send("POST /chunks HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nabc");
    client.head();
    fixture.script.wait("read", |state| state.read == b"abc");
    assert!(client.ends_in_a_reset());
    assert_eq!(fixture.line().failure, Some("body_timeout"));
    // And one that breaks a rule.
    let mut client = fixture.served.connect();
    client.send("POST /chunks HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nno\r\n");
    assert!(client.ends_in_a_reset());
    assert_eq!(fixture.line().failure, Some("bad_chunk_size"));
}

#[test]
fn a_partition_that_the_client_does_not_free_counts_against_it() {
    let send = Duration::from_secs(2);
    let fixture = Fixture::giving_up_after(send);
    let _client = fixture.ask("/ring");
    fixture.all_dropped();
    assert_eq!(fixture.line().failure, Some("unread"));
    assert!(fixture.script.state.lock().unwrap().accepted > 0);
}

#[test]
fn a_client_that_reads_slowly_is_not_given_up() {
    let send = Duration::from_secs(2);
    let fixture = Fixture::giving_up_after(send);
    let mut client = fixture.served.connect();
    sluicegate_sys::socket::set_receive_buffer(client.stream.as_fd(), 64 * 1024).unwrap();
    client.send(get("/chunks"));
    client.head();
    for _ in 0..64 {
        fixture.script.say(Say::Data(vec![b'x'; 1 << 20]));
    }
    fixture.script.say(Say::End);
    // Longer than a client may be silent, and never silent for long: the kernel has
    // room again only when a third of its buffer is free.
    let start = std::time::Instant::now();
    while start.elapsed() < 3 * send {
        client.fill();
        std::thread::sleep(Duration::from_millis(50));
    }
    while !client.buffered().ends_with(b"\r\n0\r\n\r\n") {
        client.fill();
    }
    assert_eq!(fixture.line().failure, None);
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let send = Duration::from_secs(2);
    let fixture = Fixture::giving_up_after(send);
    let client = fixture.ask("/chunks");
    // More than both kernels hold.
    for _ in 0..64 {
        fixture.script.say(Say::Data(vec![b'x'; 1 << 20]));
    }
    fixture.all_dropped();
    assert_eq!(fixture.line().failure, Some("unread"));
    assert!(client.ends_in_a_reset());
}
