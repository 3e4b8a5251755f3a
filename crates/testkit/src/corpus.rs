//! File contents that need not be kept: every byte follows from a seed and its offset.
//!
//! A client can so verify a body of any size, from any offset, in fixed memory, and a wrong byte
//! tells where it came from: each aligned word of 8 bytes is a *reversible* mix of its index, so
//! bytes of the wrong place in the same contents give their true place away.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

mod tree;

pub use tree::Tree;

/// The golden ratio in 64 bits, the step of the SplitMix64 generator.
const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
/// `STEP * STEP_INVERSE == 1`, modulo 2⁶⁴.
const STEP_INVERSE: u64 = inverse(STEP);
/// The two multipliers of SplitMix64 (Steele, Lea, Flood: *Fast splittable pseudorandom number
/// generators*, 2014; variant 13 of Stafford's mixers).
const MIX: [u64; 2] = [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb];
const MIX_INVERSE: [u64; 2] = [inverse(MIX[0]), inverse(MIX[1])];

const WORD: usize = size_of::<u64>();

/// Offsets beyond this (4 TiB) are not believed when wrong bytes are traced to their place:
/// of 2²² wrong places with random bytes, about one is then believed to be traced.
const TRACE_LIMIT: u64 = 1 << 42;

/// What is written or read at a time. Half of the second-level cache of a common core.
const BLOCK: usize = 256 << 10;

/// The first byte that is not what the corpus has at its offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct Mismatch {
    /// Where, from the start of the contents.
    pub offset: u64,
    /// The byte that belongs there.
    pub expected: u8,
    /// The byte that was there.
    pub found: u8,
    /// Which offset of the same contents the found bytes belong to, if they are of the same
    /// contents and there are enough of them to tell.
    pub belongs_to: Option<u64>,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { offset, expected, found, belongs_to } = self;
        write!(f, "byte {offset} is {found:#04x} instead of {expected:#04x}")?;
        match belongs_to {
            Some(place) => write!(f, ": these are the bytes of offset {place}"),
            None => write!(f, ": these bytes are of other contents"),
        }
    }
}

/// Writes what the corpus has from `offset` on into the buffer.
pub fn fill(seed: u64, offset: u64, buffer: &mut [u8]) {
    let words = Words::new(seed);
    let mut index = offset / WORD as u64;
    let within = (offset % WORD as u64) as usize;

    let (head, rest) = buffer.split_at_mut(head_length(within, buffer.len()));
    if !head.is_empty() {
        head.copy_from_slice(&words.bytes(index)[within..within + head.len()]);
        index += 1;
    }
    let (body, tail) = rest.as_chunks_mut::<WORD>();
    for word in body {
        *word = words.bytes(index);
        index += 1;
    }
    tail.copy_from_slice(&words.bytes(index)[..tail.len()]);
}

/// Checks that the data is what the corpus has from `offset` on.
///
/// # Errors
/// The first byte that is not.
pub fn verify(seed: u64, offset: u64, data: &[u8]) -> Result<(), Mismatch> {
    let words = Words::new(seed);
    let mut index = offset / WORD as u64;
    let within = (offset % WORD as u64) as usize;

    let (head, rest) = data.split_at(head_length(within, data.len()));
    let mut same = true;
    if !head.is_empty() {
        same = *head == words.bytes(index)[within..within + head.len()];
        index += 1;
    }
    let (body, tail) = rest.as_chunks::<WORD>();
    for word in body {
        same &= *word == words.bytes(index);
        index += 1;
    }
    same &= *tail == words.bytes(index)[..tail.len()];
    if same { Ok(()) } else { words.first_mismatch(offset, data) }
}

/// How many bytes come before the next aligned word.
const fn head_length(within: usize, length: usize) -> usize {
    let head = (WORD - within) % WORD;
    if head < length { head } else { length }
}

/// The contents of one seed.
#[derive(Clone, Copy)]
struct Words {
    start: u64,
}

impl Words {
    /// The seed is mixed first: seeds 1 and 2 have nothing in common.
    fn new(seed: u64) -> Self {
        Self { start: mix(seed.wrapping_add(STEP)) }
    }

    #[inline(always)]
    fn bytes(self, index: u64) -> [u8; WORD] {
        mix(self.start.wrapping_add(index.wrapping_mul(STEP))).to_le_bytes()
    }

    /// The index of the word that has these bytes.
    fn index(self, bytes: [u8; WORD]) -> u64 {
        unmix(u64::from_le_bytes(bytes)).wrapping_sub(self.start).wrapping_mul(STEP_INVERSE)
    }

    fn byte(self, offset: u64) -> u8 {
        self.bytes(offset / WORD as u64)[(offset % WORD as u64) as usize]
    }

    #[cold]
    fn first_mismatch(self, offset: u64, data: &[u8]) -> Result<(), Mismatch> {
        for ((position, found), offset) in data.iter().copied().enumerate().zip(offset..) {
            let expected = self.byte(offset);
            if found != expected {
                // Found where it is: fewer bytes than can be traced are wrong, and right ones follow.
                let belongs_to = self.trace(&data[position..]).filter(|&place| place != offset);
                return Err(Mismatch { offset, expected, found, belongs_to });
            }
        }
        Ok(())
    }

    /// Where in these contents the data could have come from: one of the first eight places is
    /// the start of a word there.
    fn trace(self, data: &[u8]) -> Option<u64> {
        (0..WORD as u64).zip(data.windows(WORD)).find_map(|(skipped, window)| {
            let index = self.index(window.try_into().ok()?);
            index.checked_mul(WORD as u64)?.checked_sub(skipped).filter(|&at| at < TRACE_LIMIT)
        })
    }
}

#[inline(always)]
const fn mix(word: u64) -> u64 {
    let word = (word ^ (word >> 30)).wrapping_mul(MIX[0]);
    let word = (word ^ (word >> 27)).wrapping_mul(MIX[1]);
    word ^ (word >> 31)
}

const fn unmix(word: u64) -> u64 {
    let word = unshift(word, 31).wrapping_mul(MIX_INVERSE[1]);
    let word = unshift(word, 27).wrapping_mul(MIX_INVERSE[0]);
    unshift(word, 30)
}

/// The `x` of which `word` is `x ^ (x >> shift)`, for a shift of more than a third of the word.
const fn unshift(word: u64, shift: u32) -> u64 {
    word ^ (word >> shift) ^ (word >> (2 * shift))
}

/// The inverse of an odd number modulo 2⁶⁴, by Newton's iteration: each doubles the right bits.
const fn inverse(odd: u64) -> u64 {
    let mut result = odd; // right in 3 bits
    let mut round = 0;
    while round < 5 {
        result = result.wrapping_mul(2_u64.wrapping_sub(odd.wrapping_mul(result)));
        round += 1;
    }
    result
}

/// The contents as a stream, for example as the body of an upload.
#[derive(Debug, Clone)]
pub struct Source {
    seed: u64,
    position: u64,
    end: u64,
}

impl Source {
    /// The contents from `start` up to `end`.
    #[must_use]
    pub fn new(seed: u64, start: u64, end: u64) -> Self {
        Self { seed, position: start, end }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = buffer.len().min(left);
        fill(self.seed, self.position, &mut buffer[..length]);
        self.position += length as u64;
        Ok(length)
    }
}

/// A stream that must be the contents, for example the body of a download. As a [`Write`] it
/// takes what [`io::copy`] brings; a mismatch is then the source of the [`io::Error`].
#[derive(Debug, Clone)]
pub struct Verifier {
    seed: u64,
    position: u64,
}

impl Verifier {
    /// Expects the contents from `offset` on.
    #[must_use]
    pub fn new(seed: u64, offset: u64) -> Self {
        Self { seed, position: offset }
    }

    /// Checks the next bytes.
    ///
    /// # Errors
    /// The first byte that is wrong; its offset counts from the start of the contents.
    pub fn update(&mut self, data: &[u8]) -> Result<(), Mismatch> {
        verify(self.seed, self.position, data)?;
        self.position += data.len() as u64;
        Ok(())
    }

    /// The offset behind the last byte that was right.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.position
    }
}

impl Write for Verifier {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        self.update(data).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Creates or replaces a file with the first `length` bytes of the contents.
///
/// # Errors
/// What the file system says.
pub fn write_file(path: &Path, seed: u64, length: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let mut source = Source::new(seed, 0, length);
    let mut block = vec![0; BLOCK];
    loop {
        let filled = source.read(&mut block)?;
        if filled == 0 {
            return Ok(());
        }
        file.write_all(&block[..filled])?;
    }
}
