//! The ways to wait: those of the library, `poll(2)`, and a loop that asks without a pause.

use std::fmt::{self, Display};
use std::net::TcpStream;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, epoll, poll};
use rustix::io::Errno;
use sluicegate::{AckQueue, Event, Position, RealTimeSignal, Segment, SocketId, Tag, Watch};
use sluicegate_sys::io_signal::watched::{self, Watched};
use sluicegate_sys::io_signal::{Blocked, Owner, Signalled};
use sluicegate_sys::{outq, socket};

use super::probe::{AckTime, PATIENCE, Wait, report_all};

/// Bytes of a message: one packet of the loopback, tens of an ordinary wire.
const MESSAGE: usize = 32 << 10;

/// Room for a whole message in any state of the socket.
const SEND_BUFFER: usize = 1 << 20;

/// The signal, counted from SIGRTMIN.
const SIGNAL: u8 = 5;

/// How an acknowledgement is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// An [`AckQueue`] whose descriptor is in an epoll set of the caller's (`Watch::Ours`).
    Epoll,
    /// A real-time signal, as `AckSignals` waits for it.
    Signal,
    /// An [`AckQueue`] that looks by a timer (`Watch::Theirs`).
    Polling,
    /// `poll(2)` of all sockets for POLLERR.
    Poll,
    /// SIOCOUTQ without a pause: what nothing can be sooner than.
    Asking,
}

impl Way {
    /// All of them, in the order in which they are shown.
    pub(super) const ALL: [Self; 5] =
        [Self::Epoll, Self::Signal, Self::Polling, Self::Poll, Self::Asking];

    /// Those that may have many sockets beside the one that is waited for.
    pub(super) const WITH_MANY: [Self; 3] = [Self::Epoll, Self::Signal, Self::Poll];

    /// Takes over the sockets: the one that messages are sent on, and others that stay idle.
    pub(super) fn begin(self, socket: TcpStream, idle: Vec<TcpStream>) -> Result<Box<dyn Wait>> {
        socket::set_nodelay(socket.as_fd())?;
        socket::set_nonblocking(socket.as_fd())?;
        socket::set_send_buffer(socket.as_fd(), SEND_BUFFER)?;
        Ok(match self {
            Self::Epoll => Box::new(Queued::new(socket, idle, Watch::Ours)?),
            Self::Polling => Box::new(Queued::new(socket, idle, Watch::Theirs)?),
            Self::Signal => Box::new(Signals::new(socket, idle)?),
            Self::Poll => Box::new(Polled::new(socket, idle)?),
            Self::Asking => Box::new(Asking::new(socket)?),
        })
    }
}

impl Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Epoll => "epoll",
            Self::Signal => "signal",
            Self::Polling => "polling",
            Self::Poll => "poll",
            Self::Asking => "asking",
        })
    }
}

/// The library's queue.
struct Queued {
    queue: AckQueue,
    id: SocketId,
    watch: Watch,
    /// The caller's own set, in which the queue is, level-triggered.
    set: OwnedFd,
    room: Vec<epoll::Event>,
    events: Vec<Event>,
    message: Segment,
    sent: u64,
    time: AckTime,
}

impl Queued {
    fn new(socket: TcpStream, idle: Vec<TcpStream>, watch: Watch) -> Result<Self> {
        if watch == Watch::Theirs {
            // The queue asks for none: these are for the clock alone, and wake nobody.
            report_all(&socket)?;
        }
        let mut queue = AckQueue::new()?;
        let id = queue.add(socket, watch)?;
        for socket in idle {
            queue.add(socket, watch)?;
        }
        let set = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&set, &queue, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Self {
            queue,
            id,
            watch,
            set,
            room: Vec::with_capacity(1),
            events: Vec::new(),
            message: Segment::given(vec![7; MESSAGE]),
            sent: 0,
            time: AckTime::default(),
        })
    }
}

impl Queued {
    /// Where the loop that watches the socket is this one: a socket that took not all of a message
    /// (the machine is short of memory for TCP) is tried again.
    fn help_on(&mut self) -> Result<()> {
        if self.watch == Watch::Theirs {
            let progress = self.queue.progress(self.id)?;
            if progress.accepted < progress.queued {
                self.queue.handle_writable(self.id)?;
            }
        }
        Ok(())
    }
}

impl Wait for Queued {
    fn once(&mut self) -> Result<Option<Duration>> {
        self.sent += 1;
        let tag = Tag::Number(self.sent);
        self.queue.queue(self.id, self.message.clone(), tag)?;
        let limit = Timespec::try_from(PATIENCE)?;
        let start = Instant::now();
        loop {
            if start.elapsed() > PATIENCE {
                bail!("no acknowledgement came: {:?}", self.queue.progress(self.id)?);
            }
            self.room.clear();
            let room = rustix::buffer::spare_capacity(&mut self.room);
            let ready = epoll::wait(&self.set, room, Some(&limit)).context("cannot wait")?;
            ensure!(ready > 0, "the set says nothing");
            if self.watch == Watch::Ours {
                // Before the queue takes it. An entry only wakes, so the queue does not miss it;
                // this call counts in the delay.
                self.time.take(self.queue.fd(self.id)?)?;
            }
            self.queue.wait(&mut self.events, Some(Duration::ZERO))?;
            let told = SystemTime::now();
            for event in self.events.drain(..) {
                match event {
                    Event::Acked(_, grown) if grown.tag == tag && grown.total == grown.len => {
                        // It may have come within the call that sent.
                        self.time.take(self.queue.fd(self.id)?)?;
                        return Ok(self.time.until(told));
                    }
                    Event::Acked(..) => {}
                    other => bail!("{other:?} while an acknowledgement was waited for"),
                }
            }
            self.help_on()?;
        }
    }
}

/// Sends a message in one call.
fn send(socket: &TcpStream, message: &[u8]) -> Result<u64> {
    let sent = socket::send(socket.as_fd(), message, false).context("cannot send")?;
    ensure!(sent == message.len(), "no room for a message");
    Ok(sent as u64)
}

/// The calls that `AckSignals::wait` makes, with a look at the entries between them.
struct Signals {
    blocked: Blocked,
    watched: Watched,
    // Behind the watches, which end first.
    others: Vec<Watched>,
    socket: TcpStream,
    _idle: Vec<TcpStream>,
    message: Vec<u8>,
    sent: Position,
    time: AckTime,
}

impl Signals {
    fn new(socket: TcpStream, idle: Vec<TcpStream>) -> Result<Self> {
        let signal = RealTimeSignal::new(SIGNAL).context("no such signal")?;
        let blocked = Blocked::new(signal)?;
        let watch = |socket: &TcpStream| {
            let watched = watched::watch(socket.as_fd(), 0, signal, Owner::ThisThread);
            watched.map(|(watched, _)| watched).context("cannot watch")
        };
        let others = idle.iter().map(watch).collect::<Result<_>>()?;
        let watched = watch(&socket)?;
        let (message, sent, time) = (vec![7; MESSAGE], Position::START, AckTime::default());
        Ok(Self { blocked, watched, others, socket, _idle: idle, message, sent, time })
    }
}

impl Wait for Signals {
    fn once(&mut self) -> Result<Option<Duration>> {
        let sent = send(&self.socket, &self.message)?;
        self.sent = self.sent.advanced(sent);
        let mut progress = watched::sent(self.watched, sent)?;
        loop {
            let told = SystemTime::now();
            if progress.acked >= self.sent.get() {
                // Where the note has told it, the entry is there still.
                self.time.take(self.socket.as_fd())?;
                return Ok(self.time.until(told));
            }
            match self.blocked.wait(PATIENCE) {
                Ok(Some(Signalled::Socket { .. } | Signalled::Overflow)) => {}
                Ok(Some(Signalled::Stranger)) => continue,
                Ok(None) => bail!("no signal came"),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            }
            self.time.take(self.socket.as_fd())?;
            progress = watched::look(self.watched).context("the watch is over")?;
        }
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        watched::unwatch(self.watched);
        for &other in &self.others {
            watched::unwatch(other);
        }
    }
}

/// All sockets in the list of each call.
struct Polled {
    /// The first is the one that messages are sent on.
    sockets: Vec<TcpStream>,
    message: Vec<u8>,
    time: AckTime,
}

impl Polled {
    fn new(socket: TcpStream, idle: Vec<TcpStream>) -> Result<Self> {
        report_all(&socket)?;
        let sockets = [socket].into_iter().chain(idle).collect();
        Ok(Self { sockets, message: vec![7; MESSAGE], time: AckTime::default() })
    }
}

impl Wait for Polled {
    fn once(&mut self) -> Result<Option<Duration>> {
        let socket = &self.sockets[0];
        send(socket, &self.message)?;
        // Errors are told without being asked for.
        let ask = |socket| PollFd::new(socket, PollFlags::empty());
        let mut list: Vec<PollFd<'_>> = self.sockets.iter().map(ask).collect();
        let limit = Timespec::try_from(PATIENCE)?;
        loop {
            let ready = match poll(&mut list, Some(&limit)) {
                Ok(ready) => ready,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error).context("cannot poll"),
            };
            ensure!(ready > 0, "poll says nothing");
            self.time.take(socket.as_fd())?;
            if outq::unacknowledged(socket.as_fd())? == 0 {
                return Ok(self.time.until(SystemTime::now()));
            }
        }
    }
}

/// SIOCOUTQ, again and again.
struct Asking {
    socket: TcpStream,
    message: Vec<u8>,
    time: AckTime,
}

impl Asking {
    fn new(socket: TcpStream) -> Result<Self> {
        report_all(&socket)?;
        Ok(Self { socket, message: vec![7; MESSAGE], time: AckTime::default() })
    }
}

impl Wait for Asking {
    fn once(&mut self) -> Result<Option<Duration>> {
        send(&self.socket, &self.message)?;
        while outq::unacknowledged(self.socket.as_fd())? > 0 {}
        let told = SystemTime::now();
        // Bytes count as acknowledged a moment before their entry is there.
        for _ in 0..100 {
            self.time.take(self.socket.as_fd())?;
            if let Some(delay) = self.time.until(told) {
                return Ok(Some(delay));
            }
            std::thread::sleep(Duration::from_micros(10));
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::ack_delay::probe::measure;
    use crate::experiment::ack_delay::sink::Sink;
    use crate::harness::network::Network;

    #[test]
    fn every_way_tells_of_every_message_after_its_acknowledgement() {
        for way in Way::ALL {
            let sink = Sink::start(&Network::Loopback, None).unwrap();
            let socket = sink.connect(&Network::Loopback, 1).unwrap().remove(0);
            let idle = sink.connect(&Network::Loopback, 10).unwrap();
            let mut waiting = way.begin(socket, idle).unwrap();
            let delays = measure(waiting.as_mut(), 50, 5).unwrap();
            assert!(delays.nanoseconds.len() >= 45, "{way}: {} untimed", delays.untimed);
            // By a timer it is a hundredth of a second at most; the rest is a busy machine's.
            assert!(delays.nanoseconds.value_at_quantile(0.5) < 15_000_000, "{way}");
            assert!(delays.cpu_us > 0.0, "{way}");
        }
    }
}
