//! Plays a protocol in all the orders that loom finds.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use loom::thread;

use crate::actors::{Actor, Events, Handler, Kernel, Sender, Wire, Writer};
use crate::model::{Finding, Protocol, Ring, Version};

/// What is played.
#[derive(Clone, Copy)]
pub(crate) struct Play<P> {
    pub(crate) protocol: P,
    pub(crate) partitions: usize,
    pub(crate) laps: Version,
    pub(crate) writers: usize,
    pub(crate) senders: usize,
    pub(crate) connections: usize,
    pub(crate) wire: Wire,
    pub(crate) events: Events,
    pub(crate) keeps_lock: bool,
    /// Writes of the first writer that fail.
    pub(crate) failures: u8,
    /// Most switches away from a thread that could have gone on.
    pub(crate) preemptions: Option<usize>,
}

/// What all executions showed.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) executions: usize,
    /// Executions without a finding.
    pub(crate) clean: usize,
    /// Executions with each finding.
    pub(crate) found: BTreeMap<Finding, usize>,
}

impl Report {
    pub(crate) fn found(&self) -> Vec<Finding> {
        self.found.keys().copied().collect()
    }
}

impl<P: Protocol> Play<P> {
    /// One writer, one sender, one receiver behind a true wire.
    pub(crate) fn of(protocol: P, partitions: usize, laps: Version) -> Self {
        Self {
            protocol,
            partitions,
            laps,
            writers: 1,
            senders: 1,
            connections: 1,
            wire: Wire::True,
            events: Events::Recorded,
            keeps_lock: false,
            failures: 0,
            preemptions: None,
        }
    }

    /// All executions.
    ///
    /// Each actor takes as many looks beside the others as it has things to
    /// do; a look that is refused is one too. Whoever has been refused goes on
    /// afterwards, one actor after the other, until nobody can do a thing.
    /// So loom, which must see every execution end, meets no loop that waits,
    /// and being stuck is a finding and no hang. Nothing is missed by it: a
    /// look that is refused changes nothing, so each order of steps that do
    /// is also that of an execution in which nobody is refused.
    pub(crate) fn explore(self) -> Report {
        let report = Arc::new(Mutex::new(Report::default()));
        let written = Arc::clone(&report);
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = self.preemptions;
        builder.check(move || {
            let found = self.execute();
            let mut report = written.lock().unwrap_or_else(PoisonError::into_inner);
            report.executions += 1;
            report.clean += usize::from(found.is_empty());
            for finding in found {
                *report.found.entry(finding).or_default() += 1;
            }
        });
        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
        // Shown by `--nocapture`, and by a test that fails.
        println!("{report:?}");
        std::mem::take(&mut *report)
    }

    fn execute(self) -> Vec<Finding> {
        let ring = Arc::new(Ring::new(self.protocol, self.partitions, self.connections, self.laps));
        let things = self.partitions * usize::from(self.laps) + usize::from(self.failures);
        let mut threads = Vec::new();
        for actor in self.actors(&ring) {
            threads.push(thread::spawn(move || looked(actor, things)));
        }
        // The handler has this thread: loom has five.
        let handler = Handler {
            ring: Arc::clone(&ring),
            events: self.events,
            handled: vec![0; self.connections],
        };
        let mut actors = vec![looked(Box::new(handler), things * self.connections)];
        actors.extend(threads.into_iter().map(|thread| thread.join().unwrap()));
        let rests = |actors: &mut Vec<Box<dyn Actor>>| {
            // Not `any`, which would end at the first that acts.
            actors.iter_mut().filter_map(|actor| actor.step().then_some(())).count() == 0
        };
        assert!((0..100).any(|_| rests(&mut actors)), "does not come to rest");
        let mut found = ring.findings();
        found.sort_unstable();
        found.dedup();
        found
    }

    fn actors(self, ring: &Arc<Ring<P>>) -> Vec<Box<dyn Actor>> {
        let mut actors: Vec<Box<dyn Actor>> = Vec::new();
        for number in 0..self.writers {
            actors.push(Box::new(Writer {
                ring: Arc::clone(ring),
                partition: 0,
                wanted: 1,
                keeps_lock: self.keeps_lock,
                failures: if number == 0 { self.failures } else { 0 },
            }));
        }
        for _ in 0..self.senders {
            actors.push(Box::new(Sender {
                ring: Arc::clone(ring),
                partition: 0,
                lap: 1,
                previous: 0,
                sent: vec![0; self.partitions],
            }));
        }
        for connection in 0..self.connections {
            actors.push(Box::new(Kernel {
                ring: Arc::clone(ring),
                connection,
                wire: self.wire,
                transmitted: 0,
            }));
        }
        actors
    }
}

fn looked(mut actor: Box<dyn Actor>, looks: usize) -> Box<dyn Actor> {
    for _ in 0..looks {
        actor.step();
    }
    actor
}
