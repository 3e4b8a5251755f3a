//! `sluicegate check`, as an operator and scripts see it.
#![allow(clippy::unwrap_used)]

mod common;

use std::fmt::Write;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use crate::common::PROGRAM;

fn output(directory: &Path, file: &str) -> Output {
    let mut command = Command::new(PROGRAM);
    command.current_dir(directory).args(["check", file]).output().unwrap()
}

/// `sluicegate check FILE`, in `directory`: whether it says yes, and all that it says.
fn check(directory: &Path, file: &str) -> (bool, String) {
    let Output { status, stdout, stderr } = output(directory, file);
    (status.success(), String::from_utf8([stdout, stderr].concat()).unwrap())
}

#[test]
fn a_correct_file_is_counted_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let text = r#"
        listen = ["127.0.0.1:80", "[::1]:80"]
        [[site]]
        route = [{ path = "/", files = { root = "." } }, { path = "/x", respond = { text = "" } }]
    "#;
    fs::write(directory.path().join("a.toml"), text).unwrap();
    let Output { status, stdout, stderr } = output(directory.path(), "a.toml");
    assert!(status.success() && stderr.is_empty(), "{}", stderr.escape_ascii());
    let line = String::from_utf8(stdout).unwrap();
    assert_eq!(line, "a.toml: correct: 1 site, 2 routes, 2 addresses\n");
}

#[test]
fn every_mistake_is_told_on_standard_error_and_by_the_exit_code() {
    let directory = tempfile::tempdir().unwrap();
    let text = "wrkers = 1\n[[site]]\n[[site.route]]\npath = \"/\"\nfiles = { root = \"none\" }\n";
    fs::write(directory.path().join("a.toml"), text).unwrap();
    let Output { status, stdout, stderr } = output(directory.path(), "a.toml");
    assert_eq!(status.code(), Some(1));
    assert!(stdout.is_empty());
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(
        stderr.starts_with("sluicegate: 2 mistakes in a.toml\na.toml:1:1: unknown"),
        "{stderr}"
    );
    let missing = "\na.toml:5:18: the directory `";
    assert!(stderr.contains(missing) && stderr.ends_with("^^^^^^\n"), "{stderr}");
}

#[test]
fn paths_are_relative_to_the_file_and_not_to_the_caller() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::create_dir_all(at.join("etc/www")).unwrap();
    let text = "[[site]]\nroute = [{ path = \"/\", files = { root = \"www\" } }]\n";
    fs::write(at.join("etc/a.toml"), text).unwrap();
    let (is_right, output) = check(at, "etc/a.toml");
    assert!(is_right, "{output}");
    fs::rename(at.join("etc/a.toml"), at.join("a.toml")).unwrap();
    let (is_right, output) = check(at, "a.toml");
    assert!(!is_right && output.contains("/www` is missing"), "{output}");
}

#[test]
fn what_is_no_readable_text_is_said_to_be_so() {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path();
    fs::write(at.join("latin1.toml"), b"workers = 2\n# \xfcber\n").unwrap();
    let large = fs::File::create(at.join("large.toml")).unwrap();
    large.set_len(9 << 20).unwrap();
    for (file, expected) in [
        ("none.toml", "cannot read `none.toml`: there is no such file"),
        (".", "cannot read `.`: it is a directory; expected a file"),
        ("large.toml", "cannot read `large.toml`: it has more than 4 MiB"),
        ("latin1.toml", "latin1.toml:2:3: this is not UTF-8; expected a text file"),
    ] {
        let (is_right, output) = check(at, file);
        assert!(!is_right && output.contains(expected), "{file}: {output}");
    }
    fs::write(at.join("secret.toml"), "").unwrap();
    fs::set_permissions(at.join("secret.toml"), fs::Permissions::from_mode(0o000)).unwrap();
    // Nothing is secret from root.
    if fs::read(at.join("secret.toml")).is_err() {
        let (is_right, output) = check(at, "secret.toml");
        assert!(!is_right && output.contains("`secret.toml`: permission denied"), "{output}");
    }
}

#[test]
fn a_thousand_sites_by_name_and_by_address_are_read() {
    let directory = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for number in 0..1000 {
        let listen = format!("127.{}.{}.1:8080", 1 + number / 250, number % 250);
        let _ = write!(
            text,
            "[[site]]\nhosts = [\"site{number}.test\"]\nlisten = [\"{listen}\"]\n\
             [[site.route]]\npath = \"/\"\nfiles = {{ root = \".\" }}\n\
             [[site.route]]\nmatch = \"*.php\"\nrespond = {{ status = 404 }}\n"
        );
    }
    fs::write(directory.path().join("a.toml"), text).unwrap();
    let (is_right, output) = check(directory.path(), "a.toml");
    assert!(is_right && output.contains("1000 sites, 2000 routes, 1000 addresses"), "{output}");
}
