//! Memory that is lent to a socket: it comes back when the kernel refers to it no more, not
//! before, as the very same memory, whichever way its bytes went.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;

use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use sending::{contents, context, may_pin, pair, read_all, run, send_some, socket};
use sluicegate::{Locality, Position, QueueError, Segment, SendContext, SendError, Way, Worker};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

/// What a peer on this host is asked with (`PROBE` of `queue.rs`).
const PROBE: u64 = 1024;

/// As much as these tests have pinned at one time.
const PINNED: u64 = 16 << 20;

fn pinning() -> Need {
    Need::Fact { what: "to pin 16 MiB (RLIMIT_MEMLOCK)", holds: may_pin(PINNED) }
}

fn forced() -> SendContext {
    context(Some(Way::Zerocopy))
}

fn is_invalid(result: Result<Bytes, SendError>) -> bool {
    matches!(result, Err(SendError::Connection(error)) if error.kind() == ErrorKind::InvalidInput)
}

#[test]
fn a_vec_comes_back_as_the_same_allocation_and_can_be_sent_again() {
    for len in [10, 200_000, 20_000_000] {
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let mut socket = socket(server, &worker, context(None));
        let reader = read_all(client);
        let mut first = Vec::with_capacity(len + 100);
        first.extend(contents(len));
        let (address, room) = (first.as_ptr(), first.capacity());
        run(&worker, async move {
            let end = socket.queue(Segment::memory(first)).unwrap();
            let mut buffer = Vec::from(socket.released(end).await.unwrap());
            assert_eq!((buffer.as_ptr(), buffer.len()), (address, len));
            assert_eq!(buffer.capacity(), room);
            for byte in &mut buffer {
                *byte = !*byte;
            }
            let end = socket.queue(Segment::memory(buffer)).unwrap();
            let buffer = Vec::from(socket.released(end).await.unwrap());
            assert_eq!(buffer.as_ptr(), address);
            assert_eq!(socket.accepted_position(), end);
        });
        let got = reader.join().unwrap();
        assert!(got[..len] == contents(len), "{len}");
        assert!(got[len..].iter().map(|byte| !byte).eq(contents(len)), "{len}");
    }
}

#[test]
fn shared_memory_comes_back_and_no_share_of_it_is_kept() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, context(None));
    let reader = read_all(client);
    let shared: Arc<[u8]> = contents(3_000_000).into();
    let kept = Arc::clone(&shared);
    let part = Bytes::from(contents(3_000_000)).slice(1_000_000..2_000_000);
    run(&worker, async move {
        let first = socket.queue(Segment::shared(Arc::clone(&shared))).unwrap();
        let second = socket.queue(Segment::memory(part.clone())).unwrap();
        let bytes = socket.released(second).await.unwrap();
        assert_eq!((bytes.as_ptr(), bytes.len()), (part.as_ptr(), part.len()));
        let bytes = socket.released(first).await.unwrap();
        assert_eq!(bytes.as_ptr(), shared.as_ptr());
        assert_eq!(Arc::strong_count(&shared), 3, "ours, the test's, and the one handed back");
        drop(bytes);
        assert_eq!(Arc::strong_count(&shared), 2);
    });
    let got = reader.join().unwrap();
    assert!(got[..3_000_000] == kept[..]);
    assert!(got[3_000_000..] == kept[1_000_000..2_000_000]);
}

#[test]
fn a_peer_on_this_host_is_asked_once_and_then_has_copies() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let context = Arc::new(context(None));
    let mut socket = socket(server, &worker, Arc::clone(&context));
    let reader = read_all(client);
    run(&worker, async move {
        // Less than what would go by reference: nobody is asked.
        let end = socket.queue(Segment::memory(contents(10_000))).unwrap();
        socket.released(end).await.unwrap();
        assert_eq!(socket.locality(), Locality::Unknown);
        assert_eq!(socket.context().counters.ways().zerocopy, 0);

        let end = socket.queue(Segment::memory(contents(5_000_000))).unwrap();
        socket.released(end).await.unwrap();
        assert_eq!(socket.locality(), Locality::Local);
        let ways = socket.context().counters.ways();
        assert!((1..=PROBE).contains(&ways.zerocopy), "{ways:?}");
        assert_eq!(ways.zerocopy_copied, ways.zerocopy);
        assert_eq!(ways.copied, 5_010_000 - ways.zerocopy);

        let end = socket.queue(Segment::memory(contents(5_000_000))).unwrap();
        socket.released(end).await.unwrap();
        assert_eq!(socket.context().counters.ways().zerocopy, ways.zerocopy);
        assert_eq!(socket.locality(), Locality::Local);
    });
    assert_eq!(reader.join().unwrap().len(), 10_010_000);
    assert_eq!(context.counters.ways().total(), 10_010_000);
}

#[test]
fn only_what_was_lent_can_be_asked_back_and_only_once() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, context(None));
    let reader = read_all(client);
    run(&worker, async move {
        assert!(is_invalid(socket.released(socket.queued()).await));
        let given = socket.queue(Segment::given("given")).unwrap();
        let lent = socket.queue(Segment::memory("lent")).unwrap();
        let other = socket.queue(Segment::memory("other")).unwrap();
        for end in [given, lent.advanced(1), other.advanced(100)] {
            assert!(is_invalid(socket.released(end).await), "{end}");
        }
        assert_eq!(socket.released(lent).await.unwrap(), "lent");
        assert!(is_invalid(socket.released(lent).await), "a second time");
        assert_eq!(socket.try_released(lent), None);
        assert_eq!(socket.released(other).await.unwrap(), "other");
        assert!(is_invalid(socket.released(other).await), "a second time");
    });
    assert_eq!(reader.join().unwrap(), b"givenlentother");
}

#[test]
fn buffers_that_end_at_the_same_place_come_back_in_their_order() {
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, context(None));
    let reader = read_all(client);
    run(&worker, async move {
        let none = socket.queue(Segment::memory(Bytes::new())).unwrap();
        assert_eq!((none, socket.queued()), (Position::START, Position::START));
        assert_eq!(socket.released(none).await.unwrap(), "");
        let cancelled = socket.queue(Segment::memory("not this")).unwrap();
        assert_eq!(socket.cancel(), Position::START);
        let end = socket.queue(Segment::memory("but that")).unwrap();
        let empty = socket.queue(Segment::memory(Bytes::new())).unwrap();
        assert_eq!((cancelled, empty), (end, end));
        for expected in ["not this", "but that", ""] {
            assert_eq!(socket.released(end).await.unwrap(), expected);
        }
        assert!(is_invalid(socket.released(end).await));
    });
    assert_eq!(reader.join().unwrap(), b"but that");
}

#[test]
fn buffers_that_nobody_asks_back_fill_the_queue() {
    const LIMIT: u64 = 1024;
    let worker = Worker::new().unwrap();
    let (server, client) = pair();
    let mut socket = socket(server, &worker, context(None));
    let reader = read_all(client);
    run(&worker, async move {
        for n in 1..=LIMIT {
            assert_eq!(socket.queue(Segment::memory("x")).unwrap().get(), n);
            if n % 100 == 0 {
                socket.flush().await.unwrap();
            }
        }
        socket.flush().await.unwrap();
        assert_eq!(socket.room(), 0, "nothing waits to be sent, but to be asked back");
        assert_eq!(socket.queue(Segment::memory("y")), Err(QueueError::Full { limit: 1024 }));
        assert_eq!(socket.queued().get(), LIMIT, "nothing was queued");
        // What is not lent goes on.
        socket.queue(Segment::given("z")).unwrap();
        socket.released(Position::new(500)).await.unwrap();
        socket.queue(Segment::memory("y")).unwrap();
        assert!(socket.queue(Segment::memory("y")).is_err());
        socket.flush().await.unwrap();
    });
    let got = reader.join().unwrap();
    assert_eq!(got, ["x".repeat(1024), "zy".to_owned()].concat().as_bytes());
}

#[test]
fn a_cancelled_buffer_comes_back_though_nobody_reads() {
    for forced in [None, Some(Way::Copy)] {
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let mut socket = socket(server, &worker, context(forced));
        let buffer = contents(32 << 20);
        let address = buffer.as_ptr();
        let end = socket.queue(Segment::memory(buffer)).unwrap();
        let behind = socket.queue(Segment::memory("behind")).unwrap();
        assert!(!send_some(&mut socket), "32 MiB cannot be accepted without a reader");
        assert!(socket.try_released(end).is_none(), "part of it is still to be sent");
        let accepted = socket.cancel();
        assert!(accepted < end);
        run(&worker, async move {
            assert_eq!(socket.released(end).await.unwrap().as_ptr(), address);
            assert_eq!(socket.released(behind).await.unwrap(), "behind");
            // The stream goes on where the kernel has it.
            let end = socket.queue(Segment::memory("and on")).unwrap();
            assert_eq!(end, accepted.advanced(6));
            let reader = read_all(client);
            assert_eq!(socket.released(end).await.unwrap(), "and on");
            drop(socket);
            let (got, sent) = (reader.join().unwrap(), accepted.get() as usize);
            assert!(got[..sent] == contents(32 << 20)[..sent]);
            assert_eq!(&got[sent..], b"and on");
        });
    }
}

#[test]
fn after_a_reset_a_buffer_comes_back_when_the_rest_was_cancelled() {
    require!(pinning());
    for context in [forced(), context(None)] {
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let mut socket = socket(server, &worker, context);
        let buffer = contents(32 << 20);
        let address = buffer.as_ptr();
        let end = socket.queue(Segment::memory(buffer)).unwrap();
        assert!(!send_some(&mut socket), "nobody reads");
        // Closed with unread data: a reset.
        drop(client);
        run(&worker, async move {
            assert!(matches!(socket.released(end).await, Err(SendError::Connection(_))));
            assert!(socket.flush().await.is_err());
            socket.cancel();
            assert_eq!(socket.released(end).await.unwrap().as_ptr(), address);
            assert_eq!(socket.referenced(), 0);
        });
    }
}
