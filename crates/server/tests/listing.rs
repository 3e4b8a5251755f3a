//! Listings of directories as any client meets them; a browser looks at them in
//! `browser.rs`.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use common::Served;
use sluicegate_testkit::corpus::Tree;

/// The links of a page to what is beneath it, as they are written.
fn links(page: &[u8]) -> Vec<String> {
    let page = std::str::from_utf8(page).unwrap();
    let rest = page.split("href=\"./").skip(1);
    rest.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// Percent-encodes every byte.
fn encode(name: &[u8]) -> String {
    name.iter().map(|byte| format!("%{byte:02X}")).collect()
}

fn decode(link: &str) -> Vec<u8> {
    let mut parts = link.split('%');
    let mut out = parts.next().unwrap().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2);
        out.push(u8::from_str_radix(hex, 16).unwrap());
        out.extend_from_slice(rest.as_bytes());
    }
    out
}

fn write(directory: &Path, name: &[u8], content: &[u8]) {
    std::fs::write(directory.join(OsStr::from_bytes(name)), content).unwrap();
}

#[test]
fn every_link_leads_to_the_file_of_that_name_whatever_bytes_it_has() {
    let tree = Tree::new().unwrap();
    let mut names: Vec<Vec<u8>> = (1..=255_u8)
        .filter(|byte| !b"/\\".contains(byte))
        .map(|byte| [b"x", &[byte][..], b"y"].concat())
        .collect();
    for name in [
        &b"<script>alert(1);"[..],
        b"\"' onclick=alert(1)",
        b"a:b",
        b"%2e%2e",
        b"%252e",
        b"?sort=size",
        b"#",
        b" ",
        b"x..",
        b"\xf0\x9f\x9a\x80",
        b"\xed\xa0\x80",
        &[b'n'; 255],
        &[0xff; 255],
    ] {
        names.push(name.to_vec());
    }
    for name in &names {
        write(tree.path(), name, &[b"content of ", &name[..]].concat());
    }
    let served = Served::with(tree.path(), &["--listing", "--workers", "1"]);
    let links = links(&served.get("/").content);
    assert_eq!(links.len(), names.len());
    let mut seen = BTreeSet::new();
    for link in &links {
        let answer = served.get(&format!("/{link}"));
        assert_eq!(answer.status, 200, "{link}");
        let name = answer.content.strip_prefix(b"content of ").unwrap().to_vec();
        assert_eq!(decode(link), name);
        seen.insert(name);
    }
    assert_eq!(seen, names.into_iter().collect());
}

#[test]
fn what_is_listed_is_what_is_served() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "s").unwrap();
    let tree = Tree::new().unwrap().text("dir/page", "p").unwrap();
    let tree = tree.text("dir/sub/page", "p").unwrap().text("dir/.hidden", "h").unwrap();
    let dir = tree.join("dir");
    write(&dir, b"back\\slash", b"");
    for (link, target) in [
        ("page-link", "page"),
        ("sub-link", "sub"),
        ("up-link", "../dir/sub/page"),
        ("hidden-link", ".hidden"),
        ("dangling", "nothing"),
        ("circle", "circle"),
        ("through-a-file", "page/x"),
        ("device", "/dev/null"),
        ("fifo-link", "fifo"),
    ] {
        symlink(target, dir.join(link)).unwrap();
    }
    symlink(outside.path().join("secret"), dir.join("outside")).unwrap();
    symlink(outside.path(), dir.join("outside-directory")).unwrap();
    symlink(dir.join("page"), dir.join("absolute")).unwrap();
    let _socket = UnixListener::bind(dir.join("socket")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(dir.join("fifo")).status().unwrap();
    assert!(fifo.success());
    for (flags, count) in [
        (&["--symlinks", "inside"][..], 7),
        (&["--symlinks", "never"], 2),
        (&["--symlinks", "anywhere"], 9),
        (&["--dotfiles"], 8),
    ] {
        let served = Served::with(tree.path(), &[flags, &["--listing", "--workers", "1"]].concat());
        let listed: BTreeSet<Vec<u8>> =
            links(&served.get("/dir/").content).iter().map(|link| decode(link)).collect();
        let mut expected = BTreeSet::new();
        for entry in std::fs::read_dir(&dir).unwrap() {
            let mut name = entry.unwrap().file_name().as_bytes().to_vec();
            match served.get(&format!("/dir/{}", encode(&name))).status {
                200 => {}
                301 => name.push(b'/'),
                _ => continue,
            }
            expected.insert(name);
        }
        assert_eq!(listed, expected, "{flags:?}");
        assert_eq!(listed.len(), count, "{flags:?}");
    }
}

#[test]
fn a_listing_stands_in_for_an_index_only_where_it_was_asked_for() {
    let tree = Tree::new().unwrap();
    let tree = tree.text("index.html", "front").unwrap().text("sub/page", "p").unwrap();
    let tree = tree.directory("bare").unwrap();
    let served = Served::with(tree.path(), &["--listing", "--workers", "1"]);
    assert_eq!(served.get("/").content, b"front");
    assert_eq!(served.get("/sub").field("Location"), Some("/sub/"));
    assert_eq!(served.get("/sub/page/").status, 404);
    assert_eq!(served.get("/nothing/").status, 404);
    let listing = served.get("/sub/");
    assert_eq!((listing.status, links(&listing.content)), (200, vec!["page".to_owned()]));
    for (name, value) in [
        ("Content-Type", "text/html; charset=utf-8"),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
        (
            "Content-Security-Policy",
            "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
             form-action 'none'; frame-ancestors 'self'",
        ),
    ] {
        assert_eq!(listing.field(name), Some(value));
    }
    let head = served.ask("HEAD /sub/ HTTP/1.1");
    assert_eq!((head.status, head.content.len()), (200, 0));
    assert_eq!(head.field("Content-Length"), Some(&*listing.content.len().to_string()));
    // It is read anew each time.
    std::fs::write(tree.join("bare/new"), "n").unwrap();
    assert_eq!(links(&served.get("/bare/").content), ["new"]);
    std::fs::remove_file(tree.join("bare/new")).unwrap();
    let empty = served.get("/bare/").content;
    assert!(String::from_utf8_lossy(&empty).contains("Nothing is in this directory."));

    let served = Served::with(tree.path(), &["--workers", "1"]);
    assert_eq!(served.get("/sub/").status, 403);
}

#[test]
fn a_query_says_the_order_and_nothing_else() {
    let tree = Tree::new().unwrap();
    for (name, size) in [("b2", 30), ("B10", 20), ("a", 10)] {
        write(tree.path(), name.as_bytes(), &vec![0; size]);
    }
    let served = Served::with(tree.path(), &["--listing", "--workers", "1"]);
    for (query, expected) in [
        ("", ["a", "b2", "B10"]),
        ("?sort=name&order=desc", ["B10", "b2", "a"]),
        ("?sort=size&order=asc", ["a", "B10", "b2"]),
        ("?order=desc&sort=size&utm_source=x", ["b2", "B10", "a"]),
        ("?sort=<script>&order=%22%3E", ["a", "b2", "B10"]),
    ] {
        let page = served.get(&format!("/{query}")).content;
        assert_eq!(links(&page), expected, "{query}");
        let page = String::from_utf8(page).unwrap();
        assert!(!page.contains("script>") && !page.contains("utm_source"), "{query}");
    }
}

#[test]
fn a_directory_of_more_than_five_thousand_entries_is_shown_in_part() {
    let tree = Tree::new().unwrap().text("original", "o").unwrap();
    for number in 0..5_000 {
        std::fs::hard_link(tree.join("original"), tree.join(&format!("n{number}"))).unwrap();
    }
    let served = Served::with(tree.path(), &["--listing", "--workers", "1"]);
    let told = "these are 5,000 of its entries";
    let page = served.get("/").content;
    assert_eq!(links(&page).len(), 5_000);
    assert!(String::from_utf8_lossy(&page).contains(told));
    std::fs::remove_file(tree.join("original")).unwrap();
    let page = served.get("/").content;
    assert_eq!(links(&page).len(), 5_000);
    assert!(!String::from_utf8_lossy(&page).contains(told));
}
