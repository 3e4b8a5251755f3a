//! wget: resumed downloads, and a tree that is followed link by link.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::common::Served;
use crate::ways::{LARGE, MIDDLE, SMALL, Ways};
use crate::{assert_whole, cut, program, size, succeed};

const SEED: u64 = 13;

/// Directories of the tree that is mirrored.
const DIRECTORIES: [&str; 6] = ["", "caf\u{e9}", "deep", "deep/er", "deep/er/and", "nothing here"];

/// The paths of all files beneath `root`, sorted.
fn files(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![root.to_owned()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else {
                found.push(path.strip_prefix(root).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

fn wget(directory: &Path, args: &[&str]) -> Command {
    let mut command = program("wget", directory);
    command.args(["--no-config", "--no-proxy", "--tries", "1", "--timeout", "30"]);
    command.args(["--progress", "dot:giga"]).args(args);
    command
}

#[test]
fn a_half_file_is_completed_and_a_complete_one_left_alone() {
    require!(Need::Program("wget"));
    let tree = Tree::new().unwrap().file("large", SEED, LARGE).unwrap();
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("large");
    let half = LARGE / 2;
    corpus::write_file(&target, SEED, half).unwrap();
    let served = Served::with(tree.path(), &[]);
    succeed(wget(out.path(), &["--continue", &served.url("/large")]));
    assert_whole(&target, SEED, LARGE);
    Ways::default().file(LARGE - half).assert(served.stop());

    let served = Served::with(tree.path(), &[]);
    let said = succeed(wget(out.path(), &["--continue", &served.url("/large")]));
    assert!(said.contains("416 Range Not Satisfiable"), "{said}");
    assert!(said.contains("nothing to do"), "{said}");
    assert_whole(&target, SEED, LARGE);
    Ways::default().answers(1).assert(served.stop());

    // But for the last byte, and from the beginning.
    let served = Served::with(tree.path(), &[]);
    cut(&target, LARGE - 1);
    succeed(wget(out.path(), &["--continue", &served.url("/large")]));
    assert_whole(&target, SEED, LARGE);
    cut(&target, 0);
    succeed(wget(out.path(), &["--continue", &served.url("/large")]));
    assert_whole(&target, SEED, LARGE);
    Ways::default().file(1).file(LARGE).assert(served.stop());
}

#[test]
fn a_mirror_by_the_listings_has_every_file_and_asks_for_changes_only() {
    require!(Need::Program("wget"));
    let names = [
        ("top", SMALL),
        ("a b%c#d?e&f;g'h\"i.bin", SMALL),
        ("caf\u{e9}/\u{3bb}", MIDDLE),
        ("deep/er/and/deeper", MIDDLE),
        ("deep/large.iso", LARGE),
        ("deep/empty", 0),
    ];
    let mut tree = Tree::new().unwrap().directory("nothing here").unwrap();
    for (seed, (name, length)) in (SEED..).zip(names) {
        tree = tree.file(name, seed, length).unwrap();
    }
    let out = tempfile::tempdir().unwrap();
    let mirror = |served: &Served| {
        let url = served.url("/");
        // Names as they are on this side, too.
        let names = ["--restrict-file-names=nocontrol", "--local-encoding=UTF-8"];
        let mut args = vec!["--mirror", "--no-host-directories", "--no-parent", "--no-verbose"];
        // The listings in another order have nothing new.
        args.extend(["--reject-regex", "[?]sort="]);
        args.extend(names);
        args.push(&url);
        succeed(wget(out.path(), &args))
    };
    let served = Served::with(tree.path(), &["--listing"]);
    mirror(&served);
    for (seed, (name, length)) in (SEED..).zip(names) {
        assert_whole(&out.path().join(name), seed, length);
    }
    let mut expected: Vec<PathBuf> = names.iter().map(|(name, _)| name.into()).collect();
    expected.extend(DIRECTORIES.map(|name| Path::new(name).join("index.html")));
    expected.sort();
    assert_eq!(files(out.path()), expected);
    // Listings, and the robots.txt that is not there.
    let listings = DIRECTORIES.map(|name| size(&out.path().join(name).join("index.html")));
    let pages = listings.iter().sum();
    let mut ways = Ways::default().up_to(14, pages);
    for (_, length) in names {
        ways = ways.file(length);
    }
    ways.assert(served.stop());

    // Of the files nothing is sent again: there are heads that say so.
    let served = Served::with(tree.path(), &["--listing"]);
    mirror(&served);
    Ways::default().answers(names.len() as u64).up_to(14, pages).assert(served.stop());
    for (seed, (name, length)) in (SEED..).zip(names) {
        assert_whole(&out.path().join(name), seed, length);
    }
}
