//! Clients that do a server no good, thousands of them in a process of their
//! own: each process may have only so many descriptors.
//!
//! The test's program is started again for it, with the name of a socket in the
//! environment. Over that come the sizes of the populations, and go counts; when
//! it closes, the process ends.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use rustix::event::epoll::{self, EventData, EventFlags};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType};
use rustix::net::{connect, recv, send, shutdown, socket_with, sockopt};

/// What the members of one population do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Connects, and says nothing.
    Silent,
    /// Asks for one page, and then for nothing more.
    Idle,
    /// Sends a byte of its head a second.
    Trickle,
    /// Asks for the large file, and reads nothing.
    Never,
    /// Asks for it, and reads a little now and then.
    Slow,
    /// Asks for it, and resets the connection a second later.
    Reset,
    /// Says that it will send nothing more as soon as it has asked.
    HalfClosed,
}

impl Kind {
    pub const ALL: [Kind; 7] = [
        Kind::Silent,
        Kind::Idle,
        Kind::Trickle,
        Kind::Never,
        Kind::Slow,
        Kind::Reset,
        Kind::HalfClosed,
    ];

    fn request(self) -> &'static [u8] {
        match self {
            Kind::Silent | Kind::Trickle => b"",
            Kind::Idle => b"GET /small HTTP/1.1\r\nHost: crowd\r\n\r\n",
            Kind::Never | Kind::Slow | Kind::Reset => b"GET /large HTTP/1.1\r\nHost: crowd\r\n\r\n",
            Kind::HalfClosed => b"GET /medium HTTP/1.1\r\nHost: crowd\r\n\r\n",
        }
    }

    /// How often it does something of its own accord.
    fn every(self) -> Option<Duration> {
        match self {
            Kind::Silent | Kind::Idle | Kind::Never => None,
            Kind::Trickle | Kind::Reset | Kind::HalfClosed => Some(Duration::from_secs(1)),
            Kind::Slow => Some(Duration::from_millis(250)),
        }
    }

    /// Whether it wants to know that there is something to read.
    fn reads(self) -> bool {
        !matches!(self, Kind::Never | Kind::Slow | Kind::Reset)
    }
}

/// What a crowd has seen, in all but `open` and `waiting`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Seen {
    /// Connections that are open now.
    pub open: u64,
    /// Connections that are not open yet.
    pub waiting: u64,
    /// Those that were told to come back later.
    pub turned_away: u64,
    /// Connections that could not be opened.
    pub refused: u64,
    /// Connections that the server ended.
    pub let_go: u64,
    /// Half-closers that got their whole answer, and those that did not.
    pub whole: u64,
    pub short: u64,
}

impl Seen {
    fn line(self) -> String {
        let Seen { open, waiting, turned_away, refused, let_go, whole, short } = self;
        format!("{open} {waiting} {turned_away} {refused} {let_go} {whole} {short}\n")
    }

    pub fn parse(line: &str) -> Self {
        let numbers: Vec<u64> = line.split(' ').map(|word| word.trim().parse().unwrap()).collect();
        let [open, waiting, turned_away, refused, let_go, whole, short] = numbers[..] else {
            panic!("seven numbers in `{line}`")
        };
        Seen { open, waiting, turned_away, refused, let_go, whole, short }
    }
}

const TRICKLED: &[u8] = b"GET /small HTTP/1.1\r\nHost: crowd\r\nX-Slowly: ";

/// Bytes that a slow reader takes at a time.
const SIP: usize = 64 << 10;

/// Connections that are being opened at the same time, so that the server's
/// queue has room for the honest ones.
const OPENING: u64 = 128;

/// How long nobody of a population tries again that was turned away.
const LATER: Duration = Duration::from_millis(400);

const TICK: Duration = Duration::from_millis(10);
const REPORT: Duration = Duration::from_millis(200);

struct Member {
    kind: Kind,
    socket: OwnedFd,
    number: u32,
    is_open: bool,
    /// It has its answer, and waits to go.
    is_done: bool,
    sent: usize,
    got: usize,
}

pub struct Crowd {
    server: SocketAddr,
    epoll: OwnedFd,
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    /// Members that were ever there: tells a member from another in its place.
    count: u32,
    live: [usize; Kind::ALL.len()],
    wanted: [usize; Kind::ALL.len()],
    later: [Instant; Kind::ALL.len()],
    timers: BinaryHeap<Reverse<(Instant, u64)>>,
    seen: Seen,
    buffer: Vec<u8>,
}

impl Crowd {
    pub fn new(server: SocketAddr) -> Self {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).unwrap();
        Crowd {
            server,
            epoll,
            members: Vec::new(),
            free: Vec::new(),
            count: 0,
            live: [0; Kind::ALL.len()],
            wanted: [0; Kind::ALL.len()],
            later: [Instant::now(); Kind::ALL.len()],
            timers: BinaryHeap::new(),
            seen: Seen::default(),
            buffer: vec![0; SIP],
        }
    }

    /// Does what `control` says until it closes.
    pub fn run(mut self, mut control: UnixStream) {
        control.set_nonblocking(true).unwrap();
        let (mut said, mut reported) = (Vec::new(), Instant::now());
        loop {
            let mut bytes = [0; 1024];
            match control.read(&mut bytes) {
                Ok(0) => return,
                Ok(count) => said.extend_from_slice(&bytes[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
            while let Some(end) = said.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = said.drain(..=end).collect();
                self.obey(std::str::from_utf8(&line).unwrap());
            }
            self.open_more();
            self.look();
            if reported.elapsed() >= REPORT {
                reported = Instant::now();
                if control.write_all(self.seen.line().as_bytes()).is_err() {
                    return;
                }
            }
        }
    }

    /// One size for each kind.
    fn obey(&mut self, line: &str) {
        for (at, word) in line.split_whitespace().enumerate() {
            self.wanted[at] = word.parse().unwrap();
        }
        for at in 0..self.members.len() {
            let Some(member) = &self.members[at] else { continue };
            let kind = member.kind as usize;
            if self.live[kind] > self.wanted[kind] {
                self.drop_member(at);
            }
        }
    }

    fn open_more(&mut self) {
        let now = Instant::now();
        for kind in Kind::ALL {
            let at = kind as usize;
            while self.live[at] < self.wanted[at]
                && self.seen.waiting < OPENING
                && now >= self.later[at]
            {
                if !self.open(kind) {
                    self.later[at] = now + LATER;
                }
            }
        }
    }

    fn open(&mut self, kind: Kind) -> bool {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::INET, SocketType::STREAM, flags, None);
        let Ok(socket) = socket else {
            self.seen.refused += 1;
            return false;
        };
        match connect(&socket, &self.server) {
            Ok(()) | Err(rustix::io::Errno::INPROGRESS) => {}
            Err(_) => {
                self.seen.refused += 1;
                return false;
            }
        }
        let at = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        self.count = self.count.wrapping_add(1);
        let member = Member {
            kind,
            socket,
            number: self.count,
            is_open: false,
            is_done: false,
            sent: 0,
            got: 0,
        };
        let data = EventData::new_u64(token(at, member.number));
        epoll::add(&self.epoll, &member.socket, data, EventFlags::OUT).unwrap();
        self.members[at] = Some(member);
        self.live[kind as usize] += 1;
        self.seen.waiting += 1;
        true
    }

    fn look(&mut self) {
        let mut events = Vec::with_capacity(512);
        let tick = rustix::time::Timespec { tv_sec: 0, tv_nsec: TICK.as_nanos() as i64 };
        let filled = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&self.epoll, filled, Some(&tick)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("waiting: {error}"),
        }
        for event in events {
            if let Some(at) = self.find(event.data.u64()) {
                self.ready(at);
            }
        }
        let now = Instant::now();
        while let Some(&Reverse((when, token))) = self.timers.peek() {
            if when > now {
                break;
            }
            self.timers.pop();
            if let Some(at) = self.find(token) {
                self.act(at, token, now);
            }
        }
    }

    fn find(&self, token: u64) -> Option<usize> {
        let (at, number) = ((token & 0xffff_ffff) as usize, (token >> 32) as u32);
        self.members[at].as_ref().is_some_and(|member| member.number == number).then_some(at)
    }

    fn ready(&mut self, at: usize) {
        let member = self.members[at].as_mut().unwrap();
        if !member.is_open {
            return self.opened(at);
        }
        // Also those that read nothing look what it is that has come to its end.
        match recv(&member.socket, &mut self.buffer[..], RecvFlags::empty()) {
            Ok((_, count @ 1..)) => {
                let is_refusal = self.buffer[..count].starts_with(b"HTTP/1.1 503");
                let is_first = member.got == 0;
                member.got += count;
                if is_first && is_refusal {
                    self.seen.turned_away += 1;
                    self.later[member.kind as usize] = Instant::now() + LATER;
                    self.drop_member(at);
                } else if member.kind == Kind::HalfClosed && member.got > super::MEDIUM {
                    // Its end comes as well; the timer lets it go.
                    self.done(at, true);
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Ok(_) | Err(_) => {
                self.seen.let_go += 1;
                if member.kind == Kind::HalfClosed {
                    self.done(at, false);
                } else {
                    self.drop_member(at);
                }
            }
        }
    }

    fn done(&mut self, at: usize, whole: bool) {
        let member = self.members[at].as_mut().unwrap();
        if !std::mem::replace(&mut member.is_done, true) {
            self.seen.whole += u64::from(whole);
            self.seen.short += u64::from(!whole);
        }
        let _ = epoll::delete(&self.epoll, &member.socket);
    }

    /// The kernel has an answer to its wish to connect.
    fn opened(&mut self, at: usize) {
        let member = self.members[at].as_mut().unwrap();
        let (kind, now) = (member.kind, Instant::now());
        let is_open = matches!(sockopt::socket_error(&member.socket), Ok(Ok(())));
        let request = kind.request();
        let asked = request.is_empty()
            || is_open && send(&member.socket, request, SendFlags::NOSIGNAL) == Ok(request.len());
        if !is_open || !asked {
            self.seen.refused += 1;
            self.later[kind as usize] = now + LATER;
            return self.drop_member(at);
        }
        if kind == Kind::HalfClosed {
            let _ = shutdown(&member.socket, Shutdown::Write);
        }
        member.is_open = true;
        self.seen.waiting -= 1;
        self.seen.open += 1;
        let token = token(at, member.number);
        let reading = if kind.reads() { EventFlags::IN } else { EventFlags::empty() };
        let data = EventData::new_u64(token);
        epoll::modify(&self.epoll, &member.socket, data, reading | EventFlags::RDHUP).unwrap();
        if let Some(every) = kind.every() {
            self.timers.push(Reverse((now + every, token)));
        }
    }

    /// What it does of its own accord.
    fn act(&mut self, at: usize, token: u64, now: Instant) {
        let member = self.members[at].as_mut().unwrap();
        match member.kind {
            Kind::Trickle => {
                let byte = TRICKLED.get(member.sent).unwrap_or(&b'x');
                let _ = send(&member.socket, std::slice::from_ref(byte), SendFlags::NOSIGNAL);
                member.sent += 1;
            }
            Kind::Slow => {
                let taken = recv(&member.socket, &mut self.buffer[..], RecvFlags::empty());
                if let Ok((_, 0)) | Err(rustix::io::Errno::CONNRESET) = taken {
                    self.seen.let_go += 1;
                    return self.drop_member(at);
                }
            }
            Kind::Reset => {
                let _ = sockopt::set_socket_linger(&member.socket, Some(Duration::ZERO));
                return self.drop_member(at);
            }
            Kind::HalfClosed if member.is_done => return self.drop_member(at),
            Kind::HalfClosed | Kind::Silent | Kind::Idle | Kind::Never => {}
        }
        if let Some(every) = member.kind.every() {
            self.timers.push(Reverse((now + every, token)));
        }
    }

    fn drop_member(&mut self, at: usize) {
        if let Some(member) = self.members[at].take() {
            let count = if member.is_open { &mut self.seen.open } else { &mut self.seen.waiting };
            *count -= 1;
            self.live[member.kind as usize] -= 1;
            self.free.push(at);
        }
    }
}

fn token(at: usize, number: u32) -> u64 {
    at as u64 | u64::from(number) << 32
}
