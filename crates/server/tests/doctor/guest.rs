//! An older kernel, with a peer that is on another host.

use std::time::Duration;

use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::Child;
use sluicegate_testkit::require;
use sluicegate_testkit::vm::{HOST, Options, Vm};

use super::Report;
use super::common::{PATIENCE, PROGRAM};

/// The guest is emulated: everything takes some hundred times as long.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn an_older_kernel_and_a_remote_peer_are_what_they_are() {
    require!(Need::VirtualMachine);
    let vm = Vm::boot(&Options::new().module("tls").program(PROGRAM)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut command = vm.host().command(PROGRAM);
    command.arg("serve").arg(directory.path()).args(["--listen", &format!("{HOST}:0")]);
    let mut server = Child::spawn(command).unwrap();
    let line = server.wait_for_line(|line| line.contains("http://"), PATIENCE).unwrap();
    let peer = line.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();

    let words = ["/programs/sluicegate", "doctor", "--json", "--peer", peer];
    let finished = vm.run(&words, &[], SOON).unwrap();
    assert_eq!(finished.status, 0, "{}", finished.output);
    let report = Report::parse(&finished.output);
    assert_eq!(report.measured("kernel.release", "release"), vm.kernel());
    // Linux 6.5 and 6.2 have these.
    let check = report.find("kernel.cachestat");
    assert_eq!(check["verdict"], "missing", "{check}");
    assert!(check["change"]["text"].as_str().unwrap().contains("6.5"), "{check}");
    assert_eq!(report.measured("acks.reports", "opt_id_tcp"), false);
    assert_eq!(report.verdict("acks.reports"), "good");
    assert_eq!(report.verdict("kernel.ktls"), "good", "its module is loaded");
    assert_eq!(report.measured("sending.zerocopy", "copied"), true, "on its loopback");
    let check = report.find("peer.zerocopy");
    assert_eq!(check["verdict"], "good", "{check}");
    assert_eq!(check["measured"]["copied"], false, "over its card");
}
