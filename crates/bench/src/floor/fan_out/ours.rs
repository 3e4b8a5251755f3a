//! The library's ring: a partition is one region, queued to every socket.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use sluicegate::{Listener, Registration, Ring, SendContext, Socket, Worker};

use super::{FanOutFloor, PARTITION, RING, Spread};
use crate::floor::ring::{Account, ORDER, OVERWRITE, Stamped, order};

/// Serves one crowd after another from one ring.
pub(super) fn serve(listener: Arc<OwnedFd>, floor: FanOutFloor) -> Result<()> {
    let worker = Worker::new()?;
    let reactor = worker.reactor().clone();
    let listener = Listener::new(listener, reactor.clone())?;
    let builder = Ring::builder().size(RING).partitions(RING / PARTITION);
    let ring = match floor.way {
        Spread::OursCopy => builder.fan_out_from(usize::MAX),
        Spread::OursReference => builder.fan_out_from(0),
        _ => builder,
    };
    let ring = ring.build()?;
    let mut context = SendContext::default();
    if floor.send_buffer.is_some() {
        context.unsent = None;
    }
    let context = Arc::new(context);
    worker.run(async move {
        loop {
            let mut sockets = Vec::with_capacity(floor.sockets);
            for _ in 0..floor.sockets {
                let (fd, _) = listener.accept().await.context("cannot accept")?;
                floor.widen(&fd)?;
                sockets.push(Socket::with_context(fd, &reactor, Arc::clone(&context))?);
            }
            if let Err(error) = crowd(sockets, &ring).await {
                eprintln!("{error:#}");
            }
        }
    })?
}

async fn crowd(mut sockets: Vec<Socket<Registration>>, ring: &Ring) -> Result<()> {
    let mut stamped = Stamped::new();
    let mut template = 0;
    let mut bytes = Vec::with_capacity(ORDER);
    loop {
        bytes.clear();
        if sockets[0].receive(&mut bytes).await? == 0 {
            return Ok(());
        }
        // It is sent whole, in one packet.
        let (partitions, is_sent) = match order(&bytes).context("half an order")? {
            OVERWRITE => (ring.partitions() as u64, false),
            partitions => (partitions, true),
        };
        let before = ring.counters();
        for _ in 0..partitions {
            let mut lease = ring.acquire().await?;
            lease.write_all(stamped.at(template))?;
            template += 1;
            let region = lease.publish_written();
            if is_sent {
                for socket in &mut sockets {
                    socket.queue(region.clone())?;
                    socket.flush().await?;
                }
            }
        }
        // The ring needs no more than that all is accepted, since what refers to its pages keeps
        // them when they are replaced; only for the first KiB of each socket, which asks where the
        // peer is, the kernel is waited for.
        for socket in &mut sockets {
            socket.drive().await?;
        }
        ensure!(ring.free() == ring.partitions(), "a partition has no proof");
        Account::between(partitions, before, ring.counters()).tell()?;
    }
}
