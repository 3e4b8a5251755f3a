//! Where a peer is: whether memory that is sent by reference stays ours alone.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::position::Position;
use crate::queue::{Acks, Gate};

/// Where the receiver of a socket's bytes is, as far as it is known.
///
/// On this host (loopback, a container behind a veth) references to pages
/// travel into the receiver's queue, so acknowledged bytes can still change;
/// and what is sent with MSG_ZEROCOPY is copied after all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Locality {
    /// Not known yet: treated as local.
    #[default]
    Unknown,
    /// Not proven to be on another host.
    Local,
    /// On another host.
    Remote,
}

/// What an operator knows of localities, before any socket asks the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalityRule {
    /// What all peers are, whatever the kernel says.
    pub forced: Option<Locality>,
    /// Networks that are known to be on other hosts.
    pub trusted_remote: Vec<IpNet>,
}

impl LocalityRule {
    /// What is known of a peer by its address; `None` where the kernel is to
    /// be asked.
    #[must_use]
    pub fn of(&self, peer: Option<IpAddr>) -> Option<Locality> {
        self.forced.filter(|forced| *forced != Locality::Unknown).or_else(|| {
            let peer = peer?.to_canonical();
            let is_trusted = self.trusted_remote.iter().any(|net| net.contains(&peer));
            is_trusted.then_some(Locality::Remote)
        })
    }
}

/// A socket that was found remote is asked again after so many bytes: routes
/// change, and a packet tap may be opened, in the middle of a long stream.
const ASK_AGAIN: u64 = 64 * 1024 * 1024;

/// Learns one peer's locality from how calls with MSG_ZEROCOPY end. Pure.
///
/// ```text
///   Unknown ──not copied──▶ Remote ──copied──▶ Local
///      └──────────────copied────────────────────▲
/// ```
/// Nothing leads away from `Local`: a flag that was seen once may stand for
/// pages that are still shared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Locator {
    locality: Locality,
    /// An operator said so: the kernel's answers do not change it.
    is_fixed: bool,
    /// The kernel copied what it was lent.
    is_copied: bool,
    /// Number of the call that asks, until it is released.
    asked: Option<u32>,
    /// Where a remote peer is to be asked again.
    ask_at: Position,
}

impl Locator {
    /// A peer of whom `known` is known beforehand.
    #[must_use]
    pub fn new(known: Option<Locality>) -> Self {
        Locator {
            locality: known.unwrap_or_default(),
            is_fixed: known.is_some(),
            ..Self::default()
        }
    }

    /// What is known now.
    #[must_use]
    pub fn locality(&self) -> Locality {
        self.locality
    }

    /// Whether memory may go by reference, when the stream stands at `position`.
    #[must_use]
    pub fn gate(&self) -> Gate {
        match self.locality {
            Locality::Unknown if self.asked.is_none() => Gate::Probe,
            Locality::Remote if !self.is_copied => Gate::Open,
            _ => Gate::Closed,
        }
    }

    /// For who reuses memory after an acknowledgement.
    ///
    /// Whether the kernel is to be asked before a remote peer's acknowledgement
    /// is taken for a proof: not since [`Locator::handle_released`] answered
    /// for a byte close enough before `position`.
    #[must_use]
    pub fn is_due(&self, position: Position) -> bool {
        !self.is_fixed
            && self.asked.is_none()
            && match self.locality {
                Locality::Unknown => true,
                Locality::Local => false,
                Locality::Remote => position >= self.ask_at,
            }
    }

    /// What acknowledgements are worth as a proof, when the stream stands at
    /// `position`.
    #[must_use]
    pub fn acks(&self, position: Position) -> Acks {
        match self.locality {
            Locality::Unknown | Locality::Local => Acks::Nothing,
            Locality::Remote if self.is_due(position) => Acks::Due,
            Locality::Remote => Acks::Proof,
        }
    }

    /// Whether a question is under way.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// The call by reference with this number was accepted.
    pub fn handle_call(&mut self, number: u32) {
        if !self.is_fixed && self.asked.is_none() && self.locality != Locality::Local {
            self.asked = Some(number);
        }
    }

    /// The calls from `first` to `last` were released, `copied` or not, when
    /// the stream stood at `position`.
    pub fn handle_released(&mut self, first: u32, last: u32, copied: bool, position: Position) {
        self.is_copied |= copied;
        let is_answer = |asked: u32| asked.wrapping_sub(first) <= last.wrapping_sub(first);
        let is_answered = self.asked.is_some_and(is_answer);
        if is_answered {
            self.asked = None;
        }
        if self.is_fixed {
            return;
        }
        match (self.locality, copied) {
            (_, true) => self.locality = Locality::Local,
            (Locality::Unknown | Locality::Remote, false) if is_answered => {
                self.locality = Locality::Remote;
                self.ask_at = position.advanced(ASK_AGAIN);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_peer_is_asked_once_and_local_is_for_ever() {
        let mut locator = Locator::default();
        assert_eq!(locator.gate(), Gate::Probe);
        locator.handle_call(7);
        assert_eq!((locator.gate(), locator.locality()), (Gate::Closed, Locality::Unknown));
        locator.handle_released(0, 6, false, Position::START);
        assert_eq!(locator.locality(), Locality::Unknown, "another call's answer");
        locator.handle_released(5, 8, false, Position::START);
        assert_eq!((locator.gate(), locator.locality()), (Gate::Open, Locality::Remote));
        locator.handle_call(9);
        locator.handle_released(9, 9, true, Position::START);
        assert_eq!((locator.gate(), locator.locality()), (Gate::Closed, Locality::Local));
        locator.handle_call(10);
        locator.handle_released(10, 10, false, Position::START);
        assert_eq!(locator.locality(), Locality::Local);
        assert!(!locator.is_due(Position::new(u64::MAX)));
    }

    #[test]
    fn a_remote_peer_is_asked_again_on_a_long_stream() {
        let mut locator = Locator::default();
        assert!(locator.is_due(Position::START));
        locator.handle_call(u32::MAX);
        assert!(!locator.is_due(Position::START), "asked already");
        locator.handle_released(u32::MAX, 0, false, Position::new(10));
        assert!(!locator.is_due(Position::new(ASK_AGAIN)));
        assert!(locator.is_due(Position::new(ASK_AGAIN + 10)));
    }

    #[test]
    fn who_knows_is_believed_but_a_copy_is_no_gain() {
        let mut locator = Locator::new(Some(Locality::Remote));
        assert_eq!(locator.gate(), Gate::Open);
        locator.handle_call(0);
        locator.handle_released(0, 0, true, Position::START);
        assert_eq!((locator.gate(), locator.locality()), (Gate::Closed, Locality::Remote));
        assert_eq!(Locator::new(Some(Locality::Local)).gate(), Gate::Closed);
    }

    #[test]
    fn trusted_networks_hold_for_mapped_addresses_too() {
        let rule = LocalityRule {
            trusted_remote: vec!["203.0.113.0/24".parse().unwrap()],
            ..LocalityRule::default()
        };
        let of = |address: &str| rule.of(Some(address.parse().unwrap()));
        assert_eq!(of("203.0.113.9"), Some(Locality::Remote));
        assert_eq!(of("::ffff:203.0.113.9"), Some(Locality::Remote));
        assert_eq!(of("203.0.114.9"), None);
        assert_eq!(rule.of(None), None);
        let forced = LocalityRule { forced: Some(Locality::Local), ..rule };
        assert_eq!(forced.of(Some("203.0.113.9".parse().unwrap())), Some(Locality::Local));
    }
}
