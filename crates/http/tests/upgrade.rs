//! Connections that are given away by 101, and answers before the answer.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::net::Shutdown;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll};

use common::{Client, PATIENCE, Served};
use sluicegate::{Segment, yield_now};
use sluicegate_http::{
    Answered, Body, Downstream, Fields, Handler, Limits, Observe, Relay, RelayError, Request,
    Response,
};

/// Says back what the client says, until it says no more.
struct Echo {
    /// Before anything else.
    greeting: Option<&'static str>,
    /// Says nothing more after the greeting, but listens on.
    is_silent: bool,
    /// What it heard.
    heard: Arc<Heard>,
}

#[derive(Default)]
struct Heard {
    bytes: Mutex<(Vec<u8>, bool)>,
    more: Condvar,
}

impl Heard {
    fn wait(&self, until: impl Fn(&[u8], bool) -> bool) {
        let bytes = self.bytes.lock().unwrap();
        let waited =
            self.more.wait_timeout_while(bytes, PATIENCE, |(bytes, over)| !until(bytes, *over));
        assert!(!waited.unwrap().1.timed_out(), "never heard");
    }
}

impl Relay for Echo {
    fn length(&self) -> Option<u64> {
        Some(3)
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        if let Some(greeting) = self.greeting.take() {
            client.push(Segment::given(greeting))?;
        }
        loop {
            if client.poll_flush(cx)?.is_pending() {
                return Poll::Pending;
            }
            if self.is_silent {
                client.finish().unwrap();
            }
            let mut buffer = Vec::with_capacity(10);
            let Poll::Ready(received) = client.poll_receive(cx, &mut buffer) else {
                return Poll::Pending;
            };
            let count = received.map_err(|error| RelayError::Upstream(error.into()))?;
            let mut heard = self.heard.bytes.lock().unwrap();
            heard.0.extend_from_slice(&buffer);
            heard.1 |= count == 0;
            drop(heard);
            self.heard.more.notify_all();
            if count == 0 {
                return Poll::Ready(Ok(None));
            }
            if !self.is_silent {
                client.push(Segment::given(buffer))?;
            }
        }
    }
}

/// Not an upgrade: a relay that tries to have the connection.
struct Greedy;

impl Relay for Greedy {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        let received = client.poll_receive(cx, &mut Vec::with_capacity(10));
        assert!(matches!(received, Poll::Ready(Err(_))));
        assert!(client.finish().is_err());
        Poll::Ready(Ok(None))
    }
}

#[derive(Default)]
struct Upgrades {
    heard: Arc<Heard>,
    lines: Lines,
}

impl Handler for Upgrades {
    async fn handle(&self, request: &mut Request) -> Response {
        let mut fields = Fields::default();
        fields.add("X-Key", "value").unwrap();
        fields.add("Upgrade", "another").unwrap();
        let path = request.head.path().to_owned();
        match path.as_str() {
            "/greedy" => Response::new(200).with_body(Body::Relay(Box::new(Greedy))),
            "/read" => {
                request.interim.send(102, &Fields::default());
                let body = request.body.collect(1 << 20).await;
                Response::new(200).with_body(Body::Segment(Segment::given(body.unwrap())))
            }
            "/hints" => {
                for number in 0..3 {
                    let mut fields = Fields::default();
                    fields.add("Link", format!("</{number}>; rel=preload")).unwrap();
                    request.interim.send(103, &fields);
                    request.interim.send(101, &fields);
                    request.interim.send(200, &fields);
                    yield_now().await;
                }
                let interim = request.interim.clone();
                self.heard.wait(|_, over| over);
                interim.send(104, &Fields::default());
                Response::text(200, "hinted")
            }
            "/told" => {
                request.interim.send(100, &Fields::default());
                request.interim.send(100, &Fields::default());
                let body = request.body.collect(1 << 20).await;
                Response::new(200).with_body(Body::Segment(Segment::given(body.unwrap())))
            }
            _ => {
                let is_silent = path == "/silent";
                let greeting = Some(if is_silent { "bye" } else { "hello" });
                let heard = Arc::clone(&self.heard);
                let tunnel = Box::new(Echo { greeting, is_silent, heard });
                Response::upgrade(b"echo", fields, tunnel).unwrap()
            }
        }
    }

    fn observes(&self) -> Observe {
        Observe::Accepted
    }

    fn answered(&self, answered: &Answered<'_>) {
        let failure = answered.failure.map(sluicegate_http::Failure::name);
        let line = (answered.status, answered.head_bytes, answered.content_bytes, failure);
        self.lines.lock().unwrap().push(line);
        self.heard.more.notify_all();
    }
}

type Lines = Arc<Mutex<Vec<(Option<u16>, u64, u64, Option<&'static str>)>>>;

fn serve() -> (Served, Arc<Heard>, Lines) {
    let (heard, lines): (Arc<Heard>, Lines) = Default::default();
    let (told, logged) = (Arc::clone(&heard), Arc::clone(&lines));
    let served = Served::new(Limits::default(), move || Upgrades { heard: told, lines: logged });
    (served, heard, lines)
}

fn asking(path: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\n\
         Upgrade: other, Echo\r\n\r\n"
    )
}

fn fill_to(client: &mut Client, len: usize) {
    while client.buffered().len() < len {
        assert!(client.fill() > 0, "closed");
    }
}

#[test]
fn an_upgraded_connection_is_the_tunnels_with_what_had_come_already() {
    let (served, _, lines) = serve();
    let mut client = served.connect();
    // Behind its request, and no HTTP: more than one read of the tunnel.
    client.send(format!("{}GET / HTTP/9.9\n\n then more", asking("/")));
    let head = client.head();
    assert_eq!(head.status, 101);
    assert_eq!(head.field("Connection"), Some("upgrade"));
    assert_eq!(head.field("X-Key"), Some("value"));
    assert_eq!(head.head.matches("pgrade: ").count(), 1, "{}", head.head);
    assert_eq!(head.field("Upgrade"), Some("echo"));
    assert_eq!((head.field("Content-Length"), head.field("Transfer-Encoding")), (None, None));
    let expected = b"helloGET / HTTP/9.9\n\n then more";
    fill_to(&mut client, expected.len());
    assert_eq!(client.buffered(), expected);
    client.send("\r\n\r\nand on");
    client.stream.shutdown(Shutdown::Write).unwrap();
    let all = client.rest();
    assert!(all.ends_with(b"\r\n\r\nand on"), "{}", all.escape_ascii());
    drop(served);
    let lines = lines.lock().unwrap();
    let [(status, head_bytes, content_bytes, failure)] = lines[..] else { panic!("{lines:?}") };
    assert_eq!((status, failure), (Some(101), None));
    assert_eq!(content_bytes, all.len() as u64);
    assert_eq!(head_bytes, head.head.len() as u64);
}

#[test]
fn a_tunnel_that_says_no_more_still_listens() {
    let (served, heard, _) = serve();
    let mut client = served.connect();
    client.send(asking("/silent"));
    client.head();
    while client.fill() > 0 {}
    assert_eq!(client.buffered(), b"bye");
    client.send("still");
    client.send(" here");
    heard.wait(|bytes, over| bytes == b"still here" && !over);
    client.stream.shutdown(Shutdown::Write).unwrap();
    heard.wait(|_, over| over);
}

#[test]
fn nobody_gets_a_protocol_that_he_has_not_asked_for() {
    let (served, _, _) = serve();
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nUpgrade: echo\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echoes\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\
         Content-Length: 10\r\n\r\n",
    ] {
        let mut client = served.connect();
        client.send(request);
        assert_eq!(client.answer().status, 500, "{request}");
    }
    // And without an upgrade nobody gets the connection.
    let mut client = served.connect();
    client.send(asking("/greedy"));
    assert_eq!(client.head().status, 200);
    fill_to(&mut client, 5);
    assert_eq!(client.buffered(), b"0\r\n\r\n");
}

#[test]
fn interim_answers_leave_while_the_answer_is_made_and_are_no_part_of_it() {
    let (served, heard, lines) = serve();
    let mut client = served.connect();
    client.send("GET /hints HTTP/1.1\r\nHost: h\r\n\r\n");
    for number in 0..3 {
        let hints = client.head();
        assert_eq!(hints.status, 103);
        assert_eq!(hints.field("Link"), Some(&*format!("</{number}>; rel=preload")));
        assert_eq!((hints.field("Server"), hints.field("Date")), (None, None));
    }
    heard.bytes.lock().unwrap().1 = true;
    heard.more.notify_all();
    // At the last moment, and of a status that nobody knows yet.
    assert_eq!(client.head().status, 104);
    let answer = client.answer();
    assert_eq!((answer.status, &*answer.content), (200, &b"hinted"[..]));
    // None to HTTP/1.0.
    client.send("GET /hints HTTP/1.0\r\nHost: h\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    drop(served);
    let lines = lines.lock().unwrap();
    assert_eq!(lines[0], (Some(200), answer.head.len() as u64, 6, None));
}

#[test]
fn who_waits_for_100_gets_one_whoever_sends_it() {
    let (served, ..) = serve();
    for (path, expects) in [("/told", true), ("/read", true), ("/told", false)] {
        let mut client = served.connect();
        let expect = if expects { "Expect: 100-continue\r\n" } else { "" };
        client
            .send(format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n{expect}\r\n"));
        if path == "/read" {
            assert_eq!(client.head().status, 102);
        }
        if expects {
            assert_eq!(client.head().status, 100);
        }
        client.send("body");
        let answer = client.answer();
        assert_eq!((answer.status, &*answer.content), (200, &b"body"[..]), "{path}");
    }
}
