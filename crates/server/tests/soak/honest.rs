//! Clients that ask, read, and check every byte.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluicegate_testkit::corpus::Verifier;

use super::{LARGE, MEDIUM, SEED, SMALL};

/// Who gets no byte for so long has failed.
const SILENCE: Duration = Duration::from_secs(60);

/// Between two requests of one client: they are to find out how the server is,
/// not to keep the machine busy.
const PAUSE: Duration = Duration::from_millis(4);

/// Of so many requests one is for the large file.
const RARELY: u64 = 100;

/// What they share with who started them.
#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    /// No new connections.
    pause: AtomicBool,
    /// Clients that heed the pause.
    pausing: AtomicUsize,
    answered: AtomicU64,
}

/// What one of them has to tell.
#[derive(Debug, Default)]
pub struct Told {
    pub client: usize,
    /// Requests; their numbers are below it.
    pub asked: u64,
    /// Times of small and medium answers, from asking (connecting, where it is a
    /// new connection) to the last byte.
    pub times: Vec<Duration>,
    /// The same of large ones.
    pub large: Vec<Duration>,
    pub connections: u64,
    /// Requests on kept connections that were closed before the answer's first byte.
    pub asked_anew: u64,
}

/// Honest clients, half of which keep their connections.
pub struct Honest {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<Result<Told, String>>>,
}

impl Honest {
    /// How many, of whom every other keeps its connection.
    pub const CLIENTS: usize = 6;

    /// To be called on the clients' host.
    pub fn start(server: SocketAddr) -> Self {
        let shared = Arc::new(Shared::default());
        let clients = (0..Self::CLIENTS).map(|client| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || ask(server, client, &shared))
        });
        let clients = clients.collect();
        Honest { shared, clients }
    }

    /// Requests that were answered.
    pub fn answered(&self) -> u64 {
        self.shared.answered.load(Ordering::SeqCst)
    }

    /// Returns when no new connection is opened.
    pub fn pause(&self) {
        self.shared.pause.store(true, Ordering::SeqCst);
        super::eventually("honest clients pause", || {
            self.shared.pausing.load(Ordering::SeqCst) == Self::CLIENTS / 2 || self.has_failed()
        });
    }

    pub fn go_on(&self) {
        self.shared.pause.store(false, Ordering::SeqCst);
    }

    /// One of them has come to its end before its time.
    pub fn has_failed(&self) -> bool {
        self.clients.iter().any(JoinHandle::is_finished)
    }

    /// Ends them, and returns what they tell: nothing failed.
    pub fn finish(mut self) -> Vec<Told> {
        self.shared.stop.store(true, Ordering::SeqCst);
        let clients = std::mem::take(&mut self.clients).into_iter();
        clients.map(|client| client.join().unwrap().expect("no honest request fails")).collect()
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        for client in self.clients.drain(..) {
            if let Ok(Err(error)) = client.join() {
                eprintln!("an honest client: {error}");
            }
        }
    }
}

fn ask(server: SocketAddr, client: usize, shared: &Shared) -> Result<Told, String> {
    let keeps = client.is_multiple_of(2);
    let mut told = Told { client, ..Told::default() };
    let mut kept: Option<TcpStream> = None;
    let mut buffer = vec![0; 256 << 10];
    while !shared.stop.load(Ordering::SeqCst) {
        if !keeps && shared.pause.load(Ordering::SeqCst) {
            shared.pausing.fetch_add(1, Ordering::SeqCst);
            while shared.pause.load(Ordering::SeqCst) && !shared.stop.load(Ordering::SeqCst) {
                std::thread::sleep(PAUSE);
            }
            shared.pausing.fetch_sub(1, Ordering::SeqCst);
            continue;
        }
        let (name, length) = match told.asked {
            number if number % RARELY == RARELY - 1 => ("large", LARGE),
            number if number % 4 == 3 => ("medium", MEDIUM),
            _ => ("small", SMALL),
        };
        let begin = Instant::now();
        let fail = |what: &dyn std::fmt::Display| {
            let (number, took) = (told.asked, begin.elapsed());
            format!("client {client}, request {number} for {name}, after {took:?}: {what}")
        };
        let was_kept = kept.is_some();
        let mut stream = match kept.take() {
            Some(stream) => stream,
            None => {
                told.connections += 1;
                let stream = TcpStream::connect(server).map_err(|error| fail(&error))?;
                stream.set_read_timeout(Some(SILENCE)).unwrap();
                stream.set_write_timeout(Some(SILENCE)).unwrap();
                stream
            }
        };
        let close = if keeps { "" } else { "Connection: close\r\n" };
        let number = told.asked;
        let request = format!(
            "GET /{name}?honest={client}-{number}. HTTP/1.1\r\nHost: {name}.test\r\n{close}\r\n"
        );
        let sent = stream.write_all(request.as_bytes()).map_err(|error| (error.to_string(), false));
        let goes_on = match sent.and_then(|()| read(&mut stream, length, &mut buffer)) {
            Ok(goes_on) => goes_on,
            // RFC 9112 section 9.3.1: a connection may be closed at any time while it
            // waits for a request, and who meets that asks anew. Here it takes a
            // client that was stalled for the whole grace of an upgrade.
            Err((_, false)) if was_kept => {
                told.asked_anew += 1;
                continue;
            }
            Err((error, _)) => return Err(fail(&error)),
        };
        let times = if length == LARGE { &mut told.large } else { &mut told.times };
        times.push(begin.elapsed());
        told.asked += 1;
        shared.answered.fetch_add(1, Ordering::SeqCst);
        kept = (keeps && goes_on).then_some(stream);
        std::thread::sleep(PAUSE);
    }
    Ok(told)
}

/// Reads one answer; returns whether the connection goes on. With an error: whether
/// any of the answer had come.
fn read(stream: &mut TcpStream, length: usize, buffer: &mut [u8]) -> Result<bool, (String, bool)> {
    let mut head = Vec::new();
    let mut verifier = Verifier::new(SEED, 0);
    let mut goes_on = None;
    while goes_on.is_none() || verifier.position() < length as u64 {
        let count = match stream.read(buffer) {
            Ok(0) => {
                let position = verifier.position();
                let any = position > 0 || !head.is_empty();
                return Err((format!("closed after {position} bytes of content"), any));
            }
            Ok(count) => count,
            Err(error) => {
                return Err((error.to_string(), verifier.position() > 0 || !head.is_empty()));
            }
        };
        let mut content = &buffer[..count];
        let beginning;
        if goes_on.is_none() {
            head.extend_from_slice(content);
            let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
            beginning = head.split_off(end + 4);
            content = &beginning;
            let head = String::from_utf8_lossy(&head);
            let announced = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
            if !head.starts_with("HTTP/1.1 200 ") || announced != Some(&*length.to_string()) {
                return Err((format!("an answer of another kind: {head}"), true));
            }
            goes_on = Some(!head.contains("\r\nConnection: close\r\n"));
        }
        verifier.update(content).map_err(|mismatch| (mismatch.to_string(), true))?;
    }
    if verifier.position() > length as u64 {
        return Err((format!("{} bytes of {length}", verifier.position()), true));
    }
    Ok(goes_on == Some(true))
}
