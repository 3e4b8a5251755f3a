//! System calls of a process, counted with strace.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};

use super::pinned::await_line;

/// How often each system call was made.
pub(crate) type Calls = BTreeMap<String, u64>;

/// Whether calls can be counted here at all.
pub(crate) fn can_count() -> bool {
    find_program("strace").is_some()
}

/// Counts the calls that `server` makes, in all its threads, while `work` runs. The server is
/// ended for it: that is how strace learns that it is done.
pub(crate) fn count(server: Child, work: impl FnOnce() -> Result<()>) -> Result<Calls> {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("calls");
    let mut command = Command::new(find_program("strace").context("there is no strace")?);
    command.args(["-f", "-c", "-o"]).arg(&path).args(["-p", &server.pid().to_string()]);
    let mut strace = Child::spawn(command)?;
    await_line(&mut strace, Duration::from_secs(10), |line| line.contains("attached"))?;
    work()?;
    drop(server);
    strace.wait_timeout(Duration::from_secs(10))?;
    Ok(parse(&fs::read_to_string(&path).context("strace left no count")?))
}

/// The table of `strace -c`: `% time  seconds  usecs/call  calls  [errors]  syscall`.
fn parse(table: &str) -> Calls {
    let row = |line: &str| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let name = *fields.get(4..)?.last()?;
        let calls: u64 = fields[3].parse().ok()?;
        (name != "total").then(|| (name.to_owned(), calls))
    };
    table.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_read_with_and_without_errors() {
        let table = "\
% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ----------------
 52.10    0.012345           6      2000           sendto
 47.90    0.011111           5      2100       100 recvfrom
------ ----------- ----------- --------- --------- ----------------
100.00    0.023456           5      4100       100 total
";
        let expected = [("recvfrom".to_owned(), 2100), ("sendto".to_owned(), 2000)];
        assert_eq!(parse(table), Calls::from(expected));
    }
}
