//! The access log of the program: a line for each request, which tells what the
//! client has seen.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{PATIENCE, PROGRAM, Served, exchange};
use serde_json::Value;
use sluicegate_testkit::corpus::Tree;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::{Signal, find_program};
use sluicegate_testkit::require;

const LARGE: u64 = 20_000_000;

/// Files, a log, and the program that serves the ones and writes the other.
struct Logged {
    tree: Tree,
    served: Served,
    log: PathBuf,
}

impl Logged {
    /// With a log in JSON.
    fn json(more: &str) -> Self {
        let tree = tree();
        let log = tree.join("access.log");
        Self::of(tree, &log, &format!("format = \"json\"{more}"))
    }

    fn of(tree: Tree, log: &Path, keys: &str) -> Self {
        let served = Served::by(command(&tree, log, keys));
        Logged { tree, served, log: log.to_owned() }
    }

    /// The lines, once there are so many.
    fn lines(&self, count: usize) -> Vec<Value> {
        let start = Instant::now();
        loop {
            let text = std::fs::read_to_string(&self.log).unwrap();
            // What is being written may be seen in the middle.
            if text.lines().count() >= count && text.ends_with('\n') {
                let lines = objects(&self.log);
                assert_eq!(lines.len(), count, "{lines:#?}");
                return lines;
            }
            assert!(start.elapsed() < PATIENCE, "{count} lines: {text}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn rotate(&mut self, to: &Path) {
        std::fs::rename(&self.log, to).unwrap();
        self.served.child.signal(Signal::USR1).unwrap();
        let start = Instant::now();
        while !self.log.exists() {
            assert!(start.elapsed() < PATIENCE, "not open anew");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

fn tree() -> Tree {
    let tree = Tree::new().unwrap();
    let tree = tree.file("root/small", 1, 1024).unwrap().file("root/middle", 2, 100_000).unwrap();
    tree.file("root/large", 3, LARGE).unwrap()
}

fn command(tree: &Tree, log: &Path, keys: &str) -> Command {
    let config = tree.join("config.toml");
    let text = format!(
        "workers = 2\nlisten = [\"127.0.0.1:0\"]\naccess_log = {{ path = {log:?}, {keys} }}\n\
         [[site]]\n[[site.route]]\npath = \"/\"\nfiles = {{ root = {:?} }}\n",
        tree.join("root")
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg(&config);
    command
}

fn objects(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {:?}", text.lines().last());
    text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

fn number(line: &Value, key: &str) -> u64 {
    line[key].as_u64().unwrap_or_else(|| panic!("{key} in {line}"))
}

/// What curl counts: status, bytes of heads, bytes of content.
fn curl(arguments: &[&str]) -> [u64; 3] {
    let mut command = Command::new(find_program("curl").unwrap());
    command.args(["--silent", "--max-time", "60", "--output", "/dev/null"]);
    command.args(["--write-out", "%{http_code} %{size_header} %{size_download}"]);
    let output = command.args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let numbers: Vec<u64> = text.split(' ').map(|word| word.parse().unwrap()).collect();
    numbers.try_into().unwrap()
}

#[test]
fn a_line_has_the_figures_that_curl_has() {
    require!(Need::Program("curl"));
    let logged = Logged::json("");
    let downloads: [(&str, &[&str]); 7] = [
        ("/small", &[]),
        ("/middle", &[]),
        ("/large", &[]),
        ("/large", &["--range", "1000-4999999"]),
        ("/large", &["--head"]),
        ("/none?a=b", &[]),
        ("/small", &["--http1.0", "--user-agent", "a \"b\" \u{e9}", "--referer", "http://r.test/"]),
    ];
    for (count, (target, options)) in (1..).zip(downloads) {
        let url = logged.served.url(target);
        let [status, head, content] = curl(&[options, &[url.as_str()]].concat());
        let lines = logged.lines(count);
        let line = &lines[count - 1];
        assert_eq!(number(line, "status"), status, "{line}");
        assert_eq!(number(line, "head_bytes"), head, "{line}");
        assert_eq!(number(line, "bytes"), content, "{line}");
        let ways = ["copied", "sendfile", "spliced", "zerocopy"].map(|way| number(line, way));
        assert_eq!(ways.iter().sum::<u64>(), head + content, "{line}");
        assert_eq!(line["target"], target);
        assert_eq!(line["client"], "127.0.0.1");
        assert_eq!(line["server"], logged.served.address.to_string());
        assert_eq!(number(line, "requests"), 1);
        assert_eq!(line.get("failure"), None);
        let is_head = options.contains(&"--head");
        assert_eq!(line["method"], if is_head { "HEAD" } else { "GET" });
        assert_eq!(number(line, "announced"), if is_head { LARGE } else { content }, "{line}");
        if content > 1_000_000 {
            assert_eq!(ways[1] + ways[2], content, "by reference: {line}");
        } else if content != 100_000 {
            assert_eq!(ways[0], head + content, "copied: {line}");
        }
    }
    let last = &logged.lines(7)[6];
    assert_eq!(last["protocol"], "HTTP/1.0");
    assert_eq!(last["user_agent"], "a \"b\" \u{e9}");
    assert_eq!(last["referer"], "http://r.test/");
    logged.served.stop();
}

#[test]
fn pipelined_requests_have_a_line_each() {
    let logged = Logged::json("");
    let mut stream = logged.served.connect();
    let targets = ["/small", "/large", "/none", "/middle", "/small"];
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(targets.map(request).concat().as_bytes()).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let lines = logged.lines(targets.len());
    for ((number, line), target) in (1..).zip(&lines).zip(targets) {
        assert_eq!(line["target"], target);
        assert_eq!(line["requests"], number);
    }
    let sum = |key| lines.iter().map(|line| number(line, key)).sum::<u64>();
    assert_eq!(sum("bytes") + sum("head_bytes"), all.len() as u64);
    assert_eq!(sum("bytes"), sum("announced"));
}

#[test]
fn what_cannot_be_read_has_a_line_without_a_request() {
    let logged = Logged::json("");
    let answer = logged.served.ask("GET / HTTP/1.1\r\nBad Name: x");
    let line = &logged.lines(1)[0];
    assert_eq!((answer.status, number(line, "status")), (400, 400));
    assert_eq!(line["failure"], "bad_header_name");
    assert_eq!(number(line, "bytes"), answer.content.len() as u64);
    for key in ["method", "target", "protocol", "host", "user_agent"] {
        assert_eq!(line.get(key), None, "{line}");
    }
}

#[test]
fn a_download_that_is_broken_off_has_less_than_was_announced() {
    let logged = Logged::json("");
    let mut stream = logged.served.connect();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    stream.read_exact(&mut [0; 10_000]).unwrap();
    // More is here that nobody reads: a reset.
    drop(stream);
    let line = &logged.lines(1)[0];
    assert_eq!(number(line, "announced"), LARGE);
    assert!(number(line, "bytes") < LARGE, "{line}");
    assert_eq!(line["failure"], "send");
}

#[test]
fn acknowledgements_tell_how_much_a_client_got() {
    let logged = Logged::json(", acked = true");
    let mut stream = logged.served.connect();
    exchange(&mut stream, "/middle", 100_000);
    exchange(&mut stream, "/large", LARGE as usize);
    let answer = logged.served.get("/small");
    let lines = logged.lines(3);
    for line in &lines {
        assert_eq!(number(line, "acked"), number(line, "bytes"), "{line}");
        assert!(number(line, "acked_us") >= number(line, "duration_us"), "{line}");
    }
    // In the order of their last acknowledgements: that of a connection which
    // stays open may be late.
    let small = lines.iter().find(|line| line["target"] == "/small").unwrap();
    assert_eq!(number(small, "bytes"), answer.content.len() as u64);
    // One that reads nothing, and is gone.
    let mut slow = logged.served.connect();
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    slow.read_exact(&mut [0; 1]).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    drop(slow);
    let line = &logged.lines(4)[3];
    assert!(number(line, "acked") < number(line, "bytes"), "{line}");
    assert_eq!(line.get("acked_us"), None);
    assert!(line["failure"].is_string(), "{line}");
}

#[test]
fn every_request_has_one_line_across_rotations_under_load() {
    const CLIENTS: usize = 4;
    const REQUESTS: usize = 1_500;
    const ROTATIONS: usize = 8;
    let mut logged = Logged::json("");
    let rotated: Vec<_> =
        (0..ROTATIONS).map(|number| logged.tree.join(&format!("access.log.{number}"))).collect();
    let address = logged.served.address;
    std::thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut stream = std::net::TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                for number in 0..REQUESTS {
                    exchange(&mut stream, &format!("/small?{}", client * REQUESTS + number), 1024);
                }
            });
        }
        for to in &rotated {
            std::thread::sleep(Duration::from_millis(20));
            logged.rotate(to);
        }
    });
    logged.served.stop();
    let mut numbers = Vec::new();
    for path in rotated.iter().chain([&logged.log]) {
        for line in objects(path) {
            let target = line["target"].as_str().unwrap();
            numbers.push(target.strip_prefix("/small?").unwrap().parse::<usize>().unwrap());
        }
    }
    numbers.sort_unstable();
    assert!(numbers.iter().copied().eq(0..CLIENTS * REQUESTS), "{} lines", numbers.len());
}

#[test]
fn combined_is_as_the_readers_of_it_want_it() {
    let tree = tree();
    let log = tree.join("access.log");
    let logged = Logged::of(tree, &log, "format = \"combined\"");
    logged.served.ask("GET /small?a=\"b HTTP/1.1\r\nUser-Agent: x \\ y");
    logged.served.stop();
    let line = std::fs::read_to_string(&log).unwrap();
    let (start, rest) = line.split_once(" [").unwrap();
    assert_eq!(start, "127.0.0.1 - -");
    let (time, rest) = rest.split_once("] ").unwrap();
    assert_eq!((time.len(), &time[2..3], &time[6..7], &time[20..]), (26, "/", "/", " +0000"));
    assert_eq!(rest, "\"GET /small?a=\\x22b HTTP/1.1\" 200 1024 \"-\" \"x \\x5C y\"\n");
}

#[test]
fn a_disk_that_is_full_is_told_and_loses_no_line() {
    require!(Need::Root, Need::Program("mount"));
    let mount = SmallDisk::new();
    let (log, old) = (mount.path().join("access.log"), mount.path().join("old"));
    let filler = mount.path().join("filler");
    let mut logged = Logged::of(tree(), &log, "format = \"json\"");
    std::fs::write(&filler, vec![0; 80 * 1024]).unwrap();
    let mut stream = logged.served.connect();
    // A third of a KiB each, at least: more than there is room for.
    for number in 0..200 {
        exchange(&mut stream, &format!("/small?{number}"), 1024);
    }
    let told = |line: &str| line.contains("cannot write the access log");
    let line = logged.served.child.wait_for_line(told, PATIENCE).unwrap();
    assert!(line.contains("No space left on device"), "{line}");
    // What is moved away in this state ends with a whole line.
    logged.rotate(&old);
    for number in 200..300 {
        exchange(&mut stream, &format!("/small?{number}"), 1024);
    }
    std::fs::remove_file(&filler).unwrap();
    let told = |line: &str| line.contains("is written again");
    logged.served.child.wait_for_line(told, PATIENCE).unwrap();
    // There is room for the rest once the first part is out of the way.
    let first = objects(&old);
    logged.served.stop();
    let mut targets: Vec<_> = first.into_iter().chain(objects(&log)).collect();
    assert_eq!(targets.len(), 300);
    for (number, line) in targets.drain(..).enumerate() {
        assert_eq!(line["target"], format!("/small?{number}"));
    }
}

/// A file system of 128 KiB, for as long as this lives.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new(find_program("mount").unwrap());
        mount.args(["-t", "tmpfs", "-o", "size=128k", "none"]).arg(directory.path());
        assert!(mount.status().unwrap().success());
        SmallDisk(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A program that is ended with the test.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn standard_output_takes_lines_alone_and_may_end() {
    let tree = tree();
    let mut command = command(&tree, Path::new("-"), "format = \"json\"");
    let told = tree.join("told");
    command.stdout(Stdio::piped()).stderr(std::fs::File::create(&told).unwrap());
    let mut child = Ended(command.spawn().unwrap());
    let start = Instant::now();
    let announced = loop {
        let told = std::fs::read_to_string(&told).unwrap();
        if let Some(line) = told.lines().find(|line| line.starts_with("Serving ")) {
            break line.to_owned();
        }
        assert!(start.elapsed() < PATIENCE, "not said on standard error: {told}");
        std::thread::sleep(Duration::from_millis(5));
    };
    let address = announced.split("http://").nth(1).unwrap().split_whitespace().next().unwrap();
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    exchange(&mut stream, "/small", 1024);
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let line = lines.next().unwrap().unwrap();
    let line: Value = serde_json::from_str(&line).expect(&line);
    assert_eq!(line["target"], "/small");
    // Its reader goes; the server stays.
    drop(lines);
    for _ in 0..200 {
        exchange(&mut stream, "/small", 1024);
    }
    std::thread::sleep(Duration::from_millis(500));
    exchange(&mut stream, "/small", 1024);
    let pid = rustix::process::Pid::from_raw(child.0.id().cast_signed()).unwrap();
    rustix::process::kill_process(pid, Signal::TERM).unwrap();
    assert!(child.0.wait().unwrap().success());
}
