//! `multipart/byteranges`: several ranges in one answer. RFC 9110 section 14.6.

use std::fmt::Write;
use std::hash::{BuildHasher, RandomState};

use crate::ContentRange;

/// A boundary that no content holds, but by a chance of 2⁻¹²⁸: each is made of
/// fresh random keys, so that nobody can write it into a file beforehand.
/// RFC 2046 section 5.1.1 allows 70 characters.
pub(super) fn boundary() -> String {
    let mut boundary = String::with_capacity(32);
    for half in 0..2_u64 {
        // The standard library's keys are random for each thread and differ
        // from one state to the next; SipHash keeps them secret.
        let number = RandomState::new().hash_one(half);
        // Writing to a String cannot fail.
        let _ = write!(boundary, "{number:016x}");
    }
    boundary
}

pub(super) fn content_type(boundary: &str) -> String {
    format!("multipart/byteranges; boundary={boundary}")
}

/// What stands before a part: the delimiter and the part's head.
pub(super) fn part_head(
    boundary: &str,
    is_first: bool,
    content_type: Option<&str>,
    content_range: &ContentRange,
) -> String {
    // RFC 2046 section 5.1.1: the line break before a delimiter is part of it;
    // before the first there is nothing that it would end.
    let before = if is_first { "" } else { "\r\n" };
    let mut head = format!("{before}--{boundary}\r\n");
    if let Some(content_type) = content_type {
        let _ = write!(head, "Content-Type: {content_type}\r\n");
    }
    let _ = write!(head, "Content-Range: {content_range}\r\n\r\n");
    head
}

/// What stands after the last part.
pub(super) fn end(boundary: &str) -> String {
    format!("\r\n--{boundary}--\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundaries_are_new_each_time_and_of_valid_characters() {
        let boundaries: std::collections::HashSet<_> = (0..1000).map(|_| boundary()).collect();
        assert_eq!(boundaries.len(), 1000);
        let valid = |b: &String| b.len() == 32 && b.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(boundaries.iter().all(valid));
    }
}
