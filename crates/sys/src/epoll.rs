//! Readiness of many descriptors (`epoll(7)`), edge-triggered.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::buffer::spare_capacity;
use rustix::event::Timespec;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// What a descriptor was reported ready for. Flags as in `epoll_ctl(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ready(u32);

impl Ready {
    /// `EPOLLIN`: a read would return something.
    #[must_use]
    pub fn readable(self) -> bool {
        self.0 & EventFlags::IN.bits() != 0
    }

    /// `EPOLLOUT`: a write would take something.
    #[must_use]
    pub fn writable(self) -> bool {
        self.0 & EventFlags::OUT.bits() != 0
    }

    /// `EPOLLRDHUP` or `EPOLLHUP`: the peer sends no more, or the connection is gone.
    #[must_use]
    pub fn hung_up(self) -> bool {
        self.0 & (EventFlags::RDHUP | EventFlags::HUP).bits() != 0
    }

    /// `EPOLLHUP`: both ways have ended. Of a connection of which we have not shut our own
    /// way: it is gone (`tcp_done`: a reset, a timeout of the kernel's).
    #[must_use]
    pub fn gone(self) -> bool {
        self.0 & EventFlags::HUP.bits() != 0
    }

    /// `EPOLLERR`: the socket has an error, or an entry on its error queue.
    #[must_use]
    pub fn error(self) -> bool {
        self.0 & EventFlags::ERR.bits() != 0
    }
}

/// What to be told about a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interest {
    /// `EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET`: both ways of a socket, one
    /// registration for its whole life.
    Both,
    /// `EPOLLOUT | EPOLLRDHUP | EPOLLET`: as [`Interest::Both`], but what comes makes no event.
    /// Its end does.
    Output,
    /// `EPOLLIN | EPOLLET`: an event descriptor of one's own.
    Read,
    /// `EPOLLIN | EPOLLEXCLUSIVE | EPOLLET`: a listener that several epoll sets
    /// share. A connection wakes one of them, not all; that one accepts until
    /// the queue is empty.
    SharedListener,
}

impl Interest {
    /// A socket's, of which input is told or not.
    #[must_use]
    pub fn of_socket(input: bool) -> Self {
        if input { Interest::Both } else { Interest::Output }
    }

    fn flags(self) -> EventFlags {
        match self {
            Interest::Both => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            Interest::Output => EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
            Interest::Read => EventFlags::IN | EventFlags::ET,
            Interest::SharedListener => EventFlags::IN | EventFlags::EXCLUSIVE | EventFlags::ET,
        }
    }
}

/// An epoll set. Its descriptor is itself pollable, so a set can sit inside
/// another loop.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
}

/// Room for the events that one wait returns.
pub struct Events {
    list: Vec<epoll::Event>,
}

impl Events {
    /// Room for `capacity` events (at least one).
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Events { list: Vec::with_capacity(capacity.max(1)) }
    }

    /// Key and readiness of each event of the last wait.
    pub fn iter(&self) -> impl Iterator<Item = (u64, Ready)> + '_ {
        self.list.iter().map(|event| {
            // The kernel's struct is packed: copy the fields out before use.
            let (data, flags) = (event.data, event.flags);
            (data.u64(), Ready(flags.bits()))
        })
    }
}

impl std::fmt::Debug for Events {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Epoll {
    /// A new set, closed on exec.
    ///
    /// # Errors
    /// `EMFILE`, `ENFILE`, `ENOMEM`.
    pub fn new() -> io::Result<Self> {
        Ok(Epoll { fd: epoll::create(CreateFlags::CLOEXEC)? })
    }

    /// Watches `source`; its events carry `key`.
    ///
    /// Closing the last descriptor of `source` ends the watch.
    ///
    /// # Errors
    /// `EEXIST` when it is watched already, `ENOSPC` at the user's limit of
    /// watches, `EPERM` for a descriptor without readiness (a regular file).
    pub fn add(&self, source: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.fd, source, EventData::new_u64(key), interest.flags())?)
    }

    /// Watches `source`, which is watched, otherwise. What is ready then makes an event at once,
    /// whether or not it has made one before.
    ///
    /// # Errors
    /// `ENOENT` when it is not watched, `EINVAL` for a shared listener.
    pub fn modify(&self, source: BorrowedFd<'_>, key: u64, interest: Interest) -> io::Result<()> {
        Ok(epoll::modify(&self.fd, source, EventData::new_u64(key), interest.flags())?)
    }

    /// Stops watching `source`.
    ///
    /// # Errors
    /// `ENOENT` when it is not watched.
    pub fn delete(&self, source: BorrowedFd<'_>) -> io::Result<()> {
        Ok(epoll::delete(&self.fd, source)?)
    }

    /// Waits until something is ready or `timeout` is over (`None`: for ever),
    /// and puts what came into `events`, whose old content is dropped.
    /// Rounded up to the kernel's resolution, so that a wait for a deadline
    /// does not return just short of it.
    ///
    /// # Errors
    /// `EINTR` when a signal handler ran.
    pub fn wait(&self, events: &mut Events, timeout: Option<Duration>) -> io::Result<usize> {
        events.list.clear();
        // Durations too long for the kernel's type mean "for ever".
        let timespec = timeout.and_then(|duration| Timespec::try_from(duration).ok());
        Ok(epoll::wait(&self.fd, spare_capacity(&mut events.list), timespec.as_ref())?)
    }
}

impl AsFd for Epoll {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wake::Wake;

    #[test]
    fn an_edge_is_reported_once_and_again_after_the_next_write() {
        let epoll = Epoll::new().unwrap();
        let wake = Wake::new().unwrap();
        epoll.add(wake.as_fd(), 7, Interest::Read).unwrap();
        let mut events = Events::with_capacity(4);
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        wake.ring().unwrap();
        assert_eq!(epoll.wait(&mut events, None).unwrap(), 1);
        let (key, ready) = events.iter().next().unwrap();
        assert_eq!((key, ready.readable(), ready.error()), (7, true, false));
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 0);
        wake.ring().unwrap();
        assert_eq!(epoll.wait(&mut events, Some(Duration::ZERO)).unwrap(), 1);
    }

    #[test]
    fn what_comes_unwanted_makes_an_event_when_it_is_wanted_again() {
        use std::io::Write;
        let (ours, mut theirs) = std::os::unix::net::UnixStream::pair().unwrap();
        let epoll = Epoll::new().unwrap();
        epoll.add(ours.as_fd(), 7, Interest::Both).unwrap();
        let mut events = Events::with_capacity(4);
        let mut wait = || {
            epoll.wait(&mut events, Some(Duration::ZERO)).unwrap();
            events.iter().map(|(_, ready)| (ready.readable(), ready.hung_up())).next()
        };
        assert_eq!(wait(), Some((false, false)), "room");
        epoll.modify(ours.as_fd(), 7, Interest::Output).unwrap();
        assert_eq!(wait(), Some((false, false)), "room, again");
        theirs.write_all(b"a").unwrap();
        assert_eq!(wait(), None);
        epoll.modify(ours.as_fd(), 7, Interest::Both).unwrap();
        assert_eq!(wait(), Some((true, false)));
        epoll.modify(ours.as_fd(), 7, Interest::Output).unwrap();
        wait();
        drop(theirs);
        assert!(matches!(wait(), Some((_, true))), "its end is told");
        epoll.delete(ours.as_fd()).unwrap();
        assert!(epoll.modify(ours.as_fd(), 7, Interest::Both).is_err());
    }

    #[test]
    fn a_regular_file_is_refused() {
        let epoll = Epoll::new().unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(epoll.add(file.as_fd(), 0, Interest::Both).is_err());
    }
}
