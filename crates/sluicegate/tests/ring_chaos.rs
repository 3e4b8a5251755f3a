//! Eight threads write through one small ring to 64 connections at once, over a wire that loses,
//! delays, reorders and doubles packets, while readers are killed and sockets are closed with
//! bytes in flight: nobody gets a byte that is not his, not even in a packet that comes late.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;
mod wire_capture;

use std::io::Read;
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use sending::{SOON, context_at, pair_between};
use sluicegate::{
    AckQueue, Connection, Event, Locality, Region, Ring, RingCounters, SendContext, SocketId, Tag,
    Watch,
};
use sluicegate_testkit::corpus::{self, Verifier};
use sluicegate_testkit::lab::{Conditions, Direction, Lab, Wire, WireControl};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use sluicegate_testkit::scripted::Random;
use wire_capture::Packets;

const STREAMS: usize = 64;
const WRITERS: usize = 8;
const PARTITION: usize = 32 * 1024;
const PARTITIONS: usize = 32;
/// What each connection is sent, if nothing happens to it.
const LEN: u64 = 6 * PARTITION as u64;

/// One connection's content, and how much of it was queued.
struct Stream {
    seed: u64,
    connection: Connection,
    id: SocketId,
    written: Mutex<u64>,
    /// It is closed, or its reader is dead: nothing more is written.
    is_over: AtomicBool,
    /// Its reader resets it when it has read so many bytes.
    killed_at: Option<u64>,
    /// Its socket is closed when so many bytes are queued.
    closed_at: Option<u64>,
}

enum Command {
    Send(usize, Region),
    Close(usize),
}

/// Sends what the writers make until all streams are over.
fn serve(mut acks: AckQueue, streams: &[Stream], commands: &Receiver<Command>) {
    let mut events = Vec::new();
    let mut left = STREAMS;
    let mut is_done = [false; STREAMS];
    let deadline = Instant::now() + 4 * SOON;
    while left > 0 {
        assert!(Instant::now() < deadline, "{left} streams hang");
        for command in commands.try_iter() {
            let (Command::Send(index, _) | Command::Close(index)) = &command;
            let (index, stream) = (*index, &streams[*index]);
            if is_done[index] {
                continue;
            }
            match command {
                Command::Send(_, region) => {
                    // One that has failed says so in an event, too.
                    let _ = acks.queue(stream.id, region, Tag::Number(index as u64));
                }
                Command::Close(_) => {
                    acks.remove(stream.id);
                    (is_done[index], left) = (true, left - 1);
                }
            }
        }
        acks.wait(&mut events, Some(Duration::from_millis(1))).unwrap();
        for event in events.drain(..) {
            if let Event::Failed(id, _) = event {
                let index = streams.iter().position(|stream| stream.id == id).unwrap();
                assert!(streams[index].killed_at.is_some(), "nobody killed number {index}");
                streams[index].is_over.store(true, Ordering::Relaxed);
                acks.remove(id);
                (is_done[index], left) = (true, left - 1);
            }
        }
        for (index, stream) in streams.iter().enumerate() {
            let is_written = stream.written.try_lock().is_ok_and(|written| *written == LEN);
            if is_done[index] || !is_written {
                continue;
            }
            let progress = acks.progress(stream.id).unwrap();
            if progress.acked.get() == LEN {
                // A killed reader's kernel may have all of it.
                let _ = acks.shutdown(stream.id);
                acks.remove(stream.id);
                (is_done[index], left) = (true, left - 1);
            }
        }
    }
}

/// Writes the next piece of streams that chance chooses, until all have theirs.
fn write(number: usize, ring: &Ring, streams: &[Stream], commands: &Sender<Command>) {
    let mut random = Random::new(1_000 + number as u64);
    let is_over = |stream: &Stream| stream.is_over.load(Ordering::Relaxed);
    while !streams.iter().all(is_over) {
        let index = usize::try_from(random.below(STREAMS as u64)).unwrap();
        let stream = &streams[index];
        let Ok(mut written) = stream.written.try_lock() else { continue };
        if is_over(stream) {
            continue;
        }
        let time = Duration::from_millis(50);
        let Some(mut lease) = ring.acquire_within(Some(stream.connection), time).unwrap() else {
            continue;
        };
        corpus::fill(stream.seed, *written, &mut lease);
        if random.one_in(16) {
            // Something went wrong: it is reverted, and written again by somebody.
            continue;
        }
        *written += PARTITION as u64;
        let _ = commands.send(Command::Send(index, lease.publish(PARTITION)));
        if stream.closed_at == Some(*written) {
            let _ = commands.send(Command::Close(index));
        }
        if stream.closed_at == Some(*written) || *written == LEN {
            stream.is_over.store(true, Ordering::Relaxed);
        }
    }
}

/// Reads to the end, or until the reader is killed; all of it is the stream's.
fn read(stream: &Stream, mut client: TcpStream, completed: &AtomicUsize) {
    let mut verifier = Verifier::new(stream.seed, 0);
    let mut buffer = vec![0; 8 * 1024];
    let mut random = Random::new(stream.seed);
    loop {
        if random.one_in(8) {
            thread::sleep(Duration::from_millis(1));
        }
        match client.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => verifier.update(&buffer[..count]).unwrap(),
            // Closed with bytes in flight.
            Err(_) => break,
        }
        if stream.killed_at.is_some_and(|at| verifier.position() >= at) {
            rustix::net::sockopt::set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
            return;
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    if stream.killed_at.is_none() && stream.closed_at.is_none() {
        assert_eq!(verifier.position(), LEN, "an honest one gets all");
        completed.fetch_add(1, Ordering::Relaxed);
    }
}

/// All of it; returns the server's ports, and what the ring has done.
fn chaos(lab: &Lab, context: SendContext, control: Option<&WireControl>) -> RingCounters {
    let ring = Ring::builder().size(PARTITIONS * PARTITION).partitions(PARTITIONS).build().unwrap();
    let mut acks = AckQueue::with_context(Arc::new(context)).unwrap();
    let mut clients = Vec::new();
    let mut packets = Packets::default();
    let streams: Vec<Stream> = (0..STREAMS)
        .map(|index| {
            let (server, client) = pair_between(lab.server(), lab.client());
            let seed = 5_000 + index as u64;
            packets.expect(&client, seed);
            clients.push(client);
            let id = acks.add(server, Watch::Ours).unwrap();
            Stream {
                seed,
                id,
                connection: acks.connection(id).unwrap(),
                written: Mutex::new(0),
                is_over: AtomicBool::new(false),
                killed_at: (index % 8 == 3).then_some(PARTITION as u64 * (index as u64 % 5)),
                closed_at: (index % 8 == 6).then_some(PARTITION as u64 * (1 + index as u64 % 4)),
            }
        })
        .collect();
    let (sender, commands) = channel();
    let completed = AtomicUsize::new(0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (ring, streams, completed, is_over) = (&ring, &streams[..], &completed, &is_over);
        for (stream, client) in streams.iter().zip(clients) {
            scope.spawn(move || read(stream, client, completed));
        }
        for number in 0..WRITERS {
            let sender = sender.clone();
            scope.spawn(move || write(number, ring, streams, &sender));
        }
        if let Some(control) = control {
            // Acknowledgements that come later than the sender waits: it sends again what has
            // arrived.
            scope.spawn(move || {
                let usual = control.conditions(Direction::ToServer);
                while !is_over.load(Ordering::Relaxed) {
                    thread::sleep(Duration::from_millis(300));
                    let delay = Duration::from_millis(450);
                    control.set(Direction::ToServer, Conditions { delay, ..usual });
                    thread::sleep(Duration::from_millis(30));
                    control.set(Direction::ToServer, usual);
                }
            });
        }
        serve(acks, streams, &commands);
        is_over.store(true, Ordering::Relaxed);
    });
    drop(commands);
    assert_eq!(completed.into_inner(), STREAMS * 6 / 8);
    assert_eq!(ring.free(), PARTITIONS, "nothing stays behind: {:?}", ring.counters());
    if let Some(control) = control {
        packets.verify(&control.take_captured(), PARTITION as u64, LEN / PARTITION as u64);
    }
    let counters = ring.counters();
    assert_eq!(counters.quarantined, 0);
    counters
}

#[test]
fn nobody_gets_a_byte_of_another_over_a_wire_that_loses_and_doubles() {
    require!(Need::TrueWire);
    let conditions = Conditions {
        delay: Duration::from_millis(2),
        drop_one_in: 100,
        duplicate_one_in: 100,
        reorder_one_in: 100,
        ..Conditions::default()
    };
    let lab = Lab::wire(Wire { seed: 9, ..Wire::with(conditions) }).unwrap();
    let control = lab.wire_control().unwrap();
    control.capture(300_000);
    let counters = chaos(&lab, context_at(Locality::Remote), Some(control));
    assert_eq!(counters.bytes_copied, 0, "{counters:?}");
    assert!(counters.replaced > 100, "partitions change hands: {counters:?}");
}

#[test]
fn nobody_gets_a_byte_of_another_on_one_host() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().unwrap();
    let counters = chaos(&lab, SendContext::default(), None);
    assert_eq!(counters.bytes_sendfile, 0, "{counters:?}");
    assert!(counters.copied > 100, "{counters:?}");
}
