//! The media type of a file, by the end of its name.

use std::borrow::Cow;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// The Content-Type for `path`; `None` where the name tells nothing, so that
/// the client is told nothing that may be wrong (RFC 9110 section 8.3).
///
/// Text is announced as UTF-8, which nearly all of it is; without a charset
/// browsers fall back to a legacy encoding of the reader's region.
pub(super) fn of(path: &[u8]) -> Option<Cow<'static, str>> {
    let guess = mime_guess::from_path(Path::new(OsStr::from_bytes(path))).first_raw()?;
    let text = guess.starts_with("text/") || guess == "application/javascript";
    Some(if text { Cow::Owned(format!("{guess}; charset=utf-8")) } else { Cow::Borrowed(guess) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_types_and_text_tells_its_charset() {
        for (path, expected) in [
            (&b"a/index.html"[..], Some("text/html; charset=utf-8")),
            (b"style.CSS", Some("text/css; charset=utf-8")),
            (b"app.js", Some("text/javascript; charset=utf-8")),
            (b"data.json", Some("application/json")),
            (b"image.svg", Some("image/svg+xml")),
            (b"film.mp4", Some("video/mp4")),
            (b"lib.wasm", Some("application/wasm")),
            (b"README", None),
            (b"\xff\xfe.unknownext", None),
        ] {
            assert_eq!(of(path).as_deref(), expected, "{}", path.escape_ascii());
        }
    }
}
