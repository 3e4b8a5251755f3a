//! The target that an upstream is asked for.
//!
//! The route was chosen by the path's normal form, so the upstream must not be able to read another
//! path out of what it gets. Yet encodings are kept, because `%3B` and `;` are different things to
//! an upstream: a path goes on segment by segment in the bytes that it came in, and where there is
//! a `.` or `..` among them (encoded or not), or a slash too many at the beginning, only the segments
//! of the normal form go on. `//` within a path without dot segments stays: some upstreams find a
//! URL there. Who decodes `%2F` before he looks for dot segments must not find any: a path with such
//! a one goes nowhere. The query goes on as it came.

use memchr::memmem;

use crate::{Method, Normal, RequestHead, TargetForm};

/// Why a request is not passed on. The connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A segment that some upstreams read as `.` or `..`: with a path parameter behind the dots, or
    /// beside an encoded slash.
    #[error("the path has a hidden dot segment")]
    DotSegment,
    /// CONNECT, or a target that names no path.
    #[error("the target names no path")]
    NoPath,
    /// TRACE, which would show the client what we add to its request.
    #[error("TRACE is not passed on")]
    Trace,
    /// OPTIONS with Max-Forwards: 0. RFC 9110 section 7.6.2: to be answered by whoever gets it.
    #[error("the request is to go no further")]
    LastHop,
}

impl Refusal {
    /// The status code of the answer.
    #[must_use]
    pub fn status(self) -> u16 {
        match self {
            Self::DotSegment | Self::NoPath => 400,
            Self::Trace => 405,
            Self::LastHop => 204,
        }
    }
}

/// Appends the target in origin-form (RFC 9112 section 3.2.1), without `strip` at the beginning of
/// its path.
pub(super) fn write(
    out: &mut Vec<u8>,
    head: &RequestHead,
    normal: &Normal<'_>,
    strip: &[u8],
) -> Result<(), Refusal> {
    let is_path = matches!(head.target_form(), TargetForm::Origin | TargetForm::Absolute);
    if !is_path || head.method() == Method::Connect {
        return Err(Refusal::NoPath);
    }
    let raw = head.path().as_bytes();
    let mark = out.len();
    let drop = stripped(normal.as_bytes(), strip);
    // Most have neither, which takes one look.
    let is_plain = memchr::memchr2(b'%', b'.', raw).is_none();
    if !is_plain && hides_dots(raw) {
        return Err(Refusal::DotSegment);
    }
    if !is_plain && has_dots(raw) {
        rewrite(out, raw)?;
        if drop > 0 {
            let written = out.split_off(mark);
            out.extend_from_slice(without(&written, drop));
        }
    } else {
        out.extend_from_slice(without(raw, drop));
    }
    if let Some(query) = head.query() {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    Ok(())
}

/// How many segments `strip` takes off the normal form `path`: whole ones at its beginning.
fn stripped(path: &[u8], strip: &[u8]) -> usize {
    let is_beneath = path.strip_prefix(strip).is_some_and(|rest| matches!(rest, [] | [b'/', ..]));
    if strip.is_empty() || !is_beneath {
        return 0;
    }
    strip.split(|&byte| byte == b'/').count()
}

/// `path` (which begins with a slash) without its first `segments`; begins with one slash.
fn without(path: &[u8], segments: usize) -> &[u8] {
    let mut rest = path;
    for left in (0..=segments).rev() {
        while rest.starts_with(b"//") {
            rest = rest.get(1..).unwrap_or_default();
        }
        if left == 0 {
            break;
        }
        let body = rest.get(1..).unwrap_or_default();
        rest = memchr::memchr(b'/', body).and_then(|at| body.get(at..)).unwrap_or(b"/");
    }
    rest
}

/// Whether a segment may be a dot segment, or something that looks like one.
fn has_dots(raw: &[u8]) -> bool {
    if memmem::find(raw, b"/.").is_none() && memchr::memchr(b'%', raw).is_none() {
        return false;
    }
    raw.split(|&byte| byte == b'/').any(may_be_dots)
}

fn may_be_dots(segment: &[u8]) -> bool {
    let (dots, rest) = dots(segment);
    dots > 0 && matches!(first(rest), None | Some((b';', _)))
}

/// Whether there is a dot segment between two slashes of which one is encoded.
fn hides_dots(raw: &[u8]) -> bool {
    let is_slash = |three: &[u8]| three.eq_ignore_ascii_case(b"%2f");
    let has_slash = |segment: &[u8]| segment.windows(3).any(is_slash);
    if memchr::memchr(b'%', raw).is_none() || !has_slash(raw) {
        return false;
    }
    raw.split(|&byte| byte == b'/').filter(|segment| has_slash(segment)).any(|segment| {
        let mut rest = segment;
        while let Some(at) = rest.windows(3).position(is_slash) {
            let (piece, tail) = rest.split_at(at);
            if may_be_dots(piece) {
                return true;
            }
            rest = tail.get(3..).unwrap_or_default();
        }
        may_be_dots(rest)
    })
}

/// The first byte of a segment, decoded, and what follows it.
fn first(segment: &[u8]) -> Option<(u8, &[u8])> {
    let hex = |digit: &u8| char::from(*digit).to_digit(16);
    match segment {
        [b'%', high, low, rest @ ..] => match (hex(high), hex(low)) {
            (Some(high), Some(low)) => Some(((high << 4 | low) as u8, rest)),
            _ => Some((b'%', segment.get(1..)?)),
        },
        [byte, rest @ ..] => Some((*byte, rest)),
        [] => None,
    }
}

/// Dots at the beginning of a segment, at most two, and what is behind them.
fn dots(segment: &[u8]) -> (usize, &[u8]) {
    let mut rest = segment;
    for count in 0..2 {
        match first(rest) {
            Some((b'.', tail)) => rest = tail,
            _ => return (count, rest),
        }
    }
    (2, rest)
}

/// Appends the segments of the normal form in the bytes that they came in.
fn rewrite(out: &mut Vec<u8>, raw: &[u8]) -> Result<(), Refusal> {
    let root = out.len();
    let body = raw.strip_prefix(b"/").unwrap_or(raw);
    let mut ends_with_slash = true;
    for segment in body.split(|&byte| byte == b'/') {
        let (count, rest) = dots(segment);
        ends_with_slash = match (count, first(rest)) {
            // `/..;x=y/` is `..` to Tomcat and its like, which take parameters off first.
            (1.., Some((b';', _))) => return Err(Refusal::DotSegment),
            (0, None) | (1, None) => true,
            (2, None) => {
                let written = out.get(root..).unwrap_or_default();
                let parent = memchr::memrchr(b'/', written).unwrap_or(0);
                out.truncate(root + parent);
                true
            }
            _ => {
                out.push(b'/');
                out.extend_from_slice(segment);
                false
            }
        };
    }
    if ends_with_slash || out.len() == root {
        out.push(b'/');
    }
    Ok(())
}
