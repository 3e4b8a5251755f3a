//! Where a request ends, and whether another may follow. RFC 9112 sections 6.3 and 9.3.
//!
//! This is the file that request smuggling is about: two hops that disagree here read each other's
//! bodies as requests. So whatever RFC 9112 lets a recipient repair is refused.

use crate::head::field::is_token;
use crate::{Known, ListMembers, Offence, RequestHead, Version};

/// How the length of a request's body is known. RFC 9112 section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestFraming {
    /// Neither Content-Length nor Transfer-Encoding: no body.
    None,
    /// Content-Length, in bytes; perhaps 0.
    Sized(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

impl RequestFraming {
    /// Reads the framing of a request.
    ///
    /// # Errors
    /// Whatever two readers could take differently: both fields at once, two lengths (equal too),
    /// a length that is not digits alone, `chunked` that is not the last and only coding.
    pub fn of(head: &RequestHead) -> Result<Self, Offence> {
        match (head.count(Known::TransferEncoding), head.known(Known::ContentLength)) {
            (0, None) => Ok(Self::None),
            // RFC 9112 section 6.3 item 5 lets "5, 5" pass as 5. Whoever sends it has joined two
            // messages or wants us to believe so.
            (0, Some(_)) if head.count(Known::ContentLength) > 1 => Err(Offence::TwoLengths),
            (0, Some(length)) => content_length(length).map(Self::Sized),
            // RFC 9112 section 6.3 item 3: such a message might be an attempt at request smuggling
            // and ought to be handled as an error.
            (_, Some(_)) => Err(Offence::LengthAndCoding),
            // RFC 9112 section 6.1: a server that receives an HTTP/1.0 message with
            // Transfer-Encoding MUST treat its framing as faulty and close.
            (_, None) if head.version() == Version::Http10 => Err(Offence::CodingInHttp10),
            (_, None) => {
                transfer_codings(head.values(Known::TransferEncoding)).map(|()| Self::Chunked)
            }
        }
    }

    /// Whether bytes of a body follow the head.
    #[must_use]
    pub fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Sized(0))
    }

    /// Refuses an announced length above `limit` bytes before any of it is read.
    ///
    /// # Errors
    /// `BodyTooLarge`. A chunked body is measured while it is decoded.
    pub fn check(self, limit: u64) -> Result<(), Offence> {
        match self {
            Self::Sized(length) if length > limit => Err(Offence::BodyTooLarge),
            _ => Ok(()),
        }
    }
}

/// RFC 9110 section 8.6: Content-Length = 1*DIGIT.
pub(crate) fn content_length(value: &[u8]) -> Result<u64, Offence> {
    // Nearly all are, and so many digits fit.
    if (1..=18).contains(&value.len()) && value.iter().all(u8::is_ascii_digit) {
        return Ok(value.iter().fold(0, |length, byte| length * 10 + u64::from(byte - b'0')));
    }
    odd_length(value)
}

#[cold]
#[inline(never)]
fn odd_length(value: &[u8]) -> Result<u64, Offence> {
    if value.contains(&b',') {
        return Err(Offence::TwoLengths);
    }
    if value.is_empty() {
        return Err(Offence::BadLength);
    }
    value
        .iter()
        .try_fold(0u64, |length, &byte| {
            let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
            // RFC 9110 section 8.6: a recipient MUST anticipate large numerals and prevent
            // overflows.
            length.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(Offence::BadLength)
}

/// Whether the values of Transfer-Encoding are `chunked` and nothing else.
pub(crate) fn transfer_codings<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<(), Offence> {
    let (mut codings, mut chunked, mut last_is_chunked) = (0u32, 0u32, false);
    for member in values.flat_map(ListMembers::new) {
        let (name, parameters) = match memchr::memchr(b';', member) {
            Some(at) => (member.get(..at).unwrap_or_default(), true),
            None => (member, false),
        };
        last_is_chunked = name.trim_ascii_end().eq_ignore_ascii_case(b"chunked");
        // RFC 9112 section 7.1: parameters of chunked SHOULD be treated as an error. An empty
        // member is legal (RFC 9110 section 5.6.1.2) and has no honest sender.
        if (parameters && last_is_chunked) || !is_token(name.trim_ascii_end()) {
            return Err(Offence::BadCoding);
        }
        codings = codings.saturating_add(1);
        chunked = chunked.saturating_add(u32::from(last_is_chunked));
    }
    match (last_is_chunked, chunked, codings) {
        (true, 1, 1) => Ok(()),
        // RFC 9112 section 6.1: a server that does not understand a transfer coding SHOULD answer
        // 501.
        (true, 1, _) => Err(Offence::UnknownCoding),
        // RFC 9112 section 6.3 item 4: without a final chunked the length cannot be determined, and
        // the server MUST answer 400. Section 6.1: chunked MUST NOT be applied more than once.
        _ => Err(Offence::ChunkedNotLast),
    }
}

/// Whether the client wants the connection to go on after this request. RFC 9112 section 9.3.
///
/// `close` wins over `keep-alive`, in any order and on any line.
#[must_use]
pub fn keep_alive(head: &RequestHead) -> bool {
    if head.count(Known::Connection) == 0 {
        return head.version() == Version::Http11;
    }
    let (mut close, mut keep) = (false, head.version() == Version::Http11);
    for option in head.tokens(Known::Connection) {
        close |= option.eq_ignore_ascii_case(b"close");
        keep |= option.eq_ignore_ascii_case(b"keep-alive");
    }
    keep && !close
}

/// Whether the client waits for `100 Continue` before it sends the body. RFC 9110 section 10.1.1.
///
/// The driver answers only where [`RequestFraming::has_body`] holds and no byte of the body has
/// come.
///
/// # Errors
/// `UnsupportedExpectation` for any other expectation.
pub fn expects_continue(head: &RequestHead) -> Result<bool, Offence> {
    // RFC 9110 section 10.1.1: a 100-continue expectation in an HTTP/1.0 request MUST be ignored.
    if head.count(Known::Expect) == 0 || head.version() == Version::Http10 {
        return Ok(false);
    }
    let mut expects = false;
    for expectation in head.members(Known::Expect) {
        // RFC 9110 section 10.1.1: a server MAY answer an expectation it cannot meet with 417.
        if !expectation.eq_ignore_ascii_case(b"100-continue") {
            return Err(Offence::UnsupportedExpectation);
        }
        expects = true;
    }
    Ok(expects)
}

#[cfg(test)]
mod tests;
