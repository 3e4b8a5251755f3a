//! Whether everything that is configured can be reached: addresses, sites and
//! routes, beside each other. All of it in time linear to the file.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::SocketAddr;
use std::ops::Range;

use toml::Spanned;

use super::model::{Host, Match};
use super::site::{ReadRoute, ReadSite};
use super::table::Reader;

/// Who has claimed which addresses, for each of several keys. An address that
/// stands for all of its family (`0.0.0.0`) overlaps with every other of the
/// same port; families do not overlap, since IPv6 sockets take no IPv4 here.
#[derive(Debug)]
struct Claims<K, T> {
    exact: HashMap<(K, SocketAddr), T>,
    /// By family and port: the one for the whole family, and the first of any.
    whole: HashMap<(K, bool, u16), T>,
    any: HashMap<(K, bool, u16), T>,
}

impl<K: Copy + Eq + Hash, T: Copy> Claims<K, T> {
    fn new() -> Self {
        Claims { exact: HashMap::new(), whole: HashMap::new(), any: HashMap::new() }
    }

    /// Claims an address, or returns whoever has claimed it.
    fn claim(&mut self, key: K, address: SocketAddr, who: T) -> Result<(), T> {
        // A port of the kernel's choice is another one each time.
        if address.port() == 0 {
            return Ok(());
        }
        if let Some(before) = self.exact.get(&(key, address)) {
            return Err(*before);
        }
        let family = (key, address.is_ipv6(), address.port());
        let beside = if address.ip().is_unspecified() { &self.any } else { &self.whole };
        if let Some(before) = beside.get(&family) {
            return Err(*before);
        }
        self.exact.insert((key, address), who);
        self.any.entry(family).or_insert(who);
        if address.ip().is_unspecified() {
            self.whole.insert(family, who);
        }
        Ok(())
    }

    /// Whether the address, or all of its family, is claimed.
    fn covers(&self, key: K, address: SocketAddr) -> bool {
        let family = (key, address.is_ipv6(), address.port());
        self.exact.contains_key(&(key, address)) || self.whole.contains_key(&family)
    }
}

/// What is listened on: the addresses of the top level, and those of sites that
/// these do not cover. Notes overlapping ones.
pub(super) fn addresses(
    reader: &Reader<'_>,
    top: &[Spanned<SocketAddr>],
    admin: Option<&Spanned<SocketAddr>>,
    sites: &[ReadSite],
) -> Vec<SocketAddr> {
    let mut claims = Claims::new();
    let mut all = Vec::new();
    for address in top {
        let value = *address.get_ref();
        match claims.claim((), value, address.span().start) {
            Ok(()) => all.push(value),
            Err(before) => {
                let line = reader.line(before);
                let message = format_args!("`{value}` overlaps with an address of line {line}");
                reader.mistake(address.span(), message);
            }
        }
    }
    let mut more: Vec<&Spanned<SocketAddr>> = Vec::new();
    for site in sites {
        let mut own = Claims::new();
        for address in &site.listen {
            let value = *address.get_ref();
            if value.port() == 0 {
                let message = "`0` is any port; expected the port that this site is reached at";
                reader.mistake(address.span(), message);
            } else if let Err(before) = own.claim((), value, address.span().start) {
                let line = reader.line(before);
                let message = format_args!("`{value}` overlaps with an address of line {line}");
                reader.mistake(address.span(), message);
            } else {
                more.push(address);
            }
        }
    }
    // Those for a whole family first: they take in the others.
    more.sort_by_key(|address| !address.get_ref().ip().is_unspecified());
    for address in more {
        let value = *address.get_ref();
        if claims.covers((), value) {
            continue;
        }
        match claims.claim((), value, address.span().start) {
            Ok(()) => all.push(value),
            Err(before) => {
                let line = reader.line(before);
                let message = format_args!("`{value}` overlaps with an address of line {line}");
                reader.mistake(address.span(), message);
            }
        }
    }
    if let Some(admin) = admin
        && let Err(before) = claims.claim((), *admin.get_ref(), admin.span().start)
    {
        let (value, line) = (admin.get_ref(), reader.line(before));
        let message = format_args!("`{value}` overlaps with an address of line {line}");
        reader.mistake(admin.span(), message);
    }
    all
}

/// Notes addresses of the top level at which there is no site.
pub(super) fn idle_addresses(reader: &Reader<'_>, top: &[Spanned<SocketAddr>], sites: &[ReadSite]) {
    if sites.is_empty() || sites.iter().any(|site| !site.has_listen) {
        return;
    }
    let mut claims = Claims::new();
    for address in sites.iter().flat_map(|site| &site.listen) {
        let _ = claims.claim((), *address.get_ref(), ());
    }
    for address in top {
        let value = *address.get_ref();
        // Claimed as a whole family, any address of it is enough.
        if claims.claim((), value, ()).is_ok() {
            let message =
                format_args!("no site is reached at `{value}`; each has its own `listen`");
            reader.mistake(address.span(), message);
        }
    }
}

/// Notes hosts, and defaults, that two sites have at the same address. A site at
/// a more particular address goes before one at all of them, so that only equal
/// addresses are in each other's way.
pub(super) fn doubled_sites(reader: &Reader<'_>, sites: &[ReadSite]) {
    let mut known: HashMap<(Option<&Host>, Option<SocketAddr>), usize> = HashMap::new();
    for site in sites {
        let mut keys: Vec<(Option<&Host>, Range<usize>)> = Vec::new();
        for host in &site.hosts {
            keys.push((Some(host.get_ref()), host.span()));
        }
        if !site.has_hosts {
            keys.push((None, site.span.clone()));
        }
        let addresses: Vec<Option<SocketAddr>> = if site.has_listen {
            site.listen.iter().map(|address| Some(*address.get_ref())).collect()
        } else {
            vec![None]
        };
        let mut own = HashSet::new();
        for (key, span) in keys {
            if let Some(host) = key
                && !own.insert(host)
            {
                reader.mistake(span, format_args!("{} is in this list already", shown(host)));
                continue;
            }
            let mut before = None;
            for &address in &addresses {
                match known.entry((key, address)) {
                    Entry::Occupied(other) => before = before.or(Some(*other.get())),
                    Entry::Vacant(room) => {
                        room.insert(span.start);
                    }
                }
            }
            let Some(line) = before.map(|at| reader.line(at)) else { continue };
            match key {
                Some(host) => reader.mistake(
                    span,
                    format_args!(
                        "{} is the host of another site at the same addresses, in line {line}",
                        shown(host)
                    ),
                ),
                None => reader.mistake(
                    span,
                    format_args!(
                        "a second default site; the one of line {line} has no `hosts` either, \
                         at the same addresses"
                    ),
                ),
            }
        }
    }
}

fn shown(host: &Host) -> String {
    match host {
        Host::Name(name) => format!("`{name}`"),
        Host::Wildcard(name) => format!("`*.{name}`"),
    }
}

/// Notes the routes of a site that no path comes to. Of prefixes and of suffixes
/// the longest wins, whatever their order, so that only equals are in each
/// other's way.
pub(super) fn routes(reader: &Reader<'_>, site: &ReadSite) {
    let mut known: HashMap<&Match, usize> = HashMap::new();
    for ReadRoute { span, text, matches, .. } in &site.routes {
        match known.entry(matches) {
            Entry::Occupied(before) => {
                let line = reader.line(*before.get());
                let message =
                    format_args!("no path comes here: the route of line {line} has `{text}`, too");
                reader.mistake(span.clone(), message);
            }
            Entry::Vacant(room) => {
                room.insert(span.start);
            }
        }
    }
}
