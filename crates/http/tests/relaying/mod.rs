//! An upstream in the hands of a test, and a server that relays what it says.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // A test ends at the first surprise; not every file uses all.

use std::any::Any;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use sluicegate::{Ring, Room, Segment};
use sluicegate_http::{
    Answered, Body, Downstream, Fields, Handler, Limits, Observe, Piece, Relay, RelayError,
    Request, RequestBody, Response, Timeouts,
};

use crate::common::{Client, PATIENCE, Served};

/// What an upstream does next, as the test says.
#[derive(Debug)]
pub enum Say {
    Data(Vec<u8>),
    Trailers(Fields),
    End,
    Fail,
}

/// An upstream in the hands of the test, and what it sees of its relays.
#[derive(Default)]
pub struct Script {
    pub state: Mutex<State>,
    pub changed: Condvar,
}

#[derive(Default)]
pub struct State {
    pub says: std::collections::VecDeque<Say>,
    pub waker: Option<Waker>,
    /// Relays, or waits for an answer, that have begun and that were dropped.
    pub begun: usize,
    pub dropped: usize,
    pub polls: usize,
    pub accepted: u64,
    /// Bytes of requests that relays have read.
    pub read: Vec<u8>,
    /// A relay or a handler has panicked, on the server's thread.
    pub panicked: bool,
}

impl Script {
    pub fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock().unwrap();
        change(&mut state);
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub fn say(&self, say: Say) {
        self.change(|state| state.says.push_back(say));
    }

    pub fn wait(&self, what: &str, until: impl Fn(&State) -> bool) {
        let state = self.state.lock().unwrap();
        let waits = |state: &mut State| !until(state) && !state.panicked;
        let waited = self.changed.wait_timeout_while(state, PATIENCE, waits);
        let (state, result) = waited.unwrap();
        let panicked = state.panicked;
        drop(state);
        assert!(!panicked, "the server's thread has panicked, see above; waited for: {what}");
        assert!(!result.timed_out(), "never: {what}");
    }
}

/// Counts what is begun, for as long as it is held.
pub struct Counted(Arc<Script>);

impl Counted {
    pub fn new(script: &Arc<Script>) -> Self {
        script.change(|state| state.begun += 1);
        Counted(Arc::clone(script))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.change(|state| {
            state.dropped += 1;
            state.panicked |= std::thread::panicking();
        });
    }
}

/// Relays what the script says.
struct Scripted {
    pub script: Counted,
    length: Option<u64>,
    /// Read while the answer goes out.
    body: RequestBody,
    flushes: bool,
    /// Bytes of content so far.
    pushed: u64,
}

impl Relay for Scripted {
    fn length(&self) -> Option<u64> {
        self.length
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        let script = Arc::clone(&self.script.0);
        // What is pushed after that is flushed by nobody here.
        if !self.flushes && client.poll_flush(cx)?.is_pending() {
            return Poll::Pending;
        }
        while let Poll::Ready(piece) = self.body.poll_piece(cx, &Room::Memory(1000)) {
            match piece {
                Ok(Some(Piece::Data(bytes))) => {
                    assert!(bytes.len() <= 1000);
                    script.change(|state| state.read.extend_from_slice(&bytes));
                }
                Ok(Some(Piece::Piped(..))) => panic!("there was no pipe"),
                Ok(None) => break,
                Err(error) => return Poll::Ready(Err(RelayError::Upstream(error.into()))),
            }
        }
        loop {
            if self.flushes && client.poll_flush(cx)?.is_pending() {
                assert!(client.accepted() < self.pushed);
                return Poll::Pending;
            }
            let mut state = script.state.lock().unwrap();
            state.polls += 1;
            let accepted = client.accepted();
            assert!(state.accepted <= accepted && accepted <= self.pushed);
            assert!(!self.flushes || accepted == self.pushed);
            state.accepted = accepted;
            state.waker = Some(cx.waker().clone());
            let say = state.says.pop_front();
            drop(state);
            script.changed.notify_all();
            match say {
                None => return Poll::Pending,
                Some(Say::Data(bytes)) => {
                    self.pushed += bytes.len() as u64;
                    client.push(Segment::given(bytes))?;
                }
                Some(Say::Trailers(fields)) => return Poll::Ready(Ok(Some(fields))),
                Some(Say::End) => return Poll::Ready(Ok(None)),
                Some(Say::Fail) => {
                    return Poll::Ready(Err(RelayError::Upstream("it broke".into())));
                }
            }
        }
    }
}

/// Sends without end from partitions that it leases for the client.
struct Leasing {
    script: Counted,
    ring: Ring,
}

impl Relay for Leasing {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_relay(
        &mut self,
        cx: &mut Context<'_>,
        client: &mut dyn Downstream,
    ) -> Poll<Result<Option<Fields>, RelayError>> {
        loop {
            let leased = match client.poll_lease(cx, &self.ring) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(leased) => leased,
            };
            let mut lease = leased.map_err(|error| RelayError::Ours(error.into()))?;
            lease.fill(b'x');
            client.push(lease.publish(64 * 1024).into())?;
            self.script.0.change(|state| state.accepted = client.accepted());
        }
    }
}

struct Relays {
    pub script: Arc<Script>,
    pub lines: Arc<Mutex<Vec<Line>>>,
    notes: AtomicUsize,
}

#[derive(Debug)]
pub struct Line {
    pub status: Option<u16>,
    pub announced: Option<u64>,
    pub content_bytes: u64,
    pub failure: Option<&'static str>,
    pub note: Option<usize>,
}

impl Handler for Relays {
    async fn handle(&self, request: &mut Request) -> Response {
        let note = self.notes.fetch_add(1, Ordering::Relaxed);
        request.note = Some(Arc::new(note) as Arc<dyn Any + Send + Sync>);
        // Each relay counts from its own start.
        self.script.change(|state| state.accepted = 0);
        let relay = |request: &mut Request, length, flushes| {
            let body = std::mem::take(&mut request.body);
            Box::new(Scripted {
                script: Counted::new(&self.script),
                length,
                body,
                flushes,
                pushed: 0,
            })
        };
        let path = request.head.path().to_owned();
        match path.as_str() {
            "/sized" => Response::new(200).with_body(Body::Relay(relay(request, Some(8), true))),
            "/lazy" => Response::new(200).with_body(Body::Relay(relay(request, None, false))),
            "/empty" => Response::new(204).with_body(Body::Relay(relay(request, None, true))),
            "/same" => Response::new(304).with_body(Body::Relay(relay(request, Some(8), true))),
            "/never" => {
                let _counted = Counted::new(&self.script);
                std::future::pending().await
            }
            // The body stays with the request: nobody reads it.
            "/unread" => {
                let body = RequestBody::default();
                let script = Counted::new(&self.script);
                let relay = Scripted { script, length: Some(8), body, flushes: true, pushed: 0 };
                Response::new(200).with_body(Body::Relay(Box::new(relay)))
            }
            "/first" => {
                let first = request.body.chunk().await.unwrap().unwrap();
                self.script.change(|state| state.read.extend_from_slice(&first));
                Response::new(200).with_body(Body::Relay(relay(request, None, true)))
            }
            "/takes" => {
                let _counted = Counted::new(&self.script);
                let _ = request.body.chunk().await;
                std::future::pending().await
            }
            "/ring" => Response::new(200).with_body(Body::Relay(Box::new(Leasing {
                script: Counted::new(&self.script),
                ring: Ring::builder().size(128 * 1024).partitions(2).build().unwrap(),
            }))),
            "/elsewhere" => {
                let interim = request.interim.clone();
                let script = Arc::clone(&self.script);
                std::thread::spawn(move || {
                    // Long after the connection's task has gone to sleep.
                    script.wait("asked", |state| !state.read.is_empty());
                    interim.send(103, &Fields::default());
                });
                std::future::pending().await
            }
            "/plain" => {
                request.note = None;
                Response::text(200, "plain")
            }
            _ => Response::new(200).with_body(Body::Relay(relay(request, None, true))),
        }
    }

    fn observes(&self) -> Observe {
        Observe::Accepted
    }

    fn answered(&self, answered: &Answered<'_>) {
        let note = answered.note.and_then(|note| note.downcast_ref::<usize>()).copied();
        self.lines.lock().unwrap().push(Line {
            status: answered.status,
            announced: answered.announced,
            content_bytes: answered.content_bytes,
            failure: answered.failure.map(sluicegate_http::Failure::name),
            note,
        });
        // Whoever waits looks again.
        self.script.change(|_| {});
    }
}

pub struct Fixture {
    pub served: Served,
    pub script: Arc<Script>,
    pub lines: Arc<Mutex<Vec<Line>>>,
}

impl Fixture {
    pub fn new() -> Self {
        Self::with(Timeouts::default())
    }

    pub fn with(timeouts: Timeouts) -> Self {
        let (script, lines): (Arc<Script>, Arc<Mutex<Vec<Line>>>) = Default::default();
        let (told, logged) = (Arc::clone(&script), Arc::clone(&lines));
        let limits = Limits { timeouts, ..Limits::default() };
        let served = Served::new(limits, move || Relays {
            script: told,
            lines: logged,
            notes: AtomicUsize::new(0),
        });
        Fixture { served, script, lines }
    }

    /// Who reads nothing for so long is given up.
    pub fn giving_up_after(send: Duration) -> Self {
        Self::with(Timeouts { send, ..Timeouts::default() })
    }

    /// A client who has asked for `path`, and read the head of the answer.
    pub fn ask(&self, path: &str) -> Client {
        let mut client = self.served.connect();
        client.send(get(path));
        client.head();
        client
    }

    pub fn say(&self, data: &str) {
        self.script.say(Say::Data(data.into()));
    }

    /// The account of the only request so far that nobody has taken.
    pub fn line(&self) -> Line {
        self.script.wait("an account", |_| !self.lines.lock().unwrap().is_empty());
        let mut lines = self.lines.lock().unwrap();
        assert_eq!(lines.len(), 1, "{lines:?}");
        lines.remove(0)
    }

    pub fn all_dropped(&self) {
        self.script.wait("dropped", |state| state.dropped == state.begun);
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}
