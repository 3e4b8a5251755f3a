//! Sites and routes, one by one; what they are to each other is `reach`'s.

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use sluicegate::SpoolOptions;
use toml::Spanned;

use super::answers;
use super::files;
use super::host::host;
use super::mistakes::listed;
use super::model::{Action, Host, Match, Route, Site};
use super::parse;
use super::proxy::{self, Asked};
use super::rules::Rules;
use super::schema::{ACTIONS, ROUTE};
use super::table::{Item, Reader, Table};
use super::top;

/// A site with its places in the file.
#[derive(Debug)]
pub(super) struct ReadSite {
    pub(super) span: Range<usize>,
    pub(super) hosts: Vec<Spanned<Host>>,
    pub(super) has_hosts: bool,
    pub(super) listen: Vec<Spanned<SocketAddr>>,
    pub(super) has_listen: bool,
    pub(super) routes: Vec<ReadRoute>,
}

/// A route with its places in the file.
#[derive(Debug)]
pub(super) struct ReadRoute {
    /// Of the value of `path` or `match`.
    pub(super) span: Range<usize>,
    /// As it stands there.
    pub(super) text: String,
    pub(super) matches: Match,
    /// Where it leads to, if it is a redirect.
    pub(super) redirect: Option<(String, Range<usize>)>,
    /// Which pool it asks, if it is a proxy.
    pub(super) asked: Option<Asked>,
    /// Where it says that it is internal.
    pub(super) internal: Option<Range<usize>>,
    /// Whether it says itself who may ask.
    pub(super) has_access: bool,
    /// The whole of it, unless there is a mistake in the rest.
    pub(super) route: Option<Route>,
}

impl ReadSite {
    pub(super) fn finish(self) -> Site {
        Site {
            hosts: self.hosts.into_iter().map(Spanned::into_inner).collect(),
            listen: self.listen.into_iter().map(Spanned::into_inner).collect(),
            routes: self.routes.into_iter().filter_map(|route| route.route).collect(),
        }
    }
}

pub(super) fn site(reader: &Reader<'_>, table: &Table<'_>, spools: &Arc<SpoolOptions>) -> ReadSite {
    let mut hosts: Vec<Spanned<Host>> = Vec::new();
    let given = table.get("hosts");
    if let Some(item) = given {
        let list = item.list(reader, "a list of names, such as [\"example.test\"]");
        if list.as_ref().is_some_and(Vec::is_empty) {
            let message = "`hosts` is empty; expected a name, or no `hosts` for the default site";
            reader.mistake(item.span(), message);
        }
        for item in list.iter().flatten() {
            let host = item.parsed(reader, "a name, such as \"example.test\"", host);
            hosts.extend(host.map(|host| Spanned::new(item.span(), host)));
        }
    }
    let listen = table.get("listen");
    let rules = Rules::read(reader, table);
    let routes = match table.get("route") {
        Some(item) => item.tables(reader, &ROUTE),
        None => Vec::new(),
    };
    if table.get("route").is_none() {
        reader.absence(table.span.clone(), "this site has no route; expected `[[site.route]]`");
    }
    ReadSite {
        span: table.span.clone(),
        hosts,
        has_hosts: given.is_some(),
        listen: listen.map(|item| top::listen(reader, &item)).unwrap_or_default(),
        has_listen: listen.is_some(),
        routes: routes.iter().filter_map(|table| route(reader, table, &rules, spools)).collect(),
    }
}

fn route(
    reader: &Reader<'_>,
    table: &Table<'_>,
    site: &Rules,
    spools: &Arc<SpoolOptions>,
) -> Option<ReadRoute> {
    let found = matches(reader, table);
    let rules = Rules::read(reader, table);
    let has_access = rules.has_access();
    let (headers, access) = rules.within(site);
    let internal = table.get("internal");
    let is_internal = internal.and_then(|item| item.boolean(reader)).unwrap_or(false);
    let mut to = To { spools, redirect: None, asked: None };
    let action = action(reader, table, found.as_ref().map(|(_, it)| it), &mut to);
    let (item, matches) = found?;
    let line = reader.line(table.span.start);
    Some(ReadRoute {
        span: item.span(),
        text: item.value().as_str().unwrap_or_default().to_owned(),
        redirect: to.redirect,
        asked: to.asked,
        internal: internal.filter(|_| is_internal).map(|item| item.span()),
        has_access,
        route: action.map(|action| {
            let matches = matches.clone();
            Route { matches, headers, access, action, internal: is_internal, line }
        }),
        matches,
    })
}

/// The paths of a route.
fn matches<'a>(reader: &Reader<'_>, table: &Table<'a>) -> Option<(Item<'a>, Match)> {
    match (table.get("path"), table.get("match")) {
        (Some(item), None) => {
            let prefix = item.parsed(reader, "a path, such as \"/app/\"", parse::plain_prefix)?;
            Some((item, Match::Prefix(prefix.0)))
        }
        (None, Some(item)) => {
            let suffix = item.parsed(reader, "a suffix, such as \"*.php\"", suffix)?;
            Some((item, Match::Suffix(suffix)))
        }
        (Some(_), Some(item)) => {
            reader.mistake(
                item.key_span(),
                "this route has both `path` and `match`; expected one of them",
            );
            None
        }
        (None, None) => {
            reader.absence(
                table.span.clone(),
                "this route matches nothing; expected `path = \"/app/\"` or `match = \"*.php\"`",
            );
            None
        }
    }
}

fn suffix(text: &str) -> Result<Vec<u8>, String> {
    let expected = "expected `*` and the end of paths, such as \"*.php\"";
    let Some(suffix) = text.strip_prefix('*') else {
        let is_prefix = text.starts_with('/') && !text.contains(['*', '^', '$', '~', '(']);
        return Err(match is_prefix {
            true => format!("{expected}; did you mean `path = \"{text}\"`?"),
            false if text.starts_with('.') => format!("{expected}; did you mean `*{text}`?"),
            false => expected.to_owned(),
        });
    };
    if suffix.is_empty() {
        return Err(format!("{expected}; did you mean `path = \"/\"`?"));
    }
    if suffix.contains(['*', '?', '#', '\\', '\0']) {
        return Err(expected.to_owned());
    }
    // What comes after a slash is part of a normal form, the slash at its end is not.
    let within = suffix.strip_prefix('/').unwrap_or(suffix);
    if suffix.ends_with('/') {
        return Err(format!("no path ends with a slash where it is compared; {expected}"));
    }
    parse::plain_prefix(&format!("/x{within}"))
        .map_err(|_| "expected it without percent-encoding and `..`".to_owned())?;
    Ok(suffix.as_bytes().to_vec())
}

/// What a route leads to, with its place, and what it needs of the top level.
struct To<'a> {
    spools: &'a Arc<SpoolOptions>,
    redirect: Option<(String, Range<usize>)>,
    asked: Option<Asked>,
}

/// What a route does.
fn action(
    reader: &Reader<'_>,
    table: &Table<'_>,
    matches: Option<&Match>,
    to: &mut To<'_>,
) -> Option<Action> {
    let given: Vec<Item<'_>> = ACTIONS.into_iter().filter_map(|key| table.get(key)).collect();
    let [item] = given.as_slice() else {
        match given.get(1) {
            Some(second) => {
                let names: Vec<&str> = given.iter().map(|item| item.name).collect();
                let names = listed(&names, "and");
                reader.mistake(
                    second.key_span(),
                    format_args!("this route has {names}; expected one of them"),
                );
            }
            // What is promised for later was found to be so.
            None if ROUTE.later.iter().any(|key| table.get(key).is_some()) => {}
            None => reader.absence(
                table.span.clone(),
                format_args!("this route does nothing; expected {}", listed(&ACTIONS, "or")),
            ),
        }
        return None;
    };
    match item.name {
        "files" => files::files(reader, item, matches),
        "proxy" => proxy::proxy(reader, item, matches, to.spools, &mut to.asked),
        "redirect" => answers::redirect(reader, item, &mut to.redirect),
        _ => answers::respond(reader, item),
    }
}
