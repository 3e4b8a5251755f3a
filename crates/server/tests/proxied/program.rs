//! The program between clients and upstreams, its log, and its figures.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sluicegate_testkit::process::Child;

use super::client::Client;
use super::upstream::Upstream;
use super::{PATIENCE, eventually};

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_sluicegate");

/// What a configuration says, beside what all have.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Values of `servers`, as TOML.
    pub servers: Vec<String>,
    /// Lines of the pool.
    pub pool: String,
    /// Further keys of the route's `proxy` table, each behind a comma.
    pub proxy: String,
    /// Lines at the top of the file.
    pub top: String,
    /// Lines of the site, and behind them those of further routes.
    pub site: String,
    pub routes: String,
    pub workers: u32,
}

impl Setup {
    pub fn to(upstreams: &[&Upstream]) -> Self {
        let servers = upstreams.iter().map(|upstream| format!("{:?}", upstream.name)).collect();
        let [pool, proxy, top, site, routes] = [const { String::new() }; 5];
        Setup { servers, pool, proxy, top, site, routes, workers: 2 }
    }

    /// A line of the pool.
    pub fn pool(mut self, line: &str) -> Self {
        self.pool += &format!("{line}\n");
        self
    }

    /// A key of the proxied route.
    pub fn proxy(mut self, key: &str) -> Self {
        self.proxy += &format!(", {key}");
        self
    }

    pub fn top(mut self, line: &str) -> Self {
        self.top += &format!("{line}\n");
        self
    }

    pub fn routes(mut self, lines: &str) -> Self {
        self.routes += lines;
        self
    }

    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    fn config(&self, listen: SocketAddr, log: &Path) -> String {
        let Setup { servers, pool, proxy, top, site, routes, workers } = self;
        let servers = servers.join(", ");
        let admin = SocketAddr::from((listen.ip(), 0));
        format!(
            "workers = {workers}\nlisten = [\"{listen}\"]\nadmin = \"{admin}\"\n\
             access_log = {{ path = {log:?}, format = \"json\" }}\n{top}\n\
             [pool.app]\nservers = [{servers}]\n{pool}\n\
             [[site]]\n{site}\n[[site.route]]\npath = \"/\"\n\
             proxy = {{ pool = \"app\"{proxy} }}\n{routes}\n"
        )
    }
}

/// The program, until it is dropped.
pub struct Proxied {
    pub child: Child,
    pub address: SocketAddr,
    pub admin: SocketAddr,
    directory: tempfile::TempDir,
}

impl Proxied {
    /// To one upstream, as it comes.
    pub fn new(upstream: &Upstream) -> Self {
        Self::start(&Setup::to(&[upstream]))
    }

    pub fn start(setup: &Setup) -> Self {
        let command = |_: &str| Command::new(PROGRAM);
        Self::start_by(setup, SocketAddr::from(([127, 0, 0, 1], 0)), command)
    }

    /// Listening there, started by what `command` makes of the directory in which its files are.
    pub fn start_by(setup: &Setup, listen: SocketAddr, command: impl Fn(&str) -> Command) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let config = directory.path().join("config.toml");
        let log = directory.path().join("access.log");
        std::fs::write(&config, setup.config(listen, &log)).unwrap();
        let mut command = command(directory.path().to_str().unwrap());
        command.arg("run").arg(&config);
        let mut child = Child::spawn(command).unwrap();
        let address = |line: String| {
            let rest = line.split(" on http://").nth(1).unwrap();
            let end = rest.find(|c: char| c == '/' || c.is_whitespace()).unwrap_or(rest.len());
            rest[..end].parse().unwrap()
        };
        let serves = |line: &str| line.contains("Serving ") && line.contains(" on http://");
        let served = child.wait_for_line(serves, PATIENCE).unwrap();
        let status = |line: &str| line.contains("Status on ");
        let admin = child.wait_for_line(status, PATIENCE).unwrap();
        Proxied { child, address: address(served), admin: address(admin), directory }
    }

    pub fn client(&self) -> Client {
        Client::new(self.address)
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Beside its configuration.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Lines of the access log that are there now.
    pub fn log(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.path("access.log")).unwrap_or_default();
        // What is being written may be seen in the middle.
        let whole = text.rfind('\n').map_or(0, |end| end + 1);
        text[..whole].lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// The one line of the log for `target`, once it is there.
    #[track_caller]
    pub fn logged(&self, target: &str) -> Value {
        let find = || -> Vec<Value> {
            self.log().into_iter().filter(|line| line["target"] == target).collect()
        };
        eventually(&format!("a line for {target}"), || !find().is_empty());
        let mut found = find();
        assert_eq!(found.len(), 1, "{found:#?}");
        found.remove(0)
    }

    /// What it tells operators.
    pub fn metrics(&self) -> Metrics {
        Metrics::of(self.admin)
    }

    /// User and system time of the process, in clock ticks of a hundredth of a second.
    pub fn ticks(&self) -> u64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.pid())).unwrap();
        // Behind the name, which ends in the last parenthesis: the 12th and the 13th.
        let rest = stat.rsplit(')').next().unwrap();
        let words: Vec<&str> = rest.split_whitespace().collect();
        words[11].parse::<u64>().unwrap() + words[12].parse::<u64>().unwrap()
    }

    /// Entries of its table of descriptors.
    pub fn descriptors(&self) -> Vec<String> {
        let entries = std::fs::read_dir(format!("/proc/{}/fd", self.child.pid())).unwrap();
        let links = entries.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok());
        links.map(|link| link.to_string_lossy().into_owned()).collect()
    }

    /// Whether a thread of it has a name that begins so.
    pub fn has_thread(&self, name: &str) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.pid())).unwrap();
        let names = tasks.filter_map(|task| std::fs::read(task.unwrap().path().join("comm")).ok());
        names.into_iter().any(|own| own.starts_with(name.as_bytes()))
    }

    /// Kibibytes of memory of its own that are resident: no files, and nothing that is shared.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Ends it as an operator would: it has nothing to complain about.
    pub fn stop(mut self) {
        self.child.terminate().unwrap();
        let status = self.child.wait_timeout(PATIENCE).unwrap();
        let output = self.child.output();
        assert!(status.success() && !output.contains("panicked"), "{status}: {output}");
    }
}

impl Drop for Proxied {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the program said: {}", self.child.output());
            let log = std::fs::read_to_string(self.path("access.log")).unwrap_or_default();
            for line in log.lines().rev().take(5) {
                eprintln!("{line}");
            }
        }
    }
}

/// What it tells operators at this path, with the head.
pub fn told(admin: SocketAddr, path: &str) -> String {
    let mut stream = TcpStream::connect(admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
    text
}

/// Samples by name and labels.
#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub fn of(admin: SocketAddr) -> Self {
        let text = told(admin, "/metrics");
        let samples = text.lines().filter_map(|line| {
            let (name, value) = line.strip_prefix("sluicegate_")?.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Metrics(samples.collect())
    }

    /// A metric's value for one label.
    #[track_caller]
    pub fn labelled(&self, name: &str, label: &str, value: &str) -> u64 {
        let key = format!("{name}{{{label}=\"{value}\"}}");
        *self.0.get(&key).unwrap_or_else(|| panic!("no {key} in {:#?}", self.0)) as u64
    }

    /// The sum over all labels of a metric.
    #[track_caller]
    pub fn sum(&self, name: &str) -> u64 {
        let labelled = format!("{name}{{");
        let mut all = self.0.iter().filter(|(key, _)| *key == name || key.starts_with(&labelled));
        let first = all.next().unwrap_or_else(|| panic!("no {name} in {:#?}", self.0));
        (first.1 + all.map(|(_, value)| value).sum::<f64>()) as u64
    }
}
