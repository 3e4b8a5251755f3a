//! An upstream that does as it is told, and writes down all that it is asked.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::incoming::{Broken, Framing, Head, Incoming};
use super::{PATIENCE, eventually};

/// What becomes of a connection after an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// It waits for another request.
    Keep,
    /// It is closed in order.
    Close,
    /// It is reset.
    Reset,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Which connection it came on, counted from 0, and the how many-th of it.
    pub connection: usize,
    pub number: usize,
    pub head: Head,
    pub content: Vec<u8>,
    pub trailers: Vec<(String, String)>,
    /// All of its content came.
    pub is_whole: bool,
}

impl Asked {
    fn word(&self, at: usize) -> &str {
        self.head.line.split(' ').nth(at).unwrap_or_default()
    }

    pub fn method(&self) -> &str {
        self.word(0)
    }

    pub fn target(&self) -> &str {
        self.word(1)
    }

    /// The value of `name=` in its query.
    pub fn query(&self, name: &str) -> Option<&str> {
        let (_, query) = self.target().split_once('?')?;
        query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
    }
}

/// TCP or a socket of the Unix domain.
#[derive(Debug)]
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Stream {
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => stream.shutdown(how),
            Stream::Unix(stream) => stream.shutdown(how),
        }
    }

    fn try_clone(&self) -> io::Result<Stream> {
        match self {
            Stream::Tcp(stream) => stream.try_clone().map(Stream::Tcp),
            Stream::Unix(stream) => stream.try_clone().map(Stream::Unix),
        }
    }

    fn set_timeout(&self, limit: Duration) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_nodelay(true)?;
                stream.set_write_timeout(Some(limit))?;
                stream.set_read_timeout(Some(limit))
            }
            Stream::Unix(stream) => stream.set_read_timeout(Some(limit)),
        }
    }

    /// What closing it does: a reset.
    fn set_reset(&self) {
        if let Stream::Tcp(stream) = self {
            let _ = rustix::net::sockopt::set_socket_linger(stream, Some(Duration::ZERO));
        }
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What the connections of an upstream have seen.
#[derive(Debug, Default)]
pub struct Record {
    asked: Mutex<Vec<Asked>>,
    offences: Mutex<Vec<String>>,
    streams: Mutex<HashMap<usize, Stream>>,
    connections: AtomicUsize,
    open: AtomicUsize,
    is_stopped: AtomicBool,
    /// What handlers have panicked with: on threads of their own, where no test would see it.
    panics: Mutex<Vec<String>>,
}

impl Record {
    /// A connection by itself, whose handler may find what it was asked to be wrong: then its peer
    /// learns so at once, and the test as soon as it looks.
    fn converse(&self, connected: &Arc<Connected>, stream: Stream, number: usize) {
        let _ = stream.set_timeout(PATIENCE);
        let work = AssertUnwindSafe(|| connected(Incoming::new(stream), number, self));
        if let Err(panic) = catch_unwind(work) {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            self.panics.lock().unwrap().push(text.unwrap_or_else(|| "no text".to_owned()));
        }
        // While there is another descriptor of it, a connection is not closed.
        self.streams.lock().unwrap().remove(&number);
        self.open.fetch_sub(1, Ordering::SeqCst);
    }

    /// Panics with what a handler has panicked with.
    #[track_caller]
    fn check(&self) {
        let panics = self.panics.lock().unwrap().clone();
        assert!(panics.is_empty(), "an upstream's handler panicked: {panics:#?}");
    }
}

/// One request, and the connection that its answer goes to.
pub struct Exchange<'a> {
    pub asked: Asked,
    pub incoming: &'a mut Incoming<Stream>,
    record: &'a Record,
    body_left: Option<Framing>,
}

impl Exchange<'_> {
    /// Sends these bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.incoming.stream.write_all(bytes.as_ref())
    }

    /// Receives the request's content.
    pub fn receive_content(&mut self) -> Result<(), Broken> {
        let Some(framing) = self.body_left.take() else { return Ok(()) };
        let content = &mut self.asked.content;
        let result = self.incoming.content(framing, &mut |piece| content.extend_from_slice(piece));
        self.asked.is_whole = result.is_ok();
        let trailers = result.as_ref().map_or_else(|_| Vec::new(), Clone::clone);
        self.asked.trailers = trailers;
        let mut asked = self.record.asked.lock().unwrap();
        let this = (self.asked.connection, self.asked.number);
        let entry = asked.iter_mut().find(|one| (one.connection, one.number) == this).unwrap();
        *entry = self.asked.clone();
        result.map(|_| ())
    }

    /// Waits until the peer has gone: `true` when it did so by a reset.
    pub fn wait_for_end(&mut self) -> bool {
        loop {
            match self.incoming.receive() {
                Ok(true) => {}
                Ok(false) => return false,
                Err(_) => return true,
            }
        }
    }

    /// The upstream is about to go.
    pub fn is_stopped(&self) -> bool {
        self.record.is_stopped.load(Ordering::SeqCst)
    }
}

type Answer = dyn Fn(&mut Exchange) -> io::Result<Next> + Send + Sync;
type Connected = dyn Fn(Incoming<Stream>, usize, &Record) + Send + Sync;

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => listener.accept().map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().map(|(stream, _)| Stream::Unix(stream)),
        }
    }

    /// Has a waiting `accept` return, wherever its network is.
    fn stop(&self) {
        let _ = match self {
            Listener::Tcp(listener) => rustix::net::shutdown(listener, rustix::net::Shutdown::Both),
            Listener::Unix(listener) => {
                rustix::net::shutdown(listener, rustix::net::Shutdown::Both)
            }
        };
    }
}

/// An upstream, until it is dropped: then each connection has ended, and nothing
/// that came was anything but one request after another.
pub struct Upstream {
    /// As a configuration names it.
    pub name: String,
    record: Arc<Record>,
    listener: Arc<Listener>,
    accepting: Option<thread::JoinHandle<()>>,
    /// To be removed.
    path: Option<PathBuf>,
}

impl Upstream {
    /// At a port of the kernel's choice.
    pub fn new(answer: impl Fn(&mut Exchange) -> io::Result<Next> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self::at(listener, answer)
    }

    pub fn at(
        listener: TcpListener,
        answer: impl Fn(&mut Exchange) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        let name = listener.local_addr().unwrap().to_string();
        let answer: Arc<Answer> = Arc::new(answer);
        let connected = move |incoming, number, record: &Record| {
            converse(incoming, number, record, &*answer);
        };
        Self::start(Listener::Tcp(listener), name, None, Arc::new(connected))
    }

    /// At a path of the file system.
    pub fn unix(
        path: &Path,
        answer: impl Fn(&mut Exchange) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let answer: Arc<Answer> = Arc::new(answer);
        let connected = move |incoming, number, record: &Record| {
            converse(incoming, number, record, &*answer);
        };
        let name = format!("unix:{}", path.display());
        Self::start(Listener::Unix(listener), name, Some(path.to_owned()), Arc::new(connected))
    }

    /// What comes first on each connection is read by `preface`.
    pub fn after(
        preface: impl Fn(&mut Incoming<Stream>) -> Result<(), Broken> + Send + Sync + 'static,
        answer: impl Fn(&mut Exchange) -> io::Result<Next> + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let name = listener.local_addr().unwrap().to_string();
        let connected =
            move |mut incoming: Incoming<Stream>, number: usize, record: &Record| match preface(
                &mut incoming,
            ) {
                Ok(()) => converse(incoming, number, record, &answer),
                Err(broken) => record.offences.lock().unwrap().push(format!("preface: {broken:?}")),
            };
        Self::start(Listener::Tcp(listener), name, None, Arc::new(connected))
    }

    fn start(
        listener: Listener,
        name: String,
        path: Option<PathBuf>,
        connected: Arc<Connected>,
    ) -> Self {
        let record = Arc::new(Record::default());
        let shared = Arc::clone(&record);
        let listener = Arc::new(listener);
        let accepts = Arc::clone(&listener);
        let accepting = Some(thread::spawn(move || accept(&accepts, &shared, &connected)));
        Upstream { name, record, listener, accepting, path }
    }

    pub fn address(&self) -> SocketAddr {
        self.name.parse().unwrap()
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.record.asked.lock().unwrap().clone()
    }

    /// Requests to which `is_meant` applies.
    pub fn count(&self, is_meant: impl Fn(&Asked) -> bool) -> usize {
        self.record.asked.lock().unwrap().iter().filter(|asked| is_meant(asked)).count()
    }

    /// The one request for `target`.
    #[track_caller]
    pub fn one(&self, target: &str) -> Asked {
        let mut all = self.asked();
        all.retain(|asked| asked.target() == target);
        assert_eq!(all.len(), 1, "requests for {target}: {all:#?}");
        all.remove(0)
    }

    /// Connections that were ever made.
    pub fn connections(&self) -> usize {
        self.record.connections.load(Ordering::SeqCst)
    }

    /// Connections that are open.
    pub fn open(&self) -> usize {
        self.record.open.load(Ordering::SeqCst)
    }

    #[track_caller]
    pub fn wait_until_asked(&self, count: usize) {
        self.eventually("the upstream is asked", || self.asked().len() >= count);
    }

    #[track_caller]
    pub fn wait_until_open(&self, count: usize) {
        self.eventually("its connections are open and closed", || self.open() == count);
    }

    /// Waits until `holds`, or panics with what a handler has panicked with.
    #[track_caller]
    pub fn eventually(&self, what: &str, mut holds: impl FnMut() -> bool) {
        eventually(what, || {
            self.record.check();
            holds()
        });
    }

    /// Panics where a handler has.
    #[track_caller]
    pub fn check(&self) {
        self.record.check();
    }

    /// Requests by target that came more than once.
    pub fn repeated(&self) -> Vec<(String, usize)> {
        let mut counts: HashMap<String, usize> = HashMap::new();
        for asked in self.asked() {
            *counts.entry(asked.target().to_owned()).or_default() += 1;
        }
        counts.into_iter().filter(|(_, count)| *count > 1).collect()
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.record.is_stopped.store(true, Ordering::SeqCst);
        self.listener.stop();
        if let Some(thread) = self.accepting.take() {
            let _ = thread.join();
        }
        if let Some(path) = &self.path {
            let _ = std::fs::remove_file(path);
        }
        // Those that wait for another request, or for their peer.
        for stream in self.record.streams.lock().unwrap().values() {
            let _ = stream.shutdown(Shutdown::Both);
        }
        // What they have to say comes before their end.
        let until = Instant::now() + PATIENCE;
        while self.open() > 0 && Instant::now() < until {
            thread::sleep(Duration::from_millis(1));
        }
        let record = &self.record;
        let offences = std::mem::take(&mut *record.offences.lock().unwrap());
        if thread::panicking() {
            // It may be why.
            let panics = record.panics.lock().unwrap();
            for why in panics.iter().chain(&offences) {
                eprintln!("an upstream's handler: {why}");
            }
        } else {
            record.check();
            assert!(offences.is_empty(), "what an upstream was sent: {offences:#?}");
            assert_eq!(self.open(), 0, "a handler does not end");
        }
    }
}

fn accept(listener: &Listener, record: &Arc<Record>, connected: &Arc<Connected>) {
    for number in 0.. {
        let stream = listener.accept();
        if record.is_stopped.load(Ordering::SeqCst) {
            return;
        }
        let Ok(stream) = stream else { continue };
        record.connections.fetch_add(1, Ordering::SeqCst);
        record.open.fetch_add(1, Ordering::SeqCst);
        if let Ok(clone) = stream.try_clone() {
            record.streams.lock().unwrap().insert(number, clone);
        }
        let (record, connected) = (Arc::clone(record), Arc::clone(connected));
        // It ends with the peer, or when what it waits for does not come.
        thread::spawn(move || record.converse(&connected, stream, number));
    }
}

/// Reads requests, one after another, and has them answered.
fn converse(mut incoming: Incoming<Stream>, connection: usize, record: &Record, answer: &Answer) {
    let incoming = &mut incoming;
    let offence = |what: String| record.offences.lock().unwrap().push(what);
    for number in 0.. {
        let head = match incoming.head() {
            Ok(Some(head)) => head,
            // A head that was begun is a request that nobody is to see.
            Ok(None) | Err(Broken::Reset | Broken::Silent) => return,
            Err(broken) => {
                return offence(format!("request {number} of connection {connection}: {broken:?}"));
            }
        };
        let words: Vec<&str> = head.line.split(' ').collect();
        if words.len() != 3 || words[2] != "HTTP/1.1" || head.all("Host").len() != 1 {
            return offence(format!("no request of HTTP/1.1: {}", head.raw));
        }
        let framing = match head.framing() {
            Ok(Some(Framing::Sized(0)) | None) => None,
            Ok(framing) => framing,
            Err(broken) => return offence(format!("{broken:?}")),
        };
        let asked = Asked {
            connection,
            number,
            head,
            content: Vec::new(),
            trailers: Vec::new(),
            is_whole: framing.is_none(),
        };
        record.asked.lock().unwrap().push(asked.clone());
        let mut exchange = Exchange { asked, incoming, record, body_left: framing };
        let next = answer(&mut exchange);
        if exchange.incoming.received > 0 && matches!(next, Ok(Next::Keep)) {
            match exchange.receive_content() {
                Ok(()) => continue,
                // A client may go in the midst of what it sends.
                Err(Broken::Malformed(what)) => return offence(what),
                Err(_) => return,
            }
        }
        match next {
            Ok(Next::Reset) => incoming.stream.set_reset(),
            // What was not read would make the end a reset.
            Ok(_) => linger(incoming),
            Err(_) => {}
        }
        return;
    }
}

/// Ends what is sent, and waits for the peer to do so.
fn linger(incoming: &mut Incoming<Stream>) {
    let _ = incoming.stream.shutdown(Shutdown::Write);
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE && matches!(incoming.receive(), Ok(true)) {}
}
