//! Range requests for bytes. RFC 9110 section 14.

use crate::{Known, ListMembers, Method, RequestHead};
use std::fmt;
use std::ops::Range;

/// Ranges that one request may ask for; a PDF viewer sends up to about ten. With more, Range is
/// ignored (RFC 9110 section 14.2 lets us), so that a small request never makes a large list.
pub const RANGES: usize = 16;
/// Pairs of overlapping ranges that one request may have. RFC 9110 section 14.2 calls "more than
/// two overlapping ranges" an indication of a broken client or an attack.
pub const OVERLAPS: usize = 2;

/// What a request's Range means for a representation of a given length.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RangeSet {
    /// No Range, or one that is to be ignored: answer 200 with everything.
    Ignored,
    /// Answer 416 with [`ContentRange::Unsatisfied`].
    Unsatisfiable,
    /// Answer 206 with these bytes (start inclusive, end exclusive, never empty, within the
    /// length).
    Single(Range<u64>),
    /// Answer 206 with `multipart/byteranges`, in the order that the client asked for. Together
    /// never longer than the representation.
    Multiple(Vec<Range<u64>>),
}

impl RangeSet {
    /// The ranges that `head` asks for, of a representation of `length` bytes.
    ///
    /// Does not look at If-Range: see [`if_range_holds`](crate::if_range_holds).
    #[must_use]
    pub fn of(head: &RequestHead, length: u64) -> Self {
        match head.known(Known::Range) {
            // RFC 9110 section 14.2: a server MUST ignore Range for methods that do not define it,
            // and GET alone does. Two Range lines are no single value: ignored.
            Some(value) if head.method() == Method::Get && head.count(Known::Range) == 1 => {
                Self::parse(value, length)
            }
            _ => Self::Ignored,
        }
    }

    /// Reads a Range value. Any other unit than bytes, and any malformed value, is ignored.
    /// RFC 9110 sections 14.1.1, 14.1.2 and 14.2.
    #[must_use]
    pub fn parse(value: &[u8], length: u64) -> Self {
        let Some(set) = byte_range_set(value) else {
            return Self::Ignored;
        };
        let mut first = None;
        let mut more = Vec::new();
        let mut specs = 0;
        // RFC 9110 section 5.6.1.2: empty list members are ignored; here they count against the
        // bound.
        for spec in ListMembers::new(set) {
            specs += 1;
            if specs > RANGES {
                return Self::Ignored;
            }
            if spec.is_empty() {
                continue;
            }
            match resolve(spec, length) {
                // RFC 9110 section 14.1.1: an invalid ranges-specifier is ignored as a whole.
                Spec::Invalid => return Self::Ignored,
                Spec::Unsatisfiable => first = first.or(Some(0..0)),
                Spec::Satisfiable(range) => match &first {
                    Some(earlier) if !earlier.is_empty() => more.push(range),
                    _ => first = Some(range),
                },
            }
        }
        match first {
            // No member but empty ones: not a range-set.
            None => Self::Ignored,
            // RFC 9110 section 14.1.2 makes every suffix of an empty representation satisfiable,
            // and Content-Range has no words for it: the answer is all of nothing, with 200.
            Some(range) if range.is_empty() => {
                if length == 0 && has_suffix(set) {
                    Self::Ignored
                } else {
                    Self::Unsatisfiable
                }
            }
            Some(range) if more.is_empty() => Self::Single(range),
            Some(range) => {
                more.insert(0, range);
                bounded(more, length)
            }
        }
    }
}

/// Ignores sets that repeat bytes to no good end.
fn bounded(ranges: Vec<Range<u64>>, length: u64) -> RangeSet {
    let total =
        ranges.iter().try_fold(0u64, |total, range| total.checked_add(range.end - range.start));
    let overlaps = ranges.iter().enumerate().flat_map(|(index, a)| {
        let later = ranges.get(index + 1..).unwrap_or_default();
        later.iter().filter(move |b| a.start < b.end && b.start < a.end)
    });
    // RFC 9110 section 14.2: a server MAY ignore a Range with many or overlapping ranges. More
    // bytes than the whole is the amplification that "Apache Killer" (CVE-2011-3192) lived on.
    match total {
        Some(total) if total <= length && overlaps.count() <= OVERLAPS => {
            RangeSet::Multiple(ranges)
        }
        _ => RangeSet::Ignored,
    }
}

/// What follows `bytes=`. RFC 9110 section 14.1: range-unit names are case-insensitive.
fn byte_range_set(value: &[u8]) -> Option<&[u8]> {
    let (unit, set) = value.split_at_checked(6)?;
    unit.eq_ignore_ascii_case(b"bytes=").then_some(set)
}

fn has_suffix(set: &[u8]) -> bool {
    ListMembers::new(set)
        .any(|spec| spec.strip_prefix(b"-").and_then(number).is_some_and(|suffix| suffix > 0))
}

enum Spec {
    Invalid,
    Unsatisfiable,
    Satisfiable(Range<u64>),
}

/// RFC 9110 section 14.1.1: int-range = first-pos "-" [ last-pos ], suffix-range = "-"
/// suffix-length.
fn resolve(spec: &[u8], length: u64) -> Spec {
    let Some(dash) = memchr::memchr(b'-', spec) else {
        return Spec::Invalid;
    };
    let (first, last) =
        (spec.get(..dash).unwrap_or_default(), spec.get(dash + 1..).unwrap_or_default());
    let range = match (first, last) {
        (b"", suffix) => match number(suffix) {
            // RFC 9110 section 14.1.2: a suffix longer than the representation is all of it.
            Some(suffix) => length.saturating_sub(suffix)..length,
            None => return Spec::Invalid,
        },
        (first, b"") => match number(first) {
            Some(first) => first..length,
            None => return Spec::Invalid,
        },
        (first, last) => match (number(first), number(last)) {
            // RFC 9110 section 14.1.1: invalid if last-pos is less than first-pos.
            (Some(_), Some(_)) if significant(last) < significant(first) => return Spec::Invalid,
            (Some(first), Some(last)) => first..last.saturating_add(1).min(length),
            _ => return Spec::Invalid,
        },
    };
    if range.is_empty() { Spec::Unsatisfiable } else { Spec::Satisfiable(range) }
}

/// Digits in a form that orders as their numbers do, however large they are.
fn significant(digits: &[u8]) -> (usize, &[u8]) {
    let zeros = digits.iter().take_while(|&&digit| digit == b'0').count();
    let significant = digits.get(zeros..).unwrap_or_default();
    (significant.len(), significant)
}

/// 1*DIGIT; what does not fit `u64` lies beyond every representation and becomes `u64::MAX`.
fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() {
        return None;
    }
    digits.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

/// A value of Content-Range; `Display` writes it. RFC 9110 section 14.4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentRange {
    /// `bytes 0-499/1234`, for 206.
    Satisfied {
        /// Start inclusive, end exclusive; not empty.
        range: Range<u64>,
        /// Bytes of the whole representation.
        length: u64,
    },
    /// `bytes */1234`, for 416.
    Unsatisfied {
        /// Bytes of the whole representation.
        length: u64,
    },
}

impl fmt::Display for ContentRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Satisfied { range, length } => {
                write!(f, "bytes {}-{}/{length}", range.start, range.end.saturating_sub(1))
            }
            Self::Unsatisfied { length } => write!(f, "bytes */{length}"),
        }
    }
}

#[cfg(test)]
mod tests;
