//! Configurations and what is wrong with them.

mod example;
mod files;
mod pools;
mod proxy;
mod random;
mod routes;
mod sites;
mod top;
mod upstreams;
mod values;
mod wholes;

use std::path::Path;

use tempfile::TempDir;

use super::mistakes::Mistakes;
use super::source::Source;
use super::{Config, understand};

/// A text, and what is said of it: line, column, message. `DIR` is the
/// configuration's directory.
type Case = (&'static str, &'static [&'static str]);

/// A directory for a configuration, with a root in it.
fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("www/dir")).unwrap();
    for page in ["index.html", "404.html"] {
        std::fs::write(directory.path().join("www").join(page), "x").unwrap();
    }
    directory
}

fn read(text: &str, directory: &Path) -> Result<Config, Mistakes> {
    understand(&Source::new(Path::new("t.toml"), text), directory)
}

/// The first line of each mistake.
fn told(mistakes: &Mistakes) -> Vec<String> {
    let text = mistakes.to_string();
    let lines = text.lines().filter_map(|line| line.strip_prefix("t.toml:"));
    lines.map(str::to_owned).collect()
}

fn check(cases: &[Case], whole: impl Fn(&str) -> String) {
    let directory = directory();
    let mut wrong = String::new();
    for (text, expected) in cases {
        let result = read(&whole(text), directory.path());
        let told = result.as_ref().map_or_else(told, |_| Vec::new());
        let path = directory.path().to_string_lossy();
        let told: Vec<String> = told.iter().map(|line| line.replace(&*path, "DIR")).collect();
        if told != *expected {
            wrong += &format!("\n{text}\n     told {told:#?}\n expected {expected:#?}\n");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// A route that nothing is wrong with.
const ROUTE: &str = "[[site.route]]\npath = \"/\"\nrespond = { text = \"x\" }\n";

#[test]
fn mistakes_of_the_top_level_are_told() {
    check(top::TOP, |text| format!("{text}\n[[site]]\n{ROUTE}"));
}

#[test]
fn mistakes_of_sites_are_told() {
    check(sites::SITE, |text| format!("[[site]]\n{text}\n{ROUTE}"));
}

#[test]
fn mistakes_of_routes_are_told() {
    check(routes::ROUTE, |text| format!("[[site]]\n[[site.route]]\n{text}\n"));
}

#[test]
fn mistakes_of_files_are_told() {
    check(files::FILES, |text| {
        let files = format!("files = {{ root = \"www\", {text} }}");
        format!("[[site]]\n[[site.route]]\npath = \"/app/\"\n{files}\n")
    });
}

#[test]
fn mistakes_of_pools_are_told() {
    check(pools::POOL, |text| {
        let route = "route = [{ path = \"/\", proxy = { pool = \"app\" } }]\n";
        format!("[pool.app]\n{text}\n[[site]]\n{route}")
    });
    check(pools::WHOLE, str::to_owned);
}

#[test]
fn mistakes_of_proxies_are_told() {
    check(proxy::PROXY, |text| {
        format!("[[site]]\n[[site.route]]\npath = \"/app/\"\nproxy = {{ {text} }}\n")
    });
    check(proxy::SPOOL, |text| format!("{text}\n[[site]]\n{ROUTE}"));
}

#[test]
fn mistakes_of_whole_configurations_are_told() {
    check(wholes::WHOLE, str::to_owned);
}

#[test]
fn fields_that_the_engine_writes_are_neither_added_nor_removed() {
    let directory = directory();
    let names = "Server Date Connection Content-Length Transfer-Encoding Keep-Alive date";
    for name in names.split(' ') {
        for rule in [
            format!("add_headers = {{ {name} = \"x\" }}"),
            format!("remove_headers = [\"{name}\"]"),
        ] {
            let at_the_site = format!("[[site]]\n{rule}\n{ROUTE}");
            let at_the_route = format!("[[site]]\n{ROUTE}{rule}\n");
            for text in [at_the_site, at_the_route] {
                let told = told(&read(&text, directory.path()).unwrap_err());
                let [told] = told.as_slice() else { panic!("{text}: {told:?}") };
                assert!(
                    told.contains(&format!("`{name}` is written by the server itself")),
                    "{told}"
                );
            }
        }
    }
}

#[test]
fn a_mistake_is_shown_with_its_line() {
    let text = "lisen = []\nworkers = 1.5\nsite = [{}]\n";
    let mistakes = read(text, &std::env::temp_dir()).unwrap_err();
    let expected = "\
3 mistakes in t.toml
t.toml:1:1: unknown key `lisen` in the top level; did you mean `listen`?
  1 | lisen = []
    | ^^^^^
t.toml:2:11: `workers` is a number with a fraction; expected a whole number, such as 2
  2 | workers = 1.5
    |           ^^^
t.toml:3:9: this site has no route; expected `[[site.route]]`
  3 | site = [{}]
    |         ^^";
    assert_eq!(mistakes.to_string(), expected);
}

#[test]
fn a_flood_of_mistakes_is_cut_off() {
    let text = "[[site]]\nx = 1\n".repeat(3000);
    let mistakes = read(&text, &std::env::temp_dir()).unwrap_err().to_string();
    assert!(mistakes.lines().count() < 5000 && mistakes.contains("\nand "), "{}", mistakes.len());
}
