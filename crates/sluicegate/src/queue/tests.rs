use super::*;
use crate::segment::Piped;

fn queue(parts: Vec<(Segment<u8>, Way)>) -> SendQueue<u8> {
    let mut queue = SendQueue::new(Position::START);
    for (segment, way) in parts {
        queue.push(segment, way).unwrap();
    }
    queue
}

fn memory(len: usize) -> (Segment<u8>, Way) {
    (Segment::memory(vec![0; len]), Way::Copy)
}

fn file(len: u64, way: Way) -> (Segment<u8>, Way) {
    (Segment::range(1, 0..len), way)
}

#[test]
fn a_head_says_more_exactly_when_a_body_follows() {
    let queue_both = queue(vec![memory(10), file(1 << 20, Way::Sendfile)]);
    assert!(matches!(queue_both.poll_transmit(), Some(Transmit::Send { more: true, .. })));
    let alone = queue(vec![memory(10)]);
    assert!(matches!(alone.poll_transmit(), Some(Transmit::Send { more: false, .. })));
}

#[test]
fn a_copied_file_joins_the_head_in_one_send() {
    let mut queue = queue(vec![memory(10), file(100, Way::Copy)]);
    let Some(Transmit::Stage { offset: 0, len: 100, .. }) = queue.poll_transmit() else {
        panic!("{:?}", queue.poll_transmit());
    };
    queue.handle_staged(Bytes::from(vec![1; 100]));
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: false, .. })));
    assert_eq!(queue.slices().map(<[u8]>::len).collect::<Vec<_>>(), [10, 100]);
    queue.handle_accepted(110);
    assert!(queue.poll_transmit().is_none());
    assert!(queue.is_empty());
}

#[test]
fn what_is_in_the_pipe_is_drained_before_anything_else() {
    let mut queue = queue(vec![file(1000, Way::Splice), memory(5)]);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Fill { offset: 0, .. })));
    queue.handle_piped(600);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Drain { len: 600, more: true, .. })));
    queue.handle_accepted(250);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Drain { len: 350, more: true, .. })));
    assert!(!queue.handle_refused(), "bytes in the pipe cannot change their way");
    queue.handle_accepted(350);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Fill { offset: 600, len: 400, .. })));
}

#[test]
fn a_file_with_a_tail_behind_it_leaves_with_it() {
    let mut queue = queue(vec![memory(10), file(60_000, Way::Sendfile)]);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: true, .. })));
    queue.announce_more(50_000);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: true, .. })), "too long");
    queue.announce_more(60_000);
    queue.push(Segment::memory("tail"), Way::Copy).unwrap();
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Stage { len: 60_000, .. })));
    queue.handle_staged(Bytes::from(vec![1; 60_000]));
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: false, .. })));
    assert_eq!(queue.slices().map(<[u8]>::len).collect::<Vec<_>>(), [10, 60_000, 4]);
}

#[test]
fn a_refused_way_falls_back_until_the_copy() {
    let mut queue = queue(vec![file(1000, Way::Splice)]);
    assert!(queue.handle_refused());
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Sendfile { .. })));
    assert!(queue.handle_refused());
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Stage { .. })));
    assert!(!queue.handle_refused());
}

#[test]
fn the_bound_is_in_segments_and_refuses_without_loss() {
    let mut queue: SendQueue<u8> = SendQueue::with_limit(Position::START, 2);
    queue.push(Segment::range(1, 0..(4 << 30)), Way::Sendfile).unwrap();
    let end = queue.push(Segment::memory("tail"), Way::Copy).unwrap();
    assert_eq!(end.get(), (4 << 30) + 4);
    let full = queue.push(Segment::memory("x"), Way::Copy).unwrap_err();
    assert_eq!(full, QueueError::Full { limit: 2 });
    assert_eq!(queue.push(Segment::memory(""), Way::Copy), Ok(end), "nothing needs no room");
    assert_eq!(queue.end(), end);
}

#[test]
fn cancelling_takes_back_what_was_not_accepted() {
    let mut queue = queue(vec![memory(10), memory(10)]);
    queue.handle_accepted(4);
    assert_eq!(queue.cancel().get(), 4);
    assert_eq!((queue.end().get(), queue.is_empty()), (4, true));
}

#[test]
fn memory_goes_by_reference_as_the_gate_says() {
    let len = 3 * usize::try_from(REFERENCES).unwrap();
    let mut queue = queue(vec![memory(10), (Segment::memory(vec![0; len]), Way::Zerocopy)]);
    let ask = |queue: &SendQueue<u8>| match queue.poll_transmit() {
        Some(Transmit::Send { by_reference, more }) => {
            (by_reference, more, queue.slices().map(<[u8]>::len).sum::<usize>())
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(ask(&queue), (false, false, len + 10), "closed: all in one copy");
    queue.set_gate(Gate::Probe);
    assert_eq!(ask(&queue), (false, true, 10));
    queue.handle_accepted(10);
    assert_eq!(ask(&queue), (true, true, 1024));
    queue.handle_accepted(1024);
    assert_eq!(ask(&queue), (false, false, len - 1024), "asked: copied until the answer");
    queue.set_gate(Gate::Open);
    assert_eq!(ask(&queue), (true, true, 1 << 20));
    queue.handle_no_buffers();
    assert_eq!(ask(&queue), (false, true, STAGE));
    queue.handle_accepted(STAGE as u64 - 1);
    assert_eq!(ask(&queue), (false, true, 1));
    queue.handle_accepted(1);
    assert_eq!(ask(&queue), (true, true, 1 << 19), "tried again, with half of it");
    assert!(queue.handle_refused());
    assert_eq!(ask(&queue), (false, false, len - 1024 - STAGE));
}

#[test]
fn what_follows_in_the_same_pipe_leaves_by_the_same_call() {
    let pipe = || Arc::new(LentPipe::from(sluicegate_sys::splice::Pipe::new(4096).unwrap()));
    let (one, other) = (pipe(), pipe());
    let piped = |pipe: &Arc<LentPipe>, len| Segment::Piped(Piped::new(Arc::clone(pipe), len));
    let mut queue = SendQueue::<()>::with_limit(Position::START, 2);
    for (segment, end) in [(piped(&one, 100), 100), (piped(&one, 20), 120), (piped(&other, 5), 125)]
    {
        assert_eq!(queue.push(segment, Way::Copy).unwrap().get(), end);
    }
    assert!(queue.push(piped(&one, 1), Way::Copy).is_err(), "it is behind another's bytes");
    assert_eq!(queue.push(piped(&other, 1), Way::Copy).unwrap().get(), 126, "needs no room");
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Piped { len: 120, more: true, .. })));
    queue.handle_accepted(120);
    assert_eq!(Arc::strong_count(&one), 1);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Piped { len: 6, more: false, .. })));
}

#[test]
fn of_what_is_in_a_pipe_more_is_said_only_where_more_follows() {
    let pipe = Arc::new(LentPipe::from(sluicegate_sys::splice::Pipe::new(4096).unwrap()));
    let piped = |len| (Segment::Piped(Piped::new(Arc::clone(&pipe), len)), Way::Copy);
    let mut queue = queue(vec![memory(5), piped(100), memory(2), piped(50)]);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: true, .. })));
    assert_eq!(queue.slices().map(<[u8]>::len).collect::<Vec<_>>(), [5]);
    queue.handle_accepted(5);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Piped { len: 100, more: true, .. })));
    queue.handle_accepted(60);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Piped { len: 40, more: true, .. })));
    assert!(!queue.handle_refused(), "bytes in a pipe have no other way");
    queue.handle_unpiped(Bytes::from(vec![1; 10]));
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: true, .. })));
    queue.handle_accepted(10);
    queue.handle_accepted(30);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Send { more: true, .. })));
    queue.handle_accepted(2);
    assert!(matches!(queue.poll_transmit(), Some(Transmit::Piped { len: 50, more: false, .. })));
    assert_eq!(Arc::strong_count(&pipe), 2);
    assert_eq!(queue.cancel().get(), 107);
    assert_eq!((queue.is_empty(), Arc::strong_count(&pipe)), (true, 1));
}
