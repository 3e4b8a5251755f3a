//! All pieces in one `sendmsg`, from memory.

use std::fs::File;
use std::io::{self, IoSlice, Read};
use std::os::fd::BorrowedFd;

use sluicegate_sys::socket;

use crate::floor::{Transfer, Turn, head};

/// Head, content and tail; the tail is empty where there is none.
type Pieces = [Vec<u8>; 3];

/// Bytes of an answer that were accepted.
pub(crate) struct AtOnce<const TAIL: usize> {
    sent: usize,
}

impl<const TAIL: usize> Transfer for AtOnce<TAIL> {
    type Shared = Pieces;

    fn prepare(mut file: File, length: u64) -> io::Result<Pieces> {
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        let tail = content.split_off(content.len().saturating_sub(TAIL));
        Ok([head(length), content, tail])
    }

    fn new(_: &Pieces) -> io::Result<Self> {
        Ok(Self { sent: 0 })
    }

    fn restart(&mut self) {
        self.sent = 0;
    }

    fn drive(&mut self, pieces: &Pieces, socket: BorrowedFd<'_>) -> io::Result<Turn> {
        let mut slices = pieces.each_ref().map(|piece| IoSlice::new(piece));
        let mut rest = if TAIL == 0 { &mut slices[..2] } else { &mut slices[..] };
        IoSlice::advance_slices(&mut rest, self.sent);
        let left: usize = rest.iter().map(|slice| slice.len()).sum();
        let accepted = socket::send_vectored(socket, rest, false)?;
        self.sent += accepted;
        // A short send means a full socket; its next edge tells of room.
        Ok(if accepted == left { Turn::Done } else { Turn::Full })
    }
}
