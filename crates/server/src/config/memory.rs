//! How much memory there is for this process.

use std::fs;

use crate::doctor::memory_limit;

/// So many hundredths of the memory that this process may have.
pub(crate) fn share(hundredths: u64) -> u64 {
    total() / 100 * hundredths
}

/// The machine's memory, or less where a control group has a limit. Where nothing
/// can be read, 1 GiB: less than any machine has that serves many.
fn total() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo").ok();
    let machine = machine.and_then(|text| installed(&text));
    let group = memory_limit().ok().flatten().map(|(limit, _)| limit);
    machine.into_iter().chain(group).min().unwrap_or(1 << 30)
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn installed(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_memory_is_read() {
        assert_eq!(installed("MemTotal:        2048 kB\nMemFree: 1 kB\n"), Some(2 << 20));
        assert_eq!(installed("MemFree: 1 kB\n"), None);
        assert_eq!(installed("MemTotal: x kB\n"), None);
        assert!(share(50) > share(25) && share(25) > 1 << 20);
    }
}
