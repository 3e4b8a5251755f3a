//! Mistakes of pools, and of what a whole configuration has of upstreams.

use super::Case;

/// Of `[pool.app]`, which is asked.
pub(super) const POOL: &[Case] = &[
    ("", &[r#"1:7: `servers` is missing; expected a list of servers, such as ["127.0.0.1:9001"]"#]),
    (
        "servers = []",
        &[r#"2:11: `servers` is empty; expected a list of servers, such as ["127.0.0.1:9001"]"#],
    ),
    (
        r#"servers = "127.0.0.1:9001""#,
        &[r#"2:11: `servers` is a string; expected a list of servers, such as ["127.0.0.1:9001"]"#],
    ),
    (
        r#"servers = ["127.0.0.1:9001", "a.test:1", { address = "A.test:1", weight = 2 }]"#,
        &[
            "2:42: `a.test:1` is in this pool already, in line 2; expected it once (`weight` has it asked more often)",
        ],
    ),
    (
        r#"servers = ["127.0.0.1", "http://a.test:9001/", "https://a.test", 9001]"#,
        &[
            "2:12: `servers` cannot be `127.0.0.1`; expected an address and a port, such as 127.0.0.1:9001 or app.internal:9001; did you mean `127.0.0.1:80`?",
            "2:25: `servers` cannot be `http://a.test:9001/`; expected it without `http://`; did you mean `a.test:9001`?",
            "2:48: `servers` cannot be `https://a.test`: `https` to upstreams is not in this version yet; expected `http`",
            r#"2:66: `servers` is a number; expected an address, such as "127.0.0.1:9001", or a table, such as { address = "127.0.0.1:9001", weight = 2 }"#,
        ],
    ),
    (
        r#"servers = [{ weight = 0 }, { address = "unix:a", max_fails = 3, max_connections = 0, backup = 1 }]"#,
        &[
            r#"2:12: `address` is missing; expected an address, such as "127.0.0.1:9001""#,
            "2:23: `weight` cannot be `0`; expected 1 to 1000",
            "2:40: `address` cannot be `unix:a`; expected the whole path of a socket, such as unix:/run/app.sock",
            "2:50: unknown key `max_fails` in a server of `servers`; expected `address`, `weight`, `max_connections` or `backup`",
            "2:83: `max_connections` cannot be `0`; expected 1 to 1000000",
            "2:95: `backup` is a number; expected true or false",
        ],
    ),
    (
        r#"servers = [{ address = "a.test:1", backup = true }]"#,
        &["2:11: all servers are backups; expected one that is asked first"],
    ),
    (
        r#"servers = ["a.test:1"]
balance = "least_conn"
keep_alive = 10001
idle = 60
requests_per_connection = 0
connect = "1ms"
queue = -1
queue_timeout = "2d"
proxy_protocol = true
resolver = "dns.test""#,
        &[
            "3:11: `balance` cannot be `least_conn`; expected `round-robin`, `least-connections`, `hash` or `hash-path`; did you mean `least-connections`?",
            "4:14: `keep_alive` cannot be `10001`; expected 0 to 10000",
            r#"5:8: `idle` cannot be `60`; expected a string with a unit, such as "60s" or "60ms""#,
            "6:27: `requests_per_connection` cannot be `0`; expected 1 to 4294967295",
            "7:11: `connect` cannot be `1ms`; expected 100ms to 1d",
            "8:9: `queue` cannot be `-1`; expected 0 to 1000000",
            "9:17: `queue_timeout` cannot be `2d`; expected 0s to 1d",
            "10:18: `proxy_protocol` is `true`; expected `v1` or `v2`",
            r#"11:12: `resolver` cannot be `dns.test`; expected the address of a name server, such as "10.0.0.2" or "10.0.0.2:53""#,
        ],
    ),
    (
        r#"servers = ["127.0.0.1:1"]
resolver = "10.0.0.2"
keepalive = 3"#,
        &[
            "3:1: no server of this pool has a name; expected no `resolver`",
            "4:1: unknown key `keepalive` in `[pool.NAME]`; did you mean `keep_alive`?",
        ],
    ),
    (
        r#"servers = ["a.test:1"]
health = { interval = "2s" }"#,
        &[r#"3:1: `path` is missing; expected a path, such as "/healthz""#],
    ),
    (
        r#"servers = ["a.test:1"]
health = { path = "healthz", host = "*.a.test", interval = "0s", timeout = 2, status = "2xx", fails = 0, passes = "x", every = "2s" }"#,
        &[
            "3:19: `path` cannot be `healthz`; expected a path that begins with a slash; did you mean `/healthz`?",
            r#"3:37: `host` cannot be `*.a.test`; expected one name, such as "app.example.test""#,
            "3:60: `interval` cannot be `0s`; expected 100ms to 1d",
            r#"3:76: `timeout` cannot be `2`; expected a string with a unit, such as "2s" or "2ms""#,
            r#"3:88: `status` cannot be `2xx`; expected a status or a range of them, such as "200-399""#,
            "3:103: `fails` cannot be `0`; expected 1 to 1000",
            "3:115: `passes` is a string; expected a whole number, such as 2",
            "3:120: unknown key `every` in `health`; expected `path`, `host`, `interval`, `timeout`, `status`, `fails` or `passes`",
        ],
    ),
    (
        r#"servers = ["a.test:1"]
health = { path = "/a b", status = "399-200" }
ejection = true"#,
        &[
            "3:19: `path` cannot be `/a b`; expected it as it stands in a request, percent-encoded and without `#`",
            r#"3:36: `status` cannot be `399-200`; expected a status or a range of them, such as "200-399""#,
            r#"4:12: `ejection` is `true`; expected false, or a table, such as { failures = 3, pause = "10s" }"#,
        ],
    ),
    (
        r#"servers = ["a.test:1"]
ejection = { failures = 2000, pause = "0s", fail_timeout = "1s", slow_start = "x" }"#,
        &[
            "3:25: `failures` cannot be `2000`; expected 0 to 1000",
            "3:39: `pause` cannot be `0s`; expected 100ms to 1d",
            "3:45: unknown key `fail_timeout` in `ejection`; did you mean `pause`?",
            "3:79: `slow_start` cannot be `x`; expected a duration with its unit, such as 250ms, 20s or 1m30s",
        ],
    ),
];

pub(super) const WHOLE: &[Case] = &[
    (
        r#"pool = 3
[[site]]
route = [{ path = "/", proxy = { pool = "app" } }]
"#,
        &[
            "1:8: `pool` is a number; expected tables, each begun by `[pool.NAME]`",
            "3:41: there is no pool `app`; expected a table `[pool.NAME]`",
        ],
    ),
    (
        r#"[pool.apps]
servers = ["a.test:1"]
[pool."a b"]
servers = ["a.test:1"]
[pool.zebra]
servers = ["a.test:1"]
[pool]
other = 1
[[site]]
route = [{ path = "/", proxy = { pool = "app" } }]
"#,
        &[
            "3:7: `a b` is no name of a pool; expected letters, digits, `-`, `_` and `.`",
            "3:7: no route asks the pool `a b`",
            "5:7: no route asks the pool `zebra`",
            "8:9: `other` is a number; expected a table, such as `[pool.app]`",
            "10:41: there is no pool `app`; did you mean `apps`?",
        ],
    ),
    (
        r#"[pool.one]
servers = ["a.test:1"]
[pool.two]
servers = ["a.test:2"]
[[site]]
route = [
    { path = "/1", proxy = { pool = "one" } },
    { path = "/2", proxy = { pool = "two" } },
    { path = "/3", proxy = { pool = "zebra" } },
]
"#,
        &["9:37: there is no pool `zebra`; expected `one` or `two`"],
    ),
    // To ourselves, as far as is certain.
    (
        r#"listen = ["0.0.0.0:80", "[::1]:81"]
[pool.app]
servers = ["a.test:80", "127.0.0.1:80"]
[[site]]
hosts = ["a.test"]
[[site.route]]
path = "/"
proxy = { pool = "app" }
[[site.route]]
path = "/app/"
proxy = { pool = "app", strip_prefix = "/app" }
[[site.route]]
path = "/named/"
proxy = { url = "http://localhost", host = "A.test" }
[[site.route]]
path = "/elsewhere/"
proxy = { url = "http://[::1]:81", host = "b.test" }
[[site.route]]
path = "/address/"
proxy = { url = "http://[::1]:81", host = "upstream" }
[[site.route]]
path = "/other/"
proxy = { url = "http://127.0.0.1:81" }
[[site.route]]
match = "*.php"
proxy = { url = "http://[::1]:81" }
"#,
        &[
            "8:18: this leads to itself: `/` to `127.0.0.1:80`, which is listened on here and has the same route",
            "14:17: this leads to itself: `/named/` to `localhost:80`, which is listened on here and has the same route",
            "26:17: this leads to itself: `/example.php` to `[::1]:81`, which is listened on here and has the same route",
        ],
    ),
    // The site is not at the address that is asked.
    (
        r#"[[site]]
listen = ["127.0.0.1:80"]
[[site.route]]
path = "/"
proxy = { url = "http://127.0.0.1:81" }
[[site]]
listen = ["127.0.0.1:81"]
[[site.route]]
path = "/"
files = { root = "www" }
"#,
        &[],
    ),
    (
        r#"[[site]]
[[site.route]]
path = "/"
proxy = { url = "http://a.test" }
[[site.route]]
path = "/files/"
internal = true
files = { root = "www" }
[[site]]
hosts = ["a.test"]
[[site.route]]
path = "/"
proxy = { url = "http://a.test", accel = true }
[[site.route]]
path = "/files/"
internal = true
files = { root = "www" }
[[site.route]]
path = "/more/"
internal = false
files = { root = "www" }
"#,
        &["7:12: nothing leads here: no `proxy` of this site has `accel = true`"],
    ),
];
