//! `sluicegate doctor`: its figures are the host's, its verdicts follow what is taken away from
//! it, and no refusal ends it.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "../common/mod.rs"]
mod common;
mod guest;
mod host;
mod refused;
mod users;
mod words;

use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use common::{PATIENCE, PROGRAM};
use serde_json::Value;

/// A run of the doctor.
struct Run {
    status: ExitStatus,
    out: String,
    err: String,
}

/// Runs a command to its end, or kills it when that takes too long.
fn run(mut command: Command) -> Run {
    let (mut out, mut err) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    command.stdout(out.try_clone().unwrap()).stderr(err.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let deadline = Instant::now() + 3 * PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it does not end");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let text = |file: &mut File| {
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        text
    };
    Run { status, out: text(&mut out), err: text(&mut err) }
}

fn doctor(arguments: &[&str]) -> Run {
    let mut command = Command::new(PROGRAM);
    command.arg("doctor").args(arguments);
    run(command)
}

/// What a command with `--json` found.
struct Report(Value);

impl Report {
    fn of(run: &Run) -> Self {
        assert!(!run.err.contains("panicked"), "{}", run.err);
        assert!(!run.out.is_empty(), "{}: {}", run.status, run.err);
        Self::parse(&run.out)
    }

    fn parse(text: &str) -> Self {
        let report = serde_json::from_str(text);
        Report(report.unwrap_or_else(|error| panic!("{error}: {text}")))
    }

    /// Of a command that ends well.
    fn by(command: Command) -> Self {
        let run = run(command);
        let report = Self::of(&run);
        assert!(run.status.success(), "{}: {}", run.status, run.err);
        report
    }

    fn here(arguments: &[&str]) -> Self {
        let mut command = Command::new(PROGRAM);
        command.args(["doctor", "--json"]).args(arguments);
        Self::by(command)
    }

    fn checks(&self) -> &[Value] {
        self.0["checks"].as_array().unwrap()
    }

    fn find(&self, name: &str) -> &Value {
        let found = self.checks().iter().find(|check| check["name"] == name);
        found.unwrap_or_else(|| panic!("no check {name} in {}", self.0))
    }

    fn of_interface(&self, name: &str, interface: &str) -> &Value {
        let is_it = |check: &&Value| check["name"] == name && check["subject"] == interface;
        self.checks().iter().find(is_it).unwrap()
    }

    fn verdict(&self, name: &str) -> &str {
        self.find(name)["verdict"].as_str().unwrap()
    }

    fn measured(&self, name: &str, figure: &str) -> &Value {
        &self.find(name)["measured"][figure]
    }
}

fn setting(name: &str) -> String {
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::read_to_string(path).unwrap().trim().to_owned()
}
