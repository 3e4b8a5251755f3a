//! A served handler and a plain client, for tests of the engine.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // A test ends at the first surprise; not every file uses all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::rc::Rc;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::task::Waker;
use std::thread::JoinHandle;
use std::time::Duration;

use sluicegate::{Listener, SendContext, Socket, Worker};
use sluicegate_http::{Handler, Limits, Service, serve};

/// Longer than any honest answer takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A worker on a thread of its own, until it is dropped.
pub struct Served {
    pub address: SocketAddr,
    stop: Arc<Mutex<Stop>>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Stop {
    wanted: bool,
    drain: bool,
    close_idle: bool,
    waker: Option<Waker>,
}

impl Served {
    /// Serves what `handler` makes, on a port of the kernel's choice.
    pub fn new<H, F>(limits: Limits, handler: F) -> Self
    where
        H: Handler + 'static,
        F: FnOnce() -> H + Send + 'static,
    {
        Self::with_context(limits, SendContext::default(), handler)
    }

    /// The same with what all sockets share.
    pub fn with_context<H, F>(limits: Limits, context: SendContext, handler: F) -> Self
    where
        H: Handler + 'static,
        F: FnOnce() -> H + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel();
        let stop: Arc<Mutex<Stop>> = Arc::default();
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let worker = Worker::new().unwrap();
            let reactor = worker.reactor().clone();
            let socket = sluicegate::listen("127.0.0.1:0".parse().unwrap());
            let listener = Listener::new(socket.unwrap(), reactor.clone()).unwrap();
            sender.send(listener.local_address().unwrap().unwrap()).unwrap();
            let service = Rc::new(Service::new(handler(), limits));
            let shared = Rc::clone(&service);
            let context = Arc::new(context);
            let spawner = worker.spawner().clone();
            let accepting = worker.spawner().spawn(async move {
                loop {
                    let (fd, _) = listener.accept().await.unwrap();
                    let context = Arc::clone(&context);
                    let socket = Socket::with_context(fd, listener.source(), context).unwrap();
                    spawner.start(serve(socket, Rc::clone(&shared)));
                }
            });
            worker
                .run(async move {
                    std::future::poll_fn(|cx| {
                        let mut told = told.lock().unwrap();
                        if std::mem::take(&mut told.drain) {
                            service.drain();
                            reactor.wake_readers();
                        }
                        if std::mem::take(&mut told.close_idle) {
                            service.close_idle();
                            reactor.wake_readers();
                        }
                        told.waker = Some(cx.waker().clone());
                        if told.wanted {
                            std::task::Poll::Ready(())
                        } else {
                            std::task::Poll::Pending
                        }
                    })
                    .await;
                })
                .unwrap();
            drop(accepting);
        });
        Served { address: receiver.recv().unwrap(), stop, thread: Some(thread) }
    }

    fn tell(&self, what: impl FnOnce(&mut Stop)) {
        let mut stop = self.stop.lock().unwrap();
        what(&mut stop);
        if let Some(waker) = stop.waker.take() {
            waker.wake();
        }
    }

    /// Makes every answer from now on the last of its connection.
    pub fn drain(&self) {
        self.tell(|stop| stop.drain = true);
    }

    /// And closes connections that have nothing to answer.
    pub fn close_idle(&self) {
        self.tell(|stop| stop.close_idle = true);
    }

    pub fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, read: Vec::new() }
    }

    /// Sends `bytes`, in pieces of at most `piece`, and returns all that comes
    /// back until the connection ends.
    pub fn converse(&self, bytes: &[u8], piece: usize) -> Vec<u8> {
        let mut client = self.connect();
        for part in bytes.chunks(piece) {
            // A server that has refused the rest may be gone already.
            if client.stream.write_all(part).is_err() {
                break;
            }
            if piece < 100 {
                std::thread::yield_now();
            }
        }
        client.rest()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.tell(|stop| stop.wanted = true);
        let result = self.thread.take().unwrap().join();
        if !std::thread::panicking() {
            result.unwrap();
        }
    }
}

/// One answer as it came.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub content: Vec<u8>,
}

impl Answer {
    pub fn field(&self, name: &str) -> Option<&str> {
        let prefix = format!("{name}: ").to_ascii_lowercase();
        self.head
            .lines()
            .find(|line| line.to_ascii_lowercase().starts_with(&prefix))
            .map(|line| &line[prefix.len()..])
    }
}

pub struct Client {
    pub stream: TcpStream,
    read: Vec<u8>,
}

impl Client {
    pub fn send(&mut self, text: impl AsRef<[u8]>) {
        self.stream.write_all(text.as_ref()).unwrap();
    }

    pub fn fill(&mut self) -> usize {
        let mut buffer = [0; 65536];
        let count = self.stream.read(&mut buffer).unwrap();
        self.read.extend_from_slice(&buffer[..count]);
        count
    }

    /// What has come and was not taken.
    pub fn buffered(&self) -> &[u8] {
        &self.read
    }

    /// Drops the first `count` bytes of what has come.
    pub fn take(&mut self, count: usize) {
        self.read.drain(..count);
    }

    /// Drops what has come.
    pub fn forget(&mut self) {
        self.read.clear();
    }

    /// The next head, without content.
    pub fn head(&mut self) -> Answer {
        loop {
            if let Some(end) = self.read.windows(4).position(|four| four == b"\r\n\r\n") {
                let head: Vec<u8> = self.read.drain(..end + 4).collect();
                let head = String::from_utf8(head).unwrap();
                assert!(head.starts_with("HTTP/1.1 "), "{head}");
                let status = head[9..12].parse().unwrap();
                return Answer { status, head, content: Vec::new() };
            }
            assert!(self.fill() > 0, "closed within a head: {:?}", self.read.escape_ascii());
        }
    }

    /// The next answer with the content that its head announces.
    pub fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let length = answer.field("Content-Length").map_or(0, |text| text.parse().unwrap());
        while self.read.len() < length {
            assert!(self.fill() > 0, "closed within the content");
        }
        answer.content = self.read.drain(..length).collect();
        answer
    }

    /// Everything until the server closes. A reset fails the test.
    pub fn rest(mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        self.read
    }

    /// Whether the server resets the connection.
    pub fn ends_in_a_reset(mut self) -> bool {
        let mut buffer = [0; 65536];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }
}
