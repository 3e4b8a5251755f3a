//! Who may ask, by the client's address.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::config;

/// The networks of an access list, ready to be asked: a search for each length
/// of prefix that occurs, however many networks there are.
#[derive(Debug)]
pub(super) struct Access {
    v4: Vec<Level>,
    v6: Vec<Level>,
    /// For an address that is in none of them.
    otherwise: bool,
}

/// Networks with prefixes of one length.
#[derive(Debug)]
struct Level {
    mask: u128,
    /// Their first addresses, in order, and whether who is in them may ask.
    networks: Vec<(u128, bool)>,
}

/// An address as a number, and whether it is of IPv4. One that is mapped into
/// IPv6 (RFC 4291 section 2.5.5.2) is of IPv4.
fn number(address: IpAddr) -> (bool, u128) {
    match address.to_canonical() {
        IpAddr::V4(address) => (true, u128::from(address.to_bits())),
        IpAddr::V6(address) => (false, address.to_bits()),
    }
}

/// The mask of the first `length` of `width` bits, in the lower `width` bits.
fn mask(length: u8, width: u8) -> u128 {
    let ones = u128::MAX.checked_shr(u32::from(128 - width)).unwrap_or(0);
    ones & !ones.checked_shr(u32::from(length)).unwrap_or(0)
}

impl Access {
    /// `None` where everybody may ask.
    pub(super) fn new(rules: &config::Access) -> Option<Self> {
        if rules.allow.is_empty() && rules.deny.is_empty() {
            return None;
        }
        let mut families = [BTreeMap::new(), BTreeMap::new()];
        // Those that are denied come last: on a tie they win.
        for (networks, may) in [(&rules.allow, true), (&rules.deny, false)] {
            for &(address, length) in networks {
                let (is_v4, number) = number(address);
                let (width, length) = match (is_v4, address) {
                    (true, IpAddr::V4(_)) => (32, length.min(32)),
                    // A network of mapped addresses; one that holds more than
                    // those is a network of IPv6.
                    (true, IpAddr::V6(_)) if length >= 96 => (32, length.min(128) - 96),
                    _ => (128, length.min(128)),
                };
                let number = match address {
                    IpAddr::V6(address) if width == 128 => address.to_bits(),
                    _ => number,
                };
                let mask = mask(length, width);
                let levels: &mut BTreeMap<u8, (u128, BTreeMap<u128, bool>)> =
                    &mut families[usize::from(width == 128)];
                let (_, networks) = levels.entry(length).or_insert((mask, BTreeMap::new()));
                networks.insert(number & mask, may);
            }
        }
        let [v4, v6] = families.map(|levels| {
            let longest_first = levels.into_values().rev();
            longest_first
                .map(|(mask, networks)| Level { mask, networks: networks.into_iter().collect() })
                .collect()
        });
        Some(Access { v4, v6, otherwise: rules.allow.is_empty() })
    }

    /// Whether a client at `address` may ask. One without an address is in no
    /// network.
    pub(super) fn allows(&self, address: Option<IpAddr>) -> bool {
        let Some(address) = address else {
            return self.otherwise;
        };
        let (is_v4, number) = number(address);
        let levels = if is_v4 { &self.v4 } else { &self.v6 };
        let found = levels.iter().find_map(|level| {
            let start = number & level.mask;
            let at = level.networks.binary_search_by_key(&start, |network| network.0).ok()?;
            level.networks.get(at).map(|network| network.1)
        });
        found.unwrap_or(self.otherwise)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;
    use proptest::prelude::*;

    fn networks(list: &[&str]) -> Vec<(IpAddr, u8)> {
        let network = |text: &&str| {
            let network: IpNet = text.parse().unwrap();
            (network.addr(), network.prefix_len())
        };
        list.iter().map(network).collect()
    }

    fn rules(allow: &[&str], deny: &[&str]) -> config::Access {
        config::Access { allow: networks(allow), deny: networks(deny) }
    }

    fn check(access: &config::Access, expected: &[(&str, bool)]) {
        let access = Access::new(access).unwrap();
        for (address, may) in expected {
            assert_eq!(access.allows(Some(address.parse().unwrap())), *may, "{address}");
        }
    }

    #[test]
    fn the_longest_prefix_decides_and_deny_wins_a_tie() {
        let mixed = rules(
            &["10.0.0.0/8", "10.1.2.3/32", "2001:db8::/32"],
            &["10.1.0.0/16", "10.0.0.0/8", "2001:db8:1::/48", "0.0.0.0/0"],
        );
        check(
            &mixed,
            &[
                ("10.1.2.3", true),
                ("10.1.2.4", false),
                ("10.2.0.1", false),
                ("192.0.2.1", false),
                ("2001:db8::1", true),
                ("2001:db8:1::1", false),
                ("2001:db9::1", false),
            ],
        );
    }

    #[test]
    fn who_is_in_no_network_may_ask_unless_there_is_a_list_of_who_may() {
        assert!(Access::new(&config::Access::default()).is_none());
        let denied = rules(&[], &["192.0.2.0/24"]);
        check(&denied, &[("192.0.2.9", false), ("192.0.3.9", true), ("::1", true)]);
        let allowed = rules(&["192.0.2.0/24"], &[]);
        check(&allowed, &[("192.0.2.9", true), ("192.0.3.9", false), ("::1", false)]);
        assert!(Access::new(&denied).unwrap().allows(None));
        assert!(!Access::new(&allowed).unwrap().allows(None));
    }

    #[test]
    fn mapped_addresses_are_of_ipv4_and_others_are_not() {
        let four = rules(&["192.0.2.0/24"], &[]);
        check(&four, &[("::ffff:192.0.2.9", true), ("::ffff:192.0.3.9", false)]);
        let mapped = rules(&["::ffff:192.0.2.0/120"], &[]);
        check(&mapped, &[("192.0.2.9", true), ("192.0.3.9", false), ("::192.0.2.9", false)]);
        let all_of_six = rules(&["::/0"], &[]);
        check(&all_of_six, &[("2001:db8::1", true), ("192.0.2.9", false), ("::1", true)]);
        let all_of_four = rules(&["0.0.0.0/0"], &[]);
        check(&all_of_four, &[("192.0.2.9", true), ("::1", false), ("::ffff:0.0.0.0", true)]);
    }

    fn network() -> impl Strategy<Value = (IpAddr, u8)> {
        // Few different bits, so that networks hold one another.
        let v4 = (0_u32..64, 24_u8..=32)
            .prop_map(|(low, len)| (IpAddr::from((0xc000_0200 | low).to_be_bytes()), len));
        let v6 = (0_u128..64, 120_u8..=128)
            .prop_map(|(low, len)| (IpAddr::from((0x2001_u128 << 112 | low).to_be_bytes()), len));
        prop_oneof![v4, v6]
    }

    proptest! {
        #[test]
        fn lookups_agree_with_a_look_at_every_network(
            allow in prop::collection::vec(network(), 0..8),
            deny in prop::collection::vec(network(), 0..8),
            (address, _) in network(),
        ) {
            let holding = |list: &[(IpAddr, u8)]| {
                let nets = list.iter().map(|(address, len)| IpNet::new(*address, *len).unwrap());
                nets.filter(|net| net.contains(&address)).map(|net| net.prefix_len()).max()
            };
            let expected = match (holding(&allow), holding(&deny)) {
                (None, None) => allow.is_empty(),
                (allowed, denied) => allowed > denied,
            };
            let rules = config::Access { allow, deny };
            let found = Access::new(&rules).is_none_or(|access| access.allows(Some(address)));
            prop_assert_eq!(found, expected);
        }
    }
}
