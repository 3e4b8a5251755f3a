//! The PROXY protocol: a connection begins by telling whose it is. Versions 1 (a line)
//! and 2 (binary) as HAProxy's `doc/proxy-protocol.txt` has them.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use sluicegate_http::Endpoints;
use thiserror::Error;

use crate::config::ProxyProtocol;

/// What version 2 begins with: nothing that another protocol begins with.
const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What version 1 begins with.
const WORD: &[u8] = b"PROXY ";

/// Bytes of a line of version 1 at most, its end included.
const LINE: usize = 107;

/// Bytes of a header of version 2 at most: 16, the longest addresses, and what
/// senders add to them.
pub(crate) const LONGEST: usize = 4 * 1024;

const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_V4: u8 = 0x11;
const TCP_V6: u8 = 0x21;

/// What is wrong with a header.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(crate) enum HeaderError {
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    #[error("its PROXY header cannot be read")]
    Malformed,
    #[error("its PROXY header is longer than {LONGEST} bytes")]
    TooLong,
}

/// A header that was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Its bytes; what follows is the client's.
    pub(crate) len: usize,
    /// The client, and what it has addressed; `None` where the sender speaks for
    /// itself, or knows of no internet addresses: the connection's own hold.
    pub(crate) ends: Option<(SocketAddr, SocketAddr)>,
}

impl Header {
    /// Reads the header that `input` begins with; `None`: more must come. The verdict
    /// does not depend on how the bytes were split.
    ///
    /// # Errors
    /// [`HeaderError`]: of the first byte that can be of no header.
    pub(crate) fn parse(input: &[u8]) -> Result<Option<Self>, HeaderError> {
        let begins = |with: &[u8]| input.iter().zip(with).all(|(one, other)| one == other);
        if !input.is_empty() && begins(WORD) {
            return line(input);
        }
        if !begins(SIGNATURE) {
            return Err(HeaderError::Missing);
        }
        binary(input)
    }
}

/// Version 1: `PROXY TCP4 client ours port port`, CRLF.
fn line(input: &[u8]) -> Result<Option<Header>, HeaderError> {
    let looked_at = &input[..input.len().min(LINE)];
    let Some(end) = looked_at.windows(2).position(|two| two == b"\r\n") else {
        let is_open = looked_at.len() < LINE;
        return if is_open { Ok(None) } else { Err(HeaderError::Malformed) };
    };
    let (len, malformed) = (end + 2, HeaderError::Malformed);
    let text = std::str::from_utf8(&input[..end]).map_err(|_| malformed)?;
    let mut words = text.split(' ').skip(1);
    let family = words.next();
    if family == Some("UNKNOWN") {
        return Ok(Some(Header { len, ends: None }));
    }
    let words: Vec<&str> = words.collect();
    let [client, ours, client_port, our_port] = words[..] else { return Err(malformed) };
    let ip = |word: &str| match family {
        Some("TCP4") => word.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
        Some("TCP6") => word.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        _ => None,
    };
    let port = |word: &str| {
        // Digits alone, and no zero in front of others.
        let is_plain = word.bytes().all(|byte| byte.is_ascii_digit())
            && (word.len() == 1 || !word.starts_with('0'));
        word.parse::<u16>().ok().filter(|_| is_plain)
    };
    let end = |address: &str, number: &str| Some(SocketAddr::new(ip(address)?, port(number)?));
    let ends = end(client, client_port).zip(end(ours, our_port)).ok_or(malformed)?;
    Ok(Some(Header { len, ends: Some(ends) }))
}

/// Version 2: signature, command, family, length, addresses, and what else there is.
fn binary(input: &[u8]) -> Result<Option<Header>, HeaderError> {
    let malformed = HeaderError::Malformed;
    let command = input.get(12).copied();
    if command.is_some_and(|command| !matches!(command, LOCAL | PROXY)) {
        return Err(malformed);
    }
    let (Some(command), Some(&[family, high, low])) = (command, input.get(13..16)) else {
        return Ok(None);
    };
    let len = 16 + usize::from(u16::from_be_bytes([high, low]));
    if len > LONGEST {
        return Err(HeaderError::TooLong);
    }
    let Some(rest) = input.get(16..len) else { return Ok(None) };
    if command == LOCAL {
        return Ok(Some(Header { len, ends: None }));
    }
    let ends = match family {
        TCP_V4 => {
            let (addresses, ports) = pair::<4>(rest).ok_or(malformed)?;
            Some((addresses.map(IpAddr::from), ports))
        }
        TCP_V6 => {
            let (addresses, ports) = pair::<16>(rest).ok_or(malformed)?;
            Some((addresses.map(IpAddr::from), ports))
        }
        // Of the Unix domain, by UDP, or unknown: no address of a client.
        _ => None,
    };
    let ends = ends.map(|([client, ours], [client_port, our_port])| {
        (SocketAddr::new(client, client_port), SocketAddr::new(ours, our_port))
    });
    Ok(Some(Header { len, ends }))
}

/// Two addresses of `N` bytes, and their ports.
fn pair<const N: usize>(bytes: &[u8]) -> Option<([[u8; N]; 2], [u16; 2])> {
    let (client, rest) = bytes.split_first_chunk::<N>()?;
    let (ours, rest) = rest.split_first_chunk::<N>()?;
    let ([a, b, c, d], _) = rest.split_first_chunk::<4>()?;
    Some(([*client, *ours], [u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])]))
}

/// Writes a header that names the client of `endpoints`.
pub(super) fn write(out: &mut Vec<u8>, version: ProxyProtocol, endpoints: &Endpoints) {
    let (Some(client), Some(ours)) = (endpoints.peer, endpoints.local.or(endpoints.peer)) else {
        return write_local(out, version);
    };
    // Both are of one family; a client of IPv4 may have come by a socket of IPv6.
    let (client_ip, our_ip) = match (client.ip().to_canonical(), ours.ip().to_canonical()) {
        (IpAddr::V4(client), IpAddr::V6(_)) => {
            (client.to_ipv6_mapped().into(), ours.ip().to_canonical())
        }
        (IpAddr::V6(_), IpAddr::V4(ours)) => {
            (client.ip().to_canonical(), ours.to_ipv6_mapped().into())
        }
        both => both,
    };
    match version {
        ProxyProtocol::V1 => {
            let family = if client_ip.is_ipv4() { "TCP4" } else { "TCP6" };
            let ports = (client.port(), ours.port());
            // Memory takes what is written to it.
            let _ = write!(out, "PROXY {family} {client_ip} {our_ip} {} {}\r\n", ports.0, ports.1);
        }
        ProxyProtocol::V2 => {
            let (family, addresses) = match (client_ip, our_ip) {
                (IpAddr::V4(one), IpAddr::V4(other)) => {
                    (TCP_V4, [&one.octets()[..], &other.octets()].concat())
                }
                (one, other) => (TCP_V6, [six(one), six(other)].concat()),
            };
            out.extend_from_slice(SIGNATURE);
            out.extend_from_slice(&[PROXY, family, 0, addresses.len() as u8 + 4]);
            out.extend_from_slice(&addresses);
            out.extend_from_slice(&client.port().to_be_bytes());
            out.extend_from_slice(&ours.port().to_be_bytes());
        }
    }
}

fn six(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    }
}

/// Writes a header that names nobody: the connection is our own.
pub(super) fn write_local(out: &mut Vec<u8>, version: ProxyProtocol) {
    match version {
        ProxyProtocol::V1 => out.extend_from_slice(b"PROXY UNKNOWN\r\n"),
        ProxyProtocol::V2 => {
            out.extend_from_slice(SIGNATURE);
            out.extend_from_slice(&[LOCAL, 0, 0, 0]);
        }
    }
}

#[cfg(test)]
mod tests;
