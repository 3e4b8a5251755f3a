//! Where a processor's time went (`proc_stat(5)`, `proc_pid_stat(5)`, `/proc/PID/task/*/schedstat`).
//!
//! The cost of a server is the *busy time of the whole core* that it is pinned to: what softirqs
//! and kernel threads do for it there is work of its making too. Its threads' own time stands
//! beside it, as a check that nothing foreign was counted.

use std::fs;
use std::io;
use std::ops::Sub;
use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// One processor's line of `/proc/stat`, in seconds. Resolution: a tick, 10 ms.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct CoreTime {
    pub(crate) user: f64,
    pub(crate) nice: f64,
    pub(crate) system: f64,
    pub(crate) idle: f64,
    pub(crate) iowait: f64,
    pub(crate) irq: f64,
    pub(crate) softirq: f64,
    pub(crate) steal: f64,
}

impl CoreTime {
    pub(crate) fn read(cpu: usize) -> Result<Self> {
        let stat = fs::read_to_string("/proc/stat").context("cannot read /proc/stat")?;
        Self::parse(&stat, cpu, ticks_per_second())
            .with_context(|| format!("/proc/stat has no line for cpu{cpu}"))
    }

    fn parse(stat: &str, cpu: usize, ticks_per_second: f64) -> Option<Self> {
        let name = format!("cpu{cpu}");
        let mut fields = stat.lines().find_map(|line| {
            let mut fields = line.split_ascii_whitespace();
            (fields.next() == Some(&name)).then_some(fields)
        })?;
        let mut next = || Some(fields.next()?.parse::<f64>().ok()? / ticks_per_second);
        Some(Self {
            user: next()?,
            nice: next()?,
            system: next()?,
            idle: next()?,
            iowait: next()?,
            irq: next()?,
            softirq: next()?,
            steal: next()?,
        })
    }

    /// Seconds in which the core worked. Not stolen time, in which it did not; and a guest's is
    /// in `user` already.
    pub(crate) fn busy(&self) -> f64 {
        self.user + self.nice + self.system + self.irq + self.softirq
    }

    /// The same of a time in which the core hardly works: what of `elapsed` seconds it was not
    /// idle. [`CoreTime::busy`] is what ticks have found, 4 ms apart, and too few find anything
    /// then; idle time is measured where it begins and ends (`CONFIG_NO_HZ_COMMON`).
    pub(crate) fn worked(&self, elapsed: f64) -> f64 {
        (elapsed - self.idle - self.iowait - self.steal).max(0.0)
    }
}

impl Sub for CoreTime {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            user: self.user - earlier.user,
            nice: self.nice - earlier.nice,
            system: self.system - earlier.system,
            idle: self.idle - earlier.idle,
            iowait: self.iowait - earlier.iowait,
            irq: self.irq - earlier.irq,
            softirq: self.softirq - earlier.softirq,
            steal: self.steal - earlier.steal,
        }
    }
}

/// Seconds that the threads of a process have run, to the nanosecond.
pub(crate) fn thread_time(pid: u32) -> Result<f64> {
    let mut nanoseconds = 0;
    for schedstat in of_threads(pid, "schedstat")? {
        nanoseconds += parse_schedstat(&schedstat).unwrap_or(0);
    }
    Ok(nanoseconds as f64 / 1e9)
}

/// What `/proc/PID/task/*/NAME` says of each thread of a process.
fn of_threads(pid: u32, name: &str) -> Result<Vec<String>> {
    let tasks = format!("/proc/{pid}/task");
    let mut texts = Vec::new();
    for task in fs::read_dir(&tasks).with_context(|| format!("cannot read {tasks}"))? {
        match fs::read_to_string(task?.path().join(name)) {
            Ok(text) => texts.push(text),
            // A thread that ended after the directory was read.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {tasks}")),
        }
    }
    Ok(texts)
}

/// The first field: nanoseconds on a processor (`Documentation/scheduler/sched-stats.rst`).
fn parse_schedstat(schedstat: &str) -> Option<u64> {
    schedstat.split_ascii_whitespace().next()?.parse().ok()
}

/// How often the threads of a process gave their processor up, by themselves and otherwise
/// (`proc_pid_status(5)`).
pub(crate) fn context_switches(pid: u32) -> Result<u64> {
    let mut switches = 0;
    for status in of_threads(pid, "status")? {
        switches += parse_switches(&status);
    }
    Ok(switches)
}

fn parse_switches(status: &str) -> u64 {
    let count = |line: &str| line.split_once("_ctxt_switches:")?.1.trim().parse::<u64>().ok();
    status.lines().filter_map(count).sum()
}

/// Seconds that all other programs of the machine have run, on whatever core: the noise around
/// a measurement. Kernel threads are left out, since some of them work for the server; so is
/// what began and ended between two looks.
pub(crate) fn others_time(apart_from: &[u32]) -> Result<f64> {
    let mut ticks = 0;
    for entry in fs::read_dir("/proc").context("cannot read /proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        if apart_from.contains(&pid) {
            continue;
        }
        ticks += program_ticks(&entry.path()).unwrap_or(0);
    }
    Ok(ticks as f64 / ticks_per_second())
}

fn program_ticks(directory: &Path) -> Option<u64> {
    parse_program_ticks(&fs::read_to_string(directory.join("stat")).ok()?)
}

/// User and system time of a program, in ticks; `None` for a kernel thread.
fn parse_program_ticks(stat: &str) -> Option<u64> {
    /// `kthreadd`, the parent of all kernel threads.
    const KTHREADD: u32 = 2;
    // The name, in parentheses, may itself hold spaces and parentheses.
    let (pid, rest) = stat.split_once(' ')?;
    let fields: Vec<&str> = rest.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    // The state, field 3, is the first here: parent 4, utime 14, stime 15.
    let parent: u32 = fields.get(1)?.parse().ok()?;
    if parent == KTHREADD || pid.parse() == Ok(KTHREADD) {
        return None;
    }
    let user: u64 = fields.get(11)?.parse().ok()?;
    let system: u64 = fields.get(12)?.parse().ok()?;
    Some(user + system)
}

fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str = "cpu  300 1 2 3 4 5 6 7 8 9\n\
                        cpu0 100 10 50 800 20 3 7 9 11 12\n\
                        cpu10 1 1 1 1 1 1 1 1 1 1\n\
                        intr 1 2 3\n";

    #[test]
    fn busy_time_is_without_idle_waiting_stolen_and_guest() {
        let core = CoreTime::parse(STAT, 0, 100.0).unwrap();
        assert!((core.busy() - 1.7).abs() < 1e-9);
        assert_eq!((core.idle, core.iowait, core.steal), (8.0, 0.2, 0.09));
        assert_eq!((core - core).busy(), 0.0);
    }

    #[test]
    fn a_core_is_found_by_its_whole_name() {
        assert_eq!(CoreTime::parse(STAT, 10, 1.0).unwrap().user, 1.0);
        assert_eq!(CoreTime::parse(STAT, 1, 1.0), None);
    }

    #[test]
    fn schedstat_begins_with_the_time_on_a_processor() {
        assert_eq!(parse_schedstat("522527909 59590 28\n"), Some(522_527_909));
        assert_eq!(parse_schedstat(""), None);
    }

    #[test]
    fn kernel_threads_are_no_programs_and_names_may_hold_parentheses() {
        let line = |pid, parent| {
            format!("{pid} (a) (b c) S {parent} 1 1 0 -1 4194560 9 9 9 9 70 8 1 1 20 0 1 0 5")
        };
        assert_eq!(parse_program_ticks(&line(500, 1)), Some(78));
        assert_eq!(parse_program_ticks(&line(500, 2)), None);
        assert_eq!(parse_program_ticks(&line(2, 0)), None);
    }

    #[test]
    fn switches_of_both_kinds_are_added() {
        let status =
            "Threads:\t1\nvoluntary_ctxt_switches:\t150\nnonvoluntary_ctxt_switches:\t545\n";
        assert_eq!(parse_switches(status), 695);
        context_switches(std::process::id()).unwrap();
    }

    #[test]
    fn our_own_threads_have_run() {
        assert!(thread_time(std::process::id()).unwrap() > 0.0);
    }
}
