//! `sluicegate run CONFIG` in a directory of its own, and clients that count
//! what fails.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // A test ends at the first surprise; not every file uses all.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluicegate_testkit::process::{Child, Signal};

use super::common::{PATIENCE, PROGRAM, SETTLED, Served};

/// A directory with a configuration and two versions of a page.
pub struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        for version in ["one", "two"] {
            std::fs::create_dir(directory.path().join(version)).unwrap();
            let page = directory.path().join(version).join("page");
            std::fs::write(page, version.repeat(200)).unwrap();
        }
        // Also for those who are not root.
        open_to_all(directory.path());
        let place = Place { directory };
        place.write(&place.config(&["127.0.0.1:0"], "one", ""));
        place
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A configuration that serves one of the versions.
    pub fn config(&self, listen: &[&str], version: &str, more: &str) -> String {
        format!(
            "workers = 2\nlisten = {listen:?}\n{more}\n[[site]]\n[[site.route]]\npath = \"/\"\n\
             files = {{ root = {:?} }}\n",
            self.path(version)
        )
    }

    pub fn write(&self, config: &str) {
        std::fs::write(self.path("new"), config).unwrap();
        std::fs::rename(self.path("new"), self.path("config.toml")).unwrap();
    }

    /// `PROGRAM run CONFIG`.
    pub fn command(&self) -> Command {
        self.command_of(Path::new(PROGRAM))
    }

    pub fn command_of(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("run").arg(self.path("config.toml"));
        command
    }

    /// A copy of the program that can be replaced, and that anybody may run.
    pub fn program(&self) -> PathBuf {
        let copy = self.path("sluicegate");
        std::fs::copy(PROGRAM, &copy).unwrap();
        copy
    }

    pub fn start(&self) -> Served {
        Served::by(self.command())
    }
}

fn open_to_all(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Has the program read its configuration, and returns what it says of that.
pub fn reload(child: &mut Child) -> String {
    child.signal(Signal::HUP).unwrap();
    let told = |line: &str| line.contains(": reloaded: ") || line.contains(": not reloaded");
    child.wait_for_line(told, PATIENCE).unwrap()
}

/// Connects as clients do; without an answer after a while it fails.
pub fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The page by a connection of its own.
pub fn page(address: SocketAddr) -> String {
    let mut stream = connect(address);
    get(&mut stream, true).unwrap().0
}

/// One request; the content, and whether the connection goes on.
pub fn get(stream: &mut TcpStream, last: bool) -> std::io::Result<(String, bool)> {
    let close = if last { "Connection: close\r\n" } else { "" };
    stream.write_all(format!("GET /page HTTP/1.1\r\nHost: h\r\n{close}\r\n").as_bytes())?;
    let mut got = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        got.extend_from_slice(&buffer[..count]);
        let Some(end) = got.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&got[..end]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.unwrap().parse().unwrap();
        if got.len() < end + 4 + length {
            continue;
        }
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        let content = String::from_utf8(got.split_off(end + 4)).unwrap();
        return Ok((content, !head.contains("Connection: close")));
    }
}

/// Clients that ask and ask, some by one connection, some by a new one each time.
pub struct Load {
    stop: Arc<AtomicBool>,
    pub asked: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Result<u64, String>>>,
}

impl Load {
    pub fn on(address: SocketAddr) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let asked = Arc::new(AtomicU64::new(0));
        let clients = (0..8).map(|client| {
            let (stop, asked) = (Arc::clone(&stop), Arc::clone(&asked));
            std::thread::spawn(move || ask_on(address, client % 2 == 0, &stop, &asked))
        });
        let clients = clients.collect();
        let load = Load { stop, asked, clients };
        load.go_on();
        load
    }

    /// Returns once some hundred more requests were answered, or when nothing
    /// is answered any more, which `finish` then tells of.
    pub fn go_on(&self) {
        let until = self.asked.load(Ordering::Relaxed) + 200;
        let patience = Instant::now() + PATIENCE;
        while self.asked.load(Ordering::Relaxed) < until && Instant::now() < patience {
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// Connections that those clients opened which keep theirs, after the first.
    pub fn finish(self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let clients = self.clients.into_iter();
        clients.map(|client| client.join().unwrap().expect("no request fails")).sum()
    }
}

fn ask_on(
    address: SocketAddr,
    keeps: bool,
    stop: &AtomicBool,
    asked: &AtomicU64,
) -> Result<u64, String> {
    let mut reconnected = 0;
    let mut open: Option<TcpStream> = None;
    let mut first = true;
    while !stop.load(Ordering::Relaxed) {
        let mut stream = match open.take() {
            Some(stream) => stream,
            None => {
                let stream = TcpStream::connect(address).map_err(|e| format!("connect: {e}"))?;
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                if keeps && !std::mem::replace(&mut first, false) {
                    reconnected += 1;
                }
                stream
            }
        };
        let (content, goes_on) = get(&mut stream, !keeps)
            .map_err(|error| format!("a request (kept connection: {keeps}): {error}"))?;
        if content != "one".repeat(200) && content != "two".repeat(200) {
            return Err(format!("a mixed answer: {content}"));
        }
        asked.fetch_add(1, Ordering::Relaxed);
        open = (keeps && goes_on).then_some(stream);
    }
    Ok(reconnected)
}

/// Waits until `holds`; panics with `what` when it takes too long.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What was just written is old enough to be kept.
pub fn settle() {
    std::thread::sleep(SETTLED);
}
