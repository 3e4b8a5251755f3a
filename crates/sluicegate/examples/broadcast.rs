//! One source to a thousand sockets: `broadcast FILE [READERS] [ADDRESS]` waits
//! until so many have connected (`nc 127.0.0.1 8080 > copy`), and sends the file
//! to all of them. It may be `/dev/stdin`.
//!
//! The file is read once, and the sockets refer to what was read: memory has it
//! once, not a thousand times. A partition is free when every socket has taken
//! what was in it, and gets fresh pages then, since not all have received it
//! yet. So the slowest reader sets the pace; `live_feed` has another way.

use std::io::{self, Read};
use std::{collections::HashMap, error::Error, fs::File, net::TcpListener, time::Duration};

use sluicegate::{AckQueue, Event, Ring, SocketId, Tag, Watch, os};

/// How many bytes each reader has acknowledged.
type Readers = HashMap<SocketId, u64>;

/// Sends what the sockets take, and strikes off whose connection has failed.
/// Waits for an event until the time is over.
fn turn(acks: &mut AckQueue, readers: &mut Readers, time: Option<Duration>) -> io::Result<()> {
    let mut events = Vec::new();
    acks.wait(&mut events, time)?;
    for event in events {
        match event {
            Event::Acked(id, grown) => *readers.entry(id).or_default() += grown.grown,
            Event::Failed(id, error) => {
                eprintln!("a reader: {error}");
                readers.remove(&id);
                acks.remove(id);
            }
            _ => {} // A reader has nothing to say.
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let source = File::open(args.next().ok_or("which file?")?)?;
    let count: usize = args.next().unwrap_or("1000".into()).parse()?;
    let listener = TcpListener::bind(args.next().unwrap_or("127.0.0.1:8080".into()))?;
    println!("tcp://{}", listener.local_addr()?);
    os::raise_descriptors()?;

    let (mut acks, mut readers) = (AckQueue::new()?, Readers::new());
    while readers.len() < count {
        readers.insert(acks.add(listener.accept()?.0, Watch::Ours)?, 0);
    }
    let (ring, mut total) = (Ring::builder().build()?, 0);
    loop {
        let Some(mut lease) = ring.try_acquire(None)? else {
            turn(&mut acks, &mut readers, None)?;
            continue;
        };
        let len = io::copy(&mut (&source).take(lease.len() as u64), &mut lease)?;
        if len == 0 {
            break;
        }
        let region = lease.publish_written();
        for id in readers.keys() {
            acks.queue(*id, region.clone(), Tag::Number(region.version()))?;
        }
        total += len;
        turn(&mut acks, &mut readers, Some(Duration::ZERO))?;
    }
    let mut served = 0;
    loop {
        // Closed when everything has arrived.
        for (id, _) in readers.extract_if(|_, acked| *acked == total) {
            served += usize::from(acks.remove(id));
        }
        if readers.is_empty() {
            break;
        }
        turn(&mut acks, &mut readers, None)?;
    }
    println!("{served} of {count} have all {total} bytes; the ring: {:?}", ring.counters());
    Ok(())
}
