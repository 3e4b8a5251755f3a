//! What the kernel knows of a TCP connection (`TCP_INFO`, `tcp(7)`).

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

/// The counters of a connection that this project looks at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TcpInfo {
    /// The connection is in state CLOSE: over, or reset (`tcpi_state` 7).
    pub closed: bool,
    /// The handshake is under way (`tcpi_state` SYN_SENT or SYN_RECV): SIOCOUTQ
    /// is 0 then, whatever was accepted.
    pub handshaking: bool,
    /// We have said that we send no more, and the peer has not acknowledged
    /// that (`tcpi_state` FIN_WAIT1, LAST_ACK or CLOSING): SIOCOUTQ counts it
    /// as one byte.
    pub fin_unacknowledged: bool,
    /// Bytes that the peer acknowledged (`tcpi_bytes_acked`), the SYN among them.
    pub bytes_acked: u64,
    /// Segments with data that were received (`tcpi_data_segs_in`).
    pub data_segments_in: u32,
    /// Segments with data that were sent (`tcpi_data_segs_out`).
    pub data_segments_out: u32,
    /// Smoothed round trip in microseconds (`tcpi_rtt`).
    pub round_trip_us: u32,
}

// <linux/tcp.h>, struct tcp_info: offsets of the fields in bytes. Every
// kernel since 4.6 has them, and fields are only ever appended.
const STATE: usize = 0;
const ROUND_TRIP: usize = 68;
const BYTES_ACKED: usize = 120;
const DATA_SEGS_IN: usize = 152;
const DATA_SEGS_OUT: usize = 156;
const NEEDED: usize = 160;

/// Asks for the counters of `socket`.
///
/// # Errors
/// `EOPNOTSUPP` when it is not TCP; `Unsupported` when the kernel is older than 4.6.
pub fn tcp_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    let mut bytes = [0_u8; 256];
    let mut len: libc::socklen_t = 256;
    // SAFETY: the kernel writes at most `len` bytes to the array, which has
    // exactly that many and outlives the call, and the written count to `len`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut len,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    if (len as usize) < NEEDED {
        return Err(io::ErrorKind::Unsupported.into());
    }
    let word =
        |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    let mut acked = [0; 8];
    acked.copy_from_slice(&bytes[BYTES_ACKED..BYTES_ACKED + 8]);
    // <net/tcp_states.h>
    const SYN_SENT: u8 = 2;
    const SYN_RECV: u8 = 3;
    const FIN_WAIT1: u8 = 4;
    const CLOSE: u8 = 7;
    const LAST_ACK: u8 = 9;
    const CLOSING: u8 = 11;
    Ok(TcpInfo {
        closed: bytes[STATE] == CLOSE,
        handshaking: matches!(bytes[STATE], SYN_SENT | SYN_RECV),
        fin_unacknowledged: matches!(bytes[STATE], FIN_WAIT1 | LAST_ACK | CLOSING),
        bytes_acked: u64::from_ne_bytes(acked),
        data_segments_in: word(DATA_SEGS_IN),
        data_segments_out: word(DATA_SEGS_OUT),
        round_trip_us: word(ROUND_TRIP),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::fd::AsFd;

    #[test]
    fn data_segments_are_counted_on_both_ends() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut [0; 5]).unwrap();
        assert_eq!(tcp_info(client.as_fd()).unwrap().data_segments_out, 1);
        assert_eq!(tcp_info(server.as_fd()).unwrap().data_segments_in, 1);
    }
}
