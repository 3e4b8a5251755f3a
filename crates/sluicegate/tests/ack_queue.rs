//! Acknowledgement events without a runtime.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use sluicegate::{AckQueue, Event, Segment, Tag, Watch};

const LIMIT: Option<Duration> = Some(Duration::from_secs(10));

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

fn file_of(len: usize) -> Arc<std::fs::File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![7; len]).unwrap();
    Arc::new(file)
}

#[test]
fn each_send_is_told_in_parts_that_sum_to_it() {
    for watch in [Watch::Ours, Watch::Theirs] {
        let (server, mut client) = pair();
        let mut acks = AckQueue::new().unwrap();
        let id = acks.add(server, watch).unwrap();
        let file = file_of(5_000_000);
        acks.queue(id, Segment::memory("head"), Tag::Number(1)).unwrap();
        acks.queue_file(id, &file, 0..5_000_000).unwrap();
        acks.queue(id, Segment::memory("tail"), Tag::Number(2)).unwrap();
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all.len()
        });
        let mut totals = [0_u64; 3];
        let mut events = Vec::new();
        while totals != [4, 5_000_000, 4] {
            if watch == Watch::Theirs {
                acks.handle_writable(id).unwrap();
            }
            assert!(acks.wait(&mut events, LIMIT).unwrap() > 0, "{watch:?}: {totals:?}");
            for event in events.drain(..) {
                let Event::Acked(_, grown) = event else { panic!("{event:?}") };
                let at = match grown.tag {
                    Tag::Number(1) => 0,
                    Tag::File(_) => 1,
                    Tag::Number(_) => 2,
                };
                totals[at] += grown.grown;
                assert_eq!(grown.total, totals[at]);
            }
        }
        acks.remove(id);
        assert_eq!(reader.join().unwrap(), 5_000_008);
    }
}
