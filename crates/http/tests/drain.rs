//! The end of a server: which connections it closes, and when.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod mixed;

use mixed::{Mixed, get};
use sluicegate_http::Limits;

#[test]
fn a_drain_closes_idle_connections_and_ends_busy_ones_after_their_answer() {
    let served = Mixed::served(Limits::default());
    let mut idle = served.connect();
    idle.send(get("/a"));
    idle.answer();
    let mut busy = served.connect();
    busy.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na");
    // Both are known to the server once it has answered something after them.
    let mut other = served.connect();
    other.send(get("/a"));
    other.answer();
    served.close_idle();
    assert_eq!(idle.rest(), b"");
    busy.send("bc");
    let answer = busy.answer();
    assert_eq!((&answer.content[..], answer.field("Connection")), (&b"abc"[..], Some("close")));
    assert_eq!(busy.rest(), b"");
}

#[test]
fn a_drain_waits_for_those_who_have_just_connected() {
    let served = Mixed::served(Limits::default());
    let mut idle = served.connect();
    idle.send(get("/a"));
    idle.answer();
    let mut waiting = served.connect();
    served.drain();
    let mut new = served.connect();
    // Every one has been looked at once this has ended, which comes after them.
    let mut other = served.connect();
    loop {
        other.send(get("/a"));
        if other.answer().field("Connection") == Some("close") {
            break;
        }
    }
    for client in [&mut idle, &mut waiting, &mut new] {
        client.send(get("/a"));
        assert_eq!(client.answer().field("Connection"), Some("close"));
    }
    assert_eq!(new.rest(), b"");
    let nobody = served.connect();
    served.close_idle();
    assert_eq!(nobody.rest(), b"");
}
