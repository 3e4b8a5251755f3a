//! Acknowledgement events without a runtime.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod peers;

use std::io::{ErrorKind, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use peers::{HELD, discard, eventually, file_of, hole, narrow_pair, pair, pattern, read_all};
use sluicegate::{
    AckQueue, EpollRecord, Event, Grown, Segment, SendContext, SocketId, Strategy, Tag, Watch, Way,
};
use sluicegate_sys::{errqueue, sendfile};

const LIMIT: Option<Duration> = Some(Duration::from_secs(10));
const BOTH: [Watch; 2] = [Watch::Ours, Watch::Theirs];

/// The next events; at least one comes.
fn events(acks: &mut AckQueue) -> Vec<Event> {
    let mut events = Vec::new();
    assert!(acks.wait(&mut events, LIMIT).unwrap() > 0, "nothing came");
    events
}

fn grown_of(event: &Event) -> Grown {
    let Event::Acked(_, grown) = event else { panic!("{event:?}") };
    *grown
}

/// Waits until so much of the one send that is under way is acknowledged.
fn follow(acks: &mut AckQueue, id: SocketId, watch: Watch, tag: Tag, total: u64) {
    let mut acked = 0;
    while acked < total {
        if watch == Watch::Theirs {
            acks.handle_writable(id).unwrap();
        }
        for event in events(acks) {
            let grown = grown_of(&event);
            acked += grown.grown;
            assert_eq!((grown.tag, grown.total), (tag, acked));
        }
    }
    assert_eq!(acked, total);
}

#[test]
fn each_send_is_told_in_parts_that_sum_to_it() {
    for watch in BOTH {
        let (server, client) = pair();
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(server, watch).unwrap();
        let content = pattern(7, 5_000_000);
        let file = file_of(&content);
        acks.queue(id, Segment::given("head"), Tag::Number(1)).unwrap();
        acks.queue_file(id, &file, 0..5_000_000).unwrap();
        let end = acks.queue(id, Segment::given("tail"), Tag::Number(2)).unwrap();
        let reader = read_all(client);
        let mut totals = [0_u64; 3];
        while totals != [4, 5_000_000, 4] {
            if watch == Watch::Theirs {
                acks.handle_writable(id).unwrap();
            }
            for event in events(&mut acks) {
                assert_eq!(event.socket(), id);
                let grown = grown_of(&event);
                let at = match grown.tag {
                    Tag::Number(1) => 0,
                    Tag::File(fd) => {
                        assert_eq!(fd, file.as_raw_fd());
                        1
                    }
                    Tag::Number(_) => 2,
                };
                totals[at] += grown.grown;
                assert_eq!(grown.total, totals[at]);
            }
        }
        assert_eq!(acks.progress(id).unwrap().acked, end);
        acks.remove(id);
        assert!(reader.join().unwrap() == [b"head", &content[..], b"tail"].concat());
    }
}

#[test]
fn records_have_the_descriptor_of_the_file_and_the_bytes_since_the_last() {
    let mut acks = AckQueue::new().unwrap();
    let lens = [3_000_000, 2_000_000];
    let files = lens.map(hole);
    let mut readers = Vec::new();
    for file in &files {
        let (server, client) = pair();
        let id = acks.add(server, Watch::Ours).unwrap();
        let len = file.metadata().unwrap().len();
        acks.queue_file(id, file, 0..len).unwrap();
        readers.push(discard(client));
    }
    assert_eq!(acks.wait_records(&mut [], LIMIT).unwrap_err().kind(), ErrorKind::InvalidInput);
    let mut totals = [0; 2];
    // Room for one: what does not fit is there the next time.
    let mut records = [EpollRecord::default()];
    while totals != lens {
        assert_eq!(acks.wait_records(&mut records, LIMIT).unwrap(), 1, "{totals:?}");
        let at = files.iter().position(|file| file.as_raw_fd() == records[0].fd()).unwrap();
        totals[at] += u64::from(records[0].count());
        assert_eq!(records[0].events(), EpollRecord::ACKED);
    }
    assert_eq!(acks.wait_records(&mut records, Some(Duration::ZERO)).unwrap(), 0);
    drop(acks);
    for reader in readers {
        reader.join().unwrap();
    }
}

#[test]
fn other_events_are_records_about_their_socket() {
    let mut acks = AckQueue::new().unwrap();
    let (server, mut client) = pair();
    let id = acks.add(server, Watch::Ours).unwrap();
    let fd = acks.fd(id).unwrap().as_raw_fd();
    client.write_all(b"?").unwrap();
    acks.queue(id, Segment::memory("answer"), Tag::Number(5)).unwrap();
    let mut told = Vec::new();
    let mut wait = |acks: &mut AckQueue, flag: u32| {
        while !told.iter().any(|record: &EpollRecord| record.events() == flag) {
            let mut records = [EpollRecord::default(); 1];
            assert_eq!(acks.wait_records(&mut records, LIMIT).unwrap(), 1, "{told:?}");
            told.extend(records);
        }
        told.iter().copied().find(|record| record.events() == flag).unwrap()
    };
    assert_eq!(wait(&mut acks, EpollRecord::READABLE).fd(), fd);
    assert_eq!(wait(&mut acks, EpollRecord::RELEASED).fd(), fd);
    let acked = wait(&mut acks, EpollRecord::ACKED);
    assert_eq!((acked.fd(), acked.count()), (5, 6));
    // Unread bytes make the close a reset.
    drop(client);
    acks.queue(id, Segment::given(vec![1; 1 << 20]), Tag::Number(6)).unwrap();
    let failed = wait(&mut acks, EpollRecord::FAILED);
    assert_eq!((failed.fd(), failed.count()), (fd, 0));
}

#[test]
fn what_waits_to_be_told_goes_with_its_socket() {
    let mut acks = AckQueue::new().unwrap();
    let mut ids = Vec::new();
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (server, mut client) = pair();
        ids.push(acks.add(server, Watch::Ours).unwrap());
        client.write_all(b"?").unwrap();
        clients.push(client);
    }
    // One record: the other events wait.
    acks.wait_records(&mut [EpollRecord::default()], LIMIT).unwrap();
    let first = ids[0];
    assert!(acks.remove(first));
    let mut told = Vec::new();
    acks.wait(&mut told, Some(Duration::from_millis(100))).unwrap();
    assert!(told.iter().all(|event| event.socket() != first), "{told:?}");
}

#[test]
fn a_buffer_that_is_free_is_told_and_can_be_had() {
    for watch in BOTH {
        let (server, client) = pair();
        let reader = read_all(client);
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(server, watch).unwrap();
        let content = pattern(3, 3_000_000);
        let end = acks.queue(id, Segment::memory(content.clone()), Tag::Number(1)).unwrap();
        let mut released = Vec::new();
        while released.is_empty() {
            if watch == Watch::Theirs {
                acks.handle_writable(id).unwrap();
            }
            released.extend(
                events(&mut acks).into_iter().filter(|event| matches!(event, Event::Released(..))),
            );
        }
        assert!(matches!(released[..], [Event::Released(which, at)] if which == id && at == end));
        assert!(acks.try_released(id, end).unwrap().unwrap() == content);
        acks.remove(id);
        assert!(reader.join().unwrap() == content);
    }
}

#[test]
fn a_file_that_fails_ends_the_sending_and_not_the_telling() {
    let (server, client) = pair();
    let mut acks = AckQueue::new().unwrap();
    let id = acks.add(server, Watch::Ours).unwrap();
    let content = pattern(4, 300_000);
    acks.queue_file(id, &file_of(&content), 0..300_000).unwrap();
    // Ten bytes short of what was promised.
    acks.queue(id, Segment::file(&file_of(&content[..90]), 0..100), Tag::Number(1)).unwrap();
    let (mut told, mut failed) = (0, 0);
    let reader = discard(client);
    while told < 300_000 || failed == 0 {
        for event in events(&mut acks) {
            match event {
                Event::Acked(_, grown) => told += grown.grown,
                Event::Failed(..) => failed += 1,
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(failed, 1);
    let late = acks.queue(id, Segment::given("late"), Tag::Number(2)).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::NotConnected);
    acks.remove(id);
    reader.join().unwrap();
}

#[test]
fn a_sendfile_of_ones_own_is_followed_by_its_file() {
    for watch in BOTH {
        let (server, client) = pair();
        let reader = discard(client);
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(server, watch).unwrap();
        let (file, len) = (hole(20_000_000), 20_000_000);
        let tag = Tag::File(file.as_raw_fd());
        let mut offset = 0;
        while offset < len {
            let left = usize::try_from(len - offset).unwrap();
            let sent =
                acks.send_with(id, tag, |fd| sendfile::sendfile(fd, file.as_fd(), offset, left));
            match sent {
                Ok(count) => {
                    offset += count as u64;
                    // Each call is a send of its own.
                    follow(&mut acks, id, watch, tag, count as u64);
                }
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
            let progress = acks.progress(id).unwrap();
            assert_eq!((progress.accepted.get(), progress.queued.get()), (offset, offset));
        }
        assert_eq!(acks.progress(id).unwrap().acked.get(), len);
        // Ours go behind theirs, and theirs not before ours.
        acks.queue(id, Segment::given("tail"), Tag::Number(1)).unwrap();
        let refused = acks.send_with(id, tag, |_| panic!("called"));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        follow(&mut acks, id, watch, Tag::Number(1), 4);
        assert_eq!(acks.progress(id).unwrap().acked.get(), len + 4);
        acks.remove(id);
        assert_eq!(reader.join().unwrap(), len + 4);
    }
}

#[test]
fn what_is_cancelled_is_not_sent_and_what_was_accepted_is_told() {
    for watch in BOTH {
        let (server, client) = narrow_pair();
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(server, watch).unwrap();
        acks.queue_file(id, &hole(1 << 30), 0..1 << 30).unwrap();
        acks.queue(id, Segment::given("never"), Tag::Number(9)).unwrap();
        acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
        let accepted = acks.cancel(id).unwrap();
        assert!((1..1 << 30).contains(&accepted.get()));
        let end = acks.queue(id, Segment::given("tail"), Tag::Number(1)).unwrap();
        assert_eq!(end.get(), accepted.get() + 4);
        let reader = read_all(client);
        let mut last = None;
        while last != Some((Tag::Number(1), 4)) {
            if watch == Watch::Theirs {
                acks.handle_writable(id).unwrap();
            }
            for event in events(&mut acks) {
                let grown = grown_of(&event);
                if let Tag::File(_) = grown.tag {
                    assert!(grown.total <= accepted.get() && grown.len == accepted.get());
                }
                assert_ne!(grown.tag, Tag::Number(9));
                last = Some((grown.tag, grown.total));
            }
        }
        acks.remove(id);
        let got = reader.join().unwrap();
        assert_eq!(got.len() as u64, end.get());
        assert!(got.ends_with(b"\0tail"));
    }
}

#[test]
fn a_socket_that_was_removed_is_not_found_and_not_mistaken_for_the_next() {
    let mut acks = AckQueue::new().unwrap();
    let (server, client) = pair();
    let id = acks.add(server, Watch::Ours).unwrap();
    assert!(acks.remove(id));
    assert!(!acks.remove(id));
    let (server, _other) = pair();
    let next = acks.add(server, Watch::Theirs).unwrap();
    assert_ne!(id, next);
    let kinds = [
        acks.queue(id, Segment::given("x"), Tag::Number(0)).err(),
        acks.queue_file(id, &hole(1), 0..1).err(),
        acks.send_with(id, Tag::Number(0), |_| panic!("called")).err(),
        acks.handle_writable(id).err(),
        acks.receive(id, &mut Vec::with_capacity(1)).err(),
        acks.progress(id).err(),
        acks.try_released(id, sluicegate::Position::START).err(),
        acks.cancel(id).err(),
        acks.shutdown(id).err(),
        acks.fd(id).err(),
    ];
    for kind in kinds {
        assert_eq!(kind.unwrap().kind(), ErrorKind::NotFound);
    }
    assert_eq!(discard(client).join().unwrap(), 0);
    assert_eq!(acks.progress(next).unwrap().queued.get(), 0);
}

#[test]
fn requests_are_received_and_the_end_of_them_is_told_once() {
    let (server, mut client) = pair();
    let mut acks = AckQueue::new().unwrap();
    let id = acks.add(server, Watch::Ours).unwrap();
    let mut request = Vec::with_capacity(16);
    let nothing = acks.receive(id, &mut request).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::WouldBlock);
    client.write_all(b"one").unwrap();
    assert!(events(&mut acks).iter().all(|e| matches!(e, Event::Readable(which) if *which == id)));
    assert_eq!(acks.receive(id, &mut request).unwrap(), 3);
    assert!(acks.receive(id, &mut request).is_err());
    client.write_all(b"two").unwrap();
    client.shutdown(Shutdown::Write).unwrap();
    events(&mut acks);
    assert_eq!(acks.receive(id, &mut request).unwrap(), 3);
    eventually("the end", || matches!(acks.receive(id, &mut request), Ok(0)));
    assert_eq!(request, b"onetwo");
    // It still reads. Every event says that it does not send, and is no news.
    acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
    acks.report_every(1000);
    let reader = discard(client);
    acks.queue(id, Segment::given(vec![7; 20_000]), Tag::Number(1)).unwrap();
    follow(&mut acks, id, Watch::Ours, Tag::Number(1), 20_000);
    let mut more = Vec::new();
    acks.wait(&mut more, Some(Duration::from_millis(50))).unwrap();
    assert!(more.is_empty(), "{more:?}");
    acks.remove(id);
    assert_eq!(reader.join().unwrap(), 20_000);
}

#[test]
fn what_another_loop_says_is_readable_can_be_received() {
    let (server, mut client) = pair();
    let mut acks = AckQueue::new().unwrap();
    let id = acks.add(server, Watch::Theirs).unwrap();
    let mut request = Vec::with_capacity(16);
    assert_eq!(acks.receive(id, &mut request).unwrap_err().kind(), ErrorKind::WouldBlock);
    client.write_all(b"hello").unwrap();
    eventually("it is there", || matches!(acks.receive(id, &mut request), Ok(5)));
}

#[test]
fn a_socket_of_another_loop_has_nothing_on_its_error_queue() {
    // Also where the strategy wants references, of which the kernel reports.
    let strategy = Strategy { forced: Some(Way::Zerocopy), ..Strategy::default() };
    let context = SendContext { strategy, ..SendContext::default() };
    let mut acks = AckQueue::with_context(context.into()).unwrap();
    let (server, client) = pair();
    let id = acks.add(server, Watch::Theirs).unwrap();
    let reader = discard(client);
    acks.queue(id, Segment::given(vec![1; HELD]), Tag::Number(1)).unwrap();
    follow(&mut acks, id, Watch::Theirs, Tag::Number(1), HELD as u64);
    acks.send_with(id, Tag::Number(2), |fd| sluicegate_sys::socket::send(fd, b"x", false)).unwrap();
    follow(&mut acks, id, Watch::Theirs, Tag::Number(2), 1);
    assert_eq!(errqueue::next(acks.fd(id).unwrap()).unwrap(), None);
    acks.remove(id);
    assert_eq!(reader.join().unwrap(), HELD as u64 + 1);
}

#[test]
fn sixty_four_sockets_are_served_side_by_side() {
    let mut acks = AckQueue::new().unwrap();
    let files = [hole(300_000), hole(2_000_000), hole(7_000)];
    let (mut totals, mut ids, mut readers) = (vec![[0_u64; 3]; 64], Vec::new(), Vec::new());
    let mut clients: Vec<TcpStream> = Vec::new();
    for _ in 0..64 {
        let (server, client) = pair();
        ids.push(acks.add(server, Watch::Ours).unwrap());
        clients.push(client);
    }
    for &id in &ids {
        for file in &files {
            acks.queue_file(id, file, 0..file.metadata().unwrap().len()).unwrap();
        }
    }
    for client in clients {
        readers.push(discard(client));
    }
    let whole = [300_000, 2_000_000, 7_000];
    let deadline = Instant::now() + peers::PATIENCE;
    while totals.iter().any(|of_one| *of_one != whole) {
        assert!(Instant::now() < deadline);
        for event in events(&mut acks) {
            let socket = ids.iter().position(|id| *id == event.socket()).unwrap();
            let grown = grown_of(&event);
            let Tag::File(fd) = grown.tag else { panic!("{grown:?}") };
            let file = files.iter().position(|file| file.as_raw_fd() == fd).unwrap();
            totals[socket][file] += grown.grown;
            assert_eq!(grown.total, totals[socket][file]);
        }
    }
    drop(acks);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), 2_307_000);
    }
}
