//! What a spool holds, in order, and how much more it may take. Pure: no
//! descriptor, no clock.

use std::collections::VecDeque;

/// Where bytes wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tier {
    /// In a pipe.
    Pipe,
    /// In memory into which they were copied.
    Memory,
    /// In a ring of memory.
    Ring,
    /// In a ring on disk.
    Disk,
}

/// Bytes that one pipe is asked to hold, and that may come in between two looks at
/// the sink: what a fast one takes is then still warm.
pub(super) const ROUND: u64 = crate::pipes::CAPACITY as u64;

/// Bytes that a spool may always hold: less would be calls for nothing.
pub(super) const LEAST: u64 = 64 * 1024;

/// A pipe that is full with less than this had fragments of a few bytes in its
/// slots: what follows is copied for a while.
const FEW: u64 = 64 * 1024;

/// For so many bytes.
const COPIED: u64 = 1024 * 1024;

/// How many times as much may wait, when the sink had nothing to do after the bound
/// was reached: its source comes in bursts.
const GROWTH: u64 = 8;

/// Less than this part of what may wait, of a round at most, is room for nothing.
const FRACTION: u64 = 8;

/// What a spool may hold.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    /// Bytes in memory.
    pub(super) memory: u64,
    /// Bytes on disk.
    pub(super) disk: u64,
    /// Whether pipes are the path.
    pub(super) pipes: bool,
}

/// Who else wants what a spool could take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Crowd {
    /// Pipes are scarce: they go round.
    pub(super) is_dense: bool,
    /// The sink is so slow that its source is better freed by copying than kept
    /// waiting.
    pub(super) is_slow: bool,
    /// Pipes that this spool may have, at least one.
    pub(super) share: usize,
}

impl Default for Crowd {
    /// Nobody.
    fn default() -> Self {
        Crowd { is_dense: false, is_slow: false, share: usize::MAX }
    }
}

/// What a spool may take now, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wants {
    /// Into pipes and copies, or a new ring of memory.
    pub(super) loose: u64,
    /// Into the ring of memory that there is.
    pub(super) ring: u64,
    /// Onto the disk, if they do not go into memory.
    pub(super) disk: u64,
}

impl Wants {
    pub(super) fn nothing(self) -> bool {
        self.loose == 0 && self.ring == 0 && self.disk == 0
    }
}

/// Bytes that came one after the other and wait in one place, `H`.
///
/// ```text
///        accepted     given          filled
///   ────────┼───────────┼──────────────┼
///   the sink │ queued at │ nobody has
///    has them│ the sink  │ asked for them
/// ```
#[derive(Debug)]
pub(super) struct Stretch<H> {
    pub(super) tier: Tier,
    pub(super) holder: H,
    filled: u64,
    given: u64,
    accepted: u64,
    /// More of what comes may be put here.
    is_open: bool,
    /// It took no more, and nothing has left it since.
    is_full: bool,
}

impl<H> Stretch<H> {
    /// Bytes that were put here.
    pub(super) fn filled(&self) -> u64 {
        self.filled
    }

    /// Bytes that are here.
    pub(super) fn held(&self) -> u64 {
        self.filled - self.accepted
    }

    /// Whether bytes are collected here until there are enough of them, or the sink
    /// has nothing else.
    fn collects(&self) -> bool {
        self.is_open && !self.is_full && self.tier != Tier::Pipe
    }
}

/// The bytes of a spool, in the order in which they came.
#[derive(Debug)]
pub(super) struct Core<H> {
    bounds: Bounds,
    stretches: VecDeque<Stretch<H>>,
    /// Stretches at the front of which everything was given, and which are not the
    /// last.
    given: usize,
    /// Stretches that are pipes.
    pipes: usize,
    /// Stretches at the front of which none is a pipe, as far as was looked: thousands may
    /// lie there, on a disk.
    plain: usize,
    /// Bytes held in pipes and copies.
    loose: u64,
    /// Bytes held in the ring of memory.
    in_ring: u64,
    /// Bytes of that ring, which it holds whatever is in it.
    ring: u64,
    /// Bytes held on disk.
    disk: u64,
    /// Bytes that are still to come, if that is known.
    left: Option<u64>,
    /// Bytes that came since the last look at the sink.
    round: u64,
    /// Bytes that may wait although that frees nobody.
    window: u64,
    /// The bound was reached since the sink had nothing to do.
    was_full: bool,
    /// Bytes to be copied before pipes are tried again.
    copied: u64,
    /// Bytes that the sink takes at a time, as far as that shows.
    takes: u64,
    peak: u64,
}

impl<H> Core<H> {
    pub(super) fn new(bounds: Bounds) -> Self {
        Core {
            bounds,
            stretches: VecDeque::new(),
            given: 0,
            pipes: 0,
            plain: 0,
            loose: 0,
            in_ring: 0,
            ring: 0,
            disk: 0,
            left: None,
            round: 0,
            window: match bounds.memory {
                0 => ROUND,
                memory => memory.clamp(LEAST, ROUND),
            },
            was_full: false,
            copied: 0,
            takes: 2 * LEAST,
            peak: 0,
        }
    }

    pub(super) fn expect(&mut self, left: Option<u64>) {
        self.left = left;
    }

    /// Nothing more will come.
    pub(super) fn is_over(&self) -> bool {
        self.left == Some(0)
    }

    /// Pipes that it has.
    pub(super) fn pipes(&self) -> usize {
        self.pipes
    }

    /// There are no pipes for this body.
    pub(super) fn handle_no_pipes(&mut self) {
        self.bounds.pipes = false;
    }

    /// There is no disk for this body any more.
    pub(super) fn handle_no_disk(&mut self) {
        self.bounds.disk = 0;
    }

    /// There is a ring of memory of so many bytes from now on; none if 0.
    pub(super) fn handle_ring(&mut self, bytes: u64) {
        self.ring = bytes;
        self.peak = self.peak.max(self.loose + self.ring);
    }

    /// Bytes held in pipes and copies.
    pub(super) fn loose(&self) -> u64 {
        self.loose
    }

    /// Bytes in it that the sink has not accepted.
    pub(super) fn held(&self) -> u64 {
        self.loose + self.in_ring + self.disk
    }

    /// The most that was held in memory at one time.
    pub(super) fn peak(&self) -> u64 {
        self.peak
    }

    /// Whether what comes is to go through pipes, where there are any.
    pub(super) fn takes_pipes(&self) -> bool {
        self.bounds.pipes && self.copied == 0
    }

    /// Whether what comes frees its source: all that is left fits, or nobody knows.
    fn frees(&self) -> bool {
        let memory = self.bounds.memory.saturating_sub(self.loose + self.in_ring);
        let room = memory.saturating_add(self.bounds.disk.saturating_sub(self.disk));
        self.left.is_none_or(|left| left <= room)
    }

    /// Whether the disk is the path itself, and not what lies behind it.
    fn is_on_disk(&self) -> bool {
        !self.bounds.pipes && self.bounds.memory == 0 && self.bounds.disk > 0
    }

    /// How much it may take now. Nothing where the sink has to be looked at first,
    /// which [`Core::handle_accepted`] tells of.
    pub(super) fn poll_wants(&mut self, crowd: Crowd) -> Wants {
        let (frees, round) = (self.frees(), ROUND.saturating_sub(self.round));
        let goes_round = crowd.is_dense && !crowd.is_slow && self.takes_pipes();
        let bound = if goes_round {
            // What the sink takes at once, and no more before it has taken it.
            if self.held() == 0 { self.window.min(self.takes) } else { 0 }
        } else if frees {
            self.bounds.memory.max(self.window)
        } else {
            // Not at the cost of others.
            let share = (crowd.share as u64).saturating_mul(ROUND);
            if self.takes_pipes() { self.window.min(share) } else { self.window }
        };
        let takes_memory = !self.is_on_disk();
        let takes_disk = (frees && !goes_round) || self.is_on_disk();
        // Where nobody is freed by it, little is not worth the calls while the sink has enough.
        let least = if frees || self.held() == 0 { 1 } else { self.window.min(ROUND) / FRACTION };
        let within = |bound: u64, held: u64, is_to_be: bool| {
            let room = bound.saturating_sub(held);
            if is_to_be && room >= least { room } else { 0 }
        };
        let wants = Wants {
            loose: within(bound, self.loose + self.ring.max(self.in_ring), takes_memory),
            ring: within(bound.min(self.ring), self.in_ring, takes_memory),
            disk: within(self.bounds.disk, self.disk, takes_disk),
        };
        self.was_full |= wants.nothing();
        Wants {
            loose: wants.loose.min(round),
            ring: wants.ring.min(round),
            disk: wants.disk.min(round),
        }
    }

    /// Whether what comes may be collected before it is taken: the sink has enough to do, and
    /// of the next `limit` bytes as much as that is still to come.
    pub(super) fn is_ahead(&self, limit: u64) -> bool {
        self.held() >= ROUND && self.left.unwrap_or(u64::MAX).min(limit) >= 2 * ROUND
    }

    /// Bytes that a ring of memory would be made for.
    pub(super) fn poll_ring(&self) -> u64 {
        let bound = if self.frees() { self.bounds.memory } else { self.window };
        bound.saturating_sub(self.loose).min(self.to_come())
    }

    /// Bytes of a ring that takes all that is left: some partitions are not full,
    /// and some wait for their proof.
    fn to_come(&self) -> u64 {
        self.left.map_or(u64::MAX, |left| left.saturating_add(ROUND))
    }

    /// Bytes that a ring on disk would be made for.
    pub(super) fn poll_disk(&self) -> u64 {
        self.bounds.disk.min(self.to_come())
    }

    /// Its source had nothing.
    pub(super) fn handle_source_empty(&mut self) {
        if self.stretches.is_empty() && std::mem::take(&mut self.was_full) {
            let most = self.bounds.memory.max(self.window);
            self.window = self.window.saturating_mul(GROWTH).min(most);
        }
    }

    /// The last stretch, if it may be filled on.
    pub(super) fn open(&mut self) -> Option<&mut Stretch<H>> {
        self.stretches.back_mut().filter(|last| last.is_open && !last.is_full)
    }

    /// `bytes` came, and are at the end of the stretch that is open.
    pub(super) fn handle_filled(&mut self, bytes: u64) {
        let Some(last) = self.stretches.back_mut() else { return };
        last.filled += bytes;
        let tier = last.tier;
        self.count(tier, bytes);
    }

    /// `bytes`, at least one, came and are somewhere else than those before them.
    /// More may be put there if it `is_open`.
    pub(super) fn handle_new(&mut self, tier: Tier, holder: H, bytes: u64, is_open: bool) {
        self.stretches.push_back(Stretch {
            tier,
            holder,
            filled: bytes,
            given: 0,
            accepted: 0,
            is_open,
            is_full: false,
        });
        self.pipes += usize::from(tier == Tier::Pipe);
        self.count(tier, bytes);
    }

    fn count(&mut self, tier: Tier, bytes: u64) {
        self.round = self.round.saturating_add(bytes);
        self.left = self.left.map(|left| left.saturating_sub(bytes));
        match tier {
            Tier::Pipe => self.loose += bytes,
            Tier::Memory => {
                self.loose += bytes;
                self.copied = self.copied.saturating_sub(bytes);
            }
            Tier::Ring => self.in_ring += bytes,
            Tier::Disk => self.disk += bytes,
        }
        self.peak = self.peak.max(self.loose + self.ring);
    }

    /// The stretch that is open takes no more, until something has left it.
    pub(super) fn handle_full(&mut self) {
        let Some(last) = self.stretches.back_mut() else { return };
        last.is_full = true;
        if last.tier == Tier::Pipe && last.held() < FEW {
            self.copied = COPIED;
        }
    }

    /// Nothing more is put into the stretch that is open.
    pub(super) fn close(&mut self) {
        if let Some(last) = self.stretches.back_mut() {
            last.is_open = false;
        }
    }

    /// The next bytes to be given to the sink: where they are, and how many. What
    /// is still being collected is given when the sink has nothing else, or nothing
    /// more will come.
    pub(super) fn poll_given(&mut self) -> Option<(&mut Stretch<H>, u64)> {
        let last = self.stretches.len().checked_sub(1)?;
        let is_given = |stretch: &Stretch<H>| stretch.given == stretch.filled;
        while self.given < last && is_given(&self.stretches[self.given]) {
            self.given += 1;
        }
        let (at, is_over) = (self.given, self.is_over());
        let stretch = self.stretches.get_mut(at)?;
        let bytes = stretch.filled - stretch.given;
        if bytes == 0 || (stretch.collects() && at == last && at > 0 && !is_over) {
            return None;
        }
        stretch.given = stretch.filled;
        if stretch.tier != Tier::Pipe {
            stretch.is_open = false;
        }
        Some((stretch, bytes))
    }

    /// The sink was looked at, and has accepted `bytes` more. Returns how many of
    /// them are no longer held in pipes and copies. `each` has the places that
    /// nothing is in any more.
    pub(super) fn handle_accepted(&mut self, bytes: u64, mut each: impl FnMut(H)) -> u64 {
        self.round = 0;
        let (mut left, mut freed) = (bytes, 0);
        while let Some(front) = self.stretches.front_mut() {
            let taken = left.min(front.given - front.accepted);
            front.accepted += taken;
            left -= taken;
            match front.tier {
                Tier::Pipe | Tier::Memory => freed += taken,
                Tier::Ring => self.in_ring -= taken,
                Tier::Disk => self.disk -= taken,
            }
            if taken > 0 && front.tier == Tier::Pipe {
                front.is_full = false;
            }
            if front.held() > 0 {
                break;
            }
            self.given = self.given.saturating_sub(1);
            self.plain = self.plain.saturating_sub(1);
            if let Some(stretch) = self.stretches.pop_front() {
                self.pipes -= usize::from(stretch.tier == Tier::Pipe);
                each(stretch.holder);
            }
        }
        debug_assert_eq!(left, 0, "more was accepted than was given");
        self.loose -= freed;
        if self.stretches.is_empty() && bytes > 0 {
            self.takes = self.takes.max(bytes).saturating_mul(2).min(ROUND);
        } else if bytes > 0 {
            // It takes no more: this is about what it takes at a time.
            self.takes = u64::midpoint(self.takes, bytes).clamp(LEAST / 4, ROUND);
        }
        freed
    }

    /// Looks at pipes, of which the first may have been emptied into memory where the
    /// sink has them (`is_empty`): they are let go of.
    pub(super) fn let_go(&mut self, mut is_empty: impl FnMut(&mut H) -> bool) {
        let is_pipe = |stretch: &Stretch<H>| stretch.tier == Tier::Pipe;
        while let Some(after) = self.stretches.range(self.plain..).position(is_pipe) {
            self.plain += after;
            let stretch = &mut self.stretches[self.plain];
            if stretch.given < stretch.filled || !is_empty(&mut stretch.holder) {
                return;
            }
            (stretch.tier, stretch.is_open) = (Tier::Memory, false);
            self.pipes -= 1;
        }
        self.plain = self.stretches.len();
    }
}

#[cfg(test)]
mod tests;
