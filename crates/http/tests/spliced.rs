//! Bytes of clients that go through pipes: uploads while they are relayed, and tunnels.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::io::Write;
use std::net::Shutdown;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use common::{Client, PATIENCE, Served};
use sluicegate::{PipePool, Room, SendContext, Spool, SpoolBudget, SpoolBytes, SpoolOptions};
use sluicegate_http::{
    Body, Downstream, Fields, Handler, Limits, Piece, Relay, RelayError, Request, RequestBody,
    RequestFraming, Response,
};

/// Says back what it is told, through a spool.
struct Echo {
    spool: Spool,
    from: From,
    length: Option<u64>,
    is_over: bool,
    accepted: u64,
    /// Where the ways are told that bytes took.
    told: Arc<Mutex<SpoolBytes>>,
}

enum From {
    Body(RequestBody),
    Tunnel,
}

impl Echo {
    /// Takes what there is; whether it was something.
    fn fill(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Result<bool, RelayError> {
        let broken = |error: &dyn std::error::Error| RelayError::Upstream(error.to_string().into());
        // What was put into a pipe since the last look is told before anything else moves.
        let filled = match &mut self.from {
            From::Body(body) => body.poll_piece(cx, &Room::Full),
            From::Tunnel => Poll::Pending,
        };
        let room = if filled.is_pending() { self.spool.room() } else { Room::Full };
        match (&mut self.from, &room) {
            (From::Body(body), room) => {
                let piece = if filled.is_ready() { filled } else { body.poll_piece(cx, room) };
                let Poll::Ready(piece) = piece else { return Ok(false) };
                match piece.map_err(|error| broken(&error))? {
                    Some(Piece::Data(bytes)) => {
                        self.spool.push(bytes);
                    }
                    Some(Piece::Piped(pipe, count)) => self.spool.handle_filled(pipe, count),
                    None => self.is_over = true,
                }
            }
            (From::Tunnel, Room::Full) => return Ok(false),
            (From::Tunnel, Room::Pipe(pipe, len)) => {
                match client.poll_fill(cx, pipe, (*len).min(50_000)) {
                    Poll::Pending => return Ok(false),
                    Poll::Ready(Ok(0)) => self.is_over = true,
                    Poll::Ready(Ok(count)) => self.spool.handle_filled(Arc::clone(pipe), count),
                    Poll::Ready(Err(_)) => {
                        let mut buffer = Vec::with_capacity(1000);
                        match client.poll_receive(cx, &mut buffer) {
                            Poll::Pending => return Ok(false),
                            Poll::Ready(Err(error)) => return Err(broken(&error)),
                            Poll::Ready(Ok(0)) => self.is_over = true,
                            Poll::Ready(Ok(_)) => self.spool.push(buffer.into()),
                        }
                    }
                }
            }
            (From::Tunnel, Room::Memory(_)) => panic!("no pipe"),
        }
        Ok(true)
    }
}

impl Relay for Echo {
    fn length(&self) -> Option<u64> {
        self.length
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        loop {
            let moved = !self.is_over && self.fill(cx, client)?;
            while client.room() > 0
                && let Some(segment) = self.spool.segment()
            {
                client.push(segment)?;
            }
            // Before the client can have it.
            *self.told.lock().unwrap() = self.spool.bytes();
            let flushed = client.poll_flush(cx)?;
            let accepted = client.accepted();
            self.spool.handle_accepted(accepted - self.accepted);
            self.accepted = accepted;
            if self.is_over && self.spool.held() == 0 {
                return Poll::Ready(Ok(None));
            }
            if !moved || flushed.is_pending() {
                return Poll::Pending;
            }
        }
    }
}

struct Echoes {
    context: Arc<SendContext>,
    told: Arc<Mutex<SpoolBytes>>,
}

impl Handler for Echoes {
    async fn handle(&self, request: &mut Request) -> Response {
        let options = SpoolOptions {
            memory: 1 << 20,
            disk: 0,
            directory: std::env::temp_dir(),
            pipes: true,
            memory_ring: false,
            unit: 64 * 1024,
        };
        let budget = SpoolBudget::new(1 << 30);
        let body = std::mem::take(&mut request.body);
        let length = match body.framing() {
            RequestFraming::Sized(length) => Some(length),
            _ => None,
        };
        let is_tunnel = request.head.path() == "/tunnel";
        let echo = Box::new(Echo {
            spool: Spool::new(&Arc::new(options), &budget, &self.context),
            from: if is_tunnel { From::Tunnel } else { From::Body(body) },
            length,
            is_over: false,
            accepted: 0,
            told: Arc::clone(&self.told),
        });
        if is_tunnel {
            Response::upgrade(b"echo", Fields::default(), echo).unwrap()
        } else {
            Response::new(200).with_body(Body::Relay(echo))
        }
    }
}

fn serve() -> (Served, Arc<Mutex<SpoolBytes>>) {
    let (served, told, _) = serve_with_pipes();
    (served, told)
}

/// And from where its pipes are.
fn serve_with_pipes() -> (Served, Arc<Mutex<SpoolBytes>>, PipePool) {
    let told: Arc<Mutex<SpoolBytes>> = Arc::default();
    let context = Arc::new(SendContext::default());
    let pipes = context.pipes.clone();
    let shared = Arc::clone(&told);
    let limits = Limits { body: 1 << 30, ..Limits::default() };
    let served = Served::new(limits, move || Echoes { context, told: shared });
    (served, told, pipes)
}

fn content(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 7 + at / 251) as u8).collect()
}

/// Sends from a thread of its own, so that neither way waits for the other.
fn send_aside(client: &Client, parts: Vec<Vec<u8>>, ends: bool) -> std::thread::JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        for part in parts {
            stream.write_all(&part).unwrap();
        }
        if ends {
            stream.shutdown(Shutdown::Write).unwrap();
        }
    })
}

#[test]
fn a_sized_upload_is_spliced_where_it_was_not_received_with_its_head() {
    let (served, told) = serve();
    let mut client = served.connect();
    for len in [3_000_000, 1] {
        let upload = content(len);
        client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {len}\r\n\r\n"));
        assert_eq!(client.head().field("Content-Length"), Some(&*len.to_string()));
        let sending = send_aside(&client, vec![upload.clone()], false);
        while client.buffered().len() < len {
            assert!(client.fill() > 0);
        }
        sending.join().unwrap();
        assert!(client.buffered() == upload, "{len}");
        client.forget();
        let told = told.lock().unwrap();
        assert_eq!(told.spliced + told.copied, len as u64);
        assert!(told.spliced > told.copied, "{told:?}");
    }
}

#[test]
fn an_upload_that_is_silent_holds_no_pipe() {
    const LEN: usize = 1_000_000;
    let (served, told, pipes) = serve_with_pipes();
    let mut client = served.connect();
    let upload = content(LEN);
    client.send(format!("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: {LEN}\r\n\r\n"));
    client.head();
    for part in upload.chunks(LEN / 4) {
        let expected = client.buffered().len() + part.len();
        let sending = send_aside(&client, vec![part.to_vec()], false);
        while client.buffered().len() < expected {
            assert!(client.fill() > 0);
        }
        sending.join().unwrap();
        let end = Instant::now() + PATIENCE;
        while expected < LEN && pipes.pipes().lent > 0 {
            assert!(Instant::now() < end, "{:?}", pipes.pipes());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    assert!(client.buffered() == upload);
    // And what came then did not go without.
    let told = *told.lock().unwrap();
    assert!(told.spliced > told.copied, "{told:?}");
}

#[test]
fn a_chunked_upload_is_spliced_chunk_by_chunk() {
    let (served, told) = serve();
    let mut client = served.connect();
    let upload = content(2_000_000);
    client.send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.head().field("Transfer-Encoding"), Some("chunked"));
    let mut parts = Vec::new();
    for (number, part) in upload.chunks(300_001).enumerate() {
        parts.push(format!("{:x};n={number}\r\n", part.len()).into_bytes());
        parts.push(part.to_vec());
        parts.push(b"\r\n".to_vec());
    }
    parts.push(b"0\r\nSum: 1\r\n\r\n".to_vec());
    let sending = send_aside(&client, parts, false);
    while !client.buffered().ends_with(b"\r\n0\r\n\r\n") {
        assert!(client.fill() > 0);
    }
    sending.join().unwrap();
    let limits = Limits { body: 1 << 30, ..Limits::default() };
    let (mut decoder, mut rest, mut got) =
        (sluicegate_http::ChunkedDecoder::new(), client.buffered(), Vec::new());
    loop {
        let step = decoder.decode(rest, &limits).unwrap();
        match step.event {
            sluicegate_http::Event::Data(range) => got.extend_from_slice(&rest[range]),
            sluicegate_http::Event::Done => break,
            sluicegate_http::Event::NeedMore => panic!("more"),
        }
        rest = &rest[step.consumed..];
    }
    assert!(got == upload);
    let told = *told.lock().unwrap();
    assert_eq!(told.spliced + told.copied, upload.len() as u64);
    assert!(told.spliced > told.copied, "{told:?}");
}

#[test]
fn a_tunnel_is_spliced_after_what_had_come_with_the_request() {
    let (served, told) = serve();
    let mut client = served.connect();
    let said = content(4_000_000);
    let mut first = b"GET /tunnel HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\n\
        Upgrade: echo\r\n\r\n"
        .to_vec();
    first.extend_from_slice(&said[..3000]);
    let sending = send_aside(&client, vec![first, said[3000..].to_vec()], true);
    assert_eq!(client.head().status, 101);
    let heard = client.rest();
    sending.join().unwrap();
    assert!(heard == said, "{} of {}", heard.len(), said.len());
    let told = *told.lock().unwrap();
    assert_eq!(told.spliced + told.copied, said.len() as u64);
    assert!(told.spliced > 3_000_000 && told.copied >= 3000, "{told:?}");
}
