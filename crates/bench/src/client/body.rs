//! The check of a body against the corpus.

use anyhow::{Context, Result, ensure};
use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use sluicegate_testkit::corpus;

/// How much of a body is compared. The length always is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Check {
    /// Every byte.
    Whole,
    /// The first and the last KiB of each body, and every byte of each 16th: checking 100 KiB
    /// takes longer than sending them, and a server must not wait for its client.
    Edges,
    /// The first, the last and every 64th block of 64 KiB, so that checking does not slow the
    /// receiver of a large body down.
    Sampled,
}

const BLOCK: u64 = 64 << 10;
const SAMPLED: u64 = 64;

const EDGE: u64 = 1 << 10;
const WHOLE: u64 = 16;

/// How far one body has come.
#[derive(Debug)]
pub(crate) struct Body {
    length: u64,
    seed: u64,
    check: Check,
    received: u64,
    /// Bodies before this one.
    number: u64,
}

impl Body {
    pub(crate) fn new(length: u64, seed: u64, check: Check) -> Self {
        Self { length, seed, check, received: 0, number: 0 }
    }

    pub(crate) fn take(&mut self, data: &[u8]) -> Result<()> {
        let end = self.received + data.len() as u64;
        ensure!(end <= self.length, "{} bytes too many", end - self.length);
        match self.check {
            Check::Whole => self.verify(self.received, data)?,
            Check::Edges if self.number.is_multiple_of(WHOLE) => {
                self.verify(self.received, data)?;
            }
            Check::Edges => {
                self.verify_within(data, 0, EDGE)?;
                self.verify_within(data, self.length.saturating_sub(EDGE), self.length)?;
            }
            Check::Sampled => {
                let mut rest = data;
                while !rest.is_empty() {
                    let at = end - rest.len() as u64;
                    let in_block = (BLOCK - at % BLOCK).min(rest.len() as u64) as usize;
                    let (block, after) = rest.split_at(in_block);
                    if self.is_sampled(at / BLOCK) {
                        self.verify(at, block)?;
                    }
                    rest = after;
                }
            }
        }
        self.received = end;
        Ok(())
    }

    /// Compares what `data`, which has just arrived, holds of a part of the body.
    fn verify_within(&self, data: &[u8], from: u64, to: u64) -> Result<()> {
        let end = self.received + data.len() as u64;
        let (from, to) = (from.max(self.received), to.min(end));
        if from < to {
            let part = (from - self.received) as usize..(to - self.received) as usize;
            self.verify(from, &data[part])?;
        }
        Ok(())
    }

    fn is_sampled(&self, block: u64) -> bool {
        block.is_multiple_of(SAMPLED) || block == self.length.saturating_sub(1) / BLOCK
    }

    fn verify(&self, offset: u64, data: &[u8]) -> Result<()> {
        corpus::verify(self.seed, offset, data).context("a wrong body")
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.received == self.length
    }

    pub(crate) fn received(&self) -> u64 {
        self.received
    }

    /// Expects the same once more.
    pub(crate) fn restart(&mut self) {
        self.received = 0;
        self.number += 1;
    }

    /// Expects other contents of the same length. No part of them may have arrived.
    pub(crate) fn expect(&mut self, seed: u64) {
        self.seed = seed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a body with one wrong byte, in parts of a size that fits no block, is accepted.
    fn passes(check: Check, wrong: u64) -> bool {
        const LENGTH: u64 = 130 * BLOCK + 5;
        let mut contents = vec![0; LENGTH as usize];
        corpus::fill(3, 0, &mut contents);
        contents[wrong as usize] ^= 1;
        let mut body = Body::new(LENGTH, 3, check);
        let passes = contents.chunks(100_000).all(|part| body.take(part).is_ok());
        assert_eq!(body.is_complete(), passes);
        passes
    }

    #[test]
    fn sampling_looks_at_the_first_the_last_and_every_64th_block() {
        for wrong in [0, BLOCK - 1, 64 * BLOCK, 65 * BLOCK - 1, 128 * BLOCK, 130 * BLOCK + 4] {
            assert!(!passes(Check::Sampled, wrong), "byte {wrong}");
        }
        for wrong in [BLOCK, 64 * BLOCK - 1, 65 * BLOCK, 130 * BLOCK - 1] {
            assert!(passes(Check::Sampled, wrong), "byte {wrong}");
            assert!(!passes(Check::Whole, wrong), "byte {wrong}");
        }
    }

    #[test]
    fn edges_are_compared_in_every_body_and_all_of_it_in_the_first_of_sixteen() {
        const LENGTH: u64 = 5 * EDGE;
        let mut contents = vec![0; LENGTH as usize];
        corpus::fill(3, 0, &mut contents);
        // Whether a body is accepted, the so manieth one.
        let passes = |number: u64, wrong: Option<u64>| {
            let mut body = Body::new(LENGTH, 3, Check::Edges);
            body.number = number;
            let mut contents = contents.clone();
            if let Some(wrong) = wrong {
                contents[wrong as usize] ^= 1;
            }
            contents.chunks(700).all(|part| body.take(part).is_ok())
        };
        for wrong in [0, EDGE - 1, LENGTH - EDGE, LENGTH - 1] {
            assert!(!passes(1, Some(wrong)), "byte {wrong}");
        }
        for wrong in [EDGE, LENGTH - EDGE - 1] {
            assert!(passes(1, Some(wrong)), "byte {wrong}");
            assert!(!passes(16, Some(wrong)), "byte {wrong}");
        }
        assert!(passes(0, None) && passes(1, None));
        let mut body = Body::new(EDGE / 2, 3, Check::Edges);
        body.number = 1;
        assert!(body.take(&contents[..EDGE as usize / 2]).is_ok());
    }
}
