//! Sluicegate as the users of other programs meet it: what they fetch is what
//! is there, and its bytes went the way that is meant for them.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "../common/mod.rs"]
mod common;

mod apt;
mod aria2;
mod behind;
mod curl;
mod git;
mod pip;
mod pipelined;
mod ways;
mod wget;

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

use sluicegate_testkit::corpus::Verifier;
use sluicegate_testkit::process::{Child, ProcessError, find_program};

/// How long a client may take for all that it is to do.
const LIMIT: Duration = Duration::from_secs(100);

/// Where a system keeps its programs, behind the directories of `PATH`.
const SYSTEM_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// A program that knows nothing of this user's and this machine's settings
/// (proxies, mirrors, credentials), with `home` for its own.
fn program(name: &str, home: &Path) -> Command {
    let mut command = Command::new(find_program(name).unwrap());
    let path = std::env::var("PATH").unwrap_or_default();
    command.env_clear().env("PATH", format!("{path}:{SYSTEM_PATH}"));
    command.env("HOME", home).env("LC_ALL", "C").current_dir(home);
    command
}

/// Runs `command` to its end, and returns how it ended and what it said.
fn run(command: Command) -> (ExitStatus, String) {
    let mut child = Child::spawn(command).unwrap();
    // No line is the wanted one: this waits for the end of all output.
    match child.wait_for_line(|_| false, LIMIT) {
        Err(ProcessError::Exited { status, output, .. }) => (status, output),
        Err(error) => panic!("{error}"),
        Ok(line) => panic!("`{line}` was not waited for"),
    }
}

/// Runs `command`, which is to succeed, and returns what it said.
fn succeed(command: Command) -> String {
    let named = format!("{command:?}");
    let (status, output) = run(command);
    assert!(status.success(), "{named}: {status}\n{output}");
    output
}

/// The file is the first `length` bytes of the corpus, from its first byte to
/// its last.
#[track_caller]
fn assert_whole(path: &Path, seed: u64, length: u64) {
    let mut verifier = Verifier::new(seed, 0);
    let copied = io::copy(&mut File::open(path).unwrap(), &mut verifier).unwrap();
    assert_eq!(copied, length, "{}", path.display());
}

#[track_caller]
fn assert_same(one: &Path, other: &Path) {
    let [a, b] = [one, other].map(|path| std::fs::read(path).unwrap());
    assert!(a == b, "{} and {} differ", one.display(), other.display());
}

/// Cuts a file, as an interrupted download leaves it.
fn cut(path: &Path, length: u64) {
    File::options().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn size(path: &Path) -> u64 {
    std::fs::metadata(path).unwrap().size()
}
