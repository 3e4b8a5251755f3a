//! One JSON object a line: all that is known of a request.

use std::time::Duration;

use sluicegate_http::{Answered, Known};

use super::relayed;
use super::{Clock, PROTOCOL, address, escape, push_number, request_line};

/// Appends a line, without its end. What there is not has no key: `client` and
/// `server` on sockets of the Unix domain; `host`, `method`, `target` and
/// `protocol` where the head could not be read; `status` where there was no
/// answer; `announced`, `acked`, `referer`, `user_agent`, `failure`; what is said
/// of upstreams where none was asked.
pub(super) fn render(out: &mut Vec<u8>, clock: &mut Clock, answered: &Answered<'_>) {
    out.extend_from_slice(b"{\"time\":\"");
    clock.push_rfc_3339(out, answered.time);
    out.push(b'"');
    if let Some(peer) = answered.endpoints.peer {
        out.extend_from_slice(b",\"client\":\"");
        address::push_ip(out, peer.ip());
        number(out, b"\",\"client_port\":", peer.port().into());
    }
    if let Some(local) = answered.endpoints.local {
        out.extend_from_slice(b",\"server\":\"");
        address::push_socket(out, local);
        out.push(b'"');
    }
    if let Some(head) = answered.head {
        text(out, b",\"host\":\"", head.host().map(str::as_bytes));
        // A token: nothing in it is to be escaped.
        out.extend_from_slice(b",\"method\":\"");
        out.extend_from_slice(head.method_str().as_bytes());
        text(out, b"\",\"target\":\"", Some(head.target().as_bytes()));
        out.extend_from_slice(b",\"protocol\":\"");
        let line = request_line(head);
        out.extend_from_slice(&line[line.len().saturating_sub(PROTOCOL)..]);
        out.push(b'"');
    }
    if let Some(status) = answered.status {
        number(out, b",\"status\":", status.into());
    }
    number(out, b",\"head_bytes\":", answered.head_bytes);
    number(out, b",\"bytes\":", answered.content_bytes);
    if let Some(announced) = answered.announced {
        number(out, b",\"announced\":", announced);
    }
    if let Some(acked) = answered.acked {
        // Of the content, to be compared with the two above.
        number(out, b",\"acked\":", acked.saturating_sub(answered.head_bytes));
    }
    number(out, b",\"copied\":", answered.ways.copied);
    number(out, b",\"sendfile\":", answered.ways.sendfile);
    number(out, b",\"spliced\":", answered.ways.spliced);
    number(out, b",\"zerocopy\":", answered.ways.zerocopy);
    number(out, b",\"duration_us\":", micros(answered.accepted));
    number(out, b",\"handler_us\":", micros(answered.handled));
    if let Some(after) = answered.acked_after {
        number(out, b",\"acked_us\":", micros(after));
    }
    number(out, b",\"requests\":", answered.requests.into());
    if let Some(head) = answered.head {
        text(out, b",\"referer\":\"", head.known(Known::Referer));
        text(out, b",\"user_agent\":\"", head.known(Known::UserAgent));
    }
    if let Some(note) = answered.note {
        relayed::push(out, note);
    }
    if let Some(failure) = answered.failure {
        text(out, b",\"failure\":\"", Some(failure.name().as_bytes()));
    }
    out.push(b'}');
}

fn micros(duration: Duration) -> u64 {
    // Not as_micros, which divides 128 bits.
    duration.as_secs().saturating_mul(1_000_000) + u64::from(duration.subsec_micros())
}

/// Appends `key`, which ends where the number begins.
#[inline]
pub(super) fn number<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], number: u64) {
    out.extend_from_slice(key);
    push_number(out, number);
}

/// Appends `key`, which ends with the quotation mark, and the text, if there is one.
#[inline]
pub(super) fn text<const N: usize>(out: &mut Vec<u8>, key: &[u8; N], text: Option<&[u8]>) {
    if let Some(text) = text {
        out.extend_from_slice(key);
        escape::push_json(out, text);
        out.push(b'"');
    }
}
