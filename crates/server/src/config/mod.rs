//! The configuration file: from its text to what it says, or to every mistake
//! in it.
//!
//! `toml` reads the text and knows where everything stands; `table` takes values
//! of the expected types out of it; `top`, `site`, `rules`, `files` and `answers`
//! make of them what `model` has; `reach`, `loops` and `suffixes` look at
//! what sites and routes are to each other. Each notes what is wrong and goes on.

pub(crate) mod address;
mod answers;
mod files;
mod host;
mod loops;
mod memory;
mod mistakes;
mod model;
pub(crate) mod parse;
pub(crate) mod pools;
pub(crate) mod proxy;
mod reach;
mod rules;
mod schema;
mod site;
mod source;
pub(crate) mod spool;
mod suffixes;
mod table;
mod top;
mod upstreams;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use sluicegate_http::Limits;
use toml::de::DeTable;

use self::mistakes::{Mistake, Mistakes};
use self::source::Source;
use self::table::{Reader, Table};

pub(crate) use self::loops::listener;
pub(crate) use self::model::{
    Access, AccessLog, Action, Address, Balance, Config, Ejection, ForwardedRule, HeaderRules,
    Health, Host, HostRule, LogFormat, LogTo, Match, Pool, Proxy, ProxyProtocol, Redirect,
    RequestBodyRule, Route, Server, Site, spool as spool_options,
};

/// The address that is listened on unless another one is named: this host alone.
pub(crate) const LISTEN: &str = "127.0.0.1:8080";

/// What a connection may cost, unless it is said. No route takes request bodies
/// yet: who sends one, of whatever size, is to learn that, and not that the body
/// is too large.
pub(crate) fn limits() -> Limits {
    Limits { body: u64::MAX, ..Limits::default() }
}

/// The largest file that is read: 20,000 sites take about so much.
const LARGEST: u64 = 4 << 20;

/// Reads the file at `path`. Relative paths in it are relative to its directory.
///
/// # Errors
/// All mistakes together, each with its file, line and column.
pub(crate) fn load(path: &Path) -> Result<Config> {
    let text = read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let text = match String::from_utf8(text) {
        Ok(text) => text,
        Err(error) => {
            let at = error.utf8_error().valid_up_to();
            let text = String::from_utf8_lossy(error.as_bytes());
            let message = "this is not UTF-8; expected a text file".to_owned();
            let mistake = Mistake { span: at..at + 1, message, is_absence: false };
            let source = Source::new(path, &text);
            bail!(Mistakes::of(&source, vec![mistake]).context("a mistake without a place")?);
        }
    };
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let source = Source::new(path, &text);
    let mut config = understand(&source, whole.parent().unwrap_or(Path::new("/")))?;
    config.path = whole;
    Ok(config)
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => anyhow::anyhow!("there is no such file"),
        ErrorKind::PermissionDenied => anyhow::anyhow!("permission denied"),
        _ => error.into(),
    })?;
    if file.metadata()?.is_dir() {
        bail!("it is a directory; expected a file such as sluicegate.toml");
    }
    let mut text = Vec::new();
    // One byte more tells a file that is too large from one that just fits.
    file.take(LARGEST + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LARGEST {
        bail!("it has more than {} MiB, which is no configuration", LARGEST >> 20);
    }
    Ok(text)
}

/// What a text says.
///
/// # Errors
/// All mistakes together.
fn understand(source: &Source<'_>, directory: &Path) -> Result<Config, Mistakes> {
    let (document, errors) = DeTable::parse_recoverable(source.text);
    let reader = Reader {
        source,
        directory,
        mistakes: RefCell::default(),
        roots: RefCell::default(),
        spools: RefCell::default(),
    };
    let config = document_of(&reader, &document);
    let mut mistakes = reader.mistakes.into_inner();
    let syntax = syntax_mistakes(source, &errors);
    if !syntax.is_empty() {
        distrust(source, &mut mistakes, &syntax);
    }
    mistakes.extend(syntax);
    match Mistakes::of(source, mistakes) {
        None => Ok(config),
        Some(mistakes) => Err(mistakes),
    }
}

/// What the parser could not read: the first in each line, of which the others
/// there are mostly consequences.
fn syntax_mistakes(source: &Source<'_>, errors: &[toml::de::Error]) -> Vec<Mistake> {
    let end = source.text.len();
    let mistake = |error: &toml::de::Error| {
        let span = error.span().unwrap_or(end..end);
        let rest = source.text.get(span.start..).unwrap_or_default();
        let is_bare = error.message().starts_with("string values must be quoted");
        // Where nothing is, the parser takes it for an empty word.
        let message = match rest.chars().next() {
            None | Some('\n' | '\r' | '#') if is_bare => "a value is missing",
            _ => error.message(),
        };
        Mistake { span, message: message.to_owned(), is_absence: false }
    };
    let mut mistakes: Vec<Mistake> = errors.iter().map(mistake).collect();
    mistakes.sort_by_key(|mistake| mistake.span.start);
    mistakes.dedup_by_key(|mistake| source.line_of(mistake.span.start));
    mistakes
}

/// Takes away what may only seem to be wrong, since the parser could not read
/// all of the text: what is missing, what stands in a line that was not read, and
/// what comes after a `[table]` that was not read and so belongs to another one.
fn distrust(source: &Source<'_>, mistakes: &mut Vec<Mistake>, syntax: &[Mistake]) {
    let line = |mistake: &Mistake| source.line_of(mistake.span.start);
    let broken: HashSet<usize> = syntax.iter().map(line).collect();
    let is_header = |line: &usize| source.line(*line).trim_start().starts_with('[');
    let lost = broken.iter().copied().filter(is_header).min().unwrap_or(usize::MAX);
    mistakes.retain(|mistake| {
        let line = line(mistake);
        !mistake.is_absence && line < lost && !broken.contains(&line)
    });
}

/// What the document says where it is right.
fn document_of(reader: &Reader<'_>, document: &toml::Spanned<DeTable<'_>>) -> Config {
    let table = Table::new(reader, 0..0, document.get_ref(), &schema::TOP);
    let listen = table.get("listen");
    let mut addresses = listen.map(|item| top::listen(reader, &item)).unwrap_or_default();
    let admin = top::admin(reader, &table);
    let (strategy, locality) = top::send(reader, &table);
    let (limits, drain) = top::limits(reader, &table);
    let (spool_budget, spools) = spool::top(reader, &table);
    let spools = Arc::new(spools);
    let pools = pools::pools(reader, &table);
    let tables = match table.get("site") {
        Some(item) => item.tables(reader, &schema::SITE),
        None => {
            reader.absence(0..0, "there is no site; expected `[[site]]`");
            Vec::new()
        }
    };
    let sites: Vec<_> = tables.iter().map(|table| site::site(reader, table, &spools)).collect();
    let is_default_address = listen.is_none() && sites.iter().all(|site| !site.has_listen);
    if is_default_address && let Ok(default) = LISTEN.parse::<SocketAddr>() {
        addresses.push(toml::Spanned::new(0..0, default));
    }
    let listened = reach::addresses(reader, &addresses, admin.as_ref(), &sites);
    if listen.is_some() {
        reach::idle_addresses(reader, &addresses, &sites);
    }
    reach::doubled_sites(reader, &sites);
    let pools = upstreams::pools(reader, pools, &sites);
    loops::proxies(reader, &listened, &sites, &pools);
    for site in &sites {
        upstreams::internal_routes(reader, site);
        reach::routes(reader, site);
        loops::redirects(reader, site);
        suffixes::ways_around(reader, site);
    }
    Config {
        path: reader.source.path.to_owned(),
        listen: listened,
        is_default_address,
        workers: top::workers(reader, &table),
        user: top::user(reader, &table),
        admin: admin.map(toml::Spanned::into_inner),
        access_log: top::access_log(reader, &table),
        strategy,
        locality,
        limits,
        drain,
        pools,
        spool_budget,
        proxy_protocol_from: top::proxy_protocol_from(reader, &table),
        sites: sites.into_iter().map(site::ReadSite::finish).collect(),
    }
}

#[cfg(test)]
mod tests;
