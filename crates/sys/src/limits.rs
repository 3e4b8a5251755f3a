//! Limits of the process and of the machine (`getrlimit(2)`, `sysconf(3)`).

use std::io;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Bytes of a page of memory.
///
/// Not by rustix: it looks at the vDSO to answer this, which valgrind has
/// unmapped (docs/kernel.md).
#[must_use]
pub fn page_size() -> usize {
    // SAFETY: sysconf reads a number by its name and touches no memory of ours.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    // It cannot fail; 4 KiB is what most machines have.
    usize::try_from(size).ok().filter(|size| *size > 0).unwrap_or(4096)
}

/// Raises the soft limit of open descriptors to the hard one and returns it
/// (`u64::MAX` where there is none).
///
/// # Errors
/// What `setrlimit(2)` reports; the old limit is in force then.
pub fn raise_descriptors() -> io::Result<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current != maximum {
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    }
    Ok(maximum.unwrap_or(u64::MAX))
}

/// Whether a call failed for want of a descriptor in this process (`EMFILE`) or
/// in the whole system (`ENFILE`).
#[must_use]
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let is = |errno: Errno| error.raw_os_error() == Some(errno.raw_os_error());
    is(Errno::MFILE) || is(Errno::NFILE)
}

/// A limit of this process: `None` where there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// The one that is in force.
    pub soft: Option<u64>,
    /// Up to which the process may raise it.
    pub hard: Option<u64>,
}

fn limit(resource: Resource) -> Limit {
    let Rlimit { current, maximum } = getrlimit(resource);
    Limit { soft: current, hard: maximum }
}

/// Open descriptors (`RLIMIT_NOFILE`).
#[must_use]
pub fn descriptors() -> Limit {
    limit(Resource::Nofile)
}

/// Bytes of memory that may be pinned (`RLIMIT_MEMLOCK`), which calls with
/// MSG_ZEROCOPY do.
#[must_use]
pub fn locked_memory() -> Limit {
    limit(Resource::Memlock)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_or_a_system_without_descriptors_is_told_from_other_trouble() {
        for (errno, expected) in
            [(libc::EMFILE, true), (libc::ENFILE, true), (libc::ENOBUFS, false)]
        {
            assert_eq!(is_out_of_descriptors(&io::Error::from_raw_os_error(errno)), expected);
        }
        assert!(!is_out_of_descriptors(&io::ErrorKind::OutOfMemory.into()));
    }
}
