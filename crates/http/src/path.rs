//! One normal form of a path, made once.
//!
//! Every traversal that servers have shipped came from two readings of one path: checked encoded
//! and opened decoded, or decoded twice. Here a path is decoded once, normalised once, and routes,
//! access rules and `openat` all see the result.

use memchr::{memchr, memchr3};

/// The longest name of a directory entry on Linux (`NAME_MAX`), in bytes.
pub const SEGMENT: usize = 255;
/// The longest path that a system call takes on Linux (`PATH_MAX`), in bytes.
pub const PATH: usize = 4096;

/// Why a path has no normal form, or no file can have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
#[non_exhaustive]
pub enum PathError {
    /// It does not begin with `/` (`*` of OPTIONS, or the empty path of CONNECT).
    #[error("the path does not begin with a slash")]
    NotAbsolute,
    /// A `%` without two hexadecimal digits. RFC 3986 section 2.1.
    #[error("a percent-encoding is malformed")]
    BadEncoding,
    /// NUL: the kernel would open what stands before it.
    #[error("the path has a NUL byte")]
    Nul,
    /// `%2F`: a slash that is data in one reading and a separator in another.
    #[error("the path has an encoded slash")]
    EncodedSlash,
    /// `\`, encoded or not: a separator to some clients and upstreams.
    #[error("the path has a backslash")]
    Backslash,
    /// `..` above the root.
    #[error("the path leads out of its root")]
    AboveRoot,
    /// A segment of more than 255 bytes: no such file can exist.
    #[error("a segment of the path is too long")]
    SegmentTooLong,
    /// More than 4,096 bytes: no system call would take it.
    #[error("the path is too long")]
    TooLong,
}

impl PathError {
    /// The status code of the answer: 400, 404 or 414. None of these ends the connection.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::SegmentTooLong => 404,
            Self::TooLong => 414,
            _ => 400,
        }
    }
}

/// A path in normal form: segments of raw bytes joined by single slashes, none of them empty, `.`
/// or `..`; no slash at either end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Normal<'a> {
    path: &'a [u8],
    ends_with_slash: bool,
}

impl<'a> Normal<'a> {
    /// The bytes, relative to a root directory; empty for the root. Free of NUL and backslash, but
    /// perhaps not UTF-8, and any other control byte may be in it: escape it in logs and headers.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.path
    }

    /// Whether the request named a directory: it ended with `/`, `/.` or `/..`. True for the root.
    #[must_use]
    pub fn ends_with_slash(&self) -> bool {
        self.ends_with_slash
    }

    /// Whether it is the root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.path.is_empty()
    }

    /// The segments, from the root down; none for the root.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> {
        self.path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty())
    }
}

/// Brings a raw path (as in the request target, without the query) into its normal form.
///
/// A path that is already normal, as nearly all are, is borrowed from `raw`; any other is written
/// to `out`, which is cleared first and keeps its allocation.
///
/// # Errors
/// See [`PathError`]; each is an answer to the client and not the end of its connection.
pub fn normalise<'a>(raw: &'a str, out: &'a mut Vec<u8>) -> Result<Normal<'a>, PathError> {
    let body = raw.as_bytes().strip_prefix(b"/").ok_or(PathError::NotAbsolute)?;
    if let Some(normal) = already_normal(body) {
        return Ok(normal);
    }
    out.clear();
    let mut ends_with_slash = true;
    for segment in body.split(|&byte| byte == b'/') {
        let parent = out.len();
        if parent > 0 {
            out.push(b'/');
        }
        let start = out.len();
        decode(segment, out)?;
        // RFC 3986 section 5.2.4, applied to what is decoded: `%2e%2e` is `..` (section 6.2.2.2).
        ends_with_slash = match out.get(start..).unwrap_or_default() {
            // `//` is one slash here as it is in the kernel: two names for one file are two
            // chances for an access rule to miss it.
            b"" | b"." => {
                out.truncate(parent);
                true
            }
            b".." => {
                // RFC 3986 section 5.2.4 would stay at the root. A client that resolves paths
                // itself never sends this, so it is refused.
                if parent == 0 {
                    return Err(PathError::AboveRoot);
                }
                let grandparent =
                    out.get(..parent).and_then(|path| memchr::memrchr(b'/', path)).unwrap_or(0);
                out.truncate(grandparent);
                true
            }
            segment if segment.len() > SEGMENT => return Err(PathError::SegmentTooLong),
            _ => false,
        };
        if out.len() > PATH {
            return Err(PathError::TooLong);
        }
    }
    Ok(Normal { path: out, ends_with_slash })
}

/// The path without its leading slash, if nothing in it needs a change or an error.
fn already_normal(body: &[u8]) -> Option<Normal<'_>> {
    if body.len() > PATH || memchr3(b'%', b'\\', 0, body).is_some() {
        return None;
    }
    let (path, ends_with_slash) = match body.strip_suffix(b"/") {
        Some(path) => (path, true),
        None => (body, body.is_empty()),
    };
    let mut rest = path;
    while !body.is_empty() {
        let end = memchr(b'/', rest).unwrap_or(rest.len());
        match rest.get(..end)? {
            b"" | b"." | b".." => return None,
            segment if segment.len() > SEGMENT => return None,
            _ => {}
        }
        match rest.get(end + 1..) {
            Some(tail) => rest = tail,
            None => break,
        }
    }
    Some(Normal { path, ends_with_slash })
}

/// Appends a segment with its percent-encodings resolved. RFC 3986 section 2.1.
fn decode(segment: &[u8], out: &mut Vec<u8>) -> Result<(), PathError> {
    let mut rest = segment;
    while let [byte, tail @ ..] = rest {
        let (decoded, tail) = match (byte, tail) {
            (b'%', [high, low, tail @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, tail),
                _ => return Err(PathError::BadEncoding),
            },
            (b'%', _) => return Err(PathError::BadEncoding),
            (&byte, tail) => (byte, tail),
        };
        match decoded {
            0 => return Err(PathError::Nul),
            // RFC 3986 section 2.2: an encoded and a raw reserved character are not equivalent, so
            // `%2F` is neither a separator nor a byte that a file name can have.
            b'/' => return Err(PathError::EncodedSlash),
            // Browsers turn `\` into `/` before they send it (WHATWG URL), and some upstreams after
            // they receive it: `..\` that we take for a name is a traversal to them.
            b'\\' => return Err(PathError::Backslash),
            byte => out.push(byte),
        }
        rest = tail;
    }
    Ok(())
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
