//! Addresses as text.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use super::push_number;

/// Appends an address. A client by IPv4 on a socket that is open for both is
/// one by IPv4.
pub(super) fn push_ip(out: &mut Vec<u8>, ip: IpAddr) {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            for (index, octet) in ip.octets().into_iter().enumerate() {
                if index > 0 {
                    out.push(b'.');
                }
                push_number(out, octet.into());
            }
        }
        IpAddr::V6(ip) => push_v6(out, ip),
    }
}

/// Appends address and port, `[::1]:8080` where it is IPv6.
pub(super) fn push_socket(out: &mut Vec<u8>, address: SocketAddr) {
    let is_v6 = address.ip().to_canonical().is_ipv6();
    if is_v6 {
        out.push(b'[');
    }
    push_ip(out, address.ip());
    out.extend_from_slice(if is_v6 { b"]:" } else { b":" });
    push_number(out, address.port().into());
}

/// RFC 5952 section 4: no leading zeroes, lower case, the longest run of at
/// least two zeroes is `::`, the first of equal ones.
fn push_v6(out: &mut Vec<u8>, ip: Ipv6Addr) {
    let groups = ip.segments();
    let mut longest = 0..0;
    let mut start = 0;
    for end in 1..=groups.len() {
        if groups[end - 1] != 0 {
            start = end;
        } else if end - start > longest.len().max(1) {
            longest = start..end;
        }
    }
    for (index, &group) in groups.iter().enumerate() {
        if longest.contains(&index) {
            if index == longest.start {
                out.extend_from_slice(b"::");
            }
            continue;
        }
        if index > 0 && index != longest.end {
            out.push(b':');
        }
        push_hex(out, group);
    }
}

fn push_hex(out: &mut Vec<u8>, group: u16) {
    let mut begun = false;
    for shift in [12, 8, 4, 0] {
        let digit = (group >> shift) & 15;
        begun |= digit > 0 || shift == 0;
        if begun {
            out.push(b"0123456789abcdef"[usize::from(digit)]);
        }
    }
}
