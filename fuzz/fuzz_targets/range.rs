//! Ranges stay within the representation and cost no more than it. The oracle reads the value with
//! numbers that cannot overflow, and keeps every satisfiable range until the end.
//!
//! Input: the method and the length of the representation in decimal, LF, then the value of Range;
//! CRLF in it begins another field.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::{Corpus, fuzz_target};
use sluicegate_fuzz::{first_line, trim};
use sluicegate_http::range::{OVERLAPS, RANGES};
use sluicegate_http::{ContentRange, Known, Limits, Method, RangeSet, RequestHead};
use std::ops::Range;

fuzz_target!(|input: &[u8]| -> Corpus {
    let (line, value) = first_line(input);
    let Some((method, length)) = str::from_utf8(line)
        .ok()
        .and_then(|line| line.split_once(' '))
        .and_then(|(method, length)| Some((method, length.parse::<u64>().ok()?)))
    else {
        return Corpus::Reject;
    };
    let set = RangeSet::parse(value, length);
    assert_eq!(set, oracle(value, length), "another reading of the ranges");
    check(&set, length);
    through_a_head(method, value, length);
    Corpus::Keep
});

fn check(set: &RangeSet, length: u64) {
    let ranges = match set {
        RangeSet::Ignored => return,
        RangeSet::Unsatisfiable => {
            let answer = ContentRange::Unsatisfied { length }.to_string();
            assert_eq!(answer, format!("bytes */{length}"));
            return;
        }
        RangeSet::Single(range) => std::slice::from_ref(range),
        RangeSet::Multiple(ranges) => {
            assert!(ranges.len() >= 2, "one range is no multipart");
            ranges.as_slice()
        }
    };
    assert!(ranges.len() <= RANGES);
    for range in ranges {
        assert!(range.start < range.end, "an empty range");
        assert!(range.end <= length, "beyond the representation");
        let answer = ContentRange::Satisfied { range: range.clone(), length }.to_string();
        assert_eq!(answer, format!("bytes {}-{}/{length}", range.start, range.end - 1));
    }
    let total: u128 = ranges.iter().map(|range| u128::from(range.end - range.start)).sum();
    assert!(total <= u128::from(length), "an answer longer than the representation");
}

/// RFC 9110 section 14.2: Range counts for GET alone, and for us only where it comes once.
fn through_a_head(method: &str, value: &[u8], length: u64) {
    let bytes = [
        method.as_bytes(),
        b" / HTTP/1.1\r\nHost: a\r\nRange:".as_slice(),
        value,
        b"\r\n\r\n".as_slice(),
    ]
    .concat();
    let mut head = RequestHead::new();
    if head.parse(&bytes, &Limits::default()).is_err() {
        return;
    }
    let values: Vec<_> = head
        .headers()
        .filter_map(|(name, value)| name.eq_ignore_ascii_case("range").then_some(value))
        .collect();
    assert_eq!(values.len(), head.count(Known::Range));
    let expected = match values[..] {
        [value] if head.method() == Method::Get => RangeSet::parse(value, length),
        _ => RangeSet::Ignored,
    };
    assert_eq!(RangeSet::of(&head, length), expected);
}

fn oracle(value: &[u8], length: u64) -> RangeSet {
    // No member of a valid set has a quote, so that commas within quotes need no care here: what
    // is split there is malformed either way.
    let set = match value.get(..6) {
        Some(unit) if unit.eq_ignore_ascii_case(b"bytes=") => &value[6..],
        _ => return RangeSet::Ignored,
    };
    let members: Vec<_> = set.split(|&byte| byte == b',').map(trim).collect();
    if members.len() > RANGES {
        return RangeSet::Ignored;
    }
    let specs: Vec<_> = members.into_iter().filter(|member| !member.is_empty()).collect();
    if specs.is_empty() {
        return RangeSet::Ignored;
    }
    let mut ranges: Vec<Range<u64>> = Vec::new();
    let mut suffix_of_nothing = false;
    for spec in specs {
        let Some((first, last)) = bounds(spec) else {
            return RangeSet::Ignored;
        };
        let size = i128::from(length);
        let (start, end) = match (first, last) {
            (Some(first), Some(last)) if first > last => return RangeSet::Ignored,
            (Some(first), Some(last)) => (first, size.min(last + 1)),
            (Some(first), None) => (first, size),
            (None, Some(suffix)) => {
                suffix_of_nothing |= length == 0 && suffix > 0;
                (0.max(size - suffix), size)
            }
            (None, None) => return RangeSet::Ignored,
        };
        if start < end {
            // Both are at most `length` here.
            ranges.push(start as u64..end as u64);
        }
    }
    match ranges.len() {
        0 if suffix_of_nothing => return RangeSet::Ignored,
        0 => return RangeSet::Unsatisfiable,
        1 => return RangeSet::Single(ranges[0].clone()),
        _ => {}
    }
    let total: u128 = ranges.iter().map(|range| u128::from(range.end - range.start)).sum();
    let mut overlaps = 0;
    for a in 0..ranges.len() {
        for b in 0..a {
            let start = ranges[a].start.max(ranges[b].start);
            overlaps += usize::from(start < ranges[a].end.min(ranges[b].end));
        }
    }
    if total > u128::from(length) || overlaps > OVERLAPS {
        return RangeSet::Ignored;
    }
    RangeSet::Multiple(ranges)
}

/// The numbers before and after the dash; `None` for a member that is no range.
fn bounds(spec: &[u8]) -> Option<(Option<i128>, Option<i128>)> {
    let (first, last) = str::from_utf8(spec).ok()?.split_once('-')?;
    let (from, to) = (number(first)?, number(last)?);
    // Both may be too large for any integer, and still in the wrong order.
    let plain = |digits: &str| digits.trim_start_matches('0').to_owned();
    let (first, last) = (plain(first), plain(last));
    let reversed = (last.len(), &last) < (first.len(), &first);
    if from.is_some() && to.is_some() && reversed {
        return None;
    }
    Some((from, to))
}

/// `Some(None)` for nothing. Numbers above `u64::MAX` are that: no representation has such a byte.
fn number(digits: &str) -> Option<Option<i128>> {
    if digits.is_empty() {
        return Some(None);
    }
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Some(Some(digits.parse::<u64>().unwrap_or(u64::MAX).into()))
}
