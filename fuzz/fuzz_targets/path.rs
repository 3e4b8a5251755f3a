//! A path has one normal form. The oracle decodes everything, then walks a stack of segments: no
//! borrowed fast path, no truncation in place.
//!
//! Input: the raw path, UTF-8.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::{Corpus, fuzz_target};
use sluicegate_http::path::{PATH, SEGMENT};
use sluicegate_http::{PathError, normalise};

fuzz_target!(|input: &[u8]| -> Corpus {
    let Ok(raw) = str::from_utf8(input) else {
        return Corpus::Reject;
    };
    // What an earlier request left must not show.
    let mut out = b"left/over".to_vec();
    let normal = normalise(raw, &mut out);
    let expected = oracle(raw.as_bytes());
    assert_eq!(
        normal.map(|normal| (normal.as_bytes().to_vec(), normal.ends_with_slash())),
        expected,
        "another reading of the path"
    );
    let Ok(normal) = normal else {
        return Corpus::Keep;
    };

    let path = normal.as_bytes();
    assert!(path.len() <= PATH);
    assert!(!path.contains(&0) && !path.contains(&b'\\'), "a NUL or a backslash got through");
    assert_eq!(normal.is_root(), path.is_empty());
    assert!(!normal.is_root() || normal.ends_with_slash());
    let segments: Vec<_> = normal.segments().collect();
    assert_eq!(segments.join(&b'/'), path, "a slash at an end, or two together");
    for segment in &segments {
        assert!(!matches!(segment, &b"" | &b"." | &b".."), "a segment that leads elsewhere");
        assert!(segment.len() <= SEGMENT);
    }

    let mut encoded = String::from("/");
    for &byte in path {
        match byte {
            b'/' => encoded.push('/'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    if normal.ends_with_slash() && !normal.is_root() {
        encoded.push('/');
    }
    let mut again = Vec::new();
    assert_eq!(normalise(&encoded, &mut again), Ok(normal), "the normal form is not its own");
    Corpus::Keep
});

/// Segments joined by slashes, and whether the path named a directory.
fn oracle(raw: &[u8]) -> Result<(Vec<u8>, bool), PathError> {
    let [b'/', body @ ..] = raw else {
        return Err(PathError::NotAbsolute);
    };
    let mut stack: Vec<Vec<u8>> = Vec::new();
    // Bytes of the segments, each with a slash before it.
    let mut len = 0;
    let mut directory = false;
    for segment in body.split(|&byte| byte == b'/') {
        let segment = decode(segment)?;
        directory = matches!(segment.as_slice(), b"" | b"." | b"..");
        match segment.as_slice() {
            b"" | b"." => {}
            b".." => len -= 1 + stack.pop().ok_or(PathError::AboveRoot)?.len(),
            long if long.len() > SEGMENT => return Err(PathError::SegmentTooLong),
            _ => {
                len += 1 + segment.len();
                stack.push(segment);
            }
        }
        if len > 1 + PATH {
            return Err(PathError::TooLong);
        }
    }
    Ok((stack.join(&b'/'), directory))
}

/// Resolves the percent-encodings of one segment; the first bad byte names the error.
fn decode(segment: &[u8]) -> Result<Vec<u8>, PathError> {
    let mut decoded = Vec::new();
    let mut at = 0;
    while at < segment.len() {
        let mut byte = segment[at];
        at += 1;
        if byte == b'%' {
            let digits =
                segment.get(at..at + 2).filter(|two| two.iter().all(u8::is_ascii_hexdigit));
            byte = digits
                .and_then(|two| u8::from_str_radix(str::from_utf8(two).ok()?, 16).ok())
                .ok_or(PathError::BadEncoding)?;
            at += 2;
        }
        match byte {
            0 => return Err(PathError::Nul),
            b'/' => return Err(PathError::EncodedSlash),
            b'\\' => return Err(PathError::Backslash),
            _ => decoded.push(byte),
        }
    }
    Ok(decoded)
}
