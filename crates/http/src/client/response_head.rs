//! A response head: read once, line by line as it arrives.

use super::ResponseOffence;
use super::field_kind::{Kind, guessed};
use crate::head::field::{
    self, FieldLine, PlainLine, field_line, is_token, line_break, plain_name, plain_value,
    value_end,
};
use crate::{Limits, Offence};

/// Interim responses (1xx) that may come before one response: 100, 103 and some 102s.
pub const INTERIM: u32 = 16;

/// Bytes of a status line up to the status code's end.
const CODE_END: usize = 12;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\n";

/// A field that is more than a line which goes on as it came. Offsets into
/// `ResponseHead::bytes`; heads are below 4 GiB.
#[derive(Clone, Copy, Debug)]
struct Mark {
    start: u32,
    name_end: u32,
    value: (u32, u32),
    /// Where the next line begins.
    next: u32,
    kind: Kind,
}

/// One field of a response, as it was received and as it means.
#[derive(Clone, Copy, Debug)]
pub(super) struct Line<'a> {
    pub(super) kind: Kind,
    pub(super) name: &'a [u8],
    pub(super) value: &'a [u8],
    /// With its CRLF.
    pub(super) whole: &'a [u8],
}

impl<'a> Line<'a> {
    /// The line with its CRLF, if it is written as we would write it.
    pub(super) fn as_ours(&self) -> Option<&'a [u8]> {
        let space = self.whole.get(self.name.len() + 1);
        let is_ours = self.whole.len() == self.name.len() + self.value.len() + 4;
        (is_ours && space == Some(&b' ')).then_some(self.whole)
    }
}

/// The head of a response, as it was received. Reused from one to the next: keeps its allocations.
///
/// Everything in it has passed RFC 9112's grammar, so that whoever passes it on has not to look for
/// control bytes again.
#[derive(Clone, Debug, Default)]
pub struct ResponseHead {
    /// The whole head as received; empty until it is whole.
    bytes: Vec<u8>,
    status: u16,
    is_http10: bool,
    /// Where the first field begins.
    first: u32,
    /// How many fields there are.
    count: usize,
    /// Those of which there is anything to know. What is between two of them goes on in one piece.
    marks: Vec<Mark>,
    lengths: u32,
    /// The value of the last length.
    length: (u32, u32),
    codings: u32,
    connections: u32,
}

impl ResponseHead {
    /// An empty head.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the response and keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.status = 0;
        self.is_http10 = false;
        self.first = 0;
        self.count = 0;
        self.marks.clear();
        self.lengths = 0;
        self.length = (0, 0);
        self.codings = 0;
        self.connections = 0;
    }

    /// Reads the head at the start of `input`, if all of it is there: returns how many bytes it
    /// has, its closing empty line included. `None`: more must come; then `input` has to begin with
    /// the same bytes. `scanned` keeps what was read before; it starts as 0 for each head.
    ///
    /// The verdict never depends on how the bytes were split: it belongs to the first byte that
    /// breaks a rule or a limit. Allocates only where a head is longer, or has more fields, than any
    /// before.
    ///
    /// # Errors
    /// [`ResponseOffence`]; the head is empty then.
    pub fn parse(
        &mut self,
        input: &[u8],
        scanned: &mut usize,
        limits: &Limits,
    ) -> Result<Option<usize>, ResponseOffence> {
        if *scanned == 0 {
            self.clear();
        }
        let read = self.read(input, scanned, limits);
        if read.is_err() {
            self.clear();
        }
        read
    }

    fn read(
        &mut self,
        input: &[u8],
        scanned: &mut usize,
        limits: &Limits,
    ) -> Result<Option<usize>, ResponseOffence> {
        // A line within what any line and the head may have breaks no limit.
        let bound = limits.header_line.min(limits.head).min(u32::MAX as usize);
        let near = input.get(..bound).unwrap_or(input);
        // Nearly all are this one.
        if *scanned == 0 && near.starts_with(OK) && limits.request_line >= OK.len() {
            self.status = 200;
            self.first = narrow(OK.len());
            *scanned = OK.len();
        }
        loop {
            if *scanned > 0 && self.plain_lines(near, scanned, limits) {
                self.bytes.extend_from_slice(near.get(..*scanned).unwrap_or_default());
                return Ok(Some(*scanned));
            }
            let start = *scanned;
            let (line, too_long) = if start == 0 {
                (limits.request_line, ResponseOffence::StatusLineTooLong)
            } else {
                (limits.header_line, Offence::HeaderLineTooLong.into())
            };
            // Lines are judged as if nothing followed the first byte that a limit forbids; spans
            // are 32 bits wide.
            let line = start.saturating_add(line);
            let head = limits.head.min(u32::MAX as usize);
            let (horizon, too_long) =
                if head <= line { (head, Offence::HeadTooLarge.into()) } else { (line, too_long) };
            let view = input.get(..horizon).unwrap_or(input);
            let next = match (start, view.get(start)) {
                (0, _) => self.status_line(view),
                (_, None) => Err(Offence::NotOneHead.into()),
                (_, Some(b'\r')) => match line_break(view, start) {
                    Ok(end) => {
                        self.bytes.extend_from_slice(view.get(..end).unwrap_or_default());
                        *scanned = end;
                        return Ok(Some(end));
                    }
                    Err(offence) => Err(offence.into()),
                },
                (_, Some(b'\n')) => Err(Offence::BareLf.into()),
                (_, Some(_)) if self.count >= limits.headers => Err(Offence::TooManyHeaders.into()),
                (_, Some(_)) => self.field(view, start).map_err(ResponseOffence::Message),
            };
            match next {
                Ok(next) => *scanned = next,
                Err(ResponseOffence::Message(Offence::NotOneHead)) if input.len() > horizon => {
                    return Err(too_long);
                }
                Err(ResponseOffence::Message(Offence::NotOneHead)) => return Ok(None),
                Err(offence) => return Err(offence),
            }
        }
    }

    /// Reads lines that are written as nearly all are, as long as they come; whether the last was
    /// the empty one.
    fn plain_lines(&mut self, near: &[u8], scanned: &mut usize, limits: &Limits) -> bool {
        let Some(mut rest) = near.get(*scanned..) else { return false };
        let mut count = self.count;
        let is_whole = loop {
            if rest.starts_with(b"\r\n") {
                break true;
            }
            if count < limits.headers
                && let Some((name_len, kind)) = guessed(rest).or_else(|| plain_kind(rest))
                && let Some(value_len) = plain_value(rest, name_len)
            {
                let line = PlainLine { name_len, value_len };
                if kind != Kind::EndToEnd {
                    let start = near.len() - rest.len();
                    self.mark(kind, start, line.general(start));
                }
                rest = rest.get(line.len()..).unwrap_or_default();
                count += 1;
            } else {
                break false;
            }
        };
        self.count = count;
        *scanned = near.len() - rest.len() + if is_whole { 2 } else { 0 };
        is_whole
    }

    /// RFC 9112 section 4: status-line = HTTP-version SP status-code SP [ reason-phrase ].
    ///
    /// Empty lines before it are refused: on a connection that is used again they are the rest of
    /// another response.
    #[inline(never)]
    fn status_line(&mut self, view: &[u8]) -> Result<usize, ResponseOffence> {
        let fits = |(at, byte): (usize, &u8)| match at {
            0..5 => b"HTTP/".get(at) == Some(byte),
            // RFC 9110 section 2.5: a higher minor version is read as 1.1. Another major version
            // has another grammar.
            5 => *byte == b'1',
            6 => *byte == b'.',
            8 => *byte == b' ',
            // RFC 9110 section 15: the first digit is the class of the response.
            9 => matches!(byte, b'1'..=b'9'),
            _ => byte.is_ascii_digit(),
        };
        // One of 1.1 takes two looks.
        let (version, code) = (view.first_chunk(), view.get(8..CODE_END));
        let is_plain = version == Some(b"HTTP/1.1")
            && matches!(code, Some([b' ', b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']));
        if !is_plain && !view.iter().take(CODE_END).enumerate().all(fits) {
            return Err(ResponseOffence::BadStatusLine);
        }
        let Some(code) = view.get(CODE_END - 3..CODE_END) else {
            return Err(Offence::NotOneHead.into());
        };
        let end = match view.get(CODE_END) {
            Some(b' ') => value_end(view, CODE_END + 1),
            // RFC 9112 section 4 demands the space also where no reason phrase follows; common
            // servers leave it out, and nothing depends on it.
            Some(b'\r') | None => CODE_END,
            _ => return Err(ResponseOffence::BadStatusLine),
        };
        let next = line_break(view, end).map_err(|offence| match offence {
            Offence::BadHeaderValue => ResponseOffence::BadStatusLine,
            other => other.into(),
        })?;
        self.status = code.iter().fold(0, |code, digit| code * 10 + u16::from(digit - b'0'));
        self.is_http10 = view.get(7) == Some(&b'0');
        self.first = narrow(next);
        Ok(next)
    }

    #[inline(never)]
    fn field(&mut self, view: &[u8], start: usize) -> Result<usize, Offence> {
        let line = field_line(view, start)?;
        let kind = Kind::of(view.get(start..line.name_end).unwrap_or_default());
        if kind != Kind::EndToEnd || !is_ours(view, line) {
            self.mark(kind, start, line);
        }
        self.count += 1;
        Ok(line.next)
    }

    fn mark(&mut self, kind: Kind, start: usize, line: FieldLine) {
        let value = (narrow(line.value_start), narrow(line.value_end));
        match kind {
            Kind::ContentLength => {
                self.lengths += 1;
                self.length = value;
            }
            Kind::TransferEncoding => self.codings += 1,
            Kind::Connection => self.connections += 1,
            _ => {}
        }
        let (start, name_end, next) = (narrow(start), narrow(line.name_end), narrow(line.next));
        self.marks.push(Mark { start, name_end, value, next, kind });
    }

    /// The status code, 100 to 999. RFC 9110 section 15: what is above 599 is to be taken for 500.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Whether another response to the same request follows (1xx), except that after 101 the
    /// connection is no longer HTTP's. RFC 9110 section 15.2.
    #[must_use]
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// Whether the upstream speaks HTTP/1.1 (or a later 1.x).
    #[must_use]
    pub fn is_http11(&self) -> bool {
        !self.is_http10
    }

    /// Name and value of each field, in order. Values are trimmed, free of control bytes but HTAB,
    /// and may hold bytes above 0x7f.
    pub fn fields(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.lines().map(|line| (line.name, line.value))
    }

    /// The value of the first field of that name (in any case). Looks at every field.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields();
        let found = fields.find(|(found, _)| found.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(found.1)
    }

    /// The head as received, for logs and tests.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether the upstream keeps the connection open, and what follows on it can be told from
    /// this response. RFC 9112 section 9.3.
    ///
    /// False also for 204 with a length or a coding: there is no content, but who announces some
    /// may send it, and the next response on the connection would begin with it.
    #[must_use]
    pub fn keep_alive(&self) -> bool {
        let announces = || self.codings > 0 || !matches!(self.lengths(), (0, _) | (1, b"0"));
        if self.status == 101 || (self.status == 204 && announces()) {
            return false;
        }
        if self.connections == 0 {
            return !self.is_http10;
        }
        let (mut close, mut keep) = (false, !self.is_http10);
        for option in self.connection_options() {
            close |= option.eq_ignore_ascii_case(b"close");
            keep |= option.eq_ignore_ascii_case(b"keep-alive");
        }
        keep && !close
    }

    /// The protocol of a 101, if it is the one that was `asked` for and the message says so in both
    /// places. RFC 9110 section 7.8.
    ///
    /// # Errors
    /// [`ResponseOffence::UnaskedUpgrade`].
    pub fn switched_to(&self, asked: Option<&[u8]>) -> Result<&[u8], ResponseOffence> {
        let mut upgrades = self.values(Kind::Upgrade);
        let says_so = self.connection_options().any(|o| o.eq_ignore_ascii_case(b"upgrade"));
        match (asked, upgrades.next(), upgrades.next()) {
            (Some(asked), Some(to), None)
                if self.status == 101
                    && !self.is_http10
                    && says_so
                    && is_token_or_version(to)
                    && to.eq_ignore_ascii_case(asked) =>
            {
                Ok(to)
            }
            _ => Err(ResponseOffence::UnaskedUpgrade),
        }
    }

    /// How many lengths it announces, and the last of them.
    pub(super) fn lengths(&self) -> (u32, &[u8]) {
        (self.lengths, self.slice(self.length))
    }

    pub(super) fn has_coding(&self) -> bool {
        self.codings > 0
    }

    pub(super) fn has_connection(&self) -> bool {
        self.connections > 0
    }

    pub(super) fn values(&self, kind: Kind) -> impl Iterator<Item = &[u8]> {
        let marks = self.marks.iter().filter(move |mark| mark.kind == kind);
        marks.map(|mark| self.slice(mark.value))
    }

    /// What Connection lists, in any of its lines; a quote is a byte like any other.
    pub(super) fn connection_options(&self) -> impl Iterator<Item = &[u8]> {
        let pieces = self.values(Kind::Connection).flat_map(|value| value.split(|&b| b == b','));
        pieces.map(field::trim).filter(|option| !option.is_empty())
    }

    /// Gives all fields: lines that go on as they came, in one piece, and the field behind them, if
    /// it is of any concern to who is not this connection's engine.
    #[inline]
    pub(super) fn each_stretch(&self, mut take: impl FnMut(&[u8], Option<Line<'_>>)) {
        let mut start = self.first;
        for mark in &self.marks {
            let is_of_concern = !mark.kind.is_left_out();
            if start != mark.start || is_of_concern {
                let line = is_of_concern.then(|| self.line(mark));
                take(self.slice((start, mark.start)), line);
            }
            start = mark.next;
        }
        let end = self.end();
        if start != end {
            take(self.slice((start, end)), None);
        }
    }

    fn line(&self, mark: &Mark) -> Line<'_> {
        Line {
            kind: mark.kind,
            name: self.slice((mark.start, mark.name_end)),
            value: self.slice(mark.value),
            whole: self.slice((mark.start, mark.next)),
        }
    }

    /// One field after another. They are read once more: few ask for them.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let mut start = self.first as usize;
        let fields = self.bytes.get(..self.end() as usize).unwrap_or_default();
        std::iter::from_fn(move || {
            let line = field_line(fields, start).ok()?;
            let name = fields.get(start..line.name_end)?;
            let value = fields.get(line.value_start..line.value_end)?;
            let whole = fields.get(start..line.next)?;
            start = line.next;
            Some(Line { kind: Kind::of(name), name, value, whole })
        })
    }

    /// Where the empty line begins.
    fn end(&self) -> u32 {
        narrow(self.bytes.len().saturating_sub(2))
    }

    fn slice(&self, (start, end): (u32, u32)) -> &[u8] {
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// How long the name of a line is, if nothing but letters and hyphens are in it and a colon and a
/// space are behind it, and its kind.
#[inline(always)]
fn plain_kind(line: &[u8]) -> Option<(usize, Kind)> {
    let (name, behind) = line.split_at_checked(plain_name(line)?)?;
    let is_plain = !name.is_empty() && behind.starts_with(b": ");
    is_plain.then(|| (name.len(), Kind::of(name)))
}

/// Whether the line is written as we would write it.
fn is_ours(bytes: &[u8], line: FieldLine) -> bool {
    line.value_start == line.name_end + 2
        && line.next == line.value_end + 2
        && bytes.get(line.name_end + 1) == Some(&b' ')
}

/// RFC 9110 section 7.8: protocol = protocol-name [ "/" protocol-version ], both tokens.
pub(super) fn is_token_or_version(protocol: &[u8]) -> bool {
    let mut parts = protocol.split(|&byte| byte == b'/');
    let (name, version) = (parts.next().unwrap_or_default(), parts.next());
    is_token(name) && version.is_none_or(is_token) && parts.next().is_none()
}

/// Offsets within a head, which `read` bounds to 32 bits.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests;
