//! What of a message goes on from one party to the other. RFC 9110 section 7.6.
//!
//! Requests and responses are written anew: request line, Host and framing are ours, from what we
//! have read, and never bytes that the other party could read in another way. What goes on as it
//! came are fields that passed the grammar and are nobody's own.

mod forwarded;
mod request;
mod response;
mod rules;
mod target;
mod trailers;

pub use request::{Onward, request_head, upgrade_asked};
pub use response::{Accel, Passed, response_fields};
pub use rules::{Forwarded, HostOf, RequestRules};
pub use target::Refusal;
pub use trailers::{Nominated, trailers, trailers_of};

use crate::RequestFraming;

/// Writes the field that delimits a request's body.
pub(super) fn framing(out: &mut Vec<u8>, framing: RequestFraming) {
    match framing {
        RequestFraming::None => {}
        RequestFraming::Sized(length) => {
            out.extend_from_slice(b"Content-Length: ");
            crate::encode::push_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        RequestFraming::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// Writes Via for a message that came by HTTP/1.0, or by 1.1. What we call ourselves is a pseudonym
/// (RFC 9110 section 7.6.3).
fn via(out: &mut Vec<u8>, is_http10: bool) {
    out.extend_from_slice(if is_http10 {
        b"Via: 1.0 sluicegate\r\n"
    } else {
        b"Via: 1.1 sluicegate\r\n"
    });
}

/// Appends a field: its `line` as it came, or else its parts as we write them.
fn push_line(out: &mut Vec<u8>, line: Option<&[u8]>, name: &[u8], value: &[u8]) {
    match line {
        Some(line) => out.extend_from_slice(line),
        None => {
            for part in [name, b": ", value, b"\r\n"] {
                out.extend_from_slice(part);
            }
        }
    }
}

#[cfg(test)]
mod tests;
