//! Users who may less than root, and limits.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use tempfile::TempDir;

use super::common::PROGRAM;
use super::{Report, setting};

/// The program where every user can run it. `cp` copies it, not this process: a descriptor
/// open for writing that another test's child inherits would make it busy.
fn for_everybody() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = directory.path().join("sluicegate");
    let copied = Command::new("cp").arg(PROGRAM).arg(&program).status().unwrap();
    assert!(copied.success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    (directory, program)
}

/// `nobody` of Debian and most others. Nothing depends on the number's name.
const NOBODY: &str = "65534";

/// A command of a user without any privilege, under these limits of `prlimit(1)`.
fn unprivileged(program: &Path, limits: &[&str]) -> Command {
    let mut command = Command::new("prlimit");
    command.args(limits).args(["setpriv", "--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(program);
    command.args(["doctor", "--json"]);
    command
}

const UNPRIVILEGED: [Need; 3] = [Need::Root, Need::Program("prlimit"), Need::Program("setpriv")];

#[test]
fn a_user_without_privileges_is_told_what_it_may_not() {
    require!(UNPRIVILEGED[0], UNPRIVILEGED[1], UNPRIVILEGED[2]);
    let (_directory, program) = for_everybody();
    let report = Report::by(unprivileged(&program, &[]));
    assert_eq!(report.0["can_run"], true);
    for name in ["sending.sendfile", "sending.zerocopy", "acks.reports", "kernel.openat2"] {
        assert_eq!(report.verdict(name), Report::here(&[]).verdict(name), "{name}");
    }
    assert_eq!(report.measured("limits.low_ports", "cap_net_bind_service"), false);
    let is_free: bool =
        setting("net.ipv4.ip_unprivileged_port_start").parse::<u32>().unwrap() <= 80;
    let expected = if is_free { "good" } else { "could_be_better" };
    assert_eq!(report.verdict("limits.low_ports"), expected);
    // 256 pages of 4 KiB each, and other programs of that user may have some.
    let soft: u64 = setting("fs.pipe-user-pages-soft").parse().unwrap();
    let made = report.measured("sending.pipes", "made").as_u64().unwrap();
    assert!(soft == 0 || made * 256 <= soft, "{made} pipes with {soft} pages");
}

#[test]
fn limits_of_the_process_change_the_verdict() {
    require!(UNPRIVILEGED[0], UNPRIVILEGED[1], UNPRIVILEGED[2]);
    let (_directory, program) = for_everybody();
    let with = |limit: &str| Report::by(unprivileged(&program, &[limit]));

    // Only a privileged user could raise it.
    let report = Report::by(unprivileged(&program, &["--core=0:0"]));
    let limit = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    let check = report.find("sending.memlock");
    assert_eq!(check["measured"]["soft"], Value::from(limit.current));
    let is_enough = limit.current.is_none_or(|limit| limit >= 8 << 20);
    assert_eq!(check["verdict"] == "good", is_enough, "{check}");
    let report = with("--memlock=65536:65536");
    assert_eq!(report.verdict("sending.memlock"), "could_be_better");
    assert!(report.measured("sending.memlock", "largest_call").as_u64().unwrap() <= 65536);
    let report = with("--memlock=0:0");
    let check = report.find("sending.memlock");
    assert_eq!(check["verdict"], "missing");
    assert_eq!(check["measured"]["largest_call"], 0);
    assert_eq!(check["change"]["command"], "LimitMEMLOCK=64M");
    assert_eq!(report.verdict("sending.zerocopy"), "missing", "a call was refused");
    assert_eq!(report.verdict("sending.sendfile"), "good", "it pins nothing");

    let report = with("--nofile=40:40");
    assert_eq!(report.measured("limits.descriptors", "hard"), 40);
    assert_eq!(report.verdict("limits.descriptors"), "could_be_better");
    let check = report.find("sending.pipes");
    assert_eq!(check["verdict"], "could_be_better");
    assert!(check["change"]["text"].as_str().unwrap().contains("descriptors"), "{check}");
}

#[test]
fn files_of_somebody_else_do_not_tell_what_is_cached() {
    require!(UNPRIVILEGED[0], UNPRIVILEGED[1], UNPRIVILEGED[2], Need::Kernel(6, 5));
    let (directory, program) = for_everybody();
    let path = directory.path().to_str().unwrap();
    let mut command = unprivileged(&program, &[]);
    command.args(["--directory", path]);
    let report = Report::by(command);
    assert_eq!(report.verdict("directory.cachestat"), "could_be_better");
    assert_eq!(report.verdict("directory.sendfile"), "good");
    assert_eq!(report.verdict("kernel.cachestat"), "good", "the call itself is there");
    let ours = Report::here(&["--directory", path]);
    assert_eq!(ours.verdict("directory.cachestat"), "good");
}
