//! Queueing returns at once and moves nothing; what was queued arrives in order;
//! a slow reader costs a bounded amount of the kernel's memory.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod peers;

use std::future::poll_fn;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use peers::{PATIENCE, eventually, file_of, hole, narrow_pair, pair, pattern, read_all, unacked};
use sluicegate::{
    AckQueue, Event, Registration, Segment, SendContext, SendError, Socket, SocketLimits, Strategy,
    Tag, Watch, Way, Worker,
};

const GIB: u64 = 1 << 30;

fn socket_with(stream: TcpStream, worker: &Worker, context: SendContext) -> Socket<Registration> {
    stream.set_nonblocking(true).unwrap();
    Socket::with_context(stream.into(), worker.reactor(), Arc::new(context)).unwrap()
}

/// Sends as much as the socket takes now.
async fn send_some(socket: &mut Socket<Registration>) {
    poll_fn(|cx| match socket.poll_flush(cx) {
        Poll::Ready(Err(error)) => panic!("{error}"),
        _ => Poll::Ready(()),
    })
    .await;
}

#[test]
fn a_file_of_4_gib_is_queued_at_once_on_an_idle_and_on_a_stuffed_socket() {
    // Longer than a call that only takes note, shorter than any that moves
    // 4 GiB or waits for a reader that does not come.
    const AT_ONCE: Duration = Duration::from_millis(100);
    let worker = Worker::new().unwrap();
    let (server, _client) = narrow_pair();
    let mut socket = socket_with(server, &worker, SendContext::default());
    let file = hole(4 * GIB);
    let queue = move |socket: &mut Socket<Registration>| {
        let (before, start) = (socket.progress().unwrap(), Instant::now());
        let held = unacked(socket.as_fd());
        let end = socket.queue(Segment::file(&file, 0..4 * GIB)).unwrap();
        let taken = start.elapsed();
        assert!(taken < AT_ONCE, "{taken:?}");
        assert_eq!(end.get(), before.queued.get() + 4 * GIB);
        let after = socket.progress().unwrap();
        assert_eq!((after.queued, after.accepted), (end, before.accepted));
        assert_eq!(unacked(socket.as_fd()), held);
    };
    worker
        .run(async move {
            queue(&mut socket);
            assert_eq!(socket.accepted_position().get(), 0);
            send_some(&mut socket).await;
            // Until its window is closed, and nothing moves any more.
            let mut held = 0;
            eventually("stuffed", || {
                std::thread::sleep(Duration::from_millis(20));
                std::mem::replace(&mut held, unacked(socket.as_fd())) == held && held > 0
            });
            queue(&mut socket);
            assert!(socket.accepted_position().get() < GIB);
        })
        .unwrap();

    let mut acks = AckQueue::new().unwrap();
    let (server, _client) = narrow_pair();
    let id = acks.add(server, Watch::Ours).unwrap();
    let start = Instant::now();
    acks.queue_file(id, &hole(4 * GIB), 0..4 * GIB).unwrap();
    assert!(start.elapsed() < AT_ONCE);
    assert_eq!(acks.progress(id).unwrap().accepted.get(), 0);
}

#[test]
fn many_files_and_pieces_of_memory_arrive_in_order_with_head_and_tail() {
    let sizes = [10_usize, 5_000, 100_000, 1_500_000, 1, 65_536, 4_096];
    let files: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(number, size)| {
            let content = pattern(number as u8, *size);
            (file_of(&content), content)
        })
        .collect();
    let mut whole = Vec::new();
    let mut segments = Vec::new();
    for turn in 0..40_usize {
        let (file, content) = &files[turn % files.len()];
        let head = format!("head {turn} ");
        let len = content.len();
        let range = turn % len / 2..len - turn % len / 2;
        whole.extend_from_slice(head.as_bytes());
        segments.push(Segment::given(head));
        whole.extend_from_slice(&content[range.clone()]);
        segments.push(Segment::file(file, range.start as u64..range.end as u64));
        let tail = pattern(turn as u8, [3, 300, 200_000][turn % 3]);
        whole.extend_from_slice(&tail);
        segments.push(Segment::given(tail));
    }
    for forced in [None, Some(Way::Copy), Some(Way::Sendfile), Some(Way::Splice)] {
        let strategy = Strategy { forced, ..Strategy::default() };
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let context = SendContext { strategy, ..SendContext::default() };
        let mut socket = socket_with(server, &worker, context);
        for segment in &segments {
            socket.queue(segment.clone()).unwrap();
        }
        let reader = read_all(client);
        let acked = worker.run(async move {
            socket.acked(socket.queued()).await.unwrap();
            socket.progress().unwrap().acked.get()
        });
        assert_eq!(acked.unwrap(), whole.len() as u64);
        assert!(reader.join().unwrap() == whole, "{forced:?}");
    }
    let mut acks = AckQueue::new().unwrap();
    let (server, client) = pair();
    let id = acks.add(server, Watch::Ours).unwrap();
    for (number, segment) in segments.iter().enumerate() {
        acks.queue(id, segment.clone(), Tag::Number(number as u64)).unwrap();
    }
    let reader = read_all(client);
    let (mut events, mut last) = (Vec::new(), 0);
    while acks.progress(id).unwrap().acked.get() < whole.len() as u64 {
        assert!(acks.wait(&mut events, Some(PATIENCE)).unwrap() > 0);
        for event in events.drain(..) {
            let Event::Acked(_, grown) = event else { panic!("{event:?}") };
            let Tag::Number(number) = grown.tag else { panic!("{grown:?}") };
            assert!(number >= last, "in the order of the stream");
            last = number;
        }
    }
    acks.remove(id);
    assert!(reader.join().unwrap() == whole);
}

#[test]
fn what_is_cancelled_gives_way_to_other_content_at_once() {
    let first = pattern(1, 9_000_000);
    for forced in Way::OF_FILES {
        let strategy = Strategy { forced: Some(forced), ..Strategy::default() };
        let worker = Worker::new().unwrap();
        let (server, client) = narrow_pair();
        let context = SendContext { strategy, ..SendContext::default() };
        let mut socket = socket_with(server, &worker, context);
        let (one, other) = (file_of(&first), file_of(&pattern(2, 300_000)));
        let (accepted, reader) = worker
            .run(async move {
                socket.queue(Segment::given("head")).unwrap();
                let all = socket.queue(Segment::file(&one, 0..9_000_000)).unwrap();
                socket.queue(Segment::given("tail")).unwrap();
                send_some(&mut socket).await;
                let accepted = socket.accepted_position();
                assert!(accepted.get() > 4 && accepted < all);
                assert_eq!(socket.cancel(), accepted);
                assert_eq!(socket.queued(), accepted);
                socket.queue(Segment::file(&other, 0..300_000)).unwrap();
                let end = socket.queue(Segment::given("end")).unwrap();
                assert_eq!(end.get(), accepted.get() + 300_003);
                let reader = read_all(client);
                socket.acked(end).await.unwrap();
                (usize::try_from(accepted.get()).unwrap(), reader)
            })
            .unwrap();
        let got = reader.join().unwrap();
        let expected = [b"head", &first[..accepted - 4], &pattern(2, 300_000), b"end"].concat();
        assert!(got == expected, "{forced:?}: {} of {}", got.len(), expected.len());
    }
}

/// What the kernel holds for a peer that reads nothing.
fn held_for_a_stalled_reader(limits: SocketLimits) -> u64 {
    let worker = Worker::new().unwrap();
    let (server, _client) = narrow_pair();
    let context = SendContext { limits, ..SendContext::default() };
    let mut socket = socket_with(server, &worker, context);
    let reactor = worker.reactor().clone();
    worker
        .run(async move {
            socket.queue(Segment::file(&hole(GIB), 0..GIB)).unwrap();
            socket.queue(Segment::given(vec![1; 1 << 20])).unwrap();
            for _ in 0..20 {
                send_some(&mut socket).await;
                reactor.sleep(Duration::from_millis(10)).await;
            }
            unacked(socket.as_fd())
        })
        .unwrap()
}

#[test]
fn a_stalled_reader_holds_no_more_of_the_kernel_than_it_may() {
    const BOUND: u32 = 64 * 1024;
    // The kernel looks at the bound before each packet buffer, which has up to
    // 64 KiB; and what was sent before the window closed comes on top.
    const SOME: u64 = 128 * 1024;
    let unsent = SocketLimits { unsent: Some(BOUND), ..SocketLimits::default() };
    let buffer = SocketLimits { send_buffer: Some(BOUND as usize), ..SocketLimits::default() };
    let [unsent, buffer, free] =
        [unsent, buffer, SocketLimits::default()].map(held_for_a_stalled_reader);
    assert!(free > 4 * unsent.max(buffer), "unsent {unsent}, send_buffer {buffer}, free {free}");
    assert!((1..=u64::from(BOUND) + SOME).contains(&unsent), "{unsent}");
    // The kernel doubles this one.
    assert!((1..=2 * u64::from(BOUND) + SOME).contains(&buffer), "{buffer}");
}

#[test]
fn a_reader_that_stays_stalled_is_given_up() {
    let patience = Duration::from_millis(500);
    let limits = SocketLimits { unacknowledged: Some(patience), ..SocketLimits::default() };
    let context = || SendContext { limits, ..SendContext::default() };
    let worker = Worker::new().unwrap();
    let (server, _client) = narrow_pair();
    let mut socket = socket_with(server, &worker, context());
    let start = Instant::now();
    let ended = worker.run(async move {
        let end = socket.queue(Segment::file(&hole(GIB), 0..GIB)).unwrap();
        socket.acked(end).await
    });
    let taken = start.elapsed();
    assert!(matches!(ended.unwrap(), Err(SendError::Connection(_))));
    assert!(taken >= patience && taken < PATIENCE, "{taken:?}");
    for watch in [Watch::Ours, Watch::Theirs] {
        let mut acks = AckQueue::with_context(Arc::new(context())).unwrap();
        let (server, _client) = narrow_pair();
        let id = acks.add(server, watch).unwrap();
        acks.queue_file(id, &hole(GIB), 0..GIB).unwrap();
        let (mut events, start) = (Vec::new(), Instant::now());
        while !events.iter().any(|event| matches!(event, Event::Failed(..))) {
            assert!(start.elapsed() < PATIENCE, "{watch:?}: not given up");
            acks.wait(&mut events, Some(Duration::from_secs(1))).unwrap();
        }
        assert!(start.elapsed() >= patience);
    }
}
