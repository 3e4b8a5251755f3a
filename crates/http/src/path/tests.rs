use super::*;
use proptest::prelude::*;

fn check(raw: &str, expected: Result<(&str, bool), PathError>) {
    let mut out = Vec::new();
    let normal = normalise(raw, &mut out);
    let normal = normal.map(|normal| (normal.as_bytes(), normal.ends_with_slash()));
    assert_eq!(normal, expected.map(|(path, slash)| (path.as_bytes(), slash)), "{raw:?}");
}

#[test]
fn a_path_has_one_normal_form() {
    check("/", Ok(("", true)));
    check("/a", Ok(("a", false)));
    check("/a/b.c/", Ok(("a/b.c", true)));
    check("//a///b//", Ok(("a/b", true)));
    check("/./a/./b/.", Ok(("a/b", true)));
    check("/a/b/../c", Ok(("a/c", false)));
    check("/a/b/..", Ok(("a", true)));
    check("/a/..", Ok(("", true)));
    check("/a/%2e%2E/b", Ok(("b", false)));
    check("/%61%62/%c3%a4", Ok(("ab/ä", false)));
    check("/...", Ok(("...", false)));
    check("/.a/..b", Ok((".a/..b", false)));
    check("/%20a+b", Ok((" a+b", false)));
    check("/a/%2e", Ok(("a", true)));
}

#[test]
fn a_plain_path_has_nothing_that_could_be_read_otherwise() {
    let is_plain = |raw| normalise(raw, &mut Vec::new()).is_ok_and(|normal| normal.is_plain());
    for raw in ["/", "/a", "/a/", "/a/b.c", "/a/b../c;d=.."] {
        assert!(is_plain(raw), "{raw}");
    }
    for raw in ["//a", "/a//b", "/a//", "/.a", "/..;x", "/a/..;x/b", "/%61", "/a/./b"] {
        assert!(!is_plain(raw), "{raw}");
    }
}

#[test]
fn words_and_bytes_agree_on_what_is_plain() {
    let bytes = b"a/.%\\\0-";
    for len in 0..=20 {
        for at in 0..len {
            for pair in bytes.iter().flat_map(|one| bytes.iter().map(move |two| [*one, *two])) {
                let mut body = vec![b'b'; len];
                body[at..].iter_mut().zip(pair).for_each(|(byte, new)| *byte = new);
                let odd = |around: &[u8]| matches!(around, [_, b'%' | b'\\' | 0] | b"//" | b"/.");
                let path = [b"/".as_slice(), &body].concat();
                let expected = !path.windows(2).any(odd);
                assert_eq!(has_plain_segments(&body), expected, "{}", body.escape_ascii());
            }
        }
    }
    assert!(has_plain_segments(b""));
}

#[test]
fn a_path_is_decoded_once() {
    check("/%252e%252e/a", Ok(("%2e%2e/a", false)));
    check("/%252f", Ok(("%2f", false)));
}

#[test]
fn what_two_readers_take_differently_is_refused() {
    for (raw, error) in [
        ("", PathError::NotAbsolute),
        ("*", PathError::NotAbsolute),
        ("a", PathError::NotAbsolute),
        ("/%", PathError::BadEncoding),
        ("/%4", PathError::BadEncoding),
        ("/%zz", PathError::BadEncoding),
        ("/%u002e", PathError::BadEncoding),
        ("/a%00.php", PathError::Nul),
        ("/a\0", PathError::Nul),
        ("/a%2Fb", PathError::EncodedSlash),
        ("/..%2f", PathError::EncodedSlash),
        ("/a\\b", PathError::Backslash),
        ("/..%5c..", PathError::Backslash),
        ("/..", PathError::AboveRoot),
        ("/a/../..", PathError::AboveRoot),
        ("/%2e%2e/a", PathError::AboveRoot),
        ("//../a", PathError::AboveRoot),
    ] {
        check(raw, Err(error));
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn what_no_file_can_be_called_is_not_found_or_too_long() {
    let segment = "x".repeat(SEGMENT);
    check(&format!("/{segment}"), Ok((&segment, false)));
    check(&format!("/{segment}x"), Err(PathError::SegmentTooLong));
    check(&format!("/{segment}%78"), Err(PathError::SegmentTooLong));
    let encoded = "%78".repeat(SEGMENT);
    check(&format!("/{encoded}"), Ok((&segment, false)));
    let long = "/x".repeat(PATH / 2 + 1);
    check(&long, Err(PathError::TooLong));
    check(&format!("{}/", &long[..PATH]), Ok((&long[1..PATH], true)));
    assert_eq!((PathError::SegmentTooLong.status(), PathError::TooLong.status()), (404, 414));
}

#[test]
fn a_normal_path_is_borrowed() {
    let mut out = b"untouched".to_vec();
    let raw = "/a/b/";
    let normal = normalise(raw, &mut out).unwrap();
    assert_eq!(normal.as_bytes().as_ptr(), raw[1..].as_ptr());
    assert_eq!(normal.segments().collect::<Vec<_>>(), [b"a", b"b"]);
    assert_eq!(out, b"untouched");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn what_is_taken_as_it_came_is_what_would_be_written(
        body in "([a.%/]|bc/|/\\.|\\\\|\0|\\.\\.|[ -~]){0,12}",
        long in prop::option::weighted(0.1, 250usize..260),
    ) {
        let body = format!("{body}{}", "x".repeat(long.unwrap_or_default()));
        let mut out = Vec::new();
        let written = write(body.as_bytes(), &mut out, true);
        let general = already_normal_of_any(body.as_bytes());
        for taken in [already_normal(body.as_bytes()), general].into_iter().flatten() {
            prop_assert_eq!(Ok(taken), written);
        }
        if has_plain_segments(body.as_bytes()) && body.len() <= SEGMENT {
            prop_assert!(general.is_some());
        }
    }

    #[test]
    fn a_normal_form_is_safe_and_its_own_normal_form(raw in "/([a.%/]|%2e|%2E|%2f|%25|%00|\\\\|bc|[ -~]){0,12}") {
        let mut out = Vec::new();
        if let Ok(normal) = normalise(&raw, &mut out) {
            let path = normal.as_bytes();
            let joined: Vec<_> = path.split(|&b| b == b'/').collect();
            prop_assert!(path.is_empty() || joined.iter().all(|s| !matches!(s, &b"" | &b"." | &b"..")));
            prop_assert!(!path.contains(&0) && !path.contains(&b'\\'));
            prop_assert!(!normal.is_root() || normal.ends_with_slash());
            let encoded: String = path.iter().map(|&b| if b == b'/' { "/".into() } else { format!("%{b:02x}") }).collect();
            let slash = if normal.ends_with_slash() && !normal.is_root() { "/" } else { "" };
            let mut again = Vec::new();
            let encoded = format!("/{encoded}{slash}");
            prop_assert_eq!(normalise(&encoded, &mut again), Ok(normal));
        }
    }
}

#[test]
fn what_is_passed_on_may_have_names_that_no_file_has() {
    let onward = |raw: &str| {
        let mut out = Vec::new();
        normalise_onward(raw, &mut out).map(|path| path.as_bytes().escape_ascii().to_string())
    };
    assert_eq!(onward("/npm/@a%2fb").unwrap(), "npm/@a%2Fb");
    // A `%` that was encoded is not taken for the one of an encoded slash: it has lost its `25`,
    // and so has no other reading than to whoever decodes twice.
    assert_eq!(onward("/a/%2e%2e/%2F/b/").unwrap(), "%2F/b");
    assert_eq!(onward("/a%2F../b").unwrap(), "a%2F../b", "one segment, as it came");
    let long = "x".repeat(PATH + 1);
    assert_eq!(onward(&format!("/{long}")).unwrap(), long);
    for bad in ["/%00", "/%5c", "/a\\b", "/%2", "/..", "/a/../..", "*"] {
        assert!(onward(bad).is_err(), "{bad}");
    }
}
