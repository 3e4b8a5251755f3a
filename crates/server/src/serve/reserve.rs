//! What happens when the process has no descriptor left: a client is told so
//! instead of waiting in the queue for nothing.
//!
//! One descriptor is kept for that. It is given up, the connection accepted in
//! its place, answered, closed, and the reserve taken again.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sluicegate::{Listener, Reactor};

use crate::log::tell;

/// How often it is said that something is missing.
const SAY: Duration = Duration::from_secs(60);

/// What a client gets that cannot be served. RFC 9110 section 15.6.4.
const ANSWER: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; \
    charset=utf-8\r\nContent-Length: 24\r\nRetry-After: 5\r\nConnection: close\r\n\r\n\
    503 Service Unavailable\n";

/// Requests are read up to here, so that closing does not reset the answer.
const READ: usize = 64 * 1024;

/// The descriptor that is kept for the time when there is none.
#[derive(Debug)]
pub(super) struct Reserve {
    kept: Mutex<Option<OwnedFd>>,
    /// It is in use, or somebody else has taken its place.
    is_missing: AtomicBool,
    said: Mutex<Option<Instant>>,
}

/// How an attempt to turn a client away went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turned {
    /// One was told to come back later.
    Away,
    /// None waits.
    Nobody,
    /// Somebody else took the last descriptor: wait.
    Not,
}

impl Reserve {
    pub(super) fn new() -> Self {
        let is_missing = AtomicBool::new(false);
        Reserve { kept: Mutex::new(take()), is_missing, said: Mutex::new(None) }
    }

    /// Passes an accepted connection on, unless it has taken the place of the
    /// reserve, which another worker was about to take again: then it is turned
    /// away, and the reserve is there for the next ones.
    pub(super) fn admit(&self, connection: OwnedFd) -> Option<OwnedFd> {
        if !self.is_missing.load(Ordering::SeqCst) {
            return Some(connection);
        }
        let mut kept = self.lock();
        if kept.is_none() {
            *kept = take();
        }
        let mut admitted = Some(connection);
        if kept.is_none()
            && let Some(connection) = admitted.take()
        {
            refuse(connection);
            *kept = take();
        }
        self.is_missing.store(kept.is_none(), Ordering::SeqCst);
        admitted
    }

    fn lock(&self) -> MutexGuard<'_, Option<OwnedFd>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers one client that waits at `listener` that it cannot be served.
    pub(super) fn turn_away(&self, listener: &Listener<Reactor>) -> Turned {
        let mut kept = self.lock();
        // Before its place is free: who takes that is to see it.
        self.is_missing.store(true, Ordering::SeqCst);
        if kept.take().is_none() {
            *kept = take();
            self.is_missing.store(kept.is_none(), Ordering::SeqCst);
            // If there is one again, accepting goes on as ever.
            return Turned::Not;
        }
        let turned = match listener.accept_now() {
            Ok(Some((connection, _))) => {
                refuse(connection);
                Turned::Away
            }
            Ok(None) => Turned::Nobody,
            Err(_) => Turned::Not,
        };
        *kept = take();
        self.is_missing.store(kept.is_none(), Ordering::SeqCst);
        turned
    }

    /// Tells the operator what is missing, once a minute.
    pub(super) fn say(&self, error: &std::io::Error) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.is_none_or(|at| at.elapsed() >= SAY) {
            *said = Some(Instant::now());
            drop(said);
            tell(format_args!(
                "cannot serve a new connection: {error} (said at most once a minute)"
            ));
        }
    }
}

/// A descriptor that costs little and needs no file system.
fn take() -> Option<OwnedFd> {
    UnixDatagram::unbound().ok().map(OwnedFd::from)
}

/// As well as it can be done without waiting.
fn refuse(connection: OwnedFd) {
    let mut stream = TcpStream::from(connection);
    let _ = stream.write(ANSWER);
    let _ = stream.shutdown(Shutdown::Write);
    let mut request = [0; 4096];
    for _ in 0..READ / request.len() {
        match stream.read(&mut request) {
            Ok(1..) => {}
            Ok(0) | Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_has_the_length_that_it_names() {
        let text = std::str::from_utf8(ANSWER).unwrap();
        let (head, content) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", content.len())), "{head}");
    }
}
