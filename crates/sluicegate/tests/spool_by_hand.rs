//! What is put into a spool by hand, since it did not come by a socket of its own.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[allow(dead_code)] // Another test uses the rest of it.
mod relay;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;

use relay::{all_given_back, on_disk, options, pair, pattern, receive, socket, spool};
use sluicegate::{Segment, SendContext, Worker};

const MIB: u64 = 1024 * 1024;

#[test]
fn what_is_put_in_by_hand_goes_to_the_disk_where_memory_is_full() {
    put_in_by_hand(MIB, 256 * MIB);
}

#[test]
fn what_is_put_in_by_hand_goes_to_the_disk_where_the_budget_is_used_up() {
    put_in_by_hand(64 * MIB, MIB);
}

/// 4 MiB with no more than 1 MiB in memory.
fn put_in_by_hand(memory: u64, budget: u64) {
    let directory = tempfile::tempdir().unwrap();
    let context = Arc::new(SendContext::default());
    let worker = Worker::new().unwrap();
    let (to, client) = pair();
    let mut to = socket(to, worker.reactor(), &context);
    let (mut spool, budget) =
        spool(on_disk(memory, 4 * MIB, 64 * 1024, &directory), budget, &context);
    let content = pattern(4 << 20);
    let reader = receive(client, 64 * 1024, |_| ());
    let all = content.clone();
    let seen = worker
        .run(async move {
            let mut at = 0;
            poll_fn(|cx| {
                // The sink gets nothing, so all of it has to wait.
                while let wanted @ 1.. = spool.poll_wanted(cx, &mut to) {
                    let end = all.len().min(at + usize::try_from(wanted).unwrap().min(5000));
                    if at == end {
                        break;
                    }
                    spool.push(Bytes::copy_from_slice(&all[at..end]));
                    spool.handle_accepted(0);
                    at = end;
                }
                Poll::Ready(())
            })
            .await;
            assert_eq!(at, all.len());
            assert!(spool.peak() <= MIB, "{}", spool.peak());
            spool.expect(Some(0));
            while let Some(segment) = spool.segment() {
                to.queue(segment).unwrap();
            }
            to.flush().await.unwrap();
            spool.handle_accepted(spool.held());
            to.shutdown().unwrap();
            spool.bytes()
        })
        .unwrap();
    assert!(reader.join().unwrap() == content, "the body differs");
    assert_eq!(seen.disk + seen.copied, 4 * MIB);
    assert!(seen.disk > 2 * MIB, "{seen:?}");
    all_given_back(&budget);
}

#[test]
fn small_pieces_that_wait_wait_together() {
    const PIECES: usize = 10_000;
    let context = Arc::new(SendContext::default());
    let (mut spool, budget) = spool(options(MIB), 256 * MIB, &context);
    let content = pattern(20 * PIECES);
    let mut pieces = content.chunks(20);
    let text = |segment: &Segment| match segment {
        Segment::Memory(bytes) => bytes.clone(),
        other => panic!("{other:?}"),
    };
    // One that finds nothing before it goes on at once.
    spool.push(Bytes::copy_from_slice(pieces.next().unwrap()));
    let mut segments = vec![text(&spool.segment().unwrap())];
    assert_eq!(segments[0].len(), 20);
    for (at, piece) in pieces.enumerate() {
        spool.push(Bytes::copy_from_slice(piece));
        // Something larger comes in between, once.
        if at == PIECES / 2 {
            spool.push(Bytes::from(vec![1; 5000]));
        }
        spool.handle_accepted(0);
        segments.extend(std::iter::from_fn(|| spool.segment()).map(|segment| text(&segment)));
    }
    assert_eq!(budget.held(), spool.held());
    spool.expect(Some(0));
    segments.extend(std::iter::from_fn(|| spool.segment()).map(|segment| text(&segment)));
    assert!(segments.len() < 10, "{}", segments.len());
    spool.handle_accepted(spool.held());
    assert_eq!(budget.held(), 0);
    let end = 20 * (PIECES / 2 + 2);
    let expected = [&content[..end], &[1; 5000], &content[end..]].concat();
    assert!(segments.concat() == expected, "they are not in order");
}
