//! What senders through a ring share: contents that cost little to make and tell their place, the
//! orders that they get, and what they tell when they are done.
//!
//! A reader connects, and says on its connection (on the first of several) how many partitions it
//! wants, again and again. When they are sent and proven the sender prints an [`Account`].

use serde::{Deserialize, Serialize};
use sluicegate::RingCounters;
use sluicegate_testkit::corpus;

/// Bytes that are the same again and again but for their stamps: hot in any processor's cache.
pub(crate) const TEMPLATE: usize = 64 << 10;

/// Bytes that have a stamp: what is replaced, or overwritten, at one time.
pub(crate) const PAGE: usize = 4 << 10;

const STAMP: usize = size_of::<u64>();
const SEED: u64 = 6_000;

/// Of so many templates one is compared to the last byte.
const SAMPLE: u64 = 64;

/// What belongs at a place of a stream: the template, each page of which begins with its number.
#[derive(Debug)]
pub(crate) struct Stamped {
    template: Vec<u8>,
}

impl Stamped {
    pub(crate) fn new() -> Self {
        let mut template = vec![0; TEMPLATE];
        corpus::fill(SEED, 0, &mut template);
        Self { template }
    }

    /// What belongs at the `n`-th place of [`TEMPLATE`] bytes.
    pub(crate) fn at(&mut self, n: u64) -> &[u8] {
        let first = n * (TEMPLATE / PAGE) as u64;
        for (page, number) in self.template.chunks_exact_mut(PAGE).zip(first..) {
            page[..STAMP].copy_from_slice(&number.to_le_bytes());
        }
        &self.template
    }
}

/// How much of a stream is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compare {
    /// Every byte.
    Whole,
    /// The stamp of every page, and every byte of one template in 64.
    Stamps,
}

/// Compares a stream as it comes, split anywhere.
#[derive(Debug)]
pub(crate) struct Checker {
    template: Vec<u8>,
    compare: Compare,
    position: u64,
    wrong: u64,
    last_wrong: Option<u64>,
}

impl Checker {
    pub(crate) fn new(compare: Compare) -> Self {
        let Stamped { template } = Stamped::new();
        Self { template, compare, position: 0, wrong: 0, last_wrong: None }
    }

    /// From now on so much is compared.
    pub(crate) fn compare(&mut self, compare: Compare) {
        self.compare = compare;
    }

    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// Pages that were not what belongs at their place.
    pub(crate) fn wrong(&self) -> u64 {
        self.wrong
    }

    pub(crate) fn update(&mut self, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let page = self.position / PAGE as u64;
            let within = (self.position % PAGE as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(PAGE - within));
            let stamp = &page.to_le_bytes()[within.min(STAMP)..];
            let (stamped, body) = now.split_at(stamp.len().min(now.len()));
            let mut is_right = *stamped == stamp[..stamped.len()];
            if self.is_whole(page) {
                let at = (self.position % TEMPLATE as u64) as usize + stamped.len();
                is_right &= *body == self.template[at..at + body.len()];
            }
            if !is_right && self.last_wrong.replace(page) != Some(page) {
                self.wrong += 1;
            }
            self.position += now.len() as u64;
            rest = later;
        }
    }

    fn is_whole(&self, page: u64) -> bool {
        let template = page / (TEMPLATE / PAGE) as u64;
        self.compare == Compare::Whole || template.is_multiple_of(SAMPLE)
    }
}

/// Bytes of an order: how many partitions are wanted.
pub(crate) const ORDER: usize = size_of::<u64>();

/// An order to write all of the ring anew, and to send nothing.
pub(crate) const OVERWRITE: u64 = u64::MAX;

/// What an order says.
pub(crate) fn order(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.try_into().ok()?))
}

/// What a sender tells when an order is carried out. Partitions by proof are told by the library's
/// ring, bytes by way also by bare loops that send to many.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Account {
    /// Partitions that were sent.
    pub(crate) partitions: u64,
    pub(crate) copied: u64,
    pub(crate) released: u64,
    pub(crate) acked: u64,
    pub(crate) replaced: u64,
    pub(crate) bytes_copied: u64,
    pub(crate) bytes_sendfile: u64,
    pub(crate) bytes_zerocopy: u64,
}

impl Account {
    /// What happened between two looks at a ring.
    pub(super) fn between(partitions: u64, before: RingCounters, after: RingCounters) -> Self {
        Self {
            partitions,
            copied: after.copied - before.copied,
            released: after.released - before.released,
            acked: after.acked - before.acked,
            replaced: after.replaced - before.replaced,
            bytes_copied: after.bytes_copied - before.bytes_copied,
            bytes_sendfile: after.bytes_sendfile - before.bytes_sendfile,
            bytes_zerocopy: after.bytes_zerocopy - before.bytes_zerocopy,
        }
    }

    /// Tells the harness.
    pub(super) fn tell(&self) -> anyhow::Result<()> {
        println!("{}", serde_json::to_string(self)?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(templates: u64) -> Vec<u8> {
        let mut stamped = Stamped::new();
        (0..templates).flat_map(|n| stamped.at(n).to_vec()).collect()
    }

    fn wrong(data: &[u8], piece: usize, compare: Compare) -> u64 {
        let mut checker = Checker::new(compare);
        data.chunks(piece).for_each(|piece| checker.update(piece));
        assert_eq!(checker.position(), data.len() as u64);
        checker.wrong()
    }

    #[test]
    fn what_is_right_is_right_however_it_is_split() {
        let data = stream(3);
        for piece in [data.len(), 1, 7, PAGE, PAGE + 4] {
            assert_eq!(wrong(&data, piece, Compare::Whole), 0);
        }
    }

    #[test]
    fn a_page_of_another_place_is_wrong_once() {
        let mut data = stream(3);
        let other = data[TEMPLATE..TEMPLATE + PAGE].to_vec();
        data[2 * TEMPLATE..2 * TEMPLATE + PAGE].copy_from_slice(&other);
        for piece in [data.len(), 3, PAGE - 1] {
            assert_eq!(wrong(&data, piece, Compare::Stamps), 1);
        }
    }

    #[test]
    fn a_byte_is_compared_in_whole_checks_and_in_the_sample() {
        let mut data = stream(2);
        data[TEMPLATE + PAGE + 99] ^= 1;
        assert_eq!(wrong(&data, 1000, Compare::Whole), 1);
        assert_eq!(wrong(&data, 1000, Compare::Stamps), 0, "only the first template is in it");
        data[99] ^= 1;
        assert_eq!(wrong(&data, 1000, Compare::Stamps), 1);
    }
}
