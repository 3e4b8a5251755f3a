//! Routes to files.

use std::io::ErrorKind;
use std::path::Path;

use bytesize::ByteSize;
use sluicegate::file::{Links, Root};
use sluicegate_http::Coding;

use super::mistakes::quoted;
use super::model::{Action, Match};
use super::parse::{self, Prefix};
use super::schema;
use super::table::{Item, Reader, Table};
use crate::files::{CacheControl, Options, readable};

pub(super) fn files(
    reader: &Reader<'_>,
    item: &Item<'_>,
    matches: Option<&Match>,
) -> Option<Action> {
    let table = item.table(reader, &schema::FILES, "a table, such as { root = \"/srv/www\" }")?;
    let options = options(reader, &table);
    let strip_prefix = table.get("strip_prefix").map_or(Some(Vec::new()), |item| {
        item.parsed(reader, "a path, such as \"/app\"", |text| strip_prefix(text, matches))
    });
    if let (Some(Match::Prefix(path)), Some(stripped)) = (matches, &strip_prefix) {
        useless_prefixes(reader, &table, path, stripped);
    }
    let item = table.require(reader, "root", "a directory, such as \"/srv/www\"")?;
    let text = item.string(reader, "a directory, such as \"/srv/www\"")?;
    if text.is_empty() || text.contains('\0') {
        item.wrong(reader, text, "expected a directory, such as \"/srv/www\"");
        return None;
    }
    let root = reader.path(text);
    // A root that many routes share is looked at once.
    let known = reader.roots.borrow().get(&root).copied();
    let pages = named_files(&table);
    if known.is_none() || !pages.is_empty() {
        let opened = Root::open(&root, options.links);
        reader.roots.borrow_mut().insert(root.clone(), opened.is_ok());
        match &opened {
            Ok(opened) => look(reader, opened, &root, &pages),
            Err(error) if known.is_none() => {
                let reason = match error.kind() {
                    ErrorKind::NotFound => "is missing".to_owned(),
                    ErrorKind::NotADirectory => "is no directory".to_owned(),
                    ErrorKind::PermissionDenied => "may not be read: permission denied".to_owned(),
                    _ => format!("cannot be opened: {error}"),
                };
                let shown = quoted(&root.to_string_lossy());
                reader.mistake(item.span(), format_args!("the directory {shown} {reason}"));
            }
            Err(_) => {}
        }
    }
    Some(Action::Files { root, strip_prefix: strip_prefix?, options })
}

/// Notes prefixes beneath the root that no path of a route for `path` has.
fn useless_prefixes(reader: &Reader<'_>, table: &Table<'_>, path: &[u8], stripped: &[u8]) {
    let rest = path.strip_prefix(stripped).unwrap_or(path);
    let rest = rest.strip_prefix(b"/").filter(|_| !stripped.is_empty()).unwrap_or(rest);
    let named = named_files(table);
    let named = named.iter().filter_map(|item| item.value().as_str());
    let named: Vec<&str> = named.map(|name| name.trim_start_matches('/')).collect();
    let look = |text: &str, span: std::ops::Range<usize>| {
        let Ok(Prefix(prefix)) = parse::plain_prefix(text) else { return };
        // Pages of errors are found beneath the root, whatever was asked for.
        let is_page = named.iter().any(|name| name.as_bytes().starts_with(&prefix));
        if !is_page && !prefix.starts_with(rest) && !rest.starts_with(&prefix) {
            let (text, rest) = (quoted(text), String::from_utf8_lossy(rest));
            let message = format_args!(
                "no file of this route is beneath {text}; expected it to begin with `/{rest}`"
            );
            reader.mistake(span, message);
        }
    };
    for item in table.get("cache_control").and_then(|item| item.subitems()).iter().flatten() {
        look(item.name, item.key_span());
    }
    let edits = table.get("in_place_edits").map(|item| item.one_or_many());
    for item in edits.iter().flatten() {
        if let Some(text) = item.value().as_str() {
            look(text, item.span());
        }
    }
}

/// What names a file beneath the root.
fn named_files<'a>(table: &Table<'a>) -> Vec<Item<'a>> {
    let pages = table.get("error_pages").and_then(|item| item.subitems());
    table.get("fallback").into_iter().chain(pages.into_iter().flatten()).collect()
}

/// Notes files that are named and cannot be read.
fn look(reader: &Reader<'_>, root: &Root, path: &Path, items: &[Item<'_>]) {
    for item in items {
        let text = item.value().as_str();
        // What is wrong with its name was noted when it was read.
        let Some(Ok(named)) = text.map(parse::path) else { continue };
        if let Err(reason) = readable(root, &named.0) {
            let named = quoted(&String::from_utf8_lossy(&named.0));
            let path = quoted(&path.to_string_lossy());
            reader.mistake(item.span(), format_args!("{named} beneath {path} {reason}"));
        }
    }
}

/// What is taken off paths, as long as all paths of the route begin with it.
pub(super) fn strip_prefix(text: &str, matches: Option<&Match>) -> Result<Vec<u8>, String> {
    let Prefix(mut stripped) = parse::plain_prefix(text)?;
    if stripped.last() == Some(&b'/') {
        stripped.pop();
    }
    let within = |path: &[u8]| match path.strip_prefix(stripped.as_slice()) {
        Some(rest) => stripped.is_empty() || rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    };
    match matches {
        Some(Match::Prefix(path)) if !within(path) => {
            let path = String::from_utf8_lossy(path);
            Err(format!(
                "this route's paths need not begin with it; expected a beginning of `/{path}`"
            ))
        }
        _ => Ok(stripped),
    }
}

fn options(reader: &Reader<'_>, table: &Table<'_>) -> Options {
    let mut options = Options::default();
    let boolean = |key| table.get(key).and_then(|item: Item<'_>| item.boolean(reader));
    options.listing = boolean("listing").unwrap_or(options.listing);
    options.dotfiles = boolean("dotfiles").unwrap_or(options.dotfiles);
    if let Some(item) = table.get("index") {
        let expected = "the name of a file, such as \"index.html\", or a list of names";
        let names = item.one_or_many();
        options.index =
            names.iter().filter_map(|item| item.parsed(reader, expected, parse::name)).collect();
    }
    let file = |item: &Item<'_>| {
        let expected = "a file beneath the root, such as \"404.html\"";
        item.parsed(reader, expected, parse::path).map(|path| path.0)
    };
    options.fallback = table.get("fallback").and_then(|item| file(&item));
    if let Some(item) = table.get("error_pages") {
        for item in item.entries(reader, "a table, such as { 404 = \"404.html\" }").iter().flatten()
        {
            let status = parse::error_status(item.name);
            if status.is_none() {
                let message = format_args!(
                    "{} has no page; expected a status from 400 to 599",
                    quoted(item.name)
                );
                reader.mistake(item.key_span(), message);
            }
            options.error_pages.extend(status.zip(file(item)));
        }
    }
    if let Some(item) = table.get("cache_control") {
        options.cache_control = cache_control(reader, &item);
    }
    let links = [("inside", Links::Inside), ("never", Links::Never), ("anywhere", Links::Anywhere)];
    let links = table.get("symlinks").and_then(|item| item.choice(reader, &links));
    options.links = links.unwrap_or(options.links);
    if let Some(item) = table.get("precompressed") {
        options.precompressed = codings(reader, &item);
    }
    if let Some(item) = table.get("in_place_edits") {
        options.in_place_edits = in_place_edits(reader, &item);
    }
    let size = table.get("in_memory");
    let size = size.and_then(|item| item.size(reader, ByteSize(0)..=parse::IN_MEMORY));
    options.in_memory = size.map_or(options.in_memory, |size| size.as_u64());
    options.settle();
    options
}

fn cache_control(reader: &Reader<'_>, item: &Item<'_>) -> Vec<CacheControl> {
    let rule = |item: &Item<'_>, prefix| {
        let expected = "a string, such as \"max-age=3600\"";
        item.parsed(reader, expected, |text| parse::cache_control(prefix, text))
    };
    if item.value().is_str() {
        return rule(item, Prefix(Vec::new())).into_iter().collect();
    }
    let expected = "a string, or a table from beginnings of paths to values, \
                    such as { \"/\" = \"no-cache\", \"/assets/\" = \"max-age=31536000, immutable\" }";
    let mut all = Vec::new();
    for item in item.entries(reader, expected).iter().flatten() {
        match parse::plain_prefix(item.name) {
            Ok(prefix) => all.extend(rule(item, prefix)),
            Err(reason) => {
                let glue = if reason.starts_with("expected") { ';' } else { ':' };
                let message = format_args!("{} is no path{glue} {reason}", quoted(item.name));
                reader.mistake(item.key_span(), message);
            }
        }
    }
    all
}

fn codings(reader: &Reader<'_>, item: &Item<'_>) -> Vec<Coding> {
    let known = [("br", Coding::Brotli), ("zstd", Coding::Zstd), ("gzip", Coding::Gzip)];
    let list = item.list(reader, "a list of codings, such as [\"br\", \"gzip\"]");
    let mut all = Vec::new();
    for item in list.iter().flatten() {
        let Some(coding) = item.choice(reader, &known) else { continue };
        if all.contains(&coding) {
            reader.mistake(item.span(), "this coding is in the list already");
        } else {
            all.push(coding);
        }
    }
    all
}

fn in_place_edits(reader: &Reader<'_>, item: &Item<'_>) -> Vec<Vec<u8>> {
    if let Some(everywhere) = item.value().as_bool() {
        return everywhere.then(Vec::new).into_iter().collect();
    }
    let expected = "true, false, or a list of beginnings of paths, such as [\"/live/\"]";
    let list = item.list(reader, expected);
    let expected = "a path, such as \"/live/\"";
    let prefix = |item: &Item<'_>| item.parsed(reader, expected, parse::plain_prefix);
    list.iter().flatten().filter_map(prefix).map(|prefix| prefix.0).collect()
}
