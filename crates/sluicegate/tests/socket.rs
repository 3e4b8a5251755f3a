//! A socket on a worker's own reactor, against a plain blocking peer.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::future::poll_fn;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use sluicegate::{
    FileFault, PipePool, Registration, Segment, SendContext, SendError, Socket, SocketLimits,
    Strategy, Unsent, Way, Worker,
};
use sluicegate_sys::socket::unsent_limit;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i % 251) as u8 ^ (i / 65_536) as u8).collect()
}

fn file_of(content: &[u8]) -> Arc<std::fs::File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(file)
}

fn socket(stream: TcpStream, worker: &Worker, forced: Option<Way>) -> Socket<Registration> {
    let context = SendContext {
        strategy: Strategy { forced, ..Strategy::default() },
        ..SendContext::default()
    };
    stream.set_nonblocking(true).unwrap();
    Socket::with_context(OwnedFd::from(stream), worker.reactor(), Arc::new(context)).unwrap()
}

fn read_all(mut client: TcpStream) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    })
}

#[test]
fn memory_is_sent_past_an_empty_queue_alone_and_stays_in_order() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, None);
    let context = Arc::clone(socket.context());
    let reader = read_all(client);
    let content = pattern(30_000);
    let expected = [&content[..], b"queued", b"later", &content[..]].concat();
    worker
        .run(async move {
            assert_eq!(socket.send_now(&content).unwrap(), content.len());
            assert_eq!(socket.accepted_position(), socket.queued());
            assert_eq!(socket.context().counters.ways().copied, content.len() as u64);
            socket.queue(Segment::given("queued")).unwrap();
            // Something is before it now.
            assert_eq!(socket.send_now(b"later").unwrap(), 0);
            socket.queue(Segment::given("later")).unwrap();
            socket.flush().await.unwrap();
            assert_eq!(socket.send_now(b"").unwrap(), 0);
            // Until the peer has all, the socket takes a part at the most.
            let mut sent = 0;
            while sent < content.len() {
                let taken = socket.send_now(&content[sent..]).unwrap();
                sent += taken;
                if taken == 0 {
                    socket.queue(Segment::given(content[sent..].to_vec())).unwrap();
                    socket.flush().await.unwrap();
                    break;
                }
            }
            socket.acked(socket.queued()).await.unwrap();
        })
        .unwrap();
    assert_eq!(reader.join().unwrap(), expected);
    assert_eq!(context.counters.ways().total(), expected.len() as u64);
}

#[test]
fn every_way_delivers_the_same_bytes_and_counts_them_as_its_own() {
    let content = pattern(6_000_000);
    for way in Way::OF_FILES {
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let mut socket = socket(server, &worker, Some(way));
        let context = Arc::clone(socket.context());
        let reader = read_all(client);
        let file = file_of(&content);
        socket.queue(Segment::memory("head")).unwrap();
        let end = socket.queue(Segment::file(&file, 1000..5_999_000)).unwrap();
        socket.queue(Segment::memory("tail")).unwrap();
        worker
            .run(async move {
                socket.accepted(end).await.unwrap();
                socket.flush().await.unwrap();
                socket.acked(socket.queued()).await.unwrap();
                let progress = socket.progress().unwrap();
                assert_eq!(progress.acked, progress.accepted);
                assert_eq!(progress.accepted, progress.queued);
            })
            .unwrap();
        let got = reader.join().unwrap();
        assert_eq!(&got[..4], b"head");
        assert_eq!(&got[got.len() - 4..], b"tail");
        assert!(got[4..got.len() - 4] == content[1000..5_999_000], "{way:?}");
        let ways = context.counters.ways();
        assert_eq!(ways.total(), got.len() as u64);
        let by_file = match way {
            Way::Copy => ways.copied - 8,
            Way::Sendfile => ways.sendfile,
            Way::Splice | Way::Zerocopy => ways.spliced,
        };
        assert_eq!(by_file, 5_998_000, "{way:?}: {ways:?}");
    }
}

#[test]
fn splice_without_a_pipe_to_be_had_goes_by_sendfile() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let context = Arc::new(SendContext {
        strategy: Strategy { forced: Some(Way::Splice), ..Strategy::default() },
        pipes: PipePool::new(0),
        ..SendContext::default()
    });
    let mut socket =
        Socket::new(server, worker.reactor()).map(|socket: Socket<Registration>| socket).unwrap();
    drop(client);
    socket.cancel();
    let (server, client) = pair();
    server.set_nonblocking(true).unwrap();
    let mut socket =
        Socket::with_context(server.into(), worker.reactor(), Arc::clone(&context)).unwrap();
    let content = pattern(100_000);
    socket.queue(Segment::file(&file_of(&content), 0..100_000)).unwrap();
    let reader = read_all(client);
    worker.run(async move { socket.flush().await.unwrap() }).unwrap();
    assert!(reader.join().unwrap() == content);
    assert_eq!(context.counters.ways().sendfile, 100_000);
}

#[test]
fn queueing_returns_at_once_on_a_stuffed_socket_and_a_dropped_future_loses_nothing() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, None);
    let content = pattern(20_000_000);
    let file = file_of(&content);
    let reactor = worker.reactor().clone();
    let (sent, got) = worker
        .run(async move {
            socket.queue(Segment::file(&file, 0..10_000_000)).unwrap();
            // Nobody reads: the socket fills up and the future is dropped in
            // the middle of its work.
            let mut flush = Box::pin(socket.flush());
            let mut timer = Box::pin(reactor.sleep(Duration::from_millis(50)));
            let stuffed = poll_fn(|cx| {
                if flush.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(false);
                }
                timer.as_mut().poll(cx).map(|()| true)
            })
            .await;
            assert!(stuffed, "10 MB cannot be accepted without a reader");
            drop(flush);
            // Not a future: it cannot wait.
            socket.queue(Segment::file(&file, 10_000_000..20_000_000)).unwrap();
            socket.queue(Segment::memory(vec![7; 1 << 20])).unwrap();
            let reader = read_all(client);
            socket.flush().await.unwrap();
            (socket.queued().get(), reader)
        })
        .unwrap();
    let got = got.join().unwrap();
    assert_eq!(got.len() as u64, sent);
    assert!(got[..20_000_000] == content[..]);
    assert!(got[20_000_000..].iter().all(|&byte| byte == 7));
}

#[test]
fn a_truncated_file_is_an_error_and_names_where_it_ended() {
    for way in Way::OF_FILES {
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let mut socket = socket(server, &worker, Some(way));
        let file = file_of(&pattern(1000));
        socket.queue(Segment::file(&file, 0..5000)).unwrap();
        let error = worker
            .run(async move {
                let error = socket.flush().await.unwrap_err();
                socket.abort();
                error
            })
            .unwrap();
        let SendError::File(error) = error else { panic!("{way:?}: {error}") };
        assert!(matches!(error.cause, FileFault::Truncated), "{way:?}: {error}");
        assert_eq!(error.offset, 1000);
        let mut client = client;
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert!(client.read_to_end(&mut Vec::new()).is_err(), "the peer must see a reset");
    }
}

#[test]
fn a_peer_that_resets_ends_the_wait_for_its_acknowledgement() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, None);
    worker
        .run(async move {
            // More than the peer's window takes: some of it stays unacknowledged.
            let end = socket.queue(Segment::memory(vec![1; 32 << 20])).unwrap();
            let first = poll_fn(|cx| Poll::Ready(socket.poll_flush(cx).is_pending())).await;
            assert!(first);
            // Closing with unread data makes the kernel send a reset.
            drop(client);
            assert!(socket.acked(end).await.is_err());
        })
        .unwrap();
}

#[test]
fn a_position_that_was_never_queued_is_refused() {
    let worker = Worker::new().unwrap();
    let (server, _client) = pair();
    let mut socket = socket(server, &worker, None);
    let never = socket.queued().advanced(1);
    assert!(worker.run(async move { socket.accepted(never).await }).unwrap().is_err());
}

#[test]
fn received_bytes_and_the_end_of_the_stream_are_both_seen() {
    let worker = Worker::new().unwrap();
    let (server, mut client) = pair();
    let mut socket = socket(server, &worker, None);
    client.write_all(b"hello").unwrap();
    drop(client);
    worker
        .run(async move {
            let mut buffer = Vec::with_capacity(100);
            assert_eq!(socket.receive(&mut buffer).await.unwrap(), 5);
            assert_eq!(socket.receive(&mut buffer).await.unwrap(), 0);
            assert_eq!(buffer, b"hello");
        })
        .unwrap();
}

#[test]
fn an_idle_socket_is_small() {
    // An idle connection is a few dozen bytes and an empty slot for its
    // active part (DESIGN of connections in ARCHITECTURE.md).
    assert!(size_of::<Socket<Registration>>() <= 56, "{}", size_of::<Socket<Registration>>());
}

#[test]
fn connections_to_a_loopback_listener_are_not_paced() {
    use std::os::fd::AsFd;
    let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = sluicegate::os::local_address(&listener).unwrap().unwrap();
    let _client = TcpStream::connect(address).unwrap();
    let worker = Worker::new().unwrap();
    let listener = sluicegate::Listener::new(listener, worker.reactor().clone()).unwrap();
    let (accepted, _) = worker.run(async move { listener.accept().await.unwrap() }).unwrap();
    let name = sluicegate_sys::socket::congestion_control(accepted.as_fd()).unwrap();
    assert!(!name.starts_with("bbr"), "{name}");
}

#[test]
fn nothing_of_one_socket_is_left_for_the_next_one_of_its_thread() {
    let worker = Worker::new().unwrap();
    let content = pattern(200_000);
    let file = file_of(&content);
    for turn in 0..40_usize {
        let (server, mut client) = pair();
        client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let mut socket = socket(server, &worker, [None, Some(Way::Splice)][turn % 2]);
        let head = format!("head of {turn}");
        let start = head.len() as u64;
        socket.queue(Segment::memory(head.clone())).unwrap();
        let end = socket.queue(Segment::file(&file, 0..200_000)).unwrap();
        assert_eq!((end.get(), socket.accepted_position().get()), (start + 200_000, 0));
        match turn % 4 {
            // Dropped with everything queued: nothing was sent, and nothing will be.
            0 => drop(socket),
            // Taken back: the stream goes on where it was.
            1 => {
                assert_eq!(socket.cancel().get(), 0);
                socket.queue(Segment::memory("only this")).unwrap();
                worker.run(async move { socket.flush().await.unwrap() }).unwrap();
                let mut all = Vec::new();
                client.read_to_end(&mut all).unwrap();
                assert_eq!(all, b"only this");
            }
            // Fails in the middle.
            2 => {
                socket.queue(Segment::file(&file, 100_000..300_000)).unwrap();
                let reader = std::thread::spawn(move || client.read_to_end(&mut Vec::new()));
                let ended = worker.run(async move { socket.flush().await }).unwrap();
                assert!(matches!(ended, Err(SendError::File(_))), "{ended:?}");
                reader.join().unwrap().unwrap();
            }
            // Sent whole, twice.
            _ => {
                let reader = read_all(client);
                let sent = worker.run(async move {
                    socket.flush().await.unwrap();
                    assert_eq!(socket.accepted_position(), end);
                    socket.queue(Segment::memory("tail")).unwrap();
                    socket.flush().await.unwrap();
                    socket.accepted_position().get()
                });
                assert_eq!(sent.unwrap(), start + 200_004);
                let expected = [head.as_bytes(), &content, b"tail"].concat();
                assert!(reader.join().unwrap() == expected, "turn {turn}");
            }
        }
    }
}

#[test]
fn what_is_queued_behind_does_not_take_its_failure_to_what_stands_before() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, None);
    let reader = read_all(client);
    let content = pattern(300_000);
    worker
        .run(async move {
            let whole = socket.queue(Segment::file(&file_of(&content), 0..300_000)).unwrap();
            let short = socket.queue(Segment::file(&file_of(&content[..90]), 0..100)).unwrap();
            socket.accepted(whole).await.unwrap();
            socket.acked(whole).await.unwrap();
            let error = socket.accepted(short).await.unwrap_err();
            assert!(matches!(error, SendError::File(_)), "{error}");
        })
        .unwrap();
    assert!(reader.join().unwrap().len() >= 300_000);
}

#[test]
fn memory_that_nobody_asks_back_never_fills_the_queue() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, Some(Way::Zerocopy));
    let reader = read_all(client);
    worker
        .run(async move {
            for number in 0..3000_u32 {
                while socket.queue(Segment::given(number.to_be_bytes().to_vec())).is_err() {
                    socket.flush().await.unwrap();
                }
            }
            socket.flush().await.unwrap();
        })
        .unwrap();
    let got = reader.join().unwrap();
    let want: Vec<u8> = (0..3000_u32).flat_map(u32::to_be_bytes).collect();
    assert!(got == want, "{} bytes", got.len());
}

#[test]
fn what_a_socket_may_hold_unsent_follows_its_reader() {
    let worker = Worker::new().unwrap();
    let (server, mut client) = pair();
    let limits = SocketLimits { unsent: Some(300_000), ..SocketLimits::default() };
    let bounds = Unsent { slow: 20_000, fast: 1 << 20 };
    let context = Arc::new(SendContext { limits, unsent: Some(bounds), ..SendContext::default() });
    server.set_nonblocking(true).unwrap();
    let mut socket = Socket::with_context(server.into(), worker.reactor(), context).unwrap();
    let limit = |socket: &Socket<Registration>| unsent_limit(socket.as_fd()).unwrap();
    worker
        .run(async move {
            let end = socket.queue(Segment::given(vec![7; 60_000_000])).unwrap();
            // Full, and for long.
            let full = poll_fn(|cx| Poll::Ready(socket.poll_flush(cx).is_pending())).await;
            assert!(full);
            assert_eq!(limit(&socket), 300_000);
            std::thread::sleep(Duration::from_millis(300));
            let mut got = vec![0; 20_000_000];
            let reader = std::thread::spawn(move || {
                client.read_exact(&mut got).unwrap();
                client
            });
            let before = socket.accepted_position();
            poll_fn(|cx| match socket.poll_flush(cx) {
                Poll::Pending if socket.accepted_position() == before => Poll::Pending,
                _ => Poll::Ready(()),
            })
            .await;
            assert_eq!(limit(&socket), 20_000, "it was full for 300 ms");
            let rest = std::thread::spawn(move || {
                let mut client = reader.join().unwrap();
                client.read_exact(&mut vec![0; 40_000_000]).unwrap();
            });
            socket.acked(end).await.unwrap();
            rest.join().unwrap();
            assert_eq!(limit(&socket), 300_000, "no more than it was allowed at first");
        })
        .unwrap();
}
