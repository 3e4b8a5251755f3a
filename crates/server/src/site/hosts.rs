//! The site of a request: by the address that it came to, and by its host name.

use std::collections::{BTreeSet, HashMap};
use std::fmt::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use quick_cache::DefaultHashBuilder;

use crate::config::{Host, Site};

/// Keys are the operator's; what clients send is only looked for. So the hash
/// has to be fast, and need not be secret.
type Map<K, V> = HashMap<K, V, DefaultHashBuilder>;

/// An address without what does not tell sockets apart, and its port; 0 stands
/// for every port.
type Key = (IpAddr, u16);

fn key(address: SocketAddr) -> Key {
    (address.ip().to_canonical(), address.port())
}

/// Sites by address and name, by their numbers. Finding one takes the same time
/// however many there are.
#[derive(Debug, Default)]
pub(super) struct Hosts {
    names: Vec<Names>,
    /// For connections to an address that sites are restricted to: what counts
    /// there, the most particular first.
    views: Map<Key, Box<[usize]>>,
    /// For all others: the sites that are reached everywhere.
    everywhere: Box<[usize]>,
    /// The site that answers everything.
    only: Option<usize>,
}

/// The sites that are reached at one address, or at all, by name.
#[derive(Debug, Default)]
struct Names {
    exact: Map<Box<[u8]>, usize>,
    /// By what follows `*.`.
    wildcards: Map<Box<[u8]>, usize>,
    /// Bytes of the shortest and of the longest wildcard.
    wildcard_len: (usize, usize),
    default: Option<usize>,
}

impl Names {
    fn add(&mut self, site: usize, hosts: &[Host]) {
        if hosts.is_empty() {
            self.default.get_or_insert(site);
        }
        for host in hosts {
            match host {
                Host::Name(name) => {
                    let mut room = Vec::new();
                    if let Some(name) = canonical(&bracketed(name), &mut room) {
                        self.exact.entry(name.into()).or_insert(site);
                    }
                }
                Host::Wildcard(name) => {
                    let (shortest, longest) = self.wildcard_len;
                    let len = name.len();
                    let shortest = if self.wildcards.is_empty() { len } else { shortest.min(len) };
                    self.wildcard_len = (shortest, longest.max(len));
                    self.wildcards
                        .entry(name.to_ascii_lowercase().into_bytes().into())
                        .or_insert(site);
                }
            }
        }
    }
}

/// An IPv6 address as it is written in a URL: in brackets.
fn bracketed(name: &str) -> String {
    match name.parse::<Ipv6Addr>() {
        Ok(_) => format!("[{name}]"),
        Err(_) => name.to_owned(),
    }
}

/// A host name without port, as names are looked for: in lower case, without a
/// dot at its end (RFC 1034 section 3.1), an IPv6 address in its usual form (RFC
/// 5952). `None` for one that is empty.
fn canonical<'a>(name: &str, room: &'a mut Vec<u8>) -> Option<&'a [u8]> {
    room.clear();
    let inside = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match inside.map(str::parse::<Ipv6Addr>) {
        Some(Ok(address)) => {
            let mut text = String::with_capacity(48);
            // Writing to a String cannot fail.
            let _ = write!(text, "[{address}]");
            room.extend_from_slice(text.as_bytes());
        }
        _ => {
            room.extend_from_slice(name.as_bytes());
            room.make_ascii_lowercase();
            if room.last() == Some(&b'.') {
                room.pop();
            }
        }
    }
    (!room.is_empty()).then_some(room)
}

impl Hosts {
    /// Numbers the sites in their order. Of two that are reached by the same
    /// name at the same addresses the first counts.
    pub(super) fn new(sites: &[Site]) -> Self {
        let mut names: Vec<Names> = Vec::new();
        // Index 0: sites that are reached everywhere.
        names.push(Names::default());
        let mut by_address: Map<Key, usize> = Map::default();
        for (number, site) in sites.iter().enumerate() {
            if site.listen.is_empty() {
                names[0].add(number, &site.hosts);
            }
            let addresses: BTreeSet<Key> = site.listen.iter().copied().map(key).collect();
            for address in addresses {
                let at = *by_address.entry(address).or_insert_with(|| {
                    names.push(Names::default());
                    names.len() - 1
                });
                names[at].add(number, &site.hosts);
            }
        }
        let views = by_address.keys().map(|&address| {
            let layers = Self::layers(address).filter_map(|layer| by_address.get(&layer));
            let mut view: Vec<usize> = layers.copied().chain([0]).collect();
            view.dedup();
            (address, view.into())
        });
        let views = views.collect();
        let only = match sites {
            [site] if site.hosts.is_empty() && site.listen.is_empty() => Some(0),
            _ => None,
        };
        Hosts { names, views, everywhere: [0].into(), only }
    }

    /// What `listen` may say of a connection to `address`, the most particular
    /// first: the address, with every port, every address, and both.
    fn layers((address, port): Key) -> impl Iterator<Item = Key> {
        let any = match address {
            IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        [(address, port), (address, 0), (any, port), (any, 0)].into_iter()
    }

    /// The site for `name`, without its port, of a connection to `local`. Uses
    /// `room`, and allocates only for a longer name than any before.
    pub(super) fn find<'n>(
        &self,
        name: impl FnOnce() -> Option<&'n str>,
        local: Option<SocketAddr>,
        room: &mut Vec<u8>,
    ) -> Option<usize> {
        if self.only.is_some() {
            return self.only;
        }
        let view = if self.views.is_empty() { None } else { self.view(local) };
        let view = view.unwrap_or(&self.everywhere);
        let layers = || view.iter().filter_map(|&at| self.names.get(at));
        let named = name().and_then(|name| canonical(name, room)).and_then(|name| {
            let exact = layers().find_map(|names| names.exact.get(name));
            exact.or_else(|| Self::beneath(layers, name))
        });
        named.copied().or_else(|| layers().find_map(|names| names.default))
    }

    fn view(&self, local: Option<SocketAddr>) -> Option<&[usize]> {
        let view = Self::layers(key(local?)).find_map(|layer| self.views.get(&layer));
        view.map(|view| &**view)
    }

    /// The longest wildcard that `name` is beneath.
    fn beneath<'a, I>(layers: impl Fn() -> I, name: &[u8]) -> Option<&'a usize>
    where
        I: Iterator<Item = &'a Names>,
    {
        let (shortest, longest) = layers()
            .filter(|names| !names.wildcards.is_empty())
            .map(|names| names.wildcard_len)
            .reduce(|one, other| (one.0.min(other.0), one.1.max(other.1)))?;
        let dots = name.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'.');
        let parents = dots.filter_map(|(at, _)| name.get(at + 1..));
        parents
            .filter(|parent| (shortest..=longest).contains(&parent.len()))
            .find_map(|parent| layers().find_map(|names| names.wildcards.get(parent)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn site(hosts: &[&str], listen: &[&str]) -> Site {
        let host = |text: &&str| match text.strip_prefix("*.") {
            Some(rest) => Host::Wildcard(rest.to_owned()),
            None => Host::Name((*text).to_owned()),
        };
        Site {
            hosts: hosts.iter().map(host).collect(),
            listen: listen.iter().map(|address| address.parse().unwrap()).collect(),
            routes: Vec::new(),
        }
    }

    fn find(hosts: &Hosts, name: &str, local: &str) -> Option<usize> {
        let name = Some(name).filter(|name| !name.is_empty());
        let local = Some(local).filter(|local| !local.is_empty());
        let local = local.map(|local| local.parse().unwrap());
        hosts.find(|| name, local, &mut Vec::new())
    }

    #[test]
    fn an_exact_name_comes_before_the_longest_wildcard_before_the_default() {
        let hosts = Hosts::new(&[
            site(&["*.test"], &[]),
            site(&["example.test", "[::1]", "2001:db8::1"], &[]),
            site(&["*.example.test"], &[]),
            site(&[], &[]),
            site(&["www.example.test", "*.b.example.test"], &[]),
        ]);
        for (name, expected) in [
            ("example.test", 1),
            ("EXAMPLE.Test", 1),
            ("example.test.", 1),
            ("www.example.test", 4),
            ("a.example.test", 2),
            ("A.A.EXAMPLE.TEST.", 2),
            ("b.example.test", 2),
            ("a.b.example.test", 4),
            ("other.test", 0),
            ("test", 3),
            ("example.org", 3),
            ("xexample.test", 0),
            (".test", 3),
            ("example.test..", 3),
            (".", 3),
            ("", 3),
            ("[::1]", 1),
            ("[0:0::0:1]", 1),
            ("[2001:DB8::1]", 1),
            ("[::2]", 3),
        ] {
            assert_eq!(find(&hosts, name, "127.0.0.1:80"), Some(expected), "{name}");
        }
        let long = format!("{}.example.test", "a.".repeat(2000));
        assert_eq!(find(&hosts, &long, ""), Some(2));
    }

    #[test]
    fn without_a_default_a_name_that_nobody_has_leads_nowhere() {
        let hosts = Hosts::new(&[site(&["a.test"], &[]), site(&["*.b.test"], &[])]);
        for name in ["", "b.test", "c.test", "127.0.0.1"] {
            assert_eq!(find(&hosts, name, "127.0.0.1:80"), None, "{name}");
        }
        assert_eq!(find(&Hosts::new(&[]), "a", "127.0.0.1:80"), None);
    }

    #[test]
    fn a_lone_default_answers_whoever_asks() {
        let hosts = Hosts::new(&[site(&[], &[])]);
        assert_eq!(find(&hosts, "a", ""), Some(0));
        let named = Hosts::new(&[site(&["a"], &[])]);
        assert_eq!((find(&named, "a", ""), find(&named, "b", "")), (Some(0), None));
        let listening = Hosts::new(&[site(&[], &["127.0.0.2:80"])]);
        assert_eq!(find(&listening, "a", "127.0.0.2:80"), Some(0));
        assert_eq!(find(&listening, "a", "127.0.0.3:80"), None);
    }

    #[test]
    fn an_address_has_its_sites_and_those_that_are_reached_everywhere() {
        let hosts = Hosts::new(&[
            site(&["a.test"], &[]),
            site(&[], &["127.0.0.2:80"]),
            site(&["b.test", "a.test"], &["127.0.0.2:80", "[::1]:80"]),
            site(&[], &["127.0.0.3:81"]),
            site(&["*.test"], &["127.0.0.3:81"]),
            site(&[], &["0.0.0.0:82"]),
            site(&["p.test"], &["127.0.0.4:0"]),
            site(&["q.test"], &["127.0.0.4:82"]),
        ]);
        for (name, local, expected) in [
            ("a.test", "127.0.0.2:80", Some(2)),
            ("a.test", "[::ffff:127.0.0.2]:80", Some(2)),
            ("a.test", "127.0.0.2:81", Some(0)),
            ("x.test", "127.0.0.2:80", Some(1)),
            ("b.test", "[::1]:80", Some(2)),
            ("x.test", "[::1]:80", None),
            ("b.test", "127.0.0.9:80", None),
            ("a.test", "127.0.0.3:81", Some(0)),
            ("x.test", "127.0.0.3:81", Some(4)),
            ("x", "127.0.0.3:81", Some(3)),
            ("x", "127.0.0.9:82", Some(5)),
            ("x", "[::1]:82", None),
            ("p.test", "127.0.0.4:1234", Some(6)),
            ("p.test", "127.0.0.4:82", Some(6)),
            ("q.test", "127.0.0.4:82", Some(7)),
            ("x", "127.0.0.4:82", Some(5)),
            ("q.test", "127.0.0.4:83", None),
            ("a.test", "", Some(0)),
        ] {
            assert_eq!(find(&hosts, name, local), expected, "{name} at {local}");
        }
    }

    #[test]
    fn of_two_sites_with_one_name_the_first_counts() {
        let hosts = Hosts::new(&[
            site(&["a.test", "*.b.test"], &[]),
            site(&["a.test", "*.b.test"], &[]),
            site(&[], &[]),
            site(&[], &[]),
        ]);
        let found = ["a.test", "x.b.test", ""].map(|name| find(&hosts, name, ""));
        assert_eq!(found, [Some(0), Some(0), Some(2)]);
    }
}
