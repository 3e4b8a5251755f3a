//! The route of a path: by its end, or by the longest beginning.

use std::cmp::Ordering;

use crate::config::Match;

/// What paths lead to, by number. Finding one takes time with the logarithm of
/// how many there are, and no memory.
#[derive(Debug, Default)]
pub(super) struct Routes {
    /// The longest first.
    suffixes: Vec<(Box<[u8]>, usize)>,
    /// In the order of their bytes.
    prefixes: Vec<Prefix>,
    /// The route that every path has, where there is no other.
    only: Option<usize>,
}

#[derive(Debug)]
struct Prefix {
    bytes: Box<[u8]>,
    route: usize,
    /// Place of the longest of the others that its bytes begin with.
    parent: Option<usize>,
}

/// How a prefix stands to the path `path`, with a slash behind it if `slash`.
fn compare(prefix: &[u8], path: &[u8], slash: bool) -> Ordering {
    match prefix.split_at_checked(path.len()) {
        Some((start, rest)) if start == path => rest.cmp(if slash { b"/" } else { b"" }),
        _ => prefix.cmp(path),
    }
}

impl Prefix {
    /// Whether the path is this or beneath it: `app` is not the beginning of
    /// `apple`, and `app/` only of what is beneath.
    fn holds(&self, path: &[u8], slash: bool) -> bool {
        let prefix = &*self.bytes;
        match path.strip_prefix(prefix) {
            Some([]) => true,
            Some([first, ..]) => *first == b'/' || prefix.last().is_none_or(|last| *last == b'/'),
            None => slash && prefix.strip_suffix(b"/") == Some(path),
        }
    }
}

impl Routes {
    /// Numbers them in the order in which they come. Of equals the first counts.
    pub(super) fn new<'a>(matches: impl IntoIterator<Item = &'a Match>) -> Self {
        let (mut suffixes, mut prefixes) = (Vec::new(), Vec::new());
        for (route, matches) in matches.into_iter().enumerate() {
            match matches {
                Match::Suffix(bytes) => suffixes.push((bytes.clone().into_boxed_slice(), route)),
                Match::Prefix(bytes) => {
                    prefixes.push(Prefix { bytes: bytes.clone().into(), route, parent: None });
                }
            }
        }
        // Both sorts leave equals in their order.
        suffixes.sort_by_key(|(bytes, _)| std::cmp::Reverse(bytes.len()));
        prefixes.sort_by(|one, other| one.bytes.cmp(&other.bytes));
        prefixes.dedup_by(|later, first| later.bytes == first.bytes);
        for at in 1..prefixes.len() {
            // Whatever its bytes begin with is the one before it, or what that
            // one's begin with.
            let mut parent = Some(at - 1);
            while let Some(place) = parent
                && !prefixes[at].bytes.starts_with(&prefixes[place].bytes)
            {
                parent = prefixes[place].parent;
            }
            prefixes[at].parent = parent;
        }
        let only = match &*prefixes {
            [one] if one.bytes.is_empty() && suffixes.is_empty() => Some(one.route),
            _ => None,
        };
        Routes { suffixes, prefixes, only }
    }

    /// The route of a path in normal form, with a slash at its end if `slash`.
    pub(super) fn find(&self, path: &[u8], slash: bool) -> Option<usize> {
        if self.only.is_some() {
            return self.only;
        }
        // What ends with a slash is a directory, and has no such name.
        if !slash {
            for (suffix, route) in &self.suffixes {
                // A normal form has lost the slash at its beginning.
                if path.ends_with(suffix) || suffix.strip_prefix(b"/") == Some(path) {
                    return Some(*route);
                }
            }
        }
        let after = self
            .prefixes
            .partition_point(|prefix| compare(&prefix.bytes, path, slash) != Ordering::Greater);
        // Every prefix that holds the path is a beginning of its bytes, and so
        // of the last one that does not come after them.
        let mut at = after.checked_sub(1);
        while let Some(prefix) = at.and_then(|at| self.prefixes.get(at)) {
            if prefix.holds(path, slash) {
                return Some(prefix.route);
            }
            at = prefix.parent;
        }
        None
    }

    /// The route of everything that has no other, also of what has no path.
    pub(super) fn everything(&self) -> Option<usize> {
        self.prefixes.first().filter(|first| first.bytes.is_empty()).map(|first| first.route)
    }
}

/// What is left of `path` without `prefix` at its beginning, both normal forms
/// without a slash at the end.
/// What does not begin with it stays as it is.
pub(super) fn strip<'a>(path: &'a [u8], prefix: &[u8]) -> &'a [u8] {
    if prefix.is_empty() {
        return path;
    }
    match path.strip_prefix(prefix) {
        Some([]) => b"",
        Some([b'/', rest @ ..]) => rest,
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sluicegate_http::normalise;

    fn prefix(text: &str) -> Match {
        Match::Prefix(text.as_bytes().to_vec())
    }

    fn suffix(text: &str) -> Match {
        Match::Suffix(text.as_bytes().to_vec())
    }

    /// What the path of a request line leads to.
    fn find(matches: &[Match], target: &str) -> Option<usize> {
        let mut out = Vec::new();
        let path = normalise(target, &mut out).unwrap();
        Routes::new(matches).find(path.as_bytes(), path.ends_with_slash())
    }

    #[test]
    fn the_longest_prefix_wins_and_ends_at_a_slash() {
        let matches = ["", "app", "app/", "app/v1", "apple/", "b/c/d"].map(prefix);
        for (target, expected) in [
            ("/", 0),
            ("/x", 0),
            ("/app", 1),
            ("/app/", 2),
            ("/app/x", 2),
            ("/app/v1", 3),
            ("/app/v1/", 3),
            ("/app/v1/x/y", 3),
            ("/app/v12", 2),
            ("/app-", 0),
            ("/app0", 0),
            ("/apple", 0),
            ("/apple/", 4),
            ("/apple/x", 4),
            ("/b/c", 0),
            ("/b/c/", 0),
            ("/b/c/d", 5),
            ("/b/c/dd", 0),
        ] {
            assert_eq!(find(&matches, target), Some(expected), "{target}");
        }
        assert_eq!(find(&matches[1..], "/x"), None);
        assert_eq!(find(&matches[2..3], "/app"), None);
        assert_eq!(find(&[], "/"), None);
    }

    #[test]
    fn every_way_to_write_a_path_has_its_route() {
        let matches = ["", "secret/"].map(prefix);
        for target in [
            "/secret/",
            "/secret/x",
            "//secret/x",
            "/secret//x",
            "/./secret/x",
            "/a/../secret/x",
            "/a/%2e%2E/secret/x",
            "/%73ecret/x",
            "/s%65cre%74/%78",
            "/secret/.",
            "/secret/x/..",
        ] {
            assert_eq!(find(&matches, target), Some(1), "{target}");
        }
        for target in ["/secret", "/secret/..", "/secret/../x", "/Secret/x", "/%2573ecret/x"] {
            assert_eq!(find(&matches, target), Some(0), "{target}");
        }
    }

    #[test]
    fn suffixes_come_before_prefixes_and_the_longest_of_them_first() {
        let matches =
            [prefix("app/"), suffix(".php"), suffix(".inc.php"), suffix("/x.js"), prefix("")];
        for (target, expected) in [
            ("/app/x.php", 1),
            ("/x.php", 1),
            ("/.php", 1),
            ("/x.%70hp", 1),
            ("/x.inc.php", 2),
            ("/x.php/", 4),
            ("/app/x.php/y", 0),
            ("/x.PHP", 4),
            ("/x.js", 3),
            ("/a/x.js", 3),
            ("/ax.js", 4),
            ("/x.js/", 4),
        ] {
            assert_eq!(find(&matches, target), Some(expected), "{target}");
        }
    }

    #[test]
    fn of_equals_the_first_counts() {
        let matches = [prefix("a"), prefix("a"), suffix(".b"), suffix(".b"), prefix("")];
        assert_eq!((find(&matches, "/a"), find(&matches, "/x.b")), (Some(0), Some(2)));
        assert_eq!(Routes::new(&matches).everything(), Some(4));
        assert_eq!(Routes::new(&matches[..4]).everything(), None);
    }

    #[test]
    fn only_whole_segments_are_taken_off() {
        for (path, prefix, left) in [
            ("app/x", "app", "x"),
            ("app", "app", ""),
            ("apple", "app", "apple"),
            ("a/b/c", "a/b", "c"),
            ("x/app", "app", "x/app"),
            ("x", "", "x"),
        ] {
            let stripped = strip(path.as_bytes(), prefix.as_bytes());
            assert_eq!(stripped, left.as_bytes(), "{path} without {prefix}");
        }
    }

    /// Tests each route in turn, as the documentation has it.
    fn oracle(matches: &[Match], path: &str, slash: bool) -> Option<usize> {
        let whole = if slash && !path.is_empty() { format!("{path}/") } else { path.to_owned() };
        let mut best: Option<((bool, usize), usize)> = None;
        for (route, matches) in matches.iter().enumerate() {
            let rank = match matches {
                Match::Suffix(suffix) => {
                    let suffix = str::from_utf8(suffix).unwrap();
                    let ends = !slash && format!("/{path}").ends_with(suffix);
                    ends.then_some((true, suffix.len()))
                }
                Match::Prefix(prefix) => {
                    let prefix = str::from_utf8(prefix).unwrap();
                    let beneath = match prefix {
                        "" => true,
                        _ if prefix.ends_with('/') => whole.starts_with(prefix),
                        _ => whole == prefix || whole.starts_with(&format!("{prefix}/")),
                    };
                    beneath.then_some((false, prefix.len()))
                }
            };
            if let Some(rank) = rank
                && best.is_none_or(|(best, _)| rank > best)
            {
                best = Some((rank, route));
            }
        }
        best.map(|(_, route)| route)
    }

    fn matches() -> impl Strategy<Value = Match> {
        prop_oneof![
            5 => "([ab.]{1,2}/){0,3}[ab.]{0,2}".prop_map(|text| prefix(&text)),
            1 => "/?[ab.]{1,3}".prop_map(|text| suffix(&text)),
        ]
    }

    proptest! {
        #[test]
        fn routes_are_found_as_by_a_look_at_each(
            matches in prop::collection::vec(matches(), 0..12),
            path in "([ab.]{1,2}(/[ab.]{1,2}){0,3})?",
            slash: bool,
        ) {
            // The root has a slash at its end.
            let slash = slash || path.is_empty();
            let found = Routes::new(&matches).find(path.as_bytes(), slash);
            prop_assert_eq!(found, oracle(&matches, &path, slash));
        }
    }
}
