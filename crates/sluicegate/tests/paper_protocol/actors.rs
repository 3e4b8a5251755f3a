//! Who acts on a ring: writers, senders, the kernel of each connection, and
//! the event handler. A step that no rule allows changes nothing.

use std::sync::Arc;

use crate::model::{Delivered, FAILED, Memory, Protocol, Ring, Sent, Version};

pub(crate) trait Actor {
    /// One look, and what follows from it. False: nothing was allowed.
    fn step(&mut self) -> bool;
}

/// Writes version after version, partition after partition. Of several, the
/// one that comes first writes.
pub(crate) struct Writer<P: Protocol> {
    pub(crate) ring: Arc<Ring<P>>,
    pub(crate) partition: usize,
    pub(crate) wanted: Version,
    /// Whether it keeps the cell's lock as long as it writes.
    pub(crate) keeps_lock: bool,
    /// How many of its writes still fail, half-way.
    pub(crate) failures: u8,
}

impl<P: Protocol> Writer<P> {
    fn advance(&mut self) {
        self.partition = (self.partition + 1) % self.ring.partitions.len();
        self.wanted += Version::from(self.partition == 0);
    }
}

impl<P: Protocol> Actor for Writer<P> {
    fn step(&mut self) -> bool {
        let ring = Arc::clone(&self.ring);
        if self.wanted > ring.laps {
            return false;
        }
        let partition = &ring.partitions[self.partition];
        let mut cell = partition.cell();
        let before = *cell;
        if !ring.protocol.take(&mut cell, self.wanted) {
            let by_another = ring.protocol.version(&cell) >= self.wanted;
            if by_another {
                self.advance();
            }
            return by_another;
        }
        let mut kept = self.keeps_lock.then_some(cell);
        if self.failures > 0 {
            partition.write_half(0, FAILED);
            self.failures -= 1;
            let mut cell = kept.take().unwrap_or_else(|| partition.cell());
            ring.protocol.revert(&mut cell, before);
            return true;
        }
        partition.write_half(0, self.wanted);
        partition.write_half(1, self.wanted);
        let mut cell = kept.take().unwrap_or_else(|| partition.cell());
        ring.protocol.publish(&mut cell);
        self.advance();
        true
    }
}

/// Sends partition after partition, and waits at one that it may not send.
/// It has the cell's lock from its look until the kernel has accepted.
pub(crate) struct Sender<P: Protocol> {
    pub(crate) ring: Arc<Ring<P>>,
    pub(crate) partition: usize,
    pub(crate) lap: Version,
    pub(crate) previous: Version,
    pub(crate) sent: Vec<Version>,
}

impl<P: Protocol> Actor for Sender<P> {
    fn step(&mut self) -> bool {
        let ring = &self.ring;
        let at = self.partition;
        let partition = &ring.partitions[at];
        let memory = Memory { lap: self.lap, previous: self.previous, here: self.sent[at] };
        let recipients = u8::try_from(ring.connections.len()).unwrap();
        let mut cell = partition.cell();
        let Some(version) = ring.protocol.send(&mut cell, memory, recipients) else {
            return false;
        };
        let copy = ring.protocol.copies().then(|| partition.read());
        for connection in &ring.connections {
            connection.queue().sent.push(Sent { partition: at, version, copy });
        }
        drop(cell);
        (self.previous, self.sent[at]) = (version, version);
        self.partition = (at + 1) % ring.partitions.len();
        self.lap += Version::from(self.partition == 0);
        true
    }
}

/// When the receiver reads the pages.
#[derive(Clone, Copy, Eq, PartialEq)]
pub(crate) enum Wire {
    /// They are read on this host, and acknowledged by the other afterwards.
    True,
    /// The pages themselves go to the receiver, who acknowledges and then
    /// reads: loopback and veth.
    Shared,
}

/// One connection's kernel: reads memory when it transmits.
pub(crate) struct Kernel<P: Protocol> {
    pub(crate) ring: Arc<Ring<P>>,
    pub(crate) connection: usize,
    pub(crate) wire: Wire,
    pub(crate) transmitted: usize,
}

impl<P: Protocol> Actor for Kernel<P> {
    fn step(&mut self) -> bool {
        let connection = &self.ring.connections[self.connection];
        let mut queue = connection.queue();
        let Some(&Sent { partition, version, copy }) = queue.sent.get(self.transmitted) else {
            return false;
        };
        if self.wire == Wire::Shared {
            queue.acked += 1;
        }
        drop(queue);
        let bytes = copy.unwrap_or_else(|| self.ring.partitions[partition].read());
        connection.deliver(Delivered { partition, version, bytes });
        if self.wire == Wire::True {
            connection.queue().acked += 1;
        }
        self.transmitted += 1;
        true
    }
}

/// How the event handler knows to which cell an acknowledgement belongs.
#[derive(Clone, Copy)]
pub(crate) enum Events {
    /// By a record of what was sent.
    Recorded,
    /// As the text has it: "bytes up to or beyond B/n", whatever the lap.
    Total,
}

/// Tells cells that they are acknowledged, one event a step.
pub(crate) struct Handler<P: Protocol> {
    pub(crate) ring: Arc<Ring<P>>,
    pub(crate) events: Events,
    /// Of each connection, how many of its events are handled.
    pub(crate) handled: Vec<usize>,
}

impl<P: Protocol> Handler<P> {
    fn total(&self) -> bool {
        let acked = self.ring.connections[0].queue().acked;
        for partition in self.ring.partitions.iter().take(acked) {
            let mut cell = partition.cell();
            if !self.ring.protocol.is_over(&cell) {
                self.ring.protocol.acknowledge(&mut cell);
                return true;
            }
        }
        false
    }
}

impl<P: Protocol> Actor for Handler<P> {
    fn step(&mut self) -> bool {
        if matches!(self.events, Events::Total) {
            return self.total();
        }
        for (connection, handled) in self.ring.connections.iter().zip(&mut self.handled) {
            let queue = connection.queue();
            if *handled == queue.acked {
                continue;
            }
            let partition = queue.sent[*handled].partition;
            drop(queue);
            *handled += 1;
            self.ring.protocol.acknowledge(&mut self.ring.partitions[partition].cell());
            return true;
        }
        false
    }
}
