//! A peer on another host: what it refuses, and both figures made with it across two namespaces.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::Duration;

use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::Child;
use sluicegate_testkit::require;

const BENCH: &str = env!("CARGO_BIN_EXE_sluicegate-bench");
const GREETING: &str = "sluicegate-bench peer 1\n";

/// A quick figure of one size takes some seconds.
const LIMIT: Duration = Duration::from_secs(120);

fn peer(mut command: Command, address: IpAddr) -> (Child, SocketAddr) {
    command.args(["peer", "--listen", &SocketAddr::new(address, 0).to_string()]);
    let mut peer = Child::spawn(command).unwrap();
    let prefix = "a peer listens on ";
    let is_it = |line: &str| line.starts_with(prefix);
    let line = peer.wait_for_line(is_it, Duration::from_secs(10)).unwrap();
    let address = line.strip_prefix(prefix).unwrap().split(',').next().unwrap();
    let address = address.parse().unwrap();
    (peer, address)
}

/// What the peer says to these lines, until it says no more.
fn talk(address: SocketAddr, lines: &str) -> (TcpStream, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.write_all(lines.as_bytes()).unwrap();
    let mut said = String::new();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    for _ in lines.lines() {
        // After a refusal the connection is closed, by a reset if something was left unread.
        if reader.read_line(&mut said).unwrap_or(0) == 0 {
            break;
        }
    }
    (stream, said)
}

#[test]
fn a_peer_refuses_strangers_nonsense_a_second_harness_and_third_hosts() {
    let (_peer, address) = peer(Command::new(BENCH), "127.0.0.1".parse().unwrap());
    let (_, said) = talk(address, "GET / HTTP/1.1\r\n");
    assert!(said.contains("failed") && said.contains("is greeted with"), "{said}");

    let (harness, said) = talk(address, GREETING);
    assert!(said.contains(r#"{"hello":{"#), "{said}");
    let (_, said) = talk(address, GREETING);
    assert!(said.contains("busy with another harness"), "{said}");
    drop(harness);

    let refused = |order: &str| {
        // The place of the last one is free a moment after it has gone.
        for _ in 0..100 {
            let (_, said) = talk(address, &format!("{GREETING}{order}\n"));
            if !said.contains("busy") {
                return said;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        panic!("the peer stays busy")
    };
    let said = refused("{\"download\": 5}");
    assert!(said.contains("cannot understand"), "{said}");
    let said = refused("\"go\"");
    assert!(said.contains("without a download"), "{said}");
    let said = refused(r#"{"stall":{"address":"192.0.2.1:80","path":"/","limit_ms":1000}}"#);
    assert!(said.contains("not on the host that gives the order"), "{said}");
    let said = refused(&"x".repeat(20_000));
    assert!(said.contains("a line of more than"), "{said}");
}

#[test]
fn a_harness_tells_what_listens_when_it_is_no_peer() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.write_all(b"SSH-2.0-something\r\n").unwrap();
        std::thread::sleep(Duration::from_secs(5));
    });
    require!(two_cores());
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(BENCH);
    command.args(["figure3", "--quick", "--up-to", "1", "--peer", &address.to_string(), "--out"]);
    command.arg(directory.path());
    let mut harness = Child::spawn(command).unwrap();
    assert!(!harness.wait_timeout(LIMIT).unwrap().success());
    let output = harness.output();
    assert!(output.contains("is no peer") && output.contains("SSH-2.0"), "{output}");
}

/// Server and client have a core each.
fn two_cores() -> Need {
    let holds = available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    Need::Fact { what: "two cores", holds }
}

/// Makes a figure from the server's host of a lab with a peer on its client's, and returns the
/// report.
fn figure(arguments: &[&str], out: &Path) -> String {
    let lab = Lab::veth().unwrap();
    let (_peer, address) = peer(lab.client().command(BENCH), lab.client().address().into());
    let mut command = lab.server().command(BENCH);
    command.args(arguments).args(["--quick", "--up-to", "4", "--peer", &address.to_string()]);
    command.arg("--out").arg(out);
    let mut harness = Child::spawn(command).unwrap();
    let status = harness.wait_timeout(LIMIT).unwrap();
    assert!(status.success(), "{}", harness.output());
    for file in ["machine.json", "peer.json", "rounds.jsonl", "targets.json"] {
        assert!(fs::metadata(out.join(file)).unwrap().len() > 10, "{file}");
    }
    assert!(fs::read_dir(out).unwrap().any(|entry| {
        entry.unwrap().path().extension().is_some_and(|extension| extension == "svg")
    }));
    fs::read_to_string(out.join("summary.txt")).unwrap()
}

#[test]
fn figure_3_is_made_with_a_peer_on_another_host() {
    require!(Need::NetworkNamespaces, two_cores());
    let directory = tempfile::tempdir().unwrap();
    let report = figure(&["figure3"], directory.path());
    assert!(report.contains("Over peer: µs of our call, 20000 times"), "{report}");
    let rounds = fs::read_to_string(directory.path().join("rounds.jsonl")).unwrap();
    let kinds = |kind: &str| rounds.matches(&format!(r#""kind":"{kind}""#)).count();
    assert!(kinds("download") >= 15, "{rounds}");
    assert_eq!(kinds("calls"), 1, "{rounds}");
}

#[test]
fn figure_2_is_made_with_a_peer_on_another_host() {
    require!(Need::NetworkNamespaces, two_cores());
    let directory = tempfile::tempdir().unwrap();
    let report = figure(&["figure2", "--bare"], directory.path());
    assert!(report.contains("Over peer: µs from request to last byte"), "{report}");
    let rounds = fs::read_to_string(directory.path().join("rounds.jsonl")).unwrap();
    assert!(rounds.contains(r#""kind":"ways""#), "{rounds}");
}
