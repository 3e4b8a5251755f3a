//! A request as one line of text. Nothing is allocated but room for the line,
//! and nothing computed that the line does not show.

mod address;
mod combined;
mod escape;
mod json;
mod relayed;
mod time;

use sluicegate_http::Answered;

pub(super) use self::time::Clock;
use crate::config::LogFormat;

/// Appends the line of one request, with its end, to `out`.
pub(super) fn render(
    format: LogFormat,
    out: &mut Vec<u8>,
    clock: &mut Clock,
    answered: &Answered<'_>,
) {
    match format {
        LogFormat::Json => json::render(out, clock, answered),
        LogFormat::Combined => combined::render(out, clock, answered),
    }
    out.push(b'\n');
}

/// `00` to `99`.
const PAIRS: [u8; 200] = {
    let mut pairs = [0; 200];
    let mut number = 0;
    while number < 100 {
        pairs[2 * number] = b'0' + (number / 10) as u8;
        pairs[2 * number + 1] = b'0' + (number % 10) as u8;
        number += 1;
    }
    pairs
};

/// Digits of the largest `u64`.
const DIGITS: usize = 20;

/// Appends a number in decimal: at once where it is short, as parts of addresses
/// and statuses are.
fn push_number(out: &mut Vec<u8>, number: u64) {
    let pair = |number: u64| {
        let at = 2 * (number % 100) as usize;
        [PAIRS[at], PAIRS[at + 1]]
    };
    match number {
        0..10 => out.push(b'0' + number as u8),
        10..100 => out.extend_from_slice(&pair(number)),
        100..1000 => {
            let [tens, ones] = pair(number);
            out.extend_from_slice(&[b'0' + (number / 100) as u8, tens, ones]);
        }
        _ => push_long(out, number),
    }
}

/// All places of the digits are copied, and the length set after that: a copy of
/// constant length is a few stores.
fn push_long(out: &mut Vec<u8>, mut number: u64) {
    let mut digits = [0; 2 * DIGITS];
    let mut at = DIGITS;
    while number >= 10 {
        let pair = 2 * (number % 100) as usize;
        number /= 100;
        at -= 2;
        digits[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
    }
    if number > 0 || at == DIGITS {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    let length = out.len() + DIGITS - at;
    if let Some(text) = digits[at..].first_chunk::<DIGITS>() {
        out.extend_from_slice(text);
        out.truncate(length);
    }
}

/// The version of a request line as the client wrote it: its last eight bytes.
const PROTOCOL: usize = "HTTP/1.1".len();

/// The request line as it was sent, without its end.
fn request_line(head: &sluicegate_http::RequestHead) -> &[u8] {
    let length = head.method_str().len() + head.target().len() + 2 + PROTOCOL;
    head.as_bytes().get(..length).unwrap_or_default()
}

#[cfg(test)]
pub(super) mod tests;
