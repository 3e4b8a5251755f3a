//! The list of skipped tests.
//!
//! **How the list gets from one test binary to another.** All of them are started by the same
//! cargo, their parent process. Each skipped test appends a line to the file
//! `target/skipped-tests/<parent's pid>-<parent's start time>`; `skipped` reads it and removes it.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::process::parent_id;
use std::path::{Path, PathBuf};
use std::{env, fmt};

use super::VARIABLE;
use crate::process::start_time;

/// The tests that one run of cargo skipped.
#[derive(Debug)]
pub struct SkippedTests {
    record: PathBuf,
    entries: BTreeSet<String>,
}

impl SkippedTests {
    /// Those of the run that this process is part of.
    ///
    /// # Errors
    /// What the file system says; no record means that none was skipped.
    pub fn of_this_run() -> io::Result<Self> {
        Self::recorded_below(parent_id())
    }

    /// Those of the test binaries whose parent is this process.
    ///
    /// # Errors
    /// As [`SkippedTests::of_this_run`].
    pub fn recorded_below(parent: u32) -> io::Result<Self> {
        let record = record_of(parent);
        let entries = match fs::read_to_string(&record) {
            Ok(text) => text.lines().map(str::to_owned).collect(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => BTreeSet::new(),
            Err(error) => return Err(error),
        };
        Ok(Self { record, entries })
    }

    /// One per test, sorted: `package binary::test: needs …`.
    pub fn entries(&self) -> impl ExactSizeIterator<Item = &str> {
        self.entries.iter().map(String::as_str)
    }

    /// Removes the record, and those of runs that never got to this point: a run of a single
    /// package, or one with a failure.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget(self) -> io::Result<()> {
        let directory = self.record.parent().unwrap_or(Path::new("."));
        let records = match fs::read_dir(directory) {
            Ok(records) => records,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for record in records {
            let path = record?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let owner = name.split_once('-').and_then(|(pid, _)| pid.parse().ok());
            let stale =
                owner.is_some_and(|pid| record_of(pid) != path || start_time(pid).is_none());
            if path == self.record || stale {
                match fs::remove_file(&path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    // Removed by us, or by another run at the same time.
                    _ => {}
                }
            }
        }
        Ok(())
    }
}

impl fmt::Display for SkippedTests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "skipped tests: {}", self.entries.len())?;
        if !self.entries.is_empty() {
            write!(f, " (set {VARIABLE}=required to make them fail)")?;
        }
        self.entries.iter().try_for_each(|entry| write!(f, "\n  {entry}"))
    }
}

/// The file for the tests that `parent` runs. The start time keeps the records of two processes
/// apart that had the same id.
fn record_of(parent: u32) -> PathBuf {
    let started = start_time(parent).unwrap_or(0);
    record_directory().join(format!("{parent}-{started}"))
}

/// Below the target directory, which cargo marks with a `CACHEDIR.TAG`, as other names for it
/// (`--target-dir`, `--target`) would mislead. A binary that was taken elsewhere records among
/// the system's temporary files.
fn record_directory() -> PathBuf {
    let binary = env::current_exe().unwrap_or_default();
    let user = rustix::process::geteuid().as_raw();
    binary
        .ancestors()
        .find(|directory| directory.join("CACHEDIR.TAG").is_file())
        .map_or_else(|| env::temp_dir().join(format!("sluicegate-{user}")), Path::to_path_buf)
        .join("skipped-tests")
}

/// Adds a line by a single write with O_APPEND: tests of one binary run at the same time.
pub(super) fn append(entry: &str) -> io::Result<()> {
    let file = record_of(parent_id());
    if let Some(directory) = file.parent() {
        fs::create_dir_all(directory)?;
    }
    let mut file = OpenOptions::new().create(true).append(true).open(file)?;
    file.write_all(format!("{entry}\n").as_bytes())
}
