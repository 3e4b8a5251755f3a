//! Which ports this user may bind (`ip(7)`, `CAP_NET_BIND_SERVICE`).

use std::io;
use std::net::SocketAddr;

use rustix::net::sockopt::set_socket_reuseaddr;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, ipproto, socket_with};

/// Binds a TCP socket to `address` and closes it without ever listening. With
/// `SO_REUSEADDR`, so that a server that binds the same port meanwhile, which
/// has it too, is not in its way.
///
/// # Errors
/// `EACCES` when this user may not; `EADDRINUSE` when somebody listens there, so
/// that this user may as far as the kernel has looked; `EADDRNOTAVAIL`.
pub fn try_bind(address: SocketAddr) -> io::Result<()> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, Some(ipproto::TCP))?;
    set_socket_reuseaddr(&socket, true)?;
    Ok(bind(&socket, &address)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_listened_on_is_told_from_a_free_one() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = listener.local_addr().unwrap();
        assert_eq!(try_bind(taken).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(listener);
        try_bind("127.0.0.1:0".parse().unwrap()).unwrap();
    }
}
