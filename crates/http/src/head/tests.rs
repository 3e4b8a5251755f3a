use super::*;
use crate::{HeadScanner, Scan};
use proptest::prelude::*;

fn parse(text: &str) -> Result<RequestHead, Offence> {
    let mut head = RequestHead::new();
    head.parse(text.as_bytes(), &Limits::default()).map(|()| head)
}

#[test]
fn a_head_gives_back_what_was_sent() {
    let head = parse("PUT /a/b?c=d HTTP/1.1\r\nhOsT: x.test:8\r\nX-Empty:\r\nAccept:  a ,\t b \r\naccept: c\r\n\r\n").unwrap();
    assert_eq!(
        (head.method(), head.method_str(), head.version()),
        (Method::Put, "PUT", Version::Http11)
    );
    assert_eq!((head.target(), head.path(), head.query()), ("/a/b?c=d", "/a/b", Some("c=d")));
    assert_eq!(head.host(), Some("x.test:8"));
    assert_eq!(head.header("x-empty"), Some(b"".as_slice()));
    assert_eq!(head.header("absent"), None);
    assert_eq!(head.known(Known::Accept), Some(b"a ,\t b".as_slice()));
    assert_eq!((head.count(Known::Accept), head.count(Known::Range)), (2, 0));
    assert_eq!(head.members(Known::Accept).collect::<Vec<_>>(), [b"a", b"b", b"c"]);
    assert_eq!(head.members(Known::Range).count(), 0);
    assert!(head.has_token(Known::Accept, "C"));
    let names: Vec<_> = head.headers().map(|(name, _)| name).collect();
    assert_eq!(names, ["hOsT", "X-Empty", "Accept", "accept"]);
}

#[test]
fn the_host_of_an_absolute_target_wins_over_the_header() {
    let head = parse("GET http://real.test:81?q HTTP/1.1\r\nHost: other.test\r\n\r\n").unwrap();
    assert_eq!((head.host(), head.path(), head.query()), (Some("real.test:81"), "/", Some("q")));
    assert_eq!(head.target(), "http://real.test:81?q");
    let head = parse("OPTIONS * HTTP/1.1\r\nHost:\r\n\r\n").unwrap();
    assert_eq!((head.host(), head.path(), head.target_form()), (None, "*", TargetForm::Asterisk));
    let head = parse("CONNECT a:443 HTTP/1.1\r\nHost: b\r\n\r\n").unwrap();
    assert_eq!((head.host(), head.path()), (Some("a:443"), ""));
}

#[test]
fn a_host_name_is_the_host_without_its_port() {
    for (host, name) in [
        ("a.test", Some("a.test")),
        ("a.test:80", Some("a.test")),
        ("a:", Some("a")),
        ("[::1]", Some("[::1]")),
        ("[::1]:80", Some("[::1]")),
        ("", None),
    ] {
        let head = parse(&format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n")).unwrap();
        assert_eq!(head.host_name(), name, "{host}");
    }
}

#[test]
fn a_reused_head_keeps_nothing_of_the_request_before() {
    let mut head = parse("POST http://a/b?c HTTP/1.0\r\nHost: a\r\nRange: x\r\n\r\n").unwrap();
    head.parse(b"GET /d HTTP/1.1\r\nhost: e\r\n\r\n", &Limits::default()).unwrap();
    assert_eq!(
        (head.target(), head.host(), head.query(), head.known(Known::Range)),
        ("/d", Some("e"), None, None)
    );
    assert_eq!(head.headers().count(), 1);
    assert_eq!(
        head.parse(b"GET /d HTTP/1.1\r\nHost: e\r\nRange: y\r\nbad\r\n\r\n", &Limits::default()),
        Err(Offence::BadHeaderName)
    );
    assert_eq!((head.target(), head.headers().count(), head.known(Known::Range)), ("", 0, None));
}

#[test]
fn a_higher_minor_version_is_1_1_and_another_major_is_refused() {
    assert_eq!(
        parse("GET / HTTP/1.9\r\nHost: a\r\n\r\n").map(|head| head.version()),
        Ok(Version::Http11)
    );
    assert_eq!(parse("GET / HTTP/1.0\r\n\r\n").map(|head| head.version()), Ok(Version::Http10));
    assert_eq!(parse("PRI * HTTP/2.0\r\n\r\n").map(|_| ()), Err(Offence::UnsupportedVersion));
}

#[test]
fn exactly_one_head_is_parsed() {
    for text in [
        "",
        "GET",
        "GET / HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\r",
        "GET / HTTP/1.1\r\nHost: a\r\n\r\nx",
    ] {
        assert!(parse(text).is_err(), "{text:?}");
    }
}

#[test]
fn unknown_and_lower_case_methods_are_other() {
    let head = parse("get / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap();
    assert_eq!((head.method(), head.method_str()), (Method::Other, "get"));
}

/// Method, target, and fields in their order.
type Read = (String, String, Vec<(String, Vec<u8>)>);

/// What httparse makes of a head.
fn peer(bytes: &[u8]) -> Option<Read> {
    let mut headers = [httparse::EMPTY_HEADER; 128];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(len)) if len == bytes.len() => Some((
            request.method?.to_owned(),
            request.path?.to_owned(),
            request
                .headers
                .iter()
                .map(|header| (header.name.to_owned(), header.value.to_vec()))
                .collect(),
        )),
        _ => None,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6000))]

    #[test]
    fn httparse_accepts_and_reads_alike_every_head_that_we_accept(
        message in crate::scan::tests::message(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
    ) {
        let limits = Limits::default();
        let mut bytes = message;
        for (index, byte) in noise {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        let scanned = HeadScanner::new().scan(&bytes, &limits);
        let Ok(Scan::Complete { skip, len }) = scanned else { return Ok(()) };
        let bytes = &bytes[skip..skip + len];
        let mut head = RequestHead::new();
        if head.parse(bytes, &limits).is_ok() {
            // httparse knows 1.0 and 1.1 alone, where RFC 9110 section 2.5 has us take any 1.x.
            let minor = bytes.windows(8).position(|w| w.starts_with(b"HTTP/1.")).map(|at| bytes[at + 7]);
            prop_assume!(matches!(minor, Some(b'0' | b'1')));
            let ours = (
                head.method_str().to_owned(),
                head.target().to_owned(),
                head.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect::<Vec<_>>(),
            );
            prop_assert_eq!(Some(ours), peer(bytes));
            for &known in Known::ALL {
                let named = head.headers().filter(|(name, _)| name.eq_ignore_ascii_case(known.name()));
                let slow: Vec<_> = named.map(|(_, value)| value).collect();
                prop_assert_eq!(head.values(known).collect::<Vec<_>>(), slow);
            }
        }
    }

    /// What is read at once is what the scanner finds and the parser accepts, whatever follows it,
    /// and no head that is far from every limit has to take the long way.
    #[test]
    fn a_head_that_is_read_at_once_is_the_one_that_the_long_way_finds(
        message in crate::scan::tests::message(),
        behind in prop::collection::vec(any::<u8>(), 0..20),
        cut in any::<prop::sample::Index>(),
        noise in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..2),
        is_cut in any::<bool>(),
        line in 8usize..200,
        fields in 0usize..7,
        is_tight in any::<bool>(),
    ) {
        let limits = match is_tight {
            true => Limits {
                request_line: line, header_line: line / 2, head: 2 * line, headers: fields, ..Limits::default()
            },
            false => Limits::default(),
        };
        let mut bytes = message;
        for (index, byte) in noise {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        bytes.extend_from_slice(&behind);
        if is_cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let (mut long, mut at_once) = (RequestHead::new(), RequestHead::new());
        let found = match HeadScanner::new().scan(&bytes, &limits) {
            Ok(Scan::Complete { skip, len }) => {
                long.parse(&bytes[skip..skip + len], &limits).ok().map(|()| (skip, len))
            }
            _ => None,
        };
        match (at_once.parse_at_once(&bytes, &limits), found) {
            (Some(length), found) => {
                prop_assert_eq!(found, Some((0, length)));
                prop_assert_eq!(format!("{at_once:?}"), format!("{long:?}"));
            }
            (None, Some((skip, _))) => prop_assert!(is_tight || skip > 0),
            (None, None) => prop_assert_eq!(at_once.as_bytes(), b""),
        }
    }
}
