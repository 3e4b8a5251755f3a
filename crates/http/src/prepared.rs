//! Answers composed beforehand: a head, with its content where that is small, in
//! one piece of memory.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

use crate::date::{self, Date};
use crate::encode::{self, Framing};
use crate::response::Fields;

/// A small answer that many requests get: one piece of memory, one send.
///
/// ```text
/// HTTP/1.1 200 OK … Date: …29 bytes… │ fields, Content-Length │ CRLF │ content
///                        └ date_at                                   └ content_at
/// ```
/// Only the date ever differs, once a second; the piece is then copied, since
/// bytes that the kernel may still read never change.
#[derive(Debug)]
pub struct Prepared {
    status: u16,
    date_at: usize,
    content_at: usize,
    /// What Content-Length says.
    announced: u64,
    whole: Mutex<(u64, Bytes)>,
}

impl Prepared {
    /// Composes an answer.
    #[must_use]
    pub fn new(status: u16, fields: &Fields, content: &[u8]) -> Self {
        Self::compose(status, fields, content.len() as u64, content)
    }

    /// Composes the head of an answer whose content, `length` bytes of it, is
    /// elsewhere: see [`crate::Response::prepared_with`].
    #[must_use]
    pub fn head(status: u16, fields: &Fields, length: u64) -> Self {
        Self::compose(status, fields, length, b"")
    }

    fn compose(status: u16, fields: &Fields, length: u64, content: &[u8]) -> Self {
        let date = date::now();
        let mut out = Vec::with_capacity(256 + fields.as_bytes().len() + content.len());
        let date_at = encode::start(&mut out, status, &date);
        out.extend_from_slice(fields.as_bytes());
        encode::framing(&mut out, Framing::Sized(length));
        out.extend_from_slice(b"\r\n");
        let content_at = out.len();
        out.extend_from_slice(content);
        let whole = Mutex::new((date.second, Bytes::from(out)));
        Prepared { status, date_at, content_at, announced: length, whole }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Bytes of memory that the answer takes.
    #[must_use]
    pub fn size(&self) -> usize {
        self.lock().1.len()
    }

    /// Bytes of content that the head announces.
    pub(crate) fn announced(&self) -> u64 {
        self.announced
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, (u64, Bytes)> {
        self.whole.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Head and content with the date of now.
    pub(crate) fn whole(&self) -> Bytes {
        let mut whole = self.lock();
        if whole.0 != sluicegate::unix_seconds() {
            let Date { second, text } = date::now();
            let mut copy = whole.1.to_vec();
            if let Some(place) = copy.get_mut(self.date_at..self.date_at + date::LEN) {
                place.copy_from_slice(&text);
            }
            *whole = (second, Bytes::from(copy));
        }
        whole.1.clone()
    }

    /// The head without its closing empty line, and the content.
    pub(crate) fn parts(&self) -> (Bytes, Bytes) {
        let whole = self.whole();
        (whole.slice(..self.content_at - 2), whole.slice(self.content_at..))
    }

    /// The header lines that it was composed with.
    pub(crate) fn fields(&self) -> Fields {
        let (head, _) = self.parts();
        let mut fields = Fields::default();
        let lines = head.get(self.date_at + date::LEN + 2..).unwrap_or_default();
        // Content-Length is the last one, and the engine's own.
        let end = lines.iter().rev().skip(1).position(|&byte| byte == b'\n');
        let end = end.map_or(0, |back| lines.len() - 1 - back);
        fields.lines_mut().extend_from_slice(lines.get(..end).unwrap_or_default());
        fields
    }

    /// Where the head ends in [`Prepared::whole`].
    pub(crate) fn head_len(&self) -> usize {
        self.content_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_an_answer_can_be_had_again() {
        let mut fields = Fields::default();
        assert_eq!(Prepared::new(200, &fields, b"x").fields(), fields);
        fields.add("Content-Type", "a/b").unwrap();
        fields.add("ETag", "\"c\"").unwrap();
        assert_eq!(Prepared::new(200, &fields, b"x").fields(), fields);
        assert_eq!(Prepared::head(200, &fields, 1 << 40).fields(), fields);
    }

    #[test]
    fn the_date_is_renewed_and_the_rest_stays() {
        let mut fields = Fields::default();
        fields.add("ETag", "\"a\"").unwrap();
        let prepared = Prepared::new(200, &fields, b"content");
        // A date that is long over.
        let mut old = prepared.whole().to_vec();
        old[prepared.date_at..prepared.date_at + date::LEN].fill(b'x');
        *prepared.lock() = (0, Bytes::from(old));
        let text = String::from_utf8(prepared.whole().to_vec()).unwrap();
        assert!(text.starts_with("HTTP/1.1 200 OK\r\nServer: sluicegate\r\nDate: "), "{text}");
        assert!(text.contains(" GMT\r\nETag: \"a\"\r\nContent-Length: 7\r\n\r\ncontent"), "{text}");
        let (head, content) = prepared.parts();
        assert_eq!(&content[..], b"content");
        assert!(head.ends_with(b"Content-Length: 7\r\n"));
    }
}
