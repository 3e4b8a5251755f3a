//! The library: a buffer is lent to it, and comes back when it may be written to again.

use std::future::poll_fn;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use anyhow::{Context, Result};
use sluicegate::{Listener, Registration, Segment, SendContext, Socket, Strategy, Way, Worker};
use sluicegate_sys::{outq, tcp_info};

use super::{REQUEST, Request, Studio, Took};

/// Serves one connection after another.
pub(super) fn serve(listener: Arc<OwnedFd>, studio: Studio, is_forced: bool) -> Result<()> {
    let worker = Worker::new()?;
    let reactor = worker.reactor().clone();
    let listener = Listener::new(listener, reactor.clone())?;
    let forced = is_forced.then_some(Way::Zerocopy);
    let strategy = Strategy { forced, ..Strategy::default() };
    let context = Arc::new(SendContext { strategy, ..SendContext::default() });
    let mut server = Server { image: vec![0; studio.length], studio };
    worker.run(async move {
        loop {
            let (fd, _) = listener.accept().await.context("cannot accept")?;
            let socket = Socket::with_context(fd, &reactor, Arc::clone(&context))?;
            if let Err(error) = server.connection(socket).await {
                eprintln!("{error:#}");
                // The one that was lent went with its socket.
                server.image = vec![0; server.studio.length];
            }
        }
    })?
}

struct Server {
    studio: Studio,
    image: Vec<u8>,
}

impl Server {
    async fn connection(&mut self, mut socket: Socket<Registration>) -> Result<()> {
        let mut request = Vec::with_capacity(REQUEST);
        loop {
            request.clear();
            if socket.receive(&mut request).await? == 0 {
                return Ok(());
            }
            match Request::read(&request)? {
                Request::Report => {
                    socket.queue(Segment::given(self.studio.report()?))?;
                    socket.flush().await?;
                }
                Request::Image { number, timed } => {
                    self.studio.make(number, &mut self.image);
                    let took = self.send(&mut socket, timed).await?;
                    self.studio.enter(took)?;
                }
            }
        }
    }

    async fn send(&mut self, socket: &mut Socket<Registration>, timed: bool) -> Result<Took> {
        let head = self.studio.head();
        let image = std::mem::take(&mut self.image);
        let start = Instant::now();
        socket.queue(Segment::given(head))?;
        let end = socket.queue(Segment::memory(image))?;
        let held = start.elapsed();
        let mut acked = None;
        if timed {
            await_acked(socket).await?;
            acked = Some(start.elapsed());
        }
        let image = socket.released(end).await?;
        let reusable = (!timed).then(|| start.elapsed());
        // Without a copy: it is the very buffer.
        self.image = Vec::from(image);
        Ok(Took { held, reusable, acked })
    }
}

/// Sends, and looks without a pause until everything is acknowledged.
async fn await_acked(socket: &mut Socket<Registration>) -> Result<()> {
    let mut asked = 0_u32;
    poll_fn(|cx| {
        let flushed = socket.poll_flush(cx)?;
        if flushed.is_ready() && outq::unacknowledged(socket.as_fd())? == 0 {
            return Poll::Ready(Ok(()));
        }
        asked = asked.wrapping_add(1);
        // What a connection that is gone has not acknowledged it never will.
        if asked.is_multiple_of(1 << 10) && tcp_info::tcp_info(socket.as_fd())?.closed {
            let gone = io::Error::from(io::ErrorKind::ConnectionReset);
            return Poll::Ready(Err(gone.into()));
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    use std::thread;

    #[test]
    fn the_buffer_that_comes_back_is_the_one_that_was_lent() {
        const LENGTH: usize = 3 << 20;
        for is_forced in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let reader = thread::spawn(move || {
                let mut all = Vec::new();
                TcpStream::connect(address).unwrap().read_to_end(&mut all).unwrap();
                all.len()
            });
            let stream = listener.accept().unwrap().0;
            stream.set_nonblocking(true).unwrap();
            let worker = Worker::new().unwrap();
            let forced = is_forced.then_some(Way::Zerocopy);
            let strategy = Strategy { forced, ..Strategy::default() };
            let context = Arc::new(SendContext { strategy, ..SendContext::default() });
            let socket = Socket::with_context(stream.into(), worker.reactor(), context).unwrap();
            let image = vec![7; LENGTH];
            let address = image.as_ptr() as usize;
            let studio = Studio::new(LENGTH, 1).unwrap();
            let mut server = Server { studio, image };
            let image = worker
                .run(async move {
                    let mut socket = socket;
                    server.send(&mut socket, false).await.unwrap();
                    drop(socket);
                    server.image
                })
                .unwrap();
            assert_eq!((image.as_ptr() as usize, image.len()), (address, LENGTH));
            assert!(reader.join().unwrap() > LENGTH);
        }
    }
}
