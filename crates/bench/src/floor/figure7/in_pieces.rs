//! Head by `send`, content by `sendfile`, tail by `send`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use sluicegate_sys::{file::read_at, sendfile, socket};

use crate::floor::{Transfer, Turn, head};

/// Head and tail in memory, and the file between them.
pub(crate) struct Pieces {
    head: Vec<u8>,
    file: File,
    /// Bytes of the file that `sendfile` sends.
    content: u64,
    tail: Vec<u8>,
}

/// Where an answer goes on, as an offset into one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Head(usize),
    File(u64),
    Tail(usize),
    Nothing,
}

impl Pieces {
    fn next(&self, sent: u64) -> Next {
        let head = self.head.len() as u64;
        if sent < head {
            Next::Head(sent as usize)
        } else if sent < head + self.content {
            Next::File(sent - head)
        } else if sent < head + self.content + self.tail.len() as u64 {
            Next::Tail((sent - head - self.content) as usize)
        } else {
            Next::Nothing
        }
    }
}

/// Bytes of an answer that were accepted. `CORK`: corked from the first to the last; `MORE`: the
/// head announces that more follows.
pub(crate) struct InPieces<const CORK: bool, const MORE: bool, const TAIL: usize> {
    sent: u64,
}

impl<const CORK: bool, const MORE: bool, const TAIL: usize> Transfer
    for InPieces<CORK, MORE, TAIL>
{
    type Shared = Pieces;

    fn prepare(file: File, length: u64) -> io::Result<Pieces> {
        let content = length.saturating_sub(TAIL as u64);
        let mut tail = Vec::with_capacity(TAIL);
        if TAIL > 0 {
            read_at(file.as_fd(), content, TAIL, &mut tail)?;
        }
        Ok(Pieces { head: head(length), file, content, tail })
    }

    fn new(_: &Pieces) -> io::Result<Self> {
        Ok(Self { sent: 0 })
    }

    fn restart(&mut self) {
        self.sent = 0;
    }

    fn drive(&mut self, pieces: &Pieces, socket: BorrowedFd<'_>) -> io::Result<Turn> {
        if CORK && self.sent == 0 {
            socket::set_cork(socket, true)?;
        }
        loop {
            let (accepted, rest) = match pieces.next(self.sent) {
                Next::Head(at) => {
                    let rest = &pieces.head[at..];
                    (socket::send(socket, rest, MORE)?, rest.len())
                }
                Next::File(at) => {
                    let rest = (pieces.content - at) as usize;
                    let accepted = sendfile::sendfile(socket, pieces.file.as_fd(), at, rest)?;
                    if accepted == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                    // A short `sendfile` can have other reasons than a full socket: only EAGAIN
                    // promises an event.
                    (accepted, accepted)
                }
                Next::Tail(at) => {
                    let rest = &pieces.tail[at..];
                    (socket::send(socket, rest, false)?, rest.len())
                }
                Next::Nothing => break,
            };
            self.sent += accepted as u64;
            if accepted < rest {
                return Ok(Turn::Full);
            }
        }
        if CORK {
            socket::set_cork(socket, false)?;
        }
        Ok(Turn::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_belongs_to_one_piece() {
        let file = tempfile::tempfile().unwrap();
        let pieces = Pieces { head: vec![0; 10], file, content: 100, tail: vec![0; 5] };
        let expected = [
            (0, Next::Head(0)),
            (9, Next::Head(9)),
            (10, Next::File(0)),
            (109, Next::File(99)),
            (110, Next::Tail(0)),
            (114, Next::Tail(4)),
            (115, Next::Nothing),
        ];
        for (sent, next) in expected {
            assert_eq!(pieces.next(sent), next, "after {sent}");
        }
    }
}
