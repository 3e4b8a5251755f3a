//! `sluicegate doctor`: its figures are the host's, its verdicts follow what is taken away from
//! it, and no refusal ends it.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use common::{PATIENCE, PROGRAM, Served};
use serde_json::Value;
use sluicegate_sys::ethtool::{Feature, set_feature};
use sluicegate_testkit::inject::is_possible;
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use tempfile::TempDir;

/// A run of the doctor.
struct Run {
    status: ExitStatus,
    out: String,
    err: String,
}

/// Runs a command to its end, or kills it when that takes too long.
fn run(mut command: Command) -> Run {
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + 3 * PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |file: &mut File| {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    };
    Run { status, out: text(&mut out), err: text(&mut err) }
}

fn doctor(arguments: &[&str]) -> Run {
    let mut command = Command::new(PROGRAM);
    command.arg("doctor").args(arguments);
    run(command)
}

/// What a command with `--json` found.
struct Report(Value);

impl Report {
    fn of(run: &Run) -> Self {
        assert!(!run.err.contains("panicked"), "{}", run.err);
        let report = serde_json::from_str(&run.out);
        Report(report.unwrap_or_else(|error| panic!("{error}: {}{}", run.out, run.err)))
    }

    /// Of a command that ends well.
    fn by(command: Command) -> Self {
        let run = run(command);
        let report = Self::of(&run);
        assert!(run.status.success(), "{}: {}", run.status, run.err);
        report
    }

    fn here(arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["doctor", "--json"]).args(arguments);
        Self::by(command)
    }

    fn checks(&self) -> &[Value] {
        self.0["checks"].as_array().unwrap()
    }

    fn find(&self, name: &str) -> &Value {
        let found = self.checks().iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name} in {}", self.0))
    }

    fn of_interface(&self, name: &str, interface: &str) -> &Value {
        let is_it = |check: &&Value| check["name"] == name && check["subject"] == interface;
        self.checks().iter().find(is_it).unwrap()
    }

    fn verdict(&self, name: &str) -> &str {
        self.find(name)["verdict"].as_str().unwrap()
    }

    fn measured(&self, name: &str, figure: &str) -> &Value {
        &self.find(name)["measured"][figure]
    }
}

fn setting(name: &str) -> String {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::read_to_string(path).unwrap().trim().to_owned()
}

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
fn figures_are_those_of_the_host() {
    let report = Report::here(&[]);
    assert_eq!(report.0["form"], 1);
    assert_eq!(report.0["can_run"], true);
    for check in report.checks() {
        for field in ["name", "topic", "title", "verdict", "value", "why"] {
            let text = check[field].as_str().unwrap();
            assert!(!text.is_empty(), "{field} of {check}");
        }
    }
    let total: u64 = report.0["summary"]
        .as_object()
        .unwrap()
        .values()
        .map(|count| count.as_u64().unwrap())
        .sum();
    assert_eq!(total, report.checks().len() as u64);
    assert_eq!(report.measured("kernel.release", "release"), &*setting("kernel.osrelease"));
    let number = |name: &str| setting(name).parse::<u64>().unwrap();
    assert_eq!(report.measured("network.somaxconn", "places"), number("net.core.somaxconn"));
    assert_eq!(report.measured("sending.pipe_size", "pipe_max_size"), number("fs.pipe-max-size"));
    let wmem = setting("net.ipv4.tcp_wmem");
    let most: u64 = wmem.split_whitespace().nth(2).unwrap().parse().unwrap();
    assert_eq!(report.measured("network.tcp_wmem", "most"), most);
    let good = most >= 4 << 20;
    assert_eq!(report.verdict("network.tcp_wmem"), if good { "good" } else { "could_be_better" });
    let default = setting("net.ipv4.tcp_congestion_control");
    assert_eq!(report.measured("network.congestion_control", "default"), &*default);
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    assert_eq!(report.measured("limits.descriptors", "hard"), &Value::from(limit.maximum));
    // What every machine that passes the other tests has.
    for name in ["kernel.event_loop", "kernel.listening", "sending.sendfile", "acks.outq"] {
        assert_eq!(report.verdict(name), "good", "{}", report.find(name));
    }
}

#[test]
fn interfaces_are_those_of_the_host() {
    require!(Need::Program("ip"));
    let listed = run({
        let mut ip = Command::new("ip");
        ip.args(["-json", "link", "show", "up"]);
        ip
    });
    let mut listed: Vec<Value> = serde_json::from_str(&listed.out).unwrap();
    // `ip` leaves an empty place for each that is down.
    listed.retain(|link| link["ifname"].is_string());
    let report = Report::here(&[]);
    assert!(!listed.is_empty());
    for link in listed.iter().take(16) {
        let name = link["ifname"].as_str().unwrap();
        let check = report.of_interface("interface.packets", name);
        assert_eq!(check["measured"]["mtu"], link["mtu"], "{name}");
        assert_eq!(check["measured"]["qdisc"], link["qdisc"], "{name}");
    }
}

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
fn an_interface_without_scatter_gather_is_found() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().unwrap();
    let look = || {
        let mut command = lab.server().command(PROGRAM);
        command.args(["doctor", "--json", "--interface", "eth0"]);
        Report::by(command)
    };
    let report = look();
    let check = report.find("interface.scatter_gather");
    assert_eq!((&check["verdict"], &check["subject"]), (&"good".into(), &"eth0".into()));
    assert_eq!(check["measured"]["shares_pages"], true, "it is a veth");
    assert_eq!(report.measured("interface.packets", "kind"), "veth");
    assert_eq!(report.measured("interface.packets", "mtu"), 1500);
    assert!(report.checks().iter().all(|check| check["subject"] != "lo"));

    lab.server().enter(|| set_feature("eth0", Feature::ScatterGather, false)).unwrap().unwrap();
    let report = look();
    let check = report.find("interface.scatter_gather");
    assert_eq!(check["verdict"], "could_be_better");
    assert_eq!(check["measured"]["scatter_gather"], false);
    assert_eq!(check["change"]["command"], "ethtool -K eth0 tx on sg on");
    assert_eq!(report.measured("interface.segmentation", "tso"), false, "it goes with it");
}

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

/// A verdict as people have it.
fn verdict_words(check: &Value) -> String {
    check["verdict"].as_str().unwrap().replace('_', " ")
}

#[test]
fn people_get_aligned_text_and_advice_for_what_is_not_good() {
    let Run { status, out, err } = doctor(&[]);
    assert!(status.success() && err.is_empty(), "{err}");
    assert!(!out.contains('\x1b'), "colours are for terminals");
    let report = Report::here(&[]);
    let lines: Vec<&str> = out.lines().collect();
    // Where the value of each check begins: what follows its title and at least two spaces.
    let columns: Vec<usize> = report
        .checks()
        .iter()
        .filter(|check| check["topic"] != "interfaces")
        .map(|check| {
            let (title, verdict) = (check["title"].as_str().unwrap(), verdict_words(check));
            let start = format!("  {verdict:15}  {title}  ");
            let line = lines.iter().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("`{start}` in {out}"));
            line.len() - line[start.len()..].trim_start().len()
        })
        .collect();
    assert!(columns.iter().all(|column| *column == columns[0]), "{columns:?}: {out}");
    let last = lines.last().unwrap();
    assert!(last.starts_with(&format!("{} checks: ", report.checks().len())), "{last}");
    assert!(last.ends_with("Sluicegate can run here."), "{last}");
    let explained = doctor(&["--explain"]).out;
    assert!(explained.len() > out.len());
    for check in report.checks() {
        let title = check["title"].as_str().unwrap();
        assert!(out.contains(title), "{title}");
        let start: Vec<&str> = check["why"].as_str().unwrap().split(' ').take(3).collect();
        assert!(explained.contains(&start.join(" ")), "{start:?}");
    }
    // Who reads no further ends it without a word.
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{PROGRAM} doctor --explain | true")]);
    assert_eq!(run(shell).err, "");
}

#[test]
fn a_directory_is_looked_at_and_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("deep")).unwrap();
    fs::write(directory.path().join("deep/page"), "hello").unwrap();
    let path = directory.path().to_str().unwrap();
    let report = Report::here(&["--directory", path]);
    assert_eq!(report.verdict("directory.sendfile"), "good", "it has looked further down");
    assert_eq!(report.find("directory.file_system")["subject"], path);
    let names: Vec<_> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["deep"]);
    let fine = report.measured("directory.change_times", "fine");
    assert!(fine.is_boolean() || report.verdict("directory.unnamed_files") != "good", "{fine}");
    let memory = Path::new("/dev/shm");
    if fs::read_to_string("/proc/mounts").unwrap().contains(" /dev/shm tmpfs ") {
        let report = Report::here(&["--directory", memory.to_str().unwrap()]);
        assert_eq!(report.measured("directory.file_system", "kind"), "tmpfs");
    }
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

#[test]
fn a_peer_on_this_host_is_told_from_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let served = Served::new(directory.path(), "1");
    let peer = served.address.to_string();
    let report = Report::here(&["--peer", &peer]);
    let check = report.find("peer.zerocopy");
    assert_eq!(check["subject"], peer);
    assert_eq!(check["measured"]["copied"], true, "{check}");
    assert_eq!(check["verdict"], "could_be_better");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let report = Report::here(&["--peer", &closed]);
    assert_eq!(report.verdict("peer.zerocopy"), "not_known");
}

#[test]
fn what_is_not_there_is_a_mistake() {
    for (arguments, word) in [
        (["--interface", "no-such-device"], "lo"),
        (["--directory", "/no/such/directory"], "/no/such/directory"),
        (["--peer", "nowhere"], "invalid"),
    ] {
        let run = doctor(&arguments);
        assert!(!run.status.success(), "{arguments:?}");
        assert!(run.err.contains(word), "{}", run.err);
        assert_eq!(run.out, "");
    }
}
