//! curl: downloads, ranges, resumed downloads, validators, codings, mistakes.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;
use tempfile::TempDir;

use crate::common::Served;
use crate::ways::{LARGE, MIDDLE, SMALL, Ways, way_of};
use crate::{assert_same, assert_whole, program, run, size, succeed};

pub(crate) const SEED: u64 = 11;

/// curl in a directory of its own, in which the content of an answer is the
/// file `out` and its head the file `head`.
pub(crate) struct Curl {
    directory: TempDir,
}

impl Curl {
    pub(crate) fn new() -> Self {
        Curl { directory: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = program("curl", self.directory.path());
        command.args(["--disable", "--silent", "--show-error", "--max-time", "60"]);
        command.args(["--output", "out", "--dump-header", "head"]);
        command.args(["--write-out", "%{http_code} %{size_download}\\n"]).args(args);
        command
    }

    /// The status and the size of what came, as curl tells them.
    pub(crate) fn get(&self, args: &[&str]) -> String {
        // An answer without content leaves the file as it is.
        let _ = std::fs::remove_file(self.path("out"));
        succeed(self.command(args)).trim().to_owned()
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        std::fs::read(self.path("out")).unwrap()
    }

    pub(crate) fn field(&self, name: &str) -> Option<String> {
        let head = std::fs::read_to_string(self.path("head")).unwrap();
        head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then(|| value.to_owned())
        })
    }
}

pub(crate) fn tree() -> Tree {
    let tree = Tree::new().unwrap();
    let tree = tree.file("small", SEED, SMALL).unwrap();
    let tree = tree.file("middle", SEED, MIDDLE).unwrap();
    tree.file("large", SEED, LARGE).unwrap()
}

#[test]
fn files_come_whole_in_each_way_and_version() {
    require!(Need::Program("curl"));
    let (tree, curl) = (tree(), Curl::new());
    let served = Served::with(tree.path(), &[]);
    let mut ways = Ways::default();
    for (name, length) in [("/small", SMALL), ("/middle", MIDDLE), ("/large", LARGE)] {
        let url = served.url(name);
        for version in ["--http1.1", "--http1.0"] {
            assert_eq!(curl.get(&[version, &url]), format!("200 {length}"));
            assert_whole(&curl.path("out"), SEED, length);
            assert_eq!(curl.field("Content-Length"), Some(length.to_string()));
        }
        assert_eq!(curl.get(&["--head", &url]), "200 0");
        assert_eq!(curl.field("Content-Length"), Some(length.to_string()));
        ways = ways.file(length).file(length).answers(1);
    }
    let sent = served.stop();
    ways.assert(sent);
    // Whether the two later requests found it open depends on the workers
    // that they came to.
    assert_eq!(sent.memory + sent.open + sent.opened, 9);
    assert!(sent.opened >= 3, "{sent:?}");
}

#[test]
fn a_range_is_these_bytes_and_no_others() {
    require!(Need::Program("curl"));
    let (tree, curl) = (tree(), Curl::new());
    let served = Served::with(tree.path(), &[]);
    let mut ways = Ways::default();
    for (name, length) in [("/small", SMALL), ("/middle", MIDDLE), ("/large", LARGE)] {
        let half = length / 2;
        for (range, start, end) in [
            ("100-199", 100, 200),
            ("0-0", 0, 1),
            ("-500", length - 500, length),
            (&*format!("{half}-"), half, length),
            (&*format!("1-{length}"), 1, length),
        ] {
            let got = curl.get(&["--range", range, &served.url(name)]);
            assert_eq!(got, format!("206 {}", end - start), "{name} {range}");
            corpus::verify(SEED, start, &curl.content()).unwrap();
            let place = format!("bytes {start}-{}/{length}", end - 1);
            assert_eq!(curl.field("Content-Range"), Some(place));
            ways = ways.file(end - start);
        }
        for range in [format!("{length}-"), "-0".to_owned()] {
            assert!(curl.get(&["--range", &range, &served.url(name)]).starts_with("416 "));
            assert_eq!(curl.field("Content-Range"), Some(format!("bytes */{length}")));
            ways = ways.answers(1);
        }
    }
    ways.assert(served.stop());
}

#[test]
fn several_ranges_come_as_parts_that_name_their_places() {
    require!(Need::Program("curl"));
    let (tree, curl) = (tree(), Curl::new());
    let served = Served::with(tree.path(), &[]);
    let mut ways = Ways::default();
    for (name, length) in [("/small", SMALL), ("/large", LARGE)] {
        // The second is the larger half of the file.
        let second = (200, 200 + length / 2);
        let range = format!("0-99,{}-{},-1", second.0, second.1 - 1);
        let got = curl.get(&["--range", &range, &served.url(name)]);
        let content = curl.content();
        assert_eq!(got, format!("206 {}", content.len()));
        assert_eq!(curl.field("Content-Range"), None);
        let kind = curl.field("Content-Type").unwrap();
        let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let places = parts(&content, boundary, length);
        assert_eq!(places, [(0, 100), second, (length - 1, length)], "{name}");
        ways = ways.file(100).joined(second.1 - second.0).bytes(1).up_to(1, 0);
    }
    ways.assert(served.stop());
}

/// The places of the parts, in order, each verified. RFC 9110 section 14.6.
fn parts(content: &[u8], boundary: &str, length: u64) -> Vec<(u64, u64)> {
    let delimiter = format!("--{boundary}\r\n");
    let mut rest = content.strip_prefix(delimiter.as_bytes()).expect("a first part");
    let mut places = Vec::new();
    loop {
        let end = rest.windows(4).position(|four| four == b"\r\n\r\n").expect("the part's head");
        let head = std::str::from_utf8(&rest[..end]).unwrap();
        let place = head.lines().find_map(|line| line.strip_prefix("Content-Range: bytes "));
        let (range, whole) = place.expect("its place").split_once('/').unwrap();
        assert_eq!(whole, length.to_string());
        let (first, last) = range.split_once('-').unwrap();
        let (start, end_of_range) = (first.parse().unwrap(), last.parse::<u64>().unwrap() + 1);
        let (bytes, after) = rest[end + 4..].split_at((end_of_range - start) as usize);
        corpus::verify(SEED, start, bytes).unwrap();
        places.push((start, end_of_range));
        let after = after.strip_prefix(b"\r\n--").expect("a delimiter");
        let after = after.strip_prefix(boundary.as_bytes()).expect("the boundary");
        if after == b"--\r\n" {
            return places;
        }
        rest = after.strip_prefix(b"\r\n").expect("another part");
    }
}

#[test]
fn a_download_that_was_cut_goes_on_where_it_stopped() {
    require!(Need::Program("curl"));
    let (tree, curl) = (tree(), Curl::new());
    let served = Served::with(tree.path(), &[]);
    // curl gives up after a second, at a rate at which it cannot be done.
    let url = served.url("/large");
    let (status, output) = run(curl.command(&["--limit-rate", "8M", "--max-time", "1", &url]));
    assert_eq!(status.code(), Some(28), "{output}");
    let had = size(&curl.path("out"));
    assert!(had > 0 && had < LARGE, "{had} bytes came within a second");
    let content = way_of(LARGE, served.stop());
    assert!((had..LARGE).contains(&content), "{content} bytes for {had}");

    let served = Served::with(tree.path(), &[]);
    let args = ["--continue-at", "-", &served.url("/large")];
    let got = succeed(curl.command(&args));
    assert_eq!(got.trim(), format!("206 {}", LARGE - had));
    assert_whole(&curl.path("out"), SEED, LARGE);
    // There is nothing left to ask for: 416, which curl takes for success.
    assert!(succeed(curl.command(&args)).starts_with("416 "));
    assert_whole(&curl.path("out"), SEED, LARGE);
    Ways::default().file(LARGE - had).answers(1).assert(served.stop());
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    require!(Need::Program("curl"));
    let (tree, curl) = (tree(), Curl::new());
    let served = Served::with(tree.path(), &[]);
    let mut ways = Ways::default();
    for (name, length) in [("/small", SMALL), ("/large", LARGE)] {
        let url = served.url(name);
        let whole = format!("200 {length}");
        assert_eq!(curl.get(&["--remote-time", "--etag-save", "tag", &url]), whole);
        assert_whole(&curl.path("out"), SEED, length);
        std::fs::rename(curl.path("out"), curl.path("had")).unwrap();
        assert_eq!(curl.get(&["--etag-compare", "tag", &url]), "304 0");
        assert_eq!(curl.get(&["--time-cond", "had", &url]), "304 0");
        assert_eq!(curl.get(&["--time-cond", "3 Feb 2001", &url]), whole);
        assert_eq!(curl.get(&["--time-cond", "-1 Jan 2037", &url]), whole);
        assert!(curl.get(&["--time-cond", "-3 Feb 2001", &url]).starts_with("412 "));
        ways = ways.file(length).file(length).file(length).answers(3);
    }
    ways.assert(served.stop());
}

#[test]
fn compressed_neighbours_decode_to_the_page() {
    require!(Need::Program("curl"), Need::Program("gzip"));
    let line = "<p>The same words, over and over, are soon told.</p>\n";
    let tree = Tree::new().unwrap().text("page.html", line.repeat(9000)).unwrap();
    let page = tree.join("page.html");
    let curl = Curl::new();
    let mut version = program("curl", tree.path());
    version.arg("--version");
    let features = succeed(version);
    let mut codings = Vec::new();
    for (coding, tool, suffix, feature) in [
        ("br", "brotli", "br", "brotli"),
        ("zstd", "zstd", "zst", "zstd"),
        ("gzip", "gzip", "gz", "libz"),
    ] {
        if find_program(tool).is_some() && features.contains(feature) {
            let mut command = program(tool, tree.path());
            command.args(["-k", "page.html"]);
            succeed(command);
            codings.push((coding, size(&tree.join(&format!("page.html.{suffix}")))));
        }
    }
    let served = Served::with(tree.path(), &[]);
    let url = served.url("/page.html");
    let whole = size(&page);
    assert_eq!(curl.get(&[&url]), format!("200 {whole}"));
    assert_same(&curl.path("out"), &page);
    assert_eq!(curl.field("Content-Encoding"), None);
    assert_eq!(curl.field("Vary").as_deref(), Some("Accept-Encoding"));
    let identity = curl.field("ETag").unwrap();
    let mut ways = Ways::default().file(whole);
    for &(coding, length) in &codings {
        assert!(length < whole / 10, "{coding}: {length}");
        let accept = format!("Accept-Encoding: {coding}");
        let got = curl.get(&["--compressed", "--header", &accept, &url]);
        assert!(got.starts_with("200 "), "{got}");
        assert_same(&curl.path("out"), &page);
        assert_eq!(curl.field("Content-Encoding").as_deref(), Some(coding));
        assert_eq!(curl.field("Content-Length"), Some(length.to_string()));
        assert_eq!(curl.field("Content-Type").as_deref(), Some("text/html; charset=utf-8"));
        assert_eq!(curl.field("Vary").as_deref(), Some("Accept-Encoding"));
        assert_ne!(curl.field("ETag").unwrap(), identity);
        // Refused by name, and all others with it.
        let none = format!("Accept-Encoding: {coding};q=0, *;q=0, identity");
        assert_eq!(curl.get(&["--header", &none, &url]), format!("200 {whole}"));
        assert_same(&curl.path("out"), &page);
        ways = ways.file(length).file(whole);
    }
    // All that this curl takes: of those the one that the server likes best.
    curl.get(&["--compressed", &url]);
    assert_same(&curl.path("out"), &page);
    assert_eq!(curl.field("Content-Encoding").as_deref(), Some(codings[0].0));
    ways.file(codings[0].1).assert(served.stop());
}

#[test]
fn odd_requests_are_answered_by_the_letter() {
    require!(Need::Program("curl"));
    let (tree, curl) = (tree(), Curl::new());
    let served = Served::with(tree.path(), &[]);
    let upload = tree.join("small");
    let upload = upload.to_str().unwrap();
    let small = served.url("/small");
    let long = served.url(&format!("/{}", "a".repeat(10_000)));
    let above = served.url("/../etc/passwd");
    let encoded = served.url("/%2e%2e/etc/passwd");
    let new = served.url("/new");
    for (args, status) in [
        (&["--upload-file", upload, &new][..], "405"),
        (&["--data", "a=b", &small], "405"),
        (&["--request", "DELETE", &small], "405"),
        (&["--request", "BREW", &small], "501"),
        (&["--request", "OPTIONS", &small], "204"),
        (&["--request", "OPTIONS", "--request-target", "*", &small], "204"),
        (&[&long], "414"),
        (&["--path-as-is", &above], "400"),
        (&["--path-as-is", &encoded], "400"),
        (&["--header", "Host:", &small], "400"),
        (&["--head", &new], "404"),
    ] {
        let got = curl.get(args);
        assert_eq!(got.split(' ').next(), Some(status), "{args:?}");
        if let "405" | "204" = status {
            assert_eq!(curl.field("Allow").as_deref(), Some("GET, HEAD, OPTIONS"), "{args:?}");
        }
    }
    assert!(!tree.join("new").exists());
    let mut ways = Ways::default().answers(11);
    // RFC 9110 section 14.2: what makes no sense is as if it were not there.
    for range in ["bytes=5-2", "lines=1-2", "bytes=a-b", "bytes=--1", "bytes=0-1,5-2", "bytes="] {
        let got = curl.get(&["--header", &format!("Range: {range}"), &small]);
        assert_eq!(got, format!("200 {SMALL}"), "{range}");
        corpus::verify(SEED, 0, &curl.content()).unwrap();
        ways = ways.file(SMALL);
    }
    for (range, status, content_range) in [
        ("bytes=-0", "416", format!("bytes */{SMALL}")),
        ("bytes=99999999999999999999-", "416", format!("bytes */{SMALL}")),
        ("bytes=-99999999999999999999", "206", format!("bytes 0-{}/{SMALL}", SMALL - 1)),
        ("BYTES=0-1,99999999-", "206", format!("bytes 0-1/{SMALL}")),
    ] {
        let got = curl.get(&["--header", &format!("Range: {range}"), &small]);
        assert_eq!(got.split(' ').next(), Some(status), "{range}");
        assert_eq!(curl.field("Content-Range"), Some(content_range), "{range}");
        ways = ways.up_to(1, SMALL);
    }
    curl.get(&["--header", "Range: bytes=0-0,-1", &small]);
    let kind = curl.field("Content-Type").unwrap();
    let boundary = kind.strip_prefix("multipart/byteranges; boundary=").unwrap();
    assert_eq!(parts(&curl.content(), boundary, SMALL), [(0, 1), (SMALL - 1, SMALL)]);
    ways.up_to(1, 2).assert(served.stop());
    assert_whole(Path::new(upload), SEED, SMALL);
}
