//! Where a peer is, and what follows from it: on this host everything is copied; over a network
//! card memory goes by reference and comes back. The second needs a virtual machine, which has an
//! older kernel besides (6.1: no OPT_ID_TCP).
//!
//! The tests at the end are halves that run in the guest: see [`vm`].
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;

use std::future::poll_fn;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use bytes::Bytes;
use rustix::net::{AddressFamily, SocketFlags, SocketType, eth, socket_with};
use sending::{
    SOON, contents, context, context_at, pair, pair_between, read_all, run, socket, wait_until,
    watched,
};
use sluicegate::{
    AckQueue, Event, Lingering, Locality, LocalityRule, Registration, Segment, SendContext,
    SendError, Socket, Tag, Watch, WayBytes, Worker, lingering,
};
use sluicegate_sys::errqueue::{self, Entry, Numbering};
use sluicegate_sys::socket::set_receive_buffer;
use sluicegate_testkit::corpus::{self, Verifier};
use sluicegate_testkit::lab::{Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use sluicegate_testkit::vm::{self, Options, Vm, connect, with_peer};

/// Sends a large buffer twice, and returns what became of both.
fn send_twice(
    (server, client): (TcpStream, TcpStream),
    context: SendContext,
) -> (WayBytes, Locality) {
    const LEN: usize = 3_000_000;
    let worker = Worker::new().unwrap();
    let context = Arc::new(context);
    let mut socket = socket(server, &worker, Arc::clone(&context));
    let before = socket.locality();
    assert_eq!(before, Locality::Unknown, "nobody has asked yet");
    let reader = read_all(client);
    let locality = run(&worker, async move {
        for _ in 0..2 {
            let end = socket.queue(Segment::memory(contents(LEN))).unwrap();
            assert!(socket.released(end).await.unwrap() == contents(LEN));
        }
        socket.locality()
    });
    assert!(reader.join().unwrap() == [contents(LEN), contents(LEN)].concat());
    let ways = context.counters.ways();
    assert_eq!(ways.total(), 2 * LEN as u64);
    assert_eq!(ways.zerocopy_copied, ways.zerocopy, "there is no other host");
    (ways, locality)
}

#[test]
fn a_peer_behind_a_veth_is_found_local() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().unwrap();
    let (ways, locality) =
        send_twice(pair_between(lab.server(), lab.client()), SendContext::default());
    assert_eq!(locality, Locality::Local);
    assert!((1..=1024).contains(&ways.zerocopy), "{ways:?}");
}

/// A TUN device has no scatter-gather: the kernel copies for it, and what is not proven remote
/// counts as local.
#[test]
fn a_peer_that_is_not_proven_remote_counts_as_local() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let (ways, locality) =
        send_twice(pair_between(lab.server(), lab.client()), SendContext::default());
    assert_eq!(locality, Locality::Local);
    assert!((1..=1024).contains(&ways.zerocopy), "{ways:?}");
}

#[test]
fn a_peer_that_is_said_to_be_local_is_not_asked() {
    let (ways, locality) = send_twice(pair(), context_at(Locality::Local));
    assert_eq!((ways.zerocopy, locality), (0, Locality::Local));
}

#[test]
fn a_trusted_network_is_believed_but_a_copy_is_no_gain() {
    let trusted = LocalityRule {
        trusted_remote: vec!["127.0.0.0/8".parse().unwrap()],
        ..LocalityRule::default()
    };
    let trusted = SendContext { locality: trusted, ..SendContext::default() };
    for context in [trusted, context_at(Locality::Remote)] {
        let (ways, locality) = send_twice(pair(), context);
        assert_eq!(locality, Locality::Remote);
        // By reference at once; and no more when the kernel had said what it makes of that.
        assert!(ways.zerocopy > 1024 && ways.copied >= 3_000_000, "{ways:?}");
    }
    let elsewhere = LocalityRule {
        trusted_remote: vec!["203.0.113.0/24".parse().unwrap()],
        ..LocalityRule::default()
    };
    let elsewhere = SendContext { locality: elsewhere, ..SendContext::default() };
    assert_eq!(send_twice(pair(), elsewhere).1, Locality::Local);
}

/// What the guest renders: image number `n`, of so many bytes.
const IMAGE: usize = 1_500_000;

/// Reads images to the end of the stream, each of which must be right. Returns how many came.
fn receive_images(mut client: TcpStream) -> u64 {
    let mut image = vec![0; IMAGE];
    let mut count = 0;
    loop {
        let mut first = [0];
        if client.read(&mut first).unwrap() == 0 {
            return count;
        }
        image[0] = first[0];
        client.read_exact(&mut image[1..]).unwrap();
        corpus::verify(count, 0, &image).unwrap();
        count += 1;
    }
}

#[test]
fn over_a_network_card_memory_goes_by_reference_and_comes_back() {
    require!(Need::VirtualMachine);
    assert_eq!(with_peer("half_that_sends_images", receive_images), 8);
}

#[test]
fn a_packet_tap_opened_in_mid_stream_makes_a_peer_local_for_ever() {
    require!(Need::VirtualMachine);
    assert_eq!(with_peer("half_that_is_tapped", receive_images), 9);
}

#[test]
fn a_reset_over_a_network_card_gives_the_memory_back() {
    require!(Need::VirtualMachine);
    with_peer("half_that_is_reset", |mut client| {
        // Where it is left to grow, one late read of so much can open a window of
        // 20 MB, and the guest's socket then takes everything.
        set_receive_buffer(client.as_fd(), 200_000).unwrap();
        client.read_exact(&mut vec![0; 300_000]).unwrap();
        // Closed with unread data.
        thread::sleep(Duration::from_millis(200));
    });
}

#[test]
fn acknowledgements_over_a_network_card_are_told_exactly() {
    require!(Need::VirtualMachine);
    let got = with_peer("half_that_is_acknowledged", |mut client| {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    let (small, large) = got.split_at(SMALL * TIMES);
    assert!(small.chunks(SMALL).all(|piece| piece == contents(SMALL)));
    assert!(large == contents(LARGE));
}

#[test]
fn an_older_kernel_reports_acknowledgements_too() {
    require!(Need::VirtualMachine);
    let vm = Vm::boot(&Options::new()).unwrap();
    let older = vm.kernel().starts_with("6.1.");
    require!(Need::Fact { what: "Linux 6.1 for the virtual machine", holds: older });
    vm.run_test("half_that_has_reports", &[]);
}

#[test]
fn events_over_a_network_card_sum_to_each_send() {
    require!(Need::VirtualMachine);
    let got = with_peer("half_that_is_told", |mut client| {
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    assert!(got == SENDS.map(contents).concat());
}

#[test]
fn memory_lingers_until_a_network_card_has_sent_it() {
    require!(Need::VirtualMachine);
    let received = with_peer("half_that_lingers", |mut client| {
        // So that it is full when it is dropped.
        thread::sleep(Duration::from_secs(2));
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        all
    });
    // What was not accepted before the drop was not sent.
    assert!(received.len() > 1024 && received.len() < LINGERS);
    let mut verifier = Verifier::new(LINGERS as u64, 0);
    verifier.update(&received).unwrap();
}

#[test]
fn who_does_not_read_over_a_network_card_is_cut_off() {
    require!(Need::VirtualMachine);
    let received = with_peer("half_that_cuts_off", |mut client| {
        // Much longer than the guest needs to be stuffed, and its patience.
        thread::sleep(Duration::from_secs(5));
        let mut all = Vec::new();
        let error = client.read_to_end(&mut all).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
        all
    });
    Verifier::new(LINGERS as u64, 0).update(&received).unwrap();
}

/// The guest's end of a connection to [`with_peer`].
/// Renders image `n` into a buffer, sends it, and returns the buffer when it is back.
async fn send_image(socket: &mut Socket<Registration>, n: u64, mut buffer: Vec<u8>) -> Vec<u8> {
    corpus::fill(n, 0, &mut buffer);
    let address = buffer.as_ptr();
    let end = socket.queue(Segment::memory(buffer)).unwrap();
    let buffer = Vec::from(socket.released(end).await.unwrap());
    assert_eq!(buffer.as_ptr(), address);
    buffer
}

#[test]
fn half_that_sends_images() {
    if !vm::is_guest() {
        return;
    }
    let worker = Worker::new().unwrap();
    let mut socket = socket(connect(), &worker, context(None));
    run(&worker, async move {
        let counters = Arc::clone(socket.context());
        let mut buffer = send_image(&mut socket, 0, vec![0; IMAGE]).await;
        assert_eq!(socket.locality(), Locality::Remote, "{:?}", counters.counters.ways());
        let first = counters.counters.ways();
        assert!(first.zerocopy > 0);
        for n in 1..8 {
            buffer = send_image(&mut socket, n, buffer).await;
        }
        let ways = counters.counters.ways();
        println!("{first:?}, then {:?}", ways.since(&first));
        let later = ways.since(&first);
        assert_eq!(later.total(), 7 * IMAGE as u64);
        assert!(later.zerocopy * 100 >= later.total() * 95, "{later:?}");
        assert_eq!(ways.zerocopy_copied, 0);
        assert_eq!(socket.locality(), Locality::Remote);
    });
}

#[test]
fn half_that_is_tapped() {
    if !vm::is_guest() {
        return;
    }
    let worker = Worker::new().unwrap();
    let mut socket = socket(connect(), &worker, context(None));
    run(&worker, async move {
        let context = Arc::clone(socket.context());
        let mut buffer = vec![0; IMAGE];
        for n in 0..3 {
            buffer = send_image(&mut socket, n, buffer).await;
        }
        let before = context.counters.ways();
        assert!(before.zerocopy >= IMAGE as u64 && before.zerocopy_copied == 0, "{before:?}");
        assert_eq!(socket.locality(), Locality::Remote);
        let flags = SocketFlags::CLOEXEC;
        let tap = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, Some(eth::ALL));
        for n in 3..6 {
            buffer = send_image(&mut socket, n, buffer).await;
        }
        assert_eq!(socket.locality(), Locality::Local);
        let with_tap = context.counters.ways();
        assert!(with_tap.zerocopy_copied > 0, "{with_tap:?}");
        drop(tap.unwrap());
        for n in 6..9 {
            buffer = send_image(&mut socket, n, buffer).await;
        }
        assert_eq!(socket.locality(), Locality::Local, "nothing leads away from it");
        assert_eq!(context.counters.ways().zerocopy, with_tap.zerocopy);
    });
}

#[test]
fn half_that_is_reset() {
    if !vm::is_guest() {
        return;
    }
    let worker = Worker::new().unwrap();
    let mut socket = socket(connect(), &worker, context_at(Locality::Remote));
    run(&worker, async move {
        let (buffer, freed) = watched(contents(LINGERS));
        let address = buffer.as_ptr();
        let end = socket.queue(Segment::memory(buffer)).unwrap();
        assert!(matches!(socket.released(end).await, Err(SendError::Connection(_))));
        assert!(socket.cancel() < end);
        let back = socket.released(end).await.unwrap();
        assert_eq!((back.as_ptr(), socket.referenced()), (address, 0));
        assert!(!freed.is_so());
        let ways = socket.context().counters.ways();
        assert!(ways.zerocopy > 300_000 && ways.zerocopy_copied == 0, "{ways:?}");
    });
}

/// How often [`half_that_is_acknowledged`] waits, and for how many bytes.
const SMALL: usize = 100;
const TIMES: usize = 30;
const LARGE: usize = 2_000_000;

#[test]
fn half_that_is_acknowledged() {
    if !vm::is_guest() {
        return;
    }
    let worker = Worker::new().unwrap();
    let mut socket = socket(connect(), &worker, context_at(Locality::Remote));
    run(&worker, async move {
        let mut took = Vec::new();
        for _ in 0..TIMES {
            let end = socket.queue(Segment::given(contents(SMALL))).unwrap();
            let began = Instant::now();
            socket.acked(end).await.unwrap();
            took.push(began.elapsed());
            let progress = socket.progress().unwrap();
            assert_eq!((progress.acked, progress.accepted, progress.queued), (end, end, end));
        }
        println!("acknowledged after {took:?}");
        let end = socket.queue(Segment::memory(contents(LARGE))).unwrap();
        socket.acked(end).await.unwrap();
        assert_eq!(socket.progress().unwrap().acked, end);
        socket.released(end).await.unwrap();
        assert!(socket.context().counters.ways().zerocopy > 0);
    });
}

/// What a wait is woken by there: numbered otherwise than on newer kernels, and reported all the
/// same.
#[test]
fn half_that_has_reports() {
    if !vm::is_guest() {
        return;
    }
    let (ours, mut theirs) = pair();
    let numbering = errqueue::number_acks(ours.as_fd()).unwrap();
    assert_eq!(numbering, Numbering::FromUnacknowledged);
    errqueue::report_acks(ours.as_fd(), numbering, true).unwrap();
    (&ours).write_all(b"hello").unwrap();
    theirs.read_exact(&mut [0; 5]).unwrap();
    let mut entry = None;
    assert!(wait_until(|| {
        entry = errqueue::next(ours.as_fd()).unwrap();
        entry.is_some()
    }));
    assert!(matches!(entry, Some(Entry::Acked { .. })), "{entry:?}");
}

/// Lengths of what an [`AckQueue`] sends.
const SENDS: [usize; 4] = [1000, LARGE, LARGE, 10];

#[test]
fn half_that_is_told() {
    if !vm::is_guest() {
        return;
    }
    let context = Arc::new(context_at(Locality::Remote));
    let mut acks = AckQueue::with_context(Arc::clone(&context)).unwrap();
    let id = acks.add(connect(), Watch::Ours).unwrap();
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&contents(LARGE)).unwrap();
    let file = Arc::new(file);
    let lent = Bytes::from(contents(LARGE));
    acks.queue(id, Segment::given(contents(1000)), Tag::Number(0)).unwrap();
    let end = acks.queue(id, Segment::memory(lent.clone()), Tag::Number(1)).unwrap();
    acks.queue(id, Segment::file(&file, 0..LARGE as u64), Tag::Number(2)).unwrap();
    acks.queue(id, Segment::given(contents(10)), Tag::Number(3)).unwrap();
    let mut totals = [0_u64; 4];
    let mut events = Vec::new();
    while totals != SENDS.map(|len| len as u64) {
        assert!(acks.wait(&mut events, Some(SOON)).unwrap() > 0, "{totals:?}");
        for event in events.drain(..) {
            let grown = match event {
                Event::Acked(_, grown) => grown,
                // Of the one that is lent, when the guest's kernel says so.
                Event::Released(_, at) if at == end => continue,
                other => panic!("{other:?}"),
            };
            let Tag::Number(n) = grown.tag else { panic!("{grown:?}") };
            let at = usize::try_from(n).unwrap();
            totals[at] += grown.grown;
            assert_eq!((grown.total, grown.len), (totals[at], SENDS[at] as u64));
        }
    }
    assert!(wait_until(|| {
        acks.wait(&mut events, Some(Duration::ZERO)).unwrap();
        acks.try_released(id, end).unwrap().is_some_and(|bytes| bytes == lent)
    }));
    let ways = context.counters.ways();
    assert!(ways.zerocopy >= LARGE as u64 && ways.zerocopy_copied == 0, "{ways:?}");
}

/// More than a socket takes whose peer does not read.
const LINGERS: usize = 12 << 20;

/// Sends until the host, which does not read, has had all that it has room for,
/// and what was accepted beyond that stays unacknowledged.
fn stuffed(worker: &Worker, mut socket: Socket<Registration>) -> Socket<Registration> {
    let reactor = worker.reactor().clone();
    run(worker, async move {
        let mut last = None;
        while last != Some(socket.accepted_position()) {
            last = Some(socket.accepted_position());
            let flushed = poll_fn(|cx| Poll::Ready(socket.poll_flush(cx).is_ready())).await;
            assert!(!flushed, "the host does not read");
            reactor.sleep(Duration::from_millis(300)).await;
        }
        socket
    })
}

#[test]
fn half_that_lingers() {
    if !vm::is_guest() {
        return;
    }
    let worker = Worker::new().unwrap();
    let mut socket = socket(connect(), &worker, context_at(Locality::Remote));
    let (buffer, freed) = watched(contents(LINGERS));
    socket.queue(Segment::memory(buffer)).unwrap();
    let socket = stuffed(&worker, socket);
    assert!(socket.referenced() > 0);
    drop(socket);
    let held = Lingering { sockets: 1, bytes: LINGERS as u64, quarantined: 0 };
    assert_eq!((lingering(), freed.is_so()), (held, false));
    assert!(wait_until(|| lingering() == Lingering::default()), "{:?}", lingering());
    assert!(freed.is_so());
}

#[test]
fn half_that_cuts_off() {
    if !vm::is_guest() {
        return;
    }
    let worker = Worker::new().unwrap();
    let patience = Duration::from_millis(300);
    let context = SendContext { linger: patience, ..context_at(Locality::Remote) };
    let mut socket = socket(connect(), &worker, context);
    let (buffer, freed) = watched(contents(LINGERS));
    socket.queue(Segment::memory(buffer)).unwrap();
    let socket = stuffed(&worker, socket);
    let began = Instant::now();
    drop(socket);
    assert!(wait_until(|| lingering().sockets == 0), "{:?}", lingering());
    assert!(freed.is_so() && began.elapsed() >= patience);
    assert_eq!(lingering(), Lingering::default(), "nothing was quarantined");
}
