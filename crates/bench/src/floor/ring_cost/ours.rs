//! The library's ring.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sluicegate::{
    Listener, Locality, LocalityRule, Registration, Ring, SendContext, Socket, Worker,
};

use super::RingFloor;
use crate::floor::ring::{Account, ORDER, Stamped, order};

/// Serves one connection after another from one ring.
pub(super) fn serve(listener: Arc<OwnedFd>, floor: RingFloor) -> Result<()> {
    let worker = Worker::new()?;
    let reactor = worker.reactor().clone();
    let listener = Listener::new(listener, reactor.clone())?;
    let partitions = floor.size / floor.partition;
    let ring = Ring::builder().size(floor.size).partitions(partitions).build()?;
    let forced = floor.remote.then_some(Locality::Remote);
    let locality = LocalityRule { forced, ..LocalityRule::default() };
    let context = Arc::new(SendContext { locality, ..SendContext::default() });
    worker.run(async move {
        let mut stamped = Stamped::new();
        loop {
            let (fd, _) = listener.accept().await.context("cannot accept")?;
            let socket = Socket::with_context(fd, &reactor, Arc::clone(&context))?;
            if let Err(error) = connection(socket, &ring, floor, &mut stamped).await {
                eprintln!("{error:#}");
            }
        }
    })?
}

async fn connection(
    mut socket: Socket<Registration>,
    ring: &Ring,
    floor: RingFloor,
    stamped: &mut Stamped,
) -> Result<()> {
    let mut bytes = Vec::with_capacity(ORDER);
    let mut template = 0;
    loop {
        bytes.clear();
        if socket.receive(&mut bytes).await? == 0 {
            return Ok(());
        }
        // It is sent whole, in one packet.
        let partitions = order(&bytes).context("half an order")?;
        let before = ring.counters();
        for _ in 0..partitions {
            let mut lease = socket.acquire(ring).await?;
            for _ in 0..floor.templates() {
                lease.write_all(stamped.at(template))?;
                template += 1;
            }
            socket.queue(lease.publish_written())?;
            socket.flush().await?;
        }
        socket.drive().await?;
        ensure!(ring.free() == ring.partitions(), "a partition has no proof");
        Account::between(partitions, before, ring.counters()).tell()?;
    }
}
