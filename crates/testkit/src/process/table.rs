//! Programs and processes of the system.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// Where administrators' programs live; the `PATH` of an ordinary user often lacks these.
const SYSTEM_DIRECTORIES: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// The path of a program: from `PATH`, or from the directories where administrators' programs
/// live. A name with a slash is taken as a path.
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    let is_program = |path: &Path| rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(|path| path.is_file() && is_program(path));
    }
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(SYSTEM_DIRECTORIES.map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|path| path.is_file() && is_program(path))
}

/// When a process was started, in clock ticks since the boot: with its id this names it for good.
/// `None` when there is no such process, or only its zombie.
pub(crate) fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // proc_pid_stat(5). The name, in parentheses, may itself hold spaces and parentheses.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?;
    if matches!(state, "Z" | "X") {
        return None;
    }
    // Field 22; the state is field 3.
    fields.nth(22 - 4)?.parse().ok()
}
