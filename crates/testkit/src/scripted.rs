//! A kernel that follows a script: every refusal that a real one has, in a
//! random order that a seed repeats.

use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;

use sluicegate::file::{Kind, Stamp};
use sluicegate::{Pinned, Pipe, Transport};

use crate::corpus;

/// Small, fast, repeatable random numbers (SplitMix64; Steele, Lea and Flood,
/// OOPSLA 2014). Not for secrets.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// The sequence of `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 when `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number().checked_rem(bound).unwrap_or(0)
    }

    /// True once in `n` times, on average.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A file of the script: its content is [`corpus`]'s for `seed`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScriptedFile {
    /// Which content.
    pub seed: u64,
    /// How many bytes it has.
    pub len: u64,
    /// Whether its file system knows sendfile and splice.
    pub direct: bool,
}

/// A socket, its pipe and its peer.
///
/// What was accepted is on `wire`, whole and in order; the test compares it
/// with what it queued. The peer acknowledges when it is told to.
#[derive(Debug)]
pub struct ScriptedKernel {
    random: Random,
    /// Everything accepted so far, oldest first.
    pub wire: Vec<u8>,
    /// Bytes in the pipe.
    pipe: Vec<u8>,
    /// Bytes that the peer has acknowledged.
    acked: u64,
    /// The connection was reset: nothing goes any more.
    reset: bool,
    /// Once in so many calls the connection is reset; 0 for never.
    reset_one_in: u64,
    /// The last accepted bytes wait for more (`MSG_MORE`).
    pub corked: bool,
    /// How often the files were edited in place.
    edits: u64,
    /// Calls by reference that were accepted, oldest first.
    calls: Vec<ScriptedCall>,
    /// The number of the first of them.
    first_call: u32,
}

/// A call by reference.
#[derive(Clone, Debug)]
struct ScriptedCall {
    /// What of the wire it put there.
    range: Range<u64>,
    /// Its pages are referred to.
    is_open: bool,
}

/// A report of release: numbers of the first and the last call, and whether
/// the kernel copied after all.
pub type Completion = (u32, u32, bool);

/// ENOBUFS of `<asm-generic/errno.h>`: one reference too many.
const ENOBUFS: i32 = 105;

impl ScriptedKernel {
    /// A fresh connection whose script is `seed`.
    #[must_use]
    pub fn new(seed: u64, reset_one_in: u64) -> Self {
        ScriptedKernel {
            random: Random::new(seed),
            wire: Vec::new(),
            pipe: Vec::new(),
            acked: 0,
            reset: false,
            reset_one_in,
            corked: false,
            edits: 0,
            calls: Vec::new(),
            first_call: 0,
        }
    }

    /// The same, where so many calls by reference were made before.
    #[must_use]
    pub fn after_calls(self, calls: u32) -> Self {
        ScriptedKernel { first_call: calls, ..self }
    }

    /// Lets go of some calls' pages, in any order, also after a reset; tells
    /// which. `None` when all are let go.
    pub fn complete(&mut self) -> Option<Completion> {
        let open: Vec<usize> = (0..self.calls.len()).filter(|&at| self.calls[at].is_open).collect();
        let at = *open.get(usize::try_from(self.random.below(open.len() as u64)).ok()?)?;
        let mut last = at;
        // Neighbours share a report.
        while self.calls.get(last + 1).is_some_and(|call| call.is_open) && self.random.one_in(2) {
            last += 1;
        }
        for call in &mut self.calls[at..=last] {
            call.is_open = false;
        }
        let number = |at: usize| self.first_call.wrapping_add(u32::try_from(at).unwrap_or(0));
        Some((number(at), number(last), self.random.one_in(3)))
    }

    /// Whether pages are referred to that carry the wire's bytes of `range`.
    #[must_use]
    pub fn refers_to(&self, range: Range<u64>) -> bool {
        self.calls.iter().any(|call| {
            call.is_open && call.range.start < range.end && range.start < call.range.end
        })
    }

    /// Bytes that pages are referred to for.
    #[must_use]
    pub fn referenced(&self) -> u64 {
        let open = self.calls.iter().filter(|call| call.is_open);
        open.map(|call| call.range.end - call.range.start).sum()
    }

    /// Somebody edits the files in place: their stamp is another, their content
    /// too, and so is what the pipe has of them, since that is a reference.
    pub fn edit_files(&mut self) {
        self.edits += 1;
        self.pipe.fill(0);
    }

    /// What `file` is now.
    #[must_use]
    pub fn stamp(&self, file: ScriptedFile) -> Stamp {
        let time = (i64::try_from(self.edits).unwrap_or(i64::MAX), 0);
        Stamp {
            kind: Kind::Regular,
            len: file.len,
            inode: (1, file.seed),
            modified: time,
            changed: time,
            links: 1,
        }
    }

    /// The peer acknowledges some of what it has not yet; returns how many
    /// bytes it has acknowledged in all.
    pub fn acknowledge(&mut self) -> u64 {
        let open = self.wire.len() as u64 - self.acked;
        self.acked += self.random.below(open + 1);
        self.acked
    }

    /// SIOCOUTQ: accepted and not acknowledged.
    #[must_use]
    pub fn unacked(&self) -> u64 {
        self.wire.len() as u64 - self.acked
    }

    /// Whether the connection was reset.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.reset
    }

    /// What happens to a call that could take `len` bytes: how many it takes.
    fn call(&mut self, len: usize) -> io::Result<usize> {
        if self.reset_one_in > 0 && self.random.one_in(self.reset_one_in) {
            self.reset = true;
        }
        if self.reset {
            return Err(ErrorKind::ConnectionReset.into());
        }
        match self.random.below(8) {
            0 => Err(ErrorKind::WouldBlock.into()),
            1 => Err(ErrorKind::Interrupted.into()),
            2 => Ok(1.min(len)),
            3 | 4 => {
                let some = self.random.below(len as u64) + 1;
                Ok(usize::try_from(some).unwrap_or(len).min(len))
            }
            _ => Ok(len),
        }
    }

    fn content(&self, file: ScriptedFile, offset: u64, len: usize) -> Vec<u8> {
        let there = file.len.saturating_sub(offset).min(len as u64);
        let mut bytes = vec![0; usize::try_from(there).unwrap_or(0)];
        corpus::fill(file.seed.wrapping_add(self.edits), offset, &mut bytes);
        bytes
    }
}

impl Transport for ScriptedKernel {
    type File = ScriptedFile;

    fn send(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        let len = slices.iter().map(|slice| slice.len()).sum();
        let taken = self.call(len)?;
        let mut left = taken;
        for slice in slices {
            let part = left.min(slice.len());
            self.wire.extend_from_slice(&slice[..part]);
            left -= part;
        }
        self.corked = more || taken < len;
        Ok(taken)
    }

    fn send_zerocopy(&mut self, slices: &[IoSlice<'_>], more: bool) -> io::Result<usize> {
        match self.random.below(12) {
            0 => return Err(ErrorKind::Unsupported.into()),
            1 | 2 => return Err(io::Error::from_raw_os_error(ENOBUFS)),
            _ => {}
        }
        let start = self.wire.len() as u64;
        let taken = self.send(slices, more)?;
        self.calls.push(ScriptedCall { range: start..start + taken as u64, is_open: true });
        Ok(taken)
    }

    fn read(
        &mut self,
        file: &ScriptedFile,
        offset: u64,
        len: usize,
        buffer: &mut Vec<u8>,
    ) -> io::Result<usize> {
        let content = self.content(*file, offset, len);
        if content.is_empty() {
            return Ok(0);
        }
        // A disk interrupts and falls short, but is never "full".
        let taken = match self.call(content.len()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => content.len(),
            other => other?,
        };
        buffer.extend_from_slice(&content[..taken]);
        Ok(taken)
    }

    fn version(&mut self, file: &ScriptedFile) -> io::Result<Stamp> {
        Ok(self.stamp(*file))
    }

    fn name(&self, file: &ScriptedFile) -> String {
        format!("file {}", file.seed)
    }

    fn sendfile(&mut self, file: &ScriptedFile, offset: u64, len: usize) -> io::Result<usize> {
        if !file.direct {
            return Err(ErrorKind::InvalidInput.into());
        }
        let content = self.content(*file, offset, len);
        if content.is_empty() {
            return Ok(0);
        }
        let taken = self.call(content.len())?;
        self.wire.extend_from_slice(&content[..taken]);
        self.corked = false;
        Ok(taken)
    }

    fn send_region(&mut self, region: &Pinned<'_>, len: usize) -> io::Result<usize> {
        if self.random.one_in(12) {
            return Err(ErrorKind::InvalidInput.into());
        }
        let content = region.bytes(len);
        let taken = self.call(content.len())?;
        self.wire.extend_from_slice(&content[..taken]);
        self.corked = false;
        Ok(taken)
    }

    fn fill(&mut self, file: &ScriptedFile, offset: u64, len: usize) -> io::Result<usize> {
        if !file.direct {
            return Err(ErrorKind::InvalidInput.into());
        }
        assert!(self.pipe.is_empty(), "the queue fills an empty pipe only");
        if self.random.one_in(10) {
            return Err(ErrorKind::Unsupported.into());
        }
        let content = self.content(*file, offset, len);
        if content.is_empty() {
            return Ok(0);
        }
        let taken = self.call(content.len())?;
        self.pipe.extend_from_slice(&content[..taken]);
        Ok(taken)
    }

    fn drain(&mut self, len: usize, more: bool) -> io::Result<usize> {
        let len = len.min(self.pipe.len());
        if len == 0 {
            return Err(ErrorKind::WouldBlock.into());
        }
        let taken = self.call(len)?;
        self.wire.extend(self.pipe.drain(..taken));
        self.corked = more;
        Ok(taken)
    }

    fn drain_pipe(&mut self, pipe: &Pipe, len: usize, more: bool) -> io::Result<usize> {
        let len = len.min(pipe.contained());
        if len == 0 {
            return Err(ErrorKind::BrokenPipe.into());
        }
        let taken = self.call(len)?;
        let start = self.wire.len();
        self.wire.resize(start + taken, 0);
        let mut read = 0;
        while read < taken {
            read += pipe.read(&mut self.wire[start + read..])?;
        }
        self.corked = more;
        Ok(taken)
    }
}
