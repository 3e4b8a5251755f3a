//! What one small answer costs, in figures that do not depend on the
//! machine's mood: system calls, and instructions of our own.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use common::{PATIENCE, PROGRAM, Served, exchange};
use sluicegate_testkit::corpus::Tree;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

/// One receive, one send, one wait; the waits are shared when several
/// connections are ready at a time.
const CALLS_PER_REQUEST: f64 = 3.05;

/// User instructions per request of the build under test (profile `dev`,
/// optimisation level 1, Rust 1.95: 5,731 seen). The release build needs fewer;
/// what matters is that this does not grow unseen.
const INSTRUCTIONS_PER_REQUEST: f64 = 5_970.0;
/// The same where a configuration says what is served: one site (6,223 seen).
const CONFIGURED_INSTRUCTIONS: f64 = 6_480.0;
/// One of a thousand sites (6,223 seen: as many).
const SITES_INSTRUCTIONS: f64 = 6_480.0;
/// With a line of the log in the combined format, and the log's thread
/// (8,358 seen).
const LOGGED_INSTRUCTIONS: f64 = 8_700.0;

/// The same where the answer is another server's, on a connection that is kept: two messages
/// are read and two written, and a worker's loop turns twice (12,454 seen).
const PROXIED_INSTRUCTIONS: f64 = 13_200.0;

/// What a request to an upstream takes: two receives, two sends, and a wait for either end.
const PROXIED_CALLS: f64 = 6.05;

/// Calls per request that an access log may take: the worker's that wakes the
/// log's thread, and the thread's that writes, once for many lines.
const LOG_CALLS: f64 = 0.05;

/// How the program learns what to serve.
#[derive(Clone, Copy, Debug)]
enum By {
    /// A directory on its command line.
    Serve,
    /// A configuration of so many sites, with these lines at its top.
    Run { sites: usize, top: &'static str },
    /// An upstream on its command line.
    Proxy(SocketAddr),
}

const ONE_SITE: By = By::Run { sites: 1, top: "" };
const MANY_SITES: By = By::Run { sites: 1000, top: "" };
const LOGGED: By =
    By::Run { sites: 1, top: "access_log = { path = \"access.log\", format = \"combined\" }\n" };
const ACKED: By =
    By::Run { sites: 1, top: "access_log = { path = \"access.log\", acked = true }\n" };

fn serve_under(tool: &[&str], directory: &Path, by: By) -> Served {
    let mut command = Command::new(find_program(tool[0]).unwrap());
    command.args(&tool[1..]).arg(PROGRAM);
    match by {
        By::Serve => {
            command.arg("serve").arg(directory);
            command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
        }
        By::Run { sites, top } => {
            let file = directory.join("config.toml");
            std::fs::write(&file, config(sites, top, directory)).unwrap();
            command.arg("run").arg(file);
        }
        By::Proxy(upstream) => {
            command.arg("proxy").arg(format!("http://{upstream}"));
            command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
        }
    }
    Served::by(command)
}

/// Sites by name; the name that is asked for is in their midst.
fn config(sites: usize, top: &str, root: &Path) -> String {
    let mut text = format!("workers = 1\nlisten = [\"127.0.0.1:0\"]\n{top}");
    for number in 0..sites {
        let host = if number == sites / 2 { "h" } else { &format!("site-{number}.example") };
        text += &format!(
            "[[site]]\nhosts = [{host:?}]\n[[site.route]]\npath = \"/\"\n\
             files = {{ root = {root:?} }}\n"
        );
    }
    text
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
fn calls_per_request(length: usize, by: By) -> (HashMap<String, f64>, String) {
    let tree = Tree::new().unwrap().file("page", 1, length as u64).unwrap();
    let counts = tree.join("counts");
    let tool = ["strace", "-f", "-c", "-U", "calls,name", "-o", counts.to_str().unwrap()];
    let served = serve_under(&tool, tree.path(), by);
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
    let (calls, table) = calls_per_request(100_000, By::Serve);
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
    one_receive_and_one_send(By::Serve, START);
}

#[test]
fn a_configuration_takes_no_more_calls() {
    require!(Need::Program("strace"));
    one_receive_and_one_send(ONE_SITE, START);
}

#[test]
fn a_thousand_sites_take_no_more_calls() {
    require!(Need::Program("strace"));
    // The longer file is read in more pieces, and takes more memory.
    one_receive_and_one_send(MANY_SITES, 2.0 * START);
}

#[test]
fn an_access_log_takes_a_call_for_many_requests() {
    require!(Need::Program("strace"));
    one_receive_and_one_send(LOGGED, START + LOG_CALLS);
}

#[test]
fn the_kernel_reports_the_acknowledgements_that_a_log_tells_of() {
    require!(Need::Program("strace"));
    let (calls, table) = calls_per_request(1024, ACKED);
    // Asked for before the send, and not any more after it.
    let asked = sum(&calls, &["setsockopt"]);
    assert!(asked > 1.9, "{asked} setsockopt per request:\n{table}");
}

/// `more` are calls per request that have nothing to do with requests.
fn one_receive_and_one_send(by: By, more: f64) {
    let begin = Instant::now();
    let (calls, table) = calls_per_request(1024, by);
    // The log is written at least five times a second, however few the lines.
    let idle = if matches!(by, By::Run { top, .. } if !top.is_empty()) {
        begin.elapsed().as_secs_f64() * 5.0 * 6.0
    } else {
        0.0
    };
    let more = more + idle / REQUESTS as f64;
    let receives = sum(&calls, &["recvfrom", "recvmsg"]);
    let sends = sum(&calls, &["sendto", "sendmsg", "writev", "sendfile", "splice"]);
    let files = sum(&calls, &["read", "write"]);
    let total: f64 = sum(&calls, &["total"]);
    println!("{by:?}: {total:.3} calls per request");
    assert!((1.0..1.0 + more).contains(&receives), "{receives} receives per request:\n{table}");
    assert!((1.0..1.0 + more).contains(&sends), "{sends} sends per request:\n{table}");
    assert!(files < more, "{files} reads and writes of files per request:\n{table}");
    assert!(total < CALLS_PER_REQUEST + more, "{total} calls per request:\n{table}");
}

#[test]
fn a_small_answer_takes_no_more_instructions_than_it_did() {
    require!(Need::Program("valgrind"));
    instructions(By::Serve, INSTRUCTIONS_PER_REQUEST);
}

#[test]
fn a_configuration_takes_no_more_instructions_than_it_did() {
    require!(Need::Program("valgrind"));
    instructions(ONE_SITE, CONFIGURED_INSTRUCTIONS);
}

#[test]
fn a_thousand_sites_take_no_more_instructions_than_they_did() {
    require!(Need::Program("valgrind"));
    instructions(MANY_SITES, SITES_INSTRUCTIONS);
}

#[test]
fn an_access_log_takes_no_more_instructions_than_it_did() {
    require!(Need::Program("valgrind"));
    instructions(LOGGED, LOGGED_INSTRUCTIONS);
}

/// A server with one answer, of 1 KiB, that writes its head and its content together or `apart`.
/// It ends with the test's process.
fn upstream(apart: bool) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let head = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n";
    let mut parts = vec![head.as_bytes().to_vec(), vec![b'x'; 1024]];
    if !apart {
        parts = vec![parts.concat()];
    }
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let parts = parts.clone();
            std::thread::spawn(move || {
                let (mut request, mut buffer) = (Vec::new(), [0; 4096]);
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    request.extend_from_slice(&buffer[..count]);
                    if request.ends_with(b"\r\n\r\n") {
                        request.clear();
                        if parts.iter().any(|part| stream.write_all(part).is_err()) {
                            return;
                        }
                    }
                }
            });
        }
    });
    address
}

#[test]
fn a_small_answer_of_an_upstream_takes_two_receives_and_two_sends() {
    require!(Need::Program("strace"));
    let (calls, table) = calls_per_request(1024, By::Proxy(upstream(false)));
    let receives = sum(&calls, &["recvfrom", "recvmsg"]);
    let sends = sum(&calls, &["sendto", "sendmsg", "writev", "sendfile", "splice"]);
    let total = sum(&calls, &["total"]);
    println!("proxied: {total:.3} calls per request:\n{table}");
    assert!((2.0..2.0 + START).contains(&receives), "{receives} receives per request:\n{table}");
    assert!((2.0..2.0 + START).contains(&sends), "{sends} sends per request:\n{table}");
    assert!(total < PROXIED_CALLS + START, "{total} calls per request:\n{table}");
}

/// The kernel of an upstream that leaves Nagle's algorithm on keeps the content back until the
/// head is acknowledged, which ours would put off for 40 ms.
#[test]
fn a_head_that_comes_alone_is_acknowledged_at_once() {
    require!(Need::Program("strace"));
    let (calls, table) = calls_per_request(1024, By::Proxy(upstream(true)));
    let told = sum(&calls, &["setsockopt"]);
    assert!((1.0..1.0 + START).contains(&told), "{told} setsockopt per request:\n{table}");
}

#[test]
fn a_small_answer_of_an_upstream_takes_no_more_instructions_than_it_did() {
    require!(Need::Program("valgrind"));
    instructions(By::Proxy(upstream(false)), PROXIED_INSTRUCTIONS);
}

/// Fails when a request takes more than `most`.
fn instructions(by: By, most: f64) {
    let tree = Tree::new().unwrap().file("page", 1, 1024).unwrap();
    let count = |requests: usize| -> f64 {
        let out = tree.join(&format!("callgrind.{requests}"));
        let option = format!("--callgrind-out-file={}", out.display());
        let served = serve_under(&["valgrind", "--tool=callgrind", &option], tree.path(), by);
        load(&served, 4, requests);
        stop(served);
        let text = std::fs::read_to_string(&out).unwrap();
        let summary = text.lines().find_map(|line| line.strip_prefix("totals: "));
        summary.expect("callgrind writes its total").trim().parse().unwrap()
    };
    // The difference of two runs leaves out starting and ending.
    let (few, many) = (500, 2_500);
    let per_request = (count(many) - count(few)) / (many - few) as f64;
    println!("{by:?}: {per_request:.0} instructions per request");
    assert!(per_request < most, "{per_request:.0} instructions per request");
}
