//! What the targets share: how an input is laid out, and the lexical rules that the oracles read by.
//!
//! Every input but a path is one line of parameters, which ends with LF, and then what the peer
//! sends. So a seed is written and read in an editor, and the fuzzer can change either part.

#![forbid(unsafe_code)]

pub mod recorder;

use sluicegate_http::Limits;

/// The first line and the rest. Without an LF all of it is the first line.
#[must_use]
pub fn first_line(input: &[u8]) -> (&[u8], &[u8]) {
    match input.iter().position(|&byte| byte == b'\n') {
        Some(at) => (&input[..at], &input[at + 1..]),
        None => (input, b""),
    }
}

/// Limits and cuts of one delivery, then its bytes: `0 5 9` is the default limits and cuts at 5 and
/// 9; see [`limits`] for other first numbers. Words that are no numbers are skipped.
#[derive(Debug)]
pub struct Delivery<'a> {
    /// What the peer sends.
    pub bytes: &'a [u8],
    /// What it may.
    pub limits: Limits,
    /// The offsets after which a read ends, ascending; the last is the length.
    pub cuts: Vec<usize>,
}

impl<'a> Delivery<'a> {
    /// Reads an input. Every input is a delivery.
    #[must_use]
    pub fn of(input: &'a [u8]) -> Self {
        let (line, bytes) = first_line(input);
        let mut numbers = line
            .split(|&byte| byte == b' ')
            .filter_map(|word| str::from_utf8(word).ok()?.parse().ok());
        let limits = limits(numbers.next().unwrap_or(0));
        let mut cuts: Vec<_> = numbers.take(8).map(|cut: usize| cut % (bytes.len() + 1)).collect();
        cuts.push(bytes.len());
        cuts.sort_unstable();
        Self { bytes, limits, cuts }
    }
}

/// The default limits for 0; for any other number tight ones. The moduli have no common divisor, so
/// that one number reaches every combination.
#[must_use]
pub fn limits(number: usize) -> Limits {
    if number == 0 {
        return Limits::default();
    }
    Limits {
        request_line: 8 + number % 97,
        header_line: 4 + number % 53,
        head: 16 + number % 307,
        headers: number % 7,
        chunk_line: number % 29,
        chunk_overhead: number % 13,
        trailer: number % 61,
        trailers: number % 5,
        body: number as u64 % 127,
        ..Limits::default()
    }
}

/// RFC 9110 section 5.6.2: token = 1*tchar.
#[must_use]
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty()
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte))
}

/// RFC 9110 section 5.5: no control byte but HTAB.
#[must_use]
pub fn is_field_value(bytes: &[u8]) -> bool {
    bytes.iter().all(|&byte| byte == b'\t' || !byte.is_ascii_control())
}

/// Without SP and HTAB at both ends. RFC 9110 section 5.6.3.
#[must_use]
pub fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
