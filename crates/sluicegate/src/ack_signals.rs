//! Progress by real-time signal: the second of the two ways in which the paper
//! let a kernel tell its programs (*Rethinking Sendfile Support in Unix
//! Kernel*, section II-B3), which it built and never measured.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::{Duration, Instant};

use sluicegate_sys::io_signal::watched::{self, Watched};
use sluicegate_sys::io_signal::{Blocked, Owner, Signalled};

pub use sluicegate_sys::io_signal::RealTimeSignal;

use crate::position::Position;

/// How long [`AckSignals::wait`] trusts in signals alone. An entry that found
/// the receive buffer full was dropped, and its signal with it; nothing else
/// would ever tell of those bytes. Three system calls for each watched socket.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What was found out about a watched socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SignalProgress {
    /// The socket.
    pub fd: RawFd,
    /// Bytes by which its acknowledged part grew since that was last told.
    pub grown: u64,
    /// Where the acknowledged part ends.
    pub acked: Position,
    /// The connection is over, by a reset or a timeout: the rest will never
    /// be acknowledged. Told once, by [`AckSignals::wait`]. (Where it ended
    /// with a FIN under way, that counts as one byte of the rest.)
    pub ended: bool,
}

impl From<watched::Progress> for SignalProgress {
    fn from(progress: watched::Progress) -> Self {
        let watched::Progress { fd, grown, acked, ended } = progress;
        SignalProgress { fd, grown, acked: Position::new(acked), ended }
    }
}

/// Tells how far the sockets of a program have come, by a real-time signal
/// that this thread waits for.
///
/// For programs that send on their sockets by themselves, with whatever calls
/// they like. A [`Socket`](crate::Socket) has progress of its own: its error
/// queue has room for one reader, so do not watch one of those.
///
/// ```ignore
/// let mut signals = AckSignals::new(RealTimeSignal::new(0).unwrap())?;
/// signals.watch(&socket, Position::START)?;
/// let count = sendfile(&socket, &file, 0, length)?;
/// let at_once = signals.sent(&socket, count)?;
/// while let Some(progress) = signals.wait(Duration::from_secs(1))? {
///     println!("{} has {} more", progress.fd, progress.grown);
/// }
/// ```
///
/// # What is told
/// [`wait`](Self::wait), [`sent`](Self::sent) and [`unwatch`](Self::unwatch)
/// tell each acknowledged byte once, whichever of them finds it; the growths
/// add up to the position. Never too much: bytes that were acknowledged before
/// they were noted are told by the note. While a FIN and more is under way, the
/// position is one byte short.
///
/// A signal names a socket and no count, and it may be lost: when the queue of
/// signals is full (RLIMIT_SIGPENDING, counted for all processes of a user)
/// the kernel says only that, and every socket is looked at
/// ([`overflows`](Self::overflows)); when the receive buffer is full nobody
/// says anything, so `wait` looks at all of them ten times in a second too.
///
/// # Which calls are told of
/// By default every send call makes an entry on the error queue when its last
/// byte is acknowledged, and a signal with it; `sendfile` and `splice` make one
/// for every 64 KiB. That is what a program wants that has to know soon, and no
/// call can be forgotten. Where it is too dear, for it costs some microseconds
/// an entry, switch it on around the calls whose ends somebody waits for
/// ([`ask`](Self::ask)): the position is right in either case.
///
/// # Numbers that are used again
/// [`unwatch`](Self::unwatch) before the descriptor is closed or handed over,
/// to another thread's watch or to another process: what is armed is the
/// connection and not the number, so a copy elsewhere would go on sending
/// signals here. Signals that are queued at that moment are thrown away. Where
/// a program forgets, no harm comes to the next socket with the number: a look
/// asks the kernel which socket it is, and tells nothing if it is another.
///
/// # Threads and masks
/// The signals go to the thread that made this, in which they and SIGIO are
/// blocked from then on, also after it is dropped. A handler of one's own
/// instead: [`crate::signal_handler`].
#[derive(Debug)]
pub struct AckSignals {
    signal: RealTimeSignal,
    blocked: Blocked,
    watched: BTreeMap<RawFd, Watched>,
    /// What a look at all of them found and nobody has fetched.
    found: VecDeque<SignalProgress>,
    overflows: u64,
    /// When all of them were looked at.
    looked: Instant,
    /// The mask and the owner are this thread's.
    stays: PhantomData<*const ()>,
}

impl AckSignals {
    /// Blocks `signal` and SIGIO in this thread. Nothing else in the program
    /// may use the signal; another `AckSignals` has one of its own.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn new(signal: RealTimeSignal) -> io::Result<Self> {
        Ok(AckSignals {
            signal,
            blocked: Blocked::new(signal)?,
            watched: BTreeMap::new(),
            found: VecDeque::new(),
            overflows: 0,
            looked: Instant::now(),
            stays: PhantomData,
        })
    }

    /// Begins to watch a connected TCP socket, of whose stream `accepted` is
    /// accepted already ([`Position::START`] for a scale that begins here).
    /// Returns how much of that is acknowledged.
    ///
    /// # Errors
    /// `AlreadyExists` when it is watched, here or elsewhere; `NotConnected`
    /// during its handshake; `EMFILE` for a descriptor of 2²² or more;
    /// `EOPNOTSUPP` when it is not TCP; `EINVAL` when it listens.
    pub fn watch(&mut self, socket: &impl AsFd, accepted: Position) -> io::Result<Position> {
        let socket = socket.as_fd();
        let owner = Owner::ThisThread;
        let (watched, acked) = watched::watch(socket, accepted.get(), self.signal, owner)?;
        self.watched.insert(socket.as_raw_fd(), watched);
        Ok(Position::new(acked))
    }

    /// Notes that a send call has returned `count`, and tells how far the
    /// socket has come. To be called after every one, and not before: what is
    /// noted counts as accepted. Half a microsecond: two system calls.
    ///
    /// # Errors
    /// `NotFound` when it is not watched.
    pub fn sent(&mut self, socket: &impl AsFd, count: u64) -> io::Result<SignalProgress> {
        watched::sent(self.find(socket)?, count).map(SignalProgress::from)
    }

    /// Whether send calls from now on make a signal each.
    ///
    /// # Errors
    /// `NotFound` when it is not watched; as `setsockopt(2)`.
    pub fn ask(&mut self, socket: &impl AsFd, on: bool) -> io::Result<()> {
        watched::ask(socket.as_fd(), self.find(socket)?, on)
    }

    /// Ends the watch, and tells how far the socket has come.
    ///
    /// # Errors
    /// `NotFound` when it is not watched.
    pub fn unwatch(&mut self, socket: &impl AsFd) -> io::Result<SignalProgress> {
        let watched = self.find(socket)?;
        let fd = socket.as_fd().as_raw_fd();
        self.watched.remove(&fd);
        // What was found and not fetched is told now.
        let unfetched = self.found.iter().filter(|progress| progress.fd == fd);
        let unfetched: u64 = unfetched.map(|progress| progress.grown).sum();
        self.found.retain(|progress| progress.fd != fd);
        let last = watched::unwatch(watched).map(SignalProgress::from);
        let mut last = last.ok_or(io::ErrorKind::NotFound)?;
        last.grown = last.grown.saturating_add(unfetched);
        Ok(last)
    }

    /// Waits until an acknowledged part has grown, or a connection is over;
    /// `None` when neither came within `timeout`.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<Option<SignalProgress>> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            if let Some(progress) = self.found.pop_front() {
                return Ok(Some(progress));
            }
            let now = Instant::now();
            // Here and not after the wait, for who asks without waiting.
            if now.saturating_duration_since(self.looked) >= LOOK_EVERY {
                self.look_at_all();
                continue;
            }
            let left = deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(now));
            let until_look = (self.looked + LOOK_EVERY).saturating_duration_since(now);
            let progress = match self.blocked.wait(left.min(until_look)) {
                Ok(Some(Signalled::Socket { fd, .. })) => {
                    self.watched.get(&fd).and_then(|&watched| watched::look(watched))
                }
                Ok(Some(Signalled::Overflow)) => {
                    self.overflows += 1;
                    self.look_at_all();
                    None
                }
                Ok(Some(Signalled::Stranger)) => None,
                Ok(None) if left.is_zero() => return Ok(None),
                Ok(None) => None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
                Err(error) => return Err(error),
            };
            if let Some(progress) = progress.filter(watched::Progress::is_news) {
                return Ok(Some(progress.into()));
            }
        }
    }

    /// How often the queue of signals was found to have been full.
    #[must_use]
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    /// Looks at every socket. Those that were closed without a word are
    /// forgotten.
    fn look_at_all(&mut self) {
        let found = &mut self.found;
        self.watched.retain(|_, &mut watched| {
            let Some(progress) = watched::look(watched) else {
                watched::unwatch(watched);
                return false;
            };
            if progress.is_news() {
                found.push_back(progress.into());
            }
            true
        });
        self.looked = Instant::now();
    }

    fn find(&self, socket: &impl AsFd) -> io::Result<Watched> {
        let watched = self.watched.get(&socket.as_fd().as_raw_fd());
        watched.copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

impl Drop for AckSignals {
    fn drop(&mut self) {
        for &watched in self.watched.values() {
            watched::unwatch(watched);
        }
    }
}

/// The same account for programs with a signal handler of their own.
///
/// [`watch`](signal_handler::watch) a socket,
/// note what was accepted with [`sent`](signal_handler::sent), and in the
/// handler (SA_SIGINFO) of the signal *and of SIGIO* turn what it was given
/// into a [`Signalled`](signal_handler::Signalled) and that into a count with
/// [`progress_of`](signal_handler::progress_of); after an overflow
/// [`rescan`](signal_handler::rescan). Those three are async-signal-safe. Look
/// at all sockets now and then from ordinary code too: an entry that found the
/// receive buffer full is lost without a signal.
pub mod signal_handler {
    pub use sluicegate_sys::io_signal::watched::{
        Progress, Told, Watched, ask, look, progress_of, rescan, sent, unwatch, watch,
    };
    pub use sluicegate_sys::io_signal::{Owner, RealTimeSignal, Signalled};
}
