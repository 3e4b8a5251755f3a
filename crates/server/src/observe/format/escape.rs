//! What clients have written, as it may stand in a line.

/// Bytes looked at at a time.
const CHUNK: usize = 16;

/// Whether a byte stands for itself in both formats: printable ASCII but the
/// quotation mark and the backslash.
fn is_plain(byte: u8) -> bool {
    (b' '..0x7f).contains(&byte) & (byte != b'"') & (byte != b'\\')
}

/// Whether all bytes stand for themselves: nearly always.
fn is_all_plain(bytes: &[u8]) -> bool {
    let mut chunks = bytes.chunks_exact(CHUNK);
    // Without a way out in the middle of a chunk, so that it is looked at as a whole.
    chunks.all(|chunk| chunk.iter().fold(true, |plain, &byte| plain & is_plain(byte)))
        && chunks.remainder().iter().all(|&byte| is_plain(byte))
}

/// Appends `bytes` as nginx escapes them in a line, and Apache's readers take
/// them: quotation mark, backslash, and what is no printable ASCII as `\xHH`.
pub(super) fn push_line(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_all_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    for &byte in bytes {
        if is_plain(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(b"\\x");
            push_hex(out, byte, b"0123456789ABCDEF");
        }
    }
}

/// Appends `bytes` as the inside of a JSON string (RFC 8259 section 7). Bytes
/// that are no UTF-8 become the character of their number: `\u00e9` for 0xe9,
/// so that the line is valid and the byte can be told.
pub(super) fn push_json(out: &mut Vec<u8>, bytes: &[u8]) {
    if is_all_plain(bytes) {
        return out.extend_from_slice(bytes);
    }
    for chunk in bytes.utf8_chunks() {
        for &byte in chunk.valid().as_bytes() {
            match byte {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
                0..b' ' | 0x7f => push_unicode(out, byte),
                _ => out.push(byte),
            }
        }
        for &byte in chunk.invalid() {
            push_unicode(out, byte);
        }
    }
}

fn push_unicode(out: &mut Vec<u8>, byte: u8) {
    out.extend_from_slice(b"\\u00");
    push_hex(out, byte, b"0123456789abcdef");
}

fn push_hex(out: &mut Vec<u8>, byte: u8, digits: &[u8; 16]) {
    out.push(digits[usize::from(byte >> 4)]);
    out.push(digits[usize::from(byte & 15)]);
}
