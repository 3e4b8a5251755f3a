//! The kernel's end of a socket.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use sluicegate_sys::errqueue::{self, Numbering};
use sluicegate_sys::file::Stamp;
use sluicegate_sys::open::path_of;
use sluicegate_sys::splice::Pipe;
use sluicegate_sys::{file, sendfile, socket, zerocopy};

use crate::linger::can_linger;
use crate::pipes::{LentPipe, PipePool};
use crate::position::Position;
use crate::queue::SLICES;
use crate::ring::Pinned;
use crate::transport::Transport;

/// The last bytes before a position of which the acknowledgement is to be
/// reported go in a call of their own, of so much or up to twice that:
/// `sendfile` makes an entry for every 64 KiB of a call (KERNEL.md), and one is
/// enough.
const REPORTED_CALL: u64 = 64 * 1024;

/// Where the acknowledgement of a byte is to wake somebody.
#[derive(Clone, Copy, Debug)]
pub(super) struct Report {
    /// When everything before here is acknowledged.
    pub(super) at: Position,
    /// After that, again whenever so many bytes more are; 0: no more.
    pub(super) every: u64,
    /// Not beyond here.
    pub(super) last: Position,
}

impl Report {
    /// The one after this, when the stream has come to `position`.
    fn next(self, position: Position) -> Option<Report> {
        if self.every == 0 || position >= self.last {
            return None;
        }
        Some(Report { at: position.advanced(self.every).min(self.last), ..self })
    }
}

/// What is known of the reports that this kernel makes for this socket.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Reports {
    #[default]
    Untried,
    Numbered(Numbering),
    Refused,
}

/// Whether the socket takes memory by reference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum References {
    #[default]
    Untried,
    Allowed,
    Refused,
}

/// A socket's descriptor, with what one turn of sending needs.
pub(super) struct Kernel<'a> {
    pub(super) fd: BorrowedFd<'a>,
    pub(super) pipe: &'a mut Option<LentPipe>,
    pub(super) pipes: &'a PipePool,
    /// Where the stream stands.
    pub(super) position: Position,
    pub(super) report: &'a mut Option<Report>,
    pub(super) reports: Reports,
    pub(super) references: References,
}

impl Kernel<'_> {
    /// Makes a call that could take `len` bytes, or fewer where a report is
    /// wanted on the way, and asks for that.
    fn reported(
        &mut self,
        len: usize,
        call: impl FnOnce(&mut Self, usize) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let Some(report) = *self.report else {
            let taken = call(self, len)?;
            self.position = self.position.advanced(taken as u64);
            return Ok(taken);
        };
        let until = report.at.since(self.position);
        let fits = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        let (len, asks) = if until > len as u64 {
            (len, false)
        } else if until > 2 * REPORTED_CALL {
            (fits(until - REPORTED_CALL), false)
        } else {
            (fits(until.max(1)).min(len), true)
        };
        let numbering = asks.then(|| self.ask(true)).flatten();
        let taken = call(self, len);
        if numbering.is_some() {
            self.ask(false);
        }
        let taken = taken?;
        self.position = self.position.advanced(taken as u64);
        if self.position >= report.at {
            *self.report = report.next(self.position);
        }
        Ok(taken)
    }

    /// Switches reports on or off; `None` where there are none, or none any more.
    fn ask(&mut self, on: bool) -> Option<Numbering> {
        if let Reports::Untried = self.reports {
            self.reports = match errqueue::number_acks(self.fd) {
                Ok(numbering) => Reports::Numbered(numbering),
                Err(_) => Reports::Refused,
            };
        }
        let Reports::Numbered(numbering) = self.reports else {
            *self.report = None;
            return None;
        };
        // Without a report a waiter looks by itself, a little later.
        errqueue::report_acks(self.fd, numbering, on).ok().map(|()| numbering)
    }

    /// Calls with the first `len` bytes of `slices`; whether something of them
    /// is left out.
    fn first<T>(
        slices: &[IoSlice<'_>],
        len: usize,
        call: impl FnOnce(&[IoSlice<'_>], bool) -> T,
    ) -> T {
        let mut first = [IoSlice::new(&[]); SLICES];
        let (mut count, mut left) = (0, len);
        for (slot, slice) in first.iter_mut().zip(slices) {
            if left == 0 {
                break;
            }
            let part = left.min(slice.len());
            *slot = IoSlice::new(&slice[..part]);
            left -= part;
            count += 1;
        }
        let all: usize = slices.iter().map(|slice| slice.len()).sum();
        call(&first[..count], len < all)
    }
}

fn length(slices: &[IoSlice<'_>]) -> usize {
    slices.iter().map(|slice| slice.len()).sum()
}

impl Transport for Kernel<'_> {
    type File = Arc<File>;

    fn send(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let fd = self.fd;
        let send = |slices: &[IoSlice<'_>], more| match slices {
            // One slice needs no message header.
            [slice] => socket::send(fd, slice, more),
            slices => socket::send_vectored(fd, slices, more),
        };
        if self.report.is_none() {
            let taken = send(slices, more)?;
            self.position = self.position.advanced(taken as u64);
            return Ok(taken);
        }
        self.reported(length(slices), |_, len| {
            Kernel::first(slices, len, |slices, is_cut| send(slices, more || is_cut))
        })
    }

    fn send_zerocopy(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        if self.references == References::Untried {
            // The kernel goes on counting where another owner of the socket
            // stopped, and tells nobody where that is: the release of one of
            // theirs would be taken for one of ours.
            self.references = match zerocopy::is_allowed(self.fd) {
                Ok(false) if can_linger() && zerocopy::allow(self.fd).is_ok() => {
                    References::Allowed
                }
                _ => References::Refused,
            };
        }
        if self.references == References::Refused {
            return Err(io::ErrorKind::Unsupported.into());
        }
        self.reported(length(slices), |kernel, len| {
            Kernel::first(slices, len, |slices, is_cut| {
                zerocopy::send(kernel.fd, slices, more || is_cut)
            })
        })
    }

    fn read(
        &mut self,
        file: &Arc<File>,
        offset: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        file::read_at(file.as_fd(), offset, len, buffer)
    }

    fn version(&mut self, file: &Arc<File>) -> io::Result<Stamp> {
        file::stamp(file.as_fd())
    }

    fn name(&self, file: &Arc<File>) -> String {
        path_of(file.as_fd())
            .map_or_else(|_| "the file".to_owned(), |path| format!("`{}`", path.display()))
    }

    fn sendfile(&mut self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<usize> {
        self.reported(len, |kernel, len| sendfile::sendfile(kernel.fd, file.as_fd(), offset, len))
    }

    fn send_region(&mut self, region: &Pinned<'_>, len: usize) -> io::Result<usize> {
        self.reported(len, |kernel, len| region.sendfile(kernel.fd, len))
    }

    fn fill(&mut self, file: &Arc<File>, offset: u64, len: usize) -> io::Result<usize> {
        if self.pipe.is_none() {
            *self.pipe = self.pipes.take_for_file();
        }
        let Some(pipe) = self.pipe else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let len = len.min(pipe.capacity());
        pipe.fill_from_file(file.as_fd(), offset, len)
    }

    fn drain(&mut self, len: usize, more: bool) -> io::Result<usize> {
        self.reported(len, |kernel, cut| {
            let Some(pipe) = kernel.pipe else {
                return Err(io::ErrorKind::BrokenPipe.into());
            };
            pipe.drain_to_socket(kernel.fd, cut, more || cut < len)
        })
    }

    fn drain_pipe(&mut self, pipe: &Pipe, len: usize, more: bool) -> io::Result<usize> {
        if pipe.contained() == 0 {
            // The kernel would say EAGAIN, and no event would ever come.
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.reported(len, |kernel, cut| pipe.drain_to_socket(kernel.fd, cut, more || cut < len))
    }
}
