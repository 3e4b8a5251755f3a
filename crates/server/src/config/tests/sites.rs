//! Mistakes of sites.

use super::Case;

pub(super) const SITE: &[Case] = &[
    (
        r#"hosts = "a.test""#,
        &[r#"2:9: `hosts` is a string; expected a list of names, such as ["example.test"]"#],
    ),
    ("hosts = []", &["2:9: `hosts` is empty; expected a name, or no `hosts` for the default site"]),
    (
        r#"hosts = ["a.test:80", "*", "a.*.test", "http://a.test/"]"#,
        &[
            "2:10: `hosts` cannot be `a.test:80`; expected a name without a port (ports belong into `listen`); did you mean `a.test`?",
            "2:23: `hosts` cannot be `*`: a site for all names is one without `hosts`",
            r#"2:28: `hosts` cannot be `a.*.test`: `*` stands for whole labels at the beginning alone, such as "*.example.test""#,
            "2:40: `hosts` cannot be `http://a.test/`; expected a name alone; did you mean `a.test`?",
        ],
    ),
    (r#"hosts = ["a.test", "A.Test."]"#, &["2:20: `a.test` is in this list already"]),
    (
        r#"hosts = ["*.a.test", 5]"#,
        &[r#"2:22: `hosts` is a number; expected a name, such as "example.test""#],
    ),
    (
        r#"server_name = "a.test""#,
        &["2:1: unknown key `server_name` in `[[site]]`; did you mean `hosts`?"],
    ),
    (
        r#"listen = ["127.0.0.1:0"]"#,
        &["2:11: `0` is any port; expected the port that this site is reached at"],
    ),
    (r#"root = "/srv/www""#, &["2:1: unknown key `root` in `[[site]]`; it is a key of `files`"]),
    (
        r#"allow = "all""#,
        &[
            r#"2:9: `allow` is a string; expected a list of networks, such as ["192.0.2.0/24"] or ["all"]"#,
        ],
    ),
    (
        r#"allow = ["10.0.0.1/8", "10.0.0.0/33", "fe80::1"]"#,
        &[
            "2:10: `allow` cannot be `10.0.0.1/8`: its address has bits beyond the prefix; did you mean `10.0.0.0/8`?",
            "2:24: `allow` cannot be `10.0.0.0/33`; expected a network, such as 192.0.2.0/24 or 2001:db8::/32, or an address",
        ],
    ),
    (
        "allow = []\ndeny = []",
        &[
            r#"2:9: `allow` is empty; expected a list of networks, such as ["192.0.2.0/24"] or ["all"]"#,
            r#"3:8: `deny` is empty; expected a list of networks, such as ["192.0.2.0/24"] or ["all"]"#,
        ],
    ),
    (
        r#"allow = ["10.0.0.0/8"]
deny = ["10.0.0.0/8"]"#,
        &["3:9: `10.0.0.0/8` is in `allow` already"],
    ),
    (
        r#"add_headers = { "Content-Length" = "1", "X Y" = "1", "X-A" = "a\u0007", "X-B" = " b", "X-C" = 1 }"#,
        &[
            "2:17: `Content-Length` is written by the server itself, from what it knows of the connection",
            "2:41: `X Y` is not a header name; expected one such as `X-Frame-Options`",
            "2:62: `X-A` cannot be `a\\u{7}`: it has a control character",
            "2:81: `X-B` cannot be ` b`; expected no space at its ends",
            "2:95: `X-C` is a number; expected a string, or a list of strings",
        ],
    ),
    (
        r#"add_headers = { "X-A" = "1", "x-a" = "2" }"#,
        &["2:30: `x-a` is here twice; expected a list of values"],
    ),
    (
        r#"add_headers = ["X-A: 1"]"#,
        &[
            r#"2:15: `add_headers` is a list; expected a table, such as { "X-Frame-Options" = "DENY" }"#,
        ],
    ),
    (
        r#"remove_headers = ["ETag", "Date", "content-range", "a:b"]"#,
        &[
            "2:27: `Date` is written by the server itself, from what it knows of the connection",
            "2:35: `content-range` is for the answer itself to say",
            "2:52: `a:b` is not a header name; expected one such as `X-Frame-Options`",
        ],
    ),
    (
        r#"remove_headers = "ETag""#,
        &[
            r#"2:18: `remove_headers` is a string; expected a list of header names, such as ["ETag"]"#,
        ],
    ),
];
