//! The keys of each table, and those that a later version will answer.

/// What may stand in a table.
#[derive(Debug)]
pub(super) struct Schema {
    /// As messages name it.
    pub(super) name: &'static str,
    pub(super) keys: &'static [&'static str],
    /// Promised, but not answered yet.
    pub(super) later: &'static [&'static str],
}

/// The beginning of the file, before any `[table]`.
pub(super) static TOP: Schema = Schema {
    name: "the top level",
    keys: &[
        "workers",
        "listen",
        "user",
        "admin",
        "access_log",
        "proxy_protocol_from",
        "send",
        "spool",
        "timeouts",
        "limits",
        "pool",
        "site",
    ],
    later: &[],
};

pub(super) static ACCESS_LOG: Schema =
    Schema { name: "`access_log`", keys: &["path", "format", "acked"], later: &[] };

pub(super) static SEND: Schema =
    Schema { name: "`[send]`", keys: &["strategy", "locality", "trusted_remote"], later: &[] };

/// For all spools together, and what a route's own does not say.
pub(super) static SPOOL: Schema = Schema {
    name: "`[spool]`",
    keys: &["memory_budget", "memory", "disk", "directory", "pipes", "memory_ring", "unit"],
    later: &[],
};

pub(super) static POOL: Schema = Schema {
    name: "`[pool.NAME]`",
    keys: &[
        "servers",
        "balance",
        "keep_alive",
        "idle",
        "requests_per_connection",
        "connect",
        "queue",
        "queue_timeout",
        "health",
        "ejection",
        "proxy_protocol",
        "resolver",
    ],
    later: &[],
};

/// A server of a pool, where it is not its address alone.
pub(super) static SERVER: Schema = Schema {
    name: "a server of `servers`",
    keys: &["address", "weight", "max_connections", "backup"],
    later: &[],
};

pub(super) static HEALTH: Schema = Schema {
    name: "`health`",
    keys: &["path", "host", "interval", "timeout", "status", "fails", "passes"],
    later: &[],
};

pub(super) static EJECTION: Schema =
    Schema { name: "`ejection`", keys: &["failures", "pause", "slow_start"], later: &[] };

pub(super) static TIMEOUTS: Schema =
    Schema { name: "`[timeouts]`", keys: &["head", "idle", "send", "body", "drain"], later: &[] };

pub(super) static LIMITS: Schema = Schema {
    name: "`[limits]`",
    keys: &["head_size", "headers", "requests_per_connection"],
    later: &[],
};

pub(super) static SITE: Schema = Schema {
    name: "`[[site]]`",
    keys: &["hosts", "listen", "add_headers", "remove_headers", "allow", "deny", "route"],
    later: &[],
};

pub(super) static ROUTE: Schema = Schema {
    name: "`[[site.route]]`",
    keys: &[
        "path",
        "match",
        "files",
        "proxy",
        "redirect",
        "respond",
        "internal",
        "add_headers",
        "remove_headers",
        "allow",
        "deny",
    ],
    later: &["fastcgi", "template"],
};

/// What a route does; exactly one of them is given.
pub(super) const ACTIONS: [&str; 4] = ["files", "proxy", "redirect", "respond"];

pub(super) static FILES: Schema = Schema {
    name: "`files`",
    keys: &[
        "root",
        "strip_prefix",
        "listing",
        "index",
        "fallback",
        "error_pages",
        "cache_control",
        "symlinks",
        "dotfiles",
        "precompressed",
        "in_place_edits",
        "in_memory",
    ],
    later: &[],
};

pub(super) static PROXY: Schema = Schema {
    name: "`proxy`",
    keys: &[
        "pool",
        "url",
        "strip_prefix",
        "host",
        "set_headers",
        "remove_headers",
        "forwarded",
        "spool",
        "request_body",
        "buffer",
        "body_limit",
        "head_timeout",
        "read_timeout",
        "retries",
        "accel",
        "upgrade",
    ],
    later: &[],
};

/// Of a route; what is not said is `[spool]`'s.
pub(super) static ROUTE_SPOOL: Schema = Schema {
    name: "`spool`",
    keys: &["memory", "disk", "directory", "pipes", "memory_ring", "unit"],
    later: &[],
};

pub(super) static REDIRECT: Schema =
    Schema { name: "`redirect`", keys: &["to", "status"], later: &[] };

pub(super) static RESPOND: Schema =
    Schema { name: "`respond`", keys: &["status", "text", "type"], later: &[] };

/// All of them.
pub(super) static ALL: [&Schema; 17] = [
    &TOP,
    &ACCESS_LOG,
    &SEND,
    &SPOOL,
    &TIMEOUTS,
    &LIMITS,
    &POOL,
    &SERVER,
    &HEALTH,
    &EJECTION,
    &SITE,
    &ROUTE,
    &FILES,
    &PROXY,
    &ROUTE_SPOOL,
    &REDIRECT,
    &RESPOND,
];

/// What those who come from nginx write, and what it is here.
pub(super) static FOREIGN: [(&str, &str); 30] = [
    ("server", "site"),
    ("server_name", "hosts"),
    ("location", "route"),
    ("worker_processes", "workers"),
    ("add_header", "add_headers"),
    ("return", "redirect"),
    ("rewrite", "redirect"),
    ("autoindex", "listing"),
    ("try_files", "fallback"),
    ("expires", "cache_control"),
    ("gzip_static", "precompressed"),
    ("disable_symlinks", "symlinks"),
    ("upstream", "pool"),
    ("set_real_ip_from", "proxy_protocol_from"),
    ("proxy_pass", "proxy"),
    ("server", "servers"),
    ("max_conns", "max_connections"),
    ("keepalive", "keep_alive"),
    ("keepalive_requests", "requests_per_connection"),
    ("keepalive_timeout", "idle"),
    ("max_fails", "ejection"),
    ("fail_timeout", "pause"),
    ("proxy_connect_timeout", "connect"),
    ("proxy_set_header", "set_headers"),
    ("proxy_read_timeout", "read_timeout"),
    ("proxy_buffering", "spool"),
    ("proxy_max_temp_file_size", "disk"),
    ("proxy_temp_path", "directory"),
    ("proxy_request_buffering", "request_body"),
    ("client_max_body_size", "body_limit"),
];
