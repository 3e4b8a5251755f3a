//! Page cache to socket in one call (`sendfile(2)`).

use std::io;
use std::os::fd::BorrowedFd;

/// Sends at most `len` bytes of `file` from `offset`; the file's own position
/// is neither used nor moved. Returns how many were accepted; 0 means that
/// `offset` is at or past the end of the file.
///
/// The socket holds references to the file's pages until they are released:
/// overwriting them changes what is sent. Blocks on the disk where the range
/// is not resident, also on a non-blocking socket.
///
/// # Errors
/// `EAGAIN` on a full non-blocking socket; `EINVAL` when the file does not
/// support it; `EIO`, `EPIPE`, `ECONNRESET`, `EINTR`.
pub fn sendfile(
    socket: BorrowedFd<'_>,
    file: BorrowedFd<'_>,
    offset: u64,
    len: usize,
) -> io::Result<usize> {
    let mut offset = offset;
    Ok(rustix::fs::sendfile(socket, file, Some(&mut offset), len)?)
}
