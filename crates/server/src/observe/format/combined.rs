//! The line that every tool reads: Apache's and nginx's combined format.
//!
//! ```text
//! address - - [time] "request line" status bytes "referer" "user agent"
//! ```

use sluicegate_http::{Answered, Known};

use super::{Clock, address, escape, push_number, request_line};

/// The status of a request that ended before it had an answer, as nginx has it:
/// readers of the format want a number.
const UNANSWERED: u16 = 499;

/// Appends a line, without its end. Bytes are those of content that the kernel
/// accepted; times are UTC.
pub(super) fn render(out: &mut Vec<u8>, clock: &mut Clock, answered: &Answered<'_>) {
    match answered.endpoints.peer {
        Some(peer) => address::push_ip(out, peer.ip()),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b" - - ");
    clock.push_common(out, answered.time);
    out.extend_from_slice(b" \"");
    match answered.head {
        Some(head) => escape::push_line(out, request_line(head)),
        None => out.push(b'-'),
    }
    out.extend_from_slice(b"\" ");
    push_number(out, answered.status.unwrap_or(UNANSWERED).into());
    out.push(b' ');
    push_number(out, answered.content_bytes);
    for known in [Known::Referer, Known::UserAgent] {
        out.extend_from_slice(b" \"");
        match answered.head.and_then(|head| head.known(known)) {
            Some(value) if !value.is_empty() => escape::push_line(out, value),
            _ => out.push(b'-'),
        }
        out.push(b'"');
    }
}
