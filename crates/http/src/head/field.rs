//! One field line: the rules that heads and trailers share.

use crate::Offence;

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

/// Reads the field line that begins at `start` and ends with CRLF.
pub(crate) fn field_line(bytes: &[u8], start: usize) -> Result<FieldLine, Offence> {
    let rest = bytes.get(start..).unwrap_or_default();
    let name_len = rest.iter().position(|&byte| !is_token_byte(byte)).ok_or(Offence::NotOneHead)?;
    let name_end = start + name_len;
    match (name_len, bytes.get(name_end)) {
        (1.., Some(b':')) => {}
        // RFC 9110 section 5.1: field-name = token, which is one byte at least.
        (0, Some(b':')) => return Err(Offence::EmptyHeaderName),
        // RFC 9112 section 5.2: a server that receives obs-fold MUST refuse it with 400 (or unfold
        // it). Section 2.2 says the same of white space before the first field.
        (0, Some(b' ' | b'\t')) => return Err(Offence::ObsFold),
        (_, Some(b' ' | b'\t')) => {
            let after = rest.iter().skip(name_len).find(|&&byte| !is_space(byte));
            // RFC 9112 section 5.1: a server MUST answer white space before the colon with 400.
            return Err(if after == Some(&b':') {
                Offence::SpaceBeforeColon
            } else {
                Offence::BadHeaderName
            });
        }
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
fn value_end(bytes: &[u8], start: usize) -> usize {
    const ONES: u64 = u64::MAX / 255;
    const TOPS: u64 = ONES << 7;
    let rest = bytes.get(start..).unwrap_or_default();
    let mut at = start;
    // Eight bytes at a time: values are most of a head. A word without a byte below 0x20 and
    // without 0x7f is clean; the others (HTAB included) are looked at byte by byte.
    let (words, _) = rest.as_chunks::<8>();
    for word in words {
        let word = u64::from_le_bytes(*word);
        let del = word ^ (ONES * 0x7f);
        let low = word.wrapping_sub(ONES * 0x20) & !word;
        if (low | (del.wrapping_sub(ONES) & !del)) & TOPS == 0 {
            at += 8;
            continue;
        }
        break;
    }
    while bytes.get(at).is_some_and(|&byte| is_value_byte(byte)) {
        at += 1;
    }
    at
}

/// RFC 9110 section 5.5: VCHAR, obs-text, SP and HTAB.
fn is_value_byte(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

#[cfg(test)]
mod tests {
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
