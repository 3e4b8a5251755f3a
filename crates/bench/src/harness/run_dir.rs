//! What a run leaves behind: `runs/<date>-<experiment>/` with the machine, every window of every
//! server as a line of JSON, the report and its plots.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;

use super::machine::Machine;

/// The directory of one run, and the lines of progress that accompany it.
#[derive(Debug)]
pub(crate) struct RunDir {
    path: PathBuf,
    rounds: File,
    start: Instant,
}

impl RunDir {
    /// Makes the directory: the one given, or one named after the moment and the experiment.
    pub(crate) fn create(out: Option<&Path>, experiment: &str, machine: &Machine) -> Result<Self> {
        let path = out.map_or_else(
            || Path::new("runs").join(format!("{}-{experiment}", machine.date.replace(':', "-"))),
            Path::to_path_buf,
        );
        let create = || {
            fs::create_dir_all(&path)?;
            File::create(path.join("rounds.jsonl"))
        };
        let rounds = create().with_context(|| format!("cannot make {}", path.display()))?;
        let run = Self { path, rounds, start: Instant::now() };
        run.write_json("machine.json", machine)?;
        Ok(run)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Keeps one measured thing in `rounds.jsonl`, at once: a run that fails later keeps what it
    /// had.
    pub(crate) fn record(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_string(line)?;
        text.push('\n');
        self.rounds.write_all(text.as_bytes()).context("cannot write rounds.jsonl")
    }

    pub(crate) fn write(&self, name: &str, contents: &str) -> Result<()> {
        let path = self.path.join(name);
        fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))
    }

    pub(crate) fn write_json(&self, name: &str, contents: &impl Serialize) -> Result<()> {
        self.write(name, &(serde_json::to_string_pretty(contents)? + "\n"))
    }

    /// The time since the directory was made.
    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// A line of progress on standard error.
    pub(crate) fn progress(&self, line: &str) {
        eprintln!("[{:6.1} s] {line}", self.start.elapsed().as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_keeps_the_machine_and_each_line() {
        let parent = tempfile::tempdir().unwrap();
        let out = parent.path().join("a/b");
        let mut run = RunDir::create(Some(&out), "static", &Machine::look()).unwrap();
        run.record(&[1, 2]).unwrap();
        run.record(&[3]).unwrap();
        assert_eq!(fs::read_to_string(out.join("rounds.jsonl")).unwrap(), "[1,2]\n[3]\n");
        assert!(out.join("machine.json").exists());
    }
}
