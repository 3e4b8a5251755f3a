//! git over "dumb" HTTP: repositories as plain files.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

use crate::common::Served;
use crate::ways::Ways;
use crate::{assert_whole, program, size, succeed};

const SEED: u64 = 16;
const LENGTH: u64 = 3_000_000;

/// git without anybody's settings, in `directory`, with `home` for its own.
fn git(directory: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = program("git", home);
    command.current_dir(directory).args(args);
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_TERMINAL_PROMPT", "0");
    for person in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{person}_NAME"), "Nobody");
        command.env(format!("GIT_{person}_EMAIL"), "nobody@example.org");
    }
    command
}

/// git that can clone over HTTP: some systems have that in a package of its own.
fn need() -> Need {
    let holds = find_program("git").is_some_and(|git| {
        let output = Command::new(git).arg("--exec-path").output();
        output.is_ok_and(|output| {
            let path = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            Path::new(&path).join("git-remote-http").exists()
        })
    });
    Need::Fact { what: "a git that clones over HTTP", holds }
}

/// A repository with three commits in `project`, its only branch being `main`.
fn repository(home: &Path) -> Tree {
    let tree = Tree::new().unwrap().directory("project").unwrap();
    let work = tree.join("project");
    let run = |args: &[&str]| succeed(git(&work, home, args));
    run(&["init", "--quiet", "--initial-branch", "main"]);
    for (commit, name, length) in
        [("first", "large.bin", LENGTH), ("second", "sub/middle.bin", 100_000), ("third", "a b", 9)]
    {
        std::fs::create_dir_all(work.join("sub")).unwrap();
        corpus::write_file(&work.join(name), SEED, length).unwrap();
        run(&["add", "--all"]);
        run(&["commit", "--quiet", "--message", commit]);
    }
    run(&["tag", "--annotate", "v1", "--message", "the first"]);
    tree
}

/// The clone has the commits, objects and files of the original.
fn assert_cloned(original: &Path, clone: &Path, home: &Path) {
    let fsck = succeed(git(clone, home, &["fsck", "--full", "--strict"]));
    assert!(!fsck.contains("missing") && !fsck.contains("error"), "{fsck}");
    for args in [&["rev-parse", "HEAD", "v1"][..], &["rev-list", "--objects", "--all"]] {
        let [ours, theirs] = [original, clone].map(|directory| succeed(git(directory, home, args)));
        assert_eq!(ours, theirs);
    }
    assert_eq!(succeed(git(clone, home, &["status", "--porcelain"])), "");
    for (name, length) in [("large.bin", LENGTH), ("sub/middle.bin", 100_000), ("a b", 9)] {
        assert_whole(&clone.join(name), SEED, length);
    }
}

fn clone(served: &Served, path: &str, home: &Path) -> PathBuf {
    let url = served.url(path);
    succeed(git(home, home, &["clone", "--quiet", &url, "clone"]));
    home.join("clone")
}

/// Files of this ending beneath `directory`.
fn files(directory: &Path, ending: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|of| of == ending)).collect()
}

#[test]
fn git_clones_a_bare_repository_of_packs() {
    require!(Need::Program("git"), need());
    let home = tempfile::tempdir().unwrap();
    let tree = repository(home.path());
    let run = |directory: &Path, args: &[&str]| succeed(git(directory, home.path(), args));
    run(tree.path(), &["clone", "--quiet", "--bare", "project", "repo.git"]);
    let bare = tree.join("repo.git");
    run(&bare, &["gc", "--quiet"]);
    run(&bare, &["update-server-info"]);

    let served = Served::with(tree.path(), &[]);
    let clone = clone(&served, "/repo.git", home.path());
    assert_cloned(&tree.join("project"), &clone, home.path());
    let packs = bare.join("objects/pack");
    let [pack, index] = ["pack", "idx"].map(|ending| files(&packs, ending));
    assert_eq!((pack.len(), index.len()), (1, 1));
    let ways = Ways::default().file(size(&pack[0])).file(size(&index[0]));
    // References, and looks for objects that are not loose.
    ways.up_to(24, 16 * 1024).assert(served.stop());
}

#[test]
fn git_clones_the_loose_objects_of_a_working_repository_where_dotfiles_are_served() {
    require!(Need::Program("git"), need());
    let home = tempfile::tempdir().unwrap();
    let tree = repository(home.path());
    let work = tree.join("project");
    succeed(git(&work, home.path(), &["update-server-info"]));

    let served = Served::with(tree.path(), &[]);
    let url = served.url("/project/.git");
    let (status, said) =
        crate::run(git(home.path(), home.path(), &["clone", "--quiet", &url, "clone"]));
    assert!(!status.success() && said.contains("not found"), "{status}: {said}");
    Ways::default().up_to(4, 0).assert(served.stop());

    let served = Served::with(tree.path(), &["--dotfiles"]);
    let clone = clone(&served, "/project/.git", home.path());
    assert_cloned(&work, &clone, home.path());
    let mut ways = Ways::default();
    let (mut objects, mut largest) = (0, 0);
    for directory in std::fs::read_dir(work.join(".git/objects")).unwrap() {
        let directory = directory.unwrap();
        if directory.file_name().len() == 2 {
            for object in std::fs::read_dir(directory.path()).unwrap() {
                let length = size(&object.unwrap().path());
                ways = ways.file(length);
                largest = largest.max(length);
                objects += 1;
            }
        }
    }
    assert!(objects >= 10 && largest > LENGTH, "{objects}, {largest}");
    ways.up_to(8, 16 * 1024).assert(served.stop());
}
