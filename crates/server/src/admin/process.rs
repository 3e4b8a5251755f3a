//! What the process takes of the host, from /proc/self (`proc_pid_status(5)`).

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use sluicegate::os::process_cpu;

/// The process's own entries in /proc, kept open: they are to be read also
/// when no descriptor is left.
#[derive(Debug, Default)]
pub(super) struct Process {
    status: Option<File>,
    limits: Option<File>,
}

/// What it takes now. `None` is what cannot be told, as without /proc.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Taken {
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) threads: Option<u64>,
    pub(super) descriptors: Option<u64>,
    /// As many as it may have; `u64::MAX` where there is no limit.
    pub(super) descriptor_limit: Option<u64>,
    /// Of all threads, since the start.
    pub(super) cpu: Duration,
}

impl Process {
    pub(super) fn open() -> Self {
        Process {
            status: File::open("/proc/self/status").ok(),
            limits: File::open("/proc/self/limits").ok(),
        }
    }

    pub(super) fn taken(&self) -> Taken {
        let status = read(self.status.as_ref()).unwrap_or_default();
        let limits = read(self.limits.as_ref()).unwrap_or_default();
        Taken {
            resident_bytes: kibibytes(&status, "VmRSS:"),
            virtual_bytes: kibibytes(&status, "VmSize:"),
            threads: number(&status, "Threads:"),
            descriptors: descriptors().ok(),
            descriptor_limit: descriptor_limit(&limits),
            cpu: process_cpu(),
        }
    }
}

/// The text as it is now: such a file is made anew when it is read from its
/// beginning.
fn read(file: Option<&File>) -> Option<String> {
    let file = file?;
    let mut text = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        match file.read_at(text.get_mut(filled..)?, filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    text.truncate(filled);
    // The process's name is in it, whatever bytes that has.
    Some(String::from_utf8_lossy(&text).into_owned())
}

/// The value of a line such as `Threads: 3`.
fn number(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

fn kibibytes(status: &str, name: &str) -> Option<u64> {
    number(status, name)?.checked_mul(1024)
}

/// The soft one: `Max open files            1024                 524288               files`.
fn descriptor_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(u64::MAX),
        limit => limit.parse().ok(),
    }
}

fn descriptors() -> io::Result<u64> {
    // Since Linux 6.2 the directory's size is their number.
    match fs::metadata("/proc/self/fd")?.len() {
        // One of them is the directory itself.
        0 => Ok((fs::read_dir("/proc/self/fd")?.count() as u64).saturating_sub(1)),
        count => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_tells_what_it_takes_again_and_again() {
        let process = Process::open();
        let before = process.taken();
        let page = 4096;
        assert!(before.resident_bytes.unwrap() > 16 * page);
        assert!(before.virtual_bytes >= before.resident_bytes);
        assert!(before.threads.unwrap() >= 1);
        assert!(before.descriptors.unwrap() >= 5);
        assert!(before.descriptor_limit > before.descriptors);
        // Other tests open and close some meanwhile: many stand out.
        let more: Vec<_> = (0..200).map(|_| File::open("/dev/null").unwrap()).collect();
        let memory = vec![1_u8; 64 << 20];
        let after = process.taken();
        assert!(after.descriptors.unwrap() >= before.descriptors.unwrap() + 100);
        assert!(after.resident_bytes.unwrap() >= before.resident_bytes.unwrap() + (32 << 20));
        assert!(after.cpu >= before.cpu);
        drop((more, memory));
    }

    #[test]
    fn what_is_not_there_is_not_told() {
        let Taken { resident_bytes, threads, descriptor_limit, .. } = Process::default().taken();
        assert_eq!((resident_bytes, threads, descriptor_limit), (None, None, None));
        assert_eq!(number("Threads:\tmany\n", "Threads:"), None);
        assert_eq!(kibibytes("VmRSS:\t18446744073709551615 kB\n", "VmRSS:"), None);
    }

    #[test]
    fn limits_may_be_without_limit() {
        let line = |soft: &str| {
            format!("Limit  Soft Limit\nMax open files            {soft}   524288   files \n")
        };
        assert_eq!(descriptor_limit(&line("1024")), Some(1024));
        assert_eq!(descriptor_limit(&line("unlimited")), Some(u64::MAX));
        assert_eq!(descriptor_limit("Max open files"), None);
    }
}
