//! An [`AckQueue`] inside somebody else's epoll loop.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod peers;

use std::io::Write;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use peers::{PATIENCE, discard, hole, narrow_pair, pair};
use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use sluicegate::{AckQueue, Event, SocketId, Watch};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

/// The loop of a program that has one already.
struct Outer {
    set: OwnedFd,
    wakeups: u32,
}

const ACKS: u64 = u64::MAX;

impl Outer {
    fn around(acks: &AckQueue, flags: EventFlags) -> Outer {
        let set = epoll::create(CreateFlags::CLOEXEC).unwrap();
        epoll::add(&set, acks, EventData::new_u64(ACKS), flags).unwrap();
        Outer { set, wakeups: 0 }
    }

    /// What is ready, with its flags; nothing after `timeout`.
    fn wait(&mut self, timeout: Duration) -> Vec<(u64, EventFlags)> {
        let mut ready = Vec::with_capacity(64);
        let timeout = Timespec::try_from(timeout).unwrap();
        epoll::wait(&self.set, spare_capacity(&mut ready), Some(&timeout)).unwrap();
        self.wakeups += u32::from(!ready.is_empty());
        ready.iter().map(|event| (event.data.u64(), event.flags)).collect()
    }
}

const LEN: u64 = 30_000_000;

#[test]
fn a_level_triggered_loop_with_sockets_of_its_own_sees_no_error_and_does_not_spin() {
    let mut acks = AckQueue::new().unwrap();
    let mut outer = Outer::around(&acks, EventFlags::IN);
    let file = hole(LEN);
    let mut sockets: Vec<(SocketId, u64, bool)> = Vec::new();
    let mut clients: Vec<TcpStream> = Vec::new();
    for key in 0..3 {
        let (server, client) = narrow_pair();
        let id = acks.add(server, Watch::Theirs).unwrap();
        let fd = acks.fd(id).unwrap();
        epoll::add(&outer.set, fd, EventData::new_u64(key), EventFlags::OUT).unwrap();
        acks.queue_file(id, &file, 0..LEN).unwrap();
        sockets.push((id, 0, true));
        clients.push(client);
    }
    // Nobody reads at first; then everybody does.
    let mut clients = Some(clients);
    let mut readers = Vec::new();
    let stalled_until = Instant::now() + Duration::from_millis(400);
    let deadline = Instant::now() + PATIENCE;
    while sockets.iter().any(|(_, told, _)| *told < LEN) {
        assert!(Instant::now() < deadline, "{sockets:?}");
        if Instant::now() >= stalled_until
            && let Some(clients) = clients.take()
        {
            // Looks by the clock, at last a hundred times a second, of three
            // sockets; and what was sent before.
            assert!(outer.wakeups < 300, "{} wakeups while nothing moved", outer.wakeups);
            readers.extend(clients.into_iter().map(discard));
        }
        for (key, flags) in outer.wait(Duration::from_millis(50)) {
            assert!(!flags.intersects(EventFlags::ERR | EventFlags::HUP), "{flags:?}");
            if key != ACKS {
                acks.handle_writable(sockets[usize::try_from(key).unwrap()].0).unwrap();
            }
        }
        let mut events = Vec::new();
        acks.wait(&mut events, Some(Duration::ZERO)).unwrap();
        for event in events {
            let Event::Acked(id, grown) = event else { panic!("{event:?}") };
            let socket = sockets.iter_mut().find(|(which, ..)| *which == id).unwrap();
            socket.1 += grown.grown;
            assert_eq!(socket.1, grown.total);
        }
        // As a loop does that writes by itself: it waits for room as long as
        // something is to be sent.
        for (key, (id, _, wanted)) in sockets.iter_mut().enumerate() {
            let progress = acks.progress(*id).unwrap();
            let wants = progress.accepted < progress.queued;
            if std::mem::replace(wanted, wants) != wants {
                let flags = if wants { EventFlags::OUT } else { EventFlags::empty() };
                let key = EventData::new_u64(key as u64);
                epoll::modify(&outer.set, acks.fd(*id).unwrap(), key, flags).unwrap();
            }
        }
    }
    // Then there is nothing to look after.
    outer.wakeups = 0;
    let end = Instant::now() + Duration::from_millis(150);
    while Instant::now() < end {
        for (_, flags) in outer.wait(Duration::from_millis(50)) {
            assert!(!flags.contains(EventFlags::ERR));
            acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
        }
    }
    assert!(outer.wakeups <= 2, "{} wakeups for nothing", outer.wakeups);
    drop(acks);
    for reader in readers {
        assert_eq!(reader.join().unwrap(), LEN);
    }
}

#[test]
fn its_descriptor_wakes_a_level_and_an_edge_triggered_loop_for_many_sockets() {
    for flags in [EventFlags::IN, EventFlags::IN | EventFlags::ET] {
        let mut acks = AckQueue::new().unwrap();
        let mut outer = Outer::around(&acks, flags);
        let files = [hole(3_000_000), hole(50_000)];
        let each: u64 = files.iter().map(|file| file.metadata().unwrap().len()).sum();
        let (mut ids, mut readers) = (Vec::new(), Vec::new());
        let mut told = 0;
        const SOCKETS: u64 = 16;
        for number in 0..SOCKETS {
            let (server, client) = pair();
            let watch = if number % 4 == 3 { Watch::Theirs } else { Watch::Ours };
            let id = acks.add(server, watch).unwrap();
            if watch == Watch::Theirs {
                let (fd, key) = (acks.fd(id).unwrap(), EventData::new_u64(number));
                let edge = EventFlags::OUT | EventFlags::ET;
                epoll::add(&outer.set, fd, key, edge).unwrap();
            }
            for file in &files {
                acks.queue_file(id, file, 0..file.metadata().unwrap().len()).unwrap();
            }
            readers.push(discard(client));
            ids.push(id);
        }
        let deadline = Instant::now() + PATIENCE;
        while told < SOCKETS * each {
            assert!(Instant::now() < deadline);
            let ready = outer.wait(PATIENCE);
            assert!(!ready.is_empty(), "{flags:?}: not woken, at {told}");
            let mut events = Vec::new();
            for (key, _) in ready {
                match key {
                    ACKS => {
                        acks.wait(&mut events, Some(Duration::ZERO)).unwrap();
                    }
                    key => acks.handle_writable(ids[usize::try_from(key).unwrap()]).unwrap(),
                }
            }
            for event in events {
                let Event::Acked(_, grown) = event else { panic!("{event:?}") };
                told += grown.grown;
            }
        }
        assert_eq!(told, SOCKETS * each);
        // A report or a look may be left over; then it is quiet.
        outer.wakeups = 0;
        let end = Instant::now() + Duration::from_millis(300);
        while Instant::now() < end {
            if !outer.wait(Duration::from_millis(50)).is_empty() {
                acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
            }
        }
        assert!(outer.wakeups < 100, "{flags:?}: {} wakeups for nothing", outer.wakeups);
        drop(acks);
        for reader in readers {
            assert_eq!(reader.join().unwrap(), each);
        }
    }
}

#[test]
fn an_edge_triggered_loop_is_woken_again_for_what_one_wait_had_no_room_for() {
    require!(Need::Descriptors(2_000));
    const SOCKETS: usize = 600;
    let mut acks = AckQueue::new().unwrap();
    let mut outer = Outer::around(&acks, EventFlags::IN | EventFlags::ET);
    let mut clients = Vec::new();
    for _ in 0..SOCKETS {
        let (server, client) = pair();
        acks.add(server, Watch::Ours).unwrap();
        clients.push(client);
    }
    // They begin writable.
    while !outer.wait(Duration::from_millis(50)).is_empty() {
        acks.wait(&mut Vec::new(), Some(Duration::ZERO)).unwrap();
    }
    for client in &mut clients {
        client.write_all(b"?").unwrap();
    }
    let mut told = 0;
    while told < SOCKETS {
        assert!(!outer.wait(Duration::from_secs(5)).is_empty(), "not woken, at {told}");
        let mut events = Vec::new();
        acks.wait(&mut events, Some(Duration::ZERO)).unwrap();
        told += events.iter().filter(|event| matches!(event, Event::Readable(_))).count();
    }
    assert_eq!(told, SOCKETS);
}
