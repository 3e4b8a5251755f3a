//! A live feed that waits for nobody: `live_feed [ADDRESS]` makes a frame of
//! 64 KiB a hundred times a second, and sends it to all who are connected
//! (`nc 127.0.0.1 8080 > frames`).
//!
//! Memory has a frame once, however many are to get it. Who has not taken it
//! when its partition is needed again is cut loose: it is copied for him, and
//! when all such copies are more than is good, he is cut off.

use std::{cell::RefCell, error::Error, io::Write, pin::pin, rc::Rc, sync::Arc};
use std::{future::Future, future::poll_fn, net::SocketAddr, task::Poll, time::Duration};

use sluicegate::{Listener, Registration, Ring, SendContext, Socket, Stragglers, Worker, listen};

const PAUSE: Duration = Duration::from_millis(10);
/// Bytes that are copied at most, for all laggards together.
const COPIES: u64 = 1024 * 1024;

type Peer = (Option<SocketAddr>, Socket<Registration>);

/// Does something with each, and cuts off those with whom it fails: by a reset,
/// since what they have is not to be taken for the whole.
fn each<E: Error>(peers: &mut Vec<Peer>, mut act: impl FnMut(&mut Peer) -> Result<(), E>) {
    let mut at = 0;
    while let Some(peer) = peers.get_mut(at) {
        let Err(error) = act(peer) else {
            at += 1;
            continue;
        };
        let (address, socket) = peers.swap_remove(at);
        println!("{address:?} is cut off: {error}");
        socket.abort();
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::new()?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let listener = Listener::new(listen(address)?, worker.reactor().clone())?;
    println!("tcp://{}", listener.local_address()?.ok_or("no address")?);
    let (reactor, context) = (worker.reactor().clone(), Arc::new(SendContext::default()));
    let peers = Rc::new(RefCell::new(Vec::new()));
    let all = Rc::clone(&peers);
    let accept = async move {
        loop {
            let Ok((fd, peer)) = listener.accept().await else {
                listener.source().sleep(PAUSE).await; // Out of descriptors.
                continue;
            };
            let socket = Socket::with_context(fd, listener.source(), Arc::clone(&context));
            all.borrow_mut().extend(socket.ok().map(|socket| (peer, socket)));
        }
    };
    worker.spawner().spawn(accept).detach();
    let laggards = Stragglers::CopyOut { up_to: COPIES };
    let ring = Ring::builder().stragglers(laggards).fan_out_from(0).build()?;
    worker.run(async move {
        loop {
            let mut lease = ring.acquire().await?;
            let number = lease.version();
            lease.fill(b'a' + (number % 26) as u8);
            writeln!(&mut lease[..], "frame {number}")?;
            let frame = lease.publish(usize::MAX);
            each(&mut peers.borrow_mut(), |(_, peer)| peer.queue(frame.clone()).map(drop));
            drop(frame); // While we have it, it is not taken from anybody.
            let mut pause = pin!(reactor.sleep(PAUSE));
            poll_fn(|cx| {
                each(&mut peers.borrow_mut(), |(_, peer)| match peer.poll_flush(cx) {
                    Poll::Ready(sent) => sent,
                    Poll::Pending => Ok(()),
                });
                pause.as_mut().poll(cx)
            })
            .await;
            if number % 100 == 0 {
                println!("{number} frames; the ring: {:?}", ring.counters());
            }
        }
    })?
}
