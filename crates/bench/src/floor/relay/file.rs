//! The paper's proxy without a proxy around it: upstream, memory, file, client. What differs is the
//! file (grows, or 1 MiB reused when its bytes are acknowledged), the calls (blocking or not), and
//! their size. Over a true wire alone is an acknowledgement a proof. One client after another.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::ioctl_fionbio;
use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::{outq, sendfile, socket};

use super::pairs::pass_request;
use super::{Through, connect, head};

/// The cyclic file.
const CYCLE: u64 = 1 << 20;

/// How often acknowledgements are asked for while the file is full of what is not.
const LOOK: Duration = Duration::from_millis(1);

pub(super) fn serve(
    listener: &OwnedFd,
    upstream: SocketAddr,
    directory: &Path,
    through: Through,
) -> io::Result<()> {
    let epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), 0, Interest::SharedListener)?;
    let mut events = Events::with_capacity(4);
    loop {
        let Ok((client, _)) = socket::accept(listener.as_fd()) else {
            epoll.wait(&mut events, None)?;
            continue;
        };
        socket::set_nodelay(client.as_fd())?;
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        let file = File::from(openat(CWD, directory, flags, Mode::RUSR | Mode::WUSR)?);
        let upstream = connect(upstream)?;
        let (client, upstream) = (client.as_fd(), upstream.as_fd());
        // A client that is gone is followed by the next.
        let _ = Relaying { through, client, upstream, file }.run();
    }
}

struct Relaying<'a> {
    through: Through,
    client: BorrowedFd<'a>,
    upstream: BorrowedFd<'a>,
    file: File,
}

/// How far a body has come, in bytes.
#[derive(Default)]
struct Place {
    length: u64,
    /// Bytes in the file, and those that the client's socket has accepted.
    written: u64,
    sent: u64,
}

impl Relaying<'_> {
    /// Answers one request after another until the client goes.
    fn run(&self) -> io::Result<()> {
        let epoll = Epoll::new()?;
        epoll.add(self.client, 0, Interest::Both)?;
        epoll.add(self.upstream, 1, Interest::Both)?;
        let mut events = Events::with_capacity(4);
        let mut buffer = vec![0; self.through.unit().max(4 << 10)];
        loop {
            while !pass_request(self.client, self.upstream, &mut buffer)? {
                epoll.wait(&mut events, None)?;
            }
            let received = loop {
                match socket::receive_into(self.upstream, &mut buffer[..4 << 10]) {
                    Ok(received) => break received,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        epoll.wait(&mut events, None)?;
                    }
                    Err(error) => return Err(error),
                }
            };
            let (end, length) = head(&buffer[..received]).ok_or(ErrorKind::InvalidData)?;
            socket::send(self.client, &buffer[..end], true)?;
            let mut place = Place { length, ..Place::default() };
            self.write(&mut place, &buffer[end..received])?;
            while place.sent < length {
                self.turn(&mut place, &mut buffer, &epoll, &mut events)?;
            }
        }
    }

    fn turn(
        &self,
        place: &mut Place,
        buffer: &mut [u8],
        epoll: &Epoll,
        events: &mut Events,
    ) -> io::Result<()> {
        let unit = self.through.unit();
        let mut moved = false;
        let mut is_full = false;
        if place.written < place.length {
            let room = self.room(place)?.min(unit as u64).min(place.length - place.written);
            is_full = room == 0;
            if room > 0 {
                match socket::receive_into(self.upstream, &mut buffer[..room as usize]) {
                    Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                    Ok(received) => {
                        self.write(place, &buffer[..received])?;
                        moved = true;
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if place.sent < place.written {
            match self.send(place, unit) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(sent) => {
                    place.sent += sent as u64;
                    moved = true;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        if !moved {
            epoll.wait(events, is_full.then_some(LOOK))?;
        }
        Ok(())
    }

    /// Bytes that may be written: all that a growing file takes, or what of the cyclic one is
    /// acknowledged.
    fn room(&self, place: &Place) -> io::Result<u64> {
        if !self.through.is_cyclic {
            return Ok(u64::MAX);
        }
        // Asked only where it matters.
        let room = CYCLE.saturating_sub(place.written - place.sent);
        let unproved = outq::unacknowledged(self.client)?;
        Ok(room.saturating_sub(unproved))
    }

    fn offset(&self, at: u64) -> u64 {
        if self.through.is_cyclic { at % CYCLE } else { at }
    }

    fn write(&self, place: &mut Place, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let offset = self.offset(place.written);
            let until = if self.through.is_cyclic { CYCLE - offset } else { u64::MAX };
            let (part, rest) = bytes.split_at(until.min(bytes.len() as u64) as usize);
            self.file.write_all_at(part, offset)?;
            place.written += part.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    fn send(&self, place: &Place, unit: usize) -> io::Result<usize> {
        let offset = self.offset(place.sent);
        let until = if self.through.is_cyclic { CYCLE - offset } else { u64::MAX };
        let share = (place.written - place.sent).min(unit as u64).min(until) as usize;
        if !self.through.blocks {
            return sendfile::sendfile(self.client, self.file.as_fd(), offset, share);
        }
        ioctl_fionbio(self.client, false)?;
        let sent = sendfile::sendfile(self.client, self.file.as_fd(), offset, share);
        ioctl_fionbio(self.client, true)?;
        sent
    }
}
