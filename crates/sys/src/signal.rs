//! Signals as readable events (`signalfd(2)`).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// The signals that a server listens for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// `SIGHUP`.
    Hangup,
    /// `SIGINT`.
    Interrupt,
    /// `SIGTERM`.
    Terminate,
    /// `SIGUSR1`.
    User1,
    /// `SIGUSR2`.
    User2,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Signal::Hangup => libc::SIGHUP,
            Signal::Interrupt => libc::SIGINT,
            Signal::Terminate => libc::SIGTERM,
            Signal::User1 => libc::SIGUSR1,
            Signal::User2 => libc::SIGUSR2,
        }
    }
}

/// Signals that are blocked in this thread, and in those that it starts
/// afterwards, and read from a descriptor instead. Make it before any thread.
#[derive(Debug)]
pub struct Signals {
    fd: OwnedFd,
    listened: Vec<Signal>,
}

impl Signals {
    /// Blocks `signals` and opens the descriptor that tells of them.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn listen(signals: &[Signal]) -> io::Result<Self> {
        let mut set = MaybeUninit::<libc::sigset_t>::uninit();
        // SAFETY: sigemptyset initialises the whole set that the pointer leads
        // to, which is valid for writes for the length of the call; from then
        // on it is initialised, so sigaddset and the two calls that read it
        // get a valid set. pthread_sigmask changes the calling thread's mask
        // only and is allowed a null old set. The signal numbers are constants
        // of this platform, so sigaddset cannot refuse them.
        let fd = unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                libc::sigaddset(set.as_mut_ptr(), signal.number());
            }
            let error = libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), std::ptr::null_mut());
            if error != 0 {
                return Err(io::Error::from_raw_os_error(error));
            }
            libc::signalfd(-1, set.as_ptr(), libc::SFD_NONBLOCK | libc::SFD_CLOEXEC)
        };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: signalfd returned a new descriptor that nobody else owns;
        // it stays open until the OwnedFd is dropped.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Signals { fd, listened: signals.to_vec() })
    }

    /// Blocks the calling thread until a signal has come, `also` is readable or
    /// at its end, or `timeout` is over; sometimes for less.
    ///
    /// # Errors
    /// What `poll(2)` reports.
    pub fn wait(&self, also: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> io::Result<()> {
        let own = PollFd::new(&self.fd, PollFlags::IN);
        let also = also.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN));
        let mut fds: Vec<PollFd<'_>> = std::iter::once(own).chain(also).collect();
        // A timeout that cannot be said is as good as none.
        let timeout = timeout.and_then(|timeout| Timespec::try_from(timeout).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The next signal that came, if any; never waits.
    ///
    /// # Errors
    /// `EINTR`.
    pub fn next(&self) -> io::Result<Option<Signal>> {
        let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::read(&self.fd, &mut info) {
            // `ssi_signo` is the first field, a u32.
            Ok(read) if read == info.len() => {
                let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
                Ok(self.listened.iter().copied().find(|s| s.number().cast_unsigned() == number))
            }
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// Has a write past the limit of a file's size (`RLIMIT_FSIZE`) fail with `EFBIG`, as
/// one on a full disk fails, instead of ending the process by `SIGXFSZ`. For the
/// whole process, and for programs that it starts.
///
/// # Errors
/// What `signal(2)` reports: nothing, on Linux.
pub fn ignore_file_size() -> io::Result<()> {
    // SAFETY: SIG_IGN is a disposition and no handler, so no code runs by it; the call
    // has no memory arguments.
    let before = unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    if before == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

impl AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_to_the_thread_is_read_from_the_descriptor() {
        let signals = Signals::listen(&[Signal::Hangup]).unwrap();
        assert_eq!(signals.next().unwrap(), None);
        // SAFETY: raise has no memory arguments; SIGHUP is blocked in this
        // thread by the line above, so it becomes pending and no handler runs.
        unsafe { libc::raise(libc::SIGHUP) };
        assert_eq!(signals.next().unwrap(), Some(Signal::Hangup));
        assert_eq!(signals.next().unwrap(), None);
    }
}
