//! The chunked transfer coding, both ways. RFC 9112 section 7.1.

mod encode;
mod forbidden;

pub use encode::{CRLF, ChunkHead, LAST_CHUNK, chunk_head};
pub(crate) use forbidden::forbidden;

use crate::head::field::{FieldLine, field_line, is_token_byte};
use crate::{Limits, Offence};
use std::ops::Range;

/// What [`ChunkedDecoder::decode`] found, and how much of the input it is done with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Bytes from the start of the input that are dealt with; those of a `Data` event included.
    pub consumed: usize,
    /// What they were.
    pub event: Event,
}

/// One event of a chunked body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All input is consumed and the body goes on.
    NeedMore,
    /// Decoded bytes: a range of the input, never empty.
    Data(Range<usize>),
    /// The body is complete, trailer section included; what follows `consumed` is the next message.
    Done,
}

/// What the next byte must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// The first digit of a chunk size.
    #[default]
    Size,
    /// A digit, `;` or CR.
    SizeRest,
    ExtensionNameStart,
    /// A token byte, `=`, `;` or CR.
    ExtensionName,
    /// A token byte or a quote.
    ExtensionValueStart,
    /// A token byte, `;` or CR.
    ExtensionValue,
    Quoted,
    QuotedPair,
    /// `;` or CR.
    AfterQuoted,
    /// The LF of a chunk line.
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// Within a trailer line.
    Trailer,
    /// The LF of a trailer line.
    TrailerLf,
    Done,
}

/// Incremental decoder of one chunked body at a time.
///
/// It judges byte by byte and buffers nothing but the trailer section, so that neither its verdict
/// nor its output depends on how the input was split. Invariant: `decoded + remaining <=
/// Limits::body` while in a chunk.
#[derive(Clone, Debug, Default)]
pub struct ChunkedDecoder {
    state: State,
    /// Within a chunk line, the size so far; within data, what is still to come.
    remaining: u64,
    /// Digits of the size so far.
    digits: u8,
    /// Decoded bytes that have been passed on.
    decoded: u64,
    /// Bytes of the current chunk line or trailer line.
    line: usize,
    /// See [`Limits::chunk_overhead`].
    overhead: u64,
    /// The trailer section as received.
    trailer: Vec<u8>,
    /// Where the lines of `trailer` begin, and what is in them.
    fields: Vec<(usize, FieldLine)>,
    /// See [`ChunkedDecoder::of_responses`].
    drops_forbidden: bool,
}

impl ChunkedDecoder {
    /// A decoder at the start of a body.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A decoder of what upstreams send: trailers that a client may not send are left out, and are
    /// no reason to cut a response whose content has gone out.
    #[must_use]
    pub fn of_responses() -> Self {
        Self { drops_forbidden: true, ..Self::default() }
    }

    /// Forgets the body and keeps the allocations.
    pub fn reset(&mut self) {
        let Self { trailer, fields, drops_forbidden, .. } = std::mem::take(self);
        *self = Self { trailer, fields, drops_forbidden, ..Self::default() };
        self.trailer.clear();
        self.fields.clear();
    }

    /// Decodes the start of `input`. Call it again with what follows `consumed`, at once or with
    /// more.
    ///
    /// Consecutive `Data` events need not be chunks: a chunk that comes in two reads is two events.
    /// After `Done` it consumes nothing until [`reset`](Self::reset).
    ///
    /// # Errors
    /// The offence of the first byte that breaks a rule or a limit.
    pub fn decode(&mut self, input: &[u8], limits: &Limits) -> Result<Step, Offence> {
        let mut at = 0;
        while self.state != State::Done {
            let Some(&byte) = input.get(at) else {
                return Ok(Step { consumed: at, event: Event::NeedMore });
            };
            if self.state == State::Data {
                let here =
                    usize::try_from(self.remaining).unwrap_or(usize::MAX).min(input.len() - at);
                self.pass(here as u64);
                return Ok(Step { consumed: at + here, event: Event::Data(at..at + here) });
            }
            self.advance(byte, limits)?;
            at += 1;
        }
        Ok(Step { consumed: at, event: Event::Done })
    }

    /// Bytes of the body that have been passed on as data.
    #[must_use]
    pub fn decoded(&self) -> u64 {
        self.decoded
    }

    /// Whether the body is complete.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Bytes of the current chunk's data that lie ahead: 0 outside of a chunk.
    ///
    /// So many may be taken past the decoder, by [`skip`](Self::skip): it has judged their chunk's
    /// line, and data is not judged.
    #[must_use]
    pub fn data_left(&self) -> u64 {
        if self.state == State::Data { self.remaining } else { 0 }
    }

    /// Counts data of the current chunk that went another way, without having been given to
    /// [`decode`](Self::decode): spliced, for instance. Returns how many bytes of it were data: no
    /// more than [`data_left`](Self::data_left).
    pub fn skip(&mut self, bytes: u64) -> u64 {
        let bytes = bytes.min(self.data_left());
        self.pass(bytes);
        bytes
    }

    fn pass(&mut self, data: u64) {
        if self.state != State::Data {
            return;
        }
        self.remaining = self.remaining.saturating_sub(data);
        self.decoded = self.decoded.saturating_add(data);
        if self.remaining == 0 {
            self.state = State::DataCr;
        }
    }

    /// The trailer fields, once [`Event::Done`] was seen.
    ///
    /// RFC 9110 section 6.5.1: they MUST NOT be merged into the header section unless the field's
    /// definition allows it; so they have a place of their own.
    pub fn trailers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|(start, field)| {
            let name =
                self.trailer.get(*start..field.name_end).and_then(|name| str::from_utf8(name).ok());
            (
                name.unwrap_or_default(),
                self.trailer.get(field.value_start..field.value_end).unwrap_or_default(),
            )
        })
    }

    /// Judges one byte that is not data.
    fn advance(&mut self, byte: u8, limits: &Limits) -> Result<(), Offence> {
        match self.state {
            State::Trailer | State::TrailerLf => return self.trailer_byte(byte, limits),
            // RFC 9112 section 7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF.
            State::DataCr if byte == b'\r' => self.state = State::DataLf,
            State::DataLf if byte == b'\n' => self.state = State::Size,
            State::DataCr | State::DataLf => return Err(Offence::MissingChunkCrlf),
            _ => {
                if self.line >= limits.chunk_line {
                    return Err(Offence::ChunkLineTooLong);
                }
                self.line += 1;
                self.state = self.chunk_line_byte(byte)?;
                // The LF of the line leaves to Data; `end_of_line` decides whether it was the last.
                if self.state == State::Data {
                    self.end_of_chunk_line(limits)?;
                }
            }
        }
        Ok(())
    }

    /// RFC 9112 section 7.1.1: chunk-ext = *( BWS ";" BWS name [ BWS "=" BWS value ] ).
    ///
    /// A well-formed extension is ignored, as the section demands. BWS is refused: no sender may
    /// generate it, and readers that skip it differently have been smuggled through.
    fn chunk_line_byte(&mut self, byte: u8) -> Result<State, Offence> {
        Ok(match (self.state, byte) {
            (State::Size | State::SizeRest, _) if byte.is_ascii_hexdigit() => {
                // RFC 9112 section 7.1: recipients MUST anticipate large hexadecimal numerals and
                // prevent overflows: sixteen digits are 64 bits, leading zeros included.
                if self.digits == 16 {
                    return Err(Offence::BadChunkSize);
                }
                let digit = char::from(byte).to_digit(16).unwrap_or_default();
                self.digits += 1;
                self.remaining = self.remaining << 4 | u64::from(digit);
                State::SizeRest
            }
            (
                State::SizeRest | State::ExtensionName | State::ExtensionValue | State::AfterQuoted,
                b';',
            ) => State::ExtensionNameStart,
            (
                State::SizeRest | State::ExtensionName | State::ExtensionValue | State::AfterQuoted,
                b'\r',
            ) => State::SizeLf,
            (State::Size | State::SizeRest, b'\n') => return Err(Offence::BareLf),
            (State::Size | State::SizeRest, _) => return Err(Offence::BadChunkSize),
            (State::ExtensionNameStart | State::ExtensionName, _) if is_token_byte(byte) => {
                State::ExtensionName
            }
            (State::ExtensionName, b'=') => State::ExtensionValueStart,
            (State::ExtensionValueStart, b'"') => State::Quoted,
            (State::ExtensionValueStart | State::ExtensionValue, _) if is_token_byte(byte) => {
                State::ExtensionValue
            }
            // RFC 9110 section 5.6.4: qdtext and quoted-pair have no control byte but HTAB.
            (State::Quoted, b'"') => State::AfterQuoted,
            (State::Quoted, b'\\') => State::QuotedPair,
            (State::Quoted | State::QuotedPair, b'\t' | b' '..=b'~' | 0x80..) => State::Quoted,
            (State::SizeLf, b'\n') => State::Data,
            (State::SizeLf, _) => return Err(Offence::BareCr),
            (_, b'\n') => return Err(Offence::BareLf),
            _ => return Err(Offence::BadChunkExtension),
        })
    }

    fn end_of_chunk_line(&mut self, limits: &Limits) -> Result<(), Offence> {
        let size = self.remaining;
        if size > limits.body.saturating_sub(self.decoded) {
            return Err(Offence::BodyTooLarge);
        }
        // RFC 9112 section 7.1.1: a server ought to limit the total length of chunk extensions.
        let explained = size.saturating_mul(2).saturating_add(16);
        self.overhead = self.overhead.saturating_add(self.line as u64).saturating_sub(explained);
        if self.overhead > limits.chunk_overhead as u64 {
            return Err(Offence::ChunkOverhead);
        }
        self.line = 0;
        self.digits = 0;
        // RFC 9112 section 7.1: a chunk of size zero is the last; the trailer section follows.
        self.state = if size == 0 { State::Trailer } else { State::Data };
        Ok(())
    }

    /// RFC 9112 section 7.1.2: trailer-section = *( field-line CRLF ), under the rules of the
    /// header's.
    fn trailer_byte(&mut self, byte: u8, limits: &Limits) -> Result<(), Offence> {
        let begins_field = self.line == 0 && byte != b'\r';
        if self.trailer.len() >= limits.trailer
            || self.line >= limits.header_line
            || (begins_field && self.fields.len() >= limits.trailers)
        {
            return Err(Offence::TrailerTooLarge);
        }
        self.state = match (self.state, byte) {
            (State::TrailerLf, b'\n') => State::Trailer,
            (State::TrailerLf, _) => return Err(Offence::BareCr),
            (_, b'\r') => State::TrailerLf,
            (_, b'\n') => return Err(Offence::BareLf),
            (_, 0) => return Err(Offence::Nul),
            _ => State::Trailer,
        };
        self.trailer.push(byte);
        self.line += 1;
        if byte != b'\n' {
            return Ok(());
        }
        let start = self.trailer.len() - self.line;
        if self.line == CRLF.len() {
            self.state = State::Done;
            return Ok(());
        }
        self.line = 0;
        let field = field_line(&self.trailer, start)?;
        if !forbidden(self.trailer.get(start..field.name_end).unwrap_or_default()) {
            self.fields.push((start, field));
        } else if !self.drops_forbidden {
            return Err(Offence::ForbiddenTrailer);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
