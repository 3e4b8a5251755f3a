//! What is sent, and what of it arrived: contents that verify themselves by their place in the
//! stream, and an account of those that are of another place.

use serde::{Deserialize, Serialize};
use sluicegate_testkit::corpus;

/// Of all streams.
const SEED: u64 = 5_000;

/// What is compared: a word of the contents follows from its place alone.
const WORD: usize = size_of::<u64>();

/// Writes what belongs at `offset` of the stream.
pub(super) fn fill(offset: u64, buffer: &mut [u8]) {
    corpus::fill(SEED, offset, buffer);
}

/// What arrived.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Got {
    /// All bytes, right or wrong.
    pub(super) bytes: u64,
    /// Bytes of words that are not those of their place. Whole words count, since of a wrong word
    /// every 256th byte is right by chance.
    pub(super) corrupted: u64,
    /// Those of them in runs that begin with bytes of a *later* place of the stream: what the
    /// writer wrote over bytes that the kernel had accepted.
    pub(super) later: u64,
}

impl Got {
    /// Of several readers together.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            bytes: self.bytes + other.bytes,
            corrupted: self.corrupted + other.corrupted,
            later: self.later + other.later,
        }
    }
}

/// Compares a stream as it comes.
#[derive(Debug, Default)]
pub(super) struct Tally {
    got: Got,
    /// The beginning of a word whose end has not come.
    begun: Vec<u8>,
    expected: Vec<u8>,
}

impl Tally {
    /// Takes the next bytes, which may be split anywhere.
    pub(super) fn update(&mut self, data: &[u8]) {
        if self.begun.is_empty() {
            let (words, rest) = data.split_at(data.len() / WORD * WORD);
            self.words(words);
            self.begun.extend_from_slice(rest);
            return;
        }
        let missing = (WORD - self.begun.len()).min(data.len());
        self.begun.extend_from_slice(&data[..missing]);
        if self.begun.len() == WORD {
            let mut word = std::mem::take(&mut self.begun);
            self.words(&word);
            word.clear();
            self.begun = word;
            self.update(&data[missing..]);
        }
    }

    /// What has come. A word that is not whole is not in it: no stream ends within one.
    pub(super) fn got(&self) -> Got {
        self.got
    }

    fn words(&mut self, data: &[u8]) {
        let start = self.got.bytes;
        self.got.bytes += data.len() as u64;
        if corpus::verify(SEED, start, data).is_ok() {
            return;
        }
        self.expected.resize(data.len(), 0);
        fill(start, &mut self.expected);
        let mut run: Option<usize> = None;
        let pairs = data.chunks_exact(WORD).zip(self.expected.chunks_exact(WORD));
        let ends = pairs.map(|(found, expected)| found != expected).chain([false]);
        let mut runs = Vec::new();
        for (word, is_wrong) in ends.enumerate() {
            match (run, is_wrong) {
                (None, true) => run = Some(word * WORD),
                (Some(from), false) => {
                    runs.push(from..word * WORD);
                    run = None;
                }
                _ => {}
            }
        }
        for run in runs {
            let (offset, wrong) = (start + run.start as u64, &data[run]);
            self.got.corrupted += wrong.len() as u64;
            let mismatch = corpus::verify(SEED, offset, wrong).err();
            let place = mismatch.and_then(|of| Some((of.offset, of.belongs_to?)));
            if place.is_some_and(|(at, belongs)| belongs > at) {
                self.got.later += wrong.len() as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        fill(0, &mut bytes);
        bytes
    }

    fn tally(data: &[u8], pieces: &[usize]) -> Got {
        let mut tally = Tally::default();
        let mut rest = data;
        for &piece in pieces.iter().cycle() {
            let (now, later) = rest.split_at(piece.min(rest.len()));
            tally.update(now);
            rest = later;
            if rest.is_empty() {
                return tally.got();
            }
        }
        unreachable!("pieces have bytes")
    }

    #[test]
    fn what_is_right_is_right_however_it_is_split() {
        let data = stream(80_000);
        for pieces in [&[80_000][..], &[1], &[7, 9], &[4096, 3]] {
            assert_eq!(tally(&data, pieces), Got { bytes: 80_000, corrupted: 0, later: 0 });
        }
    }

    #[test]
    fn every_wrong_word_counts_and_a_later_place_is_told_from_an_earlier_one() {
        let mut data = stream(80_000);
        let later = stream(80_000)[40_000..40_800].to_vec();
        data[8_000..8_800].copy_from_slice(&later);
        let earlier = stream(80_000)[0..400].to_vec();
        data[64_000..64_400].copy_from_slice(&earlier);
        data[70_001] ^= 1;
        let wrong = Got { bytes: 80_000, corrupted: 800 + 400 + 8, later: 800 };
        assert_eq!(tally(&data, &[80_000]), wrong);
        assert_eq!(tally(&data, &[1000, 9]).corrupted, wrong.corrupted);
    }

    #[test]
    fn zeros_are_no_later_place() {
        let mut data = stream(8_192);
        data[4_096..].fill(0);
        assert_eq!(tally(&data, &[100]), Got { bytes: 8_192, corrupted: 4_096, later: 0 });
    }
}
