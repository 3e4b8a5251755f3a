//! How far the peer is: right at any length, at the end of a stream, after a
//! reset, and whatever becomes of the kernel's reports.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod peers;

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::task::Poll;
use std::time::{Duration, Instant};

use peers::{HELD, PATIENCE, discard, eventually, hole, narrow_pair, pair, unacked};
use sluicegate::{
    AckQueue, Event, Position, Progress, Registration, Segment, SendError, Socket, Tag, Watch,
    Worker,
};
use sluicegate_sys::{errqueue, socket, tcp_info};
use sluicegate_testkit::lab::{Conditions, Direction, Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

/// Waits for events of one socket until `enough`.
fn collect(acks: &mut AckQueue, mut enough: impl FnMut(Event) -> bool) {
    let (mut events, mut done) = (Vec::new(), false);
    let deadline = Instant::now() + Duration::from_secs(60);
    while !done {
        acks.wait(&mut events, Some(Duration::from_secs(1))).unwrap();
        for event in events.drain(..) {
            done |= enough(event);
        }
        assert!(Instant::now() < deadline);
    }
}

fn grown_of(event: &Event) -> sluicegate::Grown {
    let Event::Acked(_, grown) = event else { panic!("{event:?}") };
    *grown
}

fn is_reset(error: &SendError) -> bool {
    let SendError::Connection(error) = error else { return false };
    matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe)
}

#[test]
fn a_stream_of_more_than_8_gib_is_counted_right_across_both_wraps_of_32_bits() {
    const LEN: u64 = (8 << 30) + 12_345;
    let start = Instant::now();
    for watch in [Watch::Ours, Watch::Theirs] {
        let (server, client) = pair();
        let reader = discard(client);
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(server, watch).unwrap();
        let end = acks.queue_file(id, &hole(LEN), 0..LEN).unwrap();
        assert_eq!(end.get(), LEN);
        let (mut last, mut seen) = (0, 0_u64);
        let mut wraps = [0; 2];
        while last < LEN {
            if watch == Watch::Theirs {
                acks.handle_writable(id).unwrap();
            }
            collect(&mut acks, |event| {
                let grown = grown_of(&event);
                assert!(grown.total == last + grown.grown && grown.total > last, "{grown:?}");
                assert_eq!(grown.len, LEN);
                (last, seen) = (grown.total, seen + 1);
                for (wrap, multiple) in wraps.iter_mut().zip([1_u64, 2]) {
                    *wrap += u64::from(last.abs_diff(multiple << 32) < 64 << 20);
                }
                true
            });
            let Progress { accepted, acked, queued } = acks.progress(id).unwrap();
            assert!(last <= acked.get() && acked <= accepted && accepted <= queued);
        }
        assert_eq!(last, LEN);
        assert!(wraps.iter().all(|seen| *seen > 0), "nothing was told around the wraps: {seen}");
        let Progress { accepted, acked, .. } = acks.progress(id).unwrap();
        assert_eq!((accepted.get(), acked.get()), (LEN, LEN));
        acks.remove(id);
        assert_eq!(reader.join().unwrap(), LEN);
        println!("{watch:?}: {seen} events, {:?} so far", start.elapsed());
    }
}

fn socket_on(stream: TcpStream, worker: &Worker) -> Socket<Registration> {
    Socket::new(stream, worker.reactor()).unwrap()
}

/// A wire on which nothing that is sent from now on arrives, this way.
fn cut(lab: &Lab, direction: Direction, is_cut: bool) {
    let drop_one_in = u32::from(is_cut);
    let conditions = Conditions { drop_one_in, ..Conditions::default() };
    lab.wire_control().unwrap().set(direction, conditions);
}

fn lab_pair(lab: &Lab) -> (TcpStream, TcpStream) {
    let address = (lab.server().address(), 0);
    let listener = lab.server().enter(|| TcpListener::bind(address).unwrap()).unwrap();
    let address = listener.local_addr().unwrap();
    let client = lab.client().enter(|| TcpStream::connect(address).unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

#[test]
fn the_end_of_the_stream_is_no_byte_of_it_while_it_waits_behind_others() {
    let worker = Worker::new().unwrap();
    let (server, client) = narrow_pair();
    let mut socket = socket_on(server, &worker);
    worker
        .run(async move {
            socket.queue(Segment::given(vec![7; HELD])).unwrap();
            let is_sent = poll_fn(|cx| Poll::Ready(socket.poll_flush(cx))).await;
            assert!(!matches!(is_sent, Poll::Ready(Err(_))));
            let end = socket.cancel();
            // The window is closed: it stays as it is.
            let mut before = socket.progress().unwrap().acked;
            eventually("the window is full", || {
                let now = socket.progress().unwrap().acked;
                std::mem::replace(&mut before, now) == now && now.get() > 0
            });
            std::thread::sleep(Duration::from_millis(50));
            before = socket.progress().unwrap().acked;
            assert!(before < end);
            let counted = unacked(socket.as_fd());
            socket.shutdown().unwrap();
            assert_eq!(unacked(socket.as_fd()), counted + 1, "the kernel counts it");
            assert!(tcp_info::tcp_info(socket.as_fd()).unwrap().fin_unacknowledged);
            assert_eq!(socket.progress().unwrap().acked, before);
            let reader = discard(client);
            socket.acked(end).await.unwrap();
            assert_eq!(socket.progress().unwrap().acked, end);
            assert_eq!(reader.join().unwrap(), end.get());
            eventually("all is acknowledged", || unacked(socket.as_fd()) == 0);
            assert_eq!(socket.progress().unwrap().acked, end);
        })
        .unwrap();
}

#[test]
fn bytes_before_an_end_that_is_lost_are_acknowledged_all_the_same() {
    require!(Need::TrueWire);
    let delay = Duration::from_millis(20);
    let lab = Lab::wire(Wire::with(Conditions { delay, ..Conditions::default() })).unwrap();
    for watch in [None, Some(Watch::Ours), Some(Watch::Theirs)] {
        let (server, mut client) = lab_pair(&lab);
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let arrives = |client: &mut TcpStream| {
            let mut got = [0; 5];
            client.read_exact(&mut got).unwrap();
            assert_eq!(&got, b"hello");
        };
        let is_held = |fd: std::os::fd::BorrowedFd<'_>| {
            // The end is under way, and counted as a byte by the kernel.
            eventually("only the end is under way", || unacked(fd) == 1);
            assert!(tcp_info::tcp_info(fd).unwrap().fin_unacknowledged);
        };
        if let Some(watch) = watch {
            let mut acks = AckQueue::new().unwrap();
            let id = acks.add(server, watch).unwrap();
            acks.queue(id, Segment::given("hello"), Tag::Number(1)).unwrap();
            assert_eq!(acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap(), 0);
            arrives(&mut client);
            eventually("acknowledged", || unacked(acks.fd(id).unwrap()) == 0);
            cut(&lab, Direction::ToClient, true);
            acks.shutdown(id).unwrap();
            is_held(acks.fd(id).unwrap());
            assert_eq!(acks.progress(id).unwrap().acked.get(), 5);
            let mut totals = Vec::new();
            collect(&mut acks, |event| {
                totals.push(grown_of(&event).total);
                true
            });
            assert_eq!(totals, [5]);
            is_held(acks.fd(id).unwrap());
            cut(&lab, Direction::ToClient, false);
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        } else {
            let worker = Worker::new().unwrap();
            let mut socket = socket_on(server, &worker);
            let end = socket.queue(Segment::given("hello")).unwrap();
            let sent = worker.run(async move {
                socket.flush().await.unwrap();
                socket
            });
            let mut socket = sent.unwrap();
            arrives(&mut client);
            eventually("acknowledged", || unacked(socket.as_fd()) == 0);
            cut(&lab, Direction::ToClient, true);
            socket.shutdown().unwrap();
            is_held(socket.as_fd());
            assert_eq!(socket.progress().unwrap().acked, end);
            let waited = worker.run(async move {
                socket.acked(end).await.unwrap();
                assert_eq!(socket.progress().unwrap().acked, end);
                socket
            });
            is_held(waited.unwrap().as_fd());
            cut(&lab, Direction::ToClient, false);
            assert_eq!(client.read(&mut [0; 1]).unwrap(), 0);
        }
    }
}

#[test]
fn a_reset_in_the_middle_is_told_once_and_nothing_is_counted_that_was_not_acknowledged() {
    for watch in [Watch::Ours, Watch::Theirs] {
        let (server, mut client) = narrow_pair();
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(server, watch).unwrap();
        acks.queue_file(id, &hole(100 << 20), 0..100 << 20).unwrap();
        let mut told = 0;
        collect(&mut acks, |event| {
            told += grown_of(&event).grown;
            true
        });
        client.read_exact(&mut vec![0; 1000]).unwrap();
        // Closing with unread data makes the kernel send a reset.
        drop(client);
        let mut failed = 0;
        collect(&mut acks, |event| match event {
            Event::Acked(_, grown) => {
                assert_eq!(failed, 0);
                told += grown.grown;
                false
            }
            Event::Failed(which, error) => {
                assert!(which == id && is_reset(&error), "{error}");
                failed += 1;
                true
            }
            _ => false,
        });
        let acked = acks.progress(id).unwrap().acked.get();
        assert_eq!(told, acked, "all that was acknowledged, and nothing else");
        assert!(acked < 100 << 20);
        // The kernel's own count has the SYN in it.
        let counted = tcp_info::tcp_info(acks.fd(id).unwrap()).unwrap().bytes_acked;
        assert!(acked <= counted, "{acked} of {counted}");
        // Nothing more is told of it, whatever is done.
        let late = acks.queue(id, Segment::given("more"), Tag::Number(2)).unwrap_err();
        assert_eq!(late.kind(), ErrorKind::NotConnected);
        acks.handle_writable(id).unwrap();
        let mut events = Vec::new();
        acks.wait(&mut events, Some(Duration::from_millis(50))).unwrap();
        assert!(!events.iter().any(|e| !matches!(e, Event::Readable(_))), "{events:?}");
        assert!(acks.remove(id));
    }
}

#[test]
fn a_reset_ends_the_wait_for_an_acknowledgement_that_will_not_come() {
    let worker = Worker::new().unwrap();
    let (server, mut client) = narrow_pair();
    let mut socket = socket_on(server, &worker);
    worker
        .run(async move {
            let end = socket.queue(Segment::given(vec![1; HELD])).unwrap();
            let is_sent = poll_fn(|cx| Poll::Ready(socket.poll_flush(cx))).await;
            assert!(!matches!(is_sent, Poll::Ready(Err(_))));
            let mut first = [0; 1000];
            client.read_exact(&mut first).unwrap();
            let early = Position::new(1000);
            socket.acked(early).await.unwrap();
            let mut wait = Box::pin(socket.acked(end));
            let is_pending = poll_fn(|cx| Poll::Ready(wait.as_mut().poll(cx).is_pending())).await;
            assert!(is_pending);
            drop(client);
            assert!(is_reset(&wait.await.unwrap_err()));
            // Again: the connection's own error is told once, its end always.
            assert!(is_reset(&socket.acked(end).await.unwrap_err()));
            let acked = socket.progress().unwrap().acked;
            assert!(early <= acked && acked < end);
        })
        .unwrap();
}

#[test]
fn bytes_that_were_under_way_before_are_nobodys_and_make_nothing_early() {
    for watch in [Watch::Ours, Watch::Theirs] {
        let (mut server, client) = narrow_pair();
        server.set_nonblocking(true).unwrap();
        // Stuffed by somebody else.
        let mut before = 0;
        eventually("it is full", || {
            // Now and then it is the machine's memory for TCP that is scarce.
            while let Ok(count) = server.write(&[9; 10_000]) {
                before += count as u64;
            }
            before > 50_000
        });
        let under_way = unacked(server.as_fd());
        assert!(under_way > 0);
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(server, watch).unwrap();
        assert_eq!(acks.progress(id).unwrap(), Progress::default());
        let end = acks.queue(id, Segment::given(vec![1; 50_000]), Tag::Number(1)).unwrap();
        assert_eq!(end.get(), 50_000);
        let mut events = Vec::new();
        acks.wait(&mut events, Some(Duration::from_millis(50))).unwrap();
        assert!(events.is_empty(), "{events:?}");
        // The peer takes them bit by bit. What is ours begins behind them.
        let mut client = client;
        client.set_nonblocking(true).unwrap();
        let (mut read, mut told) = (0, 0);
        let mut room = [0; 1000];
        while read < before + 50_000 {
            read += client.read(&mut room).unwrap_or(0) as u64;
            if watch == Watch::Theirs {
                acks.handle_writable(id).unwrap();
            }
            acks.wait(&mut events, Some(Duration::from_micros(100))).unwrap();
            for event in events.drain(..) {
                told += grown_of(&event).grown;
            }
            // Its TCP has received, but never more than it acknowledged: the
            // peer's queue holds what is not read yet.
            let all = tcp_info::tcp_info(acks.fd(id).unwrap()).unwrap().bytes_acked;
            assert!(before + told <= all || told == 0, "{before} and {told}, but {all}");
        }
        while told < 50_000 {
            collect(&mut acks, |event| {
                told += grown_of(&event).grown;
                true
            });
        }
        assert_eq!(acks.progress(id).unwrap().acked, end);
    }
}

/// Reports that are left of so many sends when nobody takes them.
fn entries_of(sends: u64) -> u64 {
    let (server, client) = pair();
    let _reader = discard(client);
    socket::set_receive_buffer(server.as_fd(), 4096).unwrap();
    let numbering = errqueue::number_acks(server.as_fd()).unwrap();
    errqueue::report_acks(server.as_fd(), numbering, true).unwrap();
    for _ in 0..sends {
        (&server).write_all(b"tiny").unwrap();
    }
    eventually("acknowledged", || unacked(server.as_fd()) == 0);
    std::iter::from_fn(|| errqueue::next(server.as_fd()).unwrap()).count() as u64
}

#[test]
fn an_overrun_error_queue_costs_time_and_nothing_else() {
    let (server, client) = pair();
    let reader = discard(client);
    socket::set_receive_buffer(server.as_fd(), 4096).unwrap();
    let mut acks = AckQueue::new().unwrap();
    let id = acks.add(server, Watch::Ours).unwrap();
    const SENDS: u64 = 5_000;
    for number in 0..SENDS {
        let sent =
            acks.send_with(id, Tag::Number(number), |fd| socket::send(fd, b"tiny", false)).unwrap();
        assert_eq!(sent, 4);
        if number % 10 == 0 {
            // Let it leave by itself, so that it has a report of its own.
            std::thread::sleep(Duration::from_micros(50));
        }
    }
    eventually("acknowledged", || unacked(acks.fd(id).unwrap()) == 0);
    assert!(entries_of(SENDS) < SENDS / 2, "the queue was not overrun");
    let mut next = 0;
    collect(&mut acks, |event| {
        let grown = grown_of(&event);
        assert_eq!(grown.tag, Tag::Number(next));
        assert_eq!((grown.total, grown.len), (4, 4));
        next += 1;
        next == SENDS
    });
    // None is left behind, to wake somebody or to take room.
    assert_eq!(errqueue::next(acks.fd(id).unwrap()).unwrap(), None);
    acks.remove(id);
    assert_eq!(reader.join().unwrap(), 4 * SENDS);
}

/// What reports made of queued bytes and of a flood of them by calls of one
/// byte each.
#[test]
fn a_report_for_every_byte_is_many_and_the_totals_are_right() {
    let (server, client) = pair();
    let reader = discard(client);
    let mut acks = AckQueue::new().unwrap();
    acks.report_every(1);
    let id = acks.add(server, Watch::Ours).unwrap();
    acks.queue(id, Segment::given(vec![1; 3_000]), Tag::Number(0)).unwrap();
    let mut total = 0;
    collect(&mut acks, |event| {
        let grown = grown_of(&event);
        total += grown.grown;
        assert_eq!(grown.total, total);
        total == 3_000
    });
    acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
    assert_eq!(errqueue::next(acks.fd(id).unwrap()).unwrap(), None);
    acks.remove(id);
    assert_eq!(reader.join().unwrap(), 3_000);
}

/// Half of a round trip that lies between two looks of a waiter that no report
/// wakes: it looks after 20, 60, 140, 300, 500 ms.
const HALF: Duration = Duration::from_millis(155);
const UNAWARE: Duration = Duration::from_millis(450);

fn far_pair(lab: &Lab) -> (TcpStream, TcpStream) {
    let pair = lab_pair(lab);
    for direction in Direction::ALL {
        let conditions = Conditions { delay: HALF, ..Conditions::default() };
        lab.wire_control().unwrap().set(direction, conditions);
    }
    pair
}

fn near(lab: &Lab) {
    for direction in Direction::ALL {
        lab.wire_control().unwrap().set(direction, Conditions::default());
    }
}

/// Whether a wait that `wait` makes of a stream ends with the acknowledgement,
/// in the best of three tries: a busy machine is late now and then.
fn is_woken_by_the_report(lab: &Lab, mut wait: impl FnMut(TcpStream) -> Duration) {
    let times: Vec<Duration> = (0..3)
        .map(|_| {
            let (server, client) = far_pair(lab);
            let time = wait(server);
            near(lab);
            drop(client);
            time
        })
        .collect();
    println!("{times:?}");
    assert!(times.iter().all(|time| *time >= 2 * HALF), "before it came: {times:?}");
    assert!(times.iter().any(|time| *time < UNAWARE), "by looking, not by a report: {times:?}");
}

#[test]
fn a_worker_s_task_is_woken_by_the_acknowledgement() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let worker = Worker::new().unwrap();
    is_woken_by_the_report(&lab, |stream| {
        let mut socket = socket_on(stream, &worker);
        let end = socket.queue(Segment::given("hello")).unwrap();
        let start = Instant::now();
        worker.run(async move { socket.acked(end).await.unwrap() }).unwrap();
        start.elapsed()
    });
}

#[test]
#[cfg(feature = "tokio")]
fn a_task_of_tokio_is_woken_by_the_acknowledgement() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    is_woken_by_the_report(&lab, |stream| {
        runtime.block_on(async {
            let mut socket =
                Socket::new(stream, &sluicegate::SharedReactor::new().unwrap()).unwrap();
            let end = socket.queue(Segment::given("hello")).unwrap();
            let start = Instant::now();
            tokio::spawn(async move { socket.acked(end).await.unwrap() }).await.unwrap();
            start.elapsed()
        })
    });
}

#[test]
fn an_event_is_told_when_the_acknowledgement_comes() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    is_woken_by_the_report(&lab, |stream| {
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(stream, Watch::Ours).unwrap();
        let start = Instant::now();
        acks.queue(id, Segment::given("hello"), Tag::Number(0)).unwrap();
        collect(&mut acks, |event| grown_of(&event).total == 5);
        start.elapsed()
    });
}

#[test]
fn a_report_is_asked_for_anew_where_the_one_before_was_taken_back() {
    let (server, client) = narrow_pair();
    let mut acks = AckQueue::new().unwrap();
    let id = acks.add(server, Watch::Ours).unwrap();
    // The buffer that is lent keeps the account of this stream open.
    acks.queue(id, Segment::given("head"), Tag::Number(0)).unwrap();
    acks.queue_file(id, &hole(1 << 30), 0..1 << 30).unwrap();
    acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
    acks.cancel(id).unwrap();
    let reader = discard(client);
    eventually("acknowledged", || unacked(acks.fd(id).unwrap()) == 0);
    acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
    let next = |acks: &AckQueue| errqueue::next(acks.fd(id).unwrap()).unwrap();
    while next(&acks).is_some() {}
    let end = acks.queue(id, Segment::given("hello"), Tag::Number(1)).unwrap();
    eventually("sent", || {
        acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
        acks.progress(id).unwrap().accepted == end
    });
    eventually("reported", || next(&acks).is_some());
    acks.remove(id);
    assert_eq!(reader.join().unwrap(), end.get());
}
