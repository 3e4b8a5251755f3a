//! Queue and ledger against an oracle that keeps every byte by itself: what it
//! is, whether it is accepted, acknowledged, and which call refers to it.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use proptest::prelude::*;
use sluicegate::{Gate, Ledger, Position, Segment, SendQueue, Transmit, Way};

/// A file of this test: byte `n` of it is `seed + n`.
type File = u8;

fn byte_of(file: File, offset: u64) -> u8 {
    file.wrapping_add((offset % 251) as u8)
}

#[derive(Clone, Debug)]
enum Step {
    Memory {
        len: usize,
        way: Way,
        lent: bool,
    },
    File {
        file: File,
        start: u64,
        len: u64,
        way: Way,
    },
    MoreToCome {
        copy_up_to: u64,
    },
    Gate(Gate),
    /// Does what the queue asks for; the kernel takes so many bytes of it.
    Transmit {
        taken: u64,
    },
    NoBuffers,
    Refused,
    /// The peer acknowledges so many bytes more, and SIOCOUTQ is asked.
    Acked {
        more: u64,
    },
    /// The report of an earlier acknowledgement comes late.
    LateReport {
        at: u64,
    },
    /// The kernel lets go of some calls.
    Released {
        first: u32,
        count: u32,
        copied: bool,
    },
    Cancel,
}

fn step() -> impl Strategy<Value = Step> {
    let way = || prop::sample::select(Way::ALL.to_vec());
    let gate = prop::sample::select(vec![Gate::Closed, Gate::Probe, Gate::Open]);
    prop_oneof![
        3 => (0_usize..5000, way(), any::<bool>())
            .prop_map(|(len, way, lent)| Step::Memory { len, way, lent }),
        2 => (any::<u8>(), 0_u64..1 << 40, 0_u64..300_000, way())
            .prop_map(|(file, start, len, way)| Step::File { file, start, len, way }),
        1 => (0_u64..100_000).prop_map(|copy_up_to| Step::MoreToCome { copy_up_to }),
        1 => gate.prop_map(Step::Gate),
        12 => (1_u64..400_000).prop_map(|taken| Step::Transmit { taken }),
        1 => Just(Step::NoBuffers),
        1 => Just(Step::Refused),
        3 => (0_u64..300_000).prop_map(|more| Step::Acked { more }),
        1 => (0_u64..1 << 20).prop_map(|at| Step::LateReport { at }),
        3 => (0_u32..20, 1_u32..5, any::<bool>())
            .prop_map(|(first, count, copied)| Step::Released { first, count, copied }),
        1 => Just(Step::Cancel),
    ]
}

/// Everything by the byte.
struct Oracle {
    base: Position,
    /// The stream, as far as it is queued.
    stream: Vec<u8>,
    accepted: usize,
    acked: usize,
    /// Of each call by reference: from, until, let go.
    calls: Vec<(usize, usize, bool)>,
    first_call: u32,
    zerocopy_copied: usize,
}

impl Oracle {
    fn at(&self, index: usize) -> Position {
        self.base.advanced(index as u64)
    }

    /// What the stream has from the accepted part on.
    fn next(&self, len: usize) -> &[u8] {
        &self.stream[self.accepted..][..len]
    }

    /// Lets go of calls, counted from the first that was ever made here.
    fn release(&mut self, first: u32, last: u32, copied: bool) {
        for (number, call) in self.calls.iter_mut().enumerate() {
            if (first as usize..=last as usize).contains(&number) && !call.2 {
                call.2 = true;
                self.zerocopy_copied += if copied { call.1 - call.0 } else { 0 };
            }
        }
    }

    fn is_released(&self, from: usize, until: usize) -> bool {
        !self.calls.iter().any(|call| !call.2 && call.0 < until && from < call.1)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn queue_and_ledger_agree_with_the_oracle(
        steps in prop::collection::vec(step(), 1..120),
        base in prop::sample::select(vec![0, (1_u64 << 32) - 50_000, 5 << 40]),
        first_call in prop::sample::select(vec![0, u32::MAX - 2, 1 << 31]),
    ) {
        let base = Position::new(base);
        let mut queue: SendQueue<File> = SendQueue::with_limit(base, 32);
        let mut ledger = Ledger::after_calls(base, first_call);
        ledger.handle_unacked(0);
        let mut oracle = Oracle {
            base, stream: Vec::new(), accepted: 0, acked: 0, calls: Vec::new(), first_call,
            zerocopy_copied: 0,
        };
        // Bytes in the pipe, as they were when they went in.
        let mut pipe: Vec<u8> = Vec::new();
        for step in steps {
            match step {
                Step::Memory { len, way, lent } => {
                    let from = oracle.stream.len();
                    let bytes: Vec<u8> = (from..from + len).map(|at| (at % 241) as u8).collect();
                    let segment = match lent {
                        true => Segment::memory(bytes.clone()),
                        false => Segment::given(bytes.clone()),
                    };
                    if queue.push(segment, way).is_ok() {
                        oracle.stream.extend(bytes);
                    }
                }
                Step::File { file, start, len, way } => {
                    if queue.push(Segment::range(file, start..start + len), way).is_ok() {
                        oracle.stream.extend((start..start + len).map(|at| byte_of(file, at)));
                    }
                }
                Step::MoreToCome { copy_up_to } => queue.announce_more(copy_up_to),
                Step::Gate(gate) => queue.set_gate(gate),
                Step::NoBuffers => queue.handle_no_buffers(),
                Step::Refused => { queue.handle_refused(); }
                Step::Transmit { taken } => {
                    let taken = usize::try_from(taken).unwrap();
                    let read = |file: File, offset: u64, len: usize| -> Vec<u8> {
                        (offset..offset + len as u64).map(|at| byte_of(file, at)).collect()
                    };
                    let mut accepted = None;
                    match queue.poll_transmit() {
                        Some(Transmit::Region { .. } | Transmit::Piped { .. }) => {
                            prop_assert!(false, "none is queued");
                        }
                        None => prop_assert_eq!(oracle.accepted, oracle.stream.len()),
                        Some(Transmit::Send { by_reference, more }) => {
                            let bytes: Vec<u8> = queue.slices().flatten().copied().collect();
                            prop_assert!(!bytes.is_empty());
                            prop_assert_eq!(&bytes[..], oracle.next(bytes.len()));
                            let is_all = oracle.accepted + bytes.len() == oracle.stream.len();
                            prop_assert_eq!(more, !is_all);
                            let way = if by_reference { Way::Zerocopy } else { Way::Copy };
                            accepted = Some((way, taken.min(bytes.len())));
                        }
                        Some(Transmit::Stage { file, offset, len, .. }) => {
                            let bytes = read(*file, offset, taken.min(len));
                            queue.handle_staged(bytes.into());
                        }
                        Some(Transmit::Sendfile { file, offset, len, .. }) => {
                            let bytes = read(*file, offset, taken.min(len));
                            prop_assert_eq!(&bytes[..], oracle.next(bytes.len()));
                            accepted = Some((Way::Sendfile, bytes.len()));
                        }
                        Some(Transmit::Fill { file, offset, len }) => {
                            prop_assert!(pipe.is_empty());
                            pipe = read(*file, offset, taken.min(len));
                            queue.handle_piped(pipe.len() as u64);
                        }
                        Some(Transmit::Drain { len, .. }) => {
                            prop_assert_eq!(len, pipe.len());
                            let count = taken.min(len);
                            prop_assert_eq!(&pipe[..count], oracle.next(count));
                            pipe.drain(..count);
                            accepted = Some((Way::Splice, count));
                        }
                    }
                    if let Some((way, count)) = accepted {
                        queue.handle_accepted(count as u64);
                        ledger.handle_accepted(way, count as u64);
                        if way == Way::Zerocopy {
                            let from = oracle.accepted;
                            oracle.calls.push((from, from + count, false));
                        }
                        oracle.accepted += count;
                    }
                }
                Step::Acked { more } => {
                    let more = usize::try_from(more).unwrap();
                    oracle.acked = oracle.accepted.min(oracle.acked + more);
                    ledger.handle_unacked((oracle.accepted - oracle.acked) as u64);
                }
                Step::LateReport { at } => {
                    let at = usize::try_from(at).unwrap();
                    if at < oracle.acked {
                        let low = oracle.at(at).get() & u64::from(u32::MAX);
                        ledger.handle_ack_id(u32::try_from(low).unwrap());
                    }
                }
                Step::Released { first, count, copied } => {
                    let made = u32::try_from(oracle.calls.len()).unwrap();
                    let last = (first + count - 1).min(made.saturating_sub(1));
                    if first < made {
                        let number = |at: u32| oracle.first_call.wrapping_add(at);
                        let (from, to) = (number(first), number(last));
                        ledger.handle_released(from, to, copied);
                        oracle.release(first, last, copied);
                    }
                }
                Step::Cancel => {
                    pipe.clear();
                    prop_assert_eq!(queue.cancel(), oracle.at(oracle.accepted));
                    oracle.stream.truncate(oracle.accepted);
                }
            }
            prop_assert_eq!(queue.end(), oracle.at(oracle.stream.len()));
            prop_assert_eq!(queue.accepted(), oracle.at(oracle.accepted));
            prop_assert_eq!(ledger.accepted(), oracle.at(oracle.accepted));
            prop_assert_eq!(ledger.acked(), oracle.at(oracle.acked));
            prop_assert_eq!(ledger.ways().total(), oracle.accepted as u64);
            prop_assert_eq!(ledger.ways().zerocopy_copied, oracle.zerocopy_copied as u64);
            prop_assert_eq!(queue.is_empty(), oracle.accepted == oracle.stream.len());
            let half = oracle.accepted / 2;
            for (from, until) in [(0, half), (half, oracle.accepted), (half, half + 1)] {
                let released = ledger.is_released(oracle.at(from), oracle.at(until));
                prop_assert_eq!(released, oracle.is_released(from, until), "{}..{}", from, until);
            }
        }
    }
}
