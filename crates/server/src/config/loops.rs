//! Redirects that lead to themselves.

use std::collections::HashMap;

use super::model::Match;
use super::parse::{self, Prefix};
use super::site::{ReadRoute, ReadSite};
use super::table::Reader;

/// Notes the redirects of a site whose target comes to the same route again, as
/// far as the file alone tells.
pub(super) fn redirects(reader: &Reader<'_>, site: &ReadSite) {
    if site.routes.iter().all(|route| route.redirect.is_none()) {
        return;
    }
    let routes: HashMap<&Match, usize> =
        site.routes.iter().enumerate().map(|(at, route)| (&route.matches, at)).collect();
    for (at, ReadRoute { matches, redirect, .. }) in site.routes.iter().enumerate() {
        let Some((to, span)) = redirect else { continue };
        let asked = example(matches);
        let Some(next) = followed(to, &asked) else { continue };
        if find(&routes, &next) == Some(at) {
            let message = format_args!(
                "this leads to itself: `{asked}` to `/{}`, which has the same route",
                String::from_utf8_lossy(&next)
            );
            reader.mistake(span.clone(), message);
        }
    }
}

/// A path that a route is for.
fn example(matches: &Match) -> String {
    match matches {
        Match::Prefix(prefix) => format!("/{}", String::from_utf8_lossy(prefix)),
        Match::Suffix(suffix) => format!("/example{}", String::from_utf8_lossy(suffix)),
    }
}

/// The path, as routes see it, that a client who asked for `asked` comes to;
/// `None` when it is at another host or not to be told.
fn followed(to: &str, asked: &str) -> Option<Vec<u8>> {
    let path = match to.strip_prefix("http://{host}") {
        Some("") => "/",
        Some(path) => path,
        // Two slashes begin a host. RFC 3986 section 4.2.
        None if to.starts_with("//") => return None,
        None => to,
    };
    let path = path.split(['?', '#']).next()?.replace("{query}", "");
    if path.contains("{host}") {
        return None;
    }
    let path = path.replace("{path}", &asked.replace('%', "%25"));
    parse::prefix(&path).ok().map(|Prefix(path)| path)
}

/// The route of a path: by its longest end, else by its longest beginning.
fn find(routes: &HashMap<&Match, usize>, path: &[u8]) -> Option<usize> {
    let mut rooted = vec![b'/'];
    rooted.extend_from_slice(path);
    if path.last() != Some(&b'/') && !path.is_empty() {
        let mut ends = (0..rooted.len()).filter_map(|at| rooted.get(at..));
        let route = ends.find_map(|end| routes.get(&Match::Suffix(end.to_vec())));
        if let Some(route) = route {
            return Some(*route);
        }
    }
    // `app` holds `app`, `app/` and what is beneath; `app/` the last two.
    let ends = (0..=path.len()).rev().filter(|&end| {
        let is_whole = end == path.len() || end == 0;
        is_whole || path.get(end) == Some(&b'/') || path.get(end - 1) == Some(&b'/')
    });
    let mut starts = ends.filter_map(|end| path.get(..end));
    starts.find_map(|start| routes.get(&Match::Prefix(start.to_vec()))).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_the_route_of_their_longest_match() {
        let matches: Vec<Match> = ["", "app", "app/", "app/v1"]
            .map(|text| Match::Prefix(text.as_bytes().to_vec()))
            .into_iter()
            .chain([".php", ".inc.php"].map(|text| Match::Suffix(text.as_bytes().to_vec())))
            .collect();
        let routes: HashMap<&Match, usize> =
            matches.iter().enumerate().map(|(at, it)| (it, at)).collect();
        for (path, expected) in [
            ("", 0),
            ("apple", 0),
            ("app", 1),
            ("app/", 2),
            ("app/x", 2),
            ("app/v1", 3),
            ("app/v1/", 3),
            ("app/v12", 2),
            ("app/x.php", 4),
            ("app/x.php/", 2),
            ("x.inc.php", 5),
        ] {
            assert_eq!(find(&routes, path.as_bytes()), Some(expected), "{path}");
        }
    }

    #[test]
    fn targets_are_followed_as_far_as_the_file_tells() {
        let followed = |to, asked| followed(to, asked).map(|path| String::from_utf8(path).unwrap());
        assert_eq!(followed("/new{path}{query}", "/old/").as_deref(), Some("new/old/"));
        assert_eq!(followed("http://{host}", "/old").as_deref(), Some(""));
        assert_eq!(followed("{path}?a={host}", "/a%20b").as_deref(), Some("a%20b"));
        for to in ["https://{host}{path}", "//{host}/", "http://a.test/", "/../x"] {
            assert_eq!(followed(to, "/old"), None, "{to}");
        }
    }
}
