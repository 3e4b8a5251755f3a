//! Readers that do not read, each of which was sent all of the ring: what the kernel holds then.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use crate::client::KernelMemory;
use crate::experiment::ring_cost::sender::{Readers, Sender};
use crate::floor::fan_out::{FanOutFloor, PARTITION, RING, Spread};
use crate::floor::ring::{Account, Compare, OVERWRITE};
use crate::harness::network::Network;

/// The ways that are compared: the bare ones, and the library's choice.
pub(super) const WAYS: [Spread; 3] = [Spread::Copy, Spread::Reference, Spread::Ours];

/// What each socket takes whatever its reader does: the ring, and what the kernel counts beside
/// it. The kernel doubles it.
const SEND_BUFFER: usize = 4 << 20;

/// What was freed before is given back a moment later (RCU, lists of each processor).
const SETTLE: Duration = Duration::from_millis(300);

/// What the kernel holds, in bytes, above what it held for the same connections while nothing was
/// sent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Held {
    pub(super) way: Spread,
    pub(super) readers: usize,
    /// TCP's account.
    pub(super) tcp: i64,
    pub(super) slab: i64,
    /// All that is neither free, also on a processor's own list, nor a program's nor of the page
    /// cache.
    pub(super) kernel: i64,
    /// Files in memory: the ring.
    pub(super) shared: i64,
    /// TCP's account in pages, all of the machine's, beside the three bounds of `tcp_mem`.
    pub(super) pages: i64,
    pub(super) tcp_mem: [i64; 3],
    /// What the sender tells of its ring.
    pub(super) account: Account,
}

impl Held {
    /// Everything that is held for these readers, the ring included. Slab and what was copied are
    /// parts of the kernel's memory: where the whole is smaller, somebody else gave something back
    /// meanwhile.
    pub(super) fn all(&self) -> i64 {
        let copied = i64::try_from(self.account.bytes_copied).unwrap_or(i64::MAX);
        self.kernel.max(self.slab.saturating_add(copied)).saturating_add(self.shared)
    }
}

/// Sends the ring to each, writes all of it anew, and looks; then the readers read, and must find
/// what it had before.
pub(super) fn hold(way: Spread, readers: usize) -> Result<Held> {
    let network = Network::Loopback;
    let send_buffer = Some(SEND_BUFFER);
    let of = |listen| FanOutFloor { way, sockets: readers, send_buffer, listen }.arguments();
    let mut sender = Sender::start(&network, of)?;
    hold_at(&network, &mut sender, way, readers).with_context(|| sender.void())
}

fn hold_at(network: &Network, sender: &mut Sender, way: Spread, count: usize) -> Result<Held> {
    let mut readers = Readers::connect(network, sender, count)?;
    readers.compare(Compare::Whole);
    thread::sleep(SETTLE);
    let before = (KernelMemory::read()?, shared()?, at_hand()?);
    readers.order((RING / PARTITION) as u64)?;
    // It tells when every socket has accepted all.
    let account = sender.account()?;
    readers.order(OVERWRITE)?;
    sender.account()?;
    thread::sleep(SETTLE);
    let (kernel, shared, at_hand) = (KernelMemory::read()?, shared()?, at_hand()?);
    let page = i64::try_from(rustix::param::page_size())?;
    let held = Held {
        way,
        readers: count,
        tcp: kernel.tcp - before.0.tcp,
        slab: kernel.slab - before.0.slab,
        kernel: (kernel.all - at_hand) - (before.0.all - before.2),
        shared: shared - before.1,
        pages: kernel.tcp / page,
        tcp_mem: tcp_mem()?,
        account,
    };
    readers.receive(RING as u64)?;
    let wrong = readers.wrong();
    ensure!(wrong == 0, "{wrong} bytes changed while they waited");
    Ok(held)
}

/// Bytes that are free and that each processor keeps at hand (`count` of the pagesets of
/// `/proc/zoneinfo`, `proc(5)`): hundreds of MiB after much was freed, which `MemFree` is without.
fn at_hand() -> Result<i64> {
    let zones = fs::read_to_string("/proc/zoneinfo").context("cannot read /proc/zoneinfo")?;
    let counts = zones.lines().filter_map(|line| line.trim().strip_prefix("count:"));
    let pages: i64 = counts.filter_map(|count| count.trim().parse::<i64>().ok()).sum();
    Ok(pages * i64::try_from(rustix::param::page_size())?)
}

/// Bytes of files in memory (`Shmem` of `/proc/meminfo`).
fn shared() -> Result<i64> {
    let memory = fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = memory.lines().find_map(|line| line.strip_prefix("Shmem:"));
    let line = line.context("/proc/meminfo has no Shmem")?;
    let kibibytes: i64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kibibytes * 1024)
}

/// Pages from which TCP takes no heed, is under pressure, and refuses (`tcp(7)`).
fn tcp_mem() -> Result<[i64; 3]> {
    let path = "/proc/sys/net/ipv4/tcp_mem";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let bounds: Vec<i64> =
        text.split_ascii_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    bounds.try_into().ok().with_context(|| format!("{path} has not three bounds: {text}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bounds_of_tcp_ascend_and_there_is_shared_memory() {
        assert!(tcp_mem().unwrap().is_sorted());
        assert!(shared().unwrap() >= 0 && at_hand().unwrap() > 0);
    }
}
