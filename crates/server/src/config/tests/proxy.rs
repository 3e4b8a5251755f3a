//! Mistakes of proxies and spools.

use super::Case;

/// Of the `proxy` of a route for `/app/`, one key each.
pub(super) const PROXY: &[Case] = &[
    (
        "",
        &[r#"4:1: `pool` is missing; expected `pool = "app"` or `url = "http://127.0.0.1:9001"`"#],
    ),
    (
        r#"pool = "app", url = "http://a.test""#,
        &["4:25: this proxy has both `pool` and `url`; expected one of them"],
    ),
    ("pool = 1", &[r#"4:18: `pool` is a number; expected the name of a pool, such as "app""#]),
    (
        r#"url = "127.0.0.1:9001""#,
        &[
            "4:17: `url` cannot be `127.0.0.1:9001`; expected a URL, such as http://127.0.0.1:9001 or http://unix:/run/app.sock; did you mean `http://127.0.0.1:9001`?",
        ],
    ),
    (
        r#"url = "https://a.test""#,
        &[
            "4:17: `url` cannot be `https://a.test`: `https` to upstreams is not in this version yet; expected `http`",
        ],
    ),
    (
        r#"url = "http://a.test:1/x/""#,
        &[
            "4:17: `url` cannot be `http://a.test:1/x/`; expected it without a path (paths are passed on as they come, without what `strip_prefix` takes off); did you mean `http://a.test:1`?",
        ],
    ),
    (
        r#"url = "http://a.test", strip_prefix = "/other", host = "$host""#,
        &[
            "4:49: `strip_prefix` cannot be `/other`: this route's paths need not begin with it; expected a beginning of `/app/`",
            "4:66: `host` cannot be `$host`; expected `preserve`",
        ],
    ),
    (
        r#"url = "http://a.test", host = "*.example.test""#,
        &[
            r#"4:41: `host` cannot be `*.example.test`; expected `preserve`, `upstream` or one name, such as "app.example.test""#,
        ],
    ),
    (
        r#"url = "http://a.test", host = "a b", forwarded = "on""#,
        &[
            r#"4:41: `host` cannot be `a b`; expected `preserve`, `upstream` or one name, such as "app.example.test""#,
            "4:60: `forwarded` cannot be `on`; expected `replace`, `append`, `rfc7239` or `off`",
        ],
    ),
    (
        r#"url = "http://a.test", set_headers = { Host = "x", "Transfer-Encoding" = "chunked", connection = "close", TE = "x", "a b" = "x", X = "a\nb", Upgrade = "x" }"#,
        &[
            "4:50: `Host` has a key of its own: `host`",
            "4:62: `Transfer-Encoding` is of one connection alone; the proxy writes it itself",
            "4:95: `connection` is of one connection alone; the proxy writes it itself",
            "4:117: `TE` is of one connection alone; the proxy writes it itself",
            "4:127: `a b` is not a header name; expected one such as `X-Env`",
            "4:144: `X` cannot be `a\\nb`: it has a control character",
            "4:152: `Upgrade` is of one connection alone; the proxy writes it itself",
        ],
    ),
    (
        r#"url = "http://a.test", set_headers = { X-A = "1", x-a = "2" }, remove_headers = ["x-A", "Content-Length", "Cookie"]"#,
        &[
            "4:61: `x-a` is here twice; expected a list of values",
            "4:92: `x-A` is in `set_headers`, too",
            "4:99: `Content-Length` is of one connection alone; the proxy writes it itself",
        ],
    ),
    (
        r#"url = "http://a.test", request_body = "stream", buffer = "64KiB""#,
        &[
            "4:49: `request_body` cannot be `stream`; expected `buffered` or `streamed`; did you mean `streamed`?",
        ],
    ),
    (
        r#"url = "http://a.test", buffer = "64KiB""#,
        &[r#"4:34: nothing is buffered here; expected `request_body = "buffered"`, too"#],
    ),
    (
        r#"url = "http://a.test", request_body = "buffered", buffer = "1GiB", body_limit = "all""#,
        &[
            "4:70: `buffer` cannot be `1GiB`; expected 1.0 KiB to 64.0 MiB",
            "4:91: `body_limit` cannot be `all`; expected a size with its unit, such as 24KiB or 1MiB",
        ],
    ),
    (
        r#"url = "http://a.test", head_timeout = 60, read_timeout = "1w", retries = 11, accel = 1, upgrade = "yes""#,
        &[
            r#"4:49: `head_timeout` cannot be `60`; expected a string with a unit, such as "60s" or "60ms""#,
            "4:68: `read_timeout` cannot be `1w`; expected a duration with its unit, such as 250ms, 20s or 1m30s",
            "4:84: `retries` cannot be `11`; expected 0 to 10",
            "4:96: `accel` is a number; expected true or false",
            "4:109: `upgrade` is a string; expected true or false",
        ],
    ),
    (
        r#"url = "http://a.test", proxy_set_header = {}, proxy_buffering = "off""#,
        &[
            "4:34: unknown key `proxy_set_header` in `proxy`; did you mean `set_headers`?",
            "4:57: unknown key `proxy_buffering` in `proxy`; did you mean `spool`?",
        ],
    ),
    (
        r#"url = "http://a.test", spool = { memory = "64", disk = "64KiB", memory_budget = "1GiB" }"#,
        &[
            "4:53: `memory` cannot be `64`; expected a size with its unit, such as 24KiB or 1MiB",
            "4:66: a ring of 64.0 KiB has no two units of 64.0 KiB; expected 0 for none, or 128.0 KiB and more",
            "4:75: unknown key `memory_budget` in `spool`; it is a key of `[spool]`",
        ],
    ),
    (
        r#"url = "http://a.test", spool = { disk = "1MiB", directory = "missing" }"#,
        &["4:71: the directory `DIR/missing` is missing"],
    ),
    (
        r#"url = "http://a.test", spool = { disk = "1MiB", directory = "www/index.html" }"#,
        &["4:71: the directory `DIR/www/index.html` is no directory"],
    ),
    (
        r#"url = "http://a.test", spool = { disk = "1MiB", directory = "/proc" }"#,
        &["4:71: the directory `/proc` is on a file system without unnamed files (O_TMPFILE)"],
    ),
    // Where nothing is on disk, nobody looks.
    (r#"url = "http://a.test", spool = { memory = "auto", disk = 0, directory = "missing" }"#, &[]),
    (
        r#"url = "http://a.test" }
files = { root = "www""#,
        &["4:1: this route has `files` and `proxy`; expected one of them"],
    ),
];

/// Of the top level.
pub(super) const SPOOL: &[Case] = &[
    (r#"spool = "64MiB""#, &["1:9: `spool` is a string; expected a table, `[spool]`"]),
    (
        r#"spool = { memory_budget = "95%", memory = 64, unit = "1KiB", pipes = 0 }"#,
        &[
            "1:27: `memory_budget` cannot be `95%`; expected 1% to 90%, or a size with its unit, such as 2GiB",
            r#"1:43: `memory` cannot be `64`; expected a string with a unit, such as "64B" or "24KiB""#,
            "1:54: `unit` cannot be `1KiB`; expected 4.0 KiB to 16.0 MiB",
            "1:70: `pipes` is a number; expected true or false",
        ],
    ),
    (
        r#"spool = { memory_budget = "25", disk = "1MiB", directory = "" }"#,
        &[
            "1:27: `memory_budget` cannot be `25`; expected 1% to 90%, or a size with its unit, such as 2GiB",
            r#"1:60: `directory` cannot be empty; expected a directory, such as "/var/tmp""#,
        ],
    ),
    (
        r#"spool = { unit = "1MiB", disk = "1MiB" }"#,
        &[
            "1:33: a ring of 1.0 MiB has no two units of 1.0 MiB; expected 0 for none, or 2.0 MiB and more",
        ],
    ),
    (
        r#"proxy_protocol_from = ["10.0.0.1/8", "all"]"#,
        &[
            "1:24: `proxy_protocol_from` cannot be `10.0.0.1/8`: its address has bits beyond the prefix; did you mean `10.0.0.0/8`?",
            "1:38: `proxy_protocol_from` cannot be `all`; expected a network, such as 192.0.2.0/24 or 2001:db8::/32, or an address",
        ],
    ),
];
