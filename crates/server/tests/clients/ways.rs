//! Which way the bytes of a run are to go.

use std::ops::RangeInclusive;

use sluicegate::{COPY_UP_TO, JOIN_UP_TO, MEMORY_UP_TO, Strategy, Way};

use crate::common::Sent;

/// A file of this size is kept in memory, and copied where it is not.
pub(crate) const SMALL: u64 = COPY_UP_TO;
/// A file of this size goes from the page cache, by the way for small ones.
pub(crate) const MIDDLE: u64 = 2 * MEMORY_UP_TO;
/// A file of this size goes from the page cache, by the way for large ones,
/// and waits for its client many times.
pub(crate) const LARGE: u64 = (64 << 20) + 12_345;

/// Bytes of one answer that are copied beside a file's: its head, the page of
/// an error.
const BESIDE: RangeInclusive<u64> = 60..=1000;

/// What answers are to have sent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ways {
    answers: u64,
    unforeseen: u64,
    copied: u64,
    sendfile: u64,
    spliced: u64,
}

impl Ways {
    /// Bytes of a file, or of a range, in an answer that is counted otherwise.
    pub(crate) fn bytes(mut self, len: u64) -> Self {
        match Strategy::default().for_file(len) {
            Way::Copy => self.copied += len,
            Way::Sendfile => self.sendfile += len,
            Way::Splice | Way::Zerocopy => self.spliced += len,
        }
        self
    }

    /// The same, with something queued behind it: another part, another answer.
    pub(crate) fn joined(mut self, len: u64) -> Self {
        if len <= JOIN_UP_TO {
            self.copied += len;
            return self;
        }
        self.bytes(len)
    }

    /// An answer with a file, or a range of one.
    pub(crate) fn file(mut self, len: u64) -> Self {
        self.answers += 1;
        self.bytes(len)
    }

    /// Answers that have no file.
    pub(crate) fn answers(mut self, count: u64) -> Self {
        self.answers += count;
        self
    }

    /// At most so many answers without a file or with one that is copied, in
    /// so many bytes, as the client likes.
    pub(crate) fn up_to(mut self, answers: u64, bytes: u64) -> Self {
        self.unforeseen += answers * BESIDE.end() + bytes;
        self
    }

    /// Every byte of a file went its way, and what was copied explains itself
    /// by the heads.
    #[track_caller]
    pub(crate) fn assert(self, sent: Sent) {
        let Ways { answers, unforeseen, copied, sendfile, spliced } = self;
        assert_eq!((sent.sendfile, sent.spliced), (sendfile, spliced), "{sent:?}, not {self:?}");
        let least = copied + answers * BESIDE.start();
        let most = copied + answers * BESIDE.end() + unforeseen;
        assert!((least..=most).contains(&sent.copied), "{sent:?}, not {least} to {most} copied");
        assert_eq!(sent.total, sent.copied + sent.sendfile + sent.spliced);
        assert_eq!(sent.changed, 0, "nobody changed a file: {sent:?}");
    }
}

/// Bytes that went the way of a range of `len` bytes, which is none of copying;
/// no other way had any, but for what is copied beside.
#[track_caller]
pub(crate) fn way_of(len: u64, sent: Sent) -> u64 {
    let (went, other) = match Strategy::default().for_file(len) {
        Way::Splice | Way::Zerocopy => (sent.spliced, sent.sendfile),
        _ => (sent.sendfile, sent.spliced),
    };
    assert_eq!((other, sent.copied + went), (0, sent.total), "{sent:?}");
    went
}
