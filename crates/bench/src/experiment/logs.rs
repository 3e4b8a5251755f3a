//! The logs of a workload's servers: whoever has not a line for each request has not done the
//! work that it was measured at.

use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::client::Load;
use crate::harness::log_lines::LogLines;

/// How long a server may keep lines to itself; lighttpd writes every 4 s.
const PATIENCE: Duration = Duration::from_secs(12);

/// A log for each server, in a directory that goes with it.
#[derive(Debug)]
pub(super) struct Logs {
    _directory: TempDir,
    logs: Vec<Log>,
}

/// The log of one server, and how many lines it must have.
#[derive(Debug)]
struct Log {
    lines: LogLines,
    asked: u64,
    answered: u64,
}

impl Log {
    /// What is wrong with so many lines, if anything.
    fn fault(&self, lines: u64) -> Option<String> {
        let Self { asked, answered, .. } = self;
        let is_right = (*answered..=*asked).contains(&lines);
        (!is_right).then(|| {
            format!("its log has {lines} lines, for {asked} requests and {answered} answers")
        })
    }
}

impl Logs {
    /// So many logs on the file system of `root`, the directory that is served.
    pub(super) fn beside(root: &Path, servers: usize) -> Result<Self> {
        let parent = root.parent().context("nothing is above the files")?;
        let directory = tempfile::Builder::new().prefix("bench-logs-").tempdir_in(parent)?;
        let log = |number: usize| {
            let lines = LogLines::new(directory.path().join(format!("{number}.log")));
            Log { lines, asked: 0, answered: 0 }
        };
        let logs = (0..servers).map(log).collect();
        Ok(Self { _directory: directory, logs })
    }

    /// The log of a server.
    pub(super) fn path(&self, server: usize) -> Option<&Path> {
        Some(self.logs.get(server)?.lines.path())
    }

    /// A client has asked this server.
    pub(super) fn expect(&mut self, server: usize, load: &Load) {
        if let Some(log) = self.logs.get_mut(server) {
            log.asked += load.asked;
            log.answered += load.answered;
        }
    }

    /// Counts what is there by now, between windows.
    pub(super) fn look(&mut self) -> Result<()> {
        self.logs.iter_mut().try_for_each(|log| log.lines.look().map(drop))
    }

    /// Waits until nothing more is due, and tells what is wrong with the log of each server.
    pub(super) fn faults(&mut self) -> Result<Vec<Option<String>>> {
        let deadline = Instant::now() + PATIENCE;
        let mut faults = Vec::with_capacity(self.logs.len());
        for log in &mut self.logs {
            let mut lines = log.lines.look()?;
            while lines < log.answered && Instant::now() < deadline {
                thread::sleep(Duration::from_millis(20));
                lines = log.lines.look()?;
            }
            faults.push(log.fault(lines));
        }
        Ok(faults)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::cell::tests::load;

    #[test]
    fn a_log_has_a_line_for_each_answer_and_none_without_a_request() {
        let directory = tempfile::tempdir().unwrap();
        let mut logs = Logs::beside(&directory.path().join("files"), 2).unwrap();
        for server in [0, 1] {
            logs.expect(server, &Load { asked: 3, answered: 2, ..load(1) });
        }
        std::fs::write(logs.path(0).unwrap(), "a\nb\n").unwrap();
        std::fs::write(logs.path(1).unwrap(), "a\nb\nc\nd\n").unwrap();
        logs.look().unwrap();
        let faults = logs.faults().unwrap();
        assert_eq!(faults[0], None);
        assert!(faults[1].as_ref().unwrap().contains("4 lines, for 3 requests"));
        assert!(logs.logs[0].fault(1).is_some());
    }
}
