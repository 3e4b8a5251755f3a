//! The lab itself: a veth carries, its throttle holds, and nothing of it stays behind.

mod hosts;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use hosts::{SOON, assert_gone, connection, files_of, transfer};
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::{Child, find_program};
use sluicegate_testkit::require;

/// How long one MiB takes from the server to the client, on a connection that knows nothing yet
/// of the wire's rate.
fn time_of_a_mebibyte(lab: &Lab) -> Duration {
    let (mut server, mut client) = connection(lab);
    let began = Instant::now();
    transfer(&mut server, &mut client, 1 << 20);
    began.elapsed()
}

#[test]
fn two_hosts_reach_each_other_over_the_wire_alone() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().expect("a lab");
    let (mut server, mut client) = connection(&lab);
    transfer(&mut server, &mut client, 1 << 20);
    transfer(&mut client, &mut server, 1 << 20);

    // The address is unknown outside of the lab, and to another lab it is another host.
    let address = SocketAddr::from((lab.server().address(), 80));
    let other = Lab::veth().expect("a second lab at the same time");
    let refused = other.client().enter(|| TcpStream::connect_timeout(&address, SOON));
    assert!(refused.expect("the host is there").is_err());
}

#[test]
fn programs_run_on_a_host_and_find_its_loopback() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().expect("a lab");
    let mut command = lab.server().command("ip");
    command.args(["-brief", "address", "show"]);
    let output = command.output().expect("`ip` is there");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("127.0.0.1/8"), "{text}");
    assert!(text.contains(&lab.server().address().to_string()), "{text}");
}

#[test]
fn a_panic_on_a_host_goes_on_in_the_test() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().expect("a lab");
    let panic = catch_unwind(AssertUnwindSafe(|| lab.client().enter(|| panic!("as asked"))));
    let panic = panic.expect_err("it panicked");
    assert_eq!(panic.downcast_ref(), Some(&"as asked"));
}

#[test]
fn a_throttled_wire_keeps_its_rate() {
    require!(Need::Throttle);
    let lab = Lab::veth().expect("a lab");

    // 1 MiB at 8 Mbit/s takes 1.05 s, less the bucket's 16 KiB, more the packets' heads.
    lab.throttle(8_000_000).expect("a throttle");
    let throttled = time_of_a_mebibyte(&lab);
    assert!(throttled > Duration::from_millis(900), "{throttled:?}");
    assert!(throttled < Duration::from_secs(5), "{throttled:?}");

    lab.throttle(80_000_000).expect("another rate");
    let faster = time_of_a_mebibyte(&lab);
    assert!(faster < throttled / 2, "{faster:?} after {throttled:?}");

    lab.unthrottle().expect("no throttle");
    lab.unthrottle().expect("nothing to take away");
    let free = time_of_a_mebibyte(&lab);
    assert!(free < throttled / 2, "{free:?} after {throttled:?}");
}

#[test]
fn nothing_stays_when_a_lab_is_dropped_while_its_sockets_live() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().expect("a lab");
    let files = files_of(&lab);
    let _sockets = connection(&lab);
    drop(lab);
    assert_gone(&files);
}

#[test]
fn nothing_stays_when_a_test_panics() {
    require!(Need::NetworkNamespaces);
    let mut opened = None;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::veth().expect("a lab");
        opened = Some(files_of(&lab));
        panic!("as asked");
    }));
    assert!(panic.is_err());
    assert_gone(&opened.expect("the lab was built"));
}

#[test]
fn processes_of_a_host_are_killed_with_the_lab_and_no_others() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().expect("a lab");
    let mut script = lab.server().command("sh");
    script.args(["-c", "sleep 60 & echo $!; exec sleep 60"]);
    let mut inside = Child::spawn(script).expect("a shell");
    let worker = inside.wait_for_line(|_| true, SOON).expect("the id of the worker");
    let mut command = Command::new("sleep");
    command.arg("60");
    let mut outside = Child::spawn(command).expect("`sleep` is there");

    drop(lab);
    let status = inside.wait_timeout(SOON).expect("it was killed");
    assert!(!status.success());
    assert!(!Path::new(&format!("/proc/{worker}/ns/net")).exists());
    assert_eq!(outside.try_wait().expect("it can be asked"), None);
}

#[test]
fn a_new_lab_sweeps_what_a_killed_process_left_behind() {
    require!(Need::NetworkNamespaces);
    let ip = find_program("ip").expect("labs need it");
    // The namespace bears its owner's id and start time, as those of a lab do. As long as the
    // owner lives, the labs of other tests let it be.
    let mut owner = Command::new("sleep").arg("60").spawn().expect("`sleep` is there");
    let stat = fs::read_to_string(format!("/proc/{}/stat", owner.id())).expect("it runs");
    let started = stat.split(' ').nth(21).expect("the name of `sleep` has no spaces");
    let name = format!("sg-{}-{started}-0-server", owner.id());
    let added = Command::new(&ip).args(["netns", "add", &name]).status();
    assert!(added.expect("it can be run").success());
    let mut command = Command::new(&ip);
    command.args(["netns", "exec", &name, "sh", "-c", "echo inside; exec sleep 60"]);
    let mut left_behind = Child::spawn(command).expect("`ip` is there");
    left_behind.wait_for_line(|line| line == "inside", SOON).expect("it runs in the namespace");

    let path = Path::new("/var/run/netns").join(&name);
    let first = Lab::veth().expect("a lab");
    assert!(path.exists());
    assert_eq!(left_behind.try_wait().expect("it can be asked"), None);

    owner.kill().expect("it runs");
    owner.wait().expect("it is our child");
    let second = Lab::veth().expect("a second lab");
    // Another lab's sweep may be busy with it.
    let deadline = Instant::now() + SOON;
    while path.exists() {
        assert!(Instant::now() < deadline, "{name} is still there");
        thread::sleep(Duration::from_millis(2));
    }
    assert!(!left_behind.wait_timeout(SOON).expect("it was killed").success());
    for host in [first.server(), first.client(), second.server(), second.client()] {
        assert!(host.path().exists());
    }
}
