//! Where a head ends, found while it arrives.
//!
//! Two peers that read the same bytes must come to the same verdict, and so must we on two days
//! when the network cuts the bytes differently. So every offence here belongs to one byte, the
//! first one that breaks a rule; bytes are judged in their order; the parser
//! ([`RequestHead::parse`](crate::RequestHead::parse)) runs only on a whole head.

use crate::{Limits, Offence};

/// What [`HeadScanner::scan`] has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scan {
    /// No offence so far, and no end.
    Partial,
    /// The head is `buffer[skip..skip + len]`.
    Complete {
        /// Bytes of empty lines before the head, to be dropped.
        skip: usize,
        /// Bytes of the head with its closing empty line.
        len: usize,
    },
}

/// Incremental search for the end of a head in a growing buffer.
///
/// It remembers where it stopped, so that the work over all calls is linear in the head.
/// Invariant: `skip <= line <= seen <= buffer.len()`.
#[derive(Clone, Debug, Default)]
pub struct HeadScanner {
    /// Everything before this offset has been judged.
    seen: usize,
    /// Offset of the first byte of the current line.
    line: usize,
    /// Bytes of empty lines before the request line.
    skip: usize,
    /// Whether the request line is complete.
    started: bool,
    /// Complete header lines.
    headers: usize,
}

impl HeadScanner {
    /// A scanner at the start of a message.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the message: the next buffer starts with the next one.
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Whether nothing was judged since the last [`reset`](Self::reset).
    pub(crate) fn is_fresh(&self) -> bool {
        self.seen == 0
    }

    /// Whether a byte of a head has been seen (empty lines before it do not count): tells a peer
    /// that closes between two messages from one that closes within one.
    #[must_use]
    pub fn has_started(&self) -> bool {
        self.started || self.seen > self.line
    }

    /// Judges what is new in `buffer`, which holds all bytes since the last [`reset`](Self::reset)
    /// (or more than when last called, never fewer).
    ///
    /// # Errors
    /// The offence of the first byte that breaks a rule: `BareCr`, `BareLf`, `Nul`, or a limit.
    /// Where one byte breaks two, `TooManyHeaders` wins over a length, and a length over the rest.
    pub fn scan(&mut self, buffer: &[u8], limits: &Limits) -> Result<Scan, Offence> {
        loop {
            if self.started && self.headers >= limits.headers {
                match buffer.get(self.line) {
                    Some(&byte) if byte != b'\r' => return Err(Offence::TooManyHeaders),
                    _ => {}
                }
            }
            let (horizon, beyond) = self.horizon(limits);
            let end = horizon.min(buffer.len());
            let unseen = buffer.get(self.seen..end).unwrap_or_default();
            let Some(offset) = delimiter(unseen) else {
                self.seen = self.seen.max(end);
                return if buffer.len() > horizon { Err(beyond) } else { Ok(Scan::Partial) };
            };
            let at = self.seen + offset;
            match buffer.get(at) {
                // RFC 9112 section 2.2: a recipient MAY take a single LF for a line's end. We do
                // not: a peer in front of us that does not would see another message.
                Some(b'\n') => return Err(Offence::BareLf),
                Some(b'\r') => {}
                // RFC 9110 section 5.5: CR, LF and NUL in a value are dangerous; refuse or replace.
                _ => return Err(Offence::Nul),
            }
            self.seen = at;
            let Some(&next) = buffer.get(at + 1) else {
                return Ok(Scan::Partial);
            };
            if at + 1 >= horizon {
                return Err(beyond);
            }
            // RFC 9112 section 2.2: a bare CR makes the element invalid, or is replaced by SP.
            if next != b'\n' {
                return Err(Offence::BareCr);
            }
            let empty = at == self.line;
            self.line = at + 2;
            self.seen = self.line;
            match (self.started, empty) {
                // RFC 9112 section 2.2: a server SHOULD ignore at least one empty line before the
                // request line. They count in the head's limit, so a flood of them ends there.
                (false, true) => self.skip = self.line,
                (false, false) => self.started = true,
                (true, true) => {
                    return Ok(Scan::Complete { skip: self.skip, len: self.line - self.skip });
                }
                (true, false) => self.headers += 1,
            }
        }
    }

    /// The offset of the first byte that a limit forbids, and the offence of its being there.
    fn horizon(&self, limits: &Limits) -> (usize, Offence) {
        let (line, offence) = if self.started {
            (limits.header_line, Offence::HeaderLineTooLong)
        } else {
            (limits.request_line, Offence::RequestLineTooLong)
        };
        let line = self.line.saturating_add(line);
        if limits.head <= line { (limits.head, Offence::HeadTooLarge) } else { (line, offence) }
    }
}

/// The offset of the first LF, CR or NUL.
///
/// Lines of a head are tens of bytes long, mostly: too short for what a call of a
/// vector search costs. A word at a time, whose lowest candidate is exact: a
/// borrow only ever runs upwards, from a byte that was one already.
fn delimiter(bytes: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    // Sets the top bit of bytes that are zero.
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word & TOPS;
    let (words, rest) = bytes.as_chunks::<8>();
    for (number, word) in words.iter().enumerate() {
        let word = u64::from_le_bytes(*word);
        let [lf, cr] = [b'\n', b'\r'].map(|byte| zeros(word ^ (ONES * u64::from(byte))));
        let found = lf | cr | zeros(word);
        if found != 0 {
            return Some(number * 8 + found.trailing_zeros() as usize / 8);
        }
    }
    let offset = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r' | 0))?;
    Some(bytes.len() - rest.len() + offset)
}

#[cfg(test)]
pub(crate) mod tests;
