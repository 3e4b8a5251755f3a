//! Mistakes of routes, redirects and fixed answers.

use super::Case;

pub(super) const ROUTE: &[Case] = &[
    (
        r#"path = "/""#,
        &["2:1: this route does nothing; expected `files`, `proxy`, `redirect` or `respond`"],
    ),
    (
        r#"respond = { text = "x" }"#,
        &[r#"2:1: this route matches nothing; expected `path = "/app/"` or `match = "*.php"`"#],
    ),
    (
        r#"path = "/"
match = "*.x"
respond = { text = "x" }"#,
        &["4:1: this route has both `path` and `match`; expected one of them"],
    ),
    (
        r#"path = "app/"
respond = { text = "x" }"#,
        &[
            "3:8: `path` cannot be `app/`; expected a path that begins with a slash; did you mean `/app/`?",
        ],
    ),
    (
        r#"path = "/a%2Fb"
respond = { text = "x" }"#,
        &["3:8: `path` cannot be `/a%2Fb`; expected it without percent-encoding"],
    ),
    (
        r#"path = "/a//b/../c"
respond = { text = "x" }"#,
        &["3:8: `path` cannot be `/a//b/../c`; expected its shortest form; did you mean `/a/c`?"],
    ),
    (
        r#"path = "/../a"
respond = { text = "x" }"#,
        &["3:8: `path` cannot be `/../a`: the path leads out of its root"],
    ),
    (
        r#"path = "/a?b"
respond = { text = "x" }"#,
        &["3:8: `path` cannot be `/a?b`: a path ends before `?` and `#`"],
    ),
    (
        r#"match = ".php"
respond = { text = "x" }"#,
        &[
            r#"3:9: `match` cannot be `.php`; expected `*` and the end of paths, such as "*.php"; did you mean `*.php`?"#,
        ],
    ),
    (
        r#"match = "*"
respond = { text = "x" }"#,
        &[
            r#"3:9: `match` cannot be `*`; expected `*` and the end of paths, such as "*.php"; did you mean `path = "/"`?"#,
        ],
    ),
    (
        r#"match = "/app/"
respond = { text = "x" }"#,
        &[
            r#"3:9: `match` cannot be `/app/`; expected `*` and the end of paths, such as "*.php"; did you mean `path = "/app/"`?"#,
        ],
    ),
    (
        r#"match = "*.a*"
respond = { text = "x" }"#,
        &[r#"3:9: `match` cannot be `*.a*`; expected `*` and the end of paths, such as "*.php""#],
    ),
    (
        r#"match = "*.d/"
respond = { text = "x" }"#,
        &[
            r#"3:9: `match` cannot be `*.d/`: no path ends with a slash where it is compared; expected `*` and the end of paths, such as "*.php""#,
        ],
    ),
    (
        r#"match = "~ \\.php$"
respond = { text = "x" }"#,
        &[
            r#"3:9: `match` cannot be `~ \\.php$`; expected `*` and the end of paths, such as "*.php""#,
        ],
    ),
    (
        r#"path = "/"
respond = { text = "x" }
redirect = { to = "/y" }"#,
        &["4:1: this route has `redirect` and `respond`; expected one of them"],
    ),
    (
        r#"path = "/"
fastcgi = { address = "unix:/run/php.sock" }"#,
        &["4:1: `fastcgi` is not in this version yet"],
    ),
    (
        r#"path = "/"
template = { root = "www" }
files = { root = "www" }"#,
        &["4:1: `template` is not in this version yet"],
    ),
    (
        r#"path = "/"
redirect = "https://a.test/""#,
        &[
            r#"4:12: `redirect` is a string; expected a table, such as { to = "https://{host}{path}{query}", status = 308 }"#,
        ],
    ),
    (
        r#"path = "/"
redirect = { status = 308 }"#,
        &[r#"4:1: `to` is missing; expected where to, such as "https://{host}{path}{query}""#],
    ),
    (
        r#"path = "/"
redirect = { to = "https://a.test/", status = 304 }"#,
        &["4:47: `status` cannot be `304`; expected 301, 302, 303, 307 or 308"],
    ),
    (
        r#"path = "/"
redirect = { to = "https://a.test/", status = 200 }"#,
        &["4:47: `status` cannot be `200`; expected 301, 302, 303, 307 or 308"],
    ),
    (
        r#"path = "/"
redirect = { to = "a.test/x" }"#,
        &[
            r#"4:19: `to` cannot be `a.test/x`; expected a path or a whole URL, such as "/new/" or "https://{host}{path}"; did you mean `https://a.test/x`?"#,
        ],
    ),
    (
        r#"path = "/"
redirect = { to = "https:///x" }"#,
        &["4:19: `to` cannot be `https:///x`: a host is missing after `://`, such as `{host}`"],
    ),
    (
        r#"path = "/"
redirect = { to = "https://{path}" }"#,
        &["4:19: `to` cannot be `https://{path}`: a host is missing after `://`, such as `{host}`"],
    ),
    (
        r#"path = "/"
redirect = { to = "http://{query}" }"#,
        &["4:19: `to` cannot be `http://{query}`: a host is missing after `://`, such as `{host}`"],
    ),
    (
        r#"path = "/"
redirect = { to = "https://a.test/{path}" }"#,
        &[
            "4:19: `to` cannot be `https://a.test/{path}`: `{path}` begins with a slash; did you mean `https://a.test{path}`?",
        ],
    ),
    (
        r#"path = "/"
redirect = { to = "https://{host}{pth}" }"#,
        &[
            "4:19: `to` cannot be `https://{host}{pth}`: `{pth}` is no placeholder: there are `{host}`, `{path}` and `{query}`; did you mean `{path}`?",
        ],
    ),
    (
        r#"path = "/"
redirect = { to = "https://{host" }"#,
        &[
            "4:19: `to` cannot be `https://{host`: a brace has no partner; as itself it is written %7B or %7D",
        ],
    ),
    (
        r#"path = "/"
redirect = { to = "/a b" }"#,
        &["4:19: `to` cannot be `/a b`; expected `%20` in place of ` `"],
    ),
    (
        r#"path = "/"
redirect = { to = "/{path}" }"#,
        &["4:19: `to` cannot be `/{path}`: `{path}` begins with a slash; did you mean `{path}`?"],
    ),
    (
        r#"path = "/"
redirect = { to = "/new{path}" }"#,
        &["4:19: this leads to itself: `/` to `/new/`, which has the same route"],
    ),
    (
        r#"path = "/old"
redirect = { to = "/old/x" }"#,
        &["4:19: this leads to itself: `/old` to `/old/x`, which has the same route"],
    ),
    (
        r#"path = "/"
respond = { }"#,
        &["4:1: `respond` says nothing; expected `status` or `text`"],
    ),
    (
        r#"path = "/"
respond = { status = 100 }"#,
        &["4:22: `status` cannot be `100`; expected 200 to 599"],
    ),
    (
        r#"path = "/"
respond = { status = 301 }"#,
        &["4:22: `status` cannot be `301`; expected `redirect` for it"],
    ),
    (
        r#"path = "/"
respond = { status = 204, text = "x" }"#,
        &["4:22: `status` cannot be `204`: an answer with this status has no content"],
    ),
    (
        r#"path = "/"
respond = { status = 304 }"#,
        &["4:22: `status` cannot be `304`: it is about a file: expected another status"],
    ),
    (
        r#"path = "/"
respond = { text = 1, type = "html" }"#,
        &[
            "4:20: `text` is a number; expected a string",
            r#"4:30: `type` cannot be `html`; expected a media type, such as "text/html; charset=utf-8""#,
        ],
    ),
    (
        r#"path = "/"
files = "www""#,
        &[r#"4:9: `files` is a string; expected a table, such as { root = "/srv/www" }"#],
    ),
    (
        r#"path = "/"
files = { listing = true }"#,
        &[r#"4:1: `root` is missing; expected a directory, such as "/srv/www""#],
    ),
    (
        r#"path = "/"
files = { root = "missing" }"#,
        &["4:18: the directory `DIR/missing` is missing"],
    ),
    (
        r#"path = "/"
files = { root = "www/index.html" }"#,
        &["4:18: the directory `DIR/www/index.html` is no directory"],
    ),
    (
        r#"path = "/"
files = { root = "" }"#,
        &[r#"4:18: `root` cannot be empty; expected a directory, such as "/srv/www""#],
    ),
];
