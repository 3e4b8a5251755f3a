//! A doorbell between threads (`eventfd(2)`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{EventfdFlags, eventfd};

/// A counter that turns its descriptor readable. Any thread may ring.
#[derive(Debug)]
pub struct Wake {
    fd: OwnedFd,
}

impl Wake {
    /// A new doorbell, non-blocking and closed on exec.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Wake { fd: eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)? })
    }

    /// Makes the descriptor readable; rings before the next [`Wake::quiet`] count as one.
    ///
    /// # Errors
    /// `EAGAIN` only when 2⁶⁴−2 rings were never answered: it is readable then too.
    pub fn ring(&self) -> io::Result<()> {
        rustix::io::write(&self.fd, &1_u64.to_ne_bytes())?;
        Ok(())
    }

    /// Takes the rings so far. True when there were any.
    pub fn quiet(&self) -> bool {
        rustix::io::read(&self.fd, &mut [0_u8; 8]).is_ok()
    }
}

impl AsFd for Wake {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
