//! What a handler answers: a value that says *what* to send, never how.

use std::cell::Cell;
use std::error::Error as StdError;
use std::ops::Range;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use sluicegate::Segment;
use thiserror::Error;

use crate::prepared::Prepared;
use crate::relay::Relay;
use crate::rules::FieldRules;

/// A header field that may not be sent.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadField {
    /// The name is not a token. RFC 9110 section 5.1.
    #[error("`{0}` is not a header name")]
    Name(String),
    /// The value holds CR, LF, NUL or another control byte: it would split the
    /// response. RFC 9110 section 5.5.
    #[error("the value of `{0}` holds a control byte")]
    Value(String),
    /// The engine writes this field itself, from what it knows of the
    /// connection and of the body.
    #[error("`{0}` is the engine's own to write")]
    Reserved(String),
}

/// Fields that say how the message is delimited and how the connection goes
/// on. A handler that could write them could contradict the engine.
const RESERVED: [&str; 6] =
    ["connection", "content-length", "date", "keep-alive", "server", "transfer-encoding"];

/// More room than this is not kept for the next lines.
const KEPT: usize = 8 * 1024;

/// More room than this is not kept for what the next content is received into.
const KEPT_CONTENT: usize = 32 * 1024;

thread_local! {
    /// Room for the lines of an answer that is passed on.
    static LINES: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
    /// Room to receive its content into, where that is short.
    static CONTENT: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Header lines, checked when they are added.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fields {
    lines: Vec<u8>,
}

impl Fields {
    /// Adds a field.
    ///
    /// # Errors
    /// [`BadField`]; nothing was added.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), BadField> {
        let value = value.as_ref();
        if name.is_empty() || !name.bytes().all(crate::head::field::is_token_byte) {
            return Err(BadField::Name(name.to_owned()));
        }
        if value.iter().any(|&byte| byte == 0x7f || (byte < 0x20 && byte != b'\t')) {
            return Err(BadField::Value(name.to_owned()));
        }
        if RESERVED.iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Err(BadField::Reserved(name.to_owned()));
        }
        for part in [name.as_bytes(), b": ", value, b"\r\n"] {
            self.lines.extend_from_slice(part);
        }
        Ok(())
    }

    /// Adds all of `others`.
    pub fn append(&mut self, others: &Fields) {
        self.lines.extend_from_slice(&others.lines);
    }

    /// Takes all lines of that name away, in any case.
    pub fn remove(&mut self, name: &str) {
        let mut kept = Vec::with_capacity(self.lines.len());
        for line in self.lines.split_inclusive(|&byte| byte == b'\n') {
            let is_named = line.split_at_checked(name.len()).is_some_and(|(start, rest)| {
                start.eq_ignore_ascii_case(name.as_bytes()) && rest.starts_with(b":")
            });
            if !is_named {
                kept.extend_from_slice(line);
            }
        }
        self.lines = kept;
    }

    /// Name and whole line of each field.
    pub(crate) fn lines(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.lines.split_inclusive(|&byte| byte == b'\n').map(|line| {
            // The name is a token: it was checked when the line was added.
            let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
            (str::from_utf8(name).unwrap_or_default(), line)
        })
    }

    /// Adds a line of other fields.
    pub(crate) fn push_line(&mut self, line: &[u8]) {
        self.lines.extend_from_slice(line);
    }

    /// None, with the room that those have left which were [kept](Fields::keep).
    pub(crate) fn with_kept_room() -> Self {
        Fields { lines: LINES.try_with(Cell::take).unwrap_or_default() }
    }

    /// They were sent: keeps their room for others.
    pub(crate) fn keep(mut self) {
        if (1..=KEPT).contains(&self.lines.capacity()) {
            self.lines.clear();
            // A thread that ends has no place for it.
            let _ = LINES.try_with(|kept| kept.set(self.lines));
        }
    }

    /// The lines, to be appended to by who has checked them while he parsed them.
    pub(crate) fn lines_mut(&mut self) -> &mut Vec<u8> {
        &mut self.lines
    }

    /// The value of the first field of that name, in any case.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let (found, line) = self.lines().find(|(found, _)| found.eq_ignore_ascii_case(name))?;
        line.get(found.len() + 2..)?.strip_suffix(b"\r\n")
    }

    /// The lines as they are sent.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.lines
    }
}

/// Short content in the memory that it was received into, which is used again: with many answers
/// under way an allocator has none at hand of that size, and a copy costs as much as all the rest.
#[derive(Debug)]
pub struct Copied {
    received: Vec<u8>,
    content: Range<usize>,
}

impl Copied {
    /// The bytes `content` of what was `received`; other memory takes its place, which is empty.
    /// Bytes that are not there are none.
    #[must_use]
    pub fn within(received: &mut Vec<u8>, content: Range<usize>) -> Self {
        let other = CONTENT.try_with(Cell::take).unwrap_or_default();
        let end = content.end.min(received.len());
        let content = content.start.min(end)..end;
        Copied { received: std::mem::replace(received, other), content }
    }

    /// The content.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.received.get(self.content.clone()).unwrap_or_default()
    }

    /// It was sent: keeps its room for others.
    pub(crate) fn keep(mut self) {
        if self.received.capacity() <= KEPT_CONTENT {
            self.received.clear();
            // A thread that ends has no place for it.
            let _ = CONTENT.try_with(|kept| kept.set(self.received));
        }
    }
}

impl From<Copied> for Segment {
    /// A copy: who has to wait for his client is not to hold all that was received.
    fn from(copied: Copied) -> Self {
        let segment = Segment::given(copied.as_bytes().to_vec());
        copied.keep();
        segment
    }
}

/// One piece of a body that is made while it is sent.
#[derive(Debug)]
pub enum Frame {
    /// The next bytes.
    Data(Segment),
    /// The trailer section: the last frame. Sent to HTTP/1.1 clients of a body
    /// without a known length, dropped for others.
    Trailers(Fields),
}

/// Why a body that is made while it is sent ended early.
pub type BodyFailure = Box<dyn StdError + Send + Sync>;

/// A body that is made while it is sent. Polled only when there is room for
/// more, so a slow client slows its source down.
pub trait BodySource: Send {
    /// The next frame; `None` at the end.
    ///
    /// # Errors
    /// Cuts the connection, so that the client does not take a part for the whole.
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyFailure>>>;

    /// Bytes of the whole body, if they are known: Content-Length is sent
    /// then, and exactly so many bytes must come.
    fn length(&self) -> Option<u64> {
        None
    }
}

/// The content of a response.
#[derive(Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// One segment.
    Segment(Segment),
    /// Something short, in memory that is used again.
    Copied(Copied),
    /// Several, one after another.
    Segments(Vec<Segment>),
    /// Made while it is sent.
    Stream(Box<dyn BodySource>),
    /// Moved into the connection by somebody else.
    Relay(Box<dyn Relay>),
}

impl Body {
    /// Bytes, if they are known beforehand.
    #[must_use]
    pub fn length(&self) -> Option<u64> {
        match self {
            Body::Empty => Some(0),
            Body::Segment(segment) => Some(segment.len()),
            Body::Copied(copied) => Some(copied.content.len() as u64),
            Body::Segments(segments) => Some(segments.iter().map(Segment::len).sum()),
            Body::Stream(source) => source.length(),
            Body::Relay(relay) => relay.length(),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Body::Empty => f.write_str("Empty"),
            Body::Segment(segment) => f.debug_tuple("Segment").field(segment).finish(),
            Body::Copied(copied) => f.debug_tuple("Copied").field(&copied.content.len()).finish(),
            Body::Segments(segments) => f.debug_tuple("Segments").field(segments).finish(),
            Body::Stream(source) => f.debug_tuple("Stream").field(&source.length()).finish(),
            Body::Relay(relay) => f.debug_tuple("Relay").field(&relay.length()).finish(),
        }
    }
}

/// An answer.
///
/// The engine adds Server, Date, Connection and the framing; for HEAD it sends
/// the head alone, for 204 and 304 no body and no length.
#[derive(Debug)]
pub struct Response {
    pub(crate) kind: Kind,
}

pub(crate) enum Kind {
    Built {
        status: u16,
        fields: Fields,
        body: Body,
    },
    /// With its content behind it where that is not within.
    Prepared(Arc<Prepared>, Option<Segment>),
    /// 101.
    Upgrade {
        protocol: Box<[u8]>,
        fields: Fields,
        tunnel: Box<dyn Relay>,
    },
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Built { status, fields, body } => {
                let fields = fields.as_bytes().escape_ascii();
                write!(f, "{status} {{{fields}}} {body:?}")
            }
            Kind::Prepared(prepared, content) => {
                f.debug_tuple("Prepared").field(prepared).field(content).finish()
            }
            Kind::Upgrade { protocol, .. } => write!(f, "101 {}", protocol.escape_ascii()),
        }
    }
}

impl Response {
    /// An answer with `status` (200 to 599) and without content. Another
    /// status is a mistake of the program and is answered as 500.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self::of(status, Fields::default(), Body::Empty)
    }

    /// As [`Response::new`], with these header lines, which were checked when they were made, and
    /// this content.
    #[must_use]
    #[inline]
    pub fn of(status: u16, fields: Fields, body: Body) -> Self {
        let status = if (200..600).contains(&status) { status } else { 500 };
        Response { kind: Kind::Built { status, fields, body } }
    }

    /// Plain text.
    #[must_use]
    pub fn text(status: u16, text: impl Into<Bytes>) -> Self {
        let mut response = Self::new(status).with_body(Body::Segment(Segment::given(text)));
        // A constant that is valid.
        let _ = response.add("Content-Type", "text/plain; charset=utf-8");
        response
    }

    /// The status code with its reason phrase as content, for people.
    #[must_use]
    pub fn status_page(status: u16) -> Self {
        Self::text(status, format!("{status} {}\n", crate::encode::reason(status)))
    }

    /// An answer that was composed beforehand.
    #[must_use]
    pub fn prepared(prepared: Arc<Prepared>) -> Self {
        Response { kind: Kind::Prepared(prepared, None) }
    }

    /// A head that was composed beforehand ([`Prepared::head`]), and the content
    /// that it announces. Content of another length is a mistake of the program
    /// and is answered as 500.
    #[must_use]
    pub fn prepared_with(head: Arc<Prepared>, content: Segment) -> Self {
        if head.announced() != content.len() {
            return Self::status_page(500);
        }
        Response { kind: Kind::Prepared(head, Some(content)) }
    }

    /// 101 Switching Protocols to `protocol` (RFC 9110 section 7.8): the engine adds
    /// Connection and Upgrade, and once the head is sent the connection is `tunnel`'s,
    /// until it is ready: then nothing more is sent, and the connection ends.
    ///
    /// To a client that has not asked for all of `protocol`, that speaks HTTP/1.0,
    /// or whose request has a body that was not read to its end, 500 is answered
    /// instead.
    ///
    /// # Errors
    /// [`BadField`] when `protocol` is no field value.
    pub fn upgrade(
        protocol: &[u8],
        mut fields: Fields,
        tunnel: Box<dyn Relay>,
    ) -> Result<Self, BadField> {
        fields.remove("Upgrade");
        // Whatever checks a field of that name checks its value.
        Fields::default().add("Upgrade", protocol)?;
        Ok(Response { kind: Kind::Upgrade { protocol: protocol.into(), fields, tunnel } })
    }

    /// With this content. Has no effect on an upgrade.
    #[must_use]
    pub fn with_body(mut self, content: Body) -> Self {
        if let Kind::Built { body, .. } = &mut self.kind {
            *body = content;
        }
        self
    }

    /// With these header lines, which were checked when they were made.
    #[must_use]
    pub fn with_fields(mut self, lines: Fields) -> Self {
        if let Kind::Built { fields, .. } = &mut self.kind {
            *fields = lines;
        }
        self
    }

    /// The same answer, of which the header fields can be changed: a prepared one is
    /// taken apart.
    #[must_use]
    pub fn unprepared(self) -> Self {
        let Kind::Prepared(prepared, content) = self.kind else { return self };
        let content = content.unwrap_or_else(|| Segment::Memory(prepared.parts().1));
        let (status, fields) = (prepared.status(), prepared.fields());
        Response { kind: Kind::Built { status, fields, body: Body::Segment(content) } }
    }

    /// With other content of another type. Has no effect on a prepared answer.
    pub(crate) fn with_content(mut self, content_type: Option<&str>, content: Body) -> Self {
        if let Kind::Built { fields, body, .. } = &mut self.kind {
            fields.remove("Content-Type");
            if let Some(content_type) = content_type {
                // One that does not fit was left out before.
                let _ = fields.add("Content-Type", content_type);
            }
            *body = content;
        }
        self
    }

    /// Adds a header field. Has no effect on a prepared answer.
    ///
    /// # Errors
    /// [`BadField`]; nothing was added.
    pub fn add(&mut self, name: &str, value: impl AsRef<[u8]>) -> Result<(), BadField> {
        match &mut self.kind {
            Kind::Built { fields, .. } | Kind::Upgrade { fields, .. } => fields.add(name, value),
            Kind::Prepared(..) => Ok(()),
        }
    }

    /// Does what an operator wants of the header fields. Has no effect on a
    /// prepared answer: whoever composes one knows the rules.
    pub fn apply(&mut self, rules: &FieldRules) {
        if rules.is_empty() {
            return;
        }
        if let Kind::Built { fields, .. } = &mut self.kind {
            // A type is of content: what has none gets none. And nobody can
            // take several ranges apart without their own.
            match fields.value("Content-Type") {
                None => rules.apply_but_type(fields),
                Some(ours) if ours.starts_with(b"multipart/byteranges") => {
                    rules.apply_but_type(fields);
                }
                Some(_) => rules.apply(fields),
            }
        } else if let Kind::Upgrade { fields, .. } = &mut self.kind {
            rules.apply_but_type(fields);
        }
    }

    /// The value of the first header field of that name, but for those that the
    /// engine writes; `None` for a prepared answer.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        match &self.kind {
            Kind::Built { fields, .. } | Kind::Upgrade { fields, .. } => fields.value(name),
            Kind::Prepared(..) => None,
        }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        match &self.kind {
            Kind::Built { status, .. } => *status,
            Kind::Prepared(prepared, _) => prepared.status(),
            Kind::Upgrade { .. } => 101,
        }
    }

    /// Whether somebody moves its body into the connection by himself.
    #[inline]
    pub(crate) fn is_relayed(&self) -> bool {
        matches!(self.kind, Kind::Built { body: Body::Relay(_), .. } | Kind::Upgrade { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_content_leaves_with_the_memory_that_it_came_in_and_is_waited_for_in_its_own() {
        let mut received = b"head content rest".to_vec();
        received.reserve(KEPT_CONTENT / 2);
        let (place, capacity) = (received.as_ptr(), received.capacity());
        let copied = Copied::within(&mut received, 5..12);
        assert!(received.is_empty());
        assert_eq!(
            (copied.as_bytes(), copied.as_bytes().as_ptr()),
            (&b"content"[..], place.wrapping_add(5))
        );
        copied.keep();
        received.extend_from_slice(b"more");
        let copied = Copied::within(&mut received, 0..4);
        // What was kept is what the next is received into.
        assert_eq!((received.as_ptr(), received.capacity(), received.len()), (place, capacity, 0));
        let Segment::Memory(bytes) = Segment::from(copied) else { panic!("it is memory") };
        assert_eq!(bytes, "more");
        received.extend_from_slice(b"abc");
        assert_eq!(Copied::within(&mut received, 2..9).as_bytes(), b"c");
        assert_eq!(Copied::within(&mut received, 7..9).as_bytes(), b"");
    }

    #[test]
    fn a_field_that_would_split_or_contradict_the_response_is_refused() {
        let mut fields = Fields::default();
        for (name, value) in [
            ("", "x"),
            ("a b", "x"),
            ("a:", "x"),
            ("x", "a\r\nSet-Cookie: b"),
            ("x", "a\0"),
            ("Content-Length", "3"),
            ("TRANSFER-ENCODING", "chunked"),
            ("connection", "close"),
        ] {
            assert!(fields.add(name, value).is_err(), "{name}: {value}");
        }
        assert!(fields.as_bytes().is_empty());
        fields.add("Xx-Good", "1").unwrap();
        fields.add("X-Goo", "2").unwrap();
        fields.remove("x-goo");
        assert_eq!(fields.as_bytes(), b"Xx-Good: 1\r\n");
        fields.remove("XX-GOOD");
        fields.add("X-Good", "a\tb \u{e9}").unwrap();
        assert_eq!(fields.as_bytes(), "X-Good: a\tb \u{e9}\r\n".as_bytes());
    }
}
