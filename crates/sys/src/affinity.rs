//! Processor affinity of the calling thread (`sched_setaffinity(2)`).

use std::io;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Lets the calling thread, and what it starts from now on, run on `cpu` alone.
///
/// # Errors
/// `EINVAL` when the machine has no such processor or this process may not use it.
pub fn pin_to(cpu: usize) -> io::Result<()> {
    if cpu >= CpuSet::MAX_CPU {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}

/// The processors that the calling thread may run on, ascending.
///
/// # Errors
/// What `sched_getaffinity(2)` reports.
pub fn allowed() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok((0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect())
}
