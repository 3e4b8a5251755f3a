//! An upstream reads no other path than the one that the route was chosen by.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// The target that goes on of a GET for `target`.
fn target(target: &str, strip: &str) -> Result<String, Refusal> {
    let rules = RequestRules::new(HostOf::Client, Forwarded::Off, strip.as_bytes(), false);
    let sent = sent_by(None, &format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n"), &rules)?;
    Ok(sent.split(' ').nth(1).unwrap().to_owned())
}

#[test]
fn segments_keep_their_bytes_and_only_those_of_the_normal_form_go_on() {
    for (came, strip, goes) in [
        ("/", "", "/"),
        ("/a/b?c=/../d&e=%2e?", "", "/a/b?c=/../d&e=%2e?"),
        ("/a?", "", "/a?"),
        ("/a%20b/%7Euser/x%3By;z", "", "/a%20b/%7Euser/x%3By;z"),
        ("/a//b/http://c/", "", "/a//b/http://c/"),
        ("//h/a", "", "/h/a"),
        ("///h//a", "", "/h//a"),
        ("//", "", "/"),
        ("/a/../b", "", "/b"),
        ("/a/..", "", "/"),
        ("/a/b/..", "", "/a/"),
        ("/a/.", "", "/a/"),
        ("/a/./b//c/%2e/d", "", "/a/b/c/d"),
        ("/a%20/%2e%2E/%7eb/.%2e/c", "", "/c"),
        ("/a/b%2d/%2E./c", "", "/a/c"),
        ("/..a/.b/c./...", "", "/..a/.b/c./..."),
        ("/%2e%2ea/", "", "/%2e%2ea/"),
        ("/%252e%252e/a", "", "/%252e%252e/a"),
        ("http://h//a/../b/c?d", "", "/b/c?d"),
        ("http://h?d", "", "/?d"),
        ("/app/x?y", "app", "/x?y"),
        ("/app", "app", "/"),
        ("/app?y", "app", "/?y"),
        ("/app/", "app", "/"),
        ("/apple/x", "app", "/apple/x"),
        ("/%61pp/%78", "app", "/%78"),
        ("//app//x//y", "app", "/x//y"),
        ("/app/../app/x/../y", "app", "/y"),
        ("/app/..", "app", "/"),
        ("/x/../app/", "app", "/"),
        ("/a/b/c", "a/b", "/c"),
        ("/a//b//c/", "a/b", "/c/"),
        ("/a/b", "a/b", "/"),
    ] {
        assert_eq!(target(came, strip), Ok(goes.to_owned()), "{came} without {strip:?}");
    }
    for refused in ["/a/..;/b", "/a/..;x=y/b", "/.;/b", "/a/%2e%2e%3bx/b", "/a/.%2E;"] {
        assert_eq!(target(refused, ""), Err(Refusal::DotSegment), "{refused}");
    }
    // What the normal form of files refuses may come as well, from who knows better.
    let onward = |raw: &str| {
        let head = request(&format!("GET {raw} HTTP/1.1\r\nHost: h\r\n\r\n"));
        let (mut room, mut out) = (Vec::new(), Vec::new());
        let path = normalise("/app/x", &mut room).unwrap();
        target::write(&mut out, &head, &path, b"app").map(|()| String::from_utf8(out).unwrap())
    };
    assert_eq!(onward("/app/@a%2fb/c%2F..d"), Ok("/@a%2fb/c%2F..d".to_owned()));
    assert_eq!(onward("/app/x/../@a%252f..%2Fb"), Ok("/@a%252f..%2Fb".to_owned()));
    for hidden in ["/app/..%2fb", "/app/a%2F%2e./b", "/app/a%2f.", "/app/%2F..;x%2F", "/app/.%2Fb"]
    {
        assert_eq!(onward(hidden), Err(Refusal::DotSegment), "{hidden}");
    }
    let head = request("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n");
    let mut room = Vec::new();
    let path = normalise("/", &mut room).unwrap();
    let mut out = Vec::new();
    assert_eq!(target::write(&mut out, &head, &path, b""), Err(Refusal::NoPath));
}

const PIECES: &[&str] = &[
    "/", "/", "/", ".", "..", "%2e", "%2E", "a", "app", "%61pp", "b", "%25", "%3b", ";", "%20",
    "x", "%2F", "%2f", "%252F",
];

/// A normal form, as its segments would be written without any encoding.
fn normal(path: &str) -> Option<(Vec<u8>, bool)> {
    let mut room = Vec::new();
    let normal = normalise_onward(path, &mut room).ok()?;
    Some((normal.as_bytes().to_vec(), normal.ends_with_slash()))
}

/// As an upstream reads it to which an encoded slash is one.
fn with_slashes(path: &str) -> String {
    path.replace("%2F", "/").replace("%2f", "/")
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8000))]

    #[test]
    fn the_path_that_goes_on_has_the_normal_form_that_came_without_its_prefix(
        pieces in prop::collection::vec(select(PIECES), 0..12),
        strip in select(&["", "app", "a", "app/b", "b/a/b"][..]),
    ) {
        let came = format!("/{}", pieces.concat());
        let Some((path, ends_with_slash)) = normal(&came) else { return Ok(()) };
        let Ok(goes) = target(&came, strip) else {
            prop_assert!([";", "%3b", "%2F", "%2f"].iter().any(|odd| came.contains(odd)));
            return Ok(());
        };
        prop_assert!(goes.starts_with('/') && !goes.starts_with("//"), "{} of {}", goes, came);
        let Some((after, and_slash)) = normal(&goes) else { panic!("{goes} of {came}") };
        // RFC 3986 section 5.2.4 without decoding, as an upstream may: nothing is left to remove.
        prop_assert!(goes.split('/').all(|segment| !matches!(segment, "." | "..")));
        let prefix = format!("{strip}/");
        let whole = [path.as_slice(), b"/"].concat();
        let expected = match whole.strip_prefix(prefix.as_bytes()) {
            Some(rest) if !strip.is_empty() => rest.strip_suffix(b"/").unwrap_or(rest),
            _ => &path,
        };
        prop_assert_eq!(&after, expected, "{} of {}", goes, came);
        prop_assert!(after.is_empty() || and_slash == ends_with_slash);

        // Who decodes slashes first finds no segment that leads elsewhere.
        let decoded = with_slashes(&goes);
        let segments = decoded.split('/').filter(|segment| !segment.is_empty());
        let Some((flat, _)) = normal(&decoded) else { panic!("{goes} of {came}") };
        let count = flat.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty()).count();
        prop_assert_eq!(count, segments.count(), "{} of {}", goes, came);
    }
}
