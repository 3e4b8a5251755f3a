//! What waits in the sockets of a server and its clients (`/proc/net/tcp`, `proc_net(5)`).

use std::fs;

use anyhow::{Context, Result};

/// Bytes that the server's kernel has accepted and the clients have not received: in the server's
/// send queues, and in the clients' receive queues. Both ends must be here.
pub(super) fn queued(server_port: u16) -> Result<u64> {
    let mut bytes = 0;
    for path in ["/proc/net/tcp", "/proc/net/tcp6"] {
        match fs::read_to_string(path) {
            Ok(table) => bytes += sum(&table, server_port),
            // A kernel without IPv6.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        }
    }
    Ok(bytes)
}

/// Established connections alone; a listener has its backlog there.
const ESTABLISHED: &str = "01";

fn sum(table: &str, server_port: u16) -> u64 {
    let of = |line: &str| -> Option<u64> {
        // Number, local and remote address with port, state, queues to send and received.
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote) = (port(fields.next()?)?, port(fields.next()?)?);
        if fields.next()? != ESTABLISHED {
            return None;
        }
        let (to_send, received) = fields.next()?.split_once(':')?;
        let queue = if local == server_port {
            to_send
        } else if remote == server_port {
            received
        } else {
            return None;
        };
        u64::from_str_radix(queue, 16).ok()
    };
    table.lines().filter_map(of).sum()
}

fn port(address: &str) -> Option<u16> {
    u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn the_servers_send_queues_and_the_clients_receive_queues_are_counted() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000080 00:00000000\n\
            1: 0100007F:1F90 0100007F:D431 01 00000100:00000001 00:00000000\n\
            2: 0100007F:D431 0100007F:1F90 01 00000002:00000020 00:00000000\n\
            3: 0100007F:D432 0100007F:1F91 01 00000400:00000400 00:00000000\n";
        assert_eq!(sum(table, 0x1f90), 0x120);
    }

    #[test]
    fn what_nobody_has_received_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let _client = TcpStream::connect(address).unwrap();
        let (mut server, _) = listener.accept().unwrap();
        server.write_all(&[1; 12_345]).unwrap();
        assert_eq!(queued(address.port()).unwrap(), 12_345);
    }
}
