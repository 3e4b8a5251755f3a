//! What is found is what the host has.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use sluicegate_sys::ethtool::{Feature, set_feature};
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use super::common::{PROGRAM, Served};
use super::{Report, run, setting};

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
