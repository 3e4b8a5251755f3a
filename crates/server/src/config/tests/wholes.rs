//! Mistakes of whole configurations.

use super::Case;

pub(super) const WHOLE: &[Case] = &[
    ("", &["1:1: there is no site; expected `[[site]]`"]),
    ("# nothing", &["1:1: there is no site; expected `[[site]]`"]),
    (
        r#"[site]
hosts = ["a.test"]
"#,
        &["1:1: `site` is a table; expected tables, each begun by `[[site]]`"],
    ),
    (
        r#"site = [1]
"#,
        &["1:9: `site` is a number; expected tables, each begun by `[[site]]`"],
    ),
    (
        r#"[[site]]
hosts = ["a.test"]
"#,
        &["1:1: this site has no route; expected `[[site.route]]`"],
    ),
    (
        r#"[[site]]
hosts = ["a.test", "b.test"]
[[site.route]]
path = "/"
respond = { text = "x" }
[[site.route]]
match = "*.x"
respond = { text = "x" }
[[site.route]]
match = "*.x"
respond = { text = "y" }
[[site.route]]
path = "/"
respond = { text = "y" }
[[site]]
hosts = ["B.test"]
[[site.route]]
path = "/"
respond = { text = "x" }
"#,
        &[
            "10:9: no path comes here: the route of line 7 has `*.x`, too",
            "13:8: no path comes here: the route of line 4 has `/`, too",
            "16:10: `b.test` is the host of another site at the same addresses, in line 2",
        ],
    ),
    (
        r#"listen = ["127.0.0.1:80", "127.0.0.1:82"]
[[site]]
listen = ["127.0.0.1:80"]
route = [{ path = "/", respond = { text = "1" } }]
[[site]]
listen = ["127.0.0.1:80", "0.0.0.0:80"]
route = [{ path = "/", respond = { text = "2" } }]
"#,
        &[
            "1:27: no site is reached at `127.0.0.1:82`; each has its own `listen`",
            "5:1: a second default site; the one of line 2 has no `hosts` either, at the same addresses",
            "6:27: `0.0.0.0:80` overlaps with an address of line 6",
        ],
    ),
    (
        r#"[[site]]
route = [{ path = "/", respond = { text = "1" } }]
[[site]]
route = [{ path = "/", respond = { text = "2" } }]
"#,
        &[
            "3:1: a second default site; the one of line 1 has no `hosts` either, at the same addresses",
        ],
    ),
    (
        r#"workers =
listen = ["127.0.0.1:80" "x"]
[timeouts]
head = 20s
hed = 1
"#,
        &[
            "1:10: a value is missing",
            "2:26: missing comma between array elements, expected `,`",
            "4:8: string values must be quoted, expected literal string",
            "5:1: unknown key `hed` in `[timeouts]`; did you mean `head`?",
        ],
    ),
    (
        r#"a = 1
a = 2
workers = "x"
[[site]
hosts = 7
"#,
        &[
            "1:1: unknown key `a` in the top level; expected `workers`, `listen`, `user`, `admin`, `access_log`, `proxy_protocol_from`, `send`, `spool`, `timeouts`, `limits`, `pool` or `site`",
            "2:1: duplicate key",
            "3:11: `workers` is a string; expected a whole number, such as 2",
            "4:8: unclosed array table, expected `]`",
        ],
    ),
    (
        r#"[timeouts]
head = "20s"
workers = 2
listen = ["127.0.0.1:80"]
"#,
        &[
            "1:1: there is no site; expected `[[site]]`",
            "3:1: unknown key `workers` in `[timeouts]`; it belongs before the first table of the file",
            "4:1: unknown key `listen` in `[timeouts]`; it is a key of the top level and `[[site]]`",
        ],
    ),
    (
        "\u{feff}workers = 0\r\nlisten = \"x\"\r\n[[site]]\r\nhosts = [\"ü.test\"]\r\nroute = [{ path = \"/ü\", respond = {} }]\r\n",
        &[
            "1:11: `workers` cannot be `0`; expected 1 to 1024",
            r#"2:10: `listen` is a string; expected a list of addresses, such as ["127.0.0.1:8080"]"#,
            "4:10: `hosts` cannot be `ü.test`; expected the name's ASCII form, which begins with `xn--`",
            "5:25: `respond` says nothing; expected `status` or `text`",
        ],
    ),
    // Suffixes come first: what they serve is not kept by a prefix.
    (
        r#"[[site]]
[[site.route]]
path = "/internal/"
allow = ["10.0.0.0/8"]
files = { root = "www" }
[[site.route]]
match = "*.pdf"
files = { root = "www" }
[[site.route]]
match = "*.txt"
allow = ["all"]
files = { root = "www" }
[[site.route]]
match = "*.php"
respond = { status = 404 }
"#,
        &[
            r#"7:9: paths of `/internal/` (line 3) come here without its `allow` and `deny`; expected `allow` or `deny` here, too (`allow = ["all"]` for everybody)"#,
        ],
    ),
    (
        r#"[[site]]
[[site.route]]
path = "/protected/"
internal = true
files = { root = "www" }
[[site.route]]
match = "*.pdf"
files = { root = "www" }
[[site.route]]
match = "*.txt"
internal = true
files = { root = "www" }
[[site.route]]
path = "/"
proxy = { url = "http://127.0.0.1:9", accel = true }
"#,
        &[
            r#"7:9: paths of `/protected/` (line 3) come here though it is `internal`; expected `internal = true`, `allow` or `deny` here (`allow = ["all"]` for everybody)"#,
        ],
    ),
    (
        r#"[[site]]
allow = ["10.0.0.0/8"]
[[site.route]]
path = "/open/"
allow = ["all"]
files = { root = "www" }
[[site.route]]
path = "/same/"
files = { root = "www" }
[[site.route]]
match = "*.pdf"
files = { root = "www" }
"#,
        &[],
    ),
    // Nor is what is served in place of a path kept by a suffix.
    (
        r#"[[site]]
[[site.route]]
path = "/"
files = { root = "www", index = ["index.php", "index.html"] }
[[site.route]]
path = "/app/"
files = { root = "www", strip_prefix = "/app", index = "index.md", fallback = "404.html" }
[[site.route]]
match = "*.php"
respond = { status = 404 }
[[site.route]]
match = "*pp/404.html"
deny = ["all"]
files = { root = "www" }
[[site.route]]
match = "*.html"
files = { root = "www", cache_control = "no-cache" }
[[site.route]]
match = "*.md"
redirect = { to = "/x" }
"#,
        &[
            "3:8: `index` `index.php` is served here whatever the route of line 9 says of `*.php`; expected another `index`",
            "6:8: `fallback` `404.html` is served here whatever the route of line 12 says of `*pp/404.html`; expected another `fallback`",
        ],
    ),
    // What the program will answer one day: nothing else is wrong with it.
    (
        r#"workers = 2                            # default: one per core
listen  = ["127.0.0.1:8080", "[::1]:8080"]
user    = "www-data"                   # dropped to after binding
admin   = "127.0.0.1:8081"             # /metrics /status /healthz
access_log = { path = "-", format = "json" }

[send]
strategy = "auto"
locality = "auto"                      # auto | local | remote
trusted_remote = ["203.0.113.0/24"]    # networks known to be beyond this host

[spool]
memory_budget = "25%"                  # of RAM, for all connections together

[pool.app]
servers = ["127.0.0.1:9001", { address = "127.0.0.1:9002", weight = 2 }, { address = "unix:/run/app.sock" }]
balance = "least-connections"          # round-robin | least-connections | hash
health  = { path = "/healthz", interval = "2s" }

[[site]]
hosts = ["example.test", "*.example.test"]      # a site without hosts is the default

[[site.route]]
path  = "/"
files = { root = "www", listing = true }

[[site.route]]
path  = "/app/"
proxy = { pool = "app", strip_prefix = "/app", host = "preserve", set_headers = { "X-Env" = "prod" }, spool = { memory = "64MiB", disk = "0" } }

[[site.route]]
match   = "*.php"
fastcgi = { address = "unix:/run/php/php8.2-fpm.sock", root = "/srv/www" }

[[site.route]]
path     = "/pages/"
template = { root = "/srv/pages" }     # server-side includes
"#,
        &[
            "33:1: `fastcgi` is not in this version yet",
            "37:1: `template` is not in this version yet",
        ],
    ),
];
