//! One field line: the rules that heads and trailers share.

use crate::Offence;
use crate::target::is_target_byte;

/// `tchar` of RFC 9110 section 5.6.2.
const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        let b = byte as u8;
        table[byte] = b.is_ascii_alphanumeric()
            || matches!(
                b,
                b'!' | b'#'
                    | b'$'
                    | b'%'
                    | b'&'
                    | b'\''
                    | b'*'
                    | b'+'
                    | b'-'
                    | b'.'
                    | b'^'
                    | b'_'
                    | b'`'
                    | b'|'
                    | b'~'
            );
        byte += 1;
    }
    table
};

/// Whether the byte may stand in a token. RFC 9110 section 5.6.2.
#[must_use]
pub(crate) fn is_token_byte(byte: u8) -> bool {
    TOKEN[usize::from(byte)]
}

/// How many bytes there are before the first that may not stand in a token.
#[inline(never)]
pub(crate) fn token_len(bytes: &[u8]) -> usize {
    bytes.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(bytes.len())
}

/// Whether the bytes are a token: one byte at least. RFC 9110 section 5.6.2.
#[must_use]
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// Without the white space at both ends. RFC 9110 section 5.6.3: OWS is SP and HTAB alone.
#[must_use]
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|&b| !is_space(b)).unwrap_or(bytes.len());
    let end = bytes.iter().rposition(|&b| !is_space(b)).map_or(start, |last| last + 1);
    bytes.get(start..end).unwrap_or_default()
}

#[inline]
pub(crate) fn is_space(byte: u8) -> bool {
    byte == b' ' || byte == b'\t'
}

/// Offsets of one field line in the bytes it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FieldLine {
    /// The name begins where the line begins and ends here.
    pub(crate) name_end: usize,
    /// Where the value without its white space begins.
    pub(crate) value_start: usize,
    /// Where it ends.
    pub(crate) value_end: usize,
    /// Where the next line begins.
    pub(crate) next: usize,
}

/// Reads the field line that begins at `start` and ends with CRLF. `NotOneHead` where the bytes end
/// before anything can be said; no other verdict changes with what follows.
pub(crate) fn field_line(bytes: &[u8], start: usize) -> Result<FieldLine, Offence> {
    let name_end = token_end(bytes, start);
    let name_len = name_end - start;
    match (name_len, bytes.get(name_end)) {
        (1.., Some(b':')) => {}
        // RFC 9110 section 5.1: field-name = token, which is one byte at least.
        (0, Some(b':')) => return Err(Offence::EmptyHeaderName),
        // RFC 9112 section 5.2: a server that receives obs-fold MUST refuse it with 400 (or unfold
        // it). Section 2.2 says the same of white space before the first field.
        (0, Some(b' ' | b'\t')) => return Err(Offence::ObsFold),
        (_, Some(b' ' | b'\t')) => {
            let after = bytes.iter().skip(name_end).find(|&&byte| !is_space(byte));
            // RFC 9112 section 5.1: a server MUST answer white space before the colon with 400.
            return Err(match after {
                Some(b':') => Offence::SpaceBeforeColon,
                Some(_) => Offence::BadHeaderName,
                None => Offence::NotOneHead,
            });
        }
        (_, None) => return Err(Offence::NotOneHead),
        _ => return Err(Offence::BadHeaderName),
    }
    let mut value_start = name_end + 1;
    while bytes.get(value_start).is_some_and(|&byte| is_space(byte)) {
        value_start += 1;
    }
    let line_end = value_end(bytes, value_start);
    let next = line_break(bytes, line_end)?;
    let mut value_end = line_end;
    while value_end > value_start && bytes.get(value_end - 1).is_some_and(|&byte| is_space(byte)) {
        value_end -= 1;
    }
    Ok(FieldLine { name_end, value_start, value_end, next })
}

/// A field line that is written as nearly all are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlainLine {
    /// The value begins two bytes behind the name.
    pub(crate) name_len: usize,
    /// The next line begins two bytes behind the value.
    pub(crate) value_len: usize,
}

impl PlainLine {
    /// Its bytes with the CRLF.
    pub(crate) fn len(self) -> usize {
        self.name_len + self.value_len + 4
    }

    /// The same, in general terms, of a line that begins at `start`.
    pub(crate) fn general(self, start: usize) -> FieldLine {
        let name_end = start + self.name_len;
        let (value_start, next) = (name_end + 2, start + self.len());
        FieldLine { name_end, value_start, value_end: next - 2, next }
    }
}

/// Reads the field line that begins at `start`, if its name has nothing but letters and hyphens,
/// one space is behind the colon, the value has a byte at least, no byte above 0x7e, no HTAB and no
/// white space at its end, and a few bytes are behind the name. Of all others, and of those that
/// break a rule, [`field_line`] has to tell; what is read here it reads alike.
#[inline(always)]
pub(crate) fn plain_line(bytes: &[u8], start: usize) -> Option<PlainLine> {
    let line = bytes.get(start..)?;
    let name_len = plain_name(line)?;
    if line.get(name_len..name_len + 2) != Some(b": ") || name_len == 0 {
        return None;
    }
    Some(PlainLine { name_len, value_len: plain_value(line, name_len)? })
}

/// How many letters and hyphens there are before the first other byte.
#[inline(always)]
pub(crate) fn plain_name(line: &[u8]) -> Option<usize> {
    let mut name_len = 0;
    loop {
        let other = no_name_bytes(word_at(line, name_len)?);
        if other != 0 {
            return Some(name_len + other.trailing_zeros() as usize / 8);
        }
        name_len += 8;
    }
}

/// The length of a value as [`plain_line`] takes it, where it is known that so long a name, a colon
/// and a space begin `line`.
#[inline(always)]
pub(crate) fn plain_value(line: &[u8], name_len: usize) -> Option<usize> {
    let value = line.get(name_len + 2..)?;
    if *value.first()? <= b' ' {
        return None;
    }
    let len = graphic_len(value)?;
    // The first byte is one of them.
    let &[last, b'\r', b'\n'] = value.get(len.checked_sub(1)?..)?.first_chunk()? else {
        return None;
    };
    (last != b' ').then_some(len)
}

/// How many bytes of ASCII that are no control bytes there are before the first other, if there is
/// one.
#[inline(always)]
fn graphic_len(bytes: &[u8]) -> Option<usize> {
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        // Bytes below 0x20, 0x7f, and above. The lowest is exact: carries and borrows only ever run
        // upwards, from a byte that was one already.
        let found = (word.wrapping_sub(ONES * 0x20) | word.wrapping_add(ONES) | word) & TOPS;
        if found != 0 {
            return Some(bytes.len() - rest.len() + found.trailing_zeros() as usize / 8);
        }
        rest = behind;
    }
    graphic_len_of_few(bytes, bytes.len() - rest.len())
}

/// The same, of what is left behind words; apart, so that their loop has nothing to keep for it.
#[inline(never)]
fn graphic_len_of_few(bytes: &[u8], start: usize) -> Option<usize> {
    let rest = bytes.get(start..)?;
    Some(start + rest.iter().position(|byte| !(b' '..0x7f).contains(byte))?)
}

/// The offset after the CRLF that must be at `at`, or the offence of what is there instead.
pub(crate) fn line_break(bytes: &[u8], at: usize) -> Result<usize, Offence> {
    match (bytes.get(at), bytes.get(at + 1)) {
        (Some(b'\r'), Some(b'\n')) => Ok(at + 2),
        (Some(b'\r'), Some(_)) => Err(Offence::BareCr),
        (Some(b'\n'), _) => Err(Offence::BareLf),
        (Some(0), _) => Err(Offence::Nul),
        (None, _) | (Some(b'\r'), None) => Err(Offence::NotOneHead),
        // RFC 9110 section 5.5: field-vchar = VCHAR / obs-text, with SP and HTAB between them.
        _ => Err(Offence::BadHeaderValue),
    }
}

/// The offset of the first byte from `start` on that may not stand in a field value.
pub(crate) fn value_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    // Eight bytes at a time: values are most of a head. A word without a byte below 0x20 and
    // without 0x7f is clean. Of others the lowest candidate is exact: a borrow only ever runs
    // upwards, from a byte that was one already.
    while let Some(word) = word_at(bytes, at) {
        let del = word ^ (ONES * 0x7f);
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        let found = (low | (del.wrapping_sub(ONES) & !del)) & TOPS;
        if found == 0 {
            at += 8;
            continue;
        }
        at += found.trailing_zeros() as usize / 8;
        if bytes.get(at) != Some(&b'\t') {
            return at;
        }
        at += 1;
    }
    while bytes.get(at).is_some_and(|&byte| is_value_byte(byte)) {
        at += 1;
    }
    at
}

/// How many bytes there are before the first that may not stand in a request target.
pub(crate) fn target_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some((word, behind)) = rest.split_first_chunk() {
        let word = u64::from_le_bytes(*word);
        let hash = word ^ (ONES * u64::from(b'#'));
        // As in `graphic_len`, with the space and `#` besides: of ASCII, only that leaves nothing
        // to take one from.
        let graphic = word.wrapping_sub(ONES * 0x21) | word.wrapping_add(ONES) | word;
        let found = (graphic | hash.wrapping_sub(ONES)) & TOPS;
        if found != 0 {
            return bytes.len() - rest.len() + found.trailing_zeros() as usize / 8;
        }
        rest = behind;
    }
    let tail = rest.iter().position(|&byte| !is_target_byte(byte)).unwrap_or(rest.len());
    bytes.len() - rest.len() + tail
}

/// The offset of the first byte from `start` on that may not stand in a token.
fn token_end(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    // Letters and hyphens eight at a time: names have little else.
    while let Some(word) = word_at(bytes, at) {
        let other = no_name_bytes(word);
        if other == 0 {
            at += 8;
            continue;
        }
        at += other.trailing_zeros() as usize / 8;
        if !bytes.get(at).is_some_and(|&byte| is_token_byte(byte)) {
            return at;
        }
        at += 1;
    }
    while bytes.get(at).is_some_and(|&byte| is_token_byte(byte)) {
        at += 1;
    }
    at
}

/// The top bits of the bytes that are neither letters nor hyphens.
#[inline(always)]
fn no_name_bytes(word: u64) -> u64 {
    let low = word & !TOPS;
    let lower = low | (ONES * 0x20);
    let letter = (lower + ONES * (0x80 - 0x61)) & !(lower + ONES * (0x80 - 0x7b));
    let hyphen = TOPS - (low ^ (ONES * 0x2d));
    (!(letter | hyphen) | word) & TOPS
}

/// Whether the token `name` is `known`, which is of letters and hyphens, in any case.
///
/// The bit that is set in lower case makes no other byte of a token a letter or a hyphen, so that
/// eight can be compared at a time.
#[inline(always)]
pub(crate) fn same_name(known: &[u8], name: &[u8]) -> bool {
    if known.len() != name.len() {
        return false;
    }
    if known.len() < 8 {
        return match (half_at_both_ends(known), half_at_both_ends(name)) {
            (Some(known), Some(name)) => known | (ONES * 0x20) == name | (ONES * 0x20),
            _ => known.iter().zip(name).all(|(known, name)| known | 0x20 == name | 0x20),
        };
    }
    let last = known.len() - 8;
    let same = |at| match (word_at(known, at), word_at(name, at)) {
        (Some(known), Some(name)) => known | (ONES * 0x20) == name | (ONES * 0x20),
        _ => false,
    };
    let mut at = 0;
    while at < last {
        if !same(at) {
            return false;
        }
        at += 8;
    }
    same(last)
}

/// The first four bytes and the last four, which may overlap.
#[inline(always)]
fn half_at_both_ends(bytes: &[u8]) -> Option<u64> {
    let [first, last] =
        [bytes.first_chunk()?, bytes.last_chunk()?].map(|half| u32::from_le_bytes(*half));
    Some(u64::from(first) | u64::from(last) << 32)
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// Eight bytes, the first lowest.
#[inline]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes.get(at..)?.first_chunk().map(|word| u64::from_le_bytes(*word))
}

/// RFC 9110 section 5.5: VCHAR, obs-text, SP and HTAB.
fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_and_bytes_agree_on_the_end_of_a_value_at_every_offset() {
        for bad in 0..=255u8 {
            for position in 0..20 {
                let mut bytes = [b'a'; 24];
                bytes[position] = bad;
                let expected = bytes.iter().position(|&b| !is_value_byte(b)).unwrap_or(bytes.len());
                assert_eq!(value_end(&bytes, 0), expected, "{bad:#x} at {position}");
                bytes[20] = 0x80;
                bytes[21] = 0x1f;
                assert_eq!(value_end(&bytes, 0), expected.min(21), "{bad:#x} at {position}");
            }
        }
    }

    #[test]
    fn words_and_bytes_agree_on_the_end_of_a_target_at_every_offset() {
        for byte in 0..=255u8 {
            for position in 0..20 {
                for behind in *b" #\xff~" {
                    let mut bytes = *b"/!~a0%2F\"?&=;,:@$+-/ab ";
                    bytes[position] = byte;
                    bytes[20] = behind;
                    let expected = bytes.iter().position(|&b| !is_target_byte(b)).unwrap();
                    assert_eq!(target_len(&bytes), expected, "{byte:#x} at {position}");
                }
            }
        }
        assert_eq!((target_len(b""), target_len(b"/a")), (0, 2));
    }

    #[test]
    fn words_and_bytes_agree_on_the_end_of_a_token_at_every_offset() {
        for byte in 0..=255u8 {
            for position in 0..20 {
                let mut bytes = *b"X-Accept-Encoding-azAZ-x";
                bytes[position] = byte;
                bytes[21] = b':';
                let expected = bytes.iter().position(|&b| !is_token_byte(b)).unwrap();
                assert_eq!(token_end(&bytes, 0), expected, "{byte:#x} at {position}");
            }
        }
        assert_eq!(token_end(b"Date", 0), 4);
    }

    const NAMES: &[&str] = &["A", "Content-Type", "X-Forwarded-For", "X_1", "", "A ", "~"];
    const WORDS: &[&str] = &["a", " ", "\t", "value", "of some words", "\u{e4}", "\r", "\n", "~"];

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn a_plain_line_is_what_the_general_rules_make_of_it(
            (before, behind) in (0usize..3, 0usize..12),
            name in prop::sample::select(NAMES),
            colon in prop::sample::select(&[": ", ": ", ":", ":  ", ":\t", ""]),
            words in prop::collection::vec(prop::sample::select(WORDS), 0..5),
            (at, byte) in (any::<prop::sample::Index>(), prop::option::weighted(0.1, any::<u8>())),
        ) {
            let (start, value) = (4 * before, words.concat());
            let (before, behind) = ("X:\r\n".repeat(before), "B:".repeat(behind));
            let mut bytes = format!("{before}{name}{colon}{value}\r\n{behind}").into_bytes();
            let at = at.index(bytes.len());
            bytes[at] = byte.unwrap_or(bytes[at]);
            let general = field_line(&bytes, start);
            if let Some(plain) = plain_line(&bytes, start) {
                prop_assert_eq!(general, Ok(plain.general(start)));
                prop_assert_eq!(bytes.get(start + plain.name_len + 1), Some(&b' '));
            } else if let Ok(line) = general {
                // What it leaves to the rules has a reason to be left.
                let name = &bytes[start..line.name_end];
                let value = &bytes[line.value_start..line.value_end];
                let is_odd = start + name.len() / 8 * 8 + 8 > bytes.len()
                    || name.iter().any(|byte| !byte.is_ascii_alphabetic() && *byte != b'-')
                    || value.is_empty()
                    || value.iter().any(|byte| !(b' '..0x7f).contains(byte))
                    || line.value_start != line.name_end + 2
                    || bytes[line.name_end + 1] != b' '
                    || line.next != line.value_end + 2;
                prop_assert!(is_odd, "{}", bytes.escape_ascii());
            }
        }
    }

    #[test]
    fn a_plain_line_ends_at_any_byte_that_may_not_be_in_it() {
        for byte in 0..=255u8 {
            for position in 0..28 {
                let mut bytes = *b"Content-Name: a value of it\r\nA: b\r\n\r\n";
                bytes[position] = byte;
                let general = field_line(&bytes, 0);
                if let Some(plain) = plain_line(&bytes, 0) {
                    assert_eq!(general, Ok(plain.general(0)), "{byte:#x} at {position}");
                }
                if position > 14 && position < 26 && (0x21..0x7f).contains(&byte) {
                    assert!(plain_line(&bytes, 0).is_some(), "{byte:#x} at {position}");
                }
            }
        }
    }

    #[test]
    fn a_name_is_the_same_in_any_case_and_no_other_token_is() {
        for known in ["te", "date", "content-length", "x-accel-b", "proxy-authentication-info"] {
            for position in 0..known.len() {
                for byte in (0..=255u8).filter(|&byte| is_token_byte(byte)) {
                    let mut name = known.to_ascii_uppercase().into_bytes();
                    name[position] = byte;
                    let expected = name.eq_ignore_ascii_case(known.as_bytes());
                    assert_eq!(same_name(known.as_bytes(), &name), expected, "{known} {byte:#x}");
                    let upper = known.to_ascii_uppercase();
                    assert_eq!(same_name(upper.as_bytes(), &name), expected, "{known} {byte:#x}");
                }
            }
            assert!(!same_name(known.as_bytes(), &known.as_bytes()[1..]));
        }
    }

    #[test]
    fn white_space_around_a_value_is_dropped_and_inside_it_kept() {
        let line = b"Name: \t a \t b\t \r\n";
        let field = field_line(line, 0).unwrap();
        assert_eq!(&line[..field.name_end], b"Name");
        assert_eq!(&line[field.value_start..field.value_end], b"a \t b");
        assert_eq!(field.next, line.len());
        assert_eq!(field_line(b"N:\r\n", 0).unwrap().value_end, 2);
        assert_eq!(field_line(b"N:   \r\n", 0).map(|f| f.value_end - f.value_start), Ok(0));
    }
}
