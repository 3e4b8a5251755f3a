//! What is in a directory, as a page for people.
//!
//! Whoever can write to the directory chooses the names in it: they are bytes
//! of any kind, and nothing but text and links to these very bytes comes of
//! them. The page holds no script, and its Content-Security-Policy would let
//! none run.

mod order;
mod page;
mod text;

use sluicegate::Segment;
use sluicegate::file::{Access, Kind, Named, Names, Root, Stamp};
use sluicegate_http::{Body, Response};

use self::order::Order;
use super::is_hidden;
use super::lookup::{self, Refusal};

pub(crate) use self::text::{Name, Utc, grouped};

/// Names that are read of one directory. It bounds the time for which one
/// request keeps its worker from others: to some 12 ms.
const NAMES: usize = 5_000;

/// Bytes that a page may have, about: a client that reads slowly keeps its own.
const PAGE: usize = 2 << 20;

/// A style sheet within the page, and nothing else: no script, no image, no
/// form. Other sites cannot put the page into theirs.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; \
                      form-action 'none'; frame-ancestors 'self'";

/// One line of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Item {
    name: Vec<u8>,
    is_directory: bool,
    /// Size in bytes, of a file.
    len: u64,
    /// Last change of the content, in seconds since the epoch.
    modified: i64,
}

/// What of a directory is for the public.
#[derive(Debug)]
struct Listing {
    items: Vec<Item>,
    /// Whether there are names that were not read.
    more: bool,
}

/// Lists the directory at `path`, a normal form beneath `root`. Clients know it
/// by the normal form `shown`.
pub(super) fn answer(
    root: &Root,
    path: &[u8],
    shown: &[u8],
    query: Option<&str>,
    dotfiles: bool,
) -> Result<Response, Refusal> {
    let mut listing = read(root, path, dotfiles, NAMES)?;
    let order = Order::of(query);
    order.sort(&mut listing.items);
    let page = page::render(shown, &listing, order);
    let mut response = Response::new(200).with_body(Body::Segment(Segment::given(page)));
    for (name, value) in [
        ("Content-Type", "text/html; charset=utf-8"),
        ("Content-Security-Policy", POLICY),
        ("X-Content-Type-Options", "nosniff"),
        ("Cache-Control", "no-cache"),
    ] {
        // All of them are valid.
        let _ = response.add(name, value);
    }
    Ok(response)
}

/// Reads at most `limit` names, and keeps those that lead to something that
/// would be served.
fn read(root: &Root, path: &[u8], dotfiles: bool, limit: usize) -> Result<Listing, Refusal> {
    let mut names = Names::of(lookup::open_beneath(root, path, Access::Read)?)?;
    let mut items = Vec::new();
    let mut room = PAGE;
    for _ in 0..limit {
        let Some(name) = names.next().transpose()? else {
            return Ok(Listing { items, more: false });
        };
        let bytes = name.as_bytes();
        // No request has a backslash in its path: it would be answered with 400.
        if bytes.contains(&b'\\') || (!dotfiles && is_hidden(bytes)) {
            continue;
        }
        // What is gone by now, or refused, is not shown.
        let stamp = match names.look(&name) {
            Ok(Named::Thing(stamp)) => Ok(stamp),
            Ok(Named::Link) => lookup::look(root, &join(path, bytes)),
            Err(_) => continue,
        };
        if let Ok(Stamp { kind: kind @ (Kind::Regular | Kind::Directory), len, modified, .. }) =
            stamp
        {
            let Some(left) = room.checked_sub(bytes_of_line(bytes)) else {
                return Ok(Listing { items, more: true });
            };
            room = left;
            let is_directory = kind == Kind::Directory;
            items.push(Item { name: name.into_bytes(), is_directory, len, modified: modified.0 });
        }
    }
    Ok(Listing { items, more: names.next().is_some() })
}

/// At most about how many bytes a name makes of the page: its line, and each
/// byte in the link and in the text, where one that cannot be shown is marked.
fn bytes_of_line(name: &[u8]) -> usize {
    let of = |byte: &u8| if byte.is_ascii_alphanumeric() { 2 } else { 16 };
    320 + name.iter().map(of).sum::<usize>()
}

fn join(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use sluicegate::file::Links;

    fn names(root: &Root, path: &[u8], dotfiles: bool) -> Vec<String> {
        let mut listing = read(root, path, dotfiles, NAMES).unwrap();
        assert!(!listing.more);
        Order::of(None).sort(&mut listing.items);
        let name = |item: &Item| {
            let slash = if item.is_directory { "/" } else { "" };
            format!("{}{slash}", item.name.escape_ascii())
        };
        listing.items.iter().map(name).collect()
    }

    #[test]
    fn only_what_would_be_served_is_shown() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), "s").unwrap();
        let tree = tempfile::tempdir().unwrap();
        let dir = tree.path().join("dir");
        std::fs::create_dir_all(dir.join("sub")).unwrap();
        std::fs::write(dir.join("page"), "text").unwrap();
        std::fs::write(dir.join(".hidden"), "text").unwrap();
        std::fs::write(dir.join("back\\slash"), "text").unwrap();
        std::fs::create_dir(dir.join(".well-known")).unwrap();
        symlink("page", dir.join("inside")).unwrap();
        symlink("sub", dir.join("inside-sub")).unwrap();
        symlink(outside.path().join("secret"), dir.join("outside")).unwrap();
        symlink("nothing", dir.join("dangling")).unwrap();
        symlink("circle", dir.join("circle")).unwrap();
        symlink("/dev/null", dir.join("device")).unwrap();
        let _socket = UnixListener::bind(dir.join("socket")).unwrap();
        for (links, expected) in [
            (Links::Inside, &["inside-sub/", "sub/", "inside", "page"][..]),
            (Links::Never, &["sub/", "page"]),
            (Links::Anywhere, &["inside-sub/", "sub/", "inside", "outside", "page"]),
        ] {
            let root = Root::open(tree.path(), links).unwrap();
            let found = names(&root, b"dir", false);
            let found: Vec<_> = found.iter().filter(|name| *name != ".well-known/").collect();
            assert_eq!(found, expected, "{links:?}");
        }
        let root = Root::open(&dir, Links::Never).unwrap();
        assert_eq!(names(&root, b"", false), [".well-known/", "sub/", "page"]);
        assert_eq!(names(&root, b"", true), [".well-known/", "sub/", ".hidden", "page"]);
    }

    #[test]
    fn a_link_shows_the_size_of_what_it_leads_to() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("page"), vec![0; 1234]).unwrap();
        symlink("page", dir.path().join("link")).unwrap();
        let root = Root::open(dir.path(), Links::Inside).unwrap();
        let listing = read(&root, b"", false, NAMES).unwrap();
        let sizes: Vec<u64> = listing.items.iter().map(|item| item.len).collect();
        assert_eq!(sizes, [1234, 1234]);
    }

    #[test]
    fn no_more_names_are_read_than_the_limit_and_the_rest_is_told_of() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..20 {
            std::fs::write(dir.path().join(format!("f{number}")), "").unwrap();
        }
        let root = Root::open(dir.path(), Links::Inside).unwrap();
        for (limit, shown, more) in [(19, 19, true), (20, 20, false), (21, 20, false)] {
            let listing = read(&root, b"", false, limit).unwrap();
            assert_eq!((listing.items.len(), listing.more), (shown, more), "{limit}");
            let page = page::render(b"", &listing, Order::of(None));
            assert_eq!(page.contains("are not shown"), more, "{limit}");
        }
    }

    #[test]
    fn a_page_has_a_bound_in_bytes_whatever_the_names_are() {
        use std::ffi::OsString;
        use std::os::unix::ffi::OsStringExt;
        let dir = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            let mut name = format!("{number:03}").into_bytes();
            name.resize(255, 0xff);
            std::fs::write(dir.path().join(OsString::from_vec(name)), "").unwrap();
        }
        let root = Root::open(dir.path(), Links::Inside).unwrap();
        let listing = read(&root, b"", false, NAMES).unwrap();
        assert!(listing.more && listing.items.len() > 300, "{}", listing.items.len());
        let page = page::render(b"", &listing, Order::of(None));
        assert!(page.len() < 2 * PAGE, "{} bytes", page.len());
    }

    #[test]
    fn what_is_not_there_or_no_directory_is_missing() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("page"), "").unwrap();
        let root = Root::open(dir.path(), Links::Inside).unwrap();
        for path in [&b"nothing"[..], b"page"] {
            let refusal = read(&root, path, false, NAMES).unwrap_err();
            assert!(matches!(refusal, Refusal::Missing), "{refusal}");
        }
    }
}
