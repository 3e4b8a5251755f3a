//! The program itself, and a plain client.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // A test ends at the first surprise; not every file uses all.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use sluicegate_testkit::process::Child;

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_sluicegate");

/// Longer than anything honest takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Files that changed longer ago are not taken for changing now.
pub const SETTLED: Duration = Duration::from_millis(120);

/// `sluicegate serve DIR` on a port of the kernel's choice.
pub struct Served {
    pub child: Child,
    pub address: SocketAddr,
}

impl Served {
    pub fn new(directory: &Path, workers: &str) -> Self {
        Self::with(directory, &["--workers", workers])
    }

    /// With these flags beside the address.
    pub fn with(directory: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(directory);
        command.args(["--listen", "127.0.0.1:0"]).args(flags);
        Self::by(command)
    }

    /// Started by `command`, which may put another program around it.
    ///
    /// What a test has just written is old enough by then to be kept in memory
    /// and to have validators.
    pub fn by(command: Command) -> Self {
        std::thread::sleep(SETTLED);
        let mut child = Child::spawn(command).unwrap();
        let line = child.wait_for_line(|line| line.contains(" on http://"), PATIENCE).unwrap();
        let address = line.split(" on http://").nth(1).unwrap();
        let address = address.split_whitespace().next().unwrap().parse().unwrap();
        Served { child, address }
    }

    /// Where it says that operators look. To be asked once, after the start.
    pub fn admin(&mut self) -> SocketAddr {
        let line = self.child.wait_for_line(|line| line.contains("Status on "), PATIENCE).unwrap();
        let address = line.split("http://").nth(1).unwrap();
        address.split('/').next().unwrap().parse().unwrap()
    }

    /// Ends the program as an operator would, and returns what it tells of its
    /// work.
    pub fn stop(mut self) -> Sent {
        self.child.terminate().unwrap();
        let sent = self.child.wait_for_line(|line| line.contains(": sent "), PATIENCE).unwrap();
        let files = self.child.wait_for_line(|line| line.contains(": files: "), PATIENCE).unwrap();
        let status = self.child.wait_timeout(PATIENCE).unwrap();
        assert!(status.success(), "{status}: {}", self.child.output());
        Sent::parse(&sent, &files)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Sends `head` (without its empty line) on a connection of its own and
    /// returns all that comes.
    pub fn ask(&self, head: &str) -> Answer {
        let mut stream = self.connect();
        let request = format!("{head}\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        Answer::parse(&all)
    }

    pub fn get(&self, target: &str) -> Answer {
        self.ask(&format!("GET {target} HTTP/1.1"))
    }
}

/// What a server told of its work: bytes sent, in all and by way, and how often
/// a file was found where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sent {
    pub total: u64,
    pub copied: u64,
    pub sendfile: u64,
    pub spliced: u64,
    pub memory: u64,
    pub open: u64,
    pub opened: u64,
    pub changed: u64,
}

impl Sent {
    fn parse(sent: &str, files: &str) -> Self {
        fn numbers(line: &str) -> [u64; 4] {
            let words = line.split(|c: char| !c.is_ascii_digit());
            let numbers: Vec<u64> = words.filter_map(|word| word.parse().ok()).collect();
            numbers.try_into().unwrap_or_else(|_| panic!("four numbers in `{line}`"))
        }
        let [total, copied, sendfile, spliced] = numbers(sent);
        let [memory, open, opened, changed] = numbers(files);
        Sent { total, copied, sendfile, spliced, memory, open, opened, changed }
    }
}

/// One answer, of which the connection's end is the end.
#[derive(Debug, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub content: Vec<u8>,
}

impl Answer {
    fn parse(all: &[u8]) -> Self {
        let end = all.windows(4).position(|four| four == b"\r\n\r\n").expect("a whole head");
        let head = String::from_utf8(all[..end].to_vec()).unwrap();
        let status = head[9..12].parse().unwrap();
        Answer { status, head, content: all[end + 4..].to_vec() }
    }

    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

/// Sends one keep-alive GET and reads its answer of `length` bytes of content.
pub fn exchange(stream: &mut TcpStream, target: &str, length: usize) {
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut got = Vec::with_capacity(length + 1024);
    let mut buffer = vec![0; length + 1024];
    loop {
        let count = stream.read(&mut buffer).unwrap();
        assert!(count > 0, "{target}: closed within an answer: {} of {length}", got.len());
        got.extend_from_slice(&buffer[..count]);
        assert!(got.starts_with(b"HTTP/1.1 200"), "{}", got.escape_ascii());
        if let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n")
            && got.len() - end - 4 == length
        {
            return;
        }
    }
}
