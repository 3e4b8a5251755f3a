//! The examples, run as a reader would run them.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use sluicegate_testkit::process::Child;

/// Where cargo puts the examples that it builds for `cargo test`.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

fn serves_a_file(name: &str) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&vec![b'h'; 200_000]).unwrap();
    let mut command = Command::new(example(name));
    command.arg(file.path()).arg("127.0.0.1:0");
    let mut child = Child::spawn(command).unwrap();
    let line =
        child.wait_for_line(|line| line.starts_with("http://"), Duration::from_secs(20)).unwrap();
    let address = line.trim().strip_prefix("http://").unwrap();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
        assert!(answer.ends_with(&vec![b'h'; 200_000]));
    }
}

fn is_short(name: &str) {
    let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
    let lines = std::fs::read_to_string(source.with_extension("rs")).unwrap().lines().count();
    assert!(lines < 40, "{name}: {lines} lines");
}

#[test]
fn the_hello_file_server_on_our_worker_serves_and_is_under_40_lines() {
    is_short("hello_file");
    serves_a_file("hello_file");
}

#[test]
fn the_hello_file_server_under_tokio_serves_and_is_under_40_lines() {
    is_short("hello_file_tokio");
    serves_a_file("hello_file_tokio");
}
