//! Memory that the kernel has in use, above all for TCP.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

/// What the kernel has in use, in bytes. All of the machine's: compare two moments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KernelMemory {
    /// What TCP has in its account for queued data (`mem` of `/proc/net/sockstat`), pages that a
    /// socket merely refers to included.
    pub(crate) tcp: i64,
    /// Slab: sockets, descriptors, heads of packets (`/proc/meminfo`).
    pub(crate) slab: i64,
    /// All that is neither free nor a program's nor of the page cache: slab, and the pages that
    /// queued data was copied into.
    pub(crate) all: i64,
}

impl KernelMemory {
    pub(crate) fn read() -> Result<Self> {
        let read = |path| fs::read_to_string(path).with_context(|| format!("cannot read {path}"));
        let (sockets, memory) = (read("/proc/net/sockstat")?, read("/proc/meminfo")?);
        Self::parse(&sockets, &memory, rustix::param::page_size())
            .context("cannot understand /proc/net/sockstat and /proc/meminfo")
    }

    fn parse(sockets: &str, memory: &str, page: usize) -> Option<Self> {
        let tcp = sockets.lines().find_map(|line| line.strip_prefix("TCP:"))?;
        let mut words = tcp.split_ascii_whitespace().skip_while(|&word| word != "mem");
        let pages: i64 = words.nth(1)?.parse().ok()?;
        let of = |name: &str| -> Option<i64> {
            let line =
                memory.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
            let kibibytes: i64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kibibytes * 1024)
        };
        let others = of("MemFree")? + of("Buffers")? + of("Cached")? + of("AnonPages")?;
        Some(Self {
            tcp: pages * i64::try_from(page).ok()?,
            slab: of("Slab")?,
            all: of("MemTotal")? - others,
        })
    }

    /// The larger of each.
    pub(super) fn larger(self, other: Self) -> Self {
        Self {
            tcp: self.tcp.max(other.tcp),
            slab: self.slab.max(other.slab),
            all: self.all.max(other.all),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_are_read_by_their_names() {
        let sockets = "sockets: used 24\nTCP: inuse 9 orphan 1 tw 0 alloc 117 mem 332\n\
                       UDP: inuse 0 mem 7\n";
        let memory = "MemTotal: 1000 kB\nMemFree:  300 kB\nMemAvailable: 900 kB\nBuffers: 50 kB\n\
                      Cached: 200 kB\nSwapCached: 9 kB\nAnonPages: 250 kB\nSlab: 77 kB\n";
        let read = KernelMemory::parse(sockets, memory, 4096).unwrap();
        assert_eq!(read, KernelMemory { tcp: 332 * 4096, slab: 77 * 1024, all: 200 * 1024 });
        assert_eq!(KernelMemory::parse("", memory, 4096), None);
    }

    #[test]
    fn this_kernel_has_memory_in_use() {
        let read = KernelMemory::read().unwrap();
        assert!(read.all > read.slab && read.slab > 0);
    }
}
