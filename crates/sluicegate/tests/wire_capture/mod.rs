//! What each packet of a capture carries, beside what its connection was to carry there.

use std::collections::HashMap;
use std::net::TcpStream;

use sluicegate_testkit::corpus;
use sluicegate_testkit::lab::{Captured, Direction, End};

/// Connections that are to carry the corpus, by the client's port.
#[derive(Default)]
pub(crate) struct Packets {
    seeds: HashMap<u16, u64>,
}

/// A TCP segment (RFC 9293, section 3.1) in an IPv4 packet (RFC 791, section 3.1).
struct Segment<'p> {
    port: u16,
    sequence: u32,
    is_syn: bool,
    payload: &'p [u8],
}

fn segment(packet: &[u8]) -> Option<Segment<'_>> {
    let word = |at: usize| Some(u16::from_be_bytes(packet.get(at..at + 2)?.try_into().ok()?));
    let tcp = usize::from(packet.first()? & 15) * 4;
    let is_tcp = *packet.get(9)? == 6;
    let total = usize::from(word(2)?);
    let sequence = u32::from_be_bytes(packet.get(tcp + 4..tcp + 8)?.try_into().ok()?);
    let data = tcp + usize::from(packet.get(tcp + 12)? >> 4) * 4;
    let is_syn = packet.get(tcp + 13)? & 2 != 0;
    let payload = packet.get(data..total)?;
    is_tcp.then_some(Segment { port: word(tcp + 2)?, sequence, is_syn, payload })
}

impl Packets {
    /// This connection is to carry the corpus of `seed` to its client.
    pub(crate) fn expect(&mut self, client: &TcpStream, seed: u64) {
        self.seeds.insert(client.local_addr().unwrap().port(), seed);
    }

    /// Every byte that left for a client is that client's, in whatever packet; and some left more
    /// than once.
    pub(crate) fn verify(&self, captured: &[Captured]) {
        let mut starts = HashMap::new();
        let mut ends: HashMap<u16, u64> = HashMap::new();
        let (mut bytes, mut again) = (0_u64, 0_u64);
        let left = |seen: &&Captured| seen.direction == Direction::ToClient && seen.end == End::Near;
        for seen in captured.iter().filter(left) {
            let Some(Segment { port, sequence, is_syn, payload }) = segment(&seen.packet) else {
                continue;
            };
            if is_syn {
                starts.insert(port, sequence.wrapping_add(1));
                continue;
            }
            let (Some(start), Some(seed)) = (starts.get(&port), self.seeds.get(&port)) else {
                continue;
            };
            let offset = u64::from(sequence.wrapping_sub(*start));
            if let Err(error) = corpus::verify(*seed, offset, payload) {
                panic!("port {port}: {error}");
            }
            let end = ends.entry(port).or_default();
            bytes += payload.len() as u64;
            again += end.saturating_sub(offset).min(payload.len() as u64);
            *end = (*end).max(offset + payload.len() as u64);
        }
        println!("{bytes} bytes left in packets, {again} of them again");
        assert!(bytes > 8 << 20, "{bytes} bytes captured");
        assert!(again > 64 * 1024, "hardly anything was sent again: {again} bytes");
    }
}
