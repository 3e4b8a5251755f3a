//! What an upstream is told of the client: X-Forwarded-… and Forwarded (RFC 7239).

use std::io::Write;
use std::net::IpAddr;

use super::rules::{Forwarded, RequestRules};
use crate::{Endpoints, Known, RequestHead};

/// Connections are not encrypted yet.
const SCHEME: &str = "http";

/// Whether a field that tells of a client is ours to write, so that what came does not go on.
pub(super) fn is_ours(known: Known, rule: Forwarded) -> bool {
    match known {
        Known::XForwardedFor => rule != Forwarded::Off,
        Known::Forwarded | Known::XForwardedHost | Known::XForwardedProto => {
            matches!(rule, Forwarded::Replace | Forwarded::Rfc7239)
        }
        _ => false,
    }
}

/// Whether a name that nobody here asks for tells of a client all the same.
pub(super) fn is_one_of_them(name: &[u8]) -> bool {
    let begins = |start: &[u8]| {
        name.get(..start.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(start))
    };
    begins(b"x-forwarded-") || name.eq_ignore_ascii_case(b"x-real-ip")
}

pub(super) fn write(
    out: &mut Vec<u8>,
    head: &RequestHead,
    host: Option<&str>,
    endpoints: &Endpoints,
    rules: &RequestRules,
) {
    let client = endpoints.peer.map(|peer| peer.ip().to_canonical());
    match rules.forwarded {
        Forwarded::Off => {}
        Forwarded::Replace => {
            if let Some(client) = client.filter(|_| is_free(rules, Known::XForwardedFor)) {
                out.extend_from_slice(b"X-Forwarded-For: ");
                address(out, client);
                out.extend_from_slice(b"\r\n");
            }
            host_and_scheme(out, host, rules, |_| true);
        }
        Forwarded::Append => {
            if is_free(rules, Known::XForwardedFor) {
                append(out, head, client);
            }
            host_and_scheme(out, host, rules, |known| head.count(known) == 0);
        }
        Forwarded::Rfc7239 => {
            if is_free(rules, Known::Forwarded) {
                rfc7239(out, client, host);
            }
        }
    }
}

/// What [`write`] does by [`Forwarded::Replace`] where nothing is the operator's, with what is
/// behind it in nearly every head.
pub(super) fn write_usual(out: &mut Vec<u8>, client: IpAddr, host: &[u8]) {
    out.extend_from_slice(b"X-Forwarded-For: ");
    address(out, client);
    out.extend_from_slice(b"\r\nX-Forwarded-Host: ");
    out.extend_from_slice(host);
    out.extend_from_slice(b"\r\nX-Forwarded-Proto: http\r\nVia: 1.1 sluicegate\r\n\r\n");
}

/// What the operator sets or removes is not ours to write.
fn is_free(rules: &RequestRules, known: Known) -> bool {
    !rules.takes(known.name().as_bytes())
}

fn append(out: &mut Vec<u8>, head: &RequestHead, client: Option<IpAddr>) {
    let start = out.len();
    let mut separator: &[u8] = b"X-Forwarded-For: ";
    for value in head.values(Known::XForwardedFor).filter(|value| !value.is_empty()) {
        out.extend_from_slice(separator);
        out.extend_from_slice(value);
        separator = b", ";
    }
    if let Some(client) = client {
        out.extend_from_slice(separator);
        address(out, client);
    }
    if out.len() > start {
        out.extend_from_slice(b"\r\n");
    }
}

fn host_and_scheme(
    out: &mut Vec<u8>,
    host: Option<&str>,
    rules: &RequestRules,
    wanted: impl Fn(Known) -> bool,
) {
    let wanted = |known| wanted(known) && is_free(rules, known);
    if let Some(host) = host.filter(|_| wanted(Known::XForwardedHost)) {
        out.extend_from_slice(b"X-Forwarded-Host: ");
        out.extend_from_slice(host.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if wanted(Known::XForwardedProto) {
        out.extend_from_slice(b"X-Forwarded-Proto: ");
        out.extend_from_slice(SCHEME.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
}

/// RFC 7239 section 4: parameters of one element; section 6: an IPv6 address is bracketed and
/// quoted, and who has none is `unknown`.
fn rfc7239(out: &mut Vec<u8>, client: Option<IpAddr>, host: Option<&str>) {
    out.extend_from_slice(b"Forwarded: for=");
    match client {
        Some(IpAddr::V6(_)) => {
            out.extend_from_slice(b"\"[");
            client.into_iter().for_each(|client| address(out, client));
            out.extend_from_slice(b"]\"");
        }
        Some(client) => address(out, client),
        None => out.extend_from_slice(b"unknown"),
    }
    if let Some(host) = host {
        // A host has no quote and no backslash in it (RFC 3986 section 3.2.2); a port's colon and an
        // address's brackets are in no token.
        for part in [";host=\"", host, "\""] {
            out.extend_from_slice(part.as_bytes());
        }
    }
    for part in [";proto=", SCHEME, "\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
}

/// The digits of an octet and a dot, and how many bytes that is.
const OCTETS: [[u8; 5]; 256] = {
    let mut octets = [[0; 5]; 256];
    let mut octet = 0;
    while octet < octets.len() {
        let [high, middle, low] =
            [b'0' + (octet / 100) as u8, b'0' + (octet / 10 % 10) as u8, b'0' + (octet % 10) as u8];
        octets[octet] = match octet {
            0..10 => [low, b'.', 0, 0, 2],
            10..100 => [middle, low, b'.', 0, 3],
            _ => [high, middle, low, b'.', 4],
        };
        octet += 1;
    }
    octets
};

fn address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        // Nearly all are, and the formatter takes as long as the rest of the head.
        IpAddr::V4(address) => {
            // Four times three digits and a dot, and what is written over by the next.
            let (mut text, mut length) = ([0; 17], 0);
            for octet in address.octets() {
                let [digits @ .., count] = OCTETS[usize::from(octet)];
                if let Some(place) = text.get_mut(length..).and_then(<[u8]>::first_chunk_mut) {
                    *place = digits;
                    length += usize::from(count);
                }
            }
            out.extend_from_slice(text.get(..length.saturating_sub(1)).unwrap_or_default());
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(address) => drop(write!(out, "{address}")),
    }
}
