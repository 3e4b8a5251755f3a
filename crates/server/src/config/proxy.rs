//! Routes whose answers come from a pool.

use std::ops::Range;
use std::sync::Arc;

use bytesize::ByteSize;
use sluicegate::SpoolOptions;
use sluicegate_http::{BadField, Fields};

use super::address;
use super::mistakes::quoted;
use super::model::{
    Action, BUFFER, ForwardedRule, HostRule, Match, Pool, Proxy, RequestBodyRule, Server,
};
use super::pools::{authority, count, size_or_none};
use super::table::{Item, Reader, Table};
use super::top::PATIENCE;
use super::{files, rules, schema, spool};

/// Fields of a request that belong to one connection (RFC 9110 section 7.6.1),
/// frame it, or have a key of their own.
const NOT_SET: [&str; 11] = [
    "connection",
    "content-length",
    "expect",
    "host",
    "http2-settings",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// The largest request body that may be kept in memory.
const BUFFERED: ByteSize = ByteSize::mib(64);

/// Which pool a route asks, with its place in the file.
#[derive(Debug)]
pub(super) enum Asked {
    /// By its name.
    Named(String, Range<usize>),
    /// One of its own.
    Own(Box<Pool>, Range<usize>),
}

pub(super) fn proxy(
    reader: &Reader<'_>,
    item: &Item<'_>,
    matches: Option<&Match>,
    spools: &Arc<SpoolOptions>,
    asked: &mut Option<Asked>,
) -> Option<Action> {
    let example = "a table, such as { url = \"http://127.0.0.1:9001\" }";
    let table = item.table(reader, &schema::PROXY, example)?;
    let name = pool(reader, &table, asked);
    let mut proxy = Proxy::new(name.clone().unwrap_or_default(), Arc::clone(spools));
    let stripped = table.get("strip_prefix").map_or(Some(Vec::new()), |item| {
        item.parsed(reader, "a path, such as \"/app\"", |text| files::strip_prefix(text, matches))
    });
    proxy.strip_prefix = stripped.unwrap_or_default();
    if let Some(item) = table.get("host") {
        let expected = "`preserve`, `upstream` or a name";
        proxy.host = item.parsed(reader, expected, host_rule).unwrap_or(proxy.host);
    }
    if let Some(item) = table.get("set_headers") {
        proxy.set_headers = set_headers(reader, &item);
    }
    if let Some(item) = table.get("remove_headers") {
        proxy.remove_headers = remove_headers(reader, &item, &proxy.set_headers);
    }
    let rules = [
        ("replace", ForwardedRule::Replace),
        ("append", ForwardedRule::Append),
        ("rfc7239", ForwardedRule::Rfc7239),
        ("off", ForwardedRule::Off),
    ];
    let rule = table.get("forwarded").and_then(|item| item.choice(reader, &rules));
    proxy.forwarded = rule.unwrap_or(proxy.forwarded);
    if let Some(item) = table.get("spool") {
        let example = "a table, such as { memory = \"64MiB\", disk = \"1GiB\" }";
        if let Some(table) = item.table(reader, &schema::ROUTE_SPOOL, example) {
            let mut options = (**spools).clone();
            spool::read(reader, &table, &mut options);
            // Equal ones are one.
            if options != **spools {
                proxy.spool = Arc::new(options);
            }
        }
    }
    request_body(reader, &table, &mut proxy);
    let duration = |key| table.get(key).and_then(|item: Item<'_>| item.duration(reader, PATIENCE));
    proxy.head_timeout = duration("head_timeout").unwrap_or(proxy.head_timeout);
    proxy.read_timeout = duration("read_timeout").unwrap_or(proxy.read_timeout);
    proxy.retries = count(reader, &table, "retries", 0..=10, 2).unwrap_or(proxy.retries);
    let boolean = |key| table.get(key).and_then(|item: Item<'_>| item.boolean(reader));
    proxy.accel = boolean("accel").unwrap_or(proxy.accel);
    proxy.upgrade = boolean("upgrade").unwrap_or(proxy.upgrade);
    name.map(|_| Action::Proxy(Arc::new(proxy)))
}

/// The name of the pool: one of the file, or one of its own for a URL.
fn pool(reader: &Reader<'_>, table: &Table<'_>, asked: &mut Option<Asked>) -> Option<String> {
    match (table.get("pool"), table.get("url")) {
        (Some(item), None) => {
            let name = item.string(reader, "the name of a pool, such as \"app\"")?;
            *asked = Some(Asked::Named(name.to_owned(), item.span()));
            Some(name.to_owned())
        }
        (None, Some(item)) => {
            let expected = "a URL, such as \"http://127.0.0.1:9001\"";
            let address = item.parsed(reader, expected, address::url)?;
            let mut pool = own_pool(vec![Server::new(address)]);
            pool.line = reader.line(item.span().start);
            let name = pool.name.clone();
            *asked = Some(Asked::Own(Box::new(pool), item.span()));
            Some(name)
        }
        (Some(_), Some(item)) => {
            let message = "this proxy has both `pool` and `url`; expected one of them";
            reader.mistake(item.key_span(), message);
            None
        }
        (None, None) => {
            let message = "`pool` is missing; expected `pool = \"app\"` or `url = \
                           \"http://127.0.0.1:9001\"`";
            reader.absence(table.span.clone(), message);
            None
        }
    }
}

/// A pool that no table names: it has its servers' URLs for a name.
pub(crate) fn own_pool(servers: Vec<Server>) -> Pool {
    let names: Vec<String> =
        servers.iter().map(|server| format!("http://{}", server.address)).collect();
    Pool::new(names.join(" "), servers)
}

/// What Host says: the client's, the server's, or a name.
pub(crate) fn host_rule(text: &str) -> Result<HostRule, String> {
    match text {
        "preserve" => Ok(HostRule::Preserve),
        "upstream" => Ok(HostRule::Upstream),
        // What was said in nginx's words.
        _ if text.starts_with('$') => Err(match text {
            "$host" | "$http_host" => "expected `preserve`".to_owned(),
            _ => "expected `preserve`, `upstream` or a name".to_owned(),
        }),
        _ => authority(text).map(HostRule::Fixed).map_err(|error| {
            match error.strip_prefix("expected one name") {
                Some(example) => format!("expected `preserve`, `upstream` or one name{example}"),
                None => error,
            }
        }),
    }
}

/// What is said to the upstream in place of what the client says.
fn set_headers(reader: &Reader<'_>, item: &Item<'_>) -> Fields {
    let mut fields = Fields::default();
    let is_named = |span: Range<usize>, text: &str| name(reader, span, text);
    let example = "a table, such as { \"X-Env\" = \"prod\" }";
    for (name, value) in rules::fields(reader, item, example, &is_named) {
        // Each was tried when it was read.
        let _ = fields.add(&name, &value);
    }
    fields
}

fn remove_headers(reader: &Reader<'_>, item: &Item<'_>, set: &Fields) -> Vec<String> {
    let list = item.list(reader, "a list of header names, such as [\"Cookie\"]");
    let mut all = Vec::new();
    for item in list.iter().flatten() {
        let Some(text) = item.string(reader, "a header name, such as \"Cookie\"") else { continue };
        if !name(reader, item.span(), text) {
            continue;
        }
        if set.value(text).is_some() {
            let message = format_args!("{} is in `set_headers`, too", quoted(text));
            reader.mistake(item.span(), message);
        }
        all.push(text.to_owned());
    }
    all
}

/// Notes a name that no field of a request to an upstream may be given.
fn name(reader: &Reader<'_>, span: Range<usize>, text: &str) -> bool {
    let is_ours = NOT_SET.iter().any(|own| own.eq_ignore_ascii_case(text));
    let message = match Fields::default().add(text, "") {
        Err(BadField::Name(_)) => "is not a header name; expected one such as `X-Env`",
        _ if text.eq_ignore_ascii_case("host") => "has a key of its own: `host`",
        _ if is_ours => "is of one connection alone; the proxy writes it itself",
        Err(_) => "is written by the proxy itself",
        Ok(()) => return true,
    };
    reader.mistake(span, format_args!("{} {message}", quoted(text)));
    false
}

fn request_body(reader: &Reader<'_>, table: &Table<'_>, proxy: &mut Proxy) {
    let rules = [("buffered", true), ("streamed", false)];
    let is_buffered = table.get("request_body").and_then(|item| item.choice(reader, &rules));
    let buffer = table.get("buffer");
    let size = buffer.and_then(|item| item.size(reader, ByteSize::kib(1)..=BUFFERED));
    match (is_buffered, buffer) {
        (Some(true), _) => {
            let size = size.map_or(BUFFER, |size| size.as_u64());
            proxy.request_body = RequestBodyRule::Buffered(size);
        }
        (_, Some(item)) if table.get("request_body").is_none() || is_buffered.is_some() => {
            let message = "nothing is buffered here; expected `request_body = \"buffered\"`, too";
            reader.mistake(item.key_span(), message);
        }
        _ => {}
    }
    if let Some(item) = table.get("body_limit") {
        let limit = size_or_none(reader, &item, ByteSize(0)..=ByteSize::pib(1));
        proxy.body_limit = limit.unwrap_or(proxy.body_limit);
    }
}
