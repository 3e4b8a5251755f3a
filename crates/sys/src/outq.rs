//! Bytes that the peer's TCP has not acknowledged (`ioctl(SIOCOUTQ)`, `tcp(7)`).

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Getter, ioctl};

/// `SIOCOUTQ` is `TIOCOUTQ` under its socket name (`<linux/sockios.h>`).
const SIOCOUTQ: rustix::ioctl::Opcode = libc::TIOCOUTQ as rustix::ioctl::Opcode;

/// Bytes of the socket's stream that were accepted and are not yet acknowledged.
///
/// A SYN or FIN under way counts as one byte. After a reset the number no
/// longer falls. About 0.2 µs.
///
/// # Errors
/// `EINVAL` on a listening socket, `ENOTTY` where the descriptor is no socket.
pub fn unacknowledged(socket: BorrowedFd<'_>) -> io::Result<u64> {
    // SAFETY: SIOCOUTQ writes exactly one C int through its pointer
    // (tcp_ioctl, unix_ioctl: `put_user(amount, (int __user *)arg)`), and
    // `Getter` hands it uninitialised room for one; it is read only when the
    // call succeeded, which is when the kernel has written it.
    let amount = unsafe { ioctl(socket, Getter::<SIOCOUTQ, libc::c_int>::new()) }?;
    Ok(u64::try_from(amount).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn bytes_count_until_the_peer_acknowledged_them() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        assert_eq!(unacknowledged(client.as_fd()).unwrap(), 0);
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        // Loopback acknowledges within the call or by the delayed-ACK timer.
        for _ in 0..200 {
            if unacknowledged(client.as_fd()).unwrap() == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("never acknowledged");
    }

    #[test]
    fn what_is_no_socket_is_refused() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(unacknowledged(file.as_fd()).unwrap_err().raw_os_error(), Some(libc::ENOTTY));
    }
}
