//! Where in the stream that a socket has sent.

/// Offset in bytes from the first byte that was queued on a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(u64);

impl Position {
    /// The first byte.
    pub const START: Position = Position(0);

    /// The position `offset` bytes after the first.
    #[must_use]
    pub fn new(offset: u64) -> Self {
        Position(offset)
    }

    /// Bytes since the first.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// The position `bytes` later. Saturates at 2⁶⁴−1, which at 100 Gbit/s is
    /// 46 years away.
    #[must_use]
    pub fn advanced(self, bytes: u64) -> Self {
        Position(self.0.saturating_add(bytes))
    }

    /// Bytes from `earlier` to here; 0 when it is not earlier.
    #[must_use]
    pub fn since(self, earlier: Position) -> u64 {
        self.0.saturating_sub(earlier.0)
    }

    /// The position that the kernel's 32-bit `id` means: of all positions
    /// whose low 32 bits are `id`, the one nearest to `near`.
    ///
    /// The kernel counts a stream in 32 bits and wraps (SOF_TIMESTAMPING_OPT_ID,
    /// `networking/timestamping.rst`); this is the one place where its ids are
    /// widened. Right while the true position is less than 2 GiB from `near`,
    /// and what a socket has under way at one time is bounded far below that.
    #[must_use]
    pub fn widen(id: u32, near: Position) -> Self {
        // Two's complement distance: in the upper half of the circle the id
        // lies behind `near`.
        let low = u32::try_from(near.0 & u64::from(u32::MAX)).unwrap_or(0);
        let distance = i64::from(id.wrapping_sub(low).cast_signed());
        match near.0.checked_add_signed(distance) {
            Some(offset) => Position(offset),
            // Behind the start of the stream there is nothing: the id can
            // only be the one after it.
            None => Position(u64::from(id)),
        }
    }
}

impl std::fmt::Display for Position {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_widened_to_the_nearest_position_on_either_side_of_the_wrap() {
        let four_gib = 1_u64 << 32;
        for (id, near, want) in [
            (5, 0, 5),
            (u32::MAX, four_gib, four_gib - 1),
            (0, four_gib - 1, four_gib),
            (10, 3 * four_gib + 20, 3 * four_gib + 10),
            (20, 3 * four_gib + 10, 3 * four_gib + 20),
            (u32::MAX, 2 * four_gib + 3, 2 * four_gib - 1),
            (1, 2 * four_gib - 1, 2 * four_gib + 1),
            // Nothing lies before the start.
            (u32::MAX, 10, u64::from(u32::MAX)),
        ] {
            assert_eq!(Position::widen(id, Position(near)), Position(want), "{id} near {near}");
        }
    }
}
