//! The examples, run as a reader would run them.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod peers;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;

use peers::{PATIENCE, eventually, pattern};
use sluicegate_testkit::process::Child;

/// Where cargo puts the examples that it builds for `cargo test`.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

fn is_short(name: &str) {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let lines = std::fs::read_to_string(source.with_extension("rs")).unwrap().lines().count();
    assert!(lines < 80, "{name}: {lines} lines");
}

/// Takes the file several times, as clients that come and go, and reads what is
/// told of each.
fn sends_a_file_and_tells_of_it(name: &str) {
    let content = pattern(1, 5_000_000);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&content).unwrap();
    let mut command = Command::new(example(name));
    command.arg(file.path()).arg("127.0.0.1:0");
    let mut child = Child::spawn(command).unwrap();
    let line = child.wait_for_line(|line| line.starts_with("tcp://"), PATIENCE).unwrap();
    let address = line.trim().strip_prefix("tcp://").unwrap().to_owned();
    let connect = || {
        let stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    // One that goes away in the middle does not concern the others.
    let mut gone = connect();
    gone.read_exact(&mut [0; 10]).unwrap();
    let gone_name = format!("{}: ", gone.local_addr().unwrap());
    drop(gone);
    let mut streams = [connect(), connect(), connect()];
    for stream in &mut streams {
        let mut got = vec![0; content.len()];
        stream.read_exact(&mut got).unwrap();
        assert!(got == content);
    }
    for stream in &mut streams {
        let peer = format!("{}: ", stream.local_addr().unwrap());
        // It is closed once everything has arrived, and told of until then.
        assert_eq!(stream.read(&mut [0; 1]).unwrap(), 0);
        let last = format!("{peer}5000000 of 5000000 bytes");
        eventually(&last, || child.output().contains(&last));
        let output = child.output();
        let told: Vec<&str> = output.lines().filter(|line| line.starts_with(&peer)).collect();
        assert!(told.len() > 1, "{output}");
        assert_eq!(told.last(), Some(&last.as_str()), "{output}");
        let totals: Vec<u64> = told
            .iter()
            .map(|line| line[peer.len()..].split(' ').next().unwrap().parse().unwrap())
            .collect();
        assert!(totals.is_sorted_by(|a, b| a < b), "{totals:?}");
    }
    let is_failure = |line: &str| line.starts_with(&gone_name) && !line.ends_with("bytes");
    eventually("the one that went away", || child.output().lines().any(is_failure));
}

#[test]
fn an_epoll_loop_of_ones_own_sends_a_file_and_tells_of_it_and_is_under_80_lines() {
    is_short("epoll_acks");
    sends_a_file_and_tells_of_it("epoll_acks");
}

#[test]
#[cfg(feature = "tokio")]
fn a_tokio_program_sends_a_file_and_tells_of_it_and_is_under_80_lines() {
    is_short("tokio_acks");
    sends_a_file_and_tells_of_it("tokio_acks");
}
