//! A connection that is gone is told from one whose peer only sends no more.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::future::poll_fn;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::task::Poll;
use std::time::Duration;

use sluicegate::{Readiness, Socket, Source, Worker};

/// Longer than the loopback takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn pair<S: Source>(source: &S) -> (TcpStream, Socket<S::Readiness>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (peer, Socket::new(listener.accept().unwrap().0, source).unwrap())
}

fn reset(peer: TcpStream) {
    sluicegate_sys::socket::reset_on_close(peer.as_fd()).unwrap();
    drop(peer);
}

async fn is_gone<R: Readiness>(socket: &Socket<R>) -> bool {
    poll_fn(|cx| Poll::Ready(socket.poll_gone(cx).is_ready())).await
}

async fn look<S: Source>(source: S) {
    // An end alone, and after it a reset.
    let (peer, socket) = pair(&source);
    assert!(!is_gone(&socket).await);
    peer.shutdown(Shutdown::Write).unwrap();
    poll_fn(|cx| socket.poll_hung_up(cx)).await;
    assert!(!is_gone(&socket).await);
    reset(peer);
    poll_fn(|cx| socket.poll_gone(cx)).await;

    // A reset with bytes before it that nobody has read.
    let (mut peer, mut socket) = pair(&source);
    std::io::Write::write_all(&mut peer, b"unread").unwrap();
    poll_fn(|cx| socket.poll_readable(cx)).await;
    assert!(!is_gone(&socket).await);
    reset(peer);
    poll_fn(|cx| socket.poll_gone(cx)).await;

    // Both have said that they send no more: that is no failure.
    let (peer, mut socket) = pair(&source);
    socket.shutdown().unwrap();
    peer.shutdown(Shutdown::Write).unwrap();
    assert_eq!(socket.receive(&mut Vec::with_capacity(1)).await.unwrap(), 0);
    assert!(!is_gone(&socket).await);
    drop(peer);
}

#[test]
fn on_a_worker() {
    let worker = Worker::new().unwrap();
    let reactor = worker.reactor().clone();
    worker
        .run(async move {
            let mut patience = Box::pin(reactor.sleep(PATIENCE));
            let mut looking = Box::pin(look(reactor.clone()));
            poll_fn(|cx| {
                assert!(patience.as_mut().poll(cx).is_pending(), "never told");
                looking.as_mut().poll(cx)
            })
            .await;
        })
        .unwrap();
}

#[cfg(feature = "tokio")]
#[test]
fn on_tokio() {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.unwrap().block_on(async {
        let looking = look(sluicegate::SharedReactor::new().unwrap());
        tokio::time::timeout(PATIENCE, looking).await.expect("never told");
    });
}
