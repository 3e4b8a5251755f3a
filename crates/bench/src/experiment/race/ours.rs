//! (c): the same stream through a ring of the library, to one reader and to several.

use std::io::Write;
use std::net::TcpStream;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};
use sluicegate::{
    AckQueue, Event, Lease, Locality, LocalityRule, Registration, Ring, RingCounters, Segment,
    SendContext, Socket, Tag, Watch, Worker,
};

use super::backing::{Backing, Ground};
use super::content::fill;
use super::sizes::READERS;
use super::{HEAD, PARTITION, RING};

/// Of several readers the first few are copied to, the others have references: both at once.
const FAN_OUT_FROM: usize = READERS / 2;

/// What several readers are waited for, before the ring is looked at again.
const TURN: Duration = Duration::from_millis(1);

/// What a stream may take at all, beside a second for each 4 MiB: the slowest wire, with a 100th
/// of the machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is known of the peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Knowledge {
    /// Nothing, and nobody asks: it counts as local.
    None,
    /// Somebody has said that it is on another host.
    Told,
    /// The first memory that is sent asks the kernel.
    Probed,
}

/// What a ring did: partitions by proof, bytes by way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Account {
    pub(super) copied: u64,
    pub(super) released: u64,
    pub(super) acked: u64,
    pub(super) replaced: u64,
    /// Leased for the first time, mostly: no proof was needed.
    pub(super) unsent: u64,
    pub(super) quarantined: u64,
    pub(super) bytes_copied: u64,
    pub(super) bytes_sendfile: u64,
    pub(super) bytes_zerocopy: u64,
    pub(super) bytes_copied_out: u64,
}

impl From<RingCounters> for Account {
    fn from(of: RingCounters) -> Self {
        Self {
            copied: of.copied,
            released: of.released,
            acked: of.acked,
            replaced: of.replaced,
            unsent: of.unsent,
            quarantined: of.quarantined,
            bytes_copied: of.bytes_copied,
            bytes_sendfile: of.bytes_sendfile,
            bytes_zerocopy: of.bytes_zerocopy,
            bytes_copied_out: of.bytes_copied_out,
        }
    }
}

impl Account {
    /// Partitions that were written to again, with a proof.
    pub(super) fn reused(&self) -> u64 {
        self.copied + self.released + self.acked + self.replaced
    }
}

/// What goes through a ring.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    backing: Backing,
    directory: Option<PathBuf>,
    /// Bytes behind the head.
    length: u64,
    knowledge: Knowledge,
}

impl Stream {
    pub(super) fn new(
        ground: &Ground,
        backing: Backing,
        length: u64,
        knowledge: Knowledge,
    ) -> Self {
        Self { backing, directory: ground.directory(backing), length, knowledge }
    }

    /// A ring of 1 MiB. Its partitions are 64 KiB, or what one write covers.
    fn ring(&self, fan_out_from: Option<usize>) -> Result<Ring> {
        let backing = match &self.directory {
            None => sluicegate::Backing::Memfd,
            Some(directory) => sluicegate::Backing::Files(directory.clone()),
        };
        let partitions = RING / self.partition();
        let mut builder = Ring::builder().size(RING).partitions(partitions).backing(backing);
        if let Some(sockets) = fan_out_from {
            builder = builder.fan_out_from(sockets);
        }
        builder.build().with_context(|| format!("no ring on {}", self.backing))
    }

    fn partition(&self) -> usize {
        self.backing.unit().max(PARTITION)
    }

    fn partitions(&self) -> u64 {
        self.length / self.partition() as u64
    }

    fn patience(&self) -> Duration {
        PATIENCE + Duration::from_secs(self.length >> 22)
    }

    /// What belongs into the `n`-th lease.
    fn contents(&self, n: u64, scratch: &mut Vec<u8>) {
        scratch.resize(self.partition(), 0);
        fill(HEAD as u64 + n * self.partition() as u64, scratch);
    }

    /// Writes it, in pieces as large as the backing is to be written in.
    fn write(&self, lease: &mut Lease, contents: &[u8]) -> Result<()> {
        contents.chunks(self.backing.piece()).try_for_each(|piece| Ok(lease.write_all(piece)?))
    }
}

fn head() -> Segment {
    let mut head = vec![0; HEAD];
    fill(0, &mut head);
    Segment::given(head)
}

/// Sends a stream to one reader, on a worker of this thread's.
pub(super) fn to_one(stream: TcpStream, what: Stream) -> Result<Account> {
    let worker = Worker::new()?;
    let mut context = SendContext::default();
    if what.knowledge == Knowledge::Told {
        context.locality =
            LocalityRule { forced: Some(Locality::Remote), ..LocalityRule::default() };
    }
    stream.set_nonblocking(true)?;
    let socket = Socket::with_context(stream.into(), worker.reactor(), Arc::new(context))?;
    let (reactor, patience) = (worker.reactor().clone(), what.patience());
    worker.run(async move {
        let (mut sending, mut limit) = (pin!(send(socket, what)), pin!(reactor.sleep(patience)));
        std::future::poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(result),
            Poll::Pending => limit.as_mut().poll(cx).map(|()| Err(anyhow!("the ring stood still"))),
        })
        .await
    })?
}

async fn send(mut socket: Socket<Registration>, what: Stream) -> Result<Account> {
    let ring = what.ring(None)?;
    if what.knowledge != Knowledge::None {
        socket.expect_region();
    }
    socket.queue(head())?;
    if what.knowledge != Knowledge::None {
        // If it is not found remote, the ring copies, and its account says so.
        socket.located().await?;
    }
    let mut scratch = Vec::new();
    for n in 0..what.partitions() {
        let mut lease = socket.acquire(&ring).await?;
        what.contents(n, &mut scratch);
        what.write(&mut lease, &scratch)?;
        socket.queue(Segment::from(lease.publish_written()))?;
    }
    socket.drive().await?;
    socket.shutdown()?;
    Ok(ring.counters().into())
}

/// Sends one stream to several readers: each partition is one region, queued to all of them.
pub(super) fn to_many(streams: Vec<TcpStream>, what: &Stream) -> Result<Account> {
    let deadline = Instant::now() + what.patience();
    let ring = what.ring(Some(FAN_OUT_FROM))?;
    let mut acks = AckQueue::new()?;
    let sockets = streams
        .into_iter()
        .map(|stream| acks.add(stream, Watch::Ours))
        .collect::<std::io::Result<Vec<_>>>()?;
    let mut left = 0;
    for &id in &sockets {
        acks.queue(id, head(), Tag::Number(0))?;
        left += HEAD as u64;
    }
    let (mut events, mut scratch) = (Vec::new(), Vec::new());
    let mut turn = |acks: &mut AckQueue, left: &mut u64| -> Result<()> {
        acks.wait(&mut events, Some(TURN))?;
        for event in events.drain(..) {
            match event {
                Event::Acked(_, grown) => *left = left.saturating_sub(grown.grown),
                Event::Readable(_) | Event::Released(..) => {}
                other => bail!("a reader has failed: {other:?}"),
            }
        }
        if Instant::now() > deadline {
            bail!("the ring stood still");
        }
        Ok(())
    };
    for n in 0..what.partitions() {
        let mut lease = loop {
            match ring.try_acquire(None)? {
                Some(lease) => break lease,
                None => turn(&mut acks, &mut left)?,
            }
        };
        what.contents(n, &mut scratch);
        what.write(&mut lease, &scratch)?;
        let region = lease.publish_written();
        for &id in &sockets {
            acks.queue(id, Segment::from(region.clone()), Tag::Number(1))?;
            left += scratch.len() as u64;
        }
    }
    while left > 0 {
        turn(&mut acks, &mut left)?;
    }
    for &id in &sockets {
        acks.shutdown(id)?;
    }
    Ok(ring.counters().into())
}
