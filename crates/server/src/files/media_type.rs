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
    let path = Path::new(OsStr::from_bytes(path));
    let extension = path.extension().unwrap_or_default();
    let newer = NEWER.iter().find(|(of, _)| extension.eq_ignore_ascii_case(of));
    let guess = match newer {
        Some((_, newer)) => newer,
        None => mime_guess::from_path(path).first_raw()?,
    };
    // RFC 7303 section 3.2: XML says itself how it is encoded, and a charset
    // here would override it.
    let text = guess.starts_with("text/") && guess != "text/xml";
    Some(if text { Cow::Owned(format!("{guess}; charset=utf-8")) } else { Cow::Borrowed(guess) })
}

/// What the library does not know yet, or knows in an older form.
const NEWER: [(&str, &str); 9] = [
    // RFC 9239 section 6.
    ("mjs", "text/javascript"),
    // The pieces of HLS and DASH, to which TypeScript's sources give way.
    ("ts", "video/mp2t"),
    ("m4s", "video/iso.segment"),
    // RFC 9512, RFC 9559, RFC 8878, and IANA's register.
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("mkv", "video/matroska"),
    ("zst", "application/zstd"),
    ("deb", "application/vnd.debian.binary-package"),
    ("whl", "application/zip"),
];

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
            (b"module.MJS", Some("text/javascript; charset=utf-8")),
            (b"feed.xml", Some("text/xml")),
            (b"segment-1.ts", Some("video/mp2t")),
            (b"ci.yaml", Some("application/yaml")),
            (b".mjs", None),
            (b"README", None),
            (b"\xff\xfe.unknownext", None),
        ] {
            assert_eq!(of(path).as_deref(), expected, "{}", path.escape_ascii());
        }
    }
}
