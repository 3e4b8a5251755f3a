//! Protocols that the kernel puts on top of TCP (`TCP_ULP`, `networking/tls.rst`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// Puts TLS records on top of a connection: from then on the kernel waits for
/// keys, and does as TCP alone until it has them. The kernel loads its module
/// `tls` by itself where it may.
///
/// # Errors
/// `ENOENT` where the kernel has no such protocol, and none is loaded;
/// `ENOTCONN` on what is not connected, `EEXIST` a second time.
pub fn add_tls(socket: BorrowedFd<'_>) -> io::Result<()> {
    const NAME: &[u8] = b"tls";
    // SAFETY: the kernel reads the bytes of the name, as many as the length says.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_ULP,
            NAME.as_ptr().cast(),
            NAME.len() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn only_a_connection_can_have_it() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        // ENOENT comes first where the kernel has none.
        let error = add_tls(listener.as_fd()).unwrap_err().raw_os_error();
        assert!([Some(libc::ENOTCONN), Some(libc::ENOENT)].contains(&error), "{error:?}");
    }
}
