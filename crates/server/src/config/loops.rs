//! Redirects and proxies that lead to themselves.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::model::{Action, Address, Host, HostRule, Match, Pool, Proxy};
use super::parse::{self, Prefix};
use super::proxy::Asked;
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

/// Notes the routes whose upstream is this server, at the same route: each
/// request would ask for itself.
pub(super) fn proxies(
    reader: &Reader<'_>,
    listened: &[SocketAddr],
    sites: &[ReadSite],
    pools: &[Pool],
) {
    let pools: HashMap<&str, &Pool> = pools.iter().map(|pool| (&*pool.name, pool)).collect();
    for site in sites {
        let mut routes: Option<HashMap<&Match, usize>> = None;
        for (at, read) in site.routes.iter().enumerate() {
            let (Some(route), Some(asked)) = (&read.route, &read.asked) else { continue };
            let Action::Proxy(proxy) = &route.action else { continue };
            let (Asked::Named(_, span) | Asked::Own(_, span)) = asked;
            let servers = pools.get(&*proxy.pool).map(|pool| &pool.servers);
            let is_own = |address: &&Address| {
                let is_again = |_| is_again(site, proxy, address);
                listener(address, listened).is_some_and(is_again)
            };
            let found =
                servers.iter().copied().flatten().map(|server| &server.address).find(is_own);
            let Some(address) = found else { continue };
            let routes = routes.get_or_insert_with(|| {
                site.routes.iter().enumerate().map(|(at, route)| (&route.matches, at)).collect()
            });
            let asked = example(&read.matches);
            let Ok(Prefix(path)) = parse::prefix(&asked.replace('%', "%25")) else { continue };
            let next = stripped(&path, &proxy.strip_prefix);
            if find(routes, next) == Some(at) {
                let message = format_args!(
                    "this leads to itself: `{asked}` to `{address}`, which is listened on here \
                     and has the same route"
                );
                reader.mistake(span.clone(), message);
            }
        }
    }
}

/// Where a server is, as far as its address alone tells.
fn place(address: &Address) -> Option<SocketAddr> {
    match address {
        Address::Tcp(address) => Some(*address),
        Address::Name { host, port } if host.trim_end_matches('.') == "localhost" => {
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), *port))
        }
        Address::Name { .. } | Address::Unix(_) => None,
    }
}

/// The one of our own addresses that a server is at.
pub(crate) fn listener(address: &Address, listened: &[SocketAddr]) -> Option<SocketAddr> {
    let address = place(address)?;
    let is_it = |own: &&SocketAddr| {
        let is_all = own.ip().is_unspecified()
            && own.is_ipv4() == address.is_ipv4()
            && (address.ip().is_loopback() || address.ip().is_unspecified());
        own.port() == address.port() && (own.ip() == address.ip() || is_all)
    };
    listened.iter().find(is_it).copied()
}

/// Whether a request that a site passes on to us at `address` comes to it again,
/// as far as is certain.
fn is_again(site: &ReadSite, proxy: &Proxy, address: &Address) -> bool {
    let Some(place) = place(address) else { return false };
    let is_reached = !site.has_listen
        || site.listen.iter().any(|own| {
            let own = own.get_ref();
            own.port() == place.port() && (own.ip() == place.ip() || own.ip().is_unspecified())
        });
    let is_named = |name: &str| {
        let name = name.rsplit_once(':').map_or(name, |(name, _)| name);
        site.hosts.iter().any(|host| *host.get_ref() == Host::Name(name.to_owned()))
    };
    is_reached
        && match &proxy.host {
            HostRule::Preserve => true,
            HostRule::Upstream => is_named(&address.to_string()),
            HostRule::Fixed(name) => is_named(name),
        }
}

/// A path without what its route takes off.
fn stripped<'a>(path: &'a [u8], strip: &[u8]) -> &'a [u8] {
    let rest = path.strip_prefix(strip).unwrap_or(path);
    match strip {
        [] => rest,
        _ => rest.strip_prefix(b"/").unwrap_or(rest),
    }
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
