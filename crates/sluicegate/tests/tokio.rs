//! The same socket inside a tokio runtime, on whatever thread it has.
#![cfg(feature = "tokio")]
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use sluicegate::{Listener, Segment, SendContext, SharedReactor, Socket};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn many_sockets_are_served_from_spawned_tasks() {
    let runtime = runtime();
    let content: Arc<Vec<u8>> = Arc::new((0..3_000_000_u32).map(|i| (i % 253) as u8).collect());
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&content).unwrap();
    let file = Arc::new(file);
    let address = runtime.block_on(async move {
        let reactor = SharedReactor::new().unwrap();
        let socket = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = Listener::new(socket, reactor).unwrap();
        let address = listener.local_address().unwrap().unwrap();
        let context = Arc::new(SendContext::default());
        tokio::spawn(async move {
            loop {
                let (fd, _) = listener.accept().await.unwrap();
                let (file, context) = (Arc::clone(&file), Arc::clone(&context));
                let mut socket = Socket::with_context(fd, listener.source(), context).unwrap();
                tokio::spawn(async move {
                    let mut ask = Vec::with_capacity(16);
                    while socket.receive(&mut ask).await.unwrap() > 0 {
                        ask.clear();
                        let end = socket.queue(Segment::file(&file, 0..3_000_000)).unwrap();
                        socket.acked(end).await.unwrap();
                    }
                });
            }
        });
        address
    });
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let content = Arc::clone(&content);
            std::thread::spawn(move || {
                let mut stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
                for _ in 0..3 {
                    stream.write_all(b"?").unwrap();
                    let mut got = vec![0; content.len()];
                    stream.read_exact(&mut got).unwrap();
                    assert!(got == *content);
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
}

#[test]
fn sockets_and_their_futures_are_send() {
    fn send<T: Send>(_: &T) {}
    let runtime = runtime();
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut socket = Socket::new(stream, &SharedReactor::new().unwrap()).unwrap();
        send(&socket);
        let end = socket.queued();
        send(&socket.acked(end));
        send(&socket.receive(&mut Vec::new()));
    });
}
