//! Whether this process may have an io_uring (`io_uring_setup(2)`).

use std::io;
use std::os::fd::{FromRawFd, OwnedFd};

/// `sizeof(struct io_uring_params)` of `<linux/io_uring.h>`: ten numbers of 32
/// bits, and two tables of offsets of 40 bytes each.
const PARAMETERS: usize = 120;

/// Room for `struct io_uring_params`, all of it zero: nothing special is asked for.
#[repr(C, align(8))]
struct Parameters([u8; PARAMETERS]);

/// Makes a ring of one entry and closes it.
///
/// # Errors
/// `ENOSYS` before Linux 5.1; `EPERM` where `kernel.io_uring_disabled` or a
/// filter of system calls forbids it; `EMFILE`, `ENFILE`, `ENOMEM`.
pub fn try_setup() -> io::Result<()> {
    let mut parameters = Parameters([0; PARAMETERS]);
    // SAFETY: the kernel reads and writes one `struct io_uring_params` through
    // the pointer (io_uring_setup: copy_from_user and copy_to_user of its size),
    // which is the size of `Parameters`; it outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, &raw mut parameters) };
    let fd = i32::try_from(result).ok().filter(|fd| *fd >= 0);
    let fd = fd.ok_or_else(io::Error::last_os_error)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    drop(unsafe { OwnedFd::from_raw_fd(fd) });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_granted_or_refused_for_a_known_reason() {
        if let Err(error) = try_setup() {
            let known = [libc::ENOSYS, libc::EPERM, libc::ENOMEM];
            assert!(known.contains(&error.raw_os_error().unwrap()), "{error}");
        }
    }
}
