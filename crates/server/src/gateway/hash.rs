//! Numbers of what a balance goes by. The same in every process and every version:
//! a client is to find its server again after an upgrade.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};
use std::net::IpAddr;

/// FNV-1a over 64 bits, its bits then mixed.
pub(super) fn of(bytes: &[u8]) -> u64 {
    let fnv = |hash: u64, &byte: &u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    mixed(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// Of a client: by its address, whichever port it uses. IPv6 clients change the
/// lower half as they please, so the network is what counts (RFC 8981).
pub(super) fn of_client(client: Option<IpAddr>) -> u64 {
    match client.map(|client| client.to_canonical()) {
        Some(IpAddr::V4(v4)) => of(&v4.octets()),
        Some(IpAddr::V6(v6)) => of(&v6.octets()[..8]),
        None => 0,
    }
}

/// Each bit of the result depends on all of `number`'s (the finalizer of
/// SplitMix64).
pub(super) fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// A map by numbers that nobody outside chooses: pools and servers, counted up.
pub(super) type ByNumber<T> = HashMap<u64, T, BuildHasherDefault<Number>>;

/// Hashes one number.
#[derive(Debug, Default)]
pub(super) struct Number(u64);

impl Hasher for Number {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0 = of(bytes);
    }

    fn write_u64(&mut self, number: u64) {
        // The map takes the place from the lower bits, and seven of the upper ones
        // to tell neighbours apart.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(32);
    }
}

/// Another number each time, which nobody can guess: the keys of the standard
/// library's hash maps come from the kernel.
pub(super) fn random() -> u64 {
    mixed(RandomState::new().hash_one(0_u8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_keep_their_number() {
        let number = |text: &str| of_client(Some(text.parse().unwrap()));
        assert_eq!(number("192.0.2.1"), 0x7d72_555d_50da_3b6a);
        assert_eq!(number("192.0.2.1"), number("::ffff:192.0.2.1"));
        assert_ne!(number("192.0.2.1"), number("192.0.2.2"));
        assert_eq!(number("2001:db8::1"), number("2001:db8::2"));
        assert_ne!(number("2001:db8:0:1::1"), number("2001:db8::1"));
    }
}
