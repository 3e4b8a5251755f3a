//! Mistakes of files.

use super::Case;

pub(super) const FILES: &[Case] = &[
    (r#"listing = "yes""#, &["4:35: `listing` is a string; expected true or false"]),
    (
        r#"index = "a/b""#,
        &["4:33: `index` cannot be `a/b`; expected the name of a file, without a slash"],
    ),
    (
        r#"index = ["index.html", 3]"#,
        &[
            r#"4:48: `index` is a number; expected the name of a file, such as "index.html", or a list of names"#,
        ],
    ),
    (r#"fallback = "missing.html""#, &["4:36: `missing.html` beneath `DIR/www` is not there"]),
    (r#"fallback = "dir""#, &["4:36: `dir` beneath `DIR/www` is no regular file"]),
    (
        r#"fallback = "../x""#,
        &["4:36: `fallback` cannot be `../x`: the path leads out of its root"],
    ),
    (
        r#"error_pages = { 404 = "404.html", 500 = "missing.html", 200 = "404.html", "4o4" = "404.html" }"#,
        &[
            "4:65: `missing.html` beneath `DIR/www` is not there",
            "4:81: `200` has no page; expected a status from 400 to 599",
            "4:99: `4o4` has no page; expected a status from 400 to 599",
        ],
    ),
    (
        r#"error_pages = "404.html""#,
        &[r#"4:39: `error_pages` is a string; expected a table, such as { 404 = "404.html" }"#],
    ),
    (
        r#"cache_control = """#,
        &[r#"4:41: `cache_control` cannot be empty; expected a value, such as "max-age=3600""#],
    ),
    (
        "cache_control = 3600",
        &[
            r#"4:41: `cache_control` is a number; expected a string, or a table from beginnings of paths to values, such as { "/" = "no-cache", "/assets/" = "max-age=31536000, immutable" }"#,
        ],
    ),
    (
        r#"cache_control = { "app/" = "no-cache", "/app/x/" = "a\nb" }"#,
        &[
            "4:43: `app/` is no path; expected a path that begins with a slash; did you mean `/app/`?",
            "4:76: `/app/x/` cannot be `a\\nb`: the value of `Cache-Control` holds a control byte",
        ],
    ),
    (
        r#"cache_control = { "/" = "no-cache", "/assets/" = "max-age=1" }"#,
        &["4:61: no file of this route is beneath `/assets/`; expected it to begin with `/app/`"],
    ),
    (
        r#"symlinks = "none""#,
        &["4:36: `symlinks` cannot be `none`; expected `inside`, `never` or `anywhere`"],
    ),
    (
        r#"precompressed = ["br", "gz", "br"]"#,
        &[
            "4:48: `precompressed` cannot be `gz`; expected `br`, `zstd` or `gzip`; did you mean `gzip`?",
            "4:54: this coding is in the list already",
        ],
    ),
    (
        r#"precompressed = "br""#,
        &[
            r#"4:41: `precompressed` is a string; expected a list of codings, such as ["br", "gzip"]"#,
        ],
    ),
    (
        r#"in_place_edits = "/live/""#,
        &[
            r#"4:42: `in_place_edits` is a string; expected true, false, or a list of beginnings of paths, such as ["/live/"]"#,
            "4:42: no file of this route is beneath `/live/`; expected it to begin with `/app/`",
        ],
    ),
    (
        r#"in_place_edits = ["/app/live/", "/live/", "x"]"#,
        &[
            "4:57: no file of this route is beneath `/live/`; expected it to begin with `/app/`",
            "4:67: `in_place_edits` cannot be `x`; expected a path that begins with a slash; did you mean `/x`?",
        ],
    ),
    (
        r#"in_memory = "24""#,
        &["4:37: `in_memory` cannot be `24`; expected a size with its unit, such as 24KiB or 1MiB"],
    ),
    (r#"in_memory = "1GiB""#, &["4:37: `in_memory` cannot be `1GiB`; expected 0 B to 16.0 MiB"]),
    (r#"strip_prefix = "/app""#, &[]),
    (
        r#"strip_prefix = "/api""#,
        &[
            "4:40: `strip_prefix` cannot be `/api`: this route's paths need not begin with it; expected a beginning of `/app/`",
        ],
    ),
    ("autoindex = true", &["4:25: unknown key `autoindex` in `files`; did you mean `listing`?"]),
    (
        "zebra = true",
        &[
            "4:25: unknown key `zebra` in `files`; expected `root`, `strip_prefix`, `listing`, `index`, `fallback`, `error_pages`, `cache_control`, `symlinks`, `dotfiles`, `precompressed`, `in_place_edits` or `in_memory`",
        ],
    ),
];
