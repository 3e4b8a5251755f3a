//! What one small answer costs, in figures that do not depend on the
//! machine's mood: system calls, and instructions of our own.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

use common::{PATIENCE, PROGRAM, Served, exchange};
use sluicegate_testkit::corpus::Tree;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

/// One receive, one send, one wait; the waits are shared when several
/// connections are ready at a time.
const CALLS_PER_REQUEST: f64 = 3.05;

/// User instructions per request of the build under test (profile `dev`,
/// optimisation level 1, Rust 1.95: 9,120 seen, of which 650 came with the account
/// of references, reports and regions, and 200 with sites, counts and reloads).
/// The release build needs
/// fewer; what matters is that this does not grow unseen.
const INSTRUCTIONS_PER_REQUEST: f64 = 9_250.0;

fn serve_under(tool: &[&str], directory: &Path) -> Served {
    let mut command = Command::new(find_program(tool[0]).unwrap());
    command.args(&tool[1..]).arg(PROGRAM).arg("serve").arg(directory);
    command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
    Served::by(command)
}

/// Requests over `connections` keep-alive connections, one after another.
fn load(served: &Served, connections: usize, requests: usize) {
    load_of(served, connections, requests, 1024);
}

fn load_of(served: &Served, connections: usize, requests: usize, length: usize) {
    let mut streams: Vec<_> = (0..connections).map(|_| served.connect()).collect();
    for number in 0..requests {
        exchange(&mut streams[number % connections], "/page", length);
    }
}

fn stop(mut served: Served) {
    // The tool passes the signal on, or gets it with its group.
    let pid = served.child.pid();
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
    match children.unwrap_or_default().split_whitespace().next() {
        Some(child) => {
            let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
            rustix::process::kill_process(child, rustix::process::Signal::TERM).unwrap();
        }
        None => served.child.terminate().unwrap(),
    }
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
}

/// Calls per request for a file of `length` bytes, by name; a few hundred more
/// in all are from starting the program.
fn calls_per_request(length: usize) -> (HashMap<String, f64>, String) {
    let tree = Tree::new().unwrap().file("page", 1, length as u64).unwrap();
    let counts = tree.join("counts");
    let tool = ["strace", "-f", "-c", "-U", "calls,name", "-o", counts.to_str().unwrap()];
    let served = serve_under(&tool, tree.path());
    load_of(&served, 16, REQUESTS, length);
    stop(served);
    let table = std::fs::read_to_string(&counts).unwrap();
    let mut calls = HashMap::new();
    for line in table.lines() {
        let mut words = line.split_whitespace();
        if let (Some(Ok(count)), Some(name)) = (words.next().map(str::parse), words.next()) {
            let count: f64 = count;
            calls.insert(name.to_owned(), count / REQUESTS as f64);
        }
    }
    (calls, table)
}

fn sum(calls: &HashMap<String, f64>, names: &[&str]) -> f64 {
    names.iter().map(|name| calls.get(*name).copied().unwrap_or(0.0)).sum()
}

const REQUESTS: usize = 4_000;

/// Starting the program takes a few hundred calls in all.
const START: f64 = 500.0 / REQUESTS as f64;

#[test]
fn a_file_from_the_page_cache_takes_two_looks_one_send_and_one_sendfile() {
    require!(Need::Program("strace"));
    let (calls, table) = calls_per_request(100_000);
    // One look for the answer and one for the piece. Small receive buffers make
    // a second piece of some.
    for (name, most) in [("recvfrom", 1.0), ("sendto", 1.0), ("sendfile", 1.5), ("fstat", 2.6)] {
        let count = sum(&calls, &[name, if name == "fstat" { "newfstatat" } else { "" }]);
        assert!((1.0..most + START).contains(&count), "{count} {name} per request:\n{table}");
    }
    assert!(sum(&calls, &["total"]) < 7.5 + START, "{table}");
}

#[test]
fn a_small_answer_takes_one_receive_and_one_send() {
    require!(Need::Program("strace"));
    let (calls, table) = calls_per_request(1024);
    let receives = sum(&calls, &["recvfrom", "read", "recvmsg"]);
    let sends = sum(&calls, &["sendto", "sendmsg", "write", "writev", "sendfile", "splice"]);
    let total: f64 = sum(&calls, &["total"]);
    let start = START;
    assert!((1.0..1.0 + start).contains(&receives), "{receives} receives per request:\n{table}");
    assert!((1.0..1.0 + start).contains(&sends), "{sends} sends per request:\n{table}");
    assert!(total < CALLS_PER_REQUEST + start, "{total} calls per request:\n{table}");
}

#[test]
fn a_small_answer_takes_no_more_instructions_than_it_did() {
    require!(Need::Program("valgrind"));
    let tree = Tree::new().unwrap().file("page", 1, 1024).unwrap();
    let count = |requests: usize| -> f64 {
        let out = tree.join(&format!("callgrind.{requests}"));
        let option = format!("--callgrind-out-file={}", out.display());
        let served = serve_under(&["valgrind", "--tool=callgrind", &option], tree.path());
        load(&served, 4, requests);
        stop(served);
        let text = std::fs::read_to_string(&out).unwrap();
        let summary = text.lines().find_map(|line| line.strip_prefix("totals: "));
        summary.expect("callgrind writes its total").trim().parse().unwrap()
    };
    // The difference of two runs leaves out starting and ending.
    let (few, many) = (500, 2_500);
    let per_request = (count(many) - count(few)) / (many - few) as f64;
    println!("{per_request:.0} instructions per request");
    assert!(per_request < INSTRUCTIONS_PER_REQUEST, "{per_request:.0} instructions per request");
}
