//! Pools of upstreams.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

use super::address;
use super::host::host;
use super::mistakes::quoted;
use super::model::{Address, Balance, Ejection, Health, Host, Pool, ProxyProtocol, Server};
use super::schema;
use super::table::{Item, Reader, Table};
use super::top::PATIENCE;

/// How requests are shared out, by their names here and on the command line.
pub(crate) const BALANCES: [(&str, Balance); 4] = [
    ("round-robin", Balance::RoundRobin),
    ("least-connections", Balance::LeastConnections),
    ("hash", Balance::HashClient),
    ("hash-path", Balance::HashPath),
];

const EXAMPLE: &str = "a list of servers, such as [\"127.0.0.1:9001\"]";

/// A pool with its place in the file.
#[derive(Debug)]
pub(super) struct ReadPool {
    /// Of its name.
    pub(super) span: std::ops::Range<usize>,
    pub(super) pool: Pool,
}

pub(super) fn pools(reader: &Reader<'_>, top: &Table<'_>) -> Vec<ReadPool> {
    let Some(item) = top.get("pool") else { return Vec::new() };
    let expected = "tables, each begun by `[pool.NAME]`";
    let entries = item.entries(reader, expected);
    let pools = entries.iter().flatten().filter_map(|item| {
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if item.name.is_empty() || !item.name.bytes().all(is_name_byte) {
            let message = format_args!(
                "{} is no name of a pool; expected letters, digits, `-`, `_` and `.`",
                quoted(item.name)
            );
            reader.mistake(item.key_span(), message);
        }
        let table = item.table(reader, &schema::POOL, "a table, such as `[pool.app]`")?;
        Some(ReadPool { span: item.key_span(), pool: pool(reader, item.name, &table) })
    });
    pools.collect()
}

fn pool(reader: &Reader<'_>, name: &str, table: &Table<'_>) -> Pool {
    let servers = servers(reader, table);
    let mut pool = Pool::new(name.to_owned(), servers);
    pool.line = reader.line(table.span.start);
    let duration = |key: &'static str, range: RangeInclusive<Duration>| {
        table.get(key).and_then(|item| item.duration(reader, range))
    };
    pool.idle = duration("idle", PATIENCE).unwrap_or(pool.idle);
    pool.connect = duration("connect", PATIENCE).unwrap_or(pool.connect);
    let patience = Duration::ZERO..=*PATIENCE.end();
    pool.queue_timeout = duration("queue_timeout", patience).unwrap_or(pool.queue_timeout);
    pool.keep_alive = count(reader, table, "keep_alive", 0..=10_000, 32).unwrap_or(pool.keep_alive);
    let requests = count(reader, table, "requests_per_connection", 1..=u32::MAX.into(), 1000);
    pool.requests_per_connection = requests.unwrap_or(pool.requests_per_connection);
    pool.queue = count(reader, table, "queue", 0..=1_000_000, 1024).unwrap_or(pool.queue);
    let balance = table.get("balance").and_then(|item| item.choice(reader, &BALANCES));
    pool.balance = balance.unwrap_or(pool.balance);
    pool.health = table.get("health").and_then(|item| health(reader, &item));
    if let Some(item) = table.get("ejection") {
        pool.ejection = ejection(reader, &item).unwrap_or(pool.ejection);
    }
    let versions = [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2)];
    let version = table.get("proxy_protocol").and_then(|item| item.choice(reader, &versions));
    pool.proxy_protocol = version;
    pool.resolver = table.get("resolver").and_then(|item| resolver(reader, &item, &pool.servers));
    pool
}

/// A whole number of any type.
pub(super) fn count<T: TryFrom<u64>>(
    reader: &Reader<'_>,
    table: &Table<'_>,
    key: &'static str,
    range: RangeInclusive<u64>,
    example: u64,
) -> Option<T> {
    let number = table.get(key)?.integer(reader, range, example)?;
    T::try_from(number).ok()
}

fn servers(reader: &Reader<'_>, table: &Table<'_>) -> Vec<Server> {
    let Some(item) = table.require(reader, "servers", EXAMPLE) else { return Vec::new() };
    let Some(list) = item.list(reader, EXAMPLE) else { return Vec::new() };
    if list.is_empty() {
        reader.mistake(item.span(), format_args!("`servers` is empty; expected {EXAMPLE}"));
    }
    let mut seen: HashMap<Address, usize> = HashMap::new();
    let mut all = Vec::new();
    let mut is_whole = true;
    for item in &list {
        let Some(server) = server(reader, item) else {
            is_whole = false;
            continue;
        };
        if let Some(before) = seen.insert(server.address.clone(), item.span().start) {
            let message = format_args!(
                "`{}` is in this pool already, in line {}; expected it once (`weight` has it asked \
                 more often)",
                server.address,
                reader.line(before)
            );
            reader.mistake(item.span(), message);
        }
        all.push(server);
    }
    if is_whole && !all.is_empty() && all.iter().all(|server| server.backup) {
        let message = "all servers are backups; expected one that is asked first";
        reader.mistake(item.span(), message);
    }
    all
}

fn server(reader: &Reader<'_>, item: &Item<'_>) -> Option<Server> {
    let expected = "an address, such as \"127.0.0.1:9001\", or a table, such as { address = \
                    \"127.0.0.1:9001\", weight = 2 }";
    if item.value().is_str() {
        return item.parsed(reader, expected, address::server).map(Server::new);
    }
    let table = item.table(reader, &schema::SERVER, expected)?;
    let weight = count(reader, &table, "weight", 1..=1000, 2);
    let most = count(reader, &table, "max_connections", 1..=1_000_000, 100);
    let backup = table.get("backup").and_then(|item| item.boolean(reader));
    let expected = "an address, such as \"127.0.0.1:9001\"";
    // A table in a list has no key of its own: its place is the list's.
    let Some(address) = table.get("address") else {
        reader.absence(item.span(), format_args!("`address` is missing; expected {expected}"));
        return None;
    };
    let address = address.parsed(reader, expected, address::server)?;
    Some(Server {
        weight: weight.unwrap_or(1),
        max_connections: most,
        backup: backup.unwrap_or(false),
        ..Server::new(address)
    })
}

fn health(reader: &Reader<'_>, item: &Item<'_>) -> Option<Health> {
    let example = "a table, such as { path = \"/healthz\", interval = \"2s\" }";
    let table = item.table(reader, &schema::HEALTH, example)?;
    let expected = "a path, such as \"/healthz\"";
    let path = table.require(reader, "path", expected);
    let path = path.and_then(|item| item.parsed(reader, expected, request_path));
    let mut health = Health::new(path.clone().unwrap_or_default());
    let duration = |key| table.get(key).and_then(|item: Item<'_>| item.duration(reader, PATIENCE));
    health.interval = duration("interval").unwrap_or(health.interval);
    health.timeout = duration("timeout").unwrap_or(health.timeout);
    health.host = table.get("host").and_then(|item| host_value(reader, &item));
    if let Some(item) = table.get("status") {
        health.status = statuses(reader, &item).unwrap_or(health.status);
    }
    health.fails = count(reader, &table, "fails", 1..=1000, 3).unwrap_or(health.fails);
    health.passes = count(reader, &table, "passes", 1..=1000, 2).unwrap_or(health.passes);
    path.map(|_| health)
}

/// What is asked for in a request of our own: as it stands in one.
pub(crate) fn request_path(text: &str) -> Result<String, String> {
    if !text.starts_with('/') {
        let expected = "expected a path that begins with a slash";
        let is_plain = !text.is_empty() && !text.contains(':');
        let guess = is_plain.then(|| format!("; did you mean `/{text}`?"));
        return Err(format!("{expected}{}", guess.unwrap_or_default()));
    }
    if text.contains('#') || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        let expected = "expected it as it stands in a request, percent-encoded and without `#`";
        return Err(expected.to_owned());
    }
    Ok(text.to_owned())
}

/// The value of a Host field: a name, perhaps with its port.
pub(super) fn host_value(reader: &Reader<'_>, item: &Item<'_>) -> Option<String> {
    item.parsed(reader, "a name, such as \"app.example.test\"", authority)
}

/// A name, perhaps with its port, as Host has it.
pub(crate) fn authority(text: &str) -> Result<String, String> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(address.to_string());
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, port)) if port.parse::<u16>().is_ok_and(|port| port != 0) => (name, Some(port)),
        _ => (text, None),
    };
    // What a site could be told does not help here.
    let of_sites =
        |error: &String| ["*", "`hosts`", "`listen`"].iter().any(|it| error.contains(it));
    match host(name) {
        Ok(Host::Name(name)) => Ok(port.map_or(name.clone(), |port| format!("{name}:{port}"))),
        Err(error) if !of_sites(&error) => Err(error),
        Ok(Host::Wildcard(_)) | Err(_) => {
            Err("expected one name, such as \"app.example.test\"".to_owned())
        }
    }
}

/// One status, or from one to another.
fn statuses(reader: &Reader<'_>, item: &Item<'_>) -> Option<(u16, u16)> {
    if item.value().is_integer() {
        let status = u16::try_from(item.integer(reader, 100..=599, 200)?).ok()?;
        return Some((status, status));
    }
    let expected = "a status or a range of them, such as \"200-399\"";
    item.parsed(reader, expected, |text| {
        let (from, to) = text.split_once('-').unwrap_or((text, text));
        let status = |text: &str| {
            let status = text.trim().parse().ok().filter(|_| text.trim().len() == 3);
            status.filter(|status| (100..600).contains(status))
        };
        match (status(from), status(to)) {
            (Some(from), Some(to)) if from <= to => Ok((from, to)),
            _ => Err(format!("expected {expected}")),
        }
    })
}

fn ejection(reader: &Reader<'_>, item: &Item<'_>) -> Option<Ejection> {
    if item.value().as_bool() == Some(false) {
        return Some(Ejection { failures: 0, ..Ejection::default() });
    }
    let example = "false, or a table, such as { failures = 3, pause = \"10s\" }";
    let table = item.table(reader, &schema::EJECTION, example)?;
    let Ejection { failures, pause, slow_start } = Ejection::default();
    let at_once = Duration::ZERO..=*PATIENCE.end();
    let duration = |key: &'static str, range| {
        table.get(key).and_then(|item: Item<'_>| item.duration(reader, range))
    };
    Some(Ejection {
        failures: count(reader, &table, "failures", 0..=1000, 3).unwrap_or(failures),
        pause: duration("pause", PATIENCE).unwrap_or(pause),
        slow_start: duration("slow_start", at_once).unwrap_or(slow_start),
    })
}

fn resolver(reader: &Reader<'_>, item: &Item<'_>, servers: &[Server]) -> Option<SocketAddr> {
    let expected = "the address of a name server, such as \"10.0.0.2\" or \"10.0.0.2:53\"";
    let address = item.parsed(reader, expected, |text| {
        let whole = text.parse::<SocketAddr>().ok();
        let alone = || text.parse().ok().map(|ip| SocketAddr::new(ip, 53));
        whole.or_else(alone).filter(|it| it.port() != 0).ok_or(format!("expected {expected}"))
    })?;
    let is_name = |server: &Server| matches!(server.address, Address::Name { .. });
    if !servers.is_empty() && !servers.iter().any(is_name) {
        let message = "no server of this pool has a name; expected no `resolver`";
        reader.mistake(item.key_span(), message);
    }
    Some(address)
}

/// The size of a buffer or a limit, where `none` may be said, too.
pub(super) fn size_or_none(
    reader: &Reader<'_>,
    item: &Item<'_>,
    range: RangeInclusive<ByteSize>,
) -> Option<u64> {
    match item.value().as_str() {
        Some("none") => Some(u64::MAX),
        _ => item.size(reader, range).map(|size| size.as_u64()),
    }
}
