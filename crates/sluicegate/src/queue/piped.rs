//! What is in pipes, in a send queue.

use bytes::Bytes;

use super::{Part, SendQueue};
use crate::pipes::LentPipe;
use crate::strategy::Way;

impl<F> SendQueue<F> {
    /// The first pipe with bytes that are to be sent, and how many of them: they may
    /// be read out of it into memory ([`SendQueue::handle_unpiped`]), where somebody
    /// needs the pipe more.
    #[must_use]
    pub fn poll_piped(&self) -> Option<(&LentPipe, u64)> {
        self.parts.iter().find_map(|part| match part {
            Part::Piped { pipe, left } => Some((&**pipe, *left)),
            _ => None,
        })
    }

    /// The next bytes of the pipe of [`SendQueue::poll_piped`] are these now: all
    /// of them, or the first.
    pub fn handle_unpiped(&mut self, mut bytes: Bytes) {
        let is_piped = |part: &Part<F>| matches!(part, Part::Piped { .. });
        let Some(at) = self.parts.iter().position(is_piped) else { return };
        let Some(Part::Piped { left, .. }) = self.parts.get_mut(at) else { return };
        bytes.truncate(usize::try_from(*left).unwrap_or(usize::MAX));
        if bytes.is_empty() {
            return;
        }
        *left -= bytes.len() as u64;
        let is_whole = *left == 0;
        let memory = Part::Memory { bytes, way: Way::Copy };
        if is_whole {
            self.parts[at] = memory;
        } else {
            self.parts.insert(at, memory);
        }
    }
}
