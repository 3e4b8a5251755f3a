//! Real-time signals that tell of a socket (`fcntl(2)` F_SETOWN_EX, F_SETSIG
//! and O_ASYNC; `signal(7)`; `sigtimedwait(2)`).
//!
//! A socket that is armed sends its owner a signal with its number (`si_fd`)
//! each time that something happens to it: an entry on its error queue, room
//! to write, data to read, its end. Real-time signals queue, one for each
//! event, up to RLIMIT_SIGPENDING for the whole user; when that is full the
//! kernel sends a plain SIGIO instead, which names no socket
//! ([`Signalled::Overflow`]).
//!
//! No signal says how many bytes were acknowledged: [`watched`] keeps the
//! account that turns one into a count, in a way that a handler may call.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

mod slots;
pub mod watched;

/// A signal from SIGRTMIN to SIGRTMAX.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RealTimeSignal(libc::c_int);

impl RealTimeSignal {
    /// SIGRTMIN+`offset`; `None` past SIGRTMAX. There are 30 or so: the C
    /// library keeps the first few for itself, and SIGRTMIN is what it leaves.
    #[must_use]
    pub fn new(offset: u8) -> Option<Self> {
        let number = libc::SIGRTMIN() + libc::c_int::from(offset);
        (number <= libc::SIGRTMAX()).then_some(RealTimeSignal(number))
    }

    /// Its number, as `sigaction(2)` takes it.
    #[must_use]
    pub fn number(self) -> libc::c_int {
        self.0
    }
}

/// Who gets the signals of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// The thread that arms it. When that ends, nobody gets them.
    ThisThread,
    /// The process: any of its threads that does not block the signal. Where
    /// one has neither blocked it nor a handler, the signal ends the process.
    ThisProcess,
}

// <asm-generic/fcntl.h>
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;
const F_OWNER_TID: libc::c_int = 0;
const F_OWNER_PID: libc::c_int = 1;

/// `struct f_owner_ex`.
#[repr(C)]
struct OwnerEx {
    kind: libc::c_int,
    pid: libc::pid_t,
}

/// From now on `signal` tells `owner` of the socket's events. What is armed is
/// the open socket, with the number that it has here: a copy of the descriptor
/// made later, and one in another process, tells the same owner of this same
/// number, until [`disarm`].
///
/// # Errors
/// As `fcntl(2)` and `ioctl(2)`.
pub fn arm(socket: BorrowedFd<'_>, signal: RealTimeSignal, owner: Owner) -> io::Result<()> {
    let owner = match owner {
        Owner::ThisThread => {
            OwnerEx { kind: F_OWNER_TID, pid: rustix::thread::gettid().as_raw_nonzero().get() }
        }
        Owner::ThisProcess => {
            OwnerEx { kind: F_OWNER_PID, pid: rustix::process::getpid().as_raw_nonzero().get() }
        }
    };
    // Off first: while it is on, the kernel keeps the number that it was
    // switched on with.
    set_async(socket, false)?;
    set_owner(socket, &owner)?;
    set_signal(socket, signal.0)?;
    set_async(socket, true)
}

/// Ends what [`arm`] began. Signals that are queued already still come.
///
/// # Errors
/// As `fcntl(2)` and `ioctl(2)`.
pub fn disarm(socket: BorrowedFd<'_>) -> io::Result<()> {
    set_async(socket, false)?;
    // As a new socket has it, for whoever arms it next.
    set_signal(socket, 0)?;
    set_owner(socket, &OwnerEx { kind: F_OWNER_PID, pid: 0 })
}

fn set_owner(socket: BorrowedFd<'_>, owner: &OwnerEx) -> io::Result<()> {
    // SAFETY: the kernel reads one `struct f_owner_ex` through the pointer,
    // which leads to one that outlives the call.
    let result = unsafe { libc::fcntl(socket.as_raw_fd(), F_SETOWN_EX, std::ptr::from_ref(owner)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn set_signal(socket: BorrowedFd<'_>, number: libc::c_int) -> io::Result<()> {
    // SAFETY: F_SETSIG takes an integer and touches no memory of ours.
    let result = unsafe { libc::fcntl(socket.as_raw_fd(), F_SETSIG, number) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// O_ASYNC by FIOASYNC, which changes that flag alone: F_SETFL would write
/// back all of them, as they were when they were read.
fn set_async(socket: BorrowedFd<'_>, on: bool) -> io::Result<()> {
    let on = libc::c_int::from(on);
    // SAFETY: FIOASYNC reads one int through the pointer, which leads to one
    // that outlives the call.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::FIOASYNC, &raw const on) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// What a signal told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signalled {
    /// Something happened to a socket.
    Socket {
        /// The number that it had when it was armed. It may be closed by now,
        /// and the number somebody else's.
        fd: RawFd,
        /// What happened, as `poll(2)` says it (`si_band`): POLLERR for an
        /// entry on the error queue and for a reset.
        band: i64,
    },
    /// The queue of signals was full, and this came instead: look at every
    /// socket. (Also any other SIGIO: a look too many does no harm.)
    Overflow,
    /// It did not come from a descriptor: somebody's `kill` or `sigqueue`.
    Stranger,
}

impl Signalled {
    /// Reads what a handler with SA_SIGINFO was given. Async-signal-safe.
    ///
    /// # Safety
    /// `info` leads to what the kernel handed to the handler that is running,
    /// or `sigwaitinfo(2)` filled in.
    #[must_use]
    pub unsafe fn from_raw(info: *const libc::siginfo_t) -> Self {
        // SAFETY: valid for reads because the caller says so, until the
        // handler returns; it is not kept.
        let info = unsafe { &*info };
        if info.si_signo == libc::SIGIO {
            return Signalled::Overflow;
        }
        // POLL_IN to POLL_HUP (<asm-generic/siginfo.h>): the kernel's, and
        // nobody else's, since what a process sends has a code below one.
        if !(1..=6).contains(&info.si_code) {
            return Signalled::Stranger;
        }
        // SAFETY: with these codes the kernel has filled the member _sigpoll
        // of the union (`send_sigio_to_task` in fs/fcntl.c); any bytes are
        // valid integers besides.
        let (fd, band) = unsafe { (info.si_fd(), info.si_band()) };
        #[allow(clippy::useless_conversion)] // An int on 32-bit machines.
        Signalled::Socket { fd, band: i64::from(band) }
    }
}

/// A real-time signal and SIGIO, blocked in a thread, so that they queue
/// there until somebody waits for them.
#[derive(Clone, Copy)]
pub struct Blocked {
    set: libc::sigset_t,
}

impl Blocked {
    /// Blocks `signal` and SIGIO in the calling thread, and in those that it
    /// starts afterwards. They stay blocked: one that came after the last
    /// look would end the process.
    ///
    /// # Errors
    /// None that a caller could cause.
    pub fn new(signal: RealTimeSignal) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the whole set that the pointer leads
        // to, which is valid for writes for the length of the call; from then
        // on it is initialised. Both numbers are signals, so sigaddset cannot
        // refuse them. pthread_sigmask changes the calling thread's mask only
        // and is allowed a null old set.
        let (error, set) = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            libc::sigaddset(set.as_mut_ptr(), signal.0);
            libc::sigaddset(set.as_mut_ptr(), libc::SIGIO);
            let null = std::ptr::null_mut();
            (libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), null), set.assume_init())
        };
        if error == 0 { Ok(Blocked { set }) } else { Err(io::Error::from_raw_os_error(error)) }
    }

    /// The next signal; `None` when none came within `timeout`. An overflow
    /// is told before the signals that are still queued. To be called in the
    /// thread that the signals go to.
    ///
    /// # Errors
    /// `EINTR` when another signal's handler ran.
    pub fn wait(&self, timeout: Duration) -> io::Result<Option<Signalled>> {
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: timespec is a C struct of integers (with padding on some
        // machines), for which all zeroes is valid.
        let mut limit: libc::timespec = unsafe { std::mem::zeroed() };
        limit.tv_sec = timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX);
        // Below 10⁹, which every width of it holds.
        limit.tv_nsec = timeout.subsec_nanos() as _;
        // SAFETY: the set is initialised (`new`), `info` is valid for writes
        // of one siginfo_t, and the limit for reads; all outlive the call.
        let number =
            unsafe { libc::sigtimedwait(&raw const self.set, info.as_mut_ptr(), &raw const limit) };
        if number < 0 {
            let error = io::Error::last_os_error();
            return if error.kind() == io::ErrorKind::WouldBlock { Ok(None) } else { Err(error) };
        }
        // SAFETY: sigtimedwait has filled it in.
        Ok(Some(unsafe { Signalled::from_raw(info.as_ptr()) }))
    }
}

impl std::fmt::Debug for Blocked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Blocked").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
