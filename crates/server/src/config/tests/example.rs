//! The annotated example, and the documents beside it.

use std::collections::HashSet;
use std::fs;

use toml::de::{DeTable, DeValue};

use super::super::schema::{
    ACCESS_LOG, ALL, EJECTION, FILES, HEALTH, LIMITS, POOL, PROXY, REDIRECT, RESPOND, ROUTE,
    ROUTE_SPOOL, SEND, SERVER, SITE, SPOOL, Schema, TIMEOUTS, TOP,
};
use super::super::{Action, Match, load};

pub(super) const EXAMPLE: &str = include_str!("../../../../../docs/example.toml");
const REFERENCE: &str = include_str!("../../../../../docs/configuration.md");
const MANUAL: &str = include_str!("../../../../../packaging/man/sluicegate.toml.5");
const NGINX: &str = include_str!("../../../../../docs/nginx.md");

#[test]
fn the_example_is_correct() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    for folder in ["srv/www/errors", "srv/app", "srv/shared", "var/log/sluicegate", "var/tmp"] {
        fs::create_dir_all(at.join(folder)).unwrap();
    }
    for page in ["srv/www/errors/404.html", "srv/www/errors/50x.html", "srv/app/index.html"] {
        fs::write(at.join(page), "x").unwrap();
    }
    let text = EXAMPLE
        .replace("\"/srv/", &format!("\"{}/srv/", at.display()))
        .replace("\"/var/", &format!("\"{}/var/", at.display()));
    let path = at.join("sluicegate.toml");
    fs::write(&path, text).unwrap();
    let config = load(&path).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.path, path);
    assert!(config.sites.len() >= 3);
    let routes = || config.sites.iter().flat_map(|site| &site.routes);
    assert!(routes().any(|route| matches!(route.action, Action::Redirect(_))));
    assert!(routes().any(|route| matches!(route.matches, Match::Suffix(_))));
}

/// The tables beneath `key` of each of `tables`.
fn beneath<'a>(tables: &[&'a DeTable<'a>], key: &str) -> Vec<&'a DeTable<'a>> {
    let values = tables.iter().filter_map(|table| table.get(key));
    let mut all = Vec::new();
    for value in values {
        match value.get_ref() {
            DeValue::Array(list) => {
                all.extend(list.iter().filter_map(|it| it.get_ref().as_table()));
            }
            other => all.extend(other.as_table()),
        }
    }
    all
}

#[test]
fn the_example_has_every_key() {
    let document = DeTable::parse(EXAMPLE).unwrap();
    let top = vec![document.get_ref()];
    let sites = beneath(&top, "site");
    let routes = beneath(&sites, "route");
    let mut looked = 0;
    let mut look = |schema: &Schema, tables: &[&DeTable<'_>]| {
        let given: HashSet<&str> =
            tables.iter().flat_map(|table| table.keys()).map(|key| &**key.get_ref()).collect();
        for key in schema.keys {
            assert!(given.contains(key), "`{key}` of {} is not in the example", schema.name);
        }
        looked += 1;
    };
    look(&TOP, &top);
    for (schema, key) in [
        (&ACCESS_LOG, "access_log"),
        (&SEND, "send"),
        (&SPOOL, "spool"),
        (&TIMEOUTS, "timeouts"),
        (&LIMITS, "limits"),
    ] {
        look(schema, &beneath(&top, key));
    }
    // By their names, which are no keys of ours.
    let pools: Vec<&DeTable<'_>> = beneath(&top, "pool")
        .iter()
        .flat_map(|table| table.values())
        .filter_map(|value| value.get_ref().as_table())
        .collect();
    look(&POOL, &pools);
    for (schema, key) in [(&SERVER, "servers"), (&HEALTH, "health"), (&EJECTION, "ejection")] {
        look(schema, &beneath(&pools, key));
    }
    look(&SITE, &sites);
    look(&ROUTE, &routes);
    for (schema, key) in [(&FILES, "files"), (&REDIRECT, "redirect"), (&RESPOND, "respond")] {
        look(schema, &beneath(&routes, key));
    }
    look(&PROXY, &beneath(&routes, "proxy"));
    let own = beneath(&beneath(&routes, "proxy"), "spool");
    let of_all = beneath(&top, "spool");
    // What it does not say is in `[spool]`.
    look(&ROUTE_SPOOL, &[own, of_all].concat());
    assert_eq!(looked, ALL.len());
}

#[test]
fn the_reference_has_every_key() {
    for schema in ALL {
        for key in schema.keys.iter().chain(schema.later) {
            assert!(REFERENCE.contains(&format!("`{key}")), "`{key}` of {}", schema.name);
        }
    }
}

/// Words of the lines of a section that have bold ones.
fn bold(section: &str) -> HashSet<&str> {
    let is_bold =
        |line: &&str| [".B ", ".BR ", ".RB ", ".IR "].iter().any(|it| line.starts_with(it));
    let lines = section.lines().filter(is_bold);
    lines.flat_map(|line| line.split([' ', '"', ',']).skip(1)).collect()
}

#[test]
fn the_manual_has_every_key_in_its_section() {
    let sections: Vec<(&str, &str)> = MANUAL
        .split("\n.SH ")
        .filter_map(|section| section.split_once('\n'))
        .map(|(name, text)| (name.trim_matches('"'), text))
        .collect();
    for schema in ALL {
        let name = match schema.name.trim_matches('`') {
            "the top level" | "access_log" => "THE TOP LEVEL",
            "files" => "files = { ... }",
            "proxy" => "proxy = { ... }",
            // The keys of the top level's.
            "spool" => "[spool]",
            // In paragraphs of the pool that has them.
            "a server of `servers" | "health" | "ejection" => "[pool.NAME]",
            // In a paragraph of the route that has it.
            "redirect" | "respond" => "[[site.route]]",
            other => other,
        };
        let (_, text) = sections.iter().find(|(section, _)| *section == name).expect(name);
        let words = bold(text);
        for key in schema.keys {
            // Tables and lists of tables have sections of their own.
            let is_section = sections.iter().any(|(section, _)| {
                let section = section.trim_matches(['[', ']']);
                section.rsplit('.').next() == Some(key) || section.split('.').next() == Some(key)
            });
            assert!(is_section || words.contains(key), "`{key}` of {name}");
        }
    }
}

#[test]
fn the_table_for_nginx_has_42_directives_and_no_key_that_is_not_ours() {
    let rows: Vec<&str> = NGINX.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows.len(), 42);
    let keys: HashSet<&str> = ALL.iter().flat_map(|schema| schema.keys).copied().collect();
    for row in rows {
        let ours = row.split('|').nth(2).unwrap();
        let named = ours.split('`').skip(1).step_by(2);
        // The first word of each piece of code: a key, perhaps with its value.
        let mut words = named.map(|code| code.split([' ', '=', '.']).next().unwrap());
        let is_no = ours.trim().starts_with("no");
        assert!(is_no || words.any(|word| keys.contains(word.trim_matches(['[', ']']))), "{row}");
    }
}
