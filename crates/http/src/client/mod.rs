//! The other side of HTTP/1.1: requests that we write, responses that we read, and what of a
//! message goes on from one party to the other. No socket, no clock, no panic on any input.

mod field_kind;
pub mod forward;
mod framing;
mod offence;
mod response_head;

use crate::Limits;
use crate::framing::RequestFraming;

pub use framing::ResponseFraming;
pub use offence::ResponseOffence;
pub use response_head::{INTERIM, ResponseHead};

/// What an upstream may cost us: as a client may, except that its bodies have no bound.
#[must_use]
pub fn limits() -> Limits {
    Limits { body: u64::MAX, ..Limits::default() }
}

/// Writes a request of our own (a health check): the line, `fields` as they are (checked lines with
/// CRLF, Host among them), and the framing of a body. The
/// caller answers for `method` (a token) and `target` (no white space, no control byte).
pub fn request_head(
    out: &mut Vec<u8>,
    method: &[u8],
    target: &[u8],
    fields: &[u8],
    framing: RequestFraming,
) {
    for part in [method, b" ", target, b" HTTP/1.1\r\n", fields] {
        out.extend_from_slice(part);
    }
    forward::framing(out, framing);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RequestHead;

    #[test]
    fn a_request_of_our_own_is_one_that_we_would_take() {
        for (how, body) in [
            (RequestFraming::None, ""),
            (RequestFraming::Sized(7), "Content-Length: 7\r\n"),
            (RequestFraming::Chunked, "Transfer-Encoding: chunked\r\n"),
        ] {
            let mut out = Vec::new();
            request_head(&mut out, b"GET", b"/health?x", b"Host: a.test\r\n", how);
            let expected = format!("GET /health?x HTTP/1.1\r\nHost: a.test\r\n{body}\r\n");
            assert_eq!(out, expected.as_bytes());
            let mut head = RequestHead::new();
            head.parse(&out, &Limits::default()).unwrap();
            assert_eq!(RequestFraming::of(&head), Ok(how));
        }
    }
}
