use super::*;
use proptest::prelude::*;

fn check(raw: &str, expected: Result<(&str, bool), PathError>) {
    let mut out = Vec::new();
    let normal = normalise(raw, &mut out);
    let expected =
        expected.map(|(path, ends_with_slash)| Normal { path: path.as_bytes(), ends_with_slash });
    assert_eq!(normal, expected, "{raw:?}");
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
