//! The fields of a response, as the client gets them.

use super::super::ResponseHead;
use super::super::field_kind::Kind;
use super::super::response_head::Line;
use super::{push_line, via};
use crate::response::Fields;

/// What of a response's head goes on, and what it says to us alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// What goes on to the client. The engine adds Server, Date and the framing.
    pub fields: Fields,
    /// What is for us alone.
    pub accel: Accel,
}

/// Orders of an upstream to who is in front of it, in nginx's words. Never shown to clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accel {
    /// X-Accel-Redirect: the path (and query) whose answer takes the place of this one.
    pub redirect: Option<Vec<u8>>,
    /// X-Accel-Buffering: false where nothing is to be kept back or spooled.
    pub buffering: Option<bool>,
}

/// Takes from a response what is for the client. Lines go on as they came and in their order, so
/// that every Set-Cookie stays a line of its own.
///
/// Dropped are the fields of the upstream's connection and those that Connection lists (RFC 9110
/// section 7.6.1), framing (ours is written from what we read), Server and Date, which the engine
/// writes.
#[must_use]
pub fn response_fields(head: &ResponseHead) -> Passed {
    let mut passed = Passed { fields: Fields::with_kept_room(), accel: Accel::default() };
    let nominates = head.has_connection() && head.connection_options().any(nominates);
    passed.fields.lines_mut().reserve(head.as_bytes().len() + 32);
    if nominates {
        // One of them may be named.
        for line in head.lines().filter(|line| !is_nominated(head, line)) {
            passed.take(head, &line);
        }
    } else {
        head.each_stretch(|stretch, line| {
            passed.fields.lines_mut().extend_from_slice(stretch);
            if let Some(line) = line {
                passed.take(head, &line);
            }
        });
    }
    via(passed.fields.lines_mut(), !head.is_http11());
    passed
}

impl Passed {
    /// Takes what there is in a field for the client, or for us.
    #[inline(never)]
    fn take(&mut self, head: &ResponseHead, line: &Line<'_>) {
        let lines = self.fields.lines_mut();
        match line.kind {
            Kind::EndToEnd => push_line(lines, line.as_ours(), line.name, line.value),
            // It says what the trailer section of a chunked body has.
            Kind::Trailer if head.has_coding() => {
                push_line(lines, line.as_ours(), line.name, line.value);
            }
            Kind::AccelRedirect if self.accel.redirect.is_none() => {
                self.accel.redirect = Some(line.value.to_vec());
            }
            Kind::AccelBuffering => {
                self.accel.buffering = match line.value {
                    value if value.eq_ignore_ascii_case(b"no") => Some(false),
                    value if value.eq_ignore_ascii_case(b"yes") => Some(true),
                    _ => self.accel.buffering,
                };
            }
            _ => {}
        }
    }
}

/// Whether an option of Connection names a field that is to be removed.
pub(super) fn nominates(option: &[u8]) -> bool {
    Kind::of(option) == Kind::EndToEnd
}

/// `close` and the like name no field that anybody sends.
fn is_nominated(head: &ResponseHead, line: &Line<'_>) -> bool {
    line.kind == Kind::EndToEnd
        && head.connection_options().any(|option| option.eq_ignore_ascii_case(line.name))
}
