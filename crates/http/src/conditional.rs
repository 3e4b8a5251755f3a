//! Conditional requests. RFC 9110 section 13.

use crate::etag::{ReceivedTag, TagList};
use crate::{EntityTag, Known, Method, RequestHead};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The last second that an HTTP date can name: 31 December 9999. RFC 9110 section 5.6.7.
const LAST_SECOND: u64 = 253_402_300_799;

/// What tells one representation of a resource from another. RFC 9110 section 8.8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Validators {
    etag: Option<EntityTag>,
    /// Seconds since the epoch, at most `LAST_SECOND`: the resolution and the range of an HTTP
    /// date.
    modified: Option<u64>,
}

impl Validators {
    /// Validators of a representation. A modification time that no HTTP date can name (before 1970
    /// or after 9999) counts as none.
    ///
    /// RFC 9110 section 8.8.2.1: Last-Modified MUST NOT be later than Date. There is no clock here:
    /// a caller that knows the time passes the earlier of the two.
    #[must_use]
    pub fn new(etag: Option<EntityTag>, modified: Option<SystemTime>) -> Self {
        let seconds = modified
            .and_then(|time| time.duration_since(UNIX_EPOCH).ok())
            .map(|since| since.as_secs());
        Self { etag, modified: seconds.filter(|&seconds| seconds <= LAST_SECOND) }
    }

    /// The value of ETag.
    #[must_use]
    pub fn etag(&self) -> Option<&EntityTag> {
        self.etag.as_ref()
    }

    /// The value of Last-Modified, in whole seconds; `httpdate` can format each without a panic.
    #[must_use]
    pub fn last_modified(&self) -> Option<SystemTime> {
        UNIX_EPOCH.checked_add(Duration::from_secs(self.modified?))
    }
}

/// What the conditions of a request ask for. RFC 9110 section 13.2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Precondition {
    /// Perform the method.
    Proceed,
    /// Answer 304 with the validators and without a body.
    NotModified,
    /// Answer 412.
    Failed,
}

/// Evaluates the conditions of a request against the current representation, which exists, in the
/// order of RFC 9110 section 13.2.2. If-Range comes after: [`if_range_holds`].
///
/// RFC 9110 section 13.2.1: call it only where the answer without conditions would be a success.
#[must_use]
pub fn evaluate(head: &RequestHead, validators: &Validators) -> Precondition {
    let method = head.method();
    // RFC 9110 section 13.2.1: a server MUST ignore conditions on methods that neither select nor
    // modify a representation: CONNECT, OPTIONS, TRACE.
    if matches!(method, Method::Connect | Method::Options | Method::Trace) {
        return Precondition::Proceed;
    }
    let reads = matches!(method, Method::Get | Method::Head);

    // Step 1. RFC 9110 section 13.1.1: If-Match uses the strong comparison.
    if head.count(Known::IfMatch) > 0 {
        if !matches_any(head, Known::IfMatch, validators, |ours, tag| ours.strong_eq(tag)) {
            return Precondition::Failed;
        }
    // Step 2. RFC 9110 section 13.1.4: ignored with If-Match, with a bad date, and without a
    // modification time.
    } else if let (Some(date), Some(modified)) =
        (date(head, Known::IfUnmodifiedSince), validators.modified)
        && modified > date
    {
        return Precondition::Failed;
    }

    // Step 3. RFC 9110 section 13.1.2: If-None-Match uses the weak comparison.
    if head.count(Known::IfNoneMatch) > 0 {
        return match (
            matches_any(head, Known::IfNoneMatch, validators, |ours, tag| ours.weak_eq(tag)),
            reads,
        ) {
            (false, _) => Precondition::Proceed,
            (true, true) => Precondition::NotModified,
            (true, false) => Precondition::Failed,
        };
    }
    // Step 4. RFC 9110 section 13.1.3: ignored with If-None-Match, on other methods, with a bad
    // date, and without a modification time.
    match (date(head, Known::IfModifiedSince), validators.modified) {
        (Some(date), Some(modified)) if reads && modified <= date => Precondition::NotModified,
        _ => Precondition::Proceed,
    }
}

/// Whether Range may be obeyed: If-Range is absent or names the current representation.
/// RFC 9110 section 13.1.5.
///
/// `now` decides whether a date is a strong validator: one that is still within its own second is
/// not, because the file may change again and keep it (RFC 9110 section 8.8.2.2).
#[must_use]
pub fn if_range_holds(head: &RequestHead, validators: &Validators, now: SystemTime) -> bool {
    let value = match (head.count(Known::IfRange), head.known(Known::IfRange)) {
        (0, _) | (_, None) => return true,
        (1, Some(value)) => value,
        // A single value by its grammar: two say nothing, and the whole representation is always
        // right.
        _ => return false,
    };
    if let Some(tag) = ReceivedTag::parse(value) {
        // RFC 9110 section 13.1.5: an entity tag is compared strongly.
        return validators.etag.is_some_and(|ours| ours.received().strong_eq(tag));
    }
    let (Some(date), Some(modified)) = (date(head, Known::IfRange), validators.last_modified())
    else {
        return false;
    };
    // RFC 9110 section 13.1.5: a date must match exactly, and be strong.
    let strong = now.duration_since(modified).is_ok_and(|age| age >= Duration::from_secs(1));
    strong && Some(date) == validators.modified
}

/// Whether `*` or one tag of the header matches the current representation.
fn matches_any(
    head: &RequestHead,
    known: Known,
    validators: &Validators,
    same: impl Fn(ReceivedTag<'_>, ReceivedTag<'_>) -> bool,
) -> bool {
    head.values(known).any(|value| {
        // RFC 9110 sections 13.1.1 and 13.1.2: `*` matches any current representation.
        value == b"*"
            || validators
                .etag
                .is_some_and(|ours| TagList::new(value).any(|tag| same(ours.received(), tag)))
    })
}

/// The date of a header in seconds since the epoch. RFC 9110 sections 13.1.3 and 13.1.4: a
/// recipient MUST ignore the field if its value is no valid HTTP date, or a list.
fn date(head: &RequestHead, known: Known) -> Option<u64> {
    if head.count(known) != 1 {
        return None;
    }
    let value = str::from_utf8(head.known(known)?).ok()?;
    let time = httpdate::parse_http_date(value).ok()?;
    time.duration_since(UNIX_EPOCH).ok().map(|since| since.as_secs())
}

#[cfg(test)]
mod tests;
