//! Rings against an oracle that knows of every partition what stands in it, who
//! needs it and which proof it has: random programs of leases, regions and real
//! sockets over the loopback.
//!
//! After every step all counters are the oracle's, and what a lease finds in its
//! memory too: what stood there before, where a proof lets it be written in
//! place, and fresh pages where it had to be replaced. Peers read late, those of
//! closed connections last of all: what the kernel has accepted never changes.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "ring_oracle/model.rs"]
mod model;
#[path = "ring_oracle/peer.rs"]
mod peer;

use std::cell::RefCell;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use model::Model;
use peer::{Ghost, Peer};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use rustix::net::sockopt::set_socket_linger;
use sluicegate::{Region, Ring, Stragglers, Worker};
use sluicegate_testkit::corpus;

const PAGE: usize = 4096;
const PEERS: usize = 3;

#[derive(Clone, Debug)]
enum Step {
    /// Leases a partition for one of the peers, or for anybody.
    Lease {
        owner: Option<usize>,
        len: usize,
        by_calls: bool,
        is_reverted: bool,
    },
    /// Leases one for a peer, and queues it.
    Send {
        peer: usize,
    },
    Clone {
        region: usize,
    },
    Drop {
        region: usize,
    },
    Queue {
        region: usize,
        peer: usize,
    },
    Flush {
        peer: usize,
    },
    Read {
        peer: usize,
        most: usize,
    },
    Progress {
        peer: usize,
    },
    /// Closes a connection; another one takes its place.
    Close {
        peer: usize,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let peer = || 0..PEERS;
    let region = || 0_usize..8;
    let owner = prop_oneof![1 => Just(None), 1 => peer().prop_map(Some)];
    let len = prop_oneof![1 => 0..=2 * PAGE, 2 => Just(usize::MAX)];
    prop_oneof![
        6 => (owner, len, any::<bool>(), prop::bool::weighted(0.1)).prop_map(
            |(owner, len, by_calls, is_reverted)| Step::Lease { owner, len, by_calls, is_reverted }
        ),
        6 => peer().prop_map(|peer| Step::Send { peer }),
        1 => region().prop_map(|region| Step::Clone { region }),
        4 => region().prop_map(|region| Step::Drop { region }),
        8 => (region(), peer()).prop_map(|(region, peer)| Step::Queue { region, peer }),
        8 => peer().prop_map(|peer| Step::Flush { peer }),
        4 => (peer(), 1..3 * PAGE).prop_map(|(peer, most)| Step::Read { peer, most }),
        4 => peer().prop_map(|peer| Step::Progress { peer }),
        1 => peer().prop_map(|peer| Step::Close { peer }),
    ]
}

fn stragglers() -> impl Strategy<Value = Stragglers> {
    let up_to = prop::sample::select(vec![0, PAGE as u64, 5 * PAGE as u64, 1 << 20]);
    prop_oneof![
        3 => Just(Stragglers::Wait),
        1 => Just(Stragglers::Abort),
        2 => up_to.prop_map(|up_to| Stragglers::CopyOut { up_to }),
    ]
}

/// A ring, its oracle, and all that stands around them.
struct Play {
    /// One for all.
    listener: Rc<TcpListener>,
    worker: Worker,
    ring: Ring,
    model: Model,
    references_from: usize,
    /// Regions in our hands, and their partitions.
    regions: Vec<(Region, usize)>,
    peers: Vec<Peer>,
    ghosts: Vec<Ghost>,
    made: usize,
    versions: u64,
}

impl Play {
    fn new(
        listener: Rc<TcpListener>,
        partitions: usize,
        pages: usize,
        fan_out_from: usize,
        stragglers: Stragglers,
    ) -> Self {
        let builder = Ring::builder().size(partitions * pages * PAGE).partitions(partitions);
        let ring = builder.fan_out_from(fan_out_from).stragglers(stragglers).build().unwrap();
        let is_replaceable = ring.is_replaceable();
        let model = Model::new(partitions, pages * PAGE, stragglers, is_replaceable);
        let references_from = if is_replaceable { fan_out_from } else { usize::MAX };
        let worker = Worker::new().unwrap();
        let (regions, ghosts, versions) = Default::default();
        let peers = Vec::new();
        let mut play = Play {
            listener,
            worker,
            ring,
            model,
            references_from,
            regions,
            peers,
            ghosts,
            made: 0,
            versions,
        };
        play.peers = (0..PEERS).map(|index| play.peer(index)).collect();
        play
    }

    /// A new connection; every third one is to this host.
    fn peer(&mut self, index: usize) -> Peer {
        self.made += 1;
        let client = TcpStream::connect(self.listener.local_addr().unwrap()).unwrap();
        // A close by reset leaves no port waiting.
        set_socket_linger(&client, Some(Duration::ZERO)).unwrap();
        let server = self.listener.accept().unwrap().0;
        Peer::new(&self.worker, (server, client), self.made, index > 0)
    }

    fn lease(&mut self, owner: Option<usize>, len: usize, by_calls: bool, is_reverted: bool) {
        let connection = owner.map(|peer| self.peers[peer].socket.connection());
        let expected = self.model.lease(owner.map(|peer| self.peers[peer].number()));
        let leased = self.ring.try_acquire(connection).unwrap_or(None);
        assert_eq!(leased.is_some(), expected.is_some());
        let (Some(mut lease), Some((partition, version))) = (leased, expected) else { return };
        assert_eq!(lease.version(), version);
        assert!(version > self.versions);
        self.versions = version;
        assert!(lease[..] == *self.model.memory(partition), "what stood there is another");
        let len = len.min(lease.len());
        let mut memory = self.model.memory(partition).to_vec();
        corpus::fill(version, 0, &mut memory[..len]);
        match by_calls {
            true => lease.write_all(&memory[..len]).unwrap(),
            false => lease[..len].copy_from_slice(&memory[..len]),
        }
        if is_reverted {
            return self.model.revert(partition, memory);
        }
        let region = lease.publish(len);
        assert_eq!((region.len(), region.version()), (len, version));
        assert_eq!(region.owner(), connection);
        self.model.publish(partition, version, memory, len);
        self.regions.push((region, partition));
    }

    fn drop_region(&mut self, region: usize) {
        let count = self.regions.len();
        if count > 0 {
            let (region, partition) = self.regions.remove(region % count);
            drop(region);
            self.model.drop_handle(partition);
        }
    }

    fn queue(&mut self, region: usize, peer: usize) {
        let count = self.regions.len();
        if count > 0 {
            let (region, partition) = &self.regions[region % count];
            let (region, partition) = (region.clone(), *partition);
            self.peers[peer].queue(&mut self.model, region, partition, self.references_from);
        }
    }

    fn close(&mut self, peer: usize) {
        let next = self.peer(peer);
        let old = std::mem::replace(&mut self.peers[peer], next);
        self.ghosts.push(old.close(&mut self.model));
    }

    fn flush(&mut self, peer: usize) {
        if !self.peers[peer].flush(&self.worker, &mut self.model) {
            self.close(peer);
        }
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Lease { owner, len, by_calls, is_reverted } => {
                self.lease(owner, len, by_calls, is_reverted);
            }
            Step::Send { peer } => {
                let before = self.regions.len();
                self.lease(Some(peer), usize::MAX, true, false);
                if self.regions.len() > before {
                    self.queue(before, peer);
                    self.drop_region(before);
                }
            }
            Step::Clone { region } => {
                let count = self.regions.len();
                if count > 0 {
                    let (region, partition) = &self.regions[region % count];
                    let both = (region.clone(), *partition);
                    self.model.take_handle(both.1);
                    self.regions.push(both);
                }
            }
            Step::Drop { region } => self.drop_region(region),
            Step::Queue { region, peer } => self.queue(region, peer),
            Step::Flush { peer } => self.flush(peer),
            Step::Read { peer, most } => self.peers[peer].read(most),
            Step::Progress { peer } => self.peers[peer].progress(&mut self.model),
            Step::Close { peer } => self.close(peer),
        }
        self.check();
    }

    fn check(&self) {
        assert_eq!(self.ring.counters(), self.model.counters);
        assert_eq!(self.ring.free(), self.model.free());
        for (region, partition) in &self.regions {
            assert!(region.as_ref() == self.model.region(*partition), "a region has changed");
        }
    }

    /// Everybody gets what was queued, and nothing is left.
    fn end(mut self) {
        while !self.regions.is_empty() {
            self.drop_region(0);
        }
        let mut turns = 0;
        while self.peers.iter().any(|peer| !peer.is_done()) {
            for peer in 0..PEERS {
                self.flush(peer);
                self.peers[peer].progress(&mut self.model);
            }
            self.check();
            turns += 1;
            assert!(turns < 100_000, "it does not end");
        }
        self.check();
        let quarantined = usize::try_from(self.model.counters.quarantined).unwrap();
        assert_eq!(self.ring.free() + quarantined, self.ring.partitions());
        assert_eq!(self.model.held, 0, "copies of stragglers are left");
        // Everything is written anew, before those read who come late.
        for _ in 0..self.ring.free() {
            self.lease(None, usize::MAX, false, false);
        }
        self.ghosts.into_iter().for_each(Ghost::check);
    }
}

#[test]
fn a_ring_agrees_with_its_oracle() {
    let program = (
        prop::collection::vec(step(), 1..150),
        1_usize..=4,
        prop::sample::select(vec![1, 2, 12]),
        prop::sample::select(vec![0, 1, usize::MAX]),
        stragglers(),
    );
    let config =
        ProptestConfig { cases: 800, failure_persistence: None, ..ProptestConfig::default() };
    let listener = Rc::new(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
    let seen = RefCell::new([0; 9]);
    let result = TestRunner::new(config).run(&program, |program| {
        let (steps, partitions, pages, fan_out_from, stragglers) = program;
        let listener = Rc::clone(&listener);
        let mut play = Play::new(listener, partitions, pages, fan_out_from, stragglers);
        for step in &steps {
            play.step(step);
        }
        let it = play.ring.counters();
        let ways = [it.bytes_copied, it.bytes_sendfile, it.bytes_copied_out, it.aborted];
        let proofs = [it.unsent, it.copied, it.acked, it.replaced, it.reverted];
        let all = proofs.into_iter().chain(ways);
        seen.borrow_mut().iter_mut().zip(all).for_each(|(sum, count)| *sum += count);
        play.end();
        Ok(())
    });
    result.unwrap();
    let seen = seen.into_inner();
    println!("unsent, copied, acked, replaced, reverted; bytes by way; aborted: {seen:?}");
    if Ring::builder().build().unwrap().is_replaceable() {
        assert!(seen.iter().all(|count| *count > 20), "something was hardly tried: {seen:?}");
    }
}
