//! The Debian package, built around the program under test: what is in it, and
//! what it does to a machine that it is installed on, until nothing is left.
//!
//! `SLUICEGATE_PROGRAM` names another program to be packaged than the one that was built for these
//! tests, such as the release build.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "../common/mod.rs"]
mod common;

mod content;
mod installed;
mod machine;
mod service;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::PROGRAM;
use sluicegate_testkit::need::Need;
use tempfile::TempDir;

/// What it takes to build one.
const BUILD: [Need; 3] =
    [Need::Program("dpkg-deb"), Need::Program("readelf"), Need::Program("strip")];

/// A package, gone with its directory.
struct Package {
    path: PathBuf,
    directory: TempDir,
}

/// Runs `packaging/build` on the program under test.
fn build() -> Package {
    let program = std::env::var("SLUICEGATE_PROGRAM").unwrap_or_else(|_| PROGRAM.to_owned());
    let directory = TempDir::new().unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/build");
    let mut command = Command::new(script);
    command.args(["--binary", &program, "--to"]).arg(directory.path());
    let path = PathBuf::from(text(&command.output().unwrap()).trim_end());
    assert!(path.is_file(), "{}", path.display());
    Package { path, directory }
}

impl Package {
    /// Its files, beneath a directory that goes with it.
    fn unpacked(&self) -> PathBuf {
        let to = self.directory.path().join("unpacked");
        let output =
            Command::new("dpkg-deb").arg("--raw-extract").arg(&self.path).arg(&to).output();
        text(&output.unwrap());
        to
    }
}

/// What a command, which must have succeeded, wrote.
fn text(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {errors}", output.status);
    String::from_utf8(output.stdout.clone()).unwrap()
}
