//! Memory of a process (`proc_pid_status(5)`, `proc_pid_smaps(5)`).

use std::fs;
use std::ops::Sub;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What a process has in memory, in bytes. What the kernel keeps for its sockets is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Memory {
    /// `VmRSS`: its pages, shared ones in full.
    pub(crate) resident: i64,
    /// `RssAnon`: those of them that are no file's.
    #[serde(default)]
    pub(crate) anonymous: i64,
    /// `Pss`: shared pages by its share of them. `None` where the kernel does not tell.
    pub(crate) proportional: Option<i64>,
}

impl Memory {
    pub(crate) fn read(pid: u32) -> Result<Self> {
        let path = format!("/proc/{pid}/status");
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let resident = parse(&status, "VmRSS:").with_context(|| format!("no VmRSS in {path}"))?;
        let rollup = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok();
        let anonymous = parse(&status, "RssAnon:").unwrap_or(resident);
        Ok(Self { resident, anonymous, proportional: rollup.and_then(|text| parse(&text, "Pss:")) })
    }
}

impl Sub for Memory {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        let proportional = self.proportional.zip(earlier.proportional);
        Self {
            resident: self.resident - earlier.resident,
            anonymous: self.anonymous - earlier.anonymous,
            proportional: proportional.map(|(now, then)| now - then),
        }
    }
}

/// The bytes of a line like `VmRSS:      1234 kB`.
fn parse(text: &str, name: &str) -> Option<i64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_lines_are_kibibytes() {
        let text = "VmHWM:\t    9000 kB\nVmRSS:\t    1234 kB\nPss_Dirty: 7 kB\nPss:   5 kB\n";
        assert_eq!(parse(text, "VmRSS:"), Some(1234 * 1024));
        assert_eq!(parse(text, "Pss:"), Some(5 * 1024));
        assert_eq!(parse(text, "VmSwap:"), None);
    }

    #[test]
    fn this_process_is_resident() {
        assert!(Memory::read(std::process::id()).unwrap().resident > 0);
    }
}
