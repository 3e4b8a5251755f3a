//! An event loop of one's own, with acknowledgement events in it and no runtime:
//! `epoll_acks FILE [ADDRESS]` sends the file to everyone who connects
//! (`nc 127.0.0.1 8080 > copy`) and tells how much of it has arrived.

use std::collections::HashMap;
use std::error::Error;
use std::fs::File;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustix::io::Errno;
use sluicegate::{AckQueue, Event, Watch};

const LISTENER: u64 = 0;
const ACKS: u64 = 1;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = Arc::new(File::open(args.next().ok_or("which file?")?)?);
    let len = file.metadata()?.len();
    if len == 0 {
        return Err("nothing of an empty file can be acknowledged".into());
    }
    let listener = TcpListener::bind(args.next().unwrap_or("127.0.0.1:8080".into()))?;
    listener.set_nonblocking(true)?;
    println!("tcp://{}", listener.local_addr()?);

    // The queue watches its sockets itself. All that this loop has of them is
    // the queue's own descriptor, beside whatever else it waits for.
    let mut acks = AckQueue::new()?;
    let set = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&set, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
    epoll::add(&set, &acks, EventData::new_u64(ACKS), EventFlags::IN)?;

    let mut peers = HashMap::new();
    let (mut ready, mut events) = (Vec::with_capacity(16), Vec::new());
    loop {
        ready.clear();
        match epoll::wait(&set, spare_capacity(&mut ready), None) {
            Err(Errno::INTR) => continue,
            result => result?,
        };
        for event in &ready {
            if event.data.u64() == ACKS {
                // Sends what the sockets take, and collects what has happened.
                acks.wait(&mut events, Some(Duration::ZERO))?;
            } else if let Ok((stream, peer)) = listener.accept() {
                let id = acks.add(stream, Watch::Ours)?;
                // Returns at once, whatever the size of the file.
                acks.queue_file(id, &file, 0..len)?;
                peers.insert(id, peer);
            }
        }
        for event in events.drain(..) {
            match event {
                Event::Acked(id, grown) => {
                    println!("{}: {} of {} bytes", peers[&id], grown.total, grown.len);
                    if grown.total == grown.len {
                        acks.remove(id);
                    }
                }
                Event::Failed(id, error) => {
                    println!("{}: {error}", peers[&id]);
                    acks.remove(id);
                }
                // This protocol has no requests.
                _ => {}
            }
        }
    }
}
