//! Mistakes of the top level and its tables.

use super::Case;

pub(super) const TOP: &[Case] = &[
    ("workers = 0", &["1:11: `workers` cannot be `0`; expected 1 to 1024"]),
    ("workers = 1025", &["1:11: `workers` cannot be `1025`; expected 1 to 1024"]),
    (
        "workers = 1.5",
        &["1:11: `workers` is a number with a fraction; expected a whole number, such as 2"],
    ),
    (r#"workers = "two""#, &["1:11: `workers` is a string; expected a whole number, such as 2"]),
    (
        r#"listen = "127.0.0.1:80""#,
        &[
            r#"1:10: `listen` is a string; expected a list of addresses, such as ["127.0.0.1:8080"]"#,
        ],
    ),
    (
        "listen = []",
        &[r#"1:10: `listen` is empty; expected a list of addresses, such as ["127.0.0.1:8080"]"#],
    ),
    (
        r#"listen = ["127.0.0.1:80", "127.0.0.1:80"]"#,
        &["1:27: `127.0.0.1:80` overlaps with an address of line 1"],
    ),
    (
        r#"listen = ["0.0.0.0:80", "[::]:80", "127.0.0.1:80"]"#,
        &["1:36: `127.0.0.1:80` overlaps with an address of line 1"],
    ),
    (
        r#"listen = ["127.0.0.1", 80, "127.0.0.1:65536"]"#,
        &[
            "1:11: `listen` cannot be `127.0.0.1`; expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080; did you mean `127.0.0.1:80`?",
            r#"1:24: `listen` is a number; expected an address and a port, such as "127.0.0.1:8080""#,
            "1:28: `listen` cannot be `127.0.0.1:65536`; expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080",
        ],
    ),
    (
        r#"listen = ["127.0.0.1:80"]
admin = "127.0.0.1:80""#,
        &["2:9: `127.0.0.1:80` overlaps with an address of line 1"],
    ),
    (
        "admin = true",
        &[r#"1:9: `admin` is `true`; expected an address and a port, such as "127.0.0.1:8081""#],
    ),
    (
        r#"user = """#,
        &[
            r#"1:8: `user` cannot be empty; expected a user, such as "www-data" or "www-data:adm" with a group"#,
        ],
    ),
    (
        r#"user = "www data""#,
        &[
            r#"1:8: `user` cannot be `www data`; expected a user, such as "www-data" or "www-data:adm" with a group"#,
        ],
    ),
    (
        r#"access_log = "-""#,
        &[
            r#"1:14: `access_log` is a string; expected a table, such as { path = "-", format = "json" }"#,
        ],
    ),
    (
        r#"access_log = { format = "json" }"#,
        &[r#"1:1: `path` is missing; expected a file, or "-" for standard output"#],
    ),
    (
        r#"access_log = { path = "-", format = "jsno", acked = "yes" }"#,
        &[
            "1:37: `format` cannot be `jsno`; expected `json` or `combined`; did you mean `json`?",
            "1:53: `acked` is a string; expected true or false",
        ],
    ),
    (
        r#"access_log = { path = "missing/a.log" }"#,
        &["1:23: `path` cannot be `missing/a.log`: the directory `DIR/missing` is missing"],
    ),
    (
        r#"access_log = { path = "www" }"#,
        &["1:23: `path` cannot be `www`; expected a file, not a directory"],
    ),
    (
        r#"send = { strategy = "Sendfile", locality = "here" }"#,
        &[
            "1:21: `strategy` cannot be `Sendfile`; expected `auto`, `copy`, `sendfile`, `splice` or `zerocopy`; did you mean `sendfile`?",
            "1:44: `locality` cannot be `here`; expected `auto`, `local` or `remote`",
        ],
    ),
    (
        r#"send = { trusted_remote = ["203.0.113.1/24", "x", 4] }"#,
        &[
            "1:28: `trusted_remote` cannot be `203.0.113.1/24`: its address has bits beyond the prefix; did you mean `203.0.113.0/24`?",
            "1:46: `trusted_remote` cannot be `x`; expected a network, such as 192.0.2.0/24 or 2001:db8::/32, or an address",
            r#"1:51: `trusted_remote` is a number; expected a network, such as "203.0.113.0/24""#,
        ],
    ),
    (
        r#"timeouts = { head = 20, idle = "20", send = "1.5s", body = "50ms", drain = "2d" }"#,
        &[
            r#"1:21: `head` cannot be `20`; expected a string with a unit, such as "20s" or "20ms""#,
            "1:32: `idle` cannot be `20`; expected a duration with its unit, such as 250ms, 20s or 1m30s",
            "1:45: `send` cannot be `1.5s`; expected a duration with its unit, such as 250ms, 20s or 1m30s",
            "1:60: `body` cannot be `50ms`; expected 100ms to 1d",
            "1:76: `drain` cannot be `2d`; expected 0s to 1d",
        ],
    ),
    (
        r#"limits = { head_size = "64", headers = 0, requests_per_connection = -1 }"#,
        &[
            "1:24: `head_size` cannot be `64`; expected a size with its unit, such as 24KiB or 1MiB",
            "1:40: `headers` cannot be `0`; expected 1 to 10000",
            "1:69: `requests_per_connection` cannot be `-1`; expected 1 to 4294967295",
        ],
    ),
    (
        "limits = { head_size = 65536 }",
        &[
            r#"1:24: `head_size` cannot be `65536`; expected a string with a unit, such as "65536B" or "24KiB""#,
        ],
    ),
    (
        r#"limits = { head_size = "1GiB", header = 5 }"#,
        &[
            "1:24: `head_size` cannot be `1GiB`; expected 4.0 KiB to 1.0 MiB",
            "1:32: unknown key `header` in `[limits]`; did you mean `headers`?",
        ],
    ),
    (
        r#"strip_prefix = "/x""#,
        &["1:1: unknown key `strip_prefix` in the top level; it is a key of `files` and `proxy`"],
    ),
    (
        "zebra = 1",
        &[
            "1:1: unknown key `zebra` in the top level; expected `workers`, `listen`, `user`, `admin`, `access_log`, `proxy_protocol_from`, `send`, `spool`, `timeouts`, `limits`, `pool` or `site`",
        ],
    ),
    (
        "site = 3",
        &[
            "1:8: `site` is a number; expected tables, each begun by `[[site]]`",
            "2:3: duplicate key",
            "3:3: cannot extend value of type integer with a dotted key",
        ],
    ),
];
