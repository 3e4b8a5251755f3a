//! What stands around the data of a chunk when we send one. RFC 9112 section 7.1.

/// Ends a line, and the data of a chunk.
pub const CRLF: &[u8] = b"\r\n";
/// Ends a chunked body that has no trailer fields.
pub const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// The line before a chunk: its size in hexadecimal and CRLF, at most 18 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHead {
    bytes: [u8; 18],
    start: u8,
}

impl ChunkHead {
    /// The bytes to send.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(usize::from(self.start)..).unwrap_or_default()
    }
}

impl AsRef<[u8]> for ChunkHead {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// The line before a chunk of `len` bytes. RFC 9112 section 7.1.
///
/// A length of 0 gives the last chunk's line: trailer fields and an empty line must follow.
#[must_use]
pub fn chunk_head(len: u64) -> ChunkHead {
    let mut head = ChunkHead { bytes: [0; 18], start: 16 };
    head.bytes[16..].copy_from_slice(CRLF);
    let mut rest = len;
    for slot in head.bytes[..16].iter_mut().rev() {
        *slot = b"0123456789abcdef"[(rest & 15) as usize];
        head.start -= 1;
        rest >>= 4;
        if rest == 0 {
            break;
        }
    }
    head
}
