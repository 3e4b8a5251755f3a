//! The server under load: its configuration, its files, its logs, and what an
//! operator does with it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;

use sluicegate_testkit::corpus::Tree;
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::process::{Child, Signal};

use super::{DRAIN, LARGE, MEDIUM, PATIENCE, PROGRAM, SEED, SMALL};

pub struct Site {
    pub child: Child,
    /// The process that serves; the child, or who followed it.
    pub pid: i32,
    pub address: SocketAddr,
    admin: SocketAddr,
    tree: Tree,
    rotated: usize,
    pub reloads: usize,
    pub refused: usize,
    pub upgrades: usize,
}

impl Site {
    pub fn start(lab: &Lab) -> Self {
        let mut tree = Tree::new().unwrap();
        // Sites with directories of their own, and one for all other names.
        for site in ["small.test", "medium.test", "large.test", "others"] {
            for (name, length) in [("small", SMALL), ("medium", MEDIUM), ("large", LARGE)] {
                tree = tree.file(&format!("{site}/{name}"), SEED, length as u64).unwrap();
            }
        }
        let address = SocketAddr::from((lab.server().address(), 80));
        let admin = SocketAddr::from((lab.server().address(), 81));
        std::fs::write(tree.join("config.toml"), config(&tree, address, admin)).unwrap();
        std::thread::sleep(super::SETTLED);
        let mut command = lab.server().command(PROGRAM);
        command.arg("run").arg(tree.join("config.toml"));
        let mut child = Child::spawn(command).unwrap();
        child.wait_for_line(|line| line.contains("Status on "), PATIENCE).unwrap();
        let pid = i32::try_from(child.pid()).unwrap();
        lab.client().enter(|| child.wait_for_port(address, PATIENCE)).unwrap().unwrap();
        let (rotated, reloads, refused, upgrades) = (0, 0, 0, 0);
        Site { child, pid, address, admin, tree, rotated, reloads, refused, upgrades }
    }

    pub fn signal(&self, signal: Signal) {
        signal_to(self.pid, signal);
    }

    /// Has it read its configuration, which is as it was or broken.
    pub fn reload(&mut self, is_broken: bool) {
        let line = self.try_reload(is_broken);
        assert_eq!(line.contains(": not reloaded"), is_broken, "{line}");
    }

    /// The same; returns what it says of that.
    pub fn try_reload(&mut self, is_broken: bool) -> String {
        let config = config(&self.tree, self.address, self.admin);
        let broken = if is_broken { "worker = \"none\"\n" } else { "" };
        std::fs::write(self.tree.join("config.toml"), format!("{broken}{config}")).unwrap();
        self.signal(Signal::HUP);
        let told = |line: &str| line.contains(": reloaded: ") || line.contains(": not reloaded");
        let line = self.child.wait_for_line(told, PATIENCE).unwrap();
        let is_refused = line.contains(": not reloaded");
        *(if is_refused { &mut self.refused } else { &mut self.reloads }) += 1;
        // The next process is to find one that it can read.
        std::fs::write(self.tree.join("config.toml"), config).unwrap();
        line
    }

    /// Moves the log away and has it opened anew.
    pub fn rotate(&mut self) {
        self.rotated += 1;
        let log = self.tree.join("access.log");
        std::fs::rename(&log, self.tree.join(&format!("access.log.{}", self.rotated))).unwrap();
        self.signal(Signal::USR1);
        super::eventually("the log has its name again", || log.exists());
    }

    pub fn rotations(&self) -> usize {
        self.rotated
    }

    pub fn logs(&self) -> Vec<PathBuf> {
        let old = (1..=self.rotated).map(|number| format!("access.log.{number}"));
        old.chain(["access.log".to_owned()]).map(|name| self.tree.join(&name)).collect()
    }

    /// Has another process go on for it; returns the one that finishes its
    /// connections.
    pub fn upgrade(&mut self) -> i32 {
        self.signal(Signal::USR2);
        let told = |line: &str| line.contains(" serves now") || line.contains("not upgraded");
        let line = self.child.wait_for_line(told, PATIENCE).unwrap();
        assert!(line.contains(" serves now"), "{}", self.child.output());
        let pid = line.split("process ").nth(1).unwrap().split(' ').next().unwrap();
        self.upgrades += 1;
        std::mem::replace(&mut self.pid, pid.parse().unwrap())
    }

    /// What it tells operators: metrics with their labels.
    pub fn metrics(&self, lab: &Lab) -> Metrics {
        let text = lab.client().enter(|| {
            let mut stream = TcpStream::connect(self.admin).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let request = b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            stream.write_all(request).unwrap();
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            text
        });
        let text = text.unwrap();
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let lines = text.lines().filter(|line| line.starts_with("sluicegate_"));
        let samples = lines.filter_map(|line| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        });
        Metrics(samples.collect())
    }
}

#[derive(Debug)]
pub struct Metrics(BTreeMap<String, f64>);

impl Metrics {
    pub fn get(&self, name: &str) -> u64 {
        let value = self.0.get(&format!("sluicegate_{name}"));
        *value.unwrap_or_else(|| panic!("{name} in {self:?}")) as u64
    }

    pub fn ended(&self, reason: &str) -> u64 {
        self.get(&format!("connections_ended_early_total{{reason=\"{reason}\"}}"))
    }

    pub fn answers(&self) -> u64 {
        let all = self.0.iter().filter(|(name, _)| name.starts_with("sluicegate_responses_total"));
        all.map(|(_, value)| *value as u64).sum()
    }
}

pub fn signal_to(pid: i32, signal: Signal) {
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// Whether there is such a process, and it has not ended.
pub fn is_running(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

fn config(tree: &Tree, address: SocketAddr, admin: SocketAddr) -> String {
    let log = tree.join("access.log");
    let drain = DRAIN.as_secs();
    let mut text = format!(
        "workers = 2\nlisten = [\"{address}\"]\nadmin = \"{admin}\"\n\
         access_log = {{ path = {log:?}, format = \"json\" }}\n\
         [timeouts]\nhead = \"5s\"\nidle = \"20s\"\nsend = \"5s\"\ndrain = \"{drain}s\"\n"
    );
    for site in ["small.test", "medium.test", "large.test", "others"] {
        let hosts = if site == "others" { String::new() } else { format!("hosts = [{site:?}]\n") };
        let root = tree.join(site);
        text += &format!(
            "[[site]]\n{hosts}[[site.route]]\npath = \"/\"\nfiles = {{ root = {root:?} }}\n"
        );
    }
    text
}
