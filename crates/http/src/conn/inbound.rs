//! Received bytes on their way to becoming requests. No socket here.

use bytes::Bytes;

use crate::body::{Part, Trailer};
use crate::{
    ChunkedDecoder, Event, HeadScanner, Limits, Offence, RequestFraming, RequestHead, Scan,
};

/// Room for what is received at a time: nearly every head fits, with the
/// pipelined ones behind it.
const ROOM: usize = 8 * 1024;

/// A buffer that has grown beyond this for a large head is not kept.
const KEPT: usize = 16 * 1024;

/// The body that is being received.
#[derive(Debug, Default)]
enum Incoming {
    /// None, or all of it was taken.
    #[default]
    Nothing,
    /// This many bytes are still to come.
    Sized(u64),
    /// By chunks.
    Chunked(Box<ChunkedDecoder>),
}

/// Bytes of one connection, from the first that is not yet understood.
#[derive(Debug)]
pub(super) struct Inbound {
    buffer: Vec<u8>,
    /// What lies before this offset is dealt with.
    start: usize,
    scanner: HeadScanner,
    incoming: Incoming,
}

impl Default for Inbound {
    fn default() -> Self {
        Inbound {
            buffer: Vec::with_capacity(ROOM),
            start: 0,
            scanner: HeadScanner::new(),
            incoming: Incoming::Nothing,
        }
    }
}

impl Inbound {
    /// Forgets the connection and keeps the memory; false where that is too
    /// much to keep.
    pub(super) fn reset(&mut self) -> bool {
        self.buffer.clear();
        self.start = 0;
        self.scanner.reset();
        self.incoming = Incoming::Nothing;
        self.buffer.capacity() <= KEPT
    }

    /// Whether bytes wait that nobody has looked at, or a head has begun.
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.buffer.len()
    }

    /// The buffer, with room for more behind what it holds.
    pub(super) fn room(&mut self) -> &mut Vec<u8> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.buffer.len() == self.buffer.capacity() {
            // Grows no further than the limits of a head allow: a body is
            // taken out of the buffer before the next read.
            self.buffer.drain(..self.start);
            self.start = 0;
            if self.buffer.capacity() - self.buffer.len() < ROOM / 2 {
                self.buffer.reserve(self.buffer.capacity());
            }
        }
        &mut self.buffer
    }

    /// Reads the next head, if all of it is there. Its body, as `begin_body`
    /// says, comes next.
    pub(super) fn next_head(
        &mut self,
        head: &mut RequestHead,
        limits: &Limits,
    ) -> Result<bool, Offence> {
        let unread = &self.buffer[self.start..];
        if self.scanner.is_fresh()
            && let Some(length) = head.parse_at_once(unread, limits)
        {
            self.start += length;
            return Ok(true);
        }
        match self.scanner.scan(unread, limits)? {
            Scan::Partial => Ok(false),
            Scan::Complete { skip, len } => {
                head.parse(&unread[skip..skip + len], limits)?;
                self.start += skip + len;
                self.scanner.reset();
                Ok(true)
            }
        }
    }

    /// What comes next is a body delimited so.
    pub(super) fn begin_body(&mut self, framing: RequestFraming) {
        self.incoming = match framing {
            RequestFraming::None | RequestFraming::Sized(0) => Incoming::Nothing,
            RequestFraming::Sized(length) => Incoming::Sized(length),
            RequestFraming::Chunked => Incoming::Chunked(Box::default()),
        };
    }

    /// Whether the body has been taken to its end.
    pub(super) fn body_is_done(&self) -> bool {
        matches!(self.incoming, Incoming::Nothing)
    }

    /// Bytes of the body that are still to be taken; `None` when nobody knows.
    pub(super) fn body_left(&self) -> Option<u64> {
        match self.incoming {
            Incoming::Nothing => Some(0),
            Incoming::Sized(left) => Some(left),
            Incoming::Chunked(_) => None,
        }
    }

    /// The next part of the body out of the buffer, of at most `most` bytes;
    /// `None` when more must be received first.
    pub(super) fn next_part(
        &mut self,
        limits: &Limits,
        most: usize,
    ) -> Result<Option<Part>, Offence> {
        loop {
            let part = self.step(limits, most)?;
            // A long line of a chunk may end behind the first `most` bytes.
            if part.is_some() || self.is_empty() {
                return Ok(part);
            }
        }
    }

    fn step(&mut self, limits: &Limits, most: usize) -> Result<Option<Part>, Offence> {
        let unread = &self.buffer[self.start..];
        let unread = &unread[..unread.len().min(most)];
        match &mut self.incoming {
            Incoming::Nothing => Ok(Some(Part::End(Vec::new()))),
            Incoming::Sized(left) => {
                let take = unread.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                if take == 0 {
                    return Ok(None);
                }
                let data = Bytes::copy_from_slice(&unread[..take]);
                self.start += take;
                *left -= take as u64;
                if *left == 0 {
                    self.incoming = Incoming::Nothing;
                }
                Ok(Some(Part::Data(data)))
            }
            Incoming::Chunked(decoder) => {
                let step = decoder.decode(unread, limits)?;
                let part = match step.event {
                    Event::NeedMore => None,
                    Event::Data(range) => Some(Part::Data(Bytes::copy_from_slice(&unread[range]))),
                    Event::Done => Some(Part::End(trailers(decoder))),
                };
                self.start += step.consumed;
                if matches!(part, Some(Part::End(_))) {
                    self.incoming = Incoming::Nothing;
                }
                Ok(part)
            }
        }
    }

    /// Bytes of the body that follow one another without framing and were not
    /// received yet: they may go past the buffer.
    pub(super) fn ahead(&self) -> u64 {
        match &self.incoming {
            _ if !self.is_empty() => 0,
            Incoming::Nothing => 0,
            Incoming::Sized(left) => *left,
            Incoming::Chunked(decoder) => decoder.data_left(),
        }
    }

    /// So many bytes of those went past the buffer.
    pub(super) fn skip(&mut self, bytes: u64) {
        match &mut self.incoming {
            Incoming::Nothing => {}
            Incoming::Sized(left) => {
                *left = left.saturating_sub(bytes);
                if *left == 0 {
                    self.incoming = Incoming::Nothing;
                }
            }
            Incoming::Chunked(decoder) => {
                decoder.skip(bytes);
            }
        }
    }

    /// Takes what has come behind the request, up to the room of `into`: it is no
    /// longer HTTP's.
    pub(super) fn take_raw(&mut self, into: &mut Vec<u8>) -> usize {
        let unread = &self.buffer[self.start..];
        let count = unread.len().min(into.capacity() - into.len());
        into.extend_from_slice(&unread[..count]);
        self.start += count;
        count
    }

    /// Throws away what the buffer holds of the body.
    pub(super) fn discard_body(&mut self, limits: &Limits) -> Result<(), Offence> {
        while !self.body_is_done() {
            if self.next_part(limits, usize::MAX)?.is_none() {
                break;
            }
        }
        Ok(())
    }
}

fn trailers(decoder: &ChunkedDecoder) -> Vec<Trailer> {
    decoder
        .trailers()
        .map(|(name, value)| (name.to_owned(), Bytes::copy_from_slice(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(inbound: &mut Inbound, bytes: &[u8]) {
        inbound.room().extend_from_slice(bytes);
    }

    #[test]
    fn pipelined_requests_with_bodies_come_out_one_by_one() {
        let limits = Limits::default();
        let mut inbound = Inbound::default();
        let mut head = RequestHead::new();
        feed(&mut inbound, b"POST /a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabcGET /b HT");
        assert!(inbound.next_head(&mut head, &limits).unwrap());
        assert_eq!(head.path(), "/a");
        inbound.begin_body(RequestFraming::of(&head).unwrap());
        let Some(Part::Data(data)) = inbound.next_part(&limits, 100).unwrap() else { panic!() };
        assert_eq!(&data[..], b"abc");
        assert!(inbound.body_is_done());
        assert!(!inbound.next_head(&mut head, &limits).unwrap());
        feed(&mut inbound, b"TP/1.1\r\nHost: h\r\n\r\n");
        assert!(inbound.next_head(&mut head, &limits).unwrap());
        assert_eq!(head.path(), "/b");
        assert!(inbound.is_empty());
    }

    #[test]
    fn a_head_larger_than_the_first_buffer_fits_up_to_the_limit_and_no_byte_more() {
        let limits = Limits::default();
        let mut inbound = Inbound::default();
        let mut head = RequestHead::new();
        let line = format!("X: {}\r\n", "a".repeat(1000));
        let mut text = String::from("GET / HTTP/1.1\r\nHost: h\r\n");
        while text.len() + line.len() + 2 <= limits.head {
            text.push_str(&line);
        }
        text.push_str("\r\n");
        let mut whole = false;
        for piece in text.as_bytes().chunks(777) {
            feed(&mut inbound, piece);
            whole = inbound.next_head(&mut head, &limits).unwrap();
        }
        assert!(whole);
        assert!(!inbound.reset(), "such a buffer is not kept");
    }
}
