//! The deadline of a request's body counts while the handler waits for it, and no longer.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::future::poll_fn;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::task::Poll;
use std::time::{Duration, Instant};

use common::{PATIENCE, Served};
use sluicegate::Room;
use sluicegate_http::{Handler, Limits, Piece, Request, RequestBody, Response, Timeouts};

const BODY: Duration = Duration::from_secs(2);

/// Waits for a piece for a moment, then for something else, and then for the piece again.
struct Distracted(Mutex<Sender<()>>);

/// Waits so long, with this room for the body, of which nothing comes.
async fn idle(body: &mut RequestBody, room: &Room, time: Duration) {
    let end = Instant::now() + time;
    let mut is_begun = false;
    poll_fn(|cx| {
        assert!(body.poll_piece(cx, room).is_pending());
        if Instant::now() >= end {
            return Poll::Ready(());
        }
        if !std::mem::replace(&mut is_begun, true) {
            let waker = cx.waker().clone();
            std::thread::spawn(move || {
                std::thread::sleep(time);
                waker.wake();
            });
        }
        Poll::Pending
    })
    .await;
}

impl Handler for Distracted {
    async fn handle(&self, request: &mut Request) -> Response {
        idle(&mut request.body, &Room::Memory(100), BODY / 10).await;
        idle(&mut request.body, &Room::Full, BODY).await;
        self.0.lock().unwrap().send(()).unwrap();
        let piece = poll_fn(|cx| request.body.poll_piece(cx, &Room::Memory(100))).await;
        match piece {
            Ok(Some(Piece::Data(bytes))) => Response::text(200, bytes),
            other => Response::text(500, format!("{other:?}")),
        }
    }
}

#[test]
fn who_asks_again_gives_the_client_its_whole_time() {
    let (sender, asked) = channel();
    let limits =
        Limits { timeouts: Timeouts { body: BODY, ..Timeouts::default() }, ..Limits::default() };
    let served = Served::new(limits, move || Distracted(Mutex::new(sender)));
    let mut client = served.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
    asked.recv_timeout(PATIENCE).unwrap();
    // So that the engine looks once more before something is there.
    std::thread::sleep(BODY / 5);
    client.send("hello");
    assert_eq!(client.answer().status, 200);
}
