//! What the send queue's wishes are carried out on.

use std::io::{self, IoSlice};

use sluicegate_sys::file::Stamp;
use sluicegate_sys::splice::Pipe;

use crate::ring::Pinned;

/// A stream that can be sent on, with the calls of a socket: the kernel, or a
/// script that stands for it.
///
/// Every call may take less than it is given, and fail with the kernel's
/// errors: `WouldBlock` when the socket is full, `Interrupted`.
pub trait Transport {
    /// Handle of a file that segments refer to.
    type File: Clone;

    /// Copies `slices`, in order, into the socket; `more` as `MSG_MORE`.
    ///
    /// # Errors
    /// As `sendmsg(2)`.
    fn send(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize>;

    /// Hands `slices`, in order, to the socket by reference; `more` as
    /// `MSG_MORE`. They stay unchanged until the kernel reports that it let
    /// them go, by the number of the call.
    ///
    /// # Errors
    /// As `sendmsg(2)`. `Unsupported` where the socket has no such way, and
    /// ENOBUFS where another reference is one too many; the queue then copies.
    fn send_zerocopy(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize>;

    /// Appends at most `len` bytes of `file` from `offset` to `buffer`; 0 at
    /// the end of the file.
    ///
    /// # Errors
    /// As `pread(2)`.
    fn read(
        &mut self,
        file: &Self::File,
        offset: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize>;

    /// What `file` is now.
    ///
    /// # Errors
    /// As `fstat(2)`.
    fn version(&mut self, file: &Self::File) -> io::Result<Stamp>;

    /// What `file` is called, for messages.
    fn name(&self, file: &Self::File) -> String;

    /// Sends at most `len` bytes of `file` from `offset`; 0 at the end of the file.
    ///
    /// # Errors
    /// As `sendfile(2)`. `InvalidInput` (EINVAL) means that this file cannot
    /// go this way; the queue then takes the next.
    fn sendfile(&mut self, file: &Self::File, offset: u64, len: usize) -> io::Result<usize>;

    /// Sends at most `len` bytes of a region from where it stands, by reference
    /// to its pages.
    ///
    /// # Errors
    /// As [`Transport::sendfile`].
    fn send_region(&mut self, region: &Pinned<'_>, len: usize) -> io::Result<usize>;

    /// Moves at most `len` bytes of `file` from `offset` into the pipe; 0 at
    /// the end of the file.
    ///
    /// # Errors
    /// As `splice(2)`. `InvalidInput` as for [`Transport::sendfile`];
    /// `Unsupported` or `WouldBlock` when there is no pipe to be had.
    fn fill(&mut self, file: &Self::File, offset: u64, len: usize) -> io::Result<usize>;

    /// Moves at most `len` bytes from the pipe into the socket; `more` as
    /// `SPLICE_F_MORE`.
    ///
    /// # Errors
    /// As `splice(2)`.
    fn drain(&mut self, len: usize, more: bool) -> io::Result<usize>;

    /// Moves at most `len` bytes from `pipe`, which has so many, into the socket;
    /// `more` as `SPLICE_F_MORE`.
    ///
    /// # Errors
    /// As `splice(2)`. `BrokenPipe` when nothing is in it: somebody else has
    /// taken what was to be sent.
    fn drain_pipe(&mut self, pipe: &Pipe, len: usize, more: bool) -> io::Result<usize>;
}
