//! Queue and ledger against a scripted kernel and an oracle: the bytes that
//! were queued, in order, and what the peer truly acknowledged.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Arc;

use sluicegate::{
    FileFault, FileRange, Gate, Ledger, LentPipe, Pipe, Piped, Position, Pumped, QueueError,
    Segment, SendError, SendQueue, Way, pump,
};
use sluicegate_testkit::corpus;
use sluicegate_testkit::scripted::{Completion, Random, ScriptedFile, ScriptedKernel};

/// Steps of the longest test here; the others make a part of that, a million
/// in all. `SLUICEGATE_STEPS` asks for more.
fn steps() -> u64 {
    std::env::var("SLUICEGATE_STEPS").ok().and_then(|text| text.parse().ok()).unwrap_or(600_000)
}

/// Bytes of the file that pipes are filled from.
const SOURCE: u64 = 256 * 1024;

/// A file for pipes, filled once for each thread.
fn source(use_it: impl FnOnce(&std::fs::File)) {
    thread_local! {
        static FILE: std::fs::File = {
            let mut content = vec![0; SOURCE as usize];
            corpus::fill(1, 0, &mut content);
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(&content).unwrap();
            file
        };
    }
    FILE.with(use_it);
}

/// A true pipe with something in it, in one or two segments with a line end between
/// them, as chunks have it; and the bytes.
fn piped(random: &mut Random) -> Vec<(Segment<ScriptedFile>, Vec<u8>)> {
    let pipe = Arc::new(LentPipe::from(Pipe::new(64 * 1024).unwrap()));
    let at = random.below(SOURCE - 70_000);
    let len = usize::try_from(random.below(60_000) + 2).unwrap();
    let mut count = 0;
    source(|file| count = pipe.fill_from_file(file.as_fd(), at, len).unwrap());
    let mut bytes = vec![0; count];
    corpus::fill(1, at, &mut bytes);
    let first = usize::try_from(random.below(count as u64 + 1)).unwrap();
    let part = |len: usize| Segment::Piped(Piped::new(Arc::clone(&pipe), len as u64));
    vec![
        (part(first), bytes[..first].to_vec()),
        (Segment::given("\r\n"), b"\r\n".to_vec()),
        (part(count - first), bytes[first..].to_vec()),
    ]
}

/// A random segment, its way, and the bytes that it must put on the wire.
fn segment(random: &mut Random) -> (Segment<ScriptedFile>, Way, Vec<u8>) {
    let seed = random.number();
    let way = Way::ALL[random.below(Way::ALL.len() as u64) as usize];
    let len = match random.below(10) {
        0 => 0,
        1..5 => random.below(300),
        5..9 => random.below(20_000),
        _ => random.below(400_000),
    };
    let mut bytes = vec![0; len as usize];
    if random.one_in(2) {
        corpus::fill(seed, 0, &mut bytes);
        return (Segment::memory(bytes.clone()), way, bytes);
    }
    let start = random.below(1 << 40);
    corpus::fill(seed, start, &mut bytes);
    let file = ScriptedFile { seed, len: start + len, direct: !random.one_in(6) };
    (Segment::range(file, start..start + len), way, bytes)
}

/// One connection from `base` on, for at most `steps` steps. Returns how many
/// steps it took before it was reset.
fn connection(seed: u64, base: Position, resets: u64, steps: u64) -> u64 {
    let mut random = Random::new(seed);
    // Some sockets are about to wrap the numbers of their calls by reference.
    let calls = [0, u32::MAX - 3][seed as usize % 2];
    let mut kernel = ScriptedKernel::new(seed ^ 0xabcd, resets).after_calls(calls);
    let mut queue: SendQueue<ScriptedFile> = SendQueue::with_limit(base, 64);
    let mut ledger = Ledger::after_calls(base, calls);
    // Reports of release that are still on their way.
    let mut completions: Vec<Completion> = Vec::new();
    ledger.handle_unacked(0);
    let mut expected: Vec<u8> = Vec::new();
    let mut checked = 0;
    // Acknowledgement reports that are still on their way: the index of the
    // last byte of a send, 32 bits of it.
    let mut reports: Vec<u32> = Vec::new();
    for step in 0..steps {
        match random.below(8) {
            6 => {
                queue.set_gate([Gate::Closed, Gate::Probe, Gate::Open][random.below(3) as usize]);
                completions.extend(kernel.complete());
            }
            7 => {
                // In any order; some twice; the kernel has let go before.
                if !completions.is_empty() {
                    let at = random.below(completions.len() as u64) as usize;
                    let (first, last, copied) = completions[at];
                    ledger.handle_released(first, last, copied);
                    if random.one_in(2) {
                        completions.swap_remove(at);
                    }
                }
                let from = random.below(kernel.wire.len() as u64 + 1);
                let until = from + random.below(50_000);
                if ledger.is_released(base.advanced(from), base.advanced(until)) {
                    assert!(!kernel.refers_to(from..until), "seed {seed}, step {step}: in use");
                }
                assert!(ledger.referenced() >= kernel.referenced(), "seed {seed}, step {step}");
            }
            0 if queue.room() >= 3 && random.one_in(3) => {
                for (segment, bytes) in piped(&mut random) {
                    queue.push(segment, Way::Copy).unwrap();
                    expected.extend_from_slice(&bytes);
                }
            }
            0 | 1 => {
                let (segment, way, bytes) = segment(&mut random);
                let before = queue.end();
                if random.one_in(2) {
                    queue.announce_more(random.below(30_000));
                }
                match queue.push(segment, way) {
                    Ok(end) => {
                        assert_eq!(end.since(before), bytes.len() as u64);
                        expected.extend_from_slice(&bytes);
                    }
                    Err(full) => assert_eq!(full, QueueError::Full { limit: 64 }),
                }
            }
            2..4 => {
                if random.one_in(4)
                    && let Some((pipe, left)) = queue.poll_piped()
                {
                    // Somebody needs the pipe more.
                    let mut bytes = vec![0; random.below(left + 1) as usize];
                    let count = if bytes.is_empty() { 0 } else { pipe.read(&mut bytes).unwrap() };
                    bytes.truncate(count);
                    queue.handle_unpiped(bytes.into());
                }
                let budget = random.below(200_000) + 1;
                let result = pump(&mut queue, &mut ledger, &mut kernel, budget);
                match result {
                    Ok(Pumped::Drained) => {
                        assert!(queue.is_empty());
                        assert_eq!(queue.accepted(), queue.end());
                        assert!(!kernel.corked, "seed {seed}: the last bytes wait for more");
                    }
                    Ok(Pumped::Blocked | Pumped::Spent) => assert!(!queue.is_empty()),
                    Err(error) => assert!(kernel.is_reset(), "seed {seed}: {error}"),
                }
            }
            4 => {
                let acked = kernel.acknowledge();
                if acked > 0 && !random.one_in(3) {
                    let last = base.advanced(acked - 1).get();
                    reports.push((last & u64::from(u32::MAX)) as u32);
                }
            }
            _ => {
                // Reports come late, doubled, out of order, or never.
                if !reports.is_empty() {
                    let at = random.below(reports.len() as u64) as usize;
                    ledger.handle_ack_id(reports[at]);
                    if random.one_in(2) {
                        reports.swap_remove(at);
                    }
                }
                if random.one_in(2) {
                    ledger.handle_unacked(kernel.unacked());
                    let truth = kernel.wire.len() as u64 - kernel.unacked();
                    assert_eq!(ledger.acked(), base.advanced(truth), "seed {seed}");
                }
            }
        }
        assert!(
            kernel.wire[checked..] == expected[checked..kernel.wire.len()],
            "seed {seed}, step {step}: the wire differs from what was queued"
        );
        checked = kernel.wire.len();
        let sent = kernel.wire.len() as u64;
        assert_eq!(ledger.accepted(), base.advanced(sent), "seed {seed}, step {step}");
        assert_eq!(queue.accepted(), ledger.accepted());
        assert_eq!(queue.end(), base.advanced(expected.len() as u64));
        assert_eq!(ledger.ways().total(), sent);
        let truth = base.advanced(sent - kernel.unacked());
        assert!(ledger.acked() <= truth, "seed {seed}, step {step}: acked what is not");
        if kernel.is_reset() || expected.len() > 8_000_000 || step + 1 == steps {
            // Completions come after a reset too; then nothing is referred to.
            while let Some(completion) = kernel.complete() {
                completions.push(completion);
            }
            for (first, last, copied) in completions {
                ledger.handle_released(first, last, copied);
            }
            assert_eq!(ledger.referenced(), 0, "seed {seed}");
            assert!(ledger.ways().zerocopy_copied <= ledger.ways().zerocopy);
            return step + 1;
        }
    }
    steps
}

#[test]
fn the_wire_carries_what_was_queued_and_acked_is_never_too_much() {
    let mut left = steps();
    let mut seed = 1;
    while left > 0 {
        left -= connection(seed, Position::START, 0, left.min(5_000));
        seed += 1;
    }
}

#[test]
fn positions_hold_across_the_32_bit_wrap() {
    let mut left = steps() / 2;
    let mut seed = 1_000_000;
    while left > 0 {
        // Far enough along that some report is from before the wrap and some
        // from after it.
        let base = Position::new((seed % 3 + 1) * (1 << 32) - 1_000_000);
        left -= connection(seed, base, 0, left.min(5_000));
        seed += 1;
    }
}

#[test]
fn a_reset_at_any_call_leaves_queue_and_ledger_agreeing() {
    let mut left = steps() / 6;
    let mut seed = 2_000_000;
    while left > 0 {
        left -= connection(seed, Position::START, 200, left.min(5_000));
        seed += 1;
    }
}

#[test]
fn a_file_that_ends_early_is_truncated_by_every_way() {
    for way in Way::OF_FILES {
        let mut kernel = ScriptedKernel::new(3, 0);
        let mut queue = SendQueue::new(Position::START);
        let mut ledger = Ledger::new(Position::START);
        let file = ScriptedFile { seed: 1, len: 100, direct: true };
        queue.push(Segment::range(file, 0..200), way).unwrap();
        let error = loop {
            match pump(&mut queue, &mut ledger, &mut kernel, u64::MAX) {
                Ok(Pumped::Blocked) => {}
                Ok(other) => panic!("{way:?}: {other:?}"),
                Err(error) => break error,
            }
        };
        let SendError::File(error) = error else { panic!("{way:?}: {error}") };
        assert!(matches!(error.cause, FileFault::Truncated), "{way:?}: {error}");
        assert_eq!(error.offset, 100);
        assert_eq!(kernel.wire.len() as u64, ledger.accepted().get());
    }
}

#[test]
fn no_byte_of_a_changed_file_follows_those_of_the_old_one() {
    for way in Way::OF_FILES {
        let mut cut = 0;
        for seed in 0..200 {
            let mut random = Random::new(seed);
            let mut kernel = ScriptedKernel::new(seed, 0);
            let mut queue = SendQueue::new(Position::START);
            let mut ledger = Ledger::new(Position::START);
            let len = 1_000_000;
            let file = ScriptedFile { seed, len, direct: true };
            let version = Arc::new(kernel.stamp(file));
            let range = FileRange::new(file, 0..len).in_version(version);
            queue.push(Segment::memory("head"), Way::Copy).unwrap();
            queue.push(Segment::File(range), way).unwrap();
            queue.push(Segment::memory("tail"), Way::Copy).unwrap();
            let edited_at = random.below(len);
            let mut was_edited = false;
            let outcome = loop {
                if !was_edited && kernel.wire.len() as u64 >= edited_at {
                    kernel.edit_files();
                    was_edited = true;
                }
                match pump(&mut queue, &mut ledger, &mut kernel, random.below(100_000) + 1) {
                    Ok(Pumped::Drained) => break None,
                    Ok(_) => {}
                    Err(error) => break Some(error),
                }
            };
            let mut expected = b"head".to_vec();
            expected.resize(4 + len as usize, 0);
            corpus::fill(seed, 0, &mut expected[4..]);
            expected.extend_from_slice(b"tail");
            assert!(expected.starts_with(&kernel.wire), "{way:?}, seed {seed}: two versions");
            match outcome {
                Some(SendError::File(error)) => {
                    assert!(matches!(error.cause, FileFault::Changed(_)), "{error}");
                    cut += 1;
                }
                // The last piece was accepted before the edit, or was a copy.
                None => assert_eq!(kernel.wire.len(), expected.len()),
                Some(error) => panic!("{way:?}, seed {seed}: {error}"),
            }
        }
        assert!(cut > 20, "{way:?}: {cut} of 200 were cut");
    }
}
