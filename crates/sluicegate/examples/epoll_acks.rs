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
    let file = Arc::new(File::open(args.next().ok_or("which file, of a byte or more?")?)?);
    let len = file.metadata()?.len();
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
                continue;
            }
            match listener.accept() {
                Ok((stream, peer)) => {
                    let Ok(id) = acks.add(stream, Watch::Ours) else { continue };
                    // Returns at once, whatever the size of the file.
                    acks.queue_file(id, &file, 0..len)?;
                    peers.insert(id, peer);
                }
                // Out of descriptors: who waits is still in the queue then.
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        }
        for event in events.drain(..) {
            let id = event.socket();
            let is_over = match event {
                Event::Acked(_, grown) => {
                    println!("{}: {} of {} bytes", peers[&id], grown.total, grown.len);
                    grown.total == grown.len
                }
                Event::Failed(_, error) => {
                    println!("{}: {error}", peers[&id]);
                    true
                }
                // This protocol has no requests.
                _ => false,
            };
            if is_over && acks.remove(id) {
                peers.remove(&id);
            }
        }
    }
}
