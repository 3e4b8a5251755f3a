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
        "send",
        "timeouts",
        "limits",
        "site",
    ],
    later: &["pool", "spool"],
};

pub(super) static ACCESS_LOG: Schema =
    Schema { name: "`access_log`", keys: &["path", "format", "acked"], later: &[] };

pub(super) static SEND: Schema =
    Schema { name: "`[send]`", keys: &["strategy", "locality", "trusted_remote"], later: &[] };

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
        "redirect",
        "respond",
        "add_headers",
        "remove_headers",
        "allow",
        "deny",
    ],
    later: &["proxy", "fastcgi", "template"],
};

/// What a route does; exactly one of them is given.
pub(super) const ACTIONS: [&str; 3] = ["files", "redirect", "respond"];

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

pub(super) static REDIRECT: Schema =
    Schema { name: "`redirect`", keys: &["to", "status"], later: &[] };

pub(super) static RESPOND: Schema =
    Schema { name: "`respond`", keys: &["status", "text", "type"], later: &[] };

/// All of them.
pub(super) static ALL: [&Schema; 10] =
    [&TOP, &ACCESS_LOG, &SEND, &TIMEOUTS, &LIMITS, &SITE, &ROUTE, &FILES, &REDIRECT, &RESPOND];

/// What those who come from nginx write, and what it is here.
pub(super) static FOREIGN: [(&str, &str); 12] = [
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
];
