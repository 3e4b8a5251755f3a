//! Calls that are refused, and a host that lacks something.

use std::fs;
use std::process::Command;

use sluicegate_testkit::inject::is_possible;
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use super::common::PROGRAM;
use super::{Report, Run, run};

#[test]
fn without_a_loopback_nothing_is_guessed() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().unwrap();
    let mut down = lab.server().command("ip");
    down.args(["link", "set", "dev", "lo", "down"]);
    assert!(run(down).status.success());
    let mut command = lab.server().command(PROGRAM);
    command.args(["doctor", "--json"]);
    let report = Report::by(command);
    for name in ["kernel.ktls", "sending.sendfile", "acks.reports", "sending.memlock"] {
        let check = report.find(name);
        assert_eq!(check["verdict"], "not_known", "{check}");
        assert_eq!(check["change"]["command"], "ip link set lo up", "{check}");
    }
    assert_eq!(report.verdict("kernel.event_loop"), "good");
}

/// The doctor, with a system call that always fails.
fn denied(call: &str, error: &str) -> Run {
    let mut command = Command::new("strace");
    let inject = format!("inject={call}:error={error}");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &inject, PROGRAM, "doctor", "--json"]);
    run(command)
}

fn tracing() -> Need {
    Need::Fact { what: "to trace a process (ptrace, x86-64)", holds: is_possible() }
}

#[test]
fn a_call_that_is_refused_is_missing_and_the_advice_names_it() {
    require!(Need::Program("strace"), tracing());
    let cases = [
        ("openat2", "kernel.openat2"),
        ("sendfile", "sending.sendfile"),
        ("splice", "sending.splice"),
        ("pipe2", "sending.pipe_size"),
        ("memfd_create", "sending.replacement"),
        ("getsockopt", "acks.notsent_lowat"),
    ];
    for (call, name) in cases {
        for error in ["ENOSYS", "EPERM"] {
            let run = denied(call, error);
            let report = Report::of(&run);
            let check = report.find(name);
            assert_eq!(check["verdict"], "missing", "{call} {error}: {check}");
            let advice = check["change"]["text"].as_str().unwrap();
            let word = if error == "EPERM" { "SystemCallFilter" } else { "or later" };
            assert!(advice.contains(word), "{advice}");
            assert!(run.status.success(), "a server runs without {call}: {}", run.err);
        }
    }
}

#[test]
fn what_no_server_can_run_without_is_a_failure() {
    require!(Need::Program("strace"), tracing());
    for call in ["epoll_create1", "eventfd2", "epoll_ctl", "socket", "bind", "accept4"] {
        let run = denied(call, "EPERM");
        assert_eq!(run.status.code(), Some(1), "{call}");
        assert!(run.err.contains("Sluicegate cannot run here"), "{}", run.err);
        assert_eq!(Report::of(&run).0["can_run"], false, "{call}");
    }
}

#[test]
fn no_refusal_ends_it() {
    require!(Need::Program("strace"), tracing());
    let calls = [
        "ioctl",
        "setsockopt",
        "connect",
        "sendmsg",
        "recvmsg",
        "sendto",
        "recvfrom",
        "fcntl",
        "fallocate",
        "statfs",
        "prctl",
        "io_uring_setup",
        "getsockname",
        "ftruncate",
    ];
    for call in calls {
        let report = Report::of(&denied(call, "EPERM"));
        assert_eq!(report.verdict("kernel.event_loop"), "good", "{call}");
    }
}

#[test]
fn under_valgrind_it_touches_no_memory_that_is_not_its_own() {
    require!(Need::Program("valgrind"));
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("page"), "hello").unwrap();
    let mut command = Command::new("valgrind");
    command.args(["-q", "--error-exitcode=9", PROGRAM, "doctor", "--json", "--directory"]);
    command.arg(directory.path());
    // It knows fewer calls than the kernel does: those are missing.
    let report = Report::by(command);
    assert_eq!(report.verdict("sending.sendfile"), "good");
    assert_eq!(report.0["can_run"], true);
}
