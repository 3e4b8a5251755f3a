//! Where a response ends. RFC 9112 section 6.3.
//!
//! As strict as for requests: an upstream that can be made to say two lengths is how answers are
//! given to the wrong client. nginx refuses the same since 1.23.

use super::field_kind::Kind;
use super::{ResponseHead, ResponseOffence};
use crate::framing::{content_length, transfer_codings};
use crate::{Method, Offence};

/// How a response's body is delimited. RFC 9112 section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ResponseFraming {
    /// There is none (HEAD, 1xx, 204, 304, or Content-Length: 0).
    None,
    /// So many bytes.
    Sized(u64),
    /// By chunks ([`crate::ChunkedDecoder`]).
    Chunked,
    /// What comes until the connection ends.
    Close,
    /// 101: the connection is no longer HTTP's.
    Upgraded,
}

impl ResponseFraming {
    /// Of the answer `head` to a request with `method`.
    ///
    /// # Errors
    /// Framing that two readers could take differently, also where there is no body.
    pub fn of(head: &ResponseHead, method: Method) -> Result<Self, ResponseOffence> {
        let announced = match (head.has_coding(), head.lengths()) {
            (false, (0, _)) => Self::Close,
            // RFC 9112 section 6.3 item 5 lets "5, 5" pass as 5. Whoever sends it has joined two
            // messages.
            (false, (2.., _)) => return Err(Offence::TwoLengths.into()),
            (false, (1, length)) => match content_length(length)? {
                0 => Self::None,
                length => Self::Sized(length),
            },
            // RFC 9112 section 6.3 item 3: it ought to be handled as an error.
            (true, (1.., _)) => return Err(Offence::LengthAndCoding.into()),
            // RFC 9112 section 6.1: its framing is faulty.
            (true, _) if !head.is_http11() => return Err(ResponseOffence::CodingInHttp10),
            // RFC 9112 section 6.3 item 4 would read on until the connection ends where chunked is
            // not the last coding. We ask for no coding (TE), so none may be applied.
            (true, _) => {
                transfer_codings(head.values(Kind::TransferEncoding))?;
                Self::Chunked
            }
        };
        Ok(match (method, head.status()) {
            // RFC 9112 section 6.3 item 1: these end with their heads, whatever the fields say.
            (_, 101) => Self::Upgraded,
            (Method::Head, _) | (_, 100..200 | 204 | 304) => Self::None,
            _ => announced,
        })
    }

    /// The length that the head announced, for an answer to HEAD: what the client is told.
    #[must_use]
    pub fn announced(head: &ResponseHead) -> Option<u64> {
        match head.lengths() {
            (1, length) => content_length(length).ok(),
            _ => None,
        }
    }

    /// Whether the connection can serve another request after this response.
    #[must_use]
    pub fn delimits(self) -> bool {
        !matches!(self, Self::Close | Self::Upgraded)
    }
}

#[cfg(test)]
mod tests;
