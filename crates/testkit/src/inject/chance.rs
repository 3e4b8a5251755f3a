//! Chances that a seed repeats (SplitMix64, as the corpus has it).

/// A stream of chances.
#[derive(Debug, Clone)]
pub(super) struct Chance {
    state: u64,
}

impl Chance {
    /// The stream of the thread that was the `number`th to be traced.
    pub(super) fn new(seed: u64, number: u64) -> Self {
        let mut mixed = Self { state: seed };
        let state = mixed.next().wrapping_add(number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Self { state }
    }

    fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let word = self.state;
        let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// True one time in `many`.
    pub(super) fn one_in(&mut self, many: u32) -> bool {
        self.next().is_multiple_of(u64::from(many.max(1)))
    }

    /// At least 1 and less than `length`, which is at least 2: small, middle and almost all are
    /// as likely as one another.
    pub(super) fn less_than(&mut self, length: u64) -> u64 {
        let kind = self.next() % 3;
        let most = match kind {
            0 => 16.min(length - 1),
            _ => length - 1,
        };
        let some = 1 + self.next() % most;
        if kind == 2 { length - (some % 16).clamp(1, length - 1) } else { some }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_is_at_least_one_and_less_than_all() {
        let mut chance = Chance::new(1, 2);
        for length in [2, 3, 15, 16, 17, 1 << 20] {
            let mut seen = [false; 2];
            for _ in 0..1_000 {
                let left = chance.less_than(length);
                assert!((1..length).contains(&left), "{left} of {length}");
                seen[usize::from(left == length - 1)] = true;
            }
            assert!(length == 2 || seen == [true; 2], "{length}");
        }
    }

    #[test]
    fn a_seed_repeats_and_threads_differ() {
        let draw = |seed, number| {
            let mut chance = Chance::new(seed, number);
            [0; 32].map(|_| chance.one_in(2))
        };
        assert_eq!(draw(7, 0), draw(7, 0));
        assert_ne!(draw(7, 0), draw(7, 1));
        assert_ne!(draw(7, 0), draw(8, 0));
        let hits = draw(7, 0).into_iter().filter(|&hit| hit).count();
        assert!((5..28).contains(&hits), "{hits} of 32");
    }
}
