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
#[derive(Clone, Copy, Debug)]
pub struct Normal<'a> {
    path: &'a [u8],
    ends_with_slash: bool,
    is_plain: bool,
}

/// How it was sent is no part of it.
impl PartialEq for Normal<'_> {
    fn eq(&self, other: &Self) -> bool {
        (self.path, self.ends_with_slash) == (other.path, other.ends_with_slash)
    }
}

impl Eq for Normal<'_> {}

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

    /// Whether it was sent so, and no segment of it begins with a dot: then nobody finds another
    /// path in what was sent.
    pub(crate) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// The segments, from the root down; none for the root.
    pub fn segments(&self) -> impl Iterator<Item = &'a [u8]> {
        self.path.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty())
    }
}

/// The normal form of a raw path that has it already, as nearly all do: what [`normalise`] gives
/// for it, for as long as the path itself is there.
#[must_use]
pub fn normal_as_sent(raw: &str) -> Option<Normal<'_>> {
    already_normal(raw.as_bytes().strip_prefix(b"/")?)
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
    write(body, out, true)
}

/// As [`normalise`], for a path that is passed on and that no file is to have: its length and that
/// of its segments have no bound, and an encoded slash stays encoded, as `%2F`, part of its segment
/// (RFC 3986 section 2.2). Applications have such names: a package `@scope%2Fname`, a project
/// `group%2Fproject`, a token of a thousand bytes.
///
/// # Errors
/// See [`PathError`].
pub fn normalise_onward<'a>(raw: &'a str, out: &'a mut Vec<u8>) -> Result<Normal<'a>, PathError> {
    let body = raw.as_bytes().strip_prefix(b"/").ok_or(PathError::NotAbsolute)?;
    write(body, out, false)
}

/// Writes the normal form of a path without its leading slash; `file`: a file is to have it.
fn write<'a>(body: &[u8], out: &'a mut Vec<u8>, file: bool) -> Result<Normal<'a>, PathError> {
    out.clear();
    let mut ends_with_slash = true;
    for segment in body.split(|&byte| byte == b'/') {
        let parent = out.len();
        if parent > 0 {
            out.push(b'/');
        }
        let start = out.len();
        decode(segment, out, file)?;
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
            segment if file && segment.len() > SEGMENT => return Err(PathError::SegmentTooLong),
            _ => false,
        };
        if file && out.len() > PATH {
            return Err(PathError::TooLong);
        }
    }
    Ok(Normal { path: out, ends_with_slash, is_plain: false })
}

/// The path without its leading slash, if nothing in it needs a change or an error.
fn already_normal(body: &[u8]) -> Option<Normal<'_>> {
    // Most are short, and no segment of theirs begins with a dot: one look from byte to byte.
    if body.len() <= SEGMENT && has_plain_segments(body) {
        let path = body.strip_suffix(b"/").unwrap_or(body);
        let ends_with_slash = body.is_empty() || path.len() < body.len();
        return Some(Normal { path, ends_with_slash, is_plain: true });
    }
    already_normal_of_any(body)
}

/// Whether no segment is empty but the last, none begins with a dot, and no byte has to be decoded
/// or refused.
fn has_plain_segments(body: &[u8]) -> bool {
    let mut words = body.chunks_exact(8);
    // The slash in front of it.
    let mut slash = 0x80;
    for word in &mut words {
        let word = word.first_chunk().map_or(0, |word| u64::from_le_bytes(*word));
        match slashes_if_plain(word, slash) {
            Some(last) => slash = last,
            None => return false,
        }
    }
    let rest = words.remainder();
    let word = match (rest, body.last_chunk(), rest.first_chunk::<4>(), rest.last_chunk::<4>()) {
        ([], ..) => return true,
        // What it has besides was looked at, with what is before it.
        (_, Some(word), ..) => return slashes_if_plain(u64::from_le_bytes(*word), 0).is_some(),
        (_, _, Some(first), Some(last)) => {
            let [first, last] = [first, last].map(|half| u64::from(u32::from_le_bytes(*half)));
            first | last << (8 * (rest.len() - 4))
        }
        _ => rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte)),
    };
    // Anything that is plain stands for what is not there.
    slashes_if_plain(word | (ONES * u64::from(b'a')) << (8 * rest.len()), slash).is_some()
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// Whether the last of eight bytes is a slash, if they are plain behind what has ended with one or
/// not. A byte that is looked for marks those behind it that differ in the lowest bit alone, too:
/// with a slash and a dot that is nothing but another reason to look closer.
#[inline(always)]
fn slashes_if_plain(word: u64, before: u64) -> Option<u64> {
    let equal = |byte: u8| {
        let zero = word ^ (ONES * u64::from(byte));
        zero.wrapping_sub(ONES) & !zero & TOPS
    };
    let slashes = equal(b'/');
    let begins = slashes << 8 | before;
    let odd = equal(b'%') | equal(b'\\') | equal(0) | (begins & (slashes | equal(b'.')));
    (odd == 0).then_some(slashes >> 56)
}

fn already_normal_of_any(body: &[u8]) -> Option<Normal<'_>> {
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
    Some(Normal { path, ends_with_slash, is_plain: false })
}

/// Appends a segment with its percent-encodings resolved. RFC 3986 section 2.1.
fn decode(segment: &[u8], out: &mut Vec<u8>, file: bool) -> Result<(), PathError> {
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
            b'/' if file => return Err(PathError::EncodedSlash),
            b'/' => out.extend_from_slice(b"%2F"),
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
