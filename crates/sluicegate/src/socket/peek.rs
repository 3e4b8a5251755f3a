//! A look at what was received, before it is taken.

use std::io;
use std::task::{Context, Poll, ready};

use sluicegate_sys::socket;

use super::Socket;
use crate::readiness::Readiness;

impl<R: Readiness> Socket<R> {
    /// Looks at what can be received, from its start, without taking it: `buffer` has
    /// it then, as far as there is room. Ready when that is more than `seen` bytes,
    /// or as much as `buffer` holds, or the peer sends no more: no more than `seen`
    /// bytes will ever come then.
    ///
    /// # Errors
    /// `ConnectionReset` and the like; `InvalidInput` when there is no room.
    pub fn poll_peek(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut Vec<u8>,
        seen: usize,
    ) -> Poll<io::Result<()>> {
        self.take_reports();
        loop {
            let edge = ready!(self.readiness.poll_readable(cx));
            buffer.clear();
            match socket::peek(self.fd(), buffer) {
                Ok(0) => return Poll::Ready(Ok(())),
                Ok(count) if count > seen || buffer.len() == buffer.capacity() || edge.hung_up => {
                    return Poll::Ready(Ok(()));
                }
                // What comes next makes an edge of its own.
                Ok(_) => self.handle_nothing(edge),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.handle_nothing(edge);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Takes away `count` bytes that [`Socket::poll_peek`] has shown.
    ///
    /// # Errors
    /// As `recv(2)`; `UnexpectedEof` when there were not so many.
    pub fn take_peeked(&mut self, count: usize) -> io::Result<()> {
        let mut left = count;
        let mut taken = [0; 512];
        while left > 0 {
            let room = left.min(taken.len());
            match socket::receive_into(self.fd(), &mut taken[..room]) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => left -= count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
