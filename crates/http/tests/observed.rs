//! What an observer is told of requests.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::{PATIENCE, Served};
use sluicegate::{Segment, WayBytes};
use sluicegate_http::{
    Answered, Body, BodyFailure, BodySource, Downstream, Fields, Frame, Handler, Limits, Observe,
    Prepared, Relay, RelayError, Request, Response, Timeouts,
};

/// One call of `answered`, kept.
#[derive(Clone, Debug)]
struct Line {
    target: Option<String>,
    status: Option<u16>,
    head_only: bool,
    head_bytes: u64,
    content_bytes: u64,
    announced: Option<u64>,
    ways: WayBytes,
    acked: Option<u64>,
    time: Duration,
    handled: Duration,
    accepted: Duration,
    acked_after: Option<Duration>,
    requests: u32,
    failure: Option<&'static str>,
}

#[derive(Default)]
struct Lines {
    lines: Mutex<Vec<Line>>,
    more: Condvar,
}

impl Lines {
    /// The first `count` lines, in their order; no more than those may come.
    fn take(&self, count: usize) -> Vec<Line> {
        let lines = self.lines.lock().unwrap();
        let waited = self.more.wait_timeout_while(lines, PATIENCE, |lines| lines.len() < count);
        let mut lines = waited.unwrap().0;
        assert_eq!(lines.len(), count, "{lines:#?}");
        std::mem::take(&mut *lines)
    }

    fn one(&self) -> Line {
        self.take(1).remove(0)
    }
}

struct Watched {
    observe: Observe,
    lines: Arc<Lines>,
    statuses: Arc<Mutex<Vec<u16>>>,
    file: Arc<std::fs::File>,
    prepared: Arc<Prepared>,
}

const FILE: u64 = 3_000_000;

/// Four bytes, a pause, four bytes more, and the end.
struct Halting(u8);

impl BodySource for Halting {
    fn poll_frame(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame, BodyFailure>>> {
        self.0 += 1;
        match self.0 {
            1 | 3 => std::task::Poll::Ready(Some(Ok(Frame::Data(Segment::given(vec![b'x'; 4]))))),
            2 => {
                cx.waker().wake_by_ref();
                std::task::Poll::Pending
            }
            _ => std::task::Poll::Ready(None),
        }
    }
}

/// A body that ends before it has begun.
struct Failing;

impl Relay for Failing {
    fn length(&self) -> Option<u64> {
        None
    }

    fn poll_relay(
        &mut self,
        _: &mut std::task::Context<'_>,
        _: &mut dyn Downstream,
    ) -> std::task::Poll<Result<Option<Fields>, RelayError>> {
        std::task::Poll::Ready(Err(RelayError::Upstream("it is silent".into())))
    }
}

impl Handler for Watched {
    async fn handle(&self, request: &mut Request) -> Response {
        match request.head.path() {
            "/file" => {
                Response::new(200).with_body(Body::Segment(Segment::file(&self.file, 0..FILE)))
            }
            "/short" => {
                Response::new(200).with_body(Body::Segment(Segment::file(&self.file, 0..FILE + 1)))
            }
            "/prepared" => Response::prepared(Arc::clone(&self.prepared)),
            "/nothing" => Response::new(304),
            "/stream" => Response::new(200).with_body(Body::Stream(Box::new(Halting(0)))),
            "/relayed" => Response::new(200).with_body(Body::Relay(Box::new(Failing))),
            "/wait" => {
                // Until the client has gone, or for ever.
                std::future::pending::<()>().await;
                Response::new(500)
            }
            "/yield" => {
                sluicegate::yield_now().await;
                std::thread::sleep(Duration::from_millis(5));
                Response::text(200, "yielded")
            }
            "/echo" => match request.body.collect(1 << 20).await {
                Ok(bytes) => Response::new(200).with_body(Body::Segment(Segment::Memory(bytes))),
                Err(_) => Response::text(299, "never seen"),
            },
            "/unread" => Response::text(200, "unread"),
            path => Response::text(404, format!("no {path}")),
        }
    }

    fn answering(&self, status: u16) {
        self.statuses.lock().unwrap().push(status);
    }

    fn observes(&self) -> Observe {
        self.observe
    }

    fn answered(&self, answered: &Answered<'_>) {
        self.lines.lines.lock().unwrap().push(Line {
            target: answered.head.map(|head| head.target().to_owned()),
            status: answered.status,
            head_only: answered.head_only,
            head_bytes: answered.head_bytes,
            content_bytes: answered.content_bytes,
            announced: answered.announced,
            ways: answered.ways,
            acked: answered.acked,
            time: answered.time,
            handled: answered.handled,
            accepted: answered.accepted,
            acked_after: answered.acked_after,
            requests: answered.requests,
            failure: answered.failure.map(sluicegate_http::Failure::name),
        });
        self.lines.more.notify_all();
    }
}

struct Setup {
    served: Served,
    lines: Arc<Lines>,
    statuses: Arc<Mutex<Vec<u16>>>,
}

fn setup(observe: Observe, limits: Limits) -> Setup {
    let lines: Arc<Lines> = Arc::default();
    let statuses: Arc<Mutex<Vec<u16>>> = Arc::default();
    let (for_handler, told) = (Arc::clone(&lines), Arc::clone(&statuses));
    let served = Served::new(limits, move || {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'f'; FILE as usize]).unwrap();
        let prepared = Arc::new(Prepared::new(200, &Fields::default(), b"prepared"));
        Watched { observe, lines: for_handler, statuses: told, file: Arc::new(file), prepared }
    });
    Setup { served, lines, statuses }
}

fn accepted() -> Setup {
    setup(Observe::Accepted, Limits::default())
}

fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}

#[test]
fn every_answer_is_told_with_its_own_bytes_by_way() {
    let Setup { served, lines, statuses } = accepted();
    let mut client = served.connect();
    let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let paths = ["/file", "/prepared", "/x", "/nothing", "/stream", "/prepared"];
    for (number, path) in (1..).zip(paths) {
        client.send(get(path));
        let answer = match path {
            "/stream" => {
                let head = client.head();
                while !client.buffered().ends_with(b"0\r\n\r\n") {
                    client.fill();
                }
                head
            }
            _ => client.answer(),
        };
        let line = lines.one();
        let content = match path {
            "/stream" => client.buffered().len(),
            _ => answer.content.len(),
        } as u64;
        client.forget();
        assert_eq!(line.target.as_deref(), Some(path));
        assert_eq!(line.status, Some(answer.status), "{path}");
        assert_eq!((line.head_bytes, line.content_bytes), (answer.head.len() as u64, content));
        let announced = answer.field("Content-Length").map(|text| text.parse().unwrap());
        assert_eq!(line.announced, announced, "{path}");
        assert_eq!(line.ways.total(), line.head_bytes + content, "{path}: {line:?}");
        if path == "/file" {
            assert_eq!(line.ways.sendfile + line.ways.spliced, FILE, "{line:?}");
        } else {
            assert_eq!(line.ways.copied, line.ways.total(), "{path}: {line:?}");
        }
        assert_eq!((line.requests, line.failure, line.acked), (number, None, None));
        // The clock's tick, and one on a machine that is slow.
        assert!(line.time + Duration::from_millis(20) >= before, "{line:?}");
        assert!(line.time <= before + PATIENCE);
    }
    assert_eq!(*statuses.lock().unwrap(), [200, 200, 404, 304, 200, 200]);
}

#[test]
fn pipelined_answers_are_told_one_by_one() {
    let Setup { served, lines, .. } = accepted();
    let mut client = served.connect();
    let paths = ["/prepared", "/file", "/x", "/prepared", "/file", "/nothing"];
    client.send(paths.map(get).concat());
    let answers: Vec<_> = paths.iter().map(|_| client.answer()).collect();
    let lines = lines.take(paths.len());
    for ((line, answer), number) in lines.iter().zip(&answers).zip(1..) {
        assert_eq!(line.target.as_deref(), Some(paths[number as usize - 1]));
        assert_eq!(line.head_bytes, answer.head.len() as u64);
        assert_eq!(line.content_bytes, answer.content.len() as u64);
        assert_eq!(line.ways.total(), line.head_bytes + line.content_bytes);
        assert_eq!(line.requests, number);
    }
}

#[test]
fn head_is_told_with_what_it_announces() {
    let Setup { served, lines, .. } = accepted();
    let mut client = served.connect();
    client.send("HEAD /file HTTP/1.1\r\nHost: h\r\n\r\nHEAD /prepared HTTP/1.0\r\n\r\n");
    let heads = [client.head().head.len(), client.head().head.len()];
    let lines = lines.take(2);
    for ((line, head), announced) in lines.iter().zip(heads).zip([FILE, 8]) {
        assert!(line.head_only);
        assert_eq!((line.head_bytes, line.content_bytes), (head as u64, 0));
        assert_eq!(line.announced, Some(announced));
    }
}

#[test]
fn what_is_refused_is_told_without_a_head_where_that_cannot_be_read() {
    let Setup { served, lines, statuses } = accepted();
    for (request, target, status, name) in [
        ("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", None, 400, "bad_header_name"),
        ("GET / HTTP/1.1\r\n\r\n", None, 400, "missing_host"),
        (
            "GET /e HTTP/1.1\r\nHost: h\r\nExpect: x\r\n\r\n",
            Some("/e"),
            417,
            "unsupported_expectation",
        ),
        (
            "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
            Some("/echo"),
            400,
            "bad_chunk_size",
        ),
    ] {
        let answer = served.converse(request.as_bytes(), usize::MAX);
        let line = lines.one();
        assert_eq!(line.target.as_deref(), target, "{request}");
        assert_eq!((line.status, line.failure), (Some(status), Some(name)), "{request}");
        assert_eq!(line.head_bytes + line.content_bytes, answer.len() as u64, "{request}");
        assert_eq!(line.requests, 1);
    }
    assert_eq!(*statuses.lock().unwrap(), [400, 400, 417, 400]);
}

#[test]
fn an_interim_answer_is_no_part_of_the_account() {
    let Setup { served, lines, .. } = accepted();
    let mut client = served.connect();
    client.send(
        "POST /echo HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    );
    assert_eq!(client.head().status, 100);
    client.send("abc");
    let answer = client.answer();
    let line = lines.one();
    assert_eq!(line.head_bytes, answer.head.len() as u64);
    assert_eq!((line.content_bytes, line.ways.total()), (3, line.head_bytes + 3));
    assert!(line.handled > Duration::ZERO, "it waited for the body");
}

#[test]
fn a_download_that_is_cut_is_told_with_what_was_accepted() {
    let limits = Limits {
        timeouts: Timeouts { send: Duration::from_millis(300), ..Timeouts::default() },
        ..Limits::default()
    };
    let Setup { served, lines, .. } = setup(Observe::Accepted, limits);
    // More than the kernel takes at once for a client that reads nothing.
    let mut client = served.connect();
    client.send(get("/file").repeat(20));
    // The client's end of the world: it reads some, and is gone.
    client.fill();
    drop(client);
    let first = loop {
        let line = lines.one();
        if line.failure.is_some() {
            break line;
        }
        assert_eq!(line.content_bytes, FILE);
    };
    assert!(["send", "unread", "receive"].contains(&first.failure.unwrap()), "{first:?}");
    assert!(first.content_bytes < FILE, "{first:?}");
    assert_eq!(first.announced, Some(FILE));
    assert_eq!(first.ways.total(), first.head_bytes + first.content_bytes);
}

#[test]
fn a_body_that_falls_short_is_told_as_cut() {
    let Setup { served, lines, .. } = accepted();
    let mut client = served.connect();
    client.send(get("/short"));
    assert!(client.ends_in_a_reset());
    let line = lines.one();
    assert_eq!((line.failure, line.announced), (Some("file"), Some(FILE + 1)));
    assert_eq!(line.content_bytes, FILE);
}

#[test]
fn a_client_that_goes_before_its_answer_is_told_without_a_status() {
    let limits = Limits {
        timeouts: Timeouts { send: Duration::from_millis(100), ..Timeouts::default() },
        ..Limits::default()
    };
    let Setup { served, lines, .. } = setup(Observe::Accepted, limits);
    let mut client = served.connect();
    client.send(get("/wait"));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    let line = lines.one();
    assert_eq!((line.status, line.failure), (None, Some("gone")));
    assert_eq!((line.head_bytes, line.content_bytes, line.ways.total()), (0, 0, 0));
    assert!(line.accepted >= Duration::from_millis(100), "{line:?}");
}

#[test]
fn a_request_under_way_when_the_server_ends_is_told_as_cut() {
    let Setup { served, lines, .. } = accepted();
    let mut client = served.connect();
    client.send(get("/prepared"));
    client.answer();
    lines.one();
    client.send(get("/wait"));
    let mut other = served.connect();
    other.send(get("/prepared"));
    other.answer();
    lines.one();
    drop(served);
    let line = lines.one();
    assert_eq!((line.target.as_deref(), line.failure), (Some("/wait"), Some("cut")));
    assert_eq!((line.status, line.requests), (None, 2));
}

#[test]
fn durations_are_of_the_handler_and_of_the_whole() {
    let Setup { served, lines, .. } = accepted();
    let mut client = served.connect();
    client.send(get("/prepared"));
    client.answer();
    assert_eq!(lines.one().handled, Duration::ZERO, "it answered at once");
    client.send(get("/yield"));
    client.answer();
    let line = lines.one();
    assert!(line.handled >= Duration::from_millis(5), "{line:?}");
    assert!(line.accepted >= line.handled, "{line:?}");
    // Whoever relays has asked somebody, also if he had his answer at once.
    client.send(get("/relayed"));
    let line = lines.one();
    assert_eq!(line.failure, Some("upstream"));
    assert!(line.handled > Duration::ZERO && line.accepted >= line.handled, "{line:?}");
}

#[test]
fn what_is_acknowledged_is_told_where_that_is_asked_for() {
    let Setup { served, lines, .. } = setup(Observe::Acked, Limits::default());
    let mut client = served.connect();
    for path in ["/prepared", "/file"] {
        client.send(get(path));
        client.answer();
        let line = lines.one();
        let whole = line.head_bytes + line.content_bytes;
        assert_eq!((line.acked, line.failure), (Some(whole), None), "{path}");
        assert!(line.acked_after.unwrap() >= line.accepted, "{line:?}");
    }
    // The last of a connection: it ends as ever, and is told with its whole.
    client.send("GET /file HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    let rest = client.rest();
    let line = lines.one();
    assert_eq!((line.acked, line.failure), (Some(rest.len() as u64), None));
}

#[test]
fn the_next_answer_does_not_wait_for_an_acknowledgement() {
    let Setup { served, lines, .. } = setup(Observe::Acked, Limits::default());
    let mut client = served.connect();
    client.send(["/file", "/prepared", "/x"].map(get).concat());
    for length in [FILE, 8, 5] {
        assert_eq!(client.answer().content.len() as u64, length);
    }
    let lines = lines.take(3);
    for line in lines {
        assert!(line.acked.unwrap() <= line.head_bytes + line.content_bytes);
    }
}

#[test]
fn a_client_that_reads_nothing_has_less_acknowledged_than_accepted() {
    let limits = Limits {
        timeouts: Timeouts { send: Duration::from_millis(500), ..Timeouts::default() },
        ..Limits::default()
    };
    let Setup { served, lines, .. } = setup(Observe::Acked, limits);
    let mut client = served.connect();
    client.send(get("/file"));
    let line = lines.one();
    // Whether or not the kernel has taken all of it: the client's has room for a
    // part alone.
    assert!([None, Some("unread")].contains(&line.failure), "{line:?}");
    assert!(line.acked.unwrap() < line.head_bytes + line.content_bytes, "{line:?}");
    assert_eq!(line.acked_after, None);
    drop(client);
}
