//! An answer's body as its upstream delimits it.

use std::io;
use std::ops::Range;

use sluicegate_http::client::ResponseFraming;
use sluicegate_http::client::ResponseHead;
use sluicegate_http::client::forward::Nominated;
use sluicegate_http::{ChunkedDecoder, Event, Fields, Limits};

use super::trouble::Trouble;

/// From so many bytes on that are known to be content it pays to move them without looking.
const MOVED: u64 = 64 * 1024;

/// How a body is delimited, and how far it is read.
#[derive(Debug)]
enum Framing {
    Sized(u64),
    Chunked(Box<ChunkedDecoder>),
    /// The end of the connection is its end.
    Close,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// Content, so much at most: it can be moved unseen.
    Content(u64),
    /// To be looked at ([`Incoming::take`]).
    Mixed,
    /// None: the body is complete.
    Nothing,
}

/// Reads a body.
#[derive(Debug)]
pub(super) struct Incoming {
    framing: Framing,
    is_done: bool,
    /// Something came behind its end.
    has_surplus: bool,
    /// What of its trailers does not go on.
    nominated: Nominated,
}

impl Incoming {
    pub(super) fn new(framing: ResponseFraming) -> Self {
        let framing = match framing {
            ResponseFraming::None => Framing::Sized(0),
            ResponseFraming::Sized(length) => Framing::Sized(length),
            ResponseFraming::Chunked => Framing::Chunked(Box::new(ChunkedDecoder::of_responses())),
            ResponseFraming::Close | ResponseFraming::Upgraded => Framing::Close,
        };
        let is_done = matches!(framing, Framing::Sized(0));
        Incoming { framing, is_done, has_surplus: false, nominated: Nominated::default() }
    }

    /// The body behind `head`.
    pub(super) fn behind(head: &ResponseHead, framing: ResponseFraming) -> Self {
        let mut incoming = Self::new(framing);
        if matches!(incoming.framing, Framing::Chunked(_)) {
            incoming.nominated = Nominated::by_response(head);
        }
        incoming
    }

    /// Bytes of content that are still to come, where that was said.
    pub(super) fn left(&self) -> Option<u64> {
        match self.framing {
            Framing::Sized(left) => Some(left),
            Framing::Chunked(_) | Framing::Close => None,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether its end is known, and nothing came behind it: what comes next on the
    /// connection is another answer.
    pub(super) fn is_clean(&self) -> bool {
        self.is_done && !self.has_surplus && !matches!(self.framing, Framing::Close)
    }

    /// What of its trailer section goes on.
    pub(super) fn trailers(&self) -> Option<Fields> {
        let Framing::Chunked(decoder) = &self.framing else { return None };
        Some(self.nominated.trailers_of(decoder)).filter(|fields| !fields.as_bytes().is_empty())
    }

    pub(super) fn next(&self) -> Next {
        let ahead = match &self.framing {
            _ if self.is_done => return Next::Nothing,
            Framing::Sized(left) => *left,
            Framing::Chunked(decoder) => decoder.data_left(),
            Framing::Close => u64::MAX,
        };
        if ahead >= MOVED { Next::Content(ahead) } else { Next::Mixed }
    }

    /// Reads what was received, from `start` on. The content is moved together; returns where it is then.
    ///
    /// # Errors
    /// [`Trouble::BadChunks`].
    pub(super) fn take(
        &mut self,
        input: &mut [u8],
        start: usize,
        limits: &Limits,
    ) -> Result<Range<usize>, Trouble> {
        match &mut self.framing {
            Framing::Close => Ok(start..input.len()),
            Framing::Sized(left) => {
                let here = input.len().saturating_sub(start);
                let content = usize::try_from(*left).unwrap_or(usize::MAX).min(here);
                *left -= content as u64;
                self.is_done = *left == 0;
                self.has_surplus |= content < here;
                Ok(start..start + content)
            }
            Framing::Chunked(decoder) => {
                let (mut at, mut content) = (start, None::<Range<usize>>);
                loop {
                    let rest = input.get(at..).unwrap_or_default();
                    let step = decoder.decode(rest, limits).map_err(Trouble::BadChunks)?;
                    match step.event {
                        Event::NeedMore => break,
                        Event::Done => {
                            self.is_done = true;
                            self.has_surplus |= at + step.consumed < input.len();
                            break;
                        }
                        Event::Data(found) => {
                            let found = at + found.start..at + found.end;
                            let end = content.as_ref().map_or(found.start, |content| content.end);
                            let length = found.len();
                            input.copy_within(found, end);
                            let begin = content.map_or(end, |content| content.start);
                            content = Some(begin..end + length);
                        }
                    }
                    at += step.consumed;
                }
                Ok(content.unwrap_or(start..start))
            }
        }
    }

    /// So many bytes of [`Next::Content`] were moved.
    pub(super) fn skip(&mut self, bytes: u64) {
        match &mut self.framing {
            Framing::Close => {}
            Framing::Sized(left) => {
                *left = left.saturating_sub(bytes);
                self.is_done = *left == 0;
            }
            Framing::Chunked(decoder) => {
                decoder.skip(bytes);
            }
        }
    }

    /// The upstream sends no more.
    ///
    /// # Errors
    /// [`Trouble::Truncated`] where more was announced.
    pub(super) fn end(&mut self) -> Result<(), Trouble> {
        if !matches!(self.framing, Framing::Close) {
            return Err(Trouble::Truncated);
        }
        self.is_done = true;
        Ok(())
    }
}

/// What failed while a body came: its upstream's connection, or we.
pub(super) fn failure(error: io::Error) -> Trouble {
    use io::ErrorKind::{
        BrokenPipe, ConnectionAborted, ConnectionReset, HostUnreachable, NetworkUnreachable,
        NotConnected, TimedOut,
    };
    match error.kind() {
        ConnectionReset | ConnectionAborted | BrokenPipe | NotConnected | TimedOut
        | HostUnreachable | NetworkUnreachable => Trouble::BodyBroken(error),
        _ => Trouble::Ours(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNKED: &[u8] = b"5\r\nhello\r\n1;x=y\r\n \r\n6\r\nworld!\r\n0\r\nx-sum: 1\r\n\r\n";

    fn limits() -> Limits {
        sluicegate_http::client::limits()
    }

    #[test]
    fn chunks_are_moved_together_however_they_were_split() {
        for split in 0..=CHUNKED.len() {
            let mut incoming = Incoming::new(ResponseFraming::Chunked);
            let mut content = Vec::new();
            for part in [&CHUNKED[..split], &CHUNKED[split..]] {
                let mut input = [b"head", part].concat();
                let range = incoming.take(&mut input, 4, &limits()).unwrap();
                content.extend_from_slice(&input[range]);
            }
            assert_eq!(content, b"hello world!", "{split}");
            assert!(incoming.is_done() && incoming.is_clean(), "{split}");
            assert_eq!(incoming.trailers().unwrap().as_bytes(), b"x-sum: 1\r\n");
        }
    }

    #[test]
    fn what_follows_a_body_is_seen_and_no_part_of_it() {
        let mut input = [CHUNKED, b"HTTP/1.1 200 OK\r\n"].concat();
        let mut incoming = Incoming::new(ResponseFraming::Chunked);
        let range = incoming.take(&mut input, 0, &limits()).unwrap();
        assert_eq!(&input[range], b"hello world!");
        assert!(incoming.is_done() && !incoming.is_clean());
        let mut incoming = Incoming::new(ResponseFraming::Sized(3));
        assert_eq!(incoming.take(&mut b"abcd".to_vec(), 0, &limits()).unwrap(), 0..3);
        assert!(incoming.is_done() && !incoming.is_clean());
        let mut incoming = Incoming::new(ResponseFraming::None);
        assert_eq!(incoming.take(&mut b"a".to_vec(), 0, &limits()).unwrap(), 0..0);
        assert!(incoming.is_done() && !incoming.is_clean());
    }

    #[test]
    fn only_a_body_that_the_connection_delimits_ends_with_it() {
        for framing in [ResponseFraming::Sized(10), ResponseFraming::Chunked] {
            let mut incoming = Incoming::new(framing);
            incoming.take(&mut b"3\r\nabc".to_vec(), 0, &limits()).unwrap();
            assert!(matches!(incoming.end(), Err(Trouble::Truncated)), "{framing:?}");
        }
        let mut incoming = Incoming::new(ResponseFraming::Close);
        assert_eq!(incoming.next(), Next::Content(u64::MAX));
        incoming.end().unwrap();
        assert!(incoming.is_done() && !incoming.is_clean(), "nothing else comes on it");
    }

    #[test]
    fn long_stretches_of_content_are_moved_unseen() {
        let mut incoming = Incoming::new(ResponseFraming::Sized(MOVED + 1));
        assert_eq!(incoming.next(), Next::Content(MOVED + 1));
        incoming.skip(2);
        assert_eq!((incoming.next(), incoming.left()), (Next::Mixed, Some(MOVED - 1)));
        incoming.skip(MOVED - 1);
        assert_eq!(incoming.next(), Next::Nothing);
        let mut incoming = Incoming::new(ResponseFraming::Chunked);
        assert_eq!(incoming.next(), Next::Mixed);
        let range = incoming.take(&mut b"100000\r\nab".to_vec(), 0, &limits()).unwrap();
        assert_eq!(range, 8..10);
        assert_eq!(incoming.next(), Next::Content(0x10_0000 - 2));
        incoming.skip(0x10_0000 - 2);
        assert_eq!(incoming.next(), Next::Mixed, "the chunk's end, and the next head");
        incoming.take(&mut b"\r\n0\r\n\r\n".to_vec(), 0, &limits()).unwrap();
        assert!(incoming.is_clean());
    }
}
