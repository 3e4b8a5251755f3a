//! The library with nothing around it: a worker, a listener, and a task for each connection.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;

use sluicegate::{Listener, Segment, SendContext, Socket, Worker};
use sluicegate_sys::file::read_at;

use crate::floor::head;

/// Room for a request, of which nothing but the end is looked at.
const REQUEST: usize = 4096;

/// Answers every request with the head, `length - tail` bytes of the file, and its last `tail`
/// bytes from memory. `from_memory`: the content too.
pub(super) fn serve(
    listener: Arc<OwnedFd>,
    file: File,
    length: u64,
    tail: usize,
    from_memory: bool,
) -> io::Result<()> {
    let answer = Rc::new(answer(file, length, tail, from_memory)?);
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

fn answer(file: File, length: u64, tail: usize, from_memory: bool) -> io::Result<Vec<Segment>> {
    let end = length.saturating_sub(tail as u64);
    let read = |offset: u64, length: usize| {
        let mut bytes = Vec::with_capacity(length);
        while bytes.len() < length {
            let at = offset + bytes.len() as u64;
            if read_at(file.as_fd(), at, length - bytes.len(), &mut bytes)? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
        }
        Ok(Segment::memory(bytes))
    };
    let last = if tail > 0 { Some(read(end, tail)?) } else { None };
    let content =
        if from_memory { read(0, end as usize)? } else { Segment::file(&Arc::new(file), 0..end) };
    Ok([Some(Segment::memory(head(length))), Some(content), last].into_iter().flatten().collect())
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
