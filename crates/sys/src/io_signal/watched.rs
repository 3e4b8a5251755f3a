//! From a signal to a count: the account of every watched socket, where a
//! signal handler can read it.
//!
//! `acked = accepted − outq`, where *accepted* is what the program noted
//! ([`sent`]) and *outq* what the kernel has not seen acknowledged
//! (SIOCOUTQ). Three rules keep the result from ever being too large:
//!
//! 1. *accepted* is read **before** the kernel is asked. Bytes that another
//!    thread sends in between are in outq and not in accepted, so the result
//!    is too small; the other way round they would count as acknowledged.
//! 2. A send call is noted **after** it returned. A handler that runs between
//!    the call and the note sees the bytes in outq alone: again too small,
//!    even when the peer has acknowledged them by then. The note ends with a
//!    look of its own, so what was acknowledged before it is told there, and
//!    what was not has its entry, and its signal, still to come.
//! 3. A FIN under way is one byte in outq that nobody noted. Where outq is
//!    one, the connection is asked whether that byte is a FIN: its
//!    acknowledgement makes no entry, so nobody would come back for the last
//!    byte. While more is under way the result is one too small, until then.
//!
//! The acknowledged part only grows (`fetch_max`), and the call that made it
//! grow is told by how much. So each byte is told once, in whichever thread or
//! handler it was found, and the growths add up to the total.
//!
//! Descriptors' numbers are used again. A slot knows the socket that it is for
//! by SO_COOKIE, which the kernel never gives twice, and a look counts only
//! if the number still leads to that socket. [`unwatch`] returns when no look
//! at the socket is under way in any thread, so a number is safe to close
//! after it, and only then.
//!
//! # In a handler
//! [`progress_of`] and [`rescan`] are async-signal-safe: atomics in memory
//! that [`watch`] allocated and that is never freed, and the system calls
//! `ioctl`, `getsockopt` and `recvmsg`. No allocation, no lock, errno as it
//! was. Everything else is for ordinary code, and none of it may be called by
//! a handler: it takes locks, or waits for looks that the handler interrupted.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::sync::atomic::Ordering::SeqCst;

use rustix::net::sockopt::socket_cookie;

use super::slots::{self, Look, Slot};
use super::{Owner, RealTimeSignal, Signalled, arm, disarm};
use crate::errqueue::{self, Numbering};
use crate::outq::unacknowledged;
use crate::tcp_info::tcp_info;

/// What was found out about a watched socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The socket.
    pub fd: RawFd,
    /// Bytes by which the acknowledged part grew since it was last told, by
    /// whichever call.
    pub grown: u64,
    /// Where the acknowledged part ends, on the scale that [`watch`] began.
    pub acked: u64,
    /// The connection is over, by a reset or a timeout, and the rest will
    /// never be acknowledged. Told once.
    pub ended: bool,
}

impl Progress {
    /// Whether there is anything to tell.
    #[must_use]
    pub fn is_news(&self) -> bool {
        self.grown > 0 || self.ended
    }
}

/// What a signal meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// This socket's acknowledged part grew, or its connection is over.
    Progress(Progress),
    /// The queue of signals was full: look at all sockets ([`rescan`]).
    Overflow,
    /// Nothing: an earlier look has told it, or the socket is not watched.
    Nothing,
}

/// A socket that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    fd: RawFd,
    cookie: u64,
    numbering: Numbering,
}

/// Entries that one look takes off the error queue: more than a receive buffer
/// of the default size holds. A bound, so that a handler comes to an end while
/// a fast peer goes on acknowledging; what is left has its own signal.
const DRAINED: usize = 1024;

/// Begins to watch a connected TCP socket of which `accepted` bytes are
/// accepted already (0 for a new scale), and asks for an entry and a signal
/// for the end of every send call from now on. Also returns where its
/// acknowledged part ends now. From now on every byte that it sends is to be
/// noted ([`sent`]), and it must not be closed before [`unwatch`].
///
/// # Errors
/// `AlreadyExists` when it is watched; `NotConnected` during the handshake,
/// when SIOCOUTQ answers 0 whatever was accepted (TCP Fast Open); `EMFILE`
/// for a number of 2²² or more; `EOPNOTSUPP` when it is not TCP, `EINVAL` when
/// it listens; as [`errqueue::number_acks`] and [`arm`].
pub fn watch(
    socket: BorrowedFd<'_>,
    accepted: u64,
    signal: RealTimeSignal,
    owner: Owner,
) -> io::Result<(Watched, u64)> {
    let fd = socket.as_raw_fd();
    if in_handshake(socket)? {
        return Err(io::ErrorKind::NotConnected.into());
    }
    let acked = accepted.saturating_sub(unacknowledged(socket)?);
    let cookie = socket_cookie(socket)?;
    let slot = slots::make(fd).ok_or_else(|| io::Error::from_raw_os_error(libc::EMFILE))?;
    let _changing = slots::change();
    if slot.cookie.load(SeqCst) == cookie {
        return Err(io::ErrorKind::AlreadyExists.into());
    }
    // Of a socket that was closed without a word, perhaps.
    slot.clear();
    let numbering = errqueue::number_acks(socket)?;
    slot.accepted.store(accepted, SeqCst);
    slot.acked.store(acked, SeqCst);
    slot.ended.store(false, SeqCst);
    slot.cookie.store(cookie, SeqCst);
    let armed = errqueue::report_acks(socket, numbering, true);
    if let Err(error) = armed.and_then(|()| arm(socket, signal, owner)) {
        slot.clear();
        let _ = errqueue::report_acks(socket, numbering, false);
        let _ = disarm(socket);
        return Err(error);
    }
    Ok((Watched { fd, cookie, numbering }, acked))
}

/// Notes that a send call on the socket has returned `count`, and looks how
/// far it has come: what was acknowledged before this note is told by nobody
/// else. Two system calls. It tells of no end.
///
/// # Errors
/// `NotFound` when it is not watched any more.
pub fn sent(watched: Watched, count: u64) -> io::Result<Progress> {
    let find = || {
        let slot = slots::find(watched.fd)?;
        let (_look, cookie) = Look::begin(slot)?;
        (cookie == watched.cookie).then(|| slot.accepted.fetch_add(count, SeqCst))?;
        look_at(slot, watched.fd, cookie, Depth::Count)
    };
    find().ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// Looks how far the socket has come; `None` when it is not watched any more,
/// or its number leads to another one. Takes the entries off its error queue.
#[must_use]
pub fn look(watched: Watched) -> Option<Progress> {
    let slot = slots::find(watched.fd)?;
    let (_look, cookie) = Look::begin(slot)?;
    (cookie == watched.cookie).then(|| look_at(slot, watched.fd, cookie, Depth::All))?
}

/// Whether send calls from now on make an entry and a signal each. Each costs
/// the sender a few microseconds, and `sendfile` makes one for every 64 KiB:
/// switch it on around the calls whose ends somebody waits for.
///
/// # Errors
/// As `setsockopt(2)`.
pub fn ask(socket: BorrowedFd<'_>, watched: Watched, on: bool) -> io::Result<()> {
    errqueue::report_acks(socket, watched.numbering, on)
}

/// Ends the watch; how far it had come, if the number still led to it. After
/// this the socket may be closed, or handed over: it is asked for nothing any
/// more, and signals that are queued already are told as [`Told::Nothing`].
/// Send calls that were under way may still put entries on its error queue.
pub fn unwatch(watched: Watched) -> Option<Progress> {
    let last = look(watched);
    let _changing = slots::change();
    let slot = slots::find(watched.fd)?;
    if slot.cookie.load(SeqCst) != watched.cookie {
        return None;
    }
    slot.clear();
    // SAFETY: as in `look_at`; the cookie is compared before anything is set.
    let socket = unsafe { BorrowedFd::borrow_raw(watched.fd) };
    if socket_cookie(socket) == Ok(watched.cookie) {
        let _ = disarm(socket);
        let _ = errqueue::report_acks(socket, watched.numbering, false);
        drain(socket, DRAINED);
    }
    last
}

/// What a signal meant. **Async-signal-safe**: one `ioctl`, one `getsockopt`,
/// and `recvmsg` until the error queue is empty.
#[must_use]
pub fn progress_of(signalled: Signalled) -> Told {
    let _errno = Errno::save();
    let fd = match signalled {
        Signalled::Overflow => return Told::Overflow,
        Signalled::Stranger => return Told::Nothing,
        Signalled::Socket { fd, .. } => fd,
    };
    let look = || {
        let slot = slots::find(fd)?;
        let (_look, cookie) = Look::begin(slot)?;
        look_at(slot, fd, cookie, Depth::All)
    };
    look().filter(Progress::is_news).map_or(Told::Nothing, Told::Progress)
}

/// Looks at every socket that is watched, and tells `each` of those with news.
/// **Async-signal-safe** if `each` is. Takes a few nanoseconds for each
/// number below the largest that was ever watched, and as long as
/// [`progress_of`] for each socket that is.
pub fn rescan(mut each: impl FnMut(Progress)) {
    let _errno = Errno::save();
    for (fd, slot) in slots::all() {
        if slot.cookie.load(SeqCst) == 0 {
            continue;
        }
        let Some((_look, cookie)) = Look::begin(slot) else { continue };
        if let Some(progress) = look_at(slot, fd, cookie, Depth::All).filter(Progress::is_news) {
            each(progress);
        }
    }
}

/// What a look takes in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// How many bytes are acknowledged.
    Count,
    /// Also the error queue, and the end of the connection.
    All,
}

/// One look, while a [`Look`] keeps the slot from changing hands.
fn look_at(slot: &Slot, fd: RawFd, cookie: u64, depth: Depth) -> Option<Progress> {
    // SAFETY: open because whoever watches it closes it after `unwatch` only,
    // which waits for this look to end; not kept beyond it. Where that rule
    // was broken the number is nobody's (EBADF) or another's: it is asked two
    // questions, of which the second (its cookie) says so, and no memory of
    // this process depends on the answers.
    let socket = unsafe { BorrowedFd::borrow_raw(fd) };
    // Rule 1: first this, then the kernel.
    let accepted = slot.accepted.load(SeqCst);
    let unacked = unacknowledged(socket).ok()?;
    // After the question, so that the answer was this socket's; before the
    // error queue, so that nobody else's is emptied.
    if socket_cookie(socket) != Ok(cookie) {
        return None;
    }
    if depth == Depth::All {
        drain(socket, DRAINED);
    }
    let unacked = if unacked == 1 { but_for_a_fin(socket)? } else { unacked };
    let credit = |unacked| {
        let acked = accepted.saturating_sub(unacked);
        let before = slot.acked.fetch_max(acked, SeqCst);
        (acked.saturating_sub(before), before.max(acked))
    };
    let (mut grown, mut acked) = credit(unacked);
    let mut ended = false;
    if depth == Depth::All
        && grown == 0
        && acked < accepted
        && !slot.ended.load(SeqCst)
        && tcp_info(socket).is_ok_and(|info| info.closed)
    {
        // Asked once more after the state: the last acknowledgement may have
        // come between the two, and the end is a good one then.
        (grown, acked) = credit(unacknowledged(socket).ok()?);
        ended = grown == 0 && acked < accepted && !slot.ended.swap(true, SeqCst);
    }
    Some(Progress { fd, grown, acked, ended })
}

/// Unacknowledged bytes, where they were one a moment ago (rule 3). Asked
/// after the state, since the byte may have been of data when another thread's
/// FIN was not yet behind it. If there is a FIN under way, it is the last; and
/// if there is one byte, that is all that is left.
fn but_for_a_fin(socket: BorrowedFd<'_>) -> Option<u64> {
    let fin = tcp_info(socket).is_ok_and(|info| info.fin_unacknowledged);
    let unacked = unacknowledged(socket).ok()?;
    Some(if fin && unacked == 1 { 0 } else { unacked })
}

fn drain(socket: BorrowedFd<'_>, at_most: usize) {
    for _ in 0..at_most {
        if !matches!(errqueue::next(socket), Ok(Some(_))) {
            break;
        }
    }
}

/// Whether the connection is in SYN_SENT or SYN_RECV (`tcpi_state`, the first
/// byte of TCP_INFO).
fn in_handshake(socket: BorrowedFd<'_>) -> io::Result<bool> {
    // <net/tcp_states.h>
    const SYN_SENT: u8 = 2;
    const SYN_RECV: u8 = 3;
    let mut state = 0_u8;
    let mut len: libc::socklen_t = 1;
    // SAFETY: the kernel writes at most `len` bytes, which is one, to `state`,
    // and the written count to `len`; both outlive the call.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut state).cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(matches!(state, SYN_SENT | SYN_RECV))
}

/// What errno was when a handler interrupted somebody.
struct Errno(libc::c_int);

impl Errno {
    fn save() -> Self {
        // SAFETY: the C library returns a pointer to this thread's errno,
        // valid as long as the thread.
        Errno(unsafe { *libc::__errno_location() })
    }
}

impl Drop for Errno {
    fn drop(&mut self) {
        // SAFETY: as above, and in the same thread: a pair of the two lives
        // inside one call.
        unsafe { *libc::__errno_location() = self.0 };
    }
}
