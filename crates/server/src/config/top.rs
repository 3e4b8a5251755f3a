//! The top level of a configuration, and its small tables.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use sluicegate::{Locality, LocalityRule, Strategy};
use sluicegate_http::Limits;
use toml::Spanned;

use super::model::{AccessLog, LogFormat, LogTo};
use super::schema;
use super::table::{Item, Reader, Table};
use super::{LISTEN, parse};
use crate::serve::DRAIN;

/// Times for a peer: less would cut off honest ones, more is none.
pub(super) const PATIENCE: RangeInclusive<Duration> =
    Duration::from_millis(100)..=Duration::from_hours(24);

/// Addresses to listen on; `None` where nothing, or nothing right, is said.
pub(super) fn listen<'a>(reader: &Reader<'_>, item: &Item<'a>) -> Vec<Spanned<SocketAddr>> {
    let expected = format!("a list of addresses, such as [\"{LISTEN}\"]");
    let Some(list) = item.list(reader, &expected) else { return Vec::new() };
    if list.is_empty() {
        reader.mistake(item.span(), format_args!("`listen` is empty; expected {expected}"));
    }
    let address = |item: &Item<'a>| {
        let expected = format!("an address and a port, such as \"{LISTEN}\"");
        let address = item.parsed(reader, &expected, parse::address)?;
        Some(Spanned::new(item.span(), address))
    };
    list.iter().filter_map(address).collect()
}

pub(super) fn workers(reader: &Reader<'_>, top: &Table<'_>) -> usize {
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let given = top.get("workers").and_then(|item| item.integer(reader, 1..=1024, 2));
    given.and_then(|given| usize::try_from(given).ok()).unwrap_or(cores)
}

pub(super) fn user(reader: &Reader<'_>, top: &Table<'_>) -> Option<String> {
    let expected = "a user, such as \"www-data\" or \"www-data:adm\" with a group";
    top.get("user")?.parsed(reader, expected, |text| {
        let is_odd = |c: char| c.is_whitespace() || c.is_control() || ":/,".contains(c);
        let is_name =
            |name: &str| !name.is_empty() && !name.starts_with('-') && !name.contains(is_odd);
        let (user, group) = text.split_once(':').unwrap_or((text, text));
        if !is_name(user) || !is_name(group) {
            return Err(format!("expected {expected}"));
        }
        Ok(text.to_owned())
    })
}

pub(super) fn admin(reader: &Reader<'_>, top: &Table<'_>) -> Option<Spanned<SocketAddr>> {
    let item = top.get("admin")?;
    let expected = "an address and a port, such as \"127.0.0.1:8081\"";
    let address = item.parsed(reader, expected, parse::address)?;
    Some(Spanned::new(item.span(), address))
}

pub(super) fn access_log(reader: &Reader<'_>, top: &Table<'_>) -> Option<AccessLog> {
    let example = "{ path = \"-\", format = \"json\" }";
    let table = top.get("access_log")?.table(
        reader,
        &schema::ACCESS_LOG,
        &format!("a table, such as {example}"),
    )?;
    let format = table.get("format").and_then(|item| {
        item.choice(reader, &[("json", LogFormat::Json), ("combined", LogFormat::Combined)])
    });
    let acked = table.get("acked").and_then(|item| item.boolean(reader)).unwrap_or(false);
    let to = table.require(reader, "path", "a file, or \"-\" for standard output")?;
    let to = to.parsed(reader, "a file, or \"-\" for standard output", |text| {
        if text == "-" {
            return Ok(LogTo::Stdout);
        }
        let path = reader.path(text);
        let directory = path.parent().unwrap_or(&path);
        if text.is_empty() || text.ends_with('/') || path.is_dir() {
            Err("expected a file, not a directory".to_owned())
        } else if directory.is_dir() {
            Ok(LogTo::File(path))
        } else {
            Err(format!("the directory `{}` is missing", directory.display()))
        }
    })?;
    Some(AccessLog { to, format: format.unwrap_or(LogFormat::Json), acked })
}

/// How ways to send are chosen, and what is known of peers.
pub(super) fn send(reader: &Reader<'_>, top: &Table<'_>) -> (Strategy, LocalityRule) {
    let (mut strategy, mut rule) = (Strategy::default(), LocalityRule::default());
    let table = top.get("send");
    let table = table.and_then(|item| item.table(reader, &schema::SEND, "a table, `[send]`"));
    let Some(table) = table else { return (strategy, rule) };
    let forced = table.get("strategy").and_then(|item| item.choice(reader, &parse::STRATEGIES));
    strategy.forced = forced.unwrap_or(strategy.forced);
    let localities =
        [("auto", None), ("local", Some(Locality::Local)), ("remote", Some(Locality::Remote))];
    if let Some(forced) = table.get("locality").and_then(|item| item.choice(reader, &localities)) {
        rule.forced = forced;
    }
    if let Some(item) = table.get("trusted_remote") {
        let list = item.list(reader, "a list of networks, such as [\"203.0.113.0/24\"]");
        let network = |item: &Item<'_>| {
            item.parsed(reader, "a network, such as \"203.0.113.0/24\"", parse::network)
        };
        rule.trusted_remote = list.iter().flatten().filter_map(network).collect();
    }
    (strategy, rule)
}

/// Networks whose connections begin by telling who the client is.
pub(super) fn proxy_protocol_from(reader: &Reader<'_>, top: &Table<'_>) -> Vec<(IpAddr, u8)> {
    let Some(item) = top.get("proxy_protocol_from") else { return Vec::new() };
    let expected = "a list of networks, such as [\"10.0.0.0/8\"]";
    let list = item.list(reader, expected);
    let network = |item: &Item<'_>| {
        let expected = "a network, such as \"10.0.0.0/8\"";
        let network = item.parsed(reader, expected, parse::network)?;
        Some((network.addr(), network.prefix_len()))
    };
    list.iter().flatten().filter_map(network).collect()
}

/// What a connection may cost, and how long open ones may take at the end.
pub(super) fn limits(reader: &Reader<'_>, top: &Table<'_>) -> (Limits, Duration) {
    let mut limits = super::limits();
    let mut drain = DRAIN;
    let timeouts = top.get("timeouts");
    let timeouts =
        timeouts.and_then(|item| item.table(reader, &schema::TIMEOUTS, "a table, `[timeouts]`"));
    if let Some(table) = timeouts {
        for (key, value) in [
            ("head", &mut limits.timeouts.head),
            ("idle", &mut limits.timeouts.idle),
            ("send", &mut limits.timeouts.send),
            ("body", &mut limits.timeouts.body),
        ] {
            let given = table.get(key).and_then(|item| item.duration(reader, PATIENCE));
            *value = given.unwrap_or(*value);
        }
        // None at all is a way to end, too.
        let range = Duration::ZERO..=*PATIENCE.end();
        let given = table.get("drain").and_then(|item| item.duration(reader, range));
        drain = given.unwrap_or(drain);
    }
    let table = top.get("limits");
    let table = table.and_then(|item| item.table(reader, &schema::LIMITS, "a table, `[limits]`"));
    if let Some(table) = table {
        let range = ByteSize::kib(4)..=ByteSize::mib(1);
        let head = table.get("head_size").and_then(|item| item.size(reader, range));
        if let Some(head) = head.and_then(|head| usize::try_from(head.as_u64()).ok()) {
            // Lines keep their share of the head: a quarter for any, an eighth
            // for the first; never less than they have now, where there is room.
            limits.header_line = (head / 4).max(limits.header_line).min(head);
            limits.request_line = (head / 8).max(limits.request_line).min(head);
            limits.head = head;
        }
        let headers = table.get("headers").and_then(|item| item.integer(reader, 1..=10_000, 100));
        limits.headers = headers.and_then(|it| usize::try_from(it).ok()).unwrap_or(limits.headers);
        let requests = table.get("requests_per_connection");
        let most = u64::from(u32::MAX);
        let requests = requests.and_then(|item| item.integer(reader, 1..=most, 1000));
        let requests = requests.and_then(|requests| u32::try_from(requests).ok());
        limits.requests_per_connection = requests.unwrap_or(limits.requests_per_connection);
    }
    (limits, drain)
}
