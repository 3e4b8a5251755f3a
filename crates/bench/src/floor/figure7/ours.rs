//! The library with nothing around it: a worker, a listener, and a task for each connection.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use sluicegate::{Listener, Segment, SendContext, Socket, Worker};
use sluicegate_sys::file::read_at;

use crate::floor::head;

/// Room for a request, of which nothing but the end is looked at.
const REQUEST: usize = 4096;

/// The path at which a server tells by which ways it has sent.
pub(crate) const WAYS: &str = "/ways";

/// A request for it begins so.
const WAYS_ASKED: &[u8] = b"GET /ways ";

/// Bytes by each way.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ways {
    pub(crate) copied: u64,
    pub(crate) sendfile: u64,
    pub(crate) spliced: u64,
}

/// Answers every request with the head, `length - tail` bytes of the file, and its last `tail`
/// bytes from memory. Content of up to `memory_up_to` bytes is in memory too, behind its head.
pub(super) fn serve(
    listener: Arc<OwnedFd>,
    file: File,
    length: u64,
    tail: usize,
    memory_up_to: u64,
) -> io::Result<()> {
    let answer = Rc::new(answer(file, length, tail, memory_up_to)?);
    let worker = Worker::new()?;
    let reactor = worker.reactor().clone();
    let spawner = worker.spawner().clone();
    let listener = Listener::new(listener, reactor.clone())?;
    let context = Arc::new(SendContext::default());
    worker.run(async move {
        loop {
            let (fd, _) = listener.accept().await?;
            let (answer, context) = (Rc::clone(&answer), Arc::clone(&context));
            let socket = Socket::with_context(fd, &reactor, context)?;
            spawner.spawn(connection(socket, answer)).detach();
        }
    })?
}

fn answer(file: File, length: u64, tail: usize, memory_up_to: u64) -> io::Result<Vec<Segment>> {
    let end = length.saturating_sub(tail as u64);
    let read = |offset: u64, length: usize, bytes: &mut Vec<u8>| {
        let goal = bytes.len() + length;
        let mut at = offset;
        while bytes.len() < goal {
            let read = read_at(file.as_fd(), at, goal - bytes.len(), bytes)?;
            if read == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            at += read as u64;
        }
        Ok(())
    };
    let mut last = Vec::new();
    read(end, tail, &mut last)?;
    let mut first = head(length);
    let is_kept = end <= memory_up_to;
    if is_kept {
        read(0, end as usize, &mut first)?;
    }
    let mut segments = vec![Segment::given(first)];
    if !is_kept {
        segments.push(Segment::file(&Arc::new(file), 0..end));
    }
    if tail > 0 {
        segments.push(Segment::given(last));
    }
    Ok(segments)
}

/// Answers until the client goes, or does something else than ask.
async fn connection(mut socket: Socket<sluicegate::Registration>, answer: Rc<Vec<Segment>>) {
    let mut request = Vec::with_capacity(REQUEST);
    loop {
        request.clear();
        match socket.receive(&mut request).await {
            // The clients send a whole request in one packet, and none ahead.
            Ok(_) if request.ends_with(b"\r\n\r\n") => {}
            Ok(_) | Err(_) => return,
        }
        if request.starts_with(WAYS_ASKED) {
            if tell_ways(&mut socket).await.is_err() {
                return;
            }
            continue;
        }
        for segment in answer.iter() {
            if socket.queue(segment.clone()).is_err() {
                return;
            }
        }
        if socket.flush().await.is_err() {
            return;
        }
    }
}

async fn tell_ways(socket: &mut Socket<sluicegate::Registration>) -> io::Result<()> {
    let ways = socket.context().counters.ways();
    let ways = Ways { copied: ways.copied, sendfile: ways.sendfile, spliced: ways.spliced };
    let json = serde_json::to_string(&ways)?;
    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{json}", json.len());
    socket.queue(Segment::given(answer)).map_err(io::Error::other)?;
    socket.flush().await.map_err(io::Error::other)
}
