//! What a peer can do wrong, one named variant each.

macro_rules! offences {
    ($($(#[$doc:meta])* $variant:ident = $status:literal $name:literal : $message:literal;)*) => {
        /// An offence of the peer against HTTP/1.1 or against our [`Limits`](crate::Limits).
        ///
        /// Each has a status to answer with and ends the connection: after an offence nobody can
        /// say where the next message begins.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        #[non_exhaustive]
        pub enum Offence {
            $($(#[$doc])* #[error($message)] $variant,)*
        }

        impl Offence {
            /// Every offence, for metrics that register their labels at start.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The status code of the answer.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$variant => $status,)* }
            }

            /// A stable snake_case name for logs and metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)* }
            }
        }
    };
}

offences! {
    /// A CR that no LF follows. RFC 9112 section 2.2.
    BareCr = 400 "bare_cr": "a CR without LF";
    /// An LF that no CR precedes. RFC 9112 section 2.2 lets us accept it; a proxy that does not is
    /// how requests are smuggled.
    BareLf = 400 "bare_lf": "an LF without CR";
    /// A NUL byte in a head or a trailer. RFC 9110 section 5.5.
    Nul = 400 "nul": "a NUL byte in the head";
    /// A line that begins with white space. RFC 9112 sections 2.2 and 5.2.
    ObsFold = 400 "obs_fold": "a header line begins with white space";
    /// White space between a field name and its colon. RFC 9112 section 5.1.
    SpaceBeforeColon = 400 "space_before_colon": "white space before the colon of a header";
    /// A field line that begins with its colon. RFC 9110 section 5.1.
    EmptyHeaderName = 400 "empty_header_name": "an empty header name";
    /// A field name that is no token, or a line without a colon. RFC 9110 section 5.1.
    BadHeaderName = 400 "bad_header_name": "a header name is not a token";
    /// A control byte in a field value. RFC 9110 section 5.5.
    BadHeaderValue = 400 "bad_header_value": "a control byte in a header value";
    /// A method that is no token. RFC 9110 section 9.1.
    BadMethod = 400 "bad_method": "the method is not a token";
    /// A request target that is in no form that its method may have. RFC 9112 section 3.2.
    BadTarget = 400 "bad_target": "the request target is malformed";
    /// Anything but `HTTP/d.d` at the end of the request line. RFC 9112 section 2.3.
    BadVersion = 400 "bad_version": "the HTTP version is malformed";
    /// A well-formed version with a major number other than 1. RFC 9110 section 15.6.6.
    UnsupportedVersion = 505 "unsupported_version": "the HTTP version is not supported";
    /// HTTP/1.1 without Host. RFC 9112 section 3.2.
    MissingHost = 400 "missing_host": "the Host header is missing";
    /// More than one Host. RFC 9112 section 3.2.
    DoubledHost = 400 "doubled_host": "more than one Host header";
    /// Host is not `uri-host [ ":" port ]`. RFC 9110 section 7.2.
    BadHost = 400 "bad_host": "the Host header is malformed";
    /// Content-Length and Transfer-Encoding together. RFC 9112 section 6.3.
    LengthAndCoding = 400 "length_and_coding": "both Content-Length and Transfer-Encoding";
    /// More than one length, equal ones too. RFC 9112 section 6.3.
    TwoLengths = 400 "two_lengths": "more than one Content-Length";
    /// A length that is not digits alone, or above `u64`. RFC 9110 section 8.6.
    BadLength = 400 "bad_length": "the Content-Length is malformed";
    /// A transfer coding before `chunked` that we do not know. RFC 9112 section 6.1.
    UnknownCoding = 501 "unknown_coding": "the transfer coding is not implemented";
    /// Transfer-Encoding is no list of codings, or gives `chunked` a parameter. RFC 9112 sections
    /// 6.1 and 7.1.
    BadCoding = 400 "bad_coding": "the Transfer-Encoding is malformed";
    /// `chunked` is not the last coding, or is applied twice. RFC 9112 sections 6.1 and 6.3.
    ChunkedNotLast = 400 "chunked_not_last": "chunked is not the last transfer coding";
    /// Transfer-Encoding in an HTTP/1.0 request. RFC 9112 section 6.1.
    CodingInHttp10 = 400 "coding_in_http10": "Transfer-Encoding in an HTTP/1.0 request";
    /// A chunk size that is not 1 to 16 hexadecimal digits. RFC 9112 section 7.1.
    BadChunkSize = 400 "bad_chunk_size": "the chunk size is malformed";
    /// A chunk extension that is malformed. RFC 9112 section 7.1.1.
    BadChunkExtension = 400 "bad_chunk_extension": "a chunk extension is malformed";
    /// A chunk line over `Limits::chunk_line`. RFC 9112 section 7.1.1.
    ChunkLineTooLong = 400 "chunk_line_too_long": "a chunk-size line is too long";
    /// Chunk lines in no proportion to their data. RFC 9112 section 7.1.1.
    ChunkOverhead = 400 "chunk_overhead": "chunk lines outweigh their data";
    /// Chunk data that is longer than its size announced. RFC 9112 section 7.1.
    MissingChunkCrlf = 400 "missing_chunk_crlf": "chunk data does not end with CRLF";
    /// A trailer section over its limits in bytes or fields. RFC 9110 section 15.5.1 leaves no
    /// better code.
    TrailerTooLarge = 400 "trailer_too_large": "the trailer section is too large";
    /// A field in the trailer that frames, routes or authenticates. RFC 9110 section 6.5.1.
    ForbiddenTrailer = 400 "forbidden_trailer": "a field that may not be a trailer";
    /// A request line over its limit. RFC 9110 section 15.5.15.
    RequestLineTooLong = 414 "request_line_too_long": "the request line is too long";
    /// One header line over its limit. RFC 6585 section 5.
    HeaderLineTooLong = 431 "header_line_too_long": "a header line is too long";
    /// A head over its limit. RFC 6585 section 5.
    HeadTooLarge = 431 "head_too_large": "the head is too large";
    /// More header fields than the limit. RFC 6585 section 5.
    TooManyHeaders = 431 "too_many_headers": "too many headers";
    /// A body over its limit, announced or decoded. RFC 9110 section 15.5.14.
    BodyTooLarge = 413 "body_too_large": "the body is too large";
    /// An expectation other than `100-continue`. RFC 9110 section 10.1.1.
    UnsupportedExpectation = 417 "unsupported_expectation": "the expectation is not supported";
    /// The peer closed within a message. RFC 9112 section 8.
    Truncated = 400 "truncated": "the connection ended within a message";
    /// The bytes given to the head's parser are not exactly one head (no or an early empty line).
    NotOneHead = 400 "not_one_head": "the bytes are not exactly one head";
    /// The head was not complete in time. RFC 9110 section 15.5.9.
    HeadTimeout = 408 "head_timeout": "the head did not arrive in time";
    /// The body paused for too long. RFC 9110 section 15.5.9.
    BodyTimeout = 408 "body_timeout": "the body did not arrive in time";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_snake_case_and_statuses_are_errors() {
        let mut names = HashSet::new();
        for &offence in Offence::ALL {
            assert!(names.insert(offence.name()), "{offence:?} shares its name");
            assert!(
                offence
                    .name()
                    .bytes()
                    .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
            );
            assert!(
                matches!(offence.status(), 400 | 408 | 413 | 414 | 417 | 431 | 501 | 505),
                "{offence:?}"
            );
        }
    }
}
