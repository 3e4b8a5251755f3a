//! What waits in the kernel on both ends of a proxy's connections (`/proc/net/tcp`).

use std::fs;

use anyhow::{Context, Result};

/// Bytes that the proxy's kernel has accepted and nobody has acknowledged, and bytes that were
/// acknowledged and not read. Both ends are here.
pub(super) fn queues(port: u16) -> Result<[u64; 2]> {
    let table = fs::read_to_string("/proc/net/tcp").context("cannot read /proc/net/tcp")?;
    Ok(sum(&table, port))
}

fn sum(table: &str, port: u16) -> [u64; 2] {
    let mut queues = [0; 2];
    for line in table.lines().skip(1) {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (Some(local), Some(remote), Some("01"), Some(waits)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let Some((unacked, unread)) = waits.split_once(':') else { continue };
        let bytes = |text| u64::from_str_radix(text, 16).unwrap_or(0);
        if is_at(local, port) {
            queues[0] += bytes(unacked);
        } else if is_at(remote, port) {
            queues[1] += bytes(unread);
        }
    }
    queues
}

fn is_at(address: &str, port: u16) -> bool {
    let found = address.rsplit_once(':').map(|(_, port)| u16::from_str_radix(port, 16));
    found == Some(Ok(port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_connection_are_looked_at() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue\n\
            0: 0100007F:1F90 00000000:0000 0A 00000000:00000005 00:0 0 0\n\
            1: 0100007F:1F90 0100007F:C000 01 00000010:00000001 00:0 0 0\n\
            2: 0100007F:C000 0100007F:1F90 01 00000002:00000020 00:0 0 0\n";
        assert_eq!(sum(table, 8080), [16, 32]);
        assert_eq!(sum(table, 80), [0, 0]);
    }
}
