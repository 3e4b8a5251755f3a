//! The life of a connection: requests in, answers out, the end.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod mixed;

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use common::Served;
use mixed::{Mixed, get};
use sluicegate::Segment;
use sluicegate_http::{Body, Handler, Limits, Request, Response, Timeouts};

#[test]
fn pipelined_requests_are_answered_in_order_and_the_connection_goes_on() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    let paths = ["/prepared", "/a", "/file", "/nothing", "/prepared", "/b"];
    client.send(paths.map(get).concat());
    assert_eq!(client.answer().content, b"prepared");
    assert_eq!(client.answer().content, b"no /a");
    assert_eq!(client.answer().content, vec![b'f'; 3_000_000]);
    let nothing = client.answer();
    assert_eq!((nothing.status, nothing.field("Content-Length")), (204, None));
    assert_eq!(client.answer().content, b"prepared");
    assert_eq!(client.answer().content, b"no /b");
    client.send(get("/c"));
    assert_eq!(client.answer().content, b"no /c");
}

#[test]
fn thousands_of_pipelined_requests_get_as_many_answers() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    let many = get("/prepared").repeat(5_000);
    let mut writer = client.stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || writer.write_all(many.as_bytes()).unwrap());
    for _ in 0..5_000 {
        assert_eq!(client.answer().content, b"prepared");
    }
    sending.join().unwrap();
}

#[test]
fn head_has_the_length_and_no_content() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    for (path, length) in [("/prepared", "8"), ("/file", "3000000"), ("/x", "5")] {
        client.send(format!("HEAD {path} HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(client.head().field("Content-Length"), Some(length), "{path}");
    }
    client.send("HEAD /stream HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(client.head().field("Transfer-Encoding"), Some("chunked"));
    client.send(get("/a"));
    assert_eq!(client.answer().content, b"no /a", "nothing stood in between");
}

#[test]
fn persistence_follows_version_and_connection() {
    let served = Mixed::served(Limits::default());
    for path in ["/prepared", "/a"] {
        for (version, field, goes_on, said) in [
            ("1.1", "", true, None),
            ("1.1", "Connection: close\r\n", false, Some("close")),
            ("1.0", "", false, Some("close")),
            ("1.0", "Connection: keep-alive\r\n", true, Some("keep-alive")),
            ("1.0", "Connection: Keep-Alive, close\r\n", false, Some("close")),
        ] {
            let mut client = served.connect();
            let request = format!("GET {path} HTTP/{version}\r\nHost: h\r\n{field}\r\n");
            client.send(&request);
            let answer = client.answer();
            assert_eq!(answer.field("Connection"), said, "{version} {field}");
            if goes_on {
                client.send(&request);
                assert_eq!(client.answer().content, answer.content);
            } else {
                assert_eq!(client.rest(), b"", "{version} {field}");
            }
        }
    }
}

#[test]
fn the_last_of_the_allowed_requests_is_answered_with_close() {
    let served = Mixed::served(Limits { requests_per_connection: 2, ..Limits::default() });
    let mut client = served.connect();
    client.send(get("/prepared"));
    assert_eq!(client.answer().field("Connection"), None);
    client.send(get("/prepared"));
    assert_eq!(client.answer().field("Connection"), Some("close"));
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_sized_body_and_a_chunked_one_reach_the_handler_however_they_are_cut() {
    let served = Mixed::served(Limits::default());
    let sized = "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 11\r\n\r\nhello world";
    let chunked = "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n\
                   5;a=b\r\nhello\r\n6\r\n world\r\n0\r\nX-Check: 7\r\n\r\n";
    for (text, trailer) in [(sized, None), (chunked, Some("7"))] {
        for piece in [1, 3, 10_000] {
            let mut client = served.connect();
            for part in text.as_bytes().chunks(piece) {
                client.send(part);
            }
            let answer = client.answer();
            assert_eq!(answer.content, b"hello world", "{piece}");
            assert_eq!(answer.field("Was-X-Check"), trailer);
            client.send(get("/a"));
            assert_eq!(client.answer().content, b"no /a");
        }
    }
}

#[test]
fn a_large_upload_is_echoed_whole() {
    let served = Mixed::served(Limits { body: 1 << 20, ..Limits::default() });
    let body: Vec<u8> = (0..1_u32 << 20).map(|i| (i % 251) as u8).collect();
    let mut client = served.connect();
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 1048576\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    let sent = body.clone();
    let sending = std::thread::spawn(move || writer.write_all(&sent).unwrap());
    assert!(client.answer().content == body);
    sending.join().unwrap();
}

#[test]
fn continue_is_sent_when_the_handler_reads_and_only_then() {
    let served = Mixed::served(Limits::default());
    let ask = |path: &str| {
        format!(
            "POST {path} HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
        )
    };
    let mut client = served.connect();
    client.send(ask("/echo"));
    assert_eq!(client.head().status, 100);
    client.send("abc");
    assert_eq!(client.answer().content, b"abc");
    client.send(ask("/unread"));
    let answer = client.answer();
    // The client may send the body or not: the connection cannot go on.
    assert_eq!((answer.status, answer.field("Connection")), (200, Some("close")));
    // One that does not wait gets no interim answer.
    let mut client = served.connect();
    client.send(ask("/echo") + "abc");
    assert_eq!(client.answer().content, b"abc");
}

#[test]
fn an_unread_body_is_skipped_when_short_and_ends_the_connection_when_long() {
    let served = Mixed::served(Limits { body: 1 << 30, ..Limits::default() });
    let mut client = served.connect();
    client.send("POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 4000\r\n\r\n");
    assert_eq!(client.answer().content, b"unread");
    client.send(vec![b'x'; 4000]);
    client.send(get("/a"));
    assert_eq!(client.answer().content, b"no /a");
    client.send("POST /unread HTTP/1.1\r\nHost: h\r\nContent-Length: 900000000\r\n\r\n");
    assert_eq!(client.answer().field("Connection"), Some("close"));
    // What the client still sends does not turn the end into a reset.
    client.send(vec![b'x'; 100_000]);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_body_without_a_known_length_is_chunked_or_ends_with_the_connection() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    client.send(get("/stream").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    assert_eq!(client.head().field("Transfer-Encoding"), Some("chunked"));
    let chunked = "4\r\n2222\r\n4\r\n3333\r\n4\r\n5555\r\n0\r\nX-Sum: 12\r\n\r\n";
    assert_eq!(String::from_utf8(client.rest()).unwrap(), chunked);
    let mut client = served.connect();
    client.send("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
    let head = client.head();
    assert_eq!((head.field("Transfer-Encoding"), head.field("Connection")), (None, Some("close")));
    assert_eq!(client.rest(), b"222233335555");
    let mut client = served.connect();
    client.send(get("/sized"));
    assert_eq!(client.answer().content, b"222233335555");
}

#[test]
fn a_body_that_falls_short_cuts_the_connection() {
    let served = Mixed::served(Limits::default());
    for path in ["/liar", "/missing-bytes"] {
        let mut client = served.connect();
        client.send(get(path));
        assert!(client.ends_in_a_reset(), "{path}: the client could take it for the whole");
    }
}

#[test]
fn connect_is_not_implemented() {
    let served = Mixed::served(Limits::default());
    let answer =
        served.converse(b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nConnection: close\r\n\r\n", 999);
    assert!(answer.starts_with(b"HTTP/1.1 501 "), "{}", answer.escape_ascii());
}

#[test]
fn head_and_content_leave_in_one_segment() {
    let served = Mixed::served(Limits::default());
    for path in ["/prepared", "/a", "/small-file"] {
        let mut client = served.connect();
        client.send(get(path));
        client.answer();
        let info = sluicegate_sys::tcp_info::tcp_info(client.stream.as_fd()).unwrap();
        // Loopback's segments hold 64 KiB, so a whole answer fits into one.
        assert_eq!(info.data_segments_in, 1, "{path}");
    }
}

#[test]
fn no_answer_waits_for_nagle_or_a_delayed_acknowledgement() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    // A stall is 40 ms at least (the delayed-ACK timer), or 200 ms (what is
    // held back by MSG_MORE or by a cork). One in each answer of one kind
    // takes all the time that there is.
    const EACH: u32 = 100;
    let paths = ["/prepared", "/a", "/small-file", "/file", "/stream", "/nothing", "/sized"];
    let start = std::time::Instant::now();
    for path in paths {
        for _ in 0..EACH {
            client.send(get(path));
            if path == "/stream" {
                client.head();
                while !client.buffered().ends_with(b"0\r\nX-Sum: 12\r\n\r\n") {
                    client.fill();
                }
                client.forget();
            } else {
                client.answer();
            }
        }
    }
    assert!(start.elapsed() < Duration::from_millis(40) * EACH, "{:?}", start.elapsed());
}

#[test]
fn an_idle_connection_is_small() {
    let worker = sluicegate::Worker::new().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let socket = sluicegate::Socket::new(stream, worker.reactor()).unwrap();
    let service = std::rc::Rc::new(sluicegate_http::Service::new(Mixed::new(), Limits::default()));
    let future = sluicegate_http::serve(socket, service);
    // Socket, timer, count, two addresses, service, and the slot of the boxed active part.
    assert!(size_of_val(&future) <= 152, "{}", size_of_val(&future));
}

#[test]
fn what_is_answered_is_not_held_back_by_what_is_not() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    client.send(get("/a") + &get("/slow"));
    assert_eq!(client.answer().content, b"no /a");
    let mut client = served.connect();
    client.send(get("/silent"));
    assert_eq!(client.head().field("Transfer-Encoding"), Some("chunked"));
}

#[test]
fn a_client_that_goes_away_while_its_answer_is_made_is_noticed_in_time() {
    let timeouts = Timeouts { send: Duration::from_millis(100), ..Timeouts::default() };
    let served = Mixed::served(Limits { timeouts, ..Limits::default() });
    for path in ["/slow", "/silent"] {
        let mut client = served.connect();
        client.send(get(path));
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert!(client.ends_in_a_reset(), "{path}");
    }
}

#[test]
fn a_body_that_is_kept_for_longer_than_its_request_ends_in_an_error() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    client.send("POST /stream-echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n");
    // The reset may be there before the content is sent.
    let sent = client.stream.write_all(b"hello");
    assert!(sent.is_err() || client.ends_in_a_reset(), "and does not hang");
}

#[test]
fn a_client_that_reads_slowly_is_not_given_up() {
    let timeouts = Timeouts { send: Duration::from_millis(500), ..Timeouts::default() };
    let served = Mixed::served(Limits { timeouts, ..Limits::default() });
    let mut client = served.connect();
    sluicegate_sys::socket::set_receive_buffer(client.stream.as_fd(), 32 * 1024).unwrap();
    client.send(get("/file"));
    let (mut got, mut buffer) = (0, [0; 16 * 1024]);
    // 3 MB at 16 KiB every 10 ms take longer than the kernel takes to ask for
    // more, and the client is never silent.
    loop {
        let count = std::io::Read::read(&mut client.stream, &mut buffer).unwrap();
        got += count;
        if got >= 3_000_000 {
            break;
        }
        assert!(count > 0, "cut after {got} bytes");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn the_last_answer_survives_what_the_client_sends_behind_its_request() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    client.send(get("/file").replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n"));
    // The answer is in the kernel, the client has read none of it, and sends.
    std::thread::sleep(Duration::from_millis(100));
    client.send(get("/a"));
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(client.answer().content.len(), 3_000_000);
    assert_eq!(client.rest(), b"");
}

#[test]
fn bytes_of_a_handler_that_waits_are_not_lost_when_the_client_half_closes() {
    let served = Mixed::served(Limits::default());
    let mut client = served.connect();
    client.send(get("/file"));
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(client.answer().content.len(), 3_000_000);
    assert_eq!(client.rest(), b"");
}

#[test]
fn a_body_in_the_handlers_own_task_can_be_read_from_another() {
    struct Elsewhere;
    impl Handler for Elsewhere {
        async fn handle(&self, request: &mut Request) -> Response {
            // Moves the body to another thread, as a pool of workers would.
            let mut body = std::mem::take(&mut request.body);
            let (sender, receiver) = std::sync::mpsc::channel::<Bytes>();
            let waiting: Arc<std::sync::Mutex<Option<std::task::Waker>>> = Arc::default();
            let waker = Arc::clone(&waiting);
            let thread = std::thread::spawn(move || {
                let all = block_on(body.collect(1000)).unwrap();
                sender.send(all).unwrap();
                loop {
                    if let Some(waker) = waker.lock().unwrap().take() {
                        return waker.wake();
                    }
                    std::thread::sleep(Duration::from_millis(1));
                }
            });
            let bytes = std::future::poll_fn(|cx| match receiver.try_recv() {
                Ok(bytes) => Poll::Ready(bytes),
                Err(_) => {
                    *waiting.lock().unwrap() = Some(cx.waker().clone());
                    Poll::Pending
                }
            })
            .await;
            *waiting.lock().unwrap() = Some(std::task::Waker::noop().clone());
            thread.join().unwrap();
            Response::new(200).with_body(Body::Segment(Segment::Memory(bytes)))
        }
    }
    let served = Served::new(Limits::default(), || Elsewhere);
    let mut client = served.connect();
    client.send("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\nabc");
    std::thread::sleep(Duration::from_millis(20));
    client.send("def");
    assert_eq!(client.answer().content, b"abcdef");
}

#[test]
fn lent_memory_is_sent_and_not_kept_however_often() {
    struct Lends;
    impl Handler for Lends {
        async fn handle(&self, _: &mut Request) -> Response {
            Response::new(200).with_body(Body::Segment(Segment::memory("lent")))
        }
    }
    let served = Served::new(Limits::default(), || Lends);
    let mut client = served.connect();
    for _ in 0..1100 {
        client.send(get("/"));
        assert_eq!(client.answer().content, b"lent");
    }
}

/// Runs a future on this thread, parked in between.
fn block_on<F: Future>(future: F) -> F::Output {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        std::thread::park();
    }
}
