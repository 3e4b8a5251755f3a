//! Ways around what a route forbids, which suffixes open: they come before any
//! prefix, and what is served in place of a path is not looked for among them.

use std::collections::HashMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use super::mistakes::quoted;
use super::model::{Access, Action, Match, Route};
use super::site::{ReadRoute, ReadSite};
use super::table::Reader;

/// Notes the routes of a site that serve what another one is to keep from
/// clients. In time linear to the site.
pub(super) fn ways_around(reader: &Reader<'_>, site: &ReadSite) {
    let suffixes: HashMap<&[u8], &ReadRoute> =
        site.routes.iter().filter_map(|route| Some((suffix(route)?, route))).collect();
    if suffixes.is_empty() {
        return;
    }
    around_prefixes(reader, site);
    for route in &site.routes {
        around_suffixes(reader, route, &suffixes);
    }
}

fn suffix(route: &ReadRoute) -> Option<&[u8]> {
    match &route.matches {
        Match::Suffix(suffix) => Some(suffix),
        Match::Prefix(_) => None,
    }
}

/// Files by their end that are beneath a prefix for some clients alone.
fn around_prefixes(reader: &Reader<'_>, site: &ReadSite) {
    let is_restricted = |route: &&ReadRoute| {
        let restricts = |whole: &Route| route.has_access && !is_for_everybody(&whole.access);
        // What is internal is for no client at all.
        suffix(route).is_none()
            && (route.internal.is_some() || route.route.as_ref().is_some_and(restricts))
    };
    let Some(restricted) = site.routes.iter().find(is_restricted) else { return };
    for route in site.routes.iter().filter(|route| suffix(route).is_some() && !route.has_access) {
        // What is the same for every path tells nothing of what is there.
        let serves = |whole: &Route| matches!(whole.action, Action::Files { .. });
        if route.internal.is_none() && route.route.as_ref().is_some_and(serves) {
            let (text, line) = (quoted(&restricted.text), reader.line(restricted.span.start));
            let (what, expected) = match restricted.internal {
                Some(_) => ("though it is `internal`", "`internal = true`, `allow` or `deny` here"),
                None => ("without its `allow` and `deny`", "`allow` or `deny` here, too"),
            };
            let message = format_args!(
                "paths of {text} (line {line}) come here {what}; expected {expected} \
                 (`allow = [\"all\"]` for everybody)"
            );
            reader.mistake(route.span.clone(), message);
        }
    }
}

/// Files that a route serves in place of paths, and that a suffix refuses.
fn around_suffixes(reader: &Reader<'_>, route: &ReadRoute, suffixes: &HashMap<&[u8], &ReadRoute>) {
    let Some(whole) = &route.route else { return };
    let Action::Files { strip_prefix, options, .. } = &whole.action else { return };
    let indices = options.index.iter().map(|name| ("index", format!("/{name}").into_bytes()));
    let fallback = options.fallback.iter().map(|file| {
        let start: &[u8] = if strip_prefix.is_empty() { b"" } else { b"/" };
        ("fallback", [start, strip_prefix, b"/", file].concat())
    });
    for (key, path) in indices.chain(fallback) {
        // The longest that fits, as requests find it.
        let mut ends = (0..path.len()).filter_map(|at| path.get(at..));
        let Some(found) = ends.find_map(|end| suffixes.get(end)) else { continue };
        let is_refused = found.route.as_ref().is_some_and(|found| match found.action {
            Action::Respond { status: 400.., .. } => true,
            _ => !is_for_everybody(&found.access) && found.access != whole.access,
        });
        if is_refused {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            let message = format_args!(
                "`{key}` {} is served here whatever the route of line {} says of {}; \
                 expected another `{key}`",
                quoted(&String::from_utf8_lossy(name)),
                reader.line(found.span.start),
                quoted(&found.text),
            );
            reader.mistake(route.span.clone(), message);
        }
    }
}

/// Whether rules keep nobody out, as far as is told without a search.
fn is_for_everybody(access: &Access) -> bool {
    let all = [(Ipv4Addr::UNSPECIFIED.into(), 0), (Ipv6Addr::UNSPECIFIED.into(), 0)];
    access.deny.is_empty()
        && (access.allow.is_empty() || all.iter().all(|all| access.allow.contains(all)))
}
