//! Cycles of a processor while something runs (`perf-stat(1)`).

use std::fs;
use std::process::Command;

use anyhow::{Context, Result};
use sluicegate_testkit::process::find_program;

/// Cycles that a core has worked, or how to come near them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Counter {
    /// The processor counts them, and perf may read it.
    Perf,
    /// Only time is known: seconds by so many cycles each.
    Nominal(f64),
}

impl Counter {
    /// What there is on this machine.
    pub(crate) fn find() -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("cycles");
        if let Some(mut command) = counted(&Command::new("true"), 0, &path)
            && command.output().is_ok_and(|output| output.status.success())
            && read(&path).is_ok()
        {
            return Ok(Self::Perf);
        }
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").context("cannot read /proc/cpuinfo")?;
        Ok(Self::Nominal(frequency(&cpuinfo).context("nobody tells the processor's frequency")?))
    }

    pub(crate) fn in_words(self) -> String {
        match self {
            Self::Perf => {
                "counted by the processor (perf stat, all of the server's core)".to_owned()
            }
            Self::Nominal(hertz) => format!(
                "busy seconds of the server's core by a nominal {:.0} MHz: this machine counts none",
                hertz / 1e6
            ),
        }
    }
}

/// A command that runs `command` and leaves the cycles of `cpu` meanwhile at `path`; `None`
/// without perf.
pub(crate) fn counted(command: &Command, cpu: usize, path: &std::path::Path) -> Option<Command> {
    let mut perf = Command::new(find_program("perf")?);
    perf.args(["stat", "-x", ",", "-e", "cycles", "-C", &cpu.to_string(), "-o"]).arg(path);
    perf.arg("--").arg(command.get_program()).args(command.get_args());
    Some(perf)
}

/// The cycles that a [`counted`] command has left at `path`.
pub(crate) fn read(path: &std::path::Path) -> Result<u64> {
    let text = fs::read_to_string(path).context("perf left no count")?;
    parse(&text).with_context(|| format!("perf counted no cycles: {}", text.trim()))
}

/// `523869213,,cycles,…`, or `<not supported>,,cycles,…`.
fn parse(text: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let mut fields = line.split(',');
        let count = fields.next()?.parse().ok()?;
        fields.nth(1)?.starts_with("cycles").then_some(count)
    })
}

/// The clock of the first processor in `/proc/cpuinfo`, in Hz.
fn frequency(cpuinfo: &str) -> Option<f64> {
    cpuinfo.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        let megahertz: f64 = (name.trim() == "cpu MHz").then(|| value.trim().parse().ok())??;
        Some(megahertz * 1e6)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_read_and_refusals_are_none() {
        let text = "# started on Sun Nov 22\n\n523869213,,cycles,135942590,100.00,,\n";
        assert_eq!(parse(text), Some(523_869_213));
        assert_eq!(parse("<not supported>,,cycles,0,100.00,,\n"), None);
        assert_eq!(parse("77,,instructions,0,100.00,,\n"), None);
    }

    #[test]
    fn the_frequency_is_that_of_the_first_processor() {
        assert_eq!(frequency("model name : x\ncpu MHz\t\t: 2600.000\ncpu MHz : 1\n"), Some(2.6e9));
        assert_eq!(frequency("nothing"), None);
    }
}
