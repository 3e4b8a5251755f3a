//! What each packet of a capture carries, beside what its connection was to carry there.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpStream};

use sluicegate_testkit::corpus;
use sluicegate_testkit::lab::{Captured, Direction, End};

/// The server's port and the client's: one client's port may lead to two servers'.
type Ports = (u16, u16);

/// Connections that are to carry the corpus.
#[derive(Default)]
pub(crate) struct Packets {
    seeds: HashMap<Ports, u64>,
}

/// A TCP segment (RFC 9293, section 3.1) in an IPv4 packet (RFC 791, section 3.1).
struct Segment<'p> {
    ports: Ports,
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
    is_tcp.then_some(Segment { ports: (word(tcp)?, word(tcp + 2)?), sequence, is_syn, payload })
}

impl Packets {
    /// This connection is to carry the corpus of `seed` to its client.
    pub(crate) fn expect(&mut self, client: &TcpStream, seed: u64) {
        let port = |address: SocketAddr| address.port();
        let ports = (port(client.peer_addr().unwrap()), port(client.local_addr().unwrap()));
        self.seeds.insert(ports, seed);
    }

    /// Every byte that left for a client is that client's, in whatever packet; and some left more
    /// than once.
    ///
    /// A packet that left again after its bytes were acknowledged may carry what the memory has
    /// been given since, by the same connection: its peer drops it unread. The streams are sent in
    /// pieces of `piece` bytes, each from a partition of its own, so that is the same place of
    /// another piece.
    pub(crate) fn verify(&self, captured: &[Captured], piece: u64, pieces: u64) {
        let mut starts = HashMap::new();
        let mut ends: HashMap<Ports, u64> = HashMap::new();
        let (mut bytes, mut again, mut late) = (0_u64, 0_u64, 0_u64);
        let left =
            |seen: &&Captured| seen.direction == Direction::ToClient && seen.end == End::Near;
        for seen in captured.iter().filter(left) {
            let Some(Segment { ports, sequence, is_syn, payload }) = segment(&seen.packet) else {
                continue;
            };
            if is_syn {
                starts.insert(ports, sequence.wrapping_add(1));
                continue;
            }
            let (Some(start), Some(seed)) = (starts.get(&ports), self.seeds.get(&ports)) else {
                continue;
            };
            let offset = u64::from(sequence.wrapping_sub(*start));
            let end = ends.entry(ports).or_default();
            if let Err(error) = corpus::verify(*seed, offset, payload) {
                assert!(offset < *end, "ports {ports:?}, sent for the first time: {error}");
                late += 1;
                let is_own = is_of(*seed, offset, payload, piece, pieces);
                assert!(is_own, "ports {ports:?}, bytes of somebody else: {error}");
            }
            bytes += payload.len() as u64;
            again += end.saturating_sub(offset).min(payload.len() as u64);
            *end = (*end).max(offset + payload.len() as u64);
        }
        println!("{bytes} bytes left in packets, {again} of them again; {late} packets too late");
        assert!(bytes > 8 << 20, "{bytes} bytes captured");
        assert!(again > 64 * 1024, "hardly anything was sent again: {again} bytes");
    }
}

/// Whether each word is what some piece of the stream has at its place.
fn is_of(seed: u64, offset: u64, payload: &[u8], piece: u64, pieces: u64) -> bool {
    const WORD: usize = 8;
    payload.chunks(WORD).zip(0..).all(|(word, number)| {
        (0..pieces).any(|other| {
            // A word that lies across the end of a piece goes by its first byte.
            let at = offset + number * WORD as u64;
            let at = other * piece + at % piece;
            let mut content = [0; WORD];
            corpus::fill(seed, at, &mut content);
            let reach = usize::try_from(piece - at % piece).unwrap_or(WORD).min(word.len());
            word[..reach] == content[..reach]
        })
    })
}
