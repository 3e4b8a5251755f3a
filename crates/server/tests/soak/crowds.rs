//! The processes that the crowd is in.

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::process::Child;

use super::PATIENCE;
use super::crowd::{Crowd, Kind, Seen};

/// Tells the test's program that it is a crowd: the server, and the socket of
/// who commands.
const VARIABLE: &str = "SLUICEGATE_SOAK_CROWD";

/// Each has less than 20,000 connections, which is what one process may have
/// where nobody has raised the limit.
const PROCESSES: u64 = 2;

/// How many clients of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sizes {
    pub silent: u64,
    pub idle: u64,
    pub trickle: u64,
    pub never: u64,
    pub slow: u64,
    pub reset: u64,
    pub half_closed: u64,
}

impl Sizes {
    /// So many in all: most of them are silent.
    pub fn of(total: u64) -> Self {
        let idle = total / 5;
        let trickle = total / 20;
        let never = total / 25;
        let (slow, reset, half_closed) = (total / 400, total / 200, total / 200);
        let silent = total - idle - trickle - never - slow - reset - half_closed;
        Sizes { silent, idle, trickle, never, slow, reset, half_closed }
    }

    fn all(self) -> [u64; Kind::ALL.len()] {
        let Sizes { silent, idle, trickle, never, slow, reset, half_closed } = self;
        // In the order of `Kind`.
        [silent, idle, trickle, never, slow, reset, half_closed]
    }

    pub fn total(self) -> u64 {
        self.all().iter().sum()
    }
}

struct Process {
    _child: Child,
    commands: UnixStream,
    seen: Arc<Mutex<Seen>>,
}

pub struct Crowds {
    processes: Vec<Process>,
    _directory: tempfile::TempDir,
}

impl Crowds {
    /// On the clients' host; nobody comes yet.
    pub fn start(lab: &Lab, server: SocketAddr) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("commands");
        let listener = UnixListener::bind(&path).unwrap();
        listener.set_nonblocking(true).unwrap();
        let program = std::env::current_exe().unwrap();
        let processes = (0..PROCESSES).map(|_| {
            let mut command = lab.client().command(program.to_str().unwrap());
            command.args(["--exact", "crowd", "--nocapture"]);
            command.env(VARIABLE, format!("{server} {}", path.display()));
            let mut child = Child::spawn(command).unwrap();
            let until = Instant::now() + PATIENCE;
            let commands = loop {
                match listener.accept() {
                    Ok((stream, _)) => break stream,
                    Err(error) => {
                        let ended = child.try_wait().unwrap();
                        let late = Instant::now() > until;
                        assert!(ended.is_none() && !late, "{error}: {}", child.output());
                    }
                }
                std::thread::sleep(std::time::Duration::from_millis(5));
            };
            commands.set_nonblocking(false).unwrap();
            let seen = Arc::new(Mutex::new(Seen::default()));
            let (reports, newest) = (commands.try_clone().unwrap(), Arc::clone(&seen));
            // It ends with the process.
            std::thread::spawn(move || {
                for line in BufReader::new(reports).lines().map_while(Result::ok) {
                    *newest.lock().unwrap() = Seen::parse(&line);
                }
            });
            Process { _child: child, commands, seen }
        });
        Crowds { processes: processes.collect(), _directory: directory }
    }

    /// So many clients from now on, in all processes together.
    pub fn resize(&mut self, to: Sizes) {
        for (number, process) in self.processes.iter_mut().enumerate() {
            let number = number as u64;
            let share = |all: u64| ((all + number) / PROCESSES).to_string();
            let line = to.all().map(share).join(" ") + "\n";
            process.commands.write_all(line.as_bytes()).unwrap();
        }
    }

    pub fn seen(&self) -> Seen {
        let mut all = Seen::default();
        for process in &self.processes {
            let seen = *process.seen.lock().unwrap();
            all.open += seen.open;
            all.waiting += seen.waiting;
            all.turned_away += seen.turned_away;
            all.refused += seen.refused;
            all.let_go += seen.let_go;
            all.whole += seen.whole;
            all.short += seen.short;
        }
        all
    }
}

/// What the test's program does when it is a crowd.
pub fn run_where_it_is_asked_for() {
    let Ok(asked) = std::env::var(VARIABLE) else { return };
    let (server, path) = asked.split_once(' ').unwrap();
    sluicegate::os::raise_descriptors().unwrap();
    let commands = UnixStream::connect(path).unwrap();
    Crowd::new(server.parse().unwrap()).run(commands);
}
