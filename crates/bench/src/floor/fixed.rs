//! An answer that was prepared before anybody asked for it: the floor of small files.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use sluicegate_sys::socket;

use super::{Transfer, Turn};

/// How much of the answer was accepted.
pub(crate) struct Fixed {
    sent: usize,
}

impl Transfer for Fixed {
    /// Head and body.
    type Shared = Vec<u8>;

    fn prepare(mut file: File, length: u64) -> io::Result<Vec<u8>> {
        let mut answer = super::head(length);
        file.read_to_end(&mut answer)?;
        Ok(answer)
    }

    fn new(_: &Vec<u8>) -> io::Result<Self> {
        Ok(Self { sent: 0 })
    }

    fn restart(&mut self) {
        self.sent = 0;
    }

    fn drive(&mut self, answer: &Vec<u8>, socket: BorrowedFd<'_>) -> io::Result<Turn> {
        self.sent += socket::send(socket, &answer[self.sent..], false)?;
        // A short send means a full socket; its next edge tells of room.
        Ok(if self.sent == answer.len() { Turn::Done } else { Turn::Full })
    }
}
