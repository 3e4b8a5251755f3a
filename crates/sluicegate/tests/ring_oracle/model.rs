//! What a ring is to be, told without threads and locks: the oracle.

use std::cmp::Ordering;
use std::collections::VecDeque;

use slab::Slab;
use sluicegate::{RingCounters, Stragglers};

/// A connection by a number of the test's own.
pub(crate) type Number = usize;

/// By which proof a partition is leased, the strongest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Proof {
    Unsent,
    Copied,
    Acked,
    Replaced,
}

/// How a use ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Unsent,
    Copied,
    Acked(Number),
    Unproven,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Free,
    Leased,
    Published,
    Quarantined,
}

/// Which use of which content of which partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) partition: usize,
    pub(crate) version: u64,
    pub(crate) key: usize,
}

#[derive(Clone, Copy, Debug)]
struct Use {
    at: usize,
    is_referenced: bool,
}

#[derive(Debug, Default)]
struct Partition {
    version: u64,
    phase: Phase,
    /// All that its memory has, written or not.
    memory: Vec<u8>,
    len: usize,
    owner: Option<Number>,
    bound: Option<Number>,
    is_unproven: bool,
    proof: Option<Proof>,
    handles: usize,
    sockets: usize,
    uses: Slab<Use>,
}

/// A use that was cut loose: its bytes that were copied aside, or none.
pub(crate) type Cut = (Place, Option<usize>);

#[derive(Debug)]
pub(crate) struct Model {
    partitions: Vec<Partition>,
    free: VecDeque<usize>,
    version: u64,
    crowd: (u64, usize, usize),
    stragglers: Stragglers,
    is_replaceable: bool,
    pub(crate) counters: RingCounters,
    /// Bytes that were copied aside and are not sent.
    pub(crate) held: u64,
    pub(crate) cuts: Vec<Cut>,
}

impl Model {
    pub(crate) fn new(
        count: usize,
        len: usize,
        stragglers: Stragglers,
        is_replaceable: bool,
    ) -> Self {
        let partition = || Partition { memory: vec![0; len], ..Partition::default() };
        Model {
            partitions: (0..count).map(|_| partition()).collect(),
            free: (0..count).collect(),
            version: 0,
            crowd: (0, 0, 0),
            stragglers,
            is_replaceable,
            counters: RingCounters::default(),
            held: 0,
            cuts: Vec::new(),
        }
    }

    pub(crate) fn free(&self) -> usize {
        self.free.len()
    }

    pub(crate) fn memory(&self, partition: usize) -> &[u8] {
        &self.partitions[partition].memory
    }

    /// Bytes of the region that a use is of.
    pub(crate) fn region(&self, partition: usize) -> &[u8] {
        let found = &self.partitions[partition];
        &found.memory[..found.len]
    }

    /// The partition and the version that a lease for `owner` gets.
    pub(crate) fn lease(&mut self, owner: Option<Number>) -> Option<(usize, u64)> {
        loop {
            while let Some(index) = self.free.pop_front() {
                self.version += 1;
                let found = &mut self.partitions[index];
                if found.is_unproven || found.bound.is_some_and(|bound| Some(bound) != owner) {
                    if !self.is_replaceable {
                        found.phase = Phase::Quarantined;
                        self.counters.quarantined += 1;
                        continue;
                    }
                    found.memory.fill(0);
                    (found.is_unproven, found.bound) = (false, None);
                    found.proof = Some(Proof::Replaced);
                }
                let counter = match found.proof.take().unwrap_or(Proof::Unsent) {
                    Proof::Unsent => &mut self.counters.unsent,
                    Proof::Copied => &mut self.counters.copied,
                    Proof::Acked => &mut self.counters.acked,
                    Proof::Replaced => &mut self.counters.replaced,
                };
                *counter += 1;
                (found.phase, found.owner, found.sockets) = (Phase::Leased, owner, 0);
                return Some((index, self.version));
            }
            if self.take_accepted(owner) {
                continue;
            }
            if self.stragglers == Stragglers::Wait || !self.cut_oldest() {
                return None;
            }
        }
    }

    /// `memory` is what the partition has then; nobody sees it.
    pub(crate) fn revert(&mut self, partition: usize, memory: Vec<u8>) {
        self.counters.reverted += 1;
        let found = &mut self.partitions[partition];
        (found.memory, found.phase) = (memory, Phase::Free);
        self.free.push_back(partition);
    }

    pub(crate) fn publish(&mut self, partition: usize, version: u64, memory: Vec<u8>, len: usize) {
        let found = &mut self.partitions[partition];
        (found.memory, found.phase, found.version) = (memory, Phase::Published, version);
        (found.len, found.handles) = (len, 1);
    }

    pub(crate) fn take_handle(&mut self, partition: usize) {
        self.partitions[partition].handles += 1;
    }

    pub(crate) fn drop_handle(&mut self, partition: usize) {
        self.partitions[partition].handles -= 1;
        self.let_go(partition);
    }

    pub(crate) fn owner(&self, partition: usize) -> Option<Number> {
        self.partitions[partition].owner
    }

    /// A use, and how many sockets were there before, or had the region before.
    pub(crate) fn enlist(&mut self, partition: usize) -> (Place, usize) {
        let found = &mut self.partitions[partition];
        let key = found.uses.insert(Use { at: 0, is_referenced: false });
        found.sockets += 1;
        let place = Place { partition, version: found.version, key };
        if found.owner.is_some() {
            return (place, found.sockets - 1);
        }
        // The newest region, its sockets, and those of the one before it.
        match found.version.cmp(&self.crowd.0) {
            Ordering::Greater => self.crowd = (found.version, 1, self.crowd.1),
            Ordering::Equal => self.crowd.1 += 1,
            Ordering::Less => {}
        }
        (place, (found.sockets - 1).max(self.crowd.2))
    }

    fn found(&mut self, place: Place) -> Option<&mut Use> {
        let found = &mut self.partitions[place.partition];
        let is_it = found.version == place.version && found.phase == Phase::Published;
        found.uses.get_mut(place.key).filter(|_| is_it)
    }

    /// Whether a use was not cut loose.
    pub(crate) fn has(&mut self, place: Place) -> bool {
        self.found(place).is_some()
    }

    pub(crate) fn handle_accepted(&mut self, place: Place, count: usize, by_reference: bool) {
        let Some(found) = self.found(place) else { return };
        found.at += count;
        found.is_referenced |= by_reference;
        let counter = match by_reference {
            true => &mut self.counters.bytes_sendfile,
            false => &mut self.counters.bytes_copied,
        };
        *counter += count as u64;
    }

    pub(crate) fn end(&mut self, place: Place, end: End) {
        if !self.has(place) {
            return;
        }
        let found = &mut self.partitions[place.partition];
        found.uses.remove(place.key);
        match end {
            End::Unsent => {}
            End::Copied => found.proof = found.proof.max(Some(Proof::Copied)),
            End::Acked(number) if Some(number) == found.owner => {
                found.proof = found.proof.max(Some(Proof::Acked));
                found.bound = Some(number);
            }
            End::Acked(_) | End::Unproven => found.is_unproven = true,
        }
        self.let_go(place.partition);
    }

    fn let_go(&mut self, partition: usize) {
        let found = &mut self.partitions[partition];
        if found.phase == Phase::Published && found.handles == 0 && found.uses.is_empty() {
            found.phase = Phase::Free;
            self.free.push_back(partition);
        }
    }

    /// What others were sent and have accepted as a whole is not waited for.
    fn take_accepted(&mut self, asker: Option<Number>) -> bool {
        let is_accepted = |(_, found): &(usize, &Partition)| {
            found.phase == Phase::Published
                && found.handles == 0
                && found.owner != asker
                && found.uses.iter().all(|(_, used)| used.at == found.len)
        };
        let all = self.partitions.iter().enumerate();
        let oldest = all.filter(is_accepted).min_by_key(|(_, found)| found.version);
        let Some((partition, _)) = oldest else { return false };
        let found = &mut self.partitions[partition];
        found.is_unproven |= found.uses.iter().any(|(_, used)| used.is_referenced);
        if found.uses.iter().any(|(_, used)| used.at > 0) {
            found.proof = found.proof.max(Some(Proof::Copied));
        }
        found.uses.clear();
        self.let_go(partition);
        true
    }

    fn cut_oldest(&mut self) -> bool {
        let can_be_cut = |(_, found): &(usize, &Partition)| {
            found.phase == Phase::Published && found.handles == 0
        };
        let all = self.partitions.iter().enumerate();
        let oldest = all.filter(can_be_cut).min_by_key(|(_, found)| found.version);
        let Some((partition, _)) = oldest else { return false };
        let found = &mut self.partitions[partition];
        for (key, used) in &found.uses {
            found.is_unproven |= used.is_referenced;
            if used.at > 0 {
                found.proof = found.proof.max(Some(Proof::Copied));
            }
            let rest = found.len - used.at;
            if rest == 0 {
                continue;
            }
            let fits = match self.stragglers {
                Stragglers::CopyOut { up_to } => self.held + rest as u64 <= up_to,
                _ => false,
            };
            if fits {
                self.held += rest as u64;
                self.counters.bytes_copied_out += rest as u64;
            } else {
                self.counters.aborted += 1;
            }
            let place = Place { partition, version: found.version, key };
            self.cuts.push((place, fits.then_some(rest)));
        }
        found.uses.clear();
        self.let_go(partition);
        true
    }
}
